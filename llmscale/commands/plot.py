"""`llmscale plot`: draw runs with their law, or their loss curves."""

from typing import Any

from llmscale.commands import output
from llmscale.commands._options import FitArgument, JsonOption, takes_settings
from llmscale.explain.api.settings import PlotSpec


@takes_settings(PlotSpec, leave_out=("holdout", "intervals", "diagnostics"))
def plot(
    table: FitArgument = None,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Draw the runs with their law, or their loss curves, for a paper.

    Example: llmscale plot results/cpu --kind scaling -o law.pdf
    """
    import llmscale

    if settings["output"] in (None, False):
        settings["output"] = True  # under the name of its kind; "" is no name, and refused
    drawn = llmscale.plot(table, **settings)
    if json:
        output.print_json(drawn.to_json())
    else:
        if drawn.reading:
            output.tell(f"read: {drawn.reading}")
        output.results.print(str(drawn.path))
    output.warn_all(drawn.notes, every=notes)

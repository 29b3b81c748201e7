"""`llmscale fit`: fit laws to a table of runs, with intervals and checks."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import OUTPUT, JsonOption, TableArgument, takes_settings
from llmscale.errors import InputError
from llmscale.explain.api.settings import FitSpec

if TYPE_CHECKING:
    from llmscale.explain.fit.fits import Fits


@takes_settings(FitSpec)
def fit(
    table: TableArgument = None,
    checklist: Annotated[
        bool,
        typer.Option(
            "--checklist",
            help="Print the reporting checklist as Markdown",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Fit scaling laws with intervals, and check them on held-out runs. `--law all` ranks every law
    that suits.

    Example: llmscale fit results/cpu --law power-floor --law power
    """
    import llmscale
    from llmscale.commands._explained import show

    if checklist:
        _check_checklist(settings)
        settings["keep"] = False
    # Without --law, every law that suits is shown.
    settings["law"] = settings["law"] or []
    found: Any = llmscale.fit(table, **settings)
    if checklist:
        return _show_checklist(found, json)
    return show(found, json=json, every=notes)


def _check_checklist(settings: dict[str, Any]) -> None:
    """Raise InputError for what goes together with more than one fit, or with another output."""
    laws = settings["law"] or ()
    several = settings["by"] or len(laws) > 1 or "all" in laws
    is_other = settings["method"] not in (None, "parametric")
    if several or is_other or settings["keep"]:
        raise InputError(
            "--checklist describes one fit", "name one law, and leave --by, --method and --out out"
        )


def _show_checklist(found: "Fits", json: bool) -> None:
    from llmscale.explain.diagnostics.checklist import checklist_of

    said = checklist_of(found[0])
    if json:
        output.print_json(said.to_json())
    else:
        output.print_text(str(said))
    for note in said.notes:
        output.warn(note)

"""`llmscale next --auto`: the rounds of a loop on a terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.commands import output
from llmscale.errors.command_lines import command_line

if TYPE_CHECKING:
    from llmscale.adaptive.result import AdaptiveSweep
    from llmscale.adaptive.state import Round


def go_on(
    source: str | None,
    own: Mapping[str, Any],
    settings: dict[str, Any],
    *,
    notes: bool,
    json: bool,
) -> None:
    """Carry the loop out and show its rounds and the forecast."""
    import llmscale
    from llmscale.commands._watching import OnConsole
    from llmscale.measure.sweep.provenance import own_command

    out = settings.pop("output")
    watcher = OnConsole(shows_plan=False, every_note=notes)
    found = llmscale.adaptive_sweep(
        source, out=out, progress=watcher, command=own_command(), **own, **settings
    )
    if json:
        output.print_json(found.to_json())
    else:
        _show(found)
    output.warn_all(found.notes, every=notes)


def _show(found: "AdaptiveSweep") -> None:
    if found.first is not None:
        _show_first(found.first, found.where)
        return
    _show_rounds(found)
    output.results.say("forecast:", "bold", found.verdict, "bold")
    for name, said in found.said():
        output.results.say(f"{name}:", "", said)
    asked = [word for name, value in found.state.asked.items() for word in _words(name, value)]
    output.show_next(command_line("llmscale", "predict", Path(found.where), *asked))


def _words(name: str, value: Any) -> list[str]:
    """A setting as `predict` takes it on a command line."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}={one}" for one in (value if isinstance(value, list) else [value])]


def _show_rounds(found: "AdaptiveSweep") -> None:
    """A line a round."""
    from llmscale.adaptive.result import round_cells

    headings = ("round", "runs", "FLOPs", "interval before", "expected", "got")
    table = output.make_table(f"rounds in {found.where}", *headings, least=("expected",))
    for one in found.rounds:
        table.add_row(*round_cells(one))
    output.results.print(table)


def _show_first(first: "Round", where: str) -> None:
    """The runs that would be trained next."""
    from llmscale.adaptive.loop import round_name
    from llmscale.adaptive.result import round_line
    from llmscale.quantity import format_count

    headings = ("size", "D", "seed", "FLOPs")
    table = output.make_table(f"{round_name(first)} in {where}", *headings)
    for run in first.runs:
        table.add_row(run.size, format_count(run.tokens), str(run.seed), f"{run.flops:.1e}")
    output.results.print(table)
    output.results.say("first:", "bold", round_line(first))
    for place, run in enumerate(first.runs, 1):
        if run.reason:
            output.results.say(f"{place}:", "", run.reason)

"""`llmscale next`: choose the runs that narrow a forecast most for their cost."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmscale.adaptive.settings import AutoSpec, check_trains
from llmscale.commands import output
from llmscale.commands._options import (
    DryRunOption,
    JsonOption,
    TableArgument,
    YesOption,
    takes_settings,
)
from llmscale.errors import InputError
from llmscale.explain import digits
from llmscale.explain.api.next_runs_settings import NextSpec
from llmscale.quantity import format_count

if TYPE_CHECKING:
    from llmscale.explain.design.proposal import NextRuns


@takes_settings(NextSpec, AutoSpec, leave_out=("holdout", "intervals", "diagnostics"))
def next(
    table: TableArgument = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Choose the runs that narrow the interval of a forecast most for their FLOPs, with the reason
    for each, and write them as a sweep. With --auto train them too, and choose again.

    Example: llmscale next runs.csv --budget 1e19 --target 1e22 -o next.toml
    """
    own = {name: settings.pop(name) for name in ("rounds", "max_hours")}
    own |= {"yes": yes, "dry_run": dry_run}
    if settings.pop("auto"):
        check_trains(table)  # before all is imported that trains
        from llmscale.commands._adaptive import go_on

        go_on(table, own, settings, notes=notes, json=json)
        return
    _check_not_auto(own)
    import llmscale

    found = llmscale.next_runs(table, **settings)
    if json:
        output.print_json(found.to_json())
    else:
        _show(found)
    output.warn_all(found.notes, every=notes)


def _check_not_auto(own: Mapping[str, Any]) -> None:
    """Raise InputError for an option that only --auto takes."""
    for name, value in own.items():
        if value:
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} is for --auto, which trains the runs",
                f"give --auto, or leave {option} out",
            )


def _show(found: "NextRuns") -> None:
    from llmscale.commands._fit_output import show_reading

    output.results.say("proposed:" if found.runs else "forecast:", "bold", found.verdict, "bold")
    if found.forecast.fit is not None:
        show_reading(found.forecast.fit.origin, found.forecast.fit.law.inputs)
    for name, said in found.background():
        output.results.say(f"{name}:", "", said)
    if found.runs:
        _show_runs(found)
    for name, said in found.ending():
        output.results.say(f"{name}:", "", said)
    if found.drawn:
        output.results.say("figure:", "", found.drawn)
    if found.written and "--out" in found.command:
        output.show_next(found.command)
    elif found.written:
        said = f"name the text and the recipe in {found.written}, then: {found.command}"
        output.show_next(said)
    elif found.runs and not found.unwritten:
        output.show_next("add -o next.toml, to write them as a sweep")


def _show_runs(found: "NextRuns") -> None:
    """A line a run, and below the table why each."""
    from llmscale.explain.design.proposal import lost_said
    from llmscale.explain.design.standing import how_far

    # A size of a sweep is named by its non-embedding weights, and a law may count others as N.
    named = any(run.size != format_count(run.params) for run in found.runs)
    headings: list[Any] = [
        "run",
        "size",
        *(["N"] if named else []),
        output.stacked("tokens", "D"),
        "D/N",
        "seed",
        output.stacked("training", "FLOPs"),
        output.stacked("of the", "budget"),
        output.stacked("target", "then lies"),
    ]
    if any(run.lost_without is not None for run in found.runs):
        headings.append(output.stacked("narrowing", "lost without"))
    table = output.make_table("runs to make, in this order", *headings, left=2, least=("D/N",))
    for place, run in enumerate(found.runs, 1):
        cells = (
            str(place),
            run.size,
            *([format_count(run.params)] if named else []),
            format_count(run.tokens),
            f"{run.tokens_per_param:.3g}",
            str(run.seed),
            f"{run.flops:.1e}",
            digits.share(run.flops / found.budget),
            how_far(run.horizon, found.side),
            lost_said(run),
        )
        table.add_row(*cells[: len(headings)])
    output.results.print(table)
    for place, run in enumerate(found.runs, 1):
        output.results.say(f"{place}:", "", run.reason)

"""`llmscale sweep`: train a ladder of sizes, and write a table of losses."""

from statistics import mode
from typing import TYPE_CHECKING, Any

from llmscale.commands import output
from llmscale.commands._options import (
    DryRunOption,
    FileArgument,
    JsonOption,
    MaxHoursOption,
    OutOption,
    YesOption,
    takes_settings,
)
from llmscale.errors.command_lines import condition
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.quantity import format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.measure.sweep.result import SweepResult
    from llmscale.runs.run import Run


@takes_settings(SweepSpec)
def sweep(
    file: FileArgument = None,
    out: OutOption = None,
    max_hours: MaxHoursOption = 24.0,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Train one Transformer for each size, and write a table of runs with their losses.

    Shows runs, cost and time first. Ctrl-C keeps everything: the same command goes on where it
    stopped, and with more sizes it trains only those. Weights of finished runs are kept within
    --keep-gb: llmscale models lists them.

    Example: llmscale sweep --sizes 10k,30k,100k,300k --tokens 4M"""
    from llmscale.commands._watching import carry_out
    from llmscale.measure.sweep import api

    own: dict[str, Any] = {"out": out, "max_hours": max_hours, "yes": yes}
    shown = {"dry_run": dry_run, "notes": notes, "json": json}
    carry_out(api.sweep, file, _show, **own, **shown, **settings)


def _show(result: "SweepResult") -> None:
    """The table of runs, and what to do next."""
    from llmscale.commands._watching import show_next, show_rows

    headings = ("size", "N", "tokens", "loss", "perplexity", "bits/byte", "tokens/s", "MFU")
    least = ("tokens/s", "MFU", "perplexity")
    table = output.make_table(f"{result.where}/runs.parquet", *headings, "time", least=least)
    show_rows(table, result, _cells)
    show_next(result, _verbs)


def _verbs(result: "SweepResult") -> list[list[str]]:
    """The commands that go on from the runs, and from their models if these are kept."""
    verbs = _on_laws(result)
    if result.plan.kept.bytes_of:
        verbs.append(["models"])
    return verbs


def _on_laws(result: "SweepResult") -> list[list[str]]:
    """The commands that fit and draw the runs: of several recipes, a law each."""
    from llmscale.explain.api.next_step import can_fit
    from llmscale.runs.run import DEFAULT_RECIPE

    fit, plot = ["fit"], ["plot"]
    if len({run.recipe or DEFAULT_RECIPE for run in result.runs}) > 1:
        fit += ["--by", "recipe"]
        # A law through runs of several recipes would be one of none of them.
        named = [run.recipe for run in result.runs if run.recipe and run.loss is not None]
        if named:
            plot += ["--where", condition("recipe", "==", mode(named))]
    return [fit, plot] if can_fit(result.where) else [plot]


def _cells(run: "Run") -> tuple[str, ...]:
    from llmscale.commands._sweep_view import mfu_text
    from llmscale.runs.title import short_name

    return (
        short_name(run),
        format_count(run.params),
        format_count(run.tokens),
        f"{run.loss:.4f}" if run.loss is not None else run.status,
        f"{run.perplexity:.2f}" if run.perplexity is not None else "",
        f"{run.bits_per_byte:.3f}" if run.bits_per_byte is not None else "",
        format_count(run.tokens_per_second) if run.tokens_per_second else "",
        mfu_text(run.mfu),
        format_seconds(run.seconds) if run.seconds else "",
    )

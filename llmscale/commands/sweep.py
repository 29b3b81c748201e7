"""`llmscale sweep`: train a ladder of sizes, and write a table of losses."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

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
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.quantity import format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.measure.sweep.result import SweepResult

MOST_LINES = 200
"""Runs that a table on the terminal lists, at most."""


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
    from llmscale.commands._watching import OnConsole
    from llmscale.measure.sweep import api
    from llmscale.measure.sweep.provenance import own_command

    result = api.sweep(
        file,
        out=out,
        max_hours=max_hours,
        yes=yes,
        dry_run=dry_run,
        progress=OnConsole(shows_plan=not (json and dry_run), every_note=notes),
        command=own_command(),
        **settings,
    )
    if json:
        output.print_json(result.to_json())
    elif not dry_run:
        _show(result)
    output.warn_all(result.end_notes, every=notes)
    if result.failed or result.unfinished:
        raise typer.Exit(1)


def _show(result: "SweepResult") -> None:
    """The table of runs, and what to do next."""
    from llmscale.errors.command_lines import command_line
    from llmscale.measure.sweep.provenance import own_command
    from llmscale.runs.remote import is_url
    from llmscale.runs.run import DEFAULT_RECIPE

    _show_runs(result)
    place = result.where if is_url(result.where) else Path(result.where)
    fit, plot = (command_line("llmscale", verb, place) for verb in ("fit", "plot"))
    if len({run.recipe or DEFAULT_RECIPE for run in result.runs}) > 1:
        fit += " --by recipe"
    steps = [fit, plot]
    if result.plan.kept.bytes_of:
        steps.append(command_line("llmscale", "models", place))
    output.show_next(own_command() if result.unfinished else "; ".join(steps))


def _show_runs(result: "SweepResult") -> None:
    from llmscale.commands._sweep_view import mfu_text
    from llmscale.runs.title import short_name

    runs, where = result.runs, result.where
    headings = ("size", "N", "tokens", "loss", "perplexity", "bits/byte", "tokens/s", "MFU")
    least = ("tokens/s", "MFU", "perplexity")
    table = output.make_table(f"{where}/runs.parquet", *headings, "time", least=least)
    for run in runs[-MOST_LINES:]:
        table.add_row(
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
    output.results.print(table)
    if len(runs) > MOST_LINES:
        output.results.print(
            f"the largest {MOST_LINES} of {len(runs):,} runs; all of them: {where}/runs.parquet"
        )

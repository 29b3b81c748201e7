"""What a terminal shows of a sweep or a tuning while it works, and when it has ended."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llmscale.commands import output
from llmscale.commands.data import preparing
from llmscale.commands.live import SweepProgress
from llmscale.errors import Note, counted
from llmscale.errors.command_lines import command_line
from llmscale.measure.executors import Event
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.sweep.planned_run import PlannedRun
from llmscale.measure.sweep.provenance import own_command
from llmscale.measure.sweep.result import SweepResult
from llmscale.measure.sweep.watching import Watcher
from llmscale.measure.text.prepare import Progress, TokenStore
from llmscale.quantity import format_bytes, format_count, format_seconds
from llmscale.runs.remote import is_url
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run

if TYPE_CHECKING:
    from rich.table import Table

MOST_LINES = 200
"""Runs that a table on the terminal lists, at most."""


class OnConsole(Watcher):
    """Shows all of it on standard error, and asks there."""

    def __init__(self, shows_plan: bool = True, every_note: bool = False) -> None:
        self._shows_plan, self._every_note = shows_plan, every_note

    def tell(self, text: str) -> None:
        """One line."""
        output.progress.print(text)

    def warn(self, note: Note | str) -> None:
        """One warning."""
        output.warn(note)

    def warn_all(self, notes: Sequence[Note]) -> None:
        """The weightiest, or every one."""
        output.warn_all(notes, every=self._every_note)

    def preparing(self) -> AbstractContextManager[Callable[[Progress], None]]:
        """A bar in a terminal, else a line for every stage."""
        return preparing()

    def planned(self, plan: Plan, store: TokenStore, where: str) -> None:
        """A table of the runs, and what they cost."""
        if self._shows_plan:
            _show_plan(plan, store, where)

    def may_start(self, problem: str) -> bool:
        """What the terminal answers; no if there is none."""
        return output.progress.is_terminal and typer.confirm(f"{problem}. Start it?", err=True)

    def training(
        self, plan: Plan, folder: ResultsFolder
    ) -> AbstractContextManager[Callable[[Event], object]]:
        """A live table of the runs under way."""
        return SweepProgress(plan, folder)


def carry_out(
    work: Callable[..., SweepResult],
    asked: object,
    show: Callable[[SweepResult], object],
    *,
    dry_run: bool,
    notes: bool,
    json: bool,
    **settings: Any,
) -> None:
    """Have `work` do what was `asked`, and `show` what came of it. Raises Exit if runs are missing
    in the end."""
    watcher = OnConsole(shows_plan=not (json and dry_run), every_note=notes)
    result = work(asked, dry_run=dry_run, progress=watcher, command=own_command(), **settings)
    if json:
        output.print_json(result.to_json())
    elif not dry_run:
        show(result)
    output.warn_all(result.end_notes, every=notes)
    if result.failed or result.unfinished:
        raise typer.Exit(1)


def show_rows(table: "Table", result: SweepResult, cells: Callable[[Run], Sequence[str]]) -> None:
    """`table` with the cells of the last runs, which are the largest."""
    runs = result.runs
    for run in runs[-MOST_LINES:]:
        table.add_row(*cells(run))
    output.results.print(table)
    if len(runs) > MOST_LINES:
        output.results.print(
            f"the largest {MOST_LINES} of {len(runs):,} runs; all of them: "
            f"{result.where}/runs.parquet"
        )


def show_next(result: SweepResult, verbs: Callable[[SweepResult], list[list[str]]]) -> None:
    """The command that goes on if runs are left; else the commands `verbs` on the results."""
    if result.unfinished:
        output.show_next(own_command())
        return
    place = result.where if is_url(result.where) else Path(result.where)
    steps = (command_line("llmscale", verb, place, *more) for verb, *more in verbs(result))
    output.show_next("; ".join(steps))


def _show_plan(plan: Plan, store: TokenStore, where: str) -> None:
    # Of many runs, those to be trained.
    listed = plan.runs
    if len(listed) > MOST_LINES:
        listed = tuple(run for run in plan.runs if not run.finished)[:MOST_LINES]
    title = f"Plan: {counted(len(plan.runs), 'run')} into {where}"
    if listed[0].job.finetuning is not None:
        from llmscale.commands.finetune import show_finetuning

        show_finetuning(listed, title)
    else:
        _show_runs(listed, title)
    if len(plan.runs) > len(listed):
        finished = len(plan.runs) - len(plan.waiting)
        more = len(plan.runs) - len(listed)
        output.progress.print(
            f"and {counted(more, 'more run')} ({finished:,} are done); all of them: --dry-run "
            "--json"
        )
    output.progress.print(store.contents)
    for rule in plan.rules:
        output.progress.print(rule)
    if plan.waiting:
        output.progress.print(_cost(plan))
        output.progress.print(str(plan.kept))
        output.progress.print(f"{plan.dtype}: {plan.dtype_reason}")


def _show_runs(runs: Sequence[PlannedRun], title: str) -> None:
    headings = ("size", "shape", "N", "tokens", "epochs", "FLOPs", "lr", "batch", "memory", "time")
    least = ("epochs", "batch", "lr", "memory")
    table = output.make_table(title, *headings, "", left=2, least=least)
    for run in runs:
        table.add_row(*_cells(run))
    output.progress.print(table)


def _cells(run: PlannedRun) -> tuple[str, ...]:
    from llmscale.runs.title import short_name

    job = run.job
    flops = job.flops if run.finished else run.trained_flops
    return (
        short_name(job),
        job.shape.name,
        format_count(job.shape.params),
        format_count(job.tokens),
        f"{run.epochs:.2f}",
        f"{flops:.1e}",
        f"{job.lr:.2g}",
        format_count(job.batch_tokens),
        format_bytes(run.memory_bytes),
        "done" if run.finished else _time(run.seconds),
        run.origin,
    )


def _cost(plan: Plan) -> str:
    """How much there is to train, and how long that takes here."""
    saves = f" (trunks save {plan.saving:.1f}x)" if plan.saving > 1 else ""
    unit = "core" if plan.device == "cpu" else "GPU"
    begun = sum(run.is_begun for run in plan.waiting)
    of, before = "", ""
    if begun:
        of, before = f" of {plan.own_flops:.2e}", f" ({begun} begun before)"
    hours = f", {plan.device_hours:.2g} {unit} hours" if plan.seconds else ""
    return (
        f"{len(plan.waiting)} to train, {plan.flops:.2e}{of} FLOPs{before}{saves}, "
        f"{_time(plan.seconds, 'about ')} on {plan.device}{hours} ({plan.dtype}, {plan.ways})"
    )


def _time(seconds: float, about: str = "") -> str:
    """Words for an estimate, which there is none of for a device that is not here."""
    return about + format_seconds(seconds) if seconds else "time unknown"

"""`llmscale finetune`: teach trained models a task."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import (
    DryRunOption,
    JsonOption,
    MaxHoursOption,
    OutOption,
    YesOption,
    takes_settings,
)
from llmscale.measure.trained.finetuning.spec import FinetuneSpec
from llmscale.quantity import format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.measure.sweep.result import SweepResult

MOST_LINES = 200
"""Runs that a table on the terminal lists, at most."""
RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN...",
        help="Runs, results folders (every run with weights), or a FILE.toml that names them",
    ),
]


@takes_settings(FinetuneSpec)
def finetune(
    runs: RunsArgument = None,
    out: OutOption = None,
    max_hours: MaxHoursOption = 24.0,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Teach trained models a task: prompts and their targets, texts, or chats.

    Several models, amounts of examples, methods and seeds make a sweep: shown first with its cost,
    gone on with by the same command, and one table of runs with each one's parent.

    Example: llmscale finetune results/cpu --data task.jsonl --method full,lora"""
    from llmscale.commands._watching import OnConsole
    from llmscale.measure.sweep.provenance import own_command
    from llmscale.measure.trained.finetuning import api

    asked: Any = runs
    if runs is not None and len(runs) == 1:
        asked = runs[0]
    result = api.finetune(
        asked,
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
    from llmscale.explain.api.next_step import can_fit
    from llmscale.measure.sweep.provenance import own_command
    from llmscale.runs.remote import is_url

    runs, where = result.runs, result.where
    headings = ("size", "method", "seed", "examples", "from", "loss", "error", "perplexity", "time")
    least = ("seed", "time", "error")
    table = output.make_table(f"{where}/runs.parquet", *headings, left=2, least=least)
    for run in runs[-MOST_LINES:]:
        table.add_row(
            run.size,
            run.recipe or "",
            str(run.seed),
            f"{run.examples:,}" if run.examples else "",
            run.parent or "new weights",
            f"{run.loss:.4f}" if run.loss is not None else run.status,
            f"{run.loss_stderr:.4f}" if run.loss_stderr is not None else "",
            f"{run.perplexity:.2f}" if run.perplexity is not None else "",
            format_seconds(run.seconds) if run.seconds else "",
        )
    output.results.print(table)
    output.results.print("loss in nats a token of the targets, of examples held out")
    place = where if is_url(where) else Path(where)
    verbs = [command_line("llmscale", "models", place)]
    if any(not run.pretrained for run in runs) and can_fit(place, law="transfer"):
        verbs.append(command_line("llmscale", "fit", place, "--law", "transfer"))
    output.show_next(own_command() if result.unfinished else "; ".join(verbs))


def show_finetuning(runs: Any, title: str) -> None:
    """The plan of a fine-tuning: its runs, and what LoRA trains of each shape."""
    from llmscale.measure.trained.finetuning.jobs import adapter_lines

    headings = ("size", "method", "seed", "examples", "epochs", "from", "trained", "lr", "batch")
    least = ("seed", "epochs", "batch", "lr")
    table = output.make_table(title, *headings, "time", left=2, least=least)
    for run in runs:
        job, part = run.job, run.job.finetuning
        table.add_row(
            job.size,
            job.recipe,
            str(job.seed),
            f"{part.examples:,}",
            f"{job.epochs:.3g}",
            part.parent or "new weights",
            format_count(part.trained_params),
            f"{job.lr:.2g}",
            f"{job.batch_sequences:,}",
            "done" if run.finished else format_seconds(run.seconds),
        )
    output.progress.print(table)
    if lines := adapter_lines([run.job for run in runs]):
        columns = ("size", "matrix", "blocks x size", "rank", "trained", "of weights")
        adapters = output.make_table("What LoRA trains", *columns, left=2)
        for line in lines:
            adapters.add_row(*line)
        output.progress.print(adapters)

"""`llmscale finetune`: teach trained models a task."""

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
    from llmscale.runs.run import Run

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
    from llmscale.commands._watching import carry_out
    from llmscale.measure.trained.finetuning import api

    asked: Any = runs
    if runs is not None and len(runs) == 1:
        asked = runs[0]
    own: dict[str, Any] = {"out": out, "max_hours": max_hours, "yes": yes}
    shown = {"dry_run": dry_run, "notes": notes, "json": json}
    carry_out(api.finetune, asked, _show, **own, **shown, **settings)


def _show(result: "SweepResult") -> None:
    """The table of runs, and what to do next."""
    from llmscale.commands._watching import show_next, show_rows

    headings = ("size", "method", "seed", "examples", "from", "loss", "error", "perplexity", "time")
    least = ("seed", "time", "error")
    table = output.make_table(f"{result.where}/runs.parquet", *headings, left=2, least=least)
    show_rows(table, result, _cells)
    output.results.print("loss in nats a token of the targets, of examples held out")
    show_next(result, _verbs)


def _verbs(result: "SweepResult") -> list[list[str]]:
    """The commands that use the models, and fit what their parents are worth."""
    from llmscale.explain.api.next_step import can_fit

    verbs = [["models"]]
    if any(not run.pretrained for run in result.runs) and can_fit(result.where, law="transfer"):
        verbs.append(["fit", "--law", "transfer"])
    return verbs


def _cells(run: "Run") -> tuple[str, ...]:
    return (
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

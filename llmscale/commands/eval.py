"""`llmscale eval`: measure trained models on texts and tasks."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import JsonOption, takes_settings
from llmscale.measure.trained.evaluation.spec import EvalSpec
from llmscale.quantity import format_count

if TYPE_CHECKING:
    from llmscale.measure.trained.evaluation.api import Progress
    from llmscale.measure.trained.evaluation.scores import Evaluation, Metric, RunScores, Score

PlaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run (its folder, or its id), or a results folder or URL: then each of its runs.",
    ),
]


@takes_settings(EvalSpec)
def eval(place: PlaceArgument, json: JsonOption = False, **settings: Any) -> None:
    """Measure the loss of trained models on texts, and their scores on tasks. Scores become columns
    of the table of runs.

    Example: llmscale eval results/cpu --data validation --data books=books.txt"""
    from llmscale.measure.trained.evaluation.api import evaluate

    found = evaluate(place, report=_tell, **settings)
    for remark in found.remarks:
        output.tell(f"note: {remark}")
    for run_id, why in found.left_out:
        output.tell(f"left out: run {run_id}: {why}")
    if json:
        output.print_json(found.to_json())
        return
    _show(found)


def _tell(now: "Progress") -> None:
    known = " (known)" if now.known else ""
    output.tell(f"run {now.run + 1} of {now.runs}, {now.run_id}: {now.name}{known}")


def _show(found: "Evaluation") -> None:
    from llmscale.explain.api.next_step import after_scores

    for number, first in enumerate(found.runs[0].scores):
        _show_score(first, [(run, run.scores[number]) for run in found.runs])
    if found.table is None:
        return
    output.results.print(f"new columns of {found.table}: {_columns(found)}")
    if len(found.runs) > 1:
        sizes = {run.params for run in found.runs}
        output.show_next(after_scores(found.place, found.columns[0], sizes))


def _columns(found: "Evaluation") -> str:
    """Those of the metrics, and whether each has one of its standard error."""
    scores = found.runs[0].scores
    names = [f"{metric.name}_{score.name}" for score in scores for metric in score.metrics]
    errors = len(names) < len(found.columns)
    return f"{', '.join(names)}{' (and their standard errors, _stderr_)' if errors else ''}"


def _show_score(first: "Score", scores: "list[tuple[RunScores, Score]]") -> None:
    names = [metric.name.replace("_", " ") for metric in first.metrics]
    least = "D", "N", "rouge2", "rouge1"
    headings = "run", "size", "N", "D", *names
    table = output.make_table(_title(first), *headings, left=2, least=least)
    for run, score in scores:
        name = run.size
        if run.recipe and run.recipe != "default":
            name += f" {run.recipe}"
        if run.seed:
            name += f" seed {run.seed}"
        if run.bits:
            name += f" {run.bits} bits"
        tokens = format_count(run.tokens) if run.tokens else "-"
        cells = [run.run_id, name, format_count(run.params), tokens]
        table.add_row(*cells, *map(_cell, score.metrics))
    output.results.print(table)


def _title(score: "Score") -> str:
    metric = score.metrics[0]
    said = [score.name]
    if score.tokens is not None and score.bytes is not None:
        said.append(f"{format_count(score.tokens)} tokens, {score.bytes:,} bytes")
    elif score.examples is not None:
        said.append(f"{score.examples:,} examples")
    if metric.over and score.kind == "text":
        said.append(f"standard errors over {metric.over}")
    if metric.chance is not None:
        said.append(f"chance {metric.chance:.3f}")
    return ": ".join([said[0], ", ".join(said[1:])])


def _cell(metric: "Metric") -> str:
    """The value to two digits of its standard error."""
    if not metric.stderr:
        return f"{metric.value:.4g}"
    digits = max(0, 1 - math.floor(math.log10(metric.stderr)))
    return f"{metric.value:.{digits}f} ±{metric.stderr:.{digits}f}"

"""`llmscale.predict(..., task=...)`: the table whose column holds a task's score."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmscale.errors import InputError
from llmscale.explain.api.advise_settings import AdviseSpec
from llmscale.explain.api.fitted import Asked, read_for
from llmscale.explain.api.read import laws_of
from llmscale.explain.api.settings import PredictSpec
from llmscale.explain.fit.task_score import Score, score_of
from llmscale.explain.table import parse_columns


def task_asked(asked: Asked, spec: PredictSpec | AdviseSpec) -> tuple[Asked, Score]:
    """The score that is asked for, and the same with the table read, of whose loss the first step
    is. Raises InputError for what is no score, before anything is fitted."""
    assert spec.task is not None
    laws = laws_of(spec.task_law)
    law = laws[0] if laws else None
    if asked.given:
        fit = asked.given[0]
        if fit.runs is None:
            raise InputError(
                f"the fit in {fit.kept or fit.origin.path} holds no scores of runs",
                f"name {fit.origin.named}",
            )
        if spec.task_loss is not None:
            raise InputError(
                "a fit that is made is of the loss that it was fitted to, and --task-loss names "
                "one",
                f"name {fit.origin.named}",
            )
        return asked, score_of(fit.runs, spec.task, law)
    reading = asked.reading
    if spec.task_loss is not None:
        reading = {**reading, "columns": _with_loss(reading.get("columns"), spec.task_loss)}
    runs = read_for(replace(asked, reading=reading))
    return replace(asked, source=runs, reading={}), score_of(runs, spec.task, law)


def check_no_task(spec: PredictSpec | AdviseSpec) -> None:
    """Raise InputError for what is said of a task if none is named."""
    for name, value in (("--task-loss", spec.task_loss), ("--task-law", spec.task_law)):
        if value is not None:
            raise InputError(
                f"{name} is about the score of a task, and no task is named",
                "name its column: --task COLUMN",
            )


def _with_loss(columns: str | Mapping[str, str] | None, loss: str) -> dict[str, Any]:
    """--columns with the loss of the task as the loss."""
    given = parse_columns(columns) if isinstance(columns, str) else columns
    found = dict(given or {})
    if found.get("loss", loss) != loss:
        raise InputError(
            f"the loss is named twice: {found['loss']} in --columns, and {loss} in --task-loss",
            "name it once",
        )
    return {**found, "loss": loss}

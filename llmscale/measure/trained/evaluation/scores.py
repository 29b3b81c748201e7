"""What was measured of a run on a text or a task: numbers with their standard errors."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from llmscale.runs.checked import typed


@dataclass(frozen=True)
class Metric:
    """One number: `loss` in nats per token, `bits_per_byte`, `bleu` and `chrf` of 100, `rouge1`,
    `rouge2`, `rougeL`, `exact_match`, `accuracy` and others of 1."""

    name: str
    value: float
    stderr: float | None = None
    over: str = ""
    """What the standard error is over, as `120 documents`."""
    signature: str = ""
    """By which the library that computed it says how."""
    chance: float | None = None
    """What guessing gives."""


@dataclass(frozen=True)
class Score:
    """A run on a text or a task."""

    name: str
    kind: str
    """`text`, `generation`, `choice` or `lm-eval`."""
    metrics: tuple[Metric, ...]
    tokens: int | None = None
    """Tokens whose loss was counted."""
    bytes: int | None = None
    """UTF-8 bytes of text that these say."""
    examples: int | None = None
    """Documents of a text, examples of a task."""
    cut: int = 0
    """Examples whose prompt did not fit, and lost its beginning."""

    @property
    def columns(self) -> dict[str, float]:
        """The columns of the table of runs: `METRIC_NAME` and `METRIC_stderr_NAME`."""
        return dict(self._columns())

    def metric(self, name: str) -> Metric:
        """The metric of this name. Raises KeyError."""
        return {metric.name: metric for metric in self.metrics}[name]

    def to_json(self) -> dict[str, Any]:
        shown = asdict(self)
        if self.kind == "text":
            shown["perplexity"] = math.exp(min(self.metric("loss").value, 700.0))
        return shown

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "Score":
        """Raises KeyError, TypeError or ValueError for what is no score."""
        metrics = tuple(typed(Metric, metric) for metric in kept["metrics"])
        score: Score = typed(cls, {**kept, "metrics": metrics})
        numbers = [*score.columns.values(), *(one.chance or 0.0 for one in metrics)]
        if not metrics or not all(map(math.isfinite, numbers)):
            raise ValueError("it has no finite numbers")
        if any((one.stderr or 0.0) < 0 for one in metrics):
            raise ValueError("a standard error is below zero")
        if score.kind == "text":
            score.metric("loss")
        return score

    def _columns(self) -> Iterator[tuple[str, float]]:
        for metric in self.metrics:
            yield f"{metric.name}_{self.name}", metric.value
            if metric.stderr is not None:
                yield f"{metric.name}_stderr_{self.name}", metric.stderr


@dataclass(frozen=True)
class RunScores:
    """A run, and what was measured of it."""

    run_id: str
    size: str
    recipe: str | None
    seed: int
    params: int
    tokens: int | None
    """None of an imported model of which nobody said it."""
    scores: tuple[Score, ...]
    known: tuple[str, ...] = ()
    """The names of those that were measured before, by the same options."""
    bits: int | None = None
    """Of a weight, if it was rounded or is next to such."""

    def to_json(self) -> dict[str, Any]:
        scores = [score.to_json() for score in self.scores]
        return {**asdict(self), "scores": scores}


@dataclass(frozen=True)
class Evaluation:
    """Runs by growing size, and what each is worth on the same texts and tasks."""

    place: str
    runs: tuple[RunScores, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """Runs that could not be used, and why."""
    table: str | None = None
    """The table of runs that has the scores as columns."""
    remarks: tuple[str, ...] = ()
    """What was taken for what, to be said."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table of runs that these scores are."""
        scores = [score for run in self.runs for score in run.scores]
        return tuple(dict.fromkeys(name for score in scores for name in score.columns))

    def to_json(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "table": self.table,
            "columns": list(self.columns),
            "runs": [run.to_json() for run in self.runs],
            "left_out": [{"run_id": run_id, "reason": why} for run_id, why in self.left_out],
            "remarks": list(self.remarks),
        }

"""What is left of a run, and for how long: for a plan, the live view and `llmscale status`."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmscale.measure.train.job import Job


@dataclass(frozen=True)
class Work:
    """Tokens to train on, and how often the validation text is read."""

    tokens: int
    evaluations: int

    def seconds(self, tokens_per_second: float, evaluation_seconds: float) -> float:
        """How long it takes at a training speed, and with so long an evaluation."""
        return self.tokens / tokens_per_second + self.evaluations * evaluation_seconds


def work_left(job: Job, step: int) -> Work:
    """What is left of `job` after its first `step` steps, trained by itself or another run."""
    tokens = max(0, job.tokens - step * job.batch_tokens)
    return Work(tokens, sum(at > step for at in job.evaluated_steps))


@dataclass(frozen=True)
class PlannedWork:
    """What sweep.json says of a run that was planned."""

    size: str
    recipe: str
    params: int
    tokens: int
    seed: int
    flops: float
    """Training FLOPs of all its steps."""
    own_flops: float
    """Of those that no other run trains for it."""
    seconds: float
    """Estimated when it was planned."""


@dataclass
class Pace:
    """How fast a run trains and evaluates, from its logged steps: rows of its curve, in order."""

    _last: Mapping[str, Any] | None = None
    _tokens: int = 0
    _seconds: float = 0.0
    _evaluations: list[float] = field(default_factory=list)

    def log(self, point: Mapping[str, Any]) -> None:
        """Take note of a step; of one that a lost worker had logged before, no more than that."""
        before, self._last = self._last, point
        if before is None or point["step"] <= before["step"]:
            return
        tokens = point["tokens"] - before["tokens"]
        seconds = max(0.0, point["seconds"] - before["seconds"])
        if point["loss"] is not None and point["tokens_per_second"]:
            training = min(seconds, tokens / point["tokens_per_second"])
            self._evaluations.append(seconds - training)
            seconds = training
        self._tokens += tokens
        self._seconds += seconds

    @property
    def tokens_per_second(self) -> float | None:
        """Of training and all but evaluations; None before the first logged step."""
        if self._tokens and self._seconds > 0:
            return self._tokens / self._seconds
        return (self._last or {}).get("tokens_per_second") or None

    @property
    def evaluation_seconds(self) -> float | None:
        """Of one evaluation; None before the first."""
        return statistics.median(self._evaluations) if self._evaluations else None

    def seconds_left(
        self, left: Work, evaluation_seconds: float | None, waited: float
    ) -> float | None:
        """Until the run ends, from `waited` seconds after its last logged step on; None if no speed
        is known. `evaluation_seconds` is how long an evaluation takes as far as none was seen."""
        speed = self.tokens_per_second
        if speed is None:
            return None
        each = self.evaluation_seconds
        if each is None:
            each = evaluation_seconds or 0.0
        return max(0.0, left.seconds(speed, each) - waited)


def pace_of(points: Iterable[Mapping[str, Any]]) -> Pace:
    """The pace of a run whose logged steps are `points`."""
    pace = Pace()
    for point in points:
        pace.log(point)
    return pace

"""The runs that train together, their curves, and how each of them stands."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from llmscale.measure.train.async_values import Mark, Reading
from llmscale.measure.train.checkpoint import Checkpoint
from llmscale.measure.train.evaluate import Evaluation
from llmscale.measure.train.job import Job
from llmscale.runs.run import CurvePoint

EXPLODED = 1.0
"""A run has diverged when its training loss is this many nats above that of a uniform guess,
ln(vocab_size). During warm-up it may be: that is where the loss of a new model begins."""
JUDGED_TOKENS = 4096
"""The last tokens by whose loss this is judged, at least: a step of a small batch may be one odd
passage, in which all is unlikely."""


@dataclass(frozen=True)
class Member:
    """One of the runs that train together: its job, and where its states are."""

    job: Job
    folder: Path
    start: Path | None = None
    """The branch point of a run that begins like this one, to go on from."""
    branch_points: Mapping[int, Path] = field(default_factory=dict)
    """Where to save the state after how many steps, for runs that begin like this one."""
    keep: str | None = None
    """The type that its last weights are wanted in, or None if they are not."""
    initial: Path | None = None
    """The file of the weights that it begins with, or None for new ones."""
    teacher: Path | None = None
    """The file of the weights of its teacher, if its job has one."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `status` is `done` or `diverged`, with the reason in `error`."""

    status: str
    curve: tuple[CurvePoint, ...]
    evaluation: Evaluation | None
    seconds: float
    """Of this run's own steps, without its parent's."""
    peak_memory_bytes: int
    error: str | None = None
    parent: str | None = None
    """The run that trained the first `parent_step` steps, if another one did."""
    parent_step: int = 0
    weights: Mapping[str, Tensor] | None = None
    """Its last ones, on the host, if they are wanted and it is done."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What its architecture measures of it at the end."""


@dataclass(frozen=True)
class Logged:
    """A step to log, whose numbers the device may not know yet; sums since the last one."""

    step: int
    lr: float
    steps: int
    sequences: int
    since: Mark
    """Where in the device's queue the first of these steps begins."""
    numbers: Reading
    """By run the sum of the training losses, and the gradient's norm at this step."""
    evaluations: Sequence[Evaluation] | None = None
    """By run, if the validation set was read after this step."""

    @property
    def sequences_per_second(self) -> float:
        """Of training only: evaluations come before `since` or after the numbers."""
        return self.sequences / max(self.numbers.mark.seconds_since(self.since), 1e-9)


@dataclass
class _Course:
    """How one run stands."""

    job: Job
    begun: Checkpoint
    """The state that it went on from."""
    curve: list[CurvePoint]
    evaluation: Evaluation | None = None
    """The last one."""
    problem: str | None = None
    """Why it has diverged."""

    def own_points(self) -> list[CurvePoint]:
        return [point for point in self.curve if point.step > self.begun.parent_step]

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(point) for point in self.curve]


class Curves:
    """What runs have logged, and go on to log from the states `begun`.

    Time and speed are those of all runs together, shared out evenly. One that has diverged is
    carried along by the others, and logs nothing more."""

    def __init__(
        self,
        members: Sequence[Member],
        begun: Sequence[Checkpoint],
        report: Callable[[CurvePoint], None],
    ) -> None:
        self._report = report
        self._unread: list[Logged] = []
        self._started = time.perf_counter()
        self._runs = []
        for member, state in zip(members, begun, strict=True):
            own = {"run_id": member.job.run_id}  # rows of a branch point have its parent's
            curve = [CurvePoint(**{**row, **own}) for row in state.curve]
            self._runs.append(_Course(member.job, state, curve))

    def own_points(self) -> Mapping[str, Sequence[CurvePoint]]:
        """By run id, what it has logged itself: the steps before are its parent's."""
        return {run.job.run_id: run.own_points() for run in self._runs}

    def add(self, logged: Logged) -> None:
        self._unread.append(logged)

    def all_diverged(self, unread: int = 0) -> bool:
        """Read and report what was added but for the last `unread`; whether no run is left."""
        while len(self._unread) > unread:
            logged = self._unread.pop(0)
            for number, run in enumerate(self._runs):
                if run.problem is None:
                    point = self._point(number, logged)
                    run.curve.append(point)
                    self._report(point)
                    run.problem = divergence(run.curve, run.job)
            if all(run.problem for run in self._runs):
                return True
        return False

    def states(self, step: int, steps_summed: int, loss_sums: Tensor) -> list[Checkpoint]:
        """The states of the runs after `step` steps, but for weights and optimiser."""
        elapsed = self._elapsed()
        return [
            replace(
                run.begun,
                run_id=run.job.run_id,
                step=step,
                seconds=run.begun.seconds + elapsed,
                curve=run.rows(),
                steps_summed=steps_summed,
                loss_sum=loss_sum,
                beginning=None,  # which only a branch point says
            )
            for run, loss_sum in zip(self._runs, loss_sums, strict=True)
        ]

    def outcomes(self, peak_memory_bytes: int) -> list[Outcome]:
        elapsed = self._elapsed()
        found = []
        for run in self._runs:
            before = run.begun
            status, evaluation = "done", run.evaluation
            if run.problem is not None:
                status, evaluation = "diverged", None
            outcome = Outcome(
                status,
                tuple(run.curve),
                evaluation,
                before.seconds + elapsed - before.parent_seconds,
                peak_memory_bytes,
                run.problem,
                before.parent,
                before.parent_step,
            )
            found.append(outcome)
        return found

    def _elapsed(self) -> float:
        """Each run's share of the seconds since the beginning."""
        return (time.perf_counter() - self._started) / len(self._runs)

    def _point(self, number: int, logged: Logged) -> CurvePoint:
        """The row of a run's curve, for which the device's queue has come to this step."""
        run = self._runs[number]
        job, evaluation = run.job, None
        if logged.evaluations is not None:
            evaluation = run.evaluation = logged.evaluations[number]
        losses, grad_norms = logged.numbers.values()
        tokens = min(logged.step * job.batch_sequences, job.sequences) * job.length
        train_loss = losses[number] / logged.steps
        return CurvePoint(
            run_id=job.run_id,
            step=logged.step,
            tokens=tokens,
            flops=float(tokens) * job.flops_per_token,
            train_loss=train_loss,
            train_perplexity=math.exp(min(train_loss, 700.0)),
            loss=evaluation.loss if evaluation else None,
            perplexity=evaluation.perplexity if evaluation else None,
            lr=logged.lr,
            grad_norm=grad_norms[number],
            tokens_per_second=logged.sequences_per_second * job.length * len(self._runs),
            seconds=run.begun.seconds + self._elapsed(),
        )


def divergence(curve: Sequence[CurvePoint], job: Job) -> str | None:
    """Why the run has diverged at the end of its `curve` so far, or None."""
    point = curve[-1]
    for name, value in (("training loss", point.train_loss), ("validation loss", point.loss)):
        if value is not None and not math.isfinite(value):
            return f"{name} is {value} at step {point.step}"
    uniform = math.log(job.shape.vocab_size)
    warmed_up = point.step > job.warmup_steps
    if job.finetuning is not None and job.finetuning.pretrained:
        # What it has not met yet it may hold for less likely than a uniform guess does.
        warmed_up = point.step > job.steps // 2
    if not warmed_up or point.train_loss <= uniform + EXPLODED:
        return None
    loss = _last_loss(curve, JUDGED_TOKENS)
    if loss <= uniform + EXPLODED:
        return None
    return (
        f"training loss rose to {loss:.2f} at step {point.step}; a uniform guess has {uniform:.2f}"
    )


def _last_loss(curve: Sequence[CurvePoint], tokens: int) -> float:
    """The mean training loss of the last points that have so many `tokens` between them, or of
    all."""
    losses = read = 0.0
    for place in range(len(curve) - 1, -1, -1):
        before = curve[place - 1].tokens if place else 0
        own = curve[place].tokens - before
        losses += own * curve[place].train_loss
        read += own
        if read >= tokens:
            break
    return losses / read

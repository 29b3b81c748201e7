"""One run of a plan: what is left of it, and how it is going to be trained."""

from dataclasses import dataclass, field, replace
from typing import Any

from llmscale.measure.sweep.remaining import Work, work_left
from llmscale.measure.sweep.trunks import Descent
from llmscale.measure.train.job import Job
from llmscale.quantity import format_count
from llmscale.runs.columns import fields_from
from llmscale.runs.run import Run


@dataclass(frozen=True)
class PlannedRun:
    """A job and how it will be run here."""

    job: Job
    micro_batch: int
    compile: bool
    ops: str
    """`plain` or `native`, of ops/."""
    threads: int
    """CPU threads that can share a batch, at most."""
    memory_bytes: int
    seconds: float
    """Estimated time on one place, evaluation included, for what is trained of it here."""
    finished: bool
    """Whether the results folder holds this run already."""
    reached: int = 0
    """Steps of it that an earlier command has trained, and saved."""
    descent: Descent = field(default_factory=Descent)
    shard: str = "never"
    """Where several GPUs keep the weights: whole on each, or shared out (`always`)."""
    evaluation_batch: int | None = None
    """Sequences in one pass of an evaluation; None: as many as in training."""
    members: int = 1
    """Seeds that are trained as one model with this one, at most, itself included."""
    evaluation_seconds: float = 0.0
    """Estimated time that it takes to read the validation text once."""
    text_tokens: int | None = None
    """Of the text that it may read, if its job has only a beginning; None: as the job says."""

    @property
    def left(self) -> Work:
        """What is still to be done of it here: of a branch, after the branch point."""
        return Work(0, 0) if self.finished else work_left(self.job, self.first_step)

    @property
    def epochs(self) -> float:
        """Times that it reads the text it may read."""
        if self.text_tokens is None:
            return self.job.epochs
        return replace(self.job, text_tokens=self.text_tokens).epochs

    @property
    def first_step(self) -> int:
        """Steps that are trained already, or that another run trains."""
        return max(self.descent.step, self.reached)

    @property
    def own_flops(self) -> float:
        """Training FLOPs of all its own steps, trained already or not."""
        return float(work_left(self.job, self.descent.step).tokens) * self.job.flops_per_token

    @property
    def origin(self) -> str:
        """Which other run its first steps come from, and how many are trained, in words."""
        parent = self.descent.parent
        branch = [f"branch of {format_count(parent.tokens)}"] if parent else []
        begun = [f"{self.reached / self.job.steps:.0%} trained"] if self.is_begun else []
        return ", ".join(branch + begun)

    @property
    def parent(self) -> str | None:
        """The run that trains its first steps, or whose weights it begins with."""
        if self.descent.parent is not None:
            return self.descent.parent.run_id
        return self.job.finetuning.parent if self.job.finetuning else None

    @property
    def is_begun(self) -> bool:
        """Whether an earlier command has trained some of its own steps, and not all."""
        return not self.finished and self.reached > self.descent.step

    @property
    def trained_flops(self) -> float:
        """Training FLOPs of what is left of it."""
        return float(self.left.tokens) * self.job.flops_per_token

    def to_json(self) -> dict[str, Any]:
        job = self.job
        return {
            **fields_from(Run, job, job.shape, job.finetuning),
            "shape": job.shape.name,
            "epochs": self.epochs,
            "trained_flops": self.trained_flops,
            "parent": self.parent,
            "memory_bytes": self.memory_bytes,
            "estimated_seconds": self.seconds,
            "finished": self.finished,
            "trained_steps": self.job.steps if self.finished else self.first_step,
            "evaluations": self.left.evaluations,
            "compiled": self.compile,
            "ops": self.ops,
            "stacked": self.members,
        }

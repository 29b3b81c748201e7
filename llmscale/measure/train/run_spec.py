"""A run's `spec.json`: its job, how it is run, and which other run's state it starts from."""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.measure.optimizers import OPTIMIZERS
from llmscale.measure.schedules import SCHEDULES
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.distillation import read_distillation
from llmscale.measure.train.finetuning import read_finetuning
from llmscale.measure.train.job import Job
from llmscale.runs.checked import DamagedFile, WrongValue, check, check_count, read_object, typed
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_paths import plain_name
from llmscale.runs.safe_write import write_json
from llmscale.runs.shape import Counts, tell_counts
from llmscale.runs.unchanged import once_while_unchanged

_MOST = 2**53
KEPT_DTYPES = ("bfloat16", "float32")
"""What weights can be kept in."""


@dataclass(frozen=True)
class RunSpec:
    """A job and how it is run: all that a worker needs. It says nothing of what comes out."""

    job: Job
    conditions: Conditions
    threads: int = 1
    """CPU threads of torch's own."""
    store: str = ""
    """The folder of the token store."""
    validation_tokens: int | None = None
    device_name: str | None = None
    start: str | None = None
    """The branch point of another run to start from, as a path from this run's folder."""
    branch_points: dict[int, str] = field(default_factory=dict)
    """Steps after which the run saves its state for others, and the names of these files."""
    own: dict[str, str] = field(default_factory=dict)
    """The files of the user's own that the job names, as `menu.receive` takes them."""
    keep: str | None = None
    """The type that its weights are kept in once it is done, or None if they are not."""
    initial: str | None = None
    """The file in its folder of the weights that it begins with; None: new ones."""
    teacher: str | None = None
    """The file of the weights of the teacher that its job names."""
    counts: Counts | None = None
    """What an architecture of the user's own counts, for those who do not run its file."""

    def write(self, folder: RunFolder) -> None:
        write_json(folder.spec_path, asdict(self))


def read_spec(folder: RunFolder) -> RunSpec:
    """What spec.json says. Raises DamagedFile, also for another run's; FileNotFoundError."""
    return _read(folder.spec_path)


def known_spec(folder: RunFolder) -> RunSpec | None:
    """As read_spec, but None if there is none, or if it is damaged."""
    try:
        return read_spec(folder)
    except (DamagedFile, OSError):
        return None


def start_of(folder: RunFolder, spec: RunSpec) -> Path | None:
    """The branch point that the run starts from, whether it is there yet or not."""
    return folder.sibling_file(spec.start) if spec.start else None


@once_while_unchanged()
def _read(path: Path) -> RunSpec:
    try:
        found = _checked(read_object(path), RunFolder(path.parent))
    except (FileNotFoundError, DamagedFile):
        raise
    except (ValueError, InputError) as error:
        reason = error.problem if isinstance(error, InputError) else str(error)
        raise DamagedFile(path, reason) from error
    if found.job.run_id != path.parent.name:
        raise DamagedFile(path, f"it is of run {found.job.run_id}")
    return found


def _checked(payload: dict[str, Any], folder: RunFolder) -> RunSpec:
    points = _branch_points(payload.get("branch_points", {}))
    spec: RunSpec = typed(RunSpec, {**payload, "branch_points": points, "counts": None})
    if spec.job.finetuning is not None:
        part = read_finetuning(payload["job"]["finetuning"], "job.finetuning")
        spec = replace(spec, job=replace(spec.job, finetuning=part))
    if spec.job.distillation is not None:
        taught = read_distillation(payload["job"]["distillation"], "job.distillation")
        spec = replace(spec, job=replace(spec.job, distillation=taught))
    _check_job(spec.job)
    if spec.initial is not None:
        plain_name(spec.initial)
    if payload.get("counts") is not None:
        counts: Counts = typed(Counts, payload["counts"], "counts")
        tell_counts(spec.job.shape, counts)
        spec = replace(spec, counts=counts)
    if spec.keep not in (None, *KEPT_DTYPES):
        raise WrongValue(f"keep is {spec.keep!r}")
    for name in ("validation_tokens", "threads"):
        if payload.get(name) is not None:
            check_count(payload[name], name, most=_MOST)
    start_of(folder, spec)
    return spec


def _check_job(job: Job) -> None:
    for name in ("sequences", "batch_sequences", "text_tokens", "evaluations"):
        check_count(getattr(job, name), f"job.{name}", most=_MOST)
    for name in ("n_layer", "d_model", "n_head", "d_ff", "vocab_size", "context"):
        check_count(getattr(job.shape, name), f"job.shape.{name}", most=_MOST)
    for name in ("lr", "cooldown", "beta2", "weight_decay", "clip"):
        if not math.isfinite(getattr(job, name)):
            raise WrongValue(f"job.{name} is {getattr(job, name)}")
    SCHEDULES.check(job.schedule)
    OPTIMIZERS.check(job.optimizer)


def _branch_points(payload: Any) -> dict[int, str]:
    check(payload, dict, "branch_points")
    points = {}
    for step, name in payload.items():
        check(name, str, f"branch_points.{step}")
        if not step.isdecimal():
            raise WrongValue(f"branch_points has the step {step!r}")
        points[int(step)] = plain_name(name)
    return points

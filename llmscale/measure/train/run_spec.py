"""A run's `spec.json`: its job, how it is run, and which other run's state it starts from."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.measure.schedules import SCHEDULES
from llmscale.measure.train.job import Job
from llmscale.runs.checked import DamagedFile, WrongValue, check, check_count, read_object, typed
from llmscale.runs.folder import plain_name, sibling_file

_MOST = 2**53


@dataclass(frozen=True)
class SpecFile:
    """What a spec.json says."""

    job: Job
    conditions: dict[str, Any]
    """Of train.loop.Conditions, those that it names."""
    validation_tokens: int | None
    device_name: str | None
    threads: int | None
    start: str | None
    """The branch point of another run to start from, as a path from this run's folder."""
    branch_points: dict[int, str] = field(default_factory=dict)
    """Steps after which the run saves its state for others, and the names of these files in its
    folder.
    """


def read_spec_file(path: Path) -> SpecFile:
    """The spec.json at `path`. Raises DamagedFile, also for another run's; FileNotFoundError."""
    try:
        payload = read_object(path)
        found = _checked(payload, path)
    except FileNotFoundError:
        raise
    except DamagedFile:
        raise
    except (ValueError, InputError) as error:
        reason = error.problem if isinstance(error, InputError) else str(error)
        raise DamagedFile(path, reason) from error
    if found.job.run_id != path.parent.name:
        raise DamagedFile(path, f"it is of run {found.job.run_id}")
    return found


def _checked(payload: dict[str, Any], path: Path) -> SpecFile:
    job: Job = typed(Job, payload.get("job"), "job")
    for name in ("sequences", "batch_sequences", "text_tokens", "evaluations"):
        check_count(getattr(job, name), f"job.{name}", most=_MOST)
    for name in ("n_layer", "d_model", "n_head", "d_ff", "vocab_size", "context"):
        check_count(getattr(job.shape, name), f"job.shape.{name}", most=_MOST)
    for name in ("lr", "cooldown", "beta2", "weight_decay", "clip"):
        if not math.isfinite(getattr(job, name)):
            raise WrongValue(f"job.{name} is {getattr(job, name)}")
    if not SCHEDULES.accepts(job.schedule):
        raise WrongValue(f"job.schedule is {job.schedule!r}")
    conditions = payload.get("conditions", {})
    check(conditions, dict, "conditions")
    check(conditions.get("peak_flops"), float | None, "conditions.peak_flops")
    for name in ("validation_tokens", "threads"):
        if payload.get(name) is not None:
            check_count(payload[name], name, most=_MOST)
    for name in ("device_name", "start"):
        check(payload.get(name), str | None, name)
    if payload.get("start"):
        sibling_file(path.parent, payload["start"])
    points = payload.get("branch_points", {})
    check(points, dict, "branch_points")
    for step, name in points.items():
        check(name, str, f"branch_points.{step}")
        plain_name(name)
        if not step.isdecimal():
            raise WrongValue(f"branch_points has the step {step!r}")
    return SpecFile(
        job,
        conditions,
        payload.get("validation_tokens"),
        payload.get("device_name"),
        payload.get("threads"),
        payload.get("start") or None,
        {int(step): name for step, name in points.items()},
    )

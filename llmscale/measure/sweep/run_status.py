"""How one run of a sweep stands, from its row or its folder."""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from llmscale.errors import InputError, listed
from llmscale.measure.sweep.remaining import PlannedWork, pace_of, work_left
from llmscale.measure.train.job import EVALUATION_SPEED, Job
from llmscale.measure.train.run_spec import SpecFile, read_spec_file
from llmscale.runs.checked import DamagedFile
from llmscale.runs.folder import ResultsFolder, Run, sibling_file
from llmscale.runs.lock import lock_holder
from llmscale.runs.log import FILE_NAME, damaged_lines, last_progress, read_progress, saved_step
from llmscale.runs.rows import read_row

UNDER_WAY = ("running", "stalled")
STOPPED_EARLY = "stopped early"
"""Of a trial that `llmscale tune` has given up: nothing is left to train of it."""
NOTHING_LEFT = ("done", "diverged", STOPPED_EARLY)
STALLED_SECONDS = 60.0
STALLED_INTERVALS = 10.0
"""A run is stalled when it has logged nothing for this many of its usual intervals, and for
STALLED_SECONDS, an evaluation aside."""
WORKER_LOG = "worker.log"


@dataclass(frozen=True)
class RunStatus:
    """How one run stands.

    `state` is done, diverged, failed, running, stalled, stopped (resumable) or waiting.
    """

    run_id: str
    size: str
    recipe: str
    params: int
    tokens: int
    seed: int
    state: str
    tokens_done: int
    flops: float
    own_flops: float
    """Of those that no other run trains for it: of a trunk's branch, the part after the branch
    point.
    """
    flops_left: float
    """What is still to be trained of these."""
    evaluated_tokens_left: int
    """Validation tokens that are still to be read, as often as they are read."""
    loss: float | None
    """Final validation loss, nats per token."""
    train_loss: float | None
    """Of the last logged steps, while it is trained."""
    tokens_per_second: float | None
    mfu: float | None
    seconds_spent: float
    seconds_left: float | None
    note: str | None
    """What is amiss, and where to look."""
    lr: float | None = None
    """Peak learning rate."""
    batch_tokens: int | None = None
    """Tokens a step."""

    @property
    def share_done(self) -> float:
        return self.tokens_done / self.tokens if self.tokens else 0.0


def ended(row: Run, own_flops: float) -> RunStatus:
    left = own_flops if row.status == "failed" else 0.0
    return RunStatus(
        row.run_id,
        row.size,
        row.recipe or "default",
        row.params,
        row.tokens,
        row.seed,
        STOPPED_EARLY if row.status == "stopped" else row.status,
        row.tokens if row.status == "done" else 0,
        row.flops,
        own_flops,
        left,
        0,
        row.loss,
        row.train_loss,
        row.tokens_per_second,
        row.mfu,
        row.seconds or 0.0,
        None,
        row.error,
        row.lr,
        row.batch_tokens,
    )


def unknown(run_id: str, work: PlannedWork | None) -> RunStatus:
    """A run that was planned and has neither a folder nor a row: it is still to be trained, all of
    it.
    """
    what = (
        (work.size, work.recipe, work.params, work.tokens, work.seed)
        if work
        else (run_id, "default", 0, 0, 0)
    )
    flops, own = (work.flops, work.own_flops) if work else (0.0, 0.0)
    seconds = work.seconds if work and work.seconds else None
    return RunStatus(
        run_id, *what, "waiting", 0, flops, own, own, 0, None, None, None, None, 0.0, seconds, None
    )


def own_flops_of(folder: ResultsFolder, row: Run, work: PlannedWork | None) -> float:
    """The FLOPs of a run's own steps, without those of its trunk, as far as the folder says how
    many these are.
    """
    if work is not None:
        return work.own_flops
    if row.parent is not None:
        with suppress(DamagedFile, OSError):
            spec = read_spec_file(folder.run_folder(row.run_id) / "spec.json")
            return _flops(spec.job, _start_step(folder.run_folder(row.run_id), spec))
    return row.flops


def _flops(job: Job, step: int) -> float:
    """Training FLOPs of `job` after its first steps."""
    return float(work_left(job, step).tokens) * job.shape.flops_per_token


@dataclass(frozen=True)
class Look:
    """Where to look for a run that the table does not have as finished."""

    path: Path
    row: Run | None
    work: PlannedWork | None
    under_way: bool
    began: float
    """When the sweep took its lock: what is older is of an earlier command."""
    now: float


def unfinished(look: Look, damaged: list[InputError]) -> RunStatus | None:
    """A run that the table does not have as finished, from its folder; None where nothing is known
    of it.
    """
    path, work = look.path, look.work
    try:
        row = read_row(path / "run.json")
        last = last_progress(path) if row.status == "stopped" else None
        found = ended(row, work.own_flops if work else row.flops)
        return replace(found, tokens_done=min(last["tokens"], row.tokens)) if last else found
    except DamagedFile as error:
        damaged.append(error)
    except OSError:
        pass
    spec_path = path / "spec.json"
    try:
        spec = _spec(spec_path, spec_path.stat().st_mtime_ns)
    except DamagedFile as error:
        damaged.append(error)
        spec = None
    except OSError:
        spec = None
    if spec is None:
        if look.row is None:
            return None
        stopped = replace(
            look.row, status="stopped" if look.row.status == "running" else look.row.status
        )
        own = work.own_flops if work else stopped.flops
        if look.row.status == "stopped":
            return ended(look.row, own)
        return replace(ended(stopped, own), state=stopped.status, flops_left=own)
    return _from_spec(look, spec)


def _from_spec(look: Look, spec: SpecFile) -> RunStatus:
    """A run that has begun, or waits, from its specification and what it has logged."""
    path, job = look.path, spec.job
    start_step = _start_step(path, spec)
    last = last_progress(path)
    heartbeat = modified(path / FILE_NAME)
    state, note, age = "waiting", None, max(0.0, look.now - heartbeat)
    if look.under_way and heartbeat < look.began and lock_holder(path) is not None:
        state = "running"  # and has logged nothing so far
    if last is not None:
        interval = last["seconds"] * job.log_every / max(1, last["step"])
        if not look.under_way:
            state = "stopped"
        elif heartbeat >= look.began:
            is_late = age > max(STALLED_SECONDS, STALLED_INTERVALS * interval) + _evaluating(
                path, spec
            )
            state = "stalled" if is_late else "running"
            note = f"nothing logged for {age:.0f} s; see {path / WORKER_LOG}" if is_late else None
    # Of a run that nobody trains, what was logged after its checkpoint is trained again.
    is_trained = state in UNDER_WAY
    step = min(last["step"] if last and is_trained else saved_step(path), job.steps)
    done = min(step * job.batch_tokens, job.tokens)
    left = work_left(job, max(step, start_step))
    if damage := damaged_lines(path) if not is_trained else []:
        lines = f"line {damage[0]}" if len(damage) == 1 else f"lines {listed(damage)}"
        note = (
            note
            or f"{path / FILE_NAME}, {lines}: damaged, and left out; the same command writes it "
            "anew"
        )
    own_share = max(0, done - start_step * job.batch_tokens) / done if done else 0.0
    speed = last["tokens_per_second"] if last else None
    peak = spec.conditions.get("peak_flops")
    seconds_left = None
    if last is not None:
        pace = pace_of(read_progress(path)[0])
        evaluation = (spec.validation_tokens or 0) / (EVALUATION_SPEED * speed) if speed else None
        waited = age if state == "running" and heartbeat >= look.began else 0.0
        seconds_left = pace.seconds_left(left, evaluation, waited)
    return RunStatus(
        job.run_id,
        job.size,
        job.recipe,
        job.shape.params,
        job.tokens,
        job.seed,
        state,
        done,
        job.flops,
        _flops(job, start_step),
        float(left.tokens) * job.shape.flops_per_token,
        left.evaluations * (spec.validation_tokens or 0),
        None,
        last["train_loss"] if last else None,
        speed,
        speed * job.shape.flops_per_token / peak if speed and peak else None,
        last["seconds"] * own_share if last else 0.0,
        seconds_left,
        note,
        job.lr,
        job.batch_tokens,
    )


def _evaluating(path: Path, spec: SpecFile) -> float:
    """How long an evaluation may take, in which nothing is logged."""
    pace = pace_of(read_progress(path)[0])
    if pace.evaluation_seconds is not None:
        return 3 * pace.evaluation_seconds
    speed = pace.tokens_per_second
    return 3 * (spec.validation_tokens or 0) / (EVALUATION_SPEED * speed) if speed else 0.0


@lru_cache(maxsize=1 << 16)
def _spec(path: Path, modified: int) -> SpecFile:
    return read_spec_file(path)


def _start_step(path: Path, spec: SpecFile) -> int:
    """The step of the branch point that a run starts from, as the run that saves it says; 0 without
    one.
    """
    if not spec.start:
        return 0
    start = sibling_file(path, spec.start)
    try:
        points = read_spec_file(start.with_name("spec.json")).branch_points
    except (DamagedFile, OSError):
        return 0
    return next((step for step, name in points.items() if name == start.name), 0)


def modified(path: Path) -> float:
    """When `path` was last written, in seconds since 1970; 0 where it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

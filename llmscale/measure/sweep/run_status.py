"""How one run of a sweep stands: by its own row, else by its specification and what it has logged,
else by the row of the table, else by the plan."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llmscale.errors import InputError, listed
from llmscale.measure.sweep.remaining import Pace, PlannedWork, pace_of, work_left
from llmscale.measure.train.job import EVALUATION_SPEED, Job, run_row
from llmscale.measure.train.run_spec import RunSpec, known_spec, read_spec, start_of
from llmscale.runs.checked import DamagedFile
from llmscale.runs.columns import fields_from
from llmscale.runs.lock import lock_holder
from llmscale.runs.log import damaged_lines, last_progress, read_progress, saved_step
from llmscale.runs.run import DEFAULT_RECIPE, FINISHED, Run
from llmscale.runs.run_folder import RunFolder

Value = TypeVar("Value")

UNDER_WAY = ("running", "stalled", "starting", "compiling", "evaluating")
"""The last three are known to the process that carries the sweep out, and to nobody else."""
STOPPED_EARLY = "stopped early"
"""Of a trial that `llmscale tune` has given up: nothing is left to train of it."""
NOTHING_LEFT = ("done", "diverged", STOPPED_EARLY)
_STATE_OF_ROW = {"stopped": STOPPED_EARLY, "running": "stopped"}
STALLED_SECONDS = 60.0
STALLED_INTERVALS = 10.0
"""A run is stalled when it has logged nothing for this many of its usual intervals, and for
STALLED_SECONDS, an evaluation aside."""
_EVALUATIONS_WAITED = 3
"""This many times what an evaluation takes is not yet late."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How one run stands. `state` is done, diverged, failed, running, stalled, stopped (resumable),
    waiting, or of a trial stopped early."""

    run_id: str
    size: str
    recipe: str
    params: int
    tokens: int
    seed: int
    state: str
    tokens_done: int = 0
    flops: float
    own_flops: float
    """Of those that no other run trains for it: of a trunk's branch, the part after the branch
    point."""
    flops_left: float
    """What is still to be trained of these."""
    evaluated_tokens_left: int = 0
    """Validation tokens that are still to be read, as often as they are read."""
    loss: float | None = None
    """Final validation loss, nats per token."""
    train_loss: float | None = None
    """Of the last logged steps, while it is trained."""
    tokens_per_second: float | None = None
    mfu: float | None = None
    seconds_spent: float = 0.0
    seconds_left: float | None = None
    note: str | None = None
    """What is wrong, and where to look."""
    lr: float | None = None
    """Peak learning rate."""
    batch_tokens: int | None = None
    """Tokens a step."""
    parent: str | None = None
    """The run whose first steps it shares, of a trunk's branch."""

    @property
    def share_done(self) -> float:
        return self.tokens_done / self.tokens if self.tokens else 0.0

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train of it."""
        return self.state in NOTHING_LEFT

    @property
    def is_under_way(self) -> bool:
        return self.state in UNDER_WAY


@dataclass(frozen=True)
class Moment:
    """When a sweep is looked at, and whether somebody carries it out."""

    under_way: bool
    began: float
    """When the sweep took its lock: what is older is of an earlier command."""
    now: float


def run_status(
    run: RunFolder,
    row: Run | None,
    work: PlannedWork | None,
    moment: Moment,
    damaged: list[InputError],
) -> RunStatus:
    """How `run` stands, of which the table has `row` and the plan says `work`. Its folder is not
    looked into if the table has it as finished. Adds to `damaged`."""
    if row is not None and row.status in FINISHED:
        return _ended(run, row, work)
    own_row = _unless_damaged(run.read_row, damaged)
    if own_row is not None:
        return _ended(run, own_row, work)
    spec = _unless_damaged(lambda: read_spec(run), damaged)
    if spec is not None:
        return _begun(run, spec, moment)
    if row is not None:
        return _ended(run, row, work)
    return _planned(run.run_id, work)


def _unless_damaged(read: Callable[[], Value], damaged: list[InputError]) -> Value | None:
    try:
        return read()
    except DamagedFile as error:
        damaged.append(error)
    except OSError:
        pass
    return None


def _ended(run: RunFolder, row: Run, work: PlannedWork | None) -> RunStatus:
    """By its row: that of one `running` is the table's, and nothing else is left of the run."""
    own = work.own_flops if work else _own_flops(run, row)
    done = row.tokens if row.status == "done" else 0
    last = last_progress(run.path) if row.status == "stopped" else None
    if last is not None:
        done = min(last["tokens"], row.tokens)
    described = fields_from(RunStatus, row)
    return RunStatus(
        **described,
        state=_STATE_OF_ROW.get(row.status, row.status),
        tokens_done=done,
        own_flops=own,
        flops_left=own if row.status in ("failed", "running") else 0.0,
        seconds_spent=row.seconds or 0.0,
        note=row.error,
    )


def _planned(run_id: str, work: PlannedWork | None) -> RunStatus:
    """Neither a folder nor a row: it is still to be trained, all of it."""
    if work is None:
        nothing: dict[str, Any] = dict.fromkeys(("params", "tokens", "seed"), 0)
        nothing |= dict.fromkeys(("flops", "own_flops", "flops_left"), 0.0)
        return RunStatus(
            run_id=run_id, size=run_id, recipe=DEFAULT_RECIPE, state="waiting", **nothing
        )
    return RunStatus(
        **fields_from(RunStatus, work),
        run_id=run_id,
        state="waiting",
        flops_left=work.own_flops,
        seconds_left=work.seconds or None,
    )


def _begun(run: RunFolder, spec: RunSpec, moment: Moment) -> RunStatus:
    """By its specification and what it has logged: it has begun, or waits."""
    job, path = spec.job, run.path
    last = last_progress(path)
    pace = pace_of(read_progress(path)[0]) if last else Pace()
    heartbeat = modified(run.progress_path)
    silent = max(0.0, moment.now - heartbeat)
    state = _state(run, spec, last, pace, moment)
    under_way = state in UNDER_WAY
    # Of a run that nobody trains, what was logged after its checkpoint is trained again.
    step = last["step"] if last and under_way else saved_step(path)
    done = min(step * job.batch_tokens, job.tokens)
    first = _start_step(run, spec)
    left = work_left(job, max(min(step, job.steps), first))
    status: dict[str, Any] = {
        **fields_from(RunStatus, run_row(job, "running", "")),
        "state": state,
        "parent": _parent(run, spec),
        "tokens_done": done,
        "own_flops": _flops(job, first),
        "flops_left": float(left.tokens) * job.flops_per_token,
        "evaluated_tokens_left": left.evaluations * (spec.validation_tokens or 0),
    }
    if state == "stalled":
        status["note"] = f"nothing logged for {silent:.0f} s; see {run.log_path}"
    elif not under_way:
        status["note"] = _damage_of_log(run)
    if last is not None:
        speed, peak = last["tokens_per_second"], spec.conditions.peak_flops
        own_share = max(0, done - first * job.batch_tokens) / done if done else 0.0
        is_logging = state == "running" and heartbeat >= moment.began
        status |= {
            "train_loss": last["train_loss"],
            "tokens_per_second": speed,
            "seconds_spent": last["seconds"] * own_share,
            "seconds_left": pace.seconds_left(
                left, _evaluation_seconds(spec, speed), silent if is_logging else 0.0
            ),
        }
        if speed and peak:
            status["mfu"] = speed * job.flops_per_token / peak
    return RunStatus(**status)


def _state(
    run: RunFolder, spec: RunSpec, last: dict[str, Any] | None, pace: Pace, moment: Moment
) -> str:
    if last is not None and not moment.under_way:
        return "stopped"
    heartbeat = modified(run.progress_path)
    if last is not None and heartbeat >= moment.began:
        interval = last["seconds"] * spec.job.log_every / max(1, last["step"])
        patience = max(STALLED_SECONDS, STALLED_INTERVALS * interval)
        evaluation = pace.evaluation_seconds
        if evaluation is None:
            evaluation = _evaluation_seconds(spec, pace.tokens_per_second) or 0.0
        is_late = moment.now - heartbeat > patience + _EVALUATIONS_WAITED * evaluation
        return "stalled" if is_late else "running"
    has_worker = moment.under_way and heartbeat < moment.began and lock_holder(run.path) is not None
    return "running" if has_worker else "waiting"  # if running, it has logged nothing so far


def _evaluation_seconds(spec: RunSpec, tokens_per_second: float | None) -> float | None:
    """How long an evaluation takes at a training speed; None if that is not known."""
    if not tokens_per_second:
        return None
    return (spec.validation_tokens or 0) / (EVALUATION_SPEED * tokens_per_second)


def _damage_of_log(run: RunFolder) -> str | None:
    damage = damaged_lines(run.path)
    if not damage:
        return None
    lines = f"line {damage[0]}" if len(damage) == 1 else f"lines {listed(damage)}"
    anew = "the same command writes it anew"
    return f"{run.progress_path}, {lines}: damaged, and left out; {anew}"


def _own_flops(run: RunFolder, row: Run) -> float:
    """Without those of its trunk, as far as the folder says how many these are."""
    spec = known_spec(run) if row.parent is not None else None
    return row.flops if spec is None else _flops(spec.job, _start_step(run, spec))


def _flops(job: Job, step: int) -> float:
    """Training FLOPs of `job` after its first steps."""
    return float(work_left(job, step).tokens) * job.flops_per_token


def _start_step(run: RunFolder, spec: RunSpec) -> int:
    """Of the branch point that a run starts from, as the run that saves it says; else 0."""
    start = start_of(run, spec)
    trunk = known_spec(RunFolder(start.parent)) if start else None
    if start is None or trunk is None:
        return 0
    steps = [step for step, name in trunk.branch_points.items() if name == start.name]
    return steps[0] if steps else 0


def _parent(run: RunFolder, spec: RunSpec) -> str | None:
    """The run that a branch starts from."""
    start = start_of(run, spec)
    return start.parent.name if start else None


def modified(path: Path) -> float:
    """When `path` was last written, in seconds since 1970; 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

"""How a sweep stands, from its folder alone: while it runs, after it was killed, and when only its tables are left.

Reads what the sweep and its workers write; asks nobody, writes nothing and loads no torch.
"""

import fcntl
import heapq
import itertools
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.command_lines import command_line, stated_command
from llmscale.errors import InputError
from llmscale.job import Job
from llmscale.lock import FILE_NAME as LOCK_NAME
from llmscale.progress import FILE_NAME, last_progress, read_progress
from llmscale.remote import is_url
from llmscale.runs import ResultsFolder

if TYPE_CHECKING:
    import pyarrow.parquet as pq

ENDED = ("done", "diverged", "failed")
UNDER_WAY = ("running", "stalled")
STALLED_SECONDS = 60.0
STALLED_INTERVALS = 10.0
"""A run is stalled when it has logged nothing for this many of its usual intervals, and for STALLED_SECONDS."""
WORKER_LOG = "worker.log"


@dataclass(frozen=True)
class RunStatus:
    """How one run stands. `state` is done, diverged, failed, running, stalled, stopped (resumable) or waiting."""

    run_id: str
    size: str
    recipe: str
    params: int
    tokens: int
    seed: int
    state: str
    tokens_done: int
    flops: float
    flops_left: float
    """What is still to be trained of it here: of a trunk's branch, the part after the branch point."""
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

    @property
    def share_done(self) -> float:
        return self.tokens_done / self.tokens


@dataclass(frozen=True)
class SweepStatus:
    """How a sweep stands: its runs by growing size and budget, and what is left of it."""

    folder: str
    """Its path or URL."""
    command: str | None
    holder: str | None
    """The process that carries it out, or None where nobody does."""
    runs: tuple[RunStatus, ...]
    workers: int
    device: str
    device_hours: float
    """Spent so far: hours of GPUs, or of cores on the CPU."""
    seconds_left: float | None
    """Until the last run ends, at the speeds measured so far; None where no speed is known yet."""

    @property
    def counts(self) -> dict[str, int]:
        """Runs by state."""
        return dict(Counter(run.state for run in self.runs))

    @property
    def finished(self) -> bool:
        """Whether no run is left to train: a failed one is, by the next command."""
        return all(run.state in ("done", "diverged") for run in self.runs)

    @property
    def flops(self) -> float:
        """Training FLOPs of all runs, as if each were trained from its first step."""
        return sum(run.flops for run in self.runs)

    @property
    def flops_left(self) -> float:
        return sum(run.flops_left for run in self.runs)

    @property
    def unit(self) -> str:
        """What `device_hours` counts."""
        return "core" if self.device == "cpu" else "GPU"

    @property
    def next_command(self) -> str:
        """What to do now."""
        if self.holder:
            return command_line("llmscale", "status", self._place, "--watch")
        if self.finished:
            return command_line("llmscale", "fit", self._place)
        stated = stated_command(self.command, "sweep", "tune")
        return stated or f"the command that began it, with {command_line('--out', self._place)}"

    @property
    def _place(self) -> str | Path:
        return self.folder if is_url(self.folder) else Path(self.folder)

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "command": self.command,
            "holder": self.holder,
            "finished": self.finished,
            "counts": self.counts,
            "workers": self.workers,
            "device": self.device,
            "flops": self.flops,
            "flops_left": self.flops_left,
            "seconds_left": self.seconds_left,
            "device_hours": self.device_hours,
            "device_hours_of": self.unit,
            "next": self.next_command,
            "runs": [{**asdict(run), "share_done": run.share_done} for run in self.runs],
        }


@dataclass(frozen=True)
class LossCurve:
    """The training loss of a run by tokens."""

    run_id: str
    size: str
    params: int
    tokens: Sequence[int]
    train_loss: Sequence[float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def sweep_status(folder: ResultsFolder, where: str | None = None) -> SweepStatus:
    """How the sweep in `folder` stands, a copy of what is at `where`. Raises InputError where there is none."""
    rows = _table_rows(folder)
    sweep = folder.read_sweep() if folder.sweep_path.exists() or not rows else {}
    hardware = sweep.get("hardware", {})
    holder = lock_holder(folder.path)
    began = _modified(folder.path / LOCK_NAME)
    now = time.time()
    runs = []
    for run_id in dict.fromkeys([*sweep.get("runs", []), *rows]):
        row = rows.get(run_id)
        if row is None or row["status"] not in ("done", "diverged"):
            found = _unfinished(folder.run_folder(run_id), row, holder is not None, began, now)
            if found is not None:
                runs.append(found)
        else:
            runs.append(_ended(row))
    runs.sort(key=lambda run: (run.params, run.tokens, run.seed, run.recipe, run.run_id))
    workers = max(1, hardware.get("workers") or 1)
    device = hardware.get("device") or "cpu"
    per_place = max(1, (hardware.get("cores") or 1) // workers) if device == "cpu" else 1
    timed = tuple(_with_time_left(runs, workers))
    return SweepStatus(
        where or str(folder.path),
        sweep.get("command"),
        holder,
        timed,
        workers,
        device,
        sum(run.seconds_spent for run in timed) * per_place / 3600,
        _makespan(timed, workers, holder is not None),
    )


def loss_curves(folder: ResultsFolder, runs: Iterable[RunStatus]) -> list[LossCurve]:
    """The training losses of `runs` as far as they are logged; runs without any are left out."""
    chosen = {run.run_id: run for run in runs}
    points: dict[str, tuple[list[int], list[float]]] = {run_id: ([], []) for run_id in chosen}
    if folder.curves_path.exists():
        for batch in _parquet(folder.curves_path).iter_batches(columns=["run_id", "tokens", "train_loss"]):
            ids, start = batch["run_id"], 0
            names = ids.dictionary.to_pylist()
            for code, alike in itertools.groupby(ids.indices.to_pylist()):
                rows = sum(1 for _ in alike)
                if names[code] in chosen:
                    logged, losses = points[names[code]]
                    logged += batch["tokens"].slice(start, rows).to_pylist()
                    losses += batch["train_loss"].slice(start, rows).to_pylist()
                start += rows
    for run_id, (logged, losses) in points.items():
        if not logged:
            for row in read_progress(folder.run_folder(run_id))[0]:
                logged.append(row["tokens"])
                losses.append(row["train_loss"])
    return [
        LossCurve(run_id, chosen[run_id].size, chosen[run_id].params, *found)
        for run_id, found in points.items()
        if found[0]
    ]


def lock_holder(path: Path) -> str | None:
    """Who holds the folder of a sweep, or of a run, as its lock file says; None where nobody does."""
    try:
        with (path / LOCK_NAME).open(encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip() or "another process"
    except OSError:
        pass
    return None


def _table_rows(folder: ResultsFolder) -> dict[str, dict[str, Any]]:
    """The rows of runs.parquet by id, read once."""
    if not folder.runs_path.exists():
        return {}
    rows = _parquet(folder.runs_path).read().to_pylist()
    return {row["run_id"]: row for row in rows}


def _parquet(path: Path) -> "pq.ParquetFile":
    """A table of the sweep. (pyarrow's shorter ways to read one load pandas.)"""
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, read_dictionary=["run_id"])
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", "name a folder that a sweep wrote") from error


def _ended(row: dict[str, Any]) -> RunStatus:
    left = row["flops"] if row["status"] == "failed" else 0.0
    return RunStatus(
        row["run_id"],
        row["size"],
        row.get("recipe") or "default",
        row["params"],
        row["tokens"],
        row["seed"],
        row["status"],
        row["tokens"] if row["status"] == "done" else 0,
        row["flops"],
        left,
        row["loss"],
        row["train_loss"],
        row["tokens_per_second"],
        row["mfu"],
        row["seconds"] or 0.0,
        None,
        row["error"],
    )


def _unfinished(path: Path, row: dict[str, Any] | None, under_way: bool, began: float, now: float) -> RunStatus | None:
    """A run that the table does not have as finished, from its folder; None where nothing is known of it.

    `began` is when the sweep took its lock: what is older is of an earlier command.
    """
    try:
        return _ended(json.loads((path / "run.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        pass
    spec_path = path / "spec.json"
    if not spec_path.exists():
        return _ended({**row, "status": "stopped" if row["status"] == "running" else row["status"]}) if row else None
    job, conditions, start_tokens = _spec(spec_path, spec_path.stat().st_mtime_ns)
    last = last_progress(path)
    heartbeat = _modified(path / FILE_NAME)
    state, note, done, age = "waiting", None, 0, max(0.0, now - heartbeat)
    if under_way and heartbeat < began and lock_holder(path) is not None:
        state = "running"  # and has logged nothing so far
    if last is not None:
        done = min(last["tokens"], job.tokens)
        interval = last["seconds"] * job.log_every / max(1, last["step"])
        if not under_way:
            state = "stopped"
        elif heartbeat >= began:
            is_late = age > max(STALLED_SECONDS, STALLED_INTERVALS * interval)
            state = "stalled" if is_late else "running"
            note = f"nothing logged for {age:.0f} s; see {path / WORKER_LOG}" if is_late else None
    own_share = max(0, done - start_tokens) / done if done else 0.0
    speed = last["tokens_per_second"] if last else None
    peak = conditions.get("peak_flops")
    pace = last["seconds"] / last["tokens"] if last and last["tokens"] else None
    waited = age if state == "running" and heartbeat >= began else 0.0
    return RunStatus(
        job.run_id,
        job.size,
        getattr(job, "recipe", None) or "default",
        job.shape.params,
        job.tokens,
        job.seed,
        state,
        done,
        job.flops,
        (job.tokens - max(done, start_tokens)) * float(job.shape.flops_per_token),
        None,
        last["train_loss"] if last else None,
        speed,
        speed * job.shape.flops_per_token / peak if speed and peak else None,
        last["seconds"] * own_share if last else 0.0,
        max(0.0, pace * (job.tokens - done) - waited) if pace is not None else None,
        note,
    )


@lru_cache(maxsize=1 << 16)
def _spec(path: Path, modified: int) -> tuple[Job, dict[str, Any], int]:
    """The job of a spec.json, its conditions, and the tokens that another run trains of it."""
    spec = json.loads(path.read_text(encoding="utf-8"))
    job = Job.from_json(spec["job"])
    return job, spec["conditions"], _start_step(path.parent, spec) * job.batch_tokens


def _start_step(path: Path, spec: dict[str, Any]) -> int:
    """The step of the branch point that a run starts from, as the run that saves it says; 0 without one."""
    if not spec.get("start"):
        return 0
    start = (path / spec["start"]).resolve()
    try:
        points = json.loads(start.with_name("spec.json").read_text(encoding="utf-8")).get("branch_points", {})
    except (OSError, ValueError):
        return 0
    return next((int(step) for step, name in points.items() if name == start.name), 0)


def _with_time_left(runs: Sequence[RunStatus], workers: int) -> Iterator[RunStatus]:
    """`runs` with the time that each will take: by its own pace, or by the speed of the nearest size measured."""
    found: dict[int, list[float]] = {}
    for run in runs:
        if run.tokens_per_second:
            found.setdefault(run.params, []).append(run.tokens_per_second * run.flops / run.tokens)
    speeds = {math.log(params): statistics.median(of_size) for params, of_size in found.items()}
    # Stacked seeds log the speed of all of them together.
    stacked = max(1.0, sum(run.state in UNDER_WAY for run in runs) / workers)
    for run in runs:
        if run.state in ("done", "diverged"):
            yield run
        elif run.seconds_left is not None:
            yield replace(run, seconds_left=run.seconds_left * (stacked if run.state in UNDER_WAY else 1.0))
        else:
            nearest = _nearest(speeds, math.log(run.params))
            yield replace(run, seconds_left=run.flops_left / nearest) if nearest else run


def _nearest(speeds: dict[float, float], size: float) -> float | None:
    """The speed of the measured size next to `size`, both in logarithms."""
    return speeds[min(speeds, key=lambda other: abs(other - size))] if speeds else None


def _makespan(runs: Sequence[RunStatus], workers: int, under_way: bool) -> float | None:
    """Seconds until all are trained: those under way, then the longest first, each by the first worker free.

    A sweep that is under way does not try failed runs again.
    """
    left = [run for run in runs if run.state not in ("done", "diverged") and not (under_way and run.state == "failed")]
    if any(run.seconds_left is None for run in left):
        return None
    running = [run.seconds_left or 0.0 for run in left if run.state in UNDER_WAY]
    if len(running) > workers:
        running = [seconds * workers / len(running) for seconds in running]
    waiting = sorted((run.seconds_left or 0.0 for run in left if run.state not in UNDER_WAY), reverse=True)
    free = [0.0] * workers
    for seconds in [*running, *waiting]:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def _modified(path: Path) -> float:
    """When `path` was last written, in seconds since 1970; 0 where it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

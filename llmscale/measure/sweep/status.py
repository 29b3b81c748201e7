"""How a sweep stands, from its folder alone: while it runs, after it was killed, and when only its
tables are left.

Reads what the sweep and its workers write; asks nobody, writes nothing and loads no torch.
"""

import itertools
import math
import os
import shlex
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line, stated_command
from llmscale.measure.sweep.makespan import Duration, makespan
from llmscale.measure.sweep.remaining import PlannedWork
from llmscale.measure.sweep.run_status import (
    NOTHING_LEFT,
    UNDER_WAY,
    Look,
    RunStatus,
    ended,
    modified,
    own_flops_of,
    unfinished,
    unknown,
)
from llmscale.measure.train.job import EVALUATION_SPEED
from llmscale.runs.checked import DamagedFile, check_list, plain_file, read_object, typed
from llmscale.runs.folder import REMAKE, ResultsFolder, Run, is_plain
from llmscale.runs.lock import FILE_NAME as LOCK_NAME
from llmscale.runs.lock import lock_holder
from llmscale.runs.log import read_progress
from llmscale.runs.remote import is_url
from llmscale.runs.rows import read_rows
from llmscale.runs.sweep_json import check_sweep

if TYPE_CHECKING:
    import pyarrow.parquet as pq

ENDED = ("done", "diverged", "failed")


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
    notes: tuple[str, ...] = ()
    """What is damaged in the folder, and what helps."""
    tuned: bool | None = None
    """Whether every search of a `tune` has ended; None of a sweep."""
    tuned_for: tuple[str, ...] = ()
    """The sizes and the text of a `tune`, as options of a sweep."""

    @property
    def counts(self) -> dict[str, int]:
        """Runs by state."""
        return dict(Counter(run.state for run in self.runs))

    @property
    def finished(self) -> bool:
        """Whether no run is left to train: a failed one is, by the next command."""
        return self.tuned is not False and all(run.state in NOTHING_LEFT for run in self.runs)

    @property
    def flops(self) -> float:
        """Training FLOPs of all runs: a trunk once, and the cooldowns that branch off it."""
        return sum(run.own_flops for run in self.runs)

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
        if self.finished and self.tuned:
            return command_line("llmscale", "sweep", *self.tuned_for, "--rule", self._place)
        if self.finished:
            return command_line("llmscale", "fit", self._place)
        stated = stated_command(self.command, "sweep", "tune")
        if stated is not None:
            return _with_place(stated, self._place)
        return f"the command that began it, with {command_line('--out', self._place)}"

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
            "warnings": list(self.notes),
            "runs": [{**asdict(run), "share_done": run.share_done} for run in self.runs],
        }


def _with_place(stated: str, place: str | Path) -> str:
    """A sweep's own command for the folder `place`, which may be a copy, to be read by people:
    without --json.
    """
    parts, words = [], iter(shlex.split(stated))
    for word in words:
        if word == "--out":
            next(words, None)
        elif word != "--json" and not word.startswith("--out="):
            parts.append(word)
    return command_line(*parts, "--out", place)


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
    """How the sweep in `folder` stands, a copy of what is at `where`. Raises InputError where there
    is none.

    A damaged file is told of in the notes, and what it would say is taken from the others.
    """
    damaged: list[InputError] = []
    rows = _table_rows(folder, damaged)
    sweep = _sweep(folder, damaged)
    tuning = {} if sweep else _tuning(folder, damaged)
    in_folder = [] if sweep else _run_ids(folder)
    if not (sweep or rows or in_folder):
        raise (
            damaged[0]
            if damaged
            else InputError(f"there is no sweep in {folder.path}", "name one that a sweep wrote")
        )
    hardware = {**tuning, **sweep}.get("hardware", {})
    holder = lock_holder(folder.path)
    began = modified(folder.path / LOCK_NAME)
    now = time.time()
    runs = []
    planned = sweep.get("planned", {})
    for run_id in dict.fromkeys([*sweep.get("runs", []), *in_folder, *rows]):
        row, work = rows.get(run_id), _planned(planned.get(run_id))
        if row is None or row.status not in ("done", "diverged"):
            look = Look(folder.run_folder(run_id), row, work, holder is not None, began, now)
            runs.append(unfinished(look, damaged) or unknown(run_id, work))
        else:
            runs.append(ended(row, own_flops_of(folder, row, work)))
    runs.sort(key=lambda run: (run.params, run.tokens, run.seed, run.recipe, run.run_id))
    workers = max(1, hardware.get("workers") or 1)
    device = hardware.get("device") or "cpu"
    per_place = max(1, (hardware.get("cores") or 1) // workers) if device == "cpu" else 1
    timed = tuple(_with_time_left(runs, workers))
    return SweepStatus(
        where or str(folder.path),
        {**tuning, **sweep}.get("command"),
        holder,
        timed,
        workers,
        device,
        sum(run.seconds_spent for run in timed) * per_place / 3600,
        seconds_left(timed, workers, holder is not None),
        tuple(f"{damage.problem}; {damage.fix}" for damage in damaged),
        all(rung.get("finished") is True for rung in tuning["rungs"]) if tuning else None,
        _tuned_for(tuning, timed),
    )


def loss_curves(folder: ResultsFolder, runs: Iterable[RunStatus]) -> list[LossCurve]:
    """The training losses of `runs` as far as they are logged; runs without any are left out."""
    chosen = {run.run_id: run for run in runs}
    points: dict[str, tuple[list[int], list[float]]] = {run_id: ([], []) for run_id in chosen}
    with suppress(FileNotFoundError), _readable(folder.curves_path):
        for batch in _parquet(folder.curves_path).iter_batches(
            columns=["run_id", "tokens", "train_loss"]
        ):
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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises DamagedFile where reading raises what pyarrow does."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(path, str(error), REMAKE) from error


def _table_rows(folder: ResultsFolder, damaged: list[InputError]) -> dict[str, Run]:
    """The rows of runs.parquet by id."""
    try:
        return read_rows(folder.runs_path)[0]
    except DamagedFile as error:
        damaged.append(error)
    except FileNotFoundError:
        pass
    return {}


def _sweep(folder: ResultsFolder, damaged: list[InputError]) -> dict[str, Any]:
    if not folder.sweep_path.exists():
        return {}
    try:
        return folder.read_sweep()
    except DamagedFile as error:
        damaged.append(error)
        return {}


def _tuning(folder: ResultsFolder, damaged: list[InputError]) -> dict[str, Any]:
    """What the tune.json of a folder says of how its search stands; nothing where there is none."""
    path = folder.path / "tune.json"
    try:
        tuning = read_object(path)
        check_sweep(tuning)
        check_list(tuning.get("rungs"), dict, "rungs")
    except FileNotFoundError:
        return {}
    except DamagedFile as error:
        damaged.append(error)
        return {}
    except ValueError as error:
        damaged.append(DamagedFile(path, str(error)))
        return {}
    return tuning


def _tuned_for(tuning: dict[str, Any], runs: Sequence[RunStatus]) -> tuple[str, ...]:
    spec = tuning.get("spec", {})
    data, recipe = spec.get("data"), spec.get("recipe")
    words = ["--sizes", ",".join(dict.fromkeys(run.size for run in runs))]
    tokens = spec.get("tokens")
    if isinstance(tokens, list) and tokens:
        words += ["--tokens", ",".join(map(str, tokens))]
    for table, name, option in (
        (data, "source", "data"),
        (data, "tokenizer", "tokenizer"),
        (recipe, "context", "context"),
    ):
        value = table.get(name) if isinstance(table, dict) else None
        if isinstance(value, str | int):
            words += [f"--{option}", str(value)]
    return tuple(words)


def _run_ids(folder: ResultsFolder) -> list[str]:
    """The runs that have folders, for a sweep whose sweep.json does not name them."""
    try:
        return sorted(name for name in os.listdir(folder.path / "runs") if is_plain(name))
    except OSError:
        return []


def _planned(work: dict[str, Any] | None) -> PlannedWork | None:
    """What sweep.json says of a run that was planned; None where it says nothing, or nothing of
    use.
    """
    with suppress(ValueError):
        found: PlannedWork | None = typed(PlannedWork, work) if work is not None else None
        return found
    return None


def _parquet(path: Path) -> "pq.ParquetFile":
    """A table of the sweep. (pyarrow's shorter ways to read one load pandas.)"""
    import pyarrow.parquet as pq

    return pq.ParquetFile(
        plain_file(path), read_dictionary=["run_id"], page_checksum_verification=True
    )


def _with_time_left(runs: Sequence[RunStatus], workers: int) -> Iterator[RunStatus]:
    """`runs` with the time that each will take: by its own pace, or by the speed of the nearest
    size measured.
    """
    found: dict[int, list[float]] = {}
    for run in runs:
        if run.tokens_per_second:
            found.setdefault(run.params, []).append(run.tokens_per_second * run.flops / run.tokens)
    speeds = {math.log(params): statistics.median(of_size) for params, of_size in found.items()}
    # Stacked seeds log the speed of all of them together.
    stacked = max(1.0, sum(run.state in UNDER_WAY for run in runs) / workers)
    for run in runs:
        if run.state in NOTHING_LEFT:
            yield run
        elif run.seconds_left is not None:
            yield replace(
                run, seconds_left=run.seconds_left * (stacked if run.state in UNDER_WAY else 1.0)
            )
        else:
            nearest = _nearest(speeds, math.log(run.params or 1))
            evaluating = (
                run.evaluated_tokens_left
                / EVALUATION_SPEED
                * (run.flops / run.tokens if run.tokens else 0.0)
            )
            yield (
                replace(run, seconds_left=(run.flops_left + evaluating) / nearest)
                if nearest
                else run
            )


def _nearest(speeds: dict[float, float], size: float) -> float | None:
    """The speed of the measured size next to `size`, both in logarithms."""
    return speeds[min(speeds, key=lambda other: abs(other - size))] if speeds else None


def seconds_left(runs: Sequence[RunStatus], workers: int, under_way: bool) -> float | None:
    """Seconds until all are trained. A sweep that is under way does not try failed runs again."""
    ended = (*NOTHING_LEFT, "failed") if under_way else NOTHING_LEFT
    left = [run for run in runs if run.state not in ended]
    if any(run.seconds_left is None for run in left):
        return None
    workers = max(1, min(workers, len(left)))
    # Of stacked runs several share a worker.
    idle = ("waiting", "stopped", "failed")
    running = sum(run.state not in idle for run in left)
    share = min(1.0, workers / running) if running else 1.0
    durations = []
    for run in left:
        is_running, seconds = run.state not in idle, run.seconds_left or 0.0
        durations.append(
            Duration(seconds * share if is_running else seconds, is_under_way=is_running)
        )
    return makespan(durations, workers)

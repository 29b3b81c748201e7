"""How a sweep stands, from its folder: while it runs, after it was killed, and when only its tables
are left.

Reads what the sweep and its workers write; asks nobody, writes nothing and loads no torch."""

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.measure.sweep.makespan import Duration, makespan
from llmscale.measure.sweep.remaining import PlannedWork
from llmscale.measure.sweep.run_status import Moment, RunStatus, modified, run_status
from llmscale.measure.train.job import EVALUATION_SPEED
from llmscale.quantity import format_count, format_seconds
from llmscale.runs.checked import DamagedFile, check_list, read_object, typed
from llmscale.runs.lock import FILE_NAME as LOCK_NAME
from llmscale.runs.lock import lock_holder
from llmscale.runs.own_command import missing_file, resumed, sweep_by_rule
from llmscale.runs.remote import is_url, results_at
from llmscale.runs.results_folder import ResultsFolder, newest_results
from llmscale.runs.rows import REPEATED, read_rows
from llmscale.runs.run import Run
from llmscale.runs.safe_paths import refuse_unusable
from llmscale.runs.sweep_json import check_sweep

_HEADINGS = ("size", "tokens", "seed", "state", "done", "loss", "left")
_ORDER = ("done", "diverged", "stopped early", "failed", "stalled", "running", "stopped", "waiting")


@dataclass(frozen=True)
class SweepStatus:
    """How a sweep stands: its runs by growing size and budget, and what is left of it."""

    folder: str
    """Its path or URL."""
    command: str | None
    holder: str | None
    """The process that carries it out, or None if nobody does."""
    runs: tuple[RunStatus, ...]
    workers: int
    device: str
    device_hours: float
    """Spent so far: hours of GPUs, or of cores on the CPU."""
    seconds_left: float | None
    """Until the last run ends, at the speeds measured so far; None if no speed is known yet."""
    notes: tuple[str, ...] = ()
    """What is damaged in the folder, and what helps."""
    tuned: bool | None = None
    """Whether every search of a `tune` has ended; None of a sweep."""
    has_table: bool = True
    """Whether its runs.parquet is there and whole."""

    @property
    def counts(self) -> dict[str, int]:
        """Runs by state."""
        return dict(Counter(run.state for run in self.runs))

    @property
    def finished(self) -> bool:
        """Whether no run is left to train: a failed one is, by the next command."""
        return self.tuned is not False and all(run.is_finished for run in self.runs)

    @property
    def flops(self) -> float:
        """Training FLOPs of all runs: a trunk once, and the cooldowns that branch off it."""
        return sum(run.own_flops for run in self.runs)

    @property
    def flops_left(self) -> float:
        return sum(run.flops_left for run in self.runs)

    @property
    def summary(self) -> str:
        """Its runs by state and what is left, in a line."""
        counts = self.counts
        said = ", ".join(f"{counts[state]} {state}" for state in _ORDER if state in counts)
        if self.finished:
            return f"{said}; nothing is left to train"
        left = "time left unknown until a run has logged"
        if self.seconds_left is not None:
            left = f"about {format_seconds(self.seconds_left)} left, {self.workers} at a time"
        return f"{said}; {self.flops_left:.2g} of {self.flops:.2g} FLOPs to train, {left}"

    @property
    def unit(self) -> str:
        """What `device_hours` counts."""
        return "core" if self.device == "cpu" else "GPU"

    @property
    def next_command(self) -> str:
        """What to do now."""
        if self.holder:
            return command_line("llmscale", "status", self._place, "--watch")
        if self.finished and not self.has_table:
            return self._again
        if self.finished and self.tuned:
            sizes = dict.fromkeys(run.size for run in self.runs)
            return sweep_by_rule(self.command, sizes, self._place)
        if self.finished:
            recipes = {run.recipe for run in self.runs}
            by = ["--by", "recipe"] if len(recipes) > 1 else []
            return command_line("llmscale", "fit", self._place, *by)
        return self._again

    @property
    def _again(self) -> str:
        """The command that goes on with it, or makes its tables anew."""
        if named := missing_file(self.command):
            place = self._place.absolute() if isinstance(self._place, Path) else self._place
            return f"from the folder that holds {named}: {resumed(self.command, place)}"
        unknown = f"the command that began it, with {command_line('--out', self._place)}"
        return resumed(self.command, self._place) or unknown

    @property
    def _place(self) -> str | Path:
        return self.folder if is_url(self.folder) else Path(self.folder)

    def __repr__(self) -> str:
        return f"<sweep {self.folder}: {self.summary}>"

    def _repr_html_(self) -> str:
        """A table of the runs, for notebooks."""
        headings = "".join(f"<th>{name}</th>" for name in _HEADINGS)
        rows = "".join(f"<tr>{_cells(run)}</tr>" for run in self.runs)
        notes = "".join(f"<p>warning: {escape(note)}</p>" for note in self.notes)
        title = f"<p><b>{escape(self.folder)}</b>: {escape(self.summary)}</p>"
        return f"{title}<table><tr>{headings}</tr>{rows}</table>{notes}"

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


def status(folder: str | Path | None = None) -> SweepStatus:
    """How a sweep stands, from its folder or URL; None is the newest sweep under results/.

    While it runs, after it was killed, and when only its tables are left. What is at a URL is
    fetched first. Raises InputError if there is no sweep."""
    where = None if folder is None else str(folder)
    if where is None or not is_url(where):
        return sweep_status(find_results(where))
    from llmscale.measure.sweep.remote_results import fetch_results

    remote = results_at(where)
    fetch_results(remote, look_only=True)
    return sweep_status(ResultsFolder(remote.folder), where)


def find_results(where: str | None) -> ResultsFolder:
    """The folder named `where`, or the mirror of that URL, or for None the newest under results/.
    Raises InputError if there can be none of that name."""
    if where is None:
        return newest_results()
    if is_url(where):
        return ResultsFolder(results_at(where).folder)
    fix = "name a folder that a sweep wrote"
    if not where.strip():
        raise InputError("the name of the folder is empty", fix)
    path = refuse_unusable(Path(where), fix)
    if path.exists() and not path.is_dir():
        table = command_line("llmscale", "fit", path)
        raise InputError(
            f"{path} is a file, not a results folder", f"{fix}; a table of runs is read by: {table}"
        )
    return ResultsFolder(path)


def sweep_status(folder: ResultsFolder, where: str | None = None) -> SweepStatus:
    """How the sweep in `folder` stands, a copy of what is at `where`. Raises InputError if there is
    none. A damaged file is told of in the notes, and what it would say is taken from the others."""
    damaged: list[InputError] = []
    rows = _table_rows(folder, damaged)
    has_table = folder.runs_path.is_file() and not any(
        isinstance(damage, DamagedFile) for damage in damaged
    )
    stated = _stated(folder, damaged)
    is_tune = "rungs" in stated
    names_runs = bool(stated) and not is_tune
    in_folder = [] if names_runs else [run.run_id for run in folder.run_folders]
    if not (names_runs or rows or in_folder):
        none = InputError(f"there is no sweep in {folder.path}", "name one that a sweep wrote")
        raise damaged[0] if damaged else none
    holder = lock_holder(folder.path)
    moment = Moment(holder is not None, modified(folder.path / LOCK_NAME), time.time())
    planned = stated.get("planned", {})
    runs = [
        run_status(
            folder.run_folder(run_id), rows.get(run_id), _planned(planned, run_id), moment, damaged
        )
        for run_id in dict.fromkeys([*stated.get("runs", []), *in_folder, *rows])
    ]
    runs.sort(key=lambda run: (run.params, run.tokens, run.seed, run.recipe, run.run_id))
    hardware = stated.get("hardware", {})
    workers = max(1, hardware.get("workers") or 1)
    device = hardware.get("device") or "cpu"
    cores_each = max(1, (hardware.get("cores") or 1) // workers) if device == "cpu" else 1
    timed = tuple(_with_time_left(runs, workers))
    return SweepStatus(
        folder=where or str(folder.path),
        command=stated.get("command"),
        holder=holder,
        runs=timed,
        workers=workers,
        device=device,
        device_hours=sum(run.seconds_spent for run in timed) * cores_each / 3600,
        seconds_left=seconds_left(timed, workers, moment.under_way),
        notes=tuple(f"{damage.problem}; {damage.fix}" for damage in damaged),
        tuned=all(rung.get("finished") is True for rung in stated["rungs"]) if is_tune else None,
        has_table=has_table,
    )


def _table_rows(folder: ResultsFolder, damaged: list[InputError]) -> dict[str, Run]:
    """The rows of runs.parquet by id."""
    try:
        rows, noted = read_rows(folder.runs_path)
        if noted[REPEATED]:
            problem = f"{noted[REPEATED]} stand in more than one row of {folder.runs_path}"
            damaged.append(InputError(problem, "here each counts once; to a fit each row is a run"))
        return rows
    except DamagedFile as error:
        damaged.append(error)
    except FileNotFoundError:
        pass
    return {}


def _stated(folder: ResultsFolder, damaged: list[InputError]) -> dict[str, Any]:
    """What sweep.json says, or tune.json of a search, which has `rungs`; else nothing."""
    if folder.sweep_path.exists():
        try:
            if sweep := folder.read_sweep():
                return sweep
        except DamagedFile as error:
            damaged.append(error)
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


def _planned(planned: dict[str, Any], run_id: str) -> PlannedWork | None:
    """What sweep.json says of a run that was planned; None if it says nothing of use."""
    with suppress(ValueError):
        if run_id in planned:
            work: PlannedWork = typed(PlannedWork, planned[run_id])
            return work
    return None


def _with_time_left(runs: Sequence[RunStatus], workers: int) -> Iterator[RunStatus]:
    """`runs` with the time that each will take: by its own pace, or by the speed of the nearest
    size measured."""
    measured: dict[int, list[float]] = {}
    for run in runs:
        if run.tokens_per_second:
            flops_per_second = run.tokens_per_second * run.flops / run.tokens
            measured.setdefault(run.params, []).append(flops_per_second)
    speeds = {math.log(params): statistics.median(found) for params, found in measured.items()}
    # Stacked seeds log the speed of all of them together.
    stacked = max(1.0, sum(run.is_under_way for run in runs) / workers)
    for run in runs:
        if run.is_finished:
            yield run
        elif run.seconds_left is None:
            yield replace(run, seconds_left=_seconds_at(speeds, run))
        else:
            factor = stacked if run.is_under_way else 1.0
            yield replace(run, seconds_left=run.seconds_left * factor)


def _seconds_at(speeds: dict[float, float], run: RunStatus) -> float | None:
    """What is left of a run at the speed, in FLOP/s by log size, of the size next to its own."""
    if not speeds:
        return None
    size = math.log(run.params or 1)
    speed = speeds[min(speeds, key=lambda other: abs(other - size))]
    flops_per_token = run.flops / run.tokens if run.tokens else 0.0
    evaluating = run.evaluated_tokens_left / EVALUATION_SPEED * flops_per_token
    return (run.flops_left + evaluating) / speed


def seconds_left(runs: Sequence[RunStatus], workers: int, under_way: bool) -> float | None:
    """Until all are trained: those under way, then the longest first, each by the first worker
    free. A sweep that is under way does not try failed runs again."""
    left = [run for run in runs if not run.is_finished]
    if under_way:
        left = [run for run in left if run.state != "failed"]
    if any(run.seconds_left is None for run in left):
        return None
    workers = max(1, min(workers, len(left)))
    busy = [run.seconds_left or 0.0 for run in left if run.is_under_way]
    if len(busy) > workers:
        busy = [seconds * workers / len(busy) for seconds in busy]
    waiting = [Duration(run.seconds_left or 0.0) for run in left if not run.is_under_way]
    return makespan(waiting, workers, busy)


def _cells(run: RunStatus) -> str:
    """Those of a run's row in HTML."""
    loss = "" if run.loss is None else f"{run.loss:.4f}"
    left = "" if run.seconds_left is None else format_seconds(run.seconds_left)
    done = f"{run.share_done:.0%}"
    tokens = format_count(run.tokens)
    values = (run.size, tokens, str(run.seed), run.state, done, loss, left)
    return "".join(f"<td>{escape(value)}</td>" for value in values)

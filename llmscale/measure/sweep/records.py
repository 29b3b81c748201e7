"""The records of a sweep: one row a run, from the folders of the runs to the two tables.

Each table notes which file of which run it was made from, by time and size: only what has changed
since is read again. A run whose folder is gone keeps its rows."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmscale.measure.executors import Event
from llmscale.measure.sweep.curves_table import (
    NOTED,
    curve_rows,
    damaged_curves,
    keep_aside,
    stamps_noted,
    write_curves,
)
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.run_spec import read_spec
from llmscale.runs.checked import DamagedFile
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.rows import read_rows
from llmscale.runs.run import DEFAULT_RECIPE, FINISHED, Run
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.scores import check_scores
from llmscale.runs.unchanged import Stamp, stamp_of

SHARE = 20
"""A table is rewritten at most once in so many times what it took: 5% of the time."""
_SECONDS_A_ROW = 1e-6
"""Of rewriting curves.parquet, before this process has done it."""
_FROM_TABLE = "its row is taken from runs.parquet"
_AGAIN = "the run is trained again"
_FROM_COMMAND = "the command that began the run writes it anew; others leave the run out"
_took: dict[Path, float] = {}
"""Seconds that this process took to write each table last."""


def finished_runs(folder: ResultsFolder) -> dict[str, Run]:
    """The runs that `folder` holds and that need no more training, by id."""
    return {run.run_id: run for run in recorded_runs(folder) if run.status in FINISHED}


def read_run(folder: ResultsFolder, run_id: str) -> Run | None:
    """The row that the run's worker wrote; None if it has not ended, or if its row is damaged."""
    return folder.run_folder(run_id).known_row()


def recorded_runs(folder: ResultsFolder) -> list[Run]:
    """Every run of the folder by size, budget, seed and recipe; unfinished ones are `running`."""
    return _recorded(folder).runs


def known_ids(folder: ResultsFolder) -> set[str]:
    """The ids of the runs that the folder holds anything of."""
    named = {run.run_id for run in folder.run_folders}
    return named | {run.run_id for run in recorded_runs(folder)}


def find_damage(folder: ResultsFolder) -> list[DamagedFile]:
    """Damaged files of the records, each with what the sweep's command makes of it."""
    return [*_recorded(folder).damaged, *damaged_curves(folder), *_damaged_scores(folder)]


def mend_rows(folder: ResultsFolder) -> None:
    """Write each damaged run.json anew whose row the table has; remove the others: their runs are
    trained again. For the one that holds the folder."""
    recorded = _recorded(folder)
    rows = {run.run_id: run for run in recorded.runs}
    for damage in recorded.damaged:
        run = RunFolder(damage.path.parent)
        if damage.path != run.row_path:
            continue
        row = rows.get(run.run_id)
        if row is not None and row.status in FINISHED:
            run.write_row(row)
        else:
            run.row_path.unlink(missing_ok=True)


def write_tables(folder: ResultsFolder, *, final: bool = False) -> bool:
    """Bring runs.parquet and curves.parquet up to the folders of the runs, keeping rows whose
    folder is gone.

    What takes long is not done every time unless it is `final`: until then the folders of the runs
    have it. Whether runs.parquet was written."""
    if not (final or _is_due(folder.runs_path, 0.0)):
        return False
    started = time.monotonic()
    # Left by a process that was killed: this one holds the folder.
    for left in folder.path.glob(".*.parquet.*.part"):
        left.unlink(missing_ok=True)
    recorded = _recorded(folder)
    runs, stamps = recorded.runs, recorded.stamps
    if any(damage.path == folder.runs_path for damage in recorded.damaged):
        keep_aside(folder.runs_path)
    noted = {run.run_id: stamps[run.run_id] for run in runs if run.run_id in stamps}
    folder.write_runs(runs, {NOTED: json.dumps(noted)})
    _took[folder.runs_path] = time.monotonic() - started
    if final or _is_due(folder.curves_path, _SECONDS_A_ROW * curve_rows(folder.curves_path)):
        started = time.monotonic()
        write_curves(folder, [run.run_id for run in runs], every_page=final)
        _took[folder.curves_path] = time.monotonic() - started
    return True


def record_end(job: Job, event: Event, device: str) -> None:
    """Write a row for a worker that ended without writing one, killed for its memory, say."""
    run = RunFolder(event.folder)
    if event.exit_code in (0, 130) or run.has_ended:
        return
    code = event.exit_code or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    why = event.message or f"its process {how}"
    run.write_row(run_row(job, "failed", device, error=f"{why}; see {run.log_path}"))


def _damaged_scores(folder: ResultsFolder) -> Iterator[DamagedFile]:
    for run in folder.run_folders:
        try:
            check_scores(run)
        except DamagedFile as error:
            yield error


@dataclass(frozen=True)
class _Recorded:
    """The rows of all runs in order, the run.json of those ended, and what is damaged."""

    runs: list[Run]
    stamps: dict[str, Stamp]
    damaged: list[DamagedFile]


def _recorded(folder: ResultsFolder) -> _Recorded:
    """A run.json that has not changed since runs.parquet was written is not read: its row is there.
    If a run's own row is damaged, that of the table is taken; without one the run is `running`."""
    rows, noted, damaged = _table(folder)
    runs, stamps = dict(rows), {}
    for run in folder.run_folders:
        stamp = stamp_of(run.row_path)
        if stamp is None or stamp != noted.get(run.run_id) or run.run_id not in rows:
            damage, row = _from_folder(run, rows.get(run.run_id))
            damaged += damage
            if row is not None:
                runs[run.run_id] = row
            if any(one.path == run.row_path for one in damage):
                stamp = None
        if stamp:
            stamps[run.run_id] = stamp
    return _Recorded(sorted(runs.values(), key=_order), stamps, damaged)


def _table(folder: ResultsFolder) -> tuple[dict[str, Run], dict[str, Stamp], list[DamagedFile]]:
    """The rows of runs.parquet by id, the run.json that each was made from, and what is damaged."""
    try:
        rows, notes = read_rows(folder.runs_path)
        return rows, stamps_noted(notes, folder.runs_path), []
    except FileNotFoundError:
        return {}, {}, []
    except DamagedFile as error:
        return {}, {}, [error]


def _from_folder(run: RunFolder, in_table: Run | None) -> tuple[list[DamagedFile], Run | None]:
    """A run's row by its folder: its own, or one that says it has not ended; else None."""
    damaged = []
    try:
        return [], run.read_row()
    except FileNotFoundError:
        pass
    except DamagedFile as error:
        is_kept = in_table is not None and in_table.status in FINISHED
        fix = _FROM_TABLE if is_kept else _AGAIN
        damaged.append(DamagedFile(error.path, error.reason, fix))
        if is_kept:
            return damaged, in_table
    try:
        spec = read_spec(run)
        return damaged, run_row(spec.job, "running", spec.device_name or "")
    except FileNotFoundError:
        pass
    except DamagedFile as error:
        damaged.append(DamagedFile(error.path, error.reason, _FROM_COMMAND))
    return damaged, None


def _order(run: Run) -> tuple[object, ...]:
    return run.params, run.tokens, run.seed, run.recipe or DEFAULT_RECIPE, -run.lr, run.run_id


def _is_due(path: Path, usually: float) -> bool:
    """Whether a table may be written again; `usually` is what that takes the first time."""
    if not path.exists():
        return True
    age = time.time() - path.stat().st_mtime
    return not 0 <= age < SHARE * _took.get(path, usually)

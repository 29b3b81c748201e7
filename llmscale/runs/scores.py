"""What is measured of a run besides its row: numbers by column, such as a loss on another text.

They become the last columns of runs.parquet. What training measured is kept in `measured.json` of
the run's folder, and what was measured later in `scores.json`; of old runs that holds both."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.runs.checked import DamagedFile, read_object
from llmscale.runs.run import RUN_COLUMNS
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import write_json
from llmscale.runs.unchanged import once_while_unchanged

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,99}")


def write_scores(folder: RunFolder, scores: Mapping[str, float]) -> None:
    """Add `scores` to what was measured of the run later, in place of those of the same names.
    Raises InputError for a name that cannot be a column's, and for what is no finite number."""
    _add(scores, folder.scores_path, _read(folder.scores_path))


def write_measured(folder: RunFolder, scores: Mapping[str, float]) -> None:
    """As write_scores, of what whoever made the run measured; a damaged file is written anew."""
    _add(scores, folder.measured_path, _known(folder.measured_path))


def read_scores(folder: RunFolder) -> dict[str, float]:
    """All scores of the run by column; none if there are none. Of a damaged `measured.json` those
    are taken that runs.parquet has of it. Raises DamagedFile."""
    scores = _later(folder)
    try:
        return scores | _read(folder.measured_path)
    except DamagedFile as error:
        in_table = _in_table(folder)
        if in_table and not in_table.keys() <= scores.keys():
            return in_table | scores
        raise _unlike(error, _without_measured(folder, in_table)) from error


def check_scores(folder: RunFolder) -> None:
    """Raise DamagedFile if what was measured of the run is damaged, also if runs.parquet has it."""
    read_scores(folder)
    try:
        _read(folder.measured_path)
    except DamagedFile as error:
        raise _unlike(error, "its columns are taken from runs.parquet") from error


def known_scores(folder: RunFolder) -> dict[str, float]:
    """As read_scores, but none of a damaged file."""
    try:
        return read_scores(folder)
    except DamagedFile:
        return _known(folder.scores_path) | _known(folder.measured_path)


def later_scores(folder: RunFolder) -> dict[str, float]:
    """Those that were measured after training; none of a damaged file."""
    return _known(folder.scores_path)


def check_score_name(name: str) -> None:
    """Raise InputError if `name` cannot be the column of a score."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:60]!r} cannot be the name of a column",
            "use letters, digits, _, - and ., at most 100 of them",
        )
    if name in RUN_COLUMNS:
        raise InputError(f"{name} is a column of every run", "give the score another name")


def _add(scores: Mapping[str, float], path: Path, before: Mapping[str, float]) -> None:
    for name, value in scores.items():
        check_score_name(name)
        if isinstance(value, bool) or not math.isfinite(value):
            raise InputError(f"the score {name} is {value}", "give a finite number")
    write_json(path, {**before, **{name: float(value) for name, value in scores.items()}})


def _known(path: Path) -> dict[str, float]:
    """As _read, but none of a damaged file."""
    try:
        return _read(path)
    except DamagedFile:
        return {}


def _later(folder: RunFolder) -> dict[str, float]:
    scores = folder.scores_path
    try:
        return _read(scores)
    except DamagedFile as error:
        again = f"remove it; the scores are measured again: {command_line('rm', scores)}"
        raise _unlike(error, again) from error


def _in_table(folder: RunFolder) -> dict[str, float] | None:
    """What runs.parquet has of the run's scores; None if the run is not in it."""
    path = folder.path.parent.parent / "runs.parquet"
    return table_scores(path, every_run=True).get(folder.run_id)


def _without_measured(folder: RunFolder, in_table: Mapping[str, float] | None) -> str:
    """How to go on without a `measured.json` of which nothing is known."""
    remove = command_line("rm", folder.measured_path)
    if in_table is not None:
        return f"remove it; runs.parquet has no column of it, so that nothing is lost: {remove}"
    made = command_line("rm", "-r", folder.path)
    return (
        f"remove it, and what training measured besides the loss is lost: {remove}; or remove the "
        f"run with its weights, and have it made again: {made}"
    )


def _unlike(error: DamagedFile, fix: str) -> DamagedFile:
    return DamagedFile(error.path, error.reason, fix)


def _read(path: Path) -> dict[str, float]:
    """The scores in a file; none if there is none. Raises DamagedFile."""
    try:
        return dict(_checked(path))
    except FileNotFoundError:
        return {}


@once_while_unchanged()
def _checked(path: Path) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for name, value in read_object(path).items():
        _check(path, name, value)
        found[name] = float(value)
    return found


def _check(path: Path, name: str, value: Any) -> None:
    try:
        check_score_name(name)
    except InputError as error:
        raise DamagedFile(path, error.problem) from error
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise DamagedFile(path, f"{name} is no finite number")


def with_scores(table: "pa.Table", scores: Sequence[Mapping[str, float]]) -> "pa.Table":
    """`table` with the scores of each row as its last columns, empty where a run has none."""
    import pyarrow as pa

    for name in sorted({name for of_run in scores for name in of_run}):
        values = [of_run.get(name) for of_run in scores]
        table = table.append_column(name, pa.array(values, "float64"))
    return table


def table_scores(path: Path, *, every_run: bool = False) -> dict[str, dict[str, float]]:
    """The scores that a `runs.parquet` holds, by run id; none if it is missing or damaged. With
    `every_run` runs without one have an entry, too."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, dict[str, float]] = {}
    with suppress(OSError, ValueError, pa.ArrowException):
        file = pq.ParquetFile(path)
        names = [name for name in file.schema_arrow.names if name not in RUN_COLUMNS]
        if not (names or every_run):
            return {}
        for row in file.read(["run_id", *names]).to_pylist():
            scores = {name: row[name] for name in names if isinstance(row[name], float)}
            found[str(row["run_id"])] = scores
    return found

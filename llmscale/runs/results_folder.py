"""`results/NAME`: where training and analysis meet."""

import errno
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError
from llmscale.errors.printable import clean
from llmscale.runs.checked import DamagedFile, plain_file, reading_results
from llmscale.runs.columns import rows_table
from llmscale.runs.run import Run
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_paths import is_plain, plain_name, refuse_unusable
from llmscale.runs.safe_write import write_json, write_table
from llmscale.runs.scores import read_scores, table_scores, with_scores
from llmscale.runs.sweep_json import read_sweep_json

if TYPE_CHECKING:
    import pandas as pd

_OF_LOOP = re.compile(r"adaptive\.json|next-[0-9]+\.toml")


@dataclass(frozen=True)
class ResultsFolder:
    """`results/NAME`: its tables, sweep.json, fit-LAW.json, figures/ and runs/RUN_ID/; of a loop
    adaptive.json and next-K.toml."""

    path: Path

    @property
    def sweep_path(self) -> Path:
        return self.path / "sweep.json"

    @property
    def runs_path(self) -> Path:
        return self.path / "runs.parquet"

    @property
    def curves_path(self) -> Path:
        return self.path / "curves.parquet"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def adaptive_path(self) -> Path:
        """What a loop of `llmscale next --auto` has done here (adaptive/state.py)."""
        return self.path / "adaptive.json"

    def round_path(self, number: int) -> Path:
        """The sweep of a round of such a loop."""
        return self.path / f"next-{number}.toml"

    def fit_path(self, law: str) -> Path:
        return self.path / f"fit-{law}.json"

    def run_folder(self, run_id: str) -> RunFolder:
        """The folder of a run, there or not. Raises InputError if `run_id` cannot be one."""
        return RunFolder(self.path / "runs" / plain_name(run_id))

    @property
    def run_folders(self) -> list[RunFolder]:
        """The folders that are there under runs/, by name."""
        try:
            with os.scandir(self.path / "runs") as entries:
                names = [entry.name for entry in entries if entry.is_dir() and is_plain(entry.name)]
        except OSError:
            return []
        return [RunFolder(self.path / "runs" / name) for name in sorted(names)]

    def read_sweep(self) -> dict[str, Any]:
        """The sweep's specification and provenance, each part of it that is there of its type.
        Raises InputError if there is none, and DamagedFile, which is one."""
        return read_sweep_json(self.sweep_path)

    def known_sweep(self) -> dict[str, Any]:
        """As read_sweep, but an empty table if there is none, or if it is damaged."""
        try:
            return self.read_sweep()
        except InputError:
            return {}

    def read_runs(self) -> "pd.DataFrame":
        """`runs.parquet` as a frame. Raises InputError."""
        return _read_parquet(self.runs_path)

    def read_curves(self) -> "pd.DataFrame":
        """`curves.parquet` as a frame. Raises InputError."""
        return _read_parquet(self.curves_path)

    def write_sweep(self, sweep: dict[str, Any]) -> None:
        write_json(self.sweep_path, sweep)

    def write_runs(self, runs: Iterable[Run], noted: dict[str, str] | None = None) -> None:
        """Replace `runs.parquet`, one row a run, with its scores. It is then the newest of its
        neighbours, whatever the clock says. `noted` is kept in the file's metadata."""
        listed = list(runs)
        table = with_scores(rows_table(Run, listed), self._scores_of(listed))
        write_table(self.runs_path, table.replace_schema_metadata(noted))
        # Resolved: "." and "x/.." have no parent by their names.
        neighbours = self.path.resolve().parent.glob("*/runs.parquet")
        newest = max((path.stat().st_mtime_ns for path in neighbours if path.exists()), default=0)
        if newest > self.runs_path.stat().st_mtime_ns:
            os.utime(self.runs_path, ns=(newest + 1000, newest + 1000))

    def _scores_of(self, runs: Sequence[Run]) -> list[dict[str, float]]:
        """The scores of each run: as the table has them if the run's folder is gone, or if a file
        of it is damaged."""
        before = table_scores(self.runs_path)
        found = []
        for run in runs:
            scores = before.get(run.run_id, {})
            home = self.run_folder(run.run_id)
            if home.path.is_dir():
                with suppress(DamagedFile):
                    scores = read_scores(home)
            found.append(scores)
        return found


def is_of_loop(name: str) -> bool:
    """Whether a file is one that a loop of `llmscale next --auto` writes before it trains."""
    return _OF_LOOP.fullmatch(name) is not None


def newest_results(root: Path = Path("results")) -> ResultsFolder:
    """The sweep under `root` whose table was written last. Raises InputError without one."""
    found = root.glob("*/runs.parquet")
    tables = [path for path in found if path.is_file() and path.with_name("sweep.json").exists()]
    tables.sort(key=lambda path: path.stat().st_mtime)
    if not tables:
        raise InputError(
            f"there is no sweep under {root}/",
            "name one, or measure: llmscale sweep --sizes 10k,30k,100k,300k",
        )
    return ResultsFolder(tables[-1].parent)


def results_folder(out: Path | str) -> ResultsFolder:
    """The results folder named `out`, there or not. Raises InputError if none can be."""
    fix = "name a folder that you may write to, as in --out results/mine"
    if not str(out).strip():
        raise InputError("--out is empty", fix)
    # A shell leaves the ~ of --out=~/mine as it is.
    path = refuse_unusable(Path(os.path.expanduser(out)), fix)
    if ".." in path.parts:
        path = path.resolve()
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", fix)
    for folder in (path, *path.parents):
        if folder.is_symlink() and not folder.exists():
            raise InputError(f"{folder} is a link to {folder.readlink()}, which is not there", fix)
    if "\ufffd" in clean(str(path)):
        raise InputError(f"the name of {path} is no UTF-8", fix)
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into {path}: {os.strerror(errno.EACCES)}", fix)
    return ResultsFolder(path)


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    with reading_results(path):
        return pd.read_parquet(plain_file(path), page_checksum_verification=True)

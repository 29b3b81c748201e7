"""The table of runs and the results folder: where training and analysis meet.

Columns are a contract that other people's scripts read. Every file is written beside its place and
renamed, so a reader never sees half a file."""

import errno
import json
import math
import os
import re
import secrets
import shutil
import types
import typing
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError, WriteError
from llmscale.errors.command_lines import command_line
from llmscale.errors.printable import clean, shortened
from llmscale.quantity import format_bytes
from llmscale.runs.checked import DamagedFile, plain_file
from llmscale.runs.sweep_json import read_sweep_json

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Run:
    """One row of `runs.parquet`: what was trained, what it cost, and the loss it reached."""

    run_id: str
    size: str
    status: str
    n_layer: int
    d_model: int
    n_head: int
    d_ff: int
    vocab_size: int
    context: int
    arch: str
    params: int
    params_non_embedding: int
    params_total: int
    tokens: int
    unique_tokens: int
    flops: float
    loss: float | None
    """Mean validation cross-entropy in nats per token, over the same tokens for every run."""
    loss_stderr: float | None
    """Standard error of `loss` over validation sequences."""
    perplexity: float | None
    bits_per_byte: float | None
    train_loss: float | None
    """Mean training loss over the last 5% of steps."""
    lr: float
    batch_tokens: int
    schedule: str
    optimizer: str
    seed: int
    data: str
    data_fingerprint: str
    steps: int
    seconds: float | None
    tokens_per_second: float | None
    mfu: float | None
    peak_memory_bytes: int | None
    device: str
    dtype: str
    parent: str | None
    error: str | None
    retry_of: str | None
    """The run that diverged, or whose trunk did, and that this one is again with half its learning
    rate.
    """
    recipe: str | None
    """Which of the sweep's recipes: `default`, or the name of a variant."""
    spike_step: int | None
    """Logged step of the largest spike of the training loss (train/spikes.py), where there was one.
    """
    spike_height: float | None
    """Height of that spike in nats, above the loss just before."""
    wall_mfu: float | None
    """MFU over `seconds`, all that the run took: evaluation, checkpoints and compiling too, which
    `mfu` leaves out.
    """


@dataclass(frozen=True)
class CurvePoint:
    """One row of `curves.parquet`: a logged step.

    `loss` is empty where the step was not evaluated.
    """

    run_id: str
    step: int
    tokens: int
    flops: float
    train_loss: float
    """Mean training loss over the steps since the last logged one."""
    train_perplexity: float
    loss: float | None
    perplexity: float | None
    lr: float
    grad_norm: float | None
    tokens_per_second: float | None
    seconds: float


_LONGEST_NAME = 150
"""Bytes of a name that a longer one can be made of."""
_NAME_MAX = 255
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def _columns(row: type) -> dict[str, str]:
    """Column name → arrow type name, from a row's annotations."""
    arrow = {str: "string", int: "int64", float: "float64"}
    columns = {}
    for name, hint in typing.get_type_hints(row).items():
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType] or [hint]
        columns[name] = arrow[kinds[0]]
    return columns


@cache
def _fields(row: type) -> dict[str, bool]:
    """Whether each field of a row may be empty."""
    return {
        name: types.NoneType in typing.get_args(hint)
        for name, hint in typing.get_type_hints(row).items()
    }


REMAKE = "the sweep's own command makes it anew from the folders of its runs"
RUN_COLUMNS = _columns(Run)
CURVE_COLUMNS = _columns(CurvePoint)


@dataclass(frozen=True)
class ResultsFolder:
    """`results/NAME`: sweep.json, runs.parquet, curves.parquet, fit-LAW.json, figures/ and
    runs/RUN_ID/.
    """

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

    def fit_path(self, law: str) -> Path:
        return self.path / f"fit-{law}.json"

    def run_folder(self, run_id: str) -> Path:
        return self.path / "runs" / plain_name(run_id)

    def read_sweep(self) -> dict[str, Any]:
        """The sweep's specification and provenance, each part of it that is there of its type.

        Raises InputError where there is none, and DamagedFile, which is one.
        """
        return read_sweep_json(self.sweep_path)

    def known_sweep(self) -> dict[str, Any]:
        """As read_sweep, but an empty table where there is none, or where it is damaged."""
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
        write_text(self.sweep_path, json.dumps(sweep, indent=2) + "\n")

    def write_runs(self, runs: Iterable[Run], noted: dict[str, str] | None = None) -> None:
        """Replace `runs.parquet`, one row a run. It is then the newest of its neighbours, whatever
        the clock says.

        `noted` is kept in the file's metadata.
        """
        write_table(self.runs_path, rows_table(Run, runs).replace_schema_metadata(noted))
        # Resolved: "." and "x/.." have no parent by their names.
        neighbours = self.path.resolve().parent.glob("*/runs.parquet")
        newest = max((path.stat().st_mtime_ns for path in neighbours if path.exists()), default=0)
        if newest > self.runs_path.stat().st_mtime_ns:
            os.utime(self.runs_path, ns=(newest + 1000, newest + 1000))

    def write_curves(self, tables: "Iterable[pa.Table]") -> None:
        """Replace `curves.parquet` by the runs' curves, one after another."""
        import pyarrow as pa

        empty = rows_table(CurvePoint, [])
        write_table(self.curves_path, pa.concat_tables([empty, *tables]))


def is_plain(name: str) -> bool:
    """Whether `name` can name a file and no place elsewhere."""
    return _PLAIN_NAME.fullmatch(name) is not None


def plain_name(name: str) -> str:
    """`name`, which a table or a JSON file gave, where it can name a file but no place elsewhere.

    Raises InputError.
    """
    if not _PLAIN_NAME.fullmatch(str(name)):
        raise InputError(
            f"{name!r} is no name of a run or of a file of one", "use results that llmscale wrote"
        )
    return name


def sibling_file(folder: Path, place: str) -> Path:
    """The file at `place`, `../RUN_ID/NAME` seen from a run's folder.

    Raises InputError where it is elsewhere.
    """
    parts = place.split("/")
    if len(parts) != 3 or parts[0] != "..":
        raise InputError(
            f"{place!r} is no file of another run of the sweep", "use results that llmscale wrote"
        )
    return folder.parent / plain_name(parts[1]) / plain_name(parts[2])


def refuse_links(folder: Path, *, with_runs: bool = True) -> None:
    """Raise InputError if a link inside a results folder leads out of it: what is written there
    would follow it.
    """
    root = folder.resolve()
    runs = (folder / "runs", *folder.glob("runs/*")) if with_runs else ()
    for place in (folder, folder / "figures", *runs):
        for path in place.iterdir() if place.is_dir() else ():
            if not path.is_symlink():
                continue
            leads_to = _end_of_links(path)
            if leads_to is None or not leads_to.is_relative_to(root):
                where = (
                    f"to {leads_to}, outside of {folder}" if leads_to else "that leads in a circle"
                )
                raise InputError(
                    f"{path} is a link {where}", f"remove the link: {command_line('rm', path)}"
                )


def _end_of_links(path: Path) -> Path | None:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a circle: RuntimeError before Python 3.13
        return None


def newest_results(root: Path = Path("results")) -> ResultsFolder:
    """The sweep under `root` whose table of runs was written last.

    Raises InputError where there is none.
    """
    found = root.glob("*/runs.parquet")
    tables = [path for path in found if path.is_file() and path.with_name("sweep.json").exists()]
    tables.sort(key=lambda path: path.stat().st_mtime)
    if not tables:
        raise InputError(
            f"there is no sweep under {root}/",
            "name one, or measure: llmscale sweep --sizes 10k,30k,100k,300k",
        )
    return ResultsFolder(tables[-1].parent)


def rows_table(row: type, rows: Iterable[Any]) -> "pa.Table":
    """Rows of one of the dataclasses above as an arrow table with that class's columns."""
    import pyarrow as pa

    columns = _columns(row)
    listed = list(rows)
    arrays = [
        pa.array([getattr(item, name) for item in listed], kind) for name, kind in columns.items()
    ]
    return pa.table(arrays, names=list(columns))


def write_table(path: Path, table: "pa.Table") -> None:
    """Write an arrow table as parquet, beside its place and renamed."""
    import pyarrow.parquet as pq

    _write(
        path,
        lambda beside: pq.write_table(table, beside, compression="zstd", write_page_checksum=True),
        table.nbytes,
    )


def write_groups(path: Path, schema: "pa.Schema", tables: "Iterable[pa.Table]", size: int) -> None:
    """Write parquet of at most `size` bytes with a row group a table, beside its place and renamed.

    One table is in memory at a time. Only columns of few values are dictionaries: others would be
    tried in vain."""
    import pyarrow.parquet as pq

    few = [name for name in ("run_id", "lr") if name in schema.names]

    def write(beside: Path) -> None:
        try:
            with pq.ParquetWriter(
                beside, schema, compression="zstd", use_dictionary=few, write_page_checksum=True
            ) as writer:
                for table in tables:
                    writer.write_table(table)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    _write(path, write, size)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: lists for arrays and tuples, null for numbers that are not
    finite.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, beside its place and renamed."""
    _write(path, lambda beside: beside.write_text(text, encoding="utf-8"), len(text.encode()))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`, beside its place and renamed."""
    _write(path, lambda beside: beside.write_bytes(content), len(content))


def cannot_write(path: Path, error: OSError, size: int | None = None) -> WriteError:
    """The error for a file of `size` bytes, at most, that could not be written, with how much room
    is missing.
    """
    problem = f"cannot write {path}: {error.strerror or error}"
    if error.errno == errno.ENOSPC:
        needed = f", up to {format_bytes(size)} are needed" if size is not None else ""
        problem += f" ({format_bytes(shutil.disk_usage(path.parent).free)} are free{needed})"
    if isinstance(error, FileNotFoundError):
        return WriteError(
            problem, "the folder was there before: put it back, and the same command goes on"
        )
    fix = (
        "make room"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "mend its permissions or mount"
    )
    return WriteError(problem, f"{fix}; the same command goes on")


def make_folder(path: Path, fix: str = "name a folder you may write to with --out") -> Path:
    """Create `path` and check that files can be written there. Raises InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        new_file_beside(path / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write into {path}: {reason}", fix) from error
    return path


def new_file_beside(path: Path) -> Path:
    """A new empty file in the folder of `path`, to be written and renamed to it. Raises OSError.

    Nobody can guess its name, and so lay a link there that would be written through.
    """
    name = path.name if len(os.fsencode(path.name)) <= _LONGEST_NAME else path.name[:40]
    beside = path.with_name(f".{name}.{os.getpid()}-{secrets.token_hex(8)}.part")
    os.close(
        os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    )
    return beside


def refuse_unusable(path: Path, fix: str) -> Path:
    """`path`, unless the system cannot even look for it: too long, under a file, a circle of links.

    InputError.
    """
    try:
        if max((len(os.fsencode(part)) for part in path.parts), default=0) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise InputError(
            f"{shortened(str(path), 300)} cannot be used as a file or folder: {reason}", fix
        ) from error
    return path


def results_folder(out: str) -> ResultsFolder:
    """The results folder named `out`, there or not.

    Raises InputError if there can be none of that name.
    """
    fix = "name a folder that you may write to, as in --out results/mine"
    if not out.strip():
        raise InputError("--out is empty", fix)
    path = refuse_unusable(Path(out), fix)
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


def _write(path: Path, write: Callable[[Path], object], size: int) -> None:
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = new_file_beside(path)
        write(beside)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    except OSError as error:
        if beside is not None:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
        raise cannot_write(path, error, size) from error


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_parquet(plain_file(path), page_checksum_verification=True)
    except FileNotFoundError:
        raise InputError(
            f"there is no {path}", "name a results folder that a sweep wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise DamagedFile(path, str(error), REMAKE) from error

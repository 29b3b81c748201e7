"""Results at a URL: a mirror folder on this machine that is kept equal with what is there, by
fsspec.

Every file is known by how it looked here and there when both were last equal. So a push sends what
has changed here, a pull fetches what has changed there, and neither undoes the other. A reader of
the URL sees whole files only."""

import functools
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, WorkError
from llmscale.errors.command_lines import command_line
from llmscale.errors.printable import masked
from llmscale.machine.cache import cache_folder
from llmscale.runs.remote._files import FileSystem, reason
from llmscale.runs.run_folder import PREVIOUS_CHECKPOINT, WEIGHTS
from llmscale.runs.safe_write import new_file_beside, write_text

Wanted = Callable[[str], bool]

STATE_NAME = ".remote.json"
SEPARATELY = ("tokens",)
"""Folders at the URL besides the results: a token store that nodes of a cluster share."""
UPLOADS_AT_A_TIME = 8
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_PASSING = ("checkpoint", "trunk-", "progress.", "initial.")
"""What names begin with of files that a run leaves only until it has ended or others have gone on
from it; of a fine-tuning the weights that it begins with, too."""
_NOT_SENT = ("stop", PREVIOUS_CHECKPOINT)
"""What matters to this machine only: a wish to stop, and what is kept for a torn local disk."""


def is_url(text: object) -> bool:
    """Whether `text` names a place by a URL, such as s3://bucket/x."""
    return isinstance(text, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def is_results(name: str) -> bool:
    """Whether a name is that of a file of a results folder."""
    parts = name.split("/")
    if not all(_PLAIN.fullmatch(part) for part in parts) or parts[0] in SEPARATELY:
        return False
    return parts[-1] not in _NOT_SENT and not any(part.endswith(".dcp") for part in parts)


def is_needed(name: str) -> bool:
    """Whether a sweep that goes on elsewhere needs the file: tables, and what runs have left but
    for kept weights, which nothing goes on from."""
    if name.endswith(WEIGHTS):
        return False
    top = "/" not in name and name.endswith((".json", ".parquet"))
    return is_results(name) and (top or name.startswith("runs/"))


def is_table(name: str) -> bool:
    return is_results(name) and name in (
        "runs.parquet",
        "curves.parquet",
        "sweep.json",
        "tune.json",
    )


class Remote:
    """What is at `url` and its mirror `folder`, for several threads. Raises InputError."""

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self.files = FileSystem(url)
        self.url = self.files.url
        self.folder = folder or cache_folder() / "remote" / _hash(self.files.canonical)
        self._lock = threading.RLock()
        self._known: dict[str, tuple[list[int], str]] = self._read_state()
        """Of every file: its time and size here and its content there, when both were equal."""

    def pull(self, wanted: Wanted = is_needed) -> list[str]:
        """Fetch the wanted files that have changed there, and return their names. What has changed
        here stays.

        A run's checkpoint that is gone there goes here, too. Raises OSError and what else the file
        system raises."""
        with self._lock:
            there = {name: mark for name, mark in self.files.listing().items() if wanted(name)}
            mine = [name for name in self._known if wanted(name)]
            if mine and not there:
                gone = f"there is nothing at {self.url} any more"
                raise InputError(
                    f"{gone}, but this machine has a copy of what was there",
                    f"remove the copy to begin anew: {command_line('rm', '-r', self.folder)}",
                )
            try:
                changed = [name for name in sorted(there) if self._is_news(name, there[name])]
                self._each(lambda name: self._fetch(name, there[name]), _in_order(changed))
                for name in mine:
                    if name not in there:
                        self._forget(name)
            finally:
                self._write_state()
            return changed

    def push(self, wanted: Wanted = is_results) -> list[str]:
        """Send what has changed here, remove there what a run has removed; the names."""
        with self._lock:
            here = {name: stamp for name, stamp in self._here() if wanted(name)}
            changed = [name for name, stamp in here.items() if self._stamp_then(name) != stamp]
            known = (name for name in self._known if name.startswith("runs/"))
            gone = [name for name in known if wanted(name) and name not in here]
            try:
                self._each(lambda name: self._send(name, here[name]), _in_order(changed))
                for name in gone:
                    self.files.remove(name)
                    del self._known[name]
            finally:
                if changed or gone:
                    self._write_state()
            return changed + gone

    def waiting(self, wanted: Wanted = is_results) -> int:
        """How many files have changed here since they were last sent."""
        here = (one for one in self._here() if wanted(one[0]))
        return sum(self._stamp_then(name) != stamp for name, stamp in here)

    def _stamp_then(self, name: str) -> list[int] | None:
        """The time and size that a file had here when it was last equal with that at the URL."""
        return self._known[name][0] if name in self._known else None

    def _is_news(self, name: str, mark: str) -> bool:
        stamp, known = _stamp(self.folder / name), self._known.get(name)
        if stamp is None:
            # What an ended run has removed here is still to be removed there.
            has_ended = (self.folder / name).with_name("run.json").exists()
            is_removed = is_passing(name) and has_ended
            return known is None or known[1] != mark or not is_removed
        if known is not None and known[1] == mark:
            return False
        # Of two versions of a table that of the URL stays: the rows of runs here are written from
        # their folders.
        return (known is not None and known[0] == stamp) or "/" not in name

    def _fetch(self, name: str, mark: str) -> None:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            problem = f"{name} at {self.url} would be written outside {self.folder}"
            raise WorkError(problem, f"remove {path.parent}")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = new_file_beside(path)
        try:
            self.files.get(name, beside)
            if path.name == "spec.json":
                _check_spec(beside.read_bytes(), f"{self.url}/{name}")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        stamp = _stamp(path)
        assert stamp is not None
        self._known[name] = (stamp, mark)

    def _send(self, name: str, stamp: list[int]) -> None:
        try:
            self._known[name] = (stamp, self.files.put(self.folder / name, name))
        except FileNotFoundError:
            if (self.folder / name).exists():
                raise
            # It was removed after it was listed: the next push removes it there.

    def _forget(self, name: str) -> None:
        stamp = self._known.pop(name)[0]
        if _stamp(self.folder / name) == stamp and (is_passing(name) or name.endswith("/run.json")):
            (self.folder / name).unlink()

    def _each(self, act: Callable[[str], None], groups: Iterable[Sequence[str]]) -> None:
        """Do it to one group after another, and at once within a group if that is safe."""
        for names in groups:
            if self.files.takes_threads and len(names) > 1:
                with ThreadPoolExecutor(UPLOADS_AT_A_TIME) as pool:
                    list(pool.map(act, names))
            else:
                for name in names:
                    act(name)

    def _here(self) -> "list[tuple[str, list[int]]]":
        found = []
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if is_results(name) and (stamp := _stamp(path)) is not None:
                found.append((name, stamp))
        return found

    def _read_state(self) -> dict[str, tuple[list[int], str]]:
        with suppress(OSError, ValueError, KeyError):
            state = json.loads((self.folder / STATE_NAME).read_text(encoding="utf-8"))
            if state["place"] == self.files.canonical:
                return {name: (list(stamp), mark) for name, (stamp, mark) in state["files"].items()}
        return {}

    def _write_state(self) -> None:
        state = {"url": self.url, "place": self.files.canonical, "files": self._known}
        write_text(self.folder / STATE_NAME, json.dumps(state) + "\n")


def is_passing(name: str) -> bool:
    """Whether a run leaves the file only until it has ended or others have gone on from it."""
    return name.rpartition("/")[2].startswith(_PASSING)


@functools.cache
def results_at(url: str) -> Remote:
    """The results at `url`, one object a process. Raises InputError."""
    remote = Remote(url)
    _MIRRORS[remote.folder] = remote
    return remote


_MIRRORS: dict[Path, Remote] = {}
"""Of this process: what is written into a mirror does not hold the keys of its URL."""


def url_of(folder: Path) -> str | None:
    """The URL whose mirror `folder` is, or None; with its keys if this process was given them."""
    if folder in _MIRRORS:
        return _MIRRORS[folder].files.full_url
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))["url"])
    return None


def pull_table(url: str) -> Path:
    """A copy on this machine of the tables, or of the one file, at `url`. Raises InputError."""
    kinds = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
    name = url.rstrip("/").rpartition("/")[2]
    unpacked = name.lower().removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")
    is_file = Path(unpacked).suffix in kinds
    folder = cache_folder() / "tables" / _hash(masked(url))
    remote = Remote(url.rstrip("/").rpartition("/")[0] if is_file else url, folder)
    try:
        if is_file:
            folder.mkdir(parents=True, exist_ok=True)
            remote.files.get(name, folder / Path(name).name)
        else:
            remote.pull(is_table)
    except (InputError, WorkError):
        raise
    except FileNotFoundError:
        fix = "name a results folder, or a file of a table"
        raise InputError(f"there is no {masked(url)}", fix) from None
    except Exception as error:  # each file system has errors of its own
        problem = f"{masked(url)} cannot be read: {reason(error)}"
        raise InputError(problem, "check its name, the network and the keys") from error
    if not is_file and not (folder / "runs.parquet").exists():
        problem = f"there is no table of runs at {masked(url)}"
        raise InputError(problem, "name where a sweep wrote its results with --out")
    return folder / name if is_file else folder


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _stamp(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_mtime_ns, stat.st_size] if path.is_file() else None


def _in_order(names: Iterable[str]) -> list[list[str]]:
    """What must not be seen before other files are there comes after them: a run's row after its
    curve, the tables after the runs."""
    first, others, rows, tables = groups = [list[str](), list[str](), list[str](), list[str]()]
    for name in names:
        last = name.rpartition("/")[2]
        if name == "sweep.json" or last == "spec.json":
            first.append(name)
        elif last == "run.json":
            rows.append(name)
        elif "/" not in name:
            tables.append(name)
        else:
            others.append(name)
    return [sorted(group) for group in groups if group]


def _check_spec(content: bytes, name: str) -> None:
    """Raise InputError if a run's specification leads its worker out of the runs."""
    try:
        spec: dict[str, Any] = json.loads(content)
        points, start = list(spec.get("branch_points", {}).values()), spec.get("start")
        plain = all(_PLAIN.fullmatch(point) for point in points)
        near = start is None or re.fullmatch(rf"\.\./{_PLAIN.pattern}/{_PLAIN.pattern}", start)
    except (ValueError, AttributeError, TypeError) as error:
        problem = f"{name} is not the specification of a run: {error}"
        raise InputError(problem, "remove it, or name another URL") from error
    if not (plain and near):
        problem = f"{name} names files outside the results"
        raise InputError(problem, "remove it, or name another URL")

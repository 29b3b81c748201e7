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
from llmscale.runs.run_folder import PREVIOUS_CHECKPOINT
from llmscale.runs.safe_write import new_file_beside, write_text

Wanted = Callable[[str], bool]

STATE_NAME = ".remote.json"
SEPARATELY = ("tokens",)
"""Folders at the URL besides the results: a token store that nodes of a cluster share."""
UPLOADS_AT_A_TIME = 8
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
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
    """Whether a sweep that goes on elsewhere needs the file: tables, and what runs have left."""
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
                raise InputError(
                    f"there is nothing at {self.url} any more, but this machine has a copy of "
                    "what was there",
                    f"remove the copy to begin anew: {command_line('rm', '-r', self.folder)}",
                )
            try:
                changed = [
                    name for name, mark in sorted(there.items()) if self._is_news(name, mark, there)
                ]
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
            changed = [
                name for name, stamp in here.items() if self._known.get(name, (None,))[0] != stamp
            ]
            gone = [
                name
                for name in self._known
                if wanted(name) and name not in here and name.startswith("runs/")
            ]
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
        return sum(
            self._known.get(name, (None,))[0] != stamp
            for name, stamp in self._here()
            if wanted(name)
        )

    def _is_news(self, name: str, mark: str, there: Iterable[str]) -> bool:
        stamp, known = _stamp(self.folder / name), self._known.get(name)
        ended = f"{name.rpartition('/')[0]}/run.json"
        if stamp is None:
            # What an ended run has removed here is still to be removed there.
            return (
                known is None
                or known[1] != mark
                or not (is_passing(name) and (self.folder / ended).exists())
            )
        if known is not None and known[1] == mark:
            return False
        # Of two versions of a table that of the URL stays: the rows of runs here are written from
        # their folders.
        return (known is not None and known[0] == stamp) or "/" not in name

    def _fetch(self, name: str, mark: str) -> None:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise WorkError(
                f"{name} at {self.url} would be written outside {self.folder}",
                f"remove {path.parent}",
            )
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
                    for _ in pool.map(act, names):
                        pass
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
        write_text(
            self.folder / STATE_NAME,
            json.dumps({"url": self.url, "place": self.files.canonical, "files": self._known})
            + "\n",
        )


def is_passing(name: str) -> bool:
    """Whether a run leaves the file only until it has ended or others have gone on from it."""
    return name.rpartition("/")[2].startswith(("checkpoint", "trunk-", "progress."))


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
    is_file = (
        Path(name.lower().removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")).suffix
        in kinds
    )
    folder = cache_folder() / "tables" / _hash(masked(url))
    remote = Remote(url.rstrip("/").rpartition("/")[0] if is_file else url, folder)
    wanted = (lambda there: there == name) if is_file else is_table
    try:
        if is_file:
            folder.mkdir(parents=True, exist_ok=True)
            remote.files.get(name, folder / Path(name).name)
        else:
            remote.pull(wanted)
    except (InputError, WorkError):
        raise
    except FileNotFoundError:
        raise InputError(
            f"there is no {masked(url)}", "name a results folder, or a file of a table"
        ) from None
    except Exception as error:  # each file system has errors of its own
        raise InputError(
            f"{masked(url)} cannot be read: {reason(error)}",
            "check its name, the network and the keys",
        ) from error
    if not is_file and not (folder / "runs.parquet").exists():
        where = masked(url)
        raise InputError(
            f"there is no table of runs at {where}",
            "name where a sweep wrote its results with --out",
        )
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
    groups: list[list[str]] = [[], [], [], []]
    for name in names:
        last = name.rpartition("/")[2]
        first = name == "sweep.json" or last == "spec.json"
        groups[0 if first else 2 if last == "run.json" else 3 if "/" not in name else 1].append(
            name
        )
    return [sorted(group) for group in groups if group]


def _check_spec(content: bytes, name: str) -> None:
    """Raise InputError if a run's specification leads its worker out of the runs."""
    try:
        spec: dict[str, Any] = json.loads(content)
        points, start = list(spec.get("branch_points", {}).values()), spec.get("start")
        plain = all(_PLAIN.fullmatch(point) for point in points)
        near = start is None or re.fullmatch(rf"\.\./{_PLAIN.pattern}/{_PLAIN.pattern}", start)
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{name} is not the specification of a run: {error}", "remove it, or name another URL"
        ) from error
    if not (plain and near):
        raise InputError(
            f"{name} names files outside the results", "remove it, or name another URL"
        )

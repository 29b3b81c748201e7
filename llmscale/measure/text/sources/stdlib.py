"""The source files of the running Python's standard library: real text that every machine has."""

import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.measure.text.sources import Source, digest_of, refuse_dataset_options, shuffled

_LEFT_OUT: Final = {"site-packages", "dist-packages", "__pycache__"}
"""Folders that hold what was installed later, which differs from machine to machine."""
_GENERATED: Final = ("_sysconfigdata", "_sysconfig_vars")
"""Files written when Python was built: they hold the paths of the machine that built it."""


def open_source(name: str, *, config: str | None, split: str, text_column: str) -> Source:
    refuse_dataset_options("stdlib", config, split)
    if name:
        raise InputError(f"stdlib takes no name, but got {name!r}", "write --data stdlib")
    return StandardLibrary(Path(sysconfig.get_path("stdlib")))


@dataclass(frozen=True)
class _Scan:
    """What one look at every file found."""

    shards: tuple[str, ...]
    digests: tuple[str, ...]
    bytes: int
    undecodable: tuple[str, ...]


class StandardLibrary(Source):
    """Every `.py` file under `folder` that is UTF-8, one document a file. Files kept in other
    encodings as test data are left out and named."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def shards(self) -> tuple[str, ...]:
        return self._scan.shards

    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        if start == 0:
            yield (self.folder / self.shards[shard]).read_bytes().decode("utf-8-sig")

    def fingerprint(self) -> str:
        return digest_of(["stdlib", *self._scan.shards, *self._scan.digests])

    def estimated_bytes(self) -> int:
        return self._scan.bytes

    def describe(self) -> dict[str, Any]:
        return {
            "source": "stdlib",
            "python": platform.python_version(),
            "files": len(self._scan.shards),
            "bytes": self._scan.bytes,
            "undecodable": list(self._scan.undecodable),
        }

    @cached_property
    def _scan(self) -> _Scan:
        shards, digests, total, undecodable = [], [], 0, []
        for name in shuffled(_python_files(self.folder)):
            raw = (self.folder / name).read_bytes()
            try:
                raw.decode()
            except UnicodeDecodeError:
                undecodable.append(name)
                continue
            shards.append(name)
            digests.append(hashlib.blake2b(raw, digest_size=16).hexdigest())
            total += len(raw)
        if not shards:
            raise InputError(
                f"this Python's standard library has no source files in {self.folder}",
                "install them, or name other text with --data",
            )
        return _Scan(tuple(shards), tuple(digests), total, tuple(sorted(undecodable)))


def _python_files(folder: Path) -> Iterator[str]:
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in names:
            if name.endswith(".py") and not name.startswith(_GENERATED):
                yield (Path(here) / name).relative_to(folder).as_posix()

"""Text files: a path, a glob such as `corpus/**/*.txt`, a folder, or several of these with commas between."""

import glob
import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from llmscale import formats
from llmscale.errors import InputError
from llmscale.sources import Source, digest_of, refuse_dataset_options, shuffled

_TABULAR: Final = (".jsonl", ".csv", ".parquet")
_SUPPORTED: Final = f"{' '.join(formats.FORMATS)}, and each with {' '.join(formats.COMPRESSIONS)}"


def open_source(name: str, *, config: str | None, split: str, text_column: str) -> Source:
    refuse_dataset_options("files", config, split)
    return Files(name, _find(name), text_column)


def looks_like_files(name: str) -> bool:
    """Whether `name` means files, even when there are none: it exists, is a pattern, or ends in a known suffix."""
    return any(
        glob.has_magic(part)
        or part.startswith((".", "~", "/"))
        or part.endswith("/")
        or Path(part).suffix.lower() in (*formats.FORMATS, *formats.COMPRESSIONS)
        or Path(part).exists()
        for part in _parts(name)
    )


class Files(Source):
    """Every file is a shard; a row of JSON lines, CSV or parquet is a document, and so is a piece of plain text."""

    def __init__(self, name: str, paths: list[Path], text_column: str) -> None:
        self.name = name
        self.text_column = text_column
        common = Path(os.path.commonpath([path.parent for path in paths]))
        self._paths = {path.relative_to(common).as_posix(): path for path in paths}
        self._shards = tuple(shuffled(self._paths))

    @property
    def shards(self) -> tuple[str, ...]:
        return self._shards

    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        documents = formats.read_documents(self._paths[self.shards[shard]], self.text_column)
        for number, document in enumerate(documents):
            if number >= start:
                yield document

    def fingerprint(self) -> str:
        return digest_of(["files", self._column or "", *self.shards, *self._digests])

    def estimated_bytes(self) -> int:
        expansions: dict[str, float] = {}
        total = 0.0
        for path in self._paths.values():
            if formats.format_of(path) == ".parquet":
                total += formats.parquet_bytes(path, self.text_column)
                continue
            kind = "".join(path.suffixes[-2:]).lower()
            if kind not in expansions:
                expansions[kind] = formats.expansion(path)
            total += path.stat().st_size * expansions[kind]
        return round(total)

    def describe(self) -> dict[str, Any]:
        return {
            "source": "files",
            "name": self.name,
            "files": len(self.shards),
            "bytes_on_disk": sum(path.stat().st_size for path in self._paths.values()),
            "text_column": self._column,
        }

    @property
    def _column(self) -> str | None:
        """The text column, where any file has columns."""
        tabular = any(formats.format_of(path) in _TABULAR for path in self._paths.values())
        return self.text_column if tabular else None

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        return tuple(_digest(self._paths[name]) for name in self.shards)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", "name files you may read") from error


def _parts(name: str) -> list[str]:
    return [name] if Path(name).exists() else [part.strip() for part in name.split(",") if part.strip()]


def _find(name: str) -> list[Path]:
    """The files that `name` means, each once. Raises InputError when a part of it names none."""
    found: dict[Path, None] = {}
    for part in _parts(name):
        paths = _matching(part)
        if not paths:
            what = f"no file matches {part}" if glob.has_magic(part) else f"{part} does not exist"
            raise InputError(what, "name files there are, like corpus/**/*.txt")
        unsupported = [path for path in paths if formats.format_of(path) is None]
        if unsupported:
            raise InputError(f"{unsupported[0]} has a suffix that is not supported", f"supported are {_SUPPORTED}")
        found |= dict.fromkeys(path.absolute() for path in paths)
    if not found:
        raise InputError("the list of files is empty", "name files, like corpus/**/*.txt")
    if all(path.stat().st_size == 0 for path in found):
        first, *more = found
        raise InputError(
            f"{first} is empty" if not more else f"all {len(found)} files of {name} are empty", "name files with text"
        )
    return list(found)


def _matching(part: str) -> list[Path]:
    expanded = os.path.expanduser(part)
    path = Path(expanded)
    if path.is_dir():
        inside = [file for file in path.rglob("*") if file.is_file() and formats.format_of(file)]
        shown = [file for file in inside if not any(p.startswith(".") for p in file.relative_to(path).parts)]
        if not shown:
            raise InputError(f"the folder {part} holds no text files", f"supported are {_SUPPORTED}")
        return shown
    if path.is_file():
        return [path]
    if path.exists():
        raise InputError(f"{part} is not a regular file", "name regular files")
    return [Path(match) for match in glob.glob(expanded, recursive=True) if Path(match).is_file()]

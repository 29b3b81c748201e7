"""Text files: a path, a glob like `corpus/**/*.txt`, a folder, or several with commas between."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, listed
from llmscale.measure.text import compression
from llmscale.measure.text import file_formats as formats
from llmscale.measure.text.contents import look
from llmscale.measure.text.parquet_text import parquet_bytes
from llmscale.measure.text.sources import Source, digest_of, refuse_dataset_options, shuffled
from llmscale.measure.text.sources._paths import Found, find, looks_like_files

__all__ = ["Files", "looks_like_files", "open_source"]


def open_source(name: str, *, config: str | None, split: str, text_column: str) -> Source:
    refuse_dataset_options("files", config, split)
    return Files(name, find(name), text_column)


class Files(Source):
    """Every file is a shard; a row of a table, or a piece of plain text, is a document."""

    def __init__(self, name: str, found: Found, text_column: str) -> None:
        self.name = name
        self.text_column = text_column
        self._passed_over = list(found.passed_over)
        paths = [*found.files, *self._of_use(found.optional, only=not found.files)]
        common = Path(os.path.commonpath([path.parent for path in paths]))
        self._paths = {path.relative_to(common).as_posix(): path for path in paths}
        self._shards = tuple(shuffled(self._paths))
        self._contents = {shard: look(path) for shard, path in self._paths.items()}
        self._columns = {
            shard: formats.column_of(path, text_column, self._contents[shard])
            for shard, path in self._paths.items()
        }

    @property
    def shards(self) -> tuple[str, ...]:
        return self._shards

    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        name = self.shards[shard]
        column = self._columns[name] or self.text_column
        documents = formats.read_documents(self._paths[name], column, self._contents[name])
        for number, document in enumerate(documents):
            if number >= start:
                yield document

    def fingerprint(self) -> str:
        return digest_of(["files", self._column or "", *self.shards, *self._digests])

    def estimated_bytes(self) -> int:
        expansions: dict[str, float] = {}
        total = 0.0
        for shard, path in self._paths.items():
            if self._contents[shard].format == ".parquet":
                total += parquet_bytes(path, self._columns[shard] or self.text_column)
                continue
            kind = "".join(path.suffixes[-2:]).lower()
            if kind not in expansions:
                expansions[kind] = compression.expansion(path)
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

    def remarks(self) -> tuple[str, ...]:
        return tuple(self._remarks())

    def _remarks(self) -> Iterator[str]:
        usual = (None, self.text_column)
        chosen = Counter(column for column in self._columns.values() if column not in usual)
        for column, count in chosen.items():
            files = f"{count:,} file{'s' * (count != 1)}"
            yield f"the text is column {column!r} of {files}: there is no {self.text_column!r}"
        said: dict[str, list[str]] = {}
        for shard in self.shards:
            if (remark := self._contents[shard].remark) is not None:
                said.setdefault(remark, []).append(shard)
        for remark, shards in said.items():
            yield f"{listed(shards, 3)} {remark}"
        formats_read = Counter(content.format for content in self._contents.values())
        if len(formats_read) > 1:
            counts = listed(f"{count:,} {form}" for form, count in sorted(formats_read.items()))
            yield f"read {counts} files together"
        tables = [shard for shard in self.shards if self._contents[shard].tabular]
        empty = [shard for shard in tables if self._paths[shard].stat().st_size == 0]
        if empty:
            yield f"{len(empty):,} of {len(tables):,} files with rows are empty: {listed(empty, 3)}"
        yield from self._passed_over

    def _of_use(self, optional: list[Path], only: bool) -> Iterator[Path]:
        """Those of the files that may be text or describe it that have the column of text; all, if
        there are no others, so that what is wrong with them is said."""
        left_out = []
        for path in optional:
            if only or self._is_text(path):
                yield path
            else:
                left_out.append(path.name)
        if left_out:
            self._passed_over.append(
                f"without a column {self.text_column!r}, left out: {listed(left_out)}"
            )

    def _is_text(self, path: Path) -> bool:
        try:
            content = look(path)
            column = formats.column_of(path, self.text_column, content)
            return column is not None or not content.tabular
        except InputError:
            return False

    @property
    def _column(self) -> str | None:
        """The text column, if any file has columns."""
        if not any(content.tabular for content in self._contents.values()):
            return None
        columns = {column for column in self._columns.values() if column}
        return ",".join(sorted(columns)) or self.text_column

    @cached_property
    def _digests(self) -> tuple[str, ...]:
        return tuple(_digest(self._paths[name]) for name in self.shards)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}", "name files you may read"
        ) from error

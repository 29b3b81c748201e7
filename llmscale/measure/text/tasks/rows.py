"""The rows of a task: of files, or made by a generator; each with the place where it stands."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.measure.text.contents import look
from llmscale.measure.text.file_formats import first_row, read_documents, read_rows
from llmscale.measure.text.sources import digest_of
from llmscale.measure.text.sources._paths import find
from llmscale.measure.text.tasks.formats import Example, reader_of
from llmscale.measure.text.tasks.generators import Made, is_made, made
from llmscale.measure.text.tasks.spec import TaskSpec

_NAME_IT = "name a file of JSON lines, CSV or parquet, or a task that is made: task:translation"


@dataclass(frozen=True)
class Task:
    """The examples that a TaskSpec names, always the same ones in the same order."""

    spec: TaskSpec
    paths: tuple[Path, ...]
    made: Made | None

    def fingerprint(self) -> str:
        """Equal ones give equal examples."""
        told = {name: value for name, value in vars(self.spec).items() if name != "source"}
        settings = [f"{name}={value}" for name, value in sorted(told.items())]
        if self.made is not None:
            return digest_of(["made", self.made.fingerprint(), *settings])
        digests = []
        for path in self.paths:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        return digest_of(["files", *digests, *settings])

    def examples(self, say: Any = lambda remark: None) -> Iterator[tuple[str, Example]]:
        """Every example with its place; `say` is told what was taken for what. Raises InputError
        for a row that is none."""
        if self.made is not None:
            yield from self._examples_of(self.made.rows(), f"the task {self.spec.source}", say)
            return
        for path in self.paths:
            content = look(path)
            if content.tabular:
                row = first_row(path, content)
                if row is None:
                    raise InputError(f"{path} has no rows", _NAME_IT)
                columns = None
                if content.format == ".parquet":
                    columns = list(reader_of(self.spec, row, str(path)).columns.values())
                yield from self._examples_of(read_rows(path, columns, content), str(path), say)
                continue
            if self.spec.format not in ("auto", "text"):
                raise InputError(f"{path} is plain text, and has no columns", _NAME_IT)
            texts = enumerate(read_documents(path, "text", content))
            rows = ((f"{path}, piece {number}", {"text": text}) for number, text in texts)
            yield from self._examples_of(rows, str(path), say)

    def _examples_of(
        self, rows: Iterator[tuple[str, Mapping[str, Any]]], source: str, say: Any
    ) -> Iterator[tuple[str, Example]]:
        reader = None
        for where, row in rows:
            if reader is None:
                reader = reader_of(self.spec, row, source)
                if reader.remark:
                    say(reader.remark)
            yield where, reader.read(row, where)


def open_task(spec: TaskSpec) -> Task:
    """The task that `spec` names, before it is read. Raises InputError if there is none."""
    if not spec.source.strip():
        raise InputError("no task was named", f"{_NAME_IT}, with --data")
    if is_made(spec.source):
        return Task(spec, (), made(spec.source))
    found = find(spec.source)
    return Task(spec, (*found.files, *found.optional), None)

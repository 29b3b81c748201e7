"""What a file must not be written over: what is read to make it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.explain.estimation.result import Fit
from llmscale.explain.fit.kept import is_kept, named_table
from llmscale.explain.table import RunTable
from llmscale.runs.results_folder import ResultsFolder


def refuse_input(path: Path, source: Any) -> None:
    """Raise InputError if the file `path`, which is to be written, is one that `source` is read
    from."""
    for read in _files(source):
        if _is_one(path, read):
            raise InputError(f"{path} is read, and would be written over", "name another file")


def _files(source: Any) -> Iterator[Path]:
    """The files of a table or a fit, or of several; of a fit that of its table, too."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        yield path
        if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
            yield from _of_folder(ResultsFolder(path))
        elif is_kept(path):
            yield named_table(path)
    elif isinstance(source, RunTable):
        yield from _files(source.path)
    elif isinstance(source, Fit):
        yield from _files(source.origin.path)
        if source.kept is not None:
            yield source.kept
    elif isinstance(source, Sequence):
        for one in source:
            yield from _files(one)


def _of_folder(folder: ResultsFolder) -> tuple[Path, ...]:
    return folder.runs_path, folder.curves_path, folder.sweep_path, folder.adaptive_path


def _is_one(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # one of them is not there, or is no path
        return False

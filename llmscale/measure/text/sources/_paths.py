"""The files that a path, a folder, a glob or a list of them means; what is left out is said."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from llmscale.errors import InputError, listed
from llmscale.measure.text.compression import COMPRESSIONS
from llmscale.measure.text.contents import SUFFIXES, suffix_of

SUPPORTED: Final = f"{' '.join(SUFFIXES)}, and each with {' '.join(COMPRESSIONS)}"
_URL: Final = "://"
_OPTIONAL: Final = (".json", ".ndjson", ".tsv", ".text")
"""In a folder these often stand next to the text and describe it, so that their content decides."""


@dataclass
class Found:
    """Files, in the order they were named, and what was passed over in folders."""

    files: list[Path] = field(default_factory=list)
    optional: list[Path] = field(default_factory=list)
    """Files of a folder that may be text or describe it."""
    passed_over: list[str] = field(default_factory=list)
    """What else lies in the folders, in words."""


def parts_of(name: str) -> list[str]:
    """The paths and patterns in `name`, with commas between, unless a file is called that."""
    if exists(Path(name)):
        return [name]
    return [part.strip() for part in name.split(",") if part.strip()]


def exists(path: Path) -> bool:
    """Whether there is something at `path`; a name that no file can have is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def looks_like_files(name: str) -> bool:
    """Whether `name` means files, there or not: it exists, is a pattern, or has a known suffix."""
    return any(
        glob.has_magic(part)
        or part.startswith((".", "~", "/"))
        or part.endswith("/")
        or _URL in part
        or Path(part).suffix.lower() in (*SUFFIXES, *COMPRESSIONS)
        or exists(Path(part))
        for part in parts_of(name)
    )


def find(name: str) -> Found:
    """The files that `name` means, each once. Raises InputError when a part of it names none."""
    found = Found()
    for part in parts_of(name):
        _find_part(part, found)
    found.files = list(dict.fromkeys(path.absolute() for path in found.files))
    named = set(found.files)
    others = dict.fromkeys(path.absolute() for path in found.optional)
    found.optional = [path for path in others if path not in named]
    if not found.files and not found.optional:
        raise InputError("the list of files is empty", "name files, like corpus/**/*.txt")
    everything = [*found.files, *found.optional]
    if all(path.stat().st_size == 0 for path in everything):
        first, *more = everything
        raise InputError(
            f"{first} is empty" if not more else f"all {len(everything)} files of {name} are empty",
            "name files with text",
        )
    return found


def _find_part(part: str, found: Found) -> None:
    if _URL in part:
        raise InputError(
            f"{part} is an address, and text is read from files and from datasets of the hub",
            "download it and name the file, or name the dataset: owner/name",
        )
    expanded = os.path.expanduser(part)
    path = Path(expanded)
    is_there = False
    try:
        path.stat()
        is_there = True
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        if not glob.has_magic(expanded):
            raise _unreadable(part, error) from None
    if is_there and path.is_dir():
        _find_inside(path, part, found)
    elif is_there and path.is_file():
        found.files.append(path)
    elif is_there:
        raise InputError(f"{part} is not a regular file", "name regular files")
    elif glob.has_magic(expanded):
        found.files += _matching(expanded, part)
    elif path.is_symlink():
        raise InputError(
            f"{part} is a link to {os.readlink(path)}, which does not exist", "name files there are"
        )
    else:
        raise InputError(f"{part} does not exist", "name files there are, like corpus/**/*.txt")


def _find_inside(folder: Path, part: str, found: Found) -> None:
    files, optional, others, links = [], [], [], []
    if folder.resolve() == Path(folder.anchor or "/").resolve():
        raise InputError(
            f"{part} is the whole of this machine's files", "name a folder of text, like corpus/"
        )
    for path in _walk(folder):
        if path.is_symlink() and path.is_dir():
            links.append(path)
        elif suffix_of(path) is None:
            others.append(path)
        elif not _regular(path):
            continue
        elif suffix_of(path) in _OPTIONAL or path.suffix.lower() == ".bz2":
            optional.append(path)
        else:
            files.append(path)
    if not files and not optional:
        raise InputError(f"the folder {part} holds no text files", f"supported are {SUPPORTED}")
    found.files += files
    found.optional += optional
    if others:
        kinds = dict.fromkeys(path.suffix or path.name for path in others)
        count = f"{len(others):,} file{'s' * (len(others) != 1)}"
        found.passed_over.append(
            f"{count} of other kinds in {part} left out ({listed(sorted(kinds))})"
        )
    if links:
        found.passed_over.append(
            f"folders in {part} that are links were not followed: {listed(links)}"
        )


def _walk(folder: Path) -> Iterator[Path]:
    """Files and links to folders under `folder`, but for hidden ones. Raises InputError."""

    def refuse(error: OSError) -> None:
        raise _unreadable(str(error.filename or folder), error) from None

    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        yield from (Path(here) / name for name in (*links, *names) if not name.startswith("."))


def _regular(path: Path) -> bool:
    """Whether it is a file, no pipe or device. Raises InputError for a link to nowhere."""
    try:
        path.stat()
    except FileNotFoundError:
        raise InputError(
            f"{path} is a link to {os.readlink(path)}, which does not exist",
            "put the file there or remove the link",
        ) from None
    except OSError as error:
        raise _unreadable(str(path), error) from None
    return path.is_file()


def _matching(pattern: str, part: str) -> list[Path]:
    """The files that a pattern matches. Raises InputError for a folder on the way that cannot be
    read: `glob` would leave it out."""
    steps = Path(pattern).parts
    for depth in range(1, len(steps)):
        before = str(Path(*steps[:depth]))
        folders = glob.glob(before, recursive=True) if glob.has_magic(before) else [before]
        if glob.has_magic(steps[depth]):
            _refuse_unreadable(folders)
        elif glob.has_magic(before):
            _refuse_closed(folders)
    paths = [Path(match) for match in glob.glob(pattern, recursive=True) if Path(match).is_file()]
    if not paths:
        raise InputError(f"no file matches {part}", "name files there are, like corpus/**/*.txt")
    return paths


def _refuse_unreadable(folders: list[str]) -> None:
    for folder in folders:
        if os.path.isdir(folder):
            try:
                with os.scandir(folder):
                    pass
            except OSError as error:
                raise _unreadable(folder, error) from None


def _refuse_closed(folders: list[str]) -> None:
    for folder in folders:
        if os.path.isdir(folder) and not os.access(folder, os.X_OK):
            raise _unreadable(folder, PermissionError(13, "Permission denied"))


def _unreadable(name: str, error: OSError | ValueError) -> InputError:
    shown = name if len(name) <= 80 else f"{name[:60]}... ({len(name)} characters)"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(
        f"cannot read {shown}: {reason}", "name files you may read, like corpus/**/*.txt"
    )

"""Names and places that came from elsewhere: refused if they lead out of the results."""

import errno
import os
import re
from pathlib import Path

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.errors.printable import shortened

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_NAME_MAX = 255


def is_plain(name: str) -> bool:
    """Whether `name` can name a file and no place elsewhere."""
    return _PLAIN_NAME.fullmatch(name) is not None


def plain_name(name: str) -> str:
    """`name`, from a table or JSON, if it names a file and no place elsewhere. InputError."""
    if not is_plain(str(name)):
        problem = f"{name!r} is no name of a run or of a file of one"
        raise InputError(problem, "use results that llmscale wrote")
    return name


def refuse_unusable(path: Path, fix: str) -> Path:
    """`path`, unless the system cannot look for it (too long, circular links). InputError."""
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


def refuse_links(folder: Path, *, with_runs: bool = True) -> None:
    """Raise InputError if a link inside a results folder leads out of it: writes would follow."""
    root = folder.resolve()
    runs = (folder / "runs", *folder.glob("runs/*")) if with_runs else ()
    for place in (folder, folder / "figures", *runs):
        for path in place.iterdir() if place.is_dir() else ():
            if not path.is_symlink():
                continue
            leads_to = _end_of_links(path)
            if leads_to is not None and leads_to.is_relative_to(root):
                continue
            where = f"to {leads_to}, outside of {folder}" if leads_to else "that leads in a circle"
            fix = f"remove the link: {command_line('rm', path)}"
            raise InputError(f"{path} is a link {where}", fix)


def _end_of_links(path: Path) -> Path | None:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a circle: RuntimeError before Python 3.13
        return None

"""The file that a figure is written to."""

from pathlib import Path

from matplotlib.figure import Figure

from llmscale.errors import InputError
from llmscale.explain.figures._style import ENDINGS, render
from llmscale.runs.safe_write import check_file_place, make_folder, write_bytes

_PLACE = "name a file that ends in .png, .pdf or .svg, in a folder that you may write to"


def check_place(path: Path) -> None:
    """Raise InputError for a file that cannot be drawn into, before anything is fitted."""
    _ending(path)
    check_file_place(path, _PLACE)


def write(figure: Figure, path: Path) -> Path:
    """Draw into `path`, whose folder is made if it is not there. Raises InputError."""
    check_place(path)
    make_folder(path.parent, _PLACE)
    write_bytes(path, render(figure, _ending(path)))
    return path


def _ending(path: Path) -> str:
    """The kind of file to write. Raises InputError for one that is not drawn."""
    ending = path.suffix.lower().removeprefix(".")
    if ending not in ENDINGS:
        raise InputError(
            f"cannot draw into {path}: its ending is {ending!r}",
            "name a file that ends in .png, .pdf or .svg",
        )
    return ending

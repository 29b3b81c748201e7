"""Figures and a page of what goes on inside models, from what `llmscale inspect` found there."""

from pathlib import Path

from llmscale.errors import InputError
from llmscale.explain.figures import Drawing
from llmscale.runs.inspection import InspectedLadder, Inspection
from llmscale.runs.safe_paths import refuse_unusable

__all__ = ["plot_inspection", "write_page"]

PAGE_WIDTH_INCHES = 7.0
"""Of two columns of a paper."""


def plot_inspection(
    found: Inspection | InspectedLadder,
    output: Path | str | None = None,
    *,
    width: float = PAGE_WIDTH_INCHES,
) -> Drawing:
    """The figure of a text's attention and losses, or of how induction and the reach of attention
    change with size; written to `output`, a .png, .pdf or .svg, if that is given. Raises
    InputError."""
    from llmscale.explain.inside import attention_figure, ladder_figure

    if isinstance(found, Inspection):
        drawing = attention_figure.draw(found, width)
    else:
        drawing = ladder_figure.draw(found, width)
    return drawing if output is None else drawing.save(output)


def write_page(found: Inspection, path: Path | str) -> Path:
    """Write one HTML page that needs nothing else: the losses of the text as colours, what was
    expected in each place, and the attention of each head, with its weights. Raises InputError."""
    from llmscale.explain.inside.page import page
    from llmscale.runs.safe_write import make_folder, write_text

    fix = "name a file that ends in .html, in a folder that you may write to"
    path = refuse_unusable(Path(path), fix)
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise InputError(f"{path} is no place for a page", fix)
    make_folder(path.parent, fix)
    write_text(path, page(found))
    return path

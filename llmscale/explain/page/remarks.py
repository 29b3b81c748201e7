"""What a page says in sentences: of its budget, and of how far to believe it, the latter as HTML
with nothing in it but escaped text."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from llmscale.errors import Note
from llmscale.errors.printable import masked, one_line, shortened
from llmscale.explain import digits, html
from llmscale.explain.forecast.best_size import Optimum
from llmscale.notes import MOST_SHOWN, heaviest_first
from llmscale.quantity import format_count


def sentence(metric: str, best: Optimum, level: float) -> str:
    """`With 1e+22 FLOPs: 8.1B parameters [...], 205B tokens [...], loss 2.03 [...] (90%)`."""
    counts = [f"{_count(best, name)}" for name in ("params", "tokens")]
    low, high = best.intervals.get("loss", (math.nan, math.nan))
    loss = digits.with_ends(best.loss, low, high)
    certain = f" ({100 * level:g}%)" if math.isfinite(low) else ""
    return f"With {best.flops:.3g} FLOPs: {', '.join(counts)}, {metric} {loss}{certain}"


def _count(best: Optimum, name: str) -> str:
    word = {"params": "parameters"}.get(name, name)
    said = f"{format_count(getattr(best, name))} {word}"
    if name not in best.intervals:
        return said
    low, high = map(format_count, best.intervals[name])
    return f"{said} [{low}, {high}]"


def remarks(
    said: Iterable[tuple[str, str]], notes: Sequence[Note], lacking: Iterable[str], path: Path
) -> str:
    """Sentences with their names, what the page lacks, and the notes of the fit: the weightiest,
    and the others if a reader asks for them. Of the table's path only the name is told."""

    def without_path(text: str) -> str:
        return text.replace(str(path), path.name)

    ordered = [
        replace(note, message=without_path(note.message))
        for note in heaviest_first(dict.fromkeys(notes))
    ]
    parts = [_paragraph(name, without_path(text)) for name, text in said if text]
    parts += map(html.sentence, lacking)
    parts += [_paragraph(note.code, note.message) for note in ordered[:MOST_SHOWN]]
    return "".join([*parts, html.notes(ordered[MOST_SHOWN:], keywords=False)])


def _paragraph(name: str, text: str) -> str:
    """In full, which a notebook has no room for."""
    return f"<p><b>{escape(name)}:</b> {escape(masked(one_line(shortened(text))))}</p>"

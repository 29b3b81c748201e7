"""What a page says of how far to believe it, as HTML with nothing in it but escaped text."""

from collections.abc import Iterable, Sequence

from llmscale.errors import Note
from llmscale.explain import html
from llmscale.notes import MOST_SHOWN, heaviest_first


def remarks(
    said: Iterable[tuple[str, str]], notes: Sequence[Note], lacking: Iterable[str]
) -> str:
    """Sentences with their names, what the page lacks, and the notes of the fit: the weightiest,
    and the others where a click shows them."""
    ordered = heaviest_first(dict.fromkeys(notes))
    parts = [html.title(f"{name}:", text) for name, text in said if text]
    parts += map(html.sentence, lacking)
    parts += [html.title(f"{note.code}:", note.message) for note in ordered[:MOST_SHOWN]]
    return "".join([*parts, html.notes(ordered[MOST_SHOWN:])])

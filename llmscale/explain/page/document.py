"""The page itself: its parts, which lie in parts/ as they are written, put together with the data
into one file."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from llmscale.errors import InputError, Note
from llmscale.errors.printable import clean, masked
from llmscale.explain.estimation.result import Fit
from llmscale.runs.safe_paths import refuse_unusable
from llmscale.runs.safe_write import make_folder, write_text

_PARTS = Path(__file__).parent / "parts"
_SCRIPTS = (
    *("numbers", "surface", "text_law", "frontier", "decide"),
    *("drawing", "map", "curve", "words", "controls", "main"),
)
"""In the order in which they build on each other."""
_PLACE = "name a file that ends in .html, in a folder that you may write to"


@dataclass(frozen=True)
class Page:
    """A page to explore a law on, as the text of one HTML file, and the file that it was written
    to."""

    html: str = field(repr=False)
    sentence: str
    """What it says at first."""
    fit: Fit = field(repr=False)
    notes: tuple[Note, ...] = field(default=(), repr=False)
    path: Path | None = None

    def save(self, path: Path | str) -> "Page":
        """Write the page. Raises InputError."""
        place = check_place(path)
        make_folder(place.parent, _PLACE)
        write_text(place, self.html)
        return replace(self, path=place)

    def to_json(self) -> dict[str, Any]:
        """What `explore --json` prints."""
        return {
            "path": self.path and str(self.path),
            "law": self.fit.law.name,
            "bytes": len(self.html.encode()),
            "sentence": self.sentence,
            "warnings": [note.to_json() for note in self.notes],
        }

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        """What a notebook shows: the page in a frame of its own."""
        return (
            f'<iframe srcdoc="{escape(self.html)}" sandbox="allow-scripts" width="100%" '
            'height="900" title="llmscale explore"></iframe>'
        )


def check_place(path: Path | str) -> Path:
    """Where a page can be written. Raises InputError for any other place."""
    place = refuse_unusable(Path(path).expanduser(), _PLACE)
    if place.suffix.lower() not in (".html", ".htm") or place.is_dir():
        raise InputError(f"{place} is no place for a page", _PLACE)
    return place


def assembled(texts: Mapping[str, str], notes: str, data: Mapping[str, Any]) -> str:
    """The page with these texts, none of which is markup, with `notes`, which is, and the data."""
    style = _part("page.css")
    script = "\n".join(_part(f"{name}.js") for name in _SCRIPTS)
    script = f"'use strict';\n{script}"
    shown = {name: escape(masked(clean(text))) for name, text in texts.items()}
    return Template(_part("page.html")).substitute(
        shown,
        policy=_policy(style, script),
        style=style,
        script=script,
        notes=notes,
        data=_within_script(data),
    )


@cache
def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8").strip()


def _policy(style: str, script: str) -> str:
    """What the browser may do: run this script, apply this style, and nothing else at all."""
    allowed = {"script-src": script, "style-src": style}
    rules = [f"{kind} '{_digest(text)}'" for kind, text in allowed.items()]
    return "; ".join(["default-src 'none'", *rules, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    # The element holds the text with a line end before it and one after it.
    digest = hashlib.sha256(f"\n{text}\n".encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _within_script(data: Mapping[str, Any]) -> str:
    """JSON that nothing within can end the script that holds it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

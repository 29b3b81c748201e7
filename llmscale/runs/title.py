"""How a run is named to people: by size, tokens and how it was made; to programs by `run_id`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llmscale.quantity import format_count
from llmscale.runs.run import DEFAULT_RECIPE

if TYPE_CHECKING:
    import pandas as pd

_DIGEST = r"(?=.*\d)[0-9a-f]{7,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MADE_UP = re.compile(rf"({_DIGEST}|(?=.*\d[a-z])[0-9a-z]{{8}})(~\w+)?", re.IGNORECASE)
"""Ids that a program gave: digests, UUIDs, the eight letters of Weights & Biases."""
_SHOWN_OF_AN_ID = 12


class Described(Protocol):
    """A run of a sweep: its row, its job, or how it stands."""

    @property
    def size(self) -> str: ...
    @property
    def recipe(self) -> str | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def tokens(self) -> int: ...


def short_name(run: Described) -> str:
    """`3M wide seed 1 retry`: the size, and what tells a run from others of that budget."""
    recipe = f" {run.recipe}" if run.recipe not in (None, DEFAULT_RECIPE) else ""
    seed = f" seed {run.seed}" if run.seed else ""
    retry = " retry" if getattr(run, "retry_of", None) else ""
    return f"{run.size}{recipe}{seed}{retry}"


def short_title(run: Described) -> str:
    """`3M wide seed 1 on 60M`: for lines of progress."""
    return f"{short_name(run)} on {format_count(run.tokens)}"


def run_title(run_id: str, values: Mapping[str, Any]) -> str:
    """`3M at 60M tokens, seed 1` of a run with an id that means nothing; else its own name.

    `values` are its row: params (or the name of its size), tokens, recipe and seed, as far as they
    are known."""
    if not _MADE_UP.fullmatch(str(run_id)):
        return str(run_id)
    size = _text(values.get("size")) or _count(values.get("params"))
    if size is None:
        return str(run_id)
    tokens, recipe = _count(values.get("tokens")), _text(values.get("recipe"))
    seed = _number(values.get("seed"))
    title = f"{size} at {tokens} tokens" if tokens else size
    if recipe and recipe != DEFAULT_RECIPE:
        title += f", {recipe}"
    return f"{title}, seed {seed:g}" if seed is not None else title


def run_titles(frame: "pd.DataFrame", rows: Iterable[int] | None = None) -> list[str]:
    """The titles of these rows, or of all; those shared carry the start of the id, too, and rows
    of one run (checkpoints) their tokens."""
    every = range(len(frame)) if rows is None else list(rows)
    telling = ("run_id", "size", "params", "tokens", "recipe", "seed")
    names = [name for name in telling if name in frame]
    records = frame[names].iloc[list(every)].to_dict("records")
    titles = [run_title(str(record["run_id"]), record) for record in records]
    repeated = frame["run_id"].duplicated(keep=False).to_numpy()
    for place, (row, record) in enumerate(zip(every, records, strict=True)):
        tokens = _count(record.get("tokens"))
        if repeated[row] and tokens and titles[place] == str(record["run_id"]):
            titles[place] += f" at {tokens} tokens"
    return told_apart(titles, [str(record["run_id"]) for record in records])


def told_apart(titles: Sequence[str], run_ids: Sequence[str]) -> list[str]:
    """The titles of runs; those that several runs share carry the start of the id, too."""
    owners: dict[str, set[str]] = {}
    for title, run_id in zip(titles, run_ids, strict=True):
        owners.setdefault(title, set()).add(run_id)
    return [
        f"{title} ({run_id[:_SHOWN_OF_AN_ID]})" if len(owners[title]) > 1 else title
        for title, run_id in zip(titles, run_ids, strict=True)
    ]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def _count(value: Any) -> str | None:
    number = _number(value)
    return format_count(number) if number is not None and number > 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None

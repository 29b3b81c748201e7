"""`name=value` lists of the command line; names with commas, signs or blanks are quoted."""

import re
from collections.abc import Mapping

from llmscale.errors import InputError
from llmscale.explain.table.columns.names import ALIASES, quantity_of

_PART = r"""(?:"[^"]*"|'[^']*'|`[^`]*`|[^,="'`]+)"""
_PAIR = re.compile(rf"\s*({_PART})\s*=\s*({_PART})\s*(?:,|$)")

_IN_QUOTES = "'loss=\"a=b\"'"


def parse_pairs(text: str, option: str, what: str, example: str) -> list[tuple[str, str]]:
    """The pairs of `loss=X,tokens="Tokens (B, unique)"`, in order. Raises InputError."""
    pairs, at = [], 0
    while at < len(text):
        if not text[at:].strip(" ,"):
            break
        if text[at] == ",":
            at += 1
            continue
        match = _PAIR.match(text, at)
        name, value = (_unquoted(match[1]), _unquoted(match[2])) if match else ("", "")
        if match is None or not (name and value):
            rest = text[at:].strip()
            marked = re.search(r"[\"'`]", rest)
            why = f": {rest[:40]!r} cannot be read" if marked or at else ""
            raise InputError(
                f"{option} {text[:200]!r} is not a list of {what}{why}",
                f"write it like {example}; put a name with a comma, a blank or = in quotes within "
                f"those of the shell: {option} {_IN_QUOTES}",
            )
        pairs.append((name, value))
        at = match.end()
    if not pairs:
        raise InputError(f"{option} is empty", f"write it like {example}, or leave it out")
    return pairs


def parse_columns(text: str | None) -> dict[str, str] | None:
    """`params=X,loss="val, nats"` as {"params": "X", "loss": "val, nats"}; None for None.
    Raises InputError unless every quantity has one column, and every column is one quantity."""
    if text is None:
        return None
    columns: dict[str, str] = {}
    for name, column in parse_pairs(
        text, "--columns", "quantity=column", "params=X,tokens=Y,loss=Z"
    ):
        quantity = quantity_of(name)
        before = next((other for other in columns if quantity_of(other) == quantity), None)
        if before is not None:
            twice = name if name == before else f"{name} (which is {before})"
            raise InputError(
                f"--columns gives {twice} twice: {columns[before]!r} and {column!r}",
                "give each quantity one column",
            )
        columns[name] = column
    check_shared({quantity_of(name): column for name, column in columns.items()}, "--columns")
    return columns


def check_shared(found: Mapping[str, str], source: object) -> None:
    """Raise InputError if two of params, tokens, flops and loss are the same column."""
    quantities = [quantity for quantity in ALIASES if quantity in found]
    for number, quantity in enumerate(quantities):
        for other in quantities[:number]:
            if found[quantity] == found[other]:
                raise InputError(
                    f"{source} takes the column {found[quantity]!r} for {other} and for {quantity}",
                    f"say which column is which: --columns {other}=NAME,{quantity}=NAME",
                )


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        return text[1:-1]
    return text


def quoted(name: str) -> str:
    """A column's name as `--columns` takes it in a shell, quoted if it has to be."""
    if not re.search(r"[^\w./:@%+-]", name):
        return name
    if set(name) & set(",="):
        name = f'"{name}"'
    return f"'{name}'"

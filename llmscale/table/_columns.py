"""Which column of a source holds which quantity: by its names, by the last part of a nested name, or as told."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from llmscale.errors import InputError, listed

ALIASES: dict[str, tuple[str, ...]] = {
    "params": ("params", "N", "n_params"),
    "tokens": ("tokens", "D", "n_tokens"),
    "flops": ("flops", "C", "compute", "budget"),
    "loss": ("loss", "L", "val_loss"),
}
"""Names under which a quantity is found, best first, case ignored."""

COUNTS = ("params", "params_non_embedding", "params_total")
"""The ways to count parameters that `--count` chooses from (see `llmscale.shape`)."""

NUMBERS = (
    "params_non_embedding", "params_total", "params_active", "n_experts", "unique_tokens", "pretrained", "bits", "lr",
    "lr_area", "annealing_area", "weight",
)  # fmt: skip
"""Other columns of numbers that laws and diagnostics ask for by name."""

LABELS = ("data", "optimizer", "schedule", "tokenizer", "seed")
"""Columns that tell runs apart, which diagnostics and groups ask for by name."""

_SIZES = ("params", "tokens", "flops")


def quantity_of(name: str) -> str:
    """The quantity that `name` is one of the names of (`D` is `tokens`), or `name` itself."""
    for quantity, aliases in ALIASES.items():
        if name.lower() in (alias.lower() for alias in aliases):
            return quantity
    return name


def find_columns(
    raw: pd.DataFrame, source: Path, columns: Mapping[str, str], count: str, *, nested: bool
) -> dict[str, str]:
    """The column of `raw` for each quantity that is there, mapped by `columns` first.

    `nested` says that the source groups its columns (`config.x`, `val/x`): then a name and the last part of a name
    are equally good, and two that differ are not guessed between. Raises InputError.
    """
    names = [str(column) for column in raw.columns]
    told = {_told(name): column for name, column in columns.items()}
    found: dict[str, str] = {}
    for quantity, told_column in told.items():
        if told_column not in names:
            raise InputError(
                f"{source} has no column {told_column!r} for {quantity}",
                f"its columns are {listed(names)}{nearest(told_column, names)}",
            )
        found[quantity] = told_column
    for quantity in ALIASES:
        if quantity in found:
            continue
        by_count = quantity == "params" and count != "params"
        column = _count_column(names, source, count) if by_count else _by_name(raw, names, source, quantity, nested)
        if column is not None:
            found[quantity] = column
    for name in ("run_id", *NUMBERS, *LABELS):
        same = [column for column in names if last_part(column) == name]
        if name not in found and (name in names or len(same) == 1):
            found[name] = name if name in names else same[0]
    _require(found, names, source)
    return found


def resolve(name: str, frame: pd.DataFrame) -> str:
    """The column of a table of runs that a user means by `name`. Raises InputError naming the nearest."""
    names = [str(column) for column in frame.columns]
    for guess in (name, quantity_of(name)):
        if guess in names:
            return guess
    for same in (
        [column for column in names if column.lower() == name.lower()],
        [column for column in names if re.search(rf"[./]{re.escape(name)}$", column, re.IGNORECASE)],
    ):
        if len(same) == 1:
            return same[0]
        if same:
            raise InputError(f"{name!r} may be any of the columns {listed(same)}", "write the whole name")
    raise InputError(f"the table has no column {name!r}", f"its columns are {listed(names)}{nearest(name, names)}")


def last_part(name: str) -> str:
    """`val_loss` of `summary.val_loss`, `loss` of `val/loss`, in small letters."""
    return re.split(r"[./]", name)[-1].strip().lower()


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean X?` where a known name is close to `name`, else nothing."""
    lower = {item.lower(): item for item in reversed(known)}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.6)
    return f"; did you mean {lower[close[0]]}?" if close else ""


def _told(name: str) -> str:
    """The quantity to map a column to; a likely slip of the pen is refused, for any name may be a law's input."""
    quantity = quantity_of(name)
    known = (*ALIASES, "run_id", *NUMBERS, *LABELS)
    if quantity not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
        if close:
            raise InputError(
                f"there is no quantity {name!r} to map a column to",
                f"did you mean {close[0]}? A column of your own needs a name less like it",
            )
    return quantity


def _count_column(names: list[str], source: Path, count: str) -> str:
    same = [name for name in names if name == count] or [name for name in names if last_part(name) == count]
    if len(same) == 1:
        return same[0]
    if same:
        raise InputError(f"{source} has columns {listed(same)}, and any may be {count}", _say_which("params", same))
    there = [name for name in COUNTS if name in names]
    raise InputError(
        f"{source} has no column {count!r} to count parameters by",
        f"it has {listed(there)}" if there else f"its columns are {listed(names)}",
    )


def _by_name(raw: pd.DataFrame, names: list[str], source: Path, quantity: str, nested: bool) -> str | None:
    if not nested:
        for alias in ALIASES[quantity]:
            same = [name for name in names if name.lower() == alias.lower()]
            if alias in same:
                return alias
            if len(same) > 1:
                raise InputError(
                    f"{source} has columns {listed(same)}, and any may be {quantity}", _say_which(quantity, same)
                )
            if same:
                return same[0]
    # One letter is no name below a prefix: `config.L` is likelier a number of layers than a loss.
    aliases = {alias.lower() for alias in ALIASES[quantity] if len(alias) > 1}
    same = [name for name in names if name.lower() in aliases or last_part(name) in aliases]
    if quantity == "loss":
        same = [name for name in same if not re.search(r"(^|[./_])train(ing)?[./_]", name.lower())] or same
    differ = [name for name in same[1:] if not raw[name].equals(raw[same[0]])]
    if differ:
        raise InputError(
            f"{source} has columns {listed([same[0], *differ])}, and any may be {quantity}",
            _say_which(quantity, [differ[0]]),
        )
    return same[0] if same else None


def _say_which(quantity: str, names: Sequence[str]) -> str:
    return f"say which: --columns {quantity}={names[0]}"


def _require(found: Mapping[str, str], names: list[str], source: Path) -> None:
    own = [name for name in found if name not in (*ALIASES, "run_id", *NUMBERS, *LABELS)]
    if not own and not any(name in found for name in _SIZES):
        missing = "params"
    elif "loss" not in found:
        missing = "loss"
    else:
        return
    hint = ""
    other = next((name for name in names if last_part(name) in ("perplexity", "ppl")), None)
    if missing == "loss" and other:
        hint = f", or --columns loss={other} --units loss=perplexity"
    raise InputError(
        f"{source} has no column for {missing} (looked for {', '.join(ALIASES[missing])})",
        f"its columns are {listed(names)}; say which: --columns {missing}=NAME{hint}",
    )

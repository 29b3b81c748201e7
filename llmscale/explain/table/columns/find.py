"""Which column of a source holds which quantity: by names, their last parts, or as told."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, listed
from llmscale.explain.table.columns.loss_error import LOSS_SE, NONE, error_columns, text_for_error
from llmscale.explain.table.columns.loss_hint import loss_hint
from llmscale.explain.table.columns.names import (
    ALIASES,
    LETTERS,
    OWN_TABLE,
    PLAIN,
    is_loss,
    is_only_unit,
    is_training,
    is_validation,
    last_part,
    nearest,
    plain,
    quantity_of,
    read_name,
    spellings,
    words_of,
)
from llmscale.explain.table.columns.no_flops import no_flops
from llmscale.explain.table.columns.pairs import check_shared, quoted
from llmscale.explain.table.columns.units import counts_of, numbers_of, to_base
from llmscale.explain.table.columns.validation import in_other_units, under_a_word
from llmscale.explain.table.columns.wide import refuse_wide
from llmscale.notes.reading import VALIDATION_LOSS
from llmscale.runs.shape import COUNTS

__all__ = [
    "ALIASES",
    "COUNTS",
    "LABELS",
    "NUMBERS",
    "Found",
    "find_columns",
    "nearest",
    "quantity_of",
]

NUMBERS = spellings(
    """
    params_non_embedding params_total params_active n_experts unique_tokens pretrained bits lr
    lr_area annealing_area
    """
)
"""Other columns of numbers that laws and diagnostics ask for by name."""

LABELS = ("data", "optimizer", "schedule", "tokenizer", "seed")
"""Columns that tell runs apart, which diagnostics and groups ask for by name."""

WEIGHT = "weight"
"""The column that weighs the runs, if asked for: such a name may be of a share in a mixture."""

_KNOWN = (*ALIASES, "run_id", WEIGHT, LOSS_SE, *NUMBERS, *LABELS)
_SIZES = ("params", "tokens", "flops")
_COUNTS_FOR_PARAMS = ("params_non_embedding", "params_total", "params_active")


@dataclass(frozen=True)
class Found:
    """The source's column for each quantity, the units in the columns' names, and what to say.

    `told` are the quantities that the user mapped. `aside` are columns that could have been taken
    and were not, as `column: why`; `count` says what N counts."""

    columns: dict[str, str]
    units: dict[str, str]
    told: frozenset[str]
    count: str
    aside: tuple[str, ...] = ()
    notes: tuple[Note, ...] = field(default=())


def find_columns(
    raw: pd.DataFrame,
    source: Path,
    columns: Mapping[str, str],
    count: str,
    units: Mapping[str, str],
    needs: Sequence[str] = (),
    *,
    nested: bool,
    scores: bool = False,
) -> Found:
    """The column of `raw` for each quantity that is there, mapped by `columns` first.

    `needs` are columns that a law takes by their own names, which make N, D and C dispensable.
    `nested` says that the source groups its columns (`config.x`, `val/x`): then a name and the last
    part of a name are equally good, and two that differ are not guessed between. Raises InputError.
    """
    names = [str(column) for column in raw.columns]
    search = _Search(raw, names, source, nested, frozenset(needs), {}, [], [])
    search.loss_unit = units.get("loss")
    told = {_told(name): column for name, column in columns.items()}
    for quantity, told_column in told.items():
        if quantity in ("run_id", LOSS_SE, "flops") and told_column == NONE not in search.names:
            continue  # every row is a run of its own; errors are not looked at; C = 6ND
        if told_column not in search.names:
            raise InputError(
                f"{source} has no column {told_column!r} for {quantity}",
                f"its columns are {listed(search.names)}{nearest(told_column, search.names)}",
            )
        search.columns[quantity] = told_column
    for quantity in _SIZES:
        if quantity in search.columns or told.get(quantity) == NONE:
            continue
        if not (quantity == "params" and count != "params"):
            search.size(quantity)
    if "flops" not in told and "flops" not in units:
        search.drop_no_flops()
    if "params" not in search.columns:
        count = search.count(count)
    elif count == "params" and "params" in search.columns:
        count = next((one for one in COUNTS[1:] if search.columns["params"] == one), count)
    if "loss" not in search.columns:
        search.loss()
    for name in ("run_id", *NUMBERS, *LABELS):
        if name not in search.columns and name not in told:
            search.other(name)
    if LOSS_SE not in told:
        search.loss_error()
    if WEIGHT in search.names and WEIGHT not in search.columns:
        search.aside.append("weight (not used: --columns weight=weight weighs the runs by it)")
    for name in needs:
        if name not in search.columns and name in search.names:
            search.columns[name] = name
    _require(search, needs, scores=scores)
    check_shared(search.columns, source)
    named = {name: unit for name, unit in search.units().items() if name not in units}
    return Found(
        search.columns, named, frozenset(told), count, tuple(search.aside), tuple(search.notes)
    )


@dataclass
class _Search:
    raw: pd.DataFrame
    names: list[str]
    source: Path
    nested: bool
    needs: frozenset[str]
    columns: dict[str, str]
    aside: list[str]
    notes: list[Note]
    loss_unit: str | None = None

    @property
    def optuna(self) -> bool:
        """Whether the source is Optuna's table of trials, whose objective is `value`."""
        return {"number", "value", "state"} <= set(self.names)

    def _inner(self, name: str) -> str:
        """The last part of a name, without Optuna's prefix of what it searched."""
        return last_part(name).removeprefix("params_" if self.optuna else "")

    def size(self, quantity: str) -> None:
        """Find N, D or C by its own name, then other names, last parts of names, one letter."""
        letter = next(alias for alias in ALIASES[quantity] if alias in LETTERS).lower()
        ranks: list[list[str]] = [[], [], [], []]
        for name in self.names:
            base = read_name(name, quantity).base
            last = read_name(self._inner(name), quantity).base
            if name.lower() == quantity:
                ranks[0].append(name)
            elif base in PLAIN[quantity] and base != letter:
                ranks[1].append(name)
            elif last in PLAIN[quantity] and last != letter:
                ranks[2].append(name)
            elif base == letter:
                ranks[3].append(name)
        if self.nested:
            ranks = [[*chain(*ranks[:3])], ranks[3]]
        for rank in ranks:
            self._take(quantity, rank)
            if quantity in self.columns:
                self._aside_of(quantity, [*chain(*ranks[:3])])
                return

    def _aside_of(self, quantity: str, claims: Sequence[str]) -> None:
        """Name the columns that by their names are of the quantity too, and hold other numbers."""
        taken = self.columns[quantity]
        for name in claims:
            if name != taken and self._numbers(name) and not self._equal(taken, name, quantity):
                option = f"--columns {quantity}={quoted(name)}"
                self.aside.append(f"{name} (other numbers, not used: {option} takes it)")

    def drop_no_flops(self) -> None:
        """Let go of a C that cannot be FLOPs next to N and D: a context length, or classes."""
        if plain(last_part(self.columns.get("flops", ""))) != "c":
            return
        what = no_flops(self.raw, self.columns)
        if what is not None:
            self.aside.append(f"{self.columns.pop('flops')} ({what}, and C = 6ND is taken)")

    def count(self, count: str) -> str:
        """Find N under another count's name, and return what N then counts."""
        if count != "params":
            same = [name for name in self.names if name == count] or self._named(count)
            if len(same) == 1:
                self.columns["params"] = same[0]
                return count
            if same:
                raise InputError(
                    f"{self.source} has columns {listed(same)}, and any may be {count}",
                    _say_which("params", same),
                )
            there = [name for name in COUNTS if name in self.names]
            fix = f"its columns are {listed(self.names)}"
            if there:
                fix = f"it has {listed(there)}"
            raise InputError(f"{self.source} has no column {count!r} to count parameters by", fix)
        other = {name: named[-1] for name in _COUNTS_FOR_PARAMS if (named := self._named(name))}
        if "params_active" in other and self.needs & other.keys():
            # The law takes each count by its own name, and C = 6ND follows the active parameters.
            other = {"params_active": other["params_active"]}
        if len(other) > 1:
            columns = list(other.values())
            fix = f"{_say_which('params', columns)} (or {quoted(columns[1])})"
            if "params_active" in other:
                active = _say_which("params", [other["params_active"]])
                fix = f"{active} (C = 6ND follows the active parameters of a mixture of experts)"
            raise InputError(
                f"{self.source} has columns {listed(columns)}, and any may be params", fix
            )
        for name, column in other.items():
            self.columns["params"] = column
            return name if name in COUNTS else count
        return count

    def loss(self) -> None:
        """Find the loss: of validation before a plain one, a plain one before that of training."""
        if set(self.names) >= OWN_TABLE and "loss" in self.names and self._numbers("loss"):
            self.columns["loss"] = "loss"  # others are of training, or of other texts
            return
        found = [name for name in self.names if self._may_be_loss(name) and self._numbers(name)]
        validation = [name for name in found if is_loss(name) and is_validation(name)]
        training = [name for name in found if is_loss(name) and is_training(name)]
        plain_ones = self._plain_losses(found, (*validation, *training))
        others = [*plain_ones, *training]
        validation = validation or under_a_word(self.raw, others)
        if others and not validation:
            validation, aside = in_other_units(self.raw, others, self.loss_unit, self.source)
            self.aside += aside
        for name in plain_ones:
            if any(self._equal(name, other, "loss") for other in validation):
                self.columns["loss"] = name
                return
        if validation:
            self._take("loss", sorted(validation, key=lambda name: (len(words_of(name)), name)))
            chosen = self.columns["loss"]
            if others:
                message = (
                    f"the loss is {chosen!r}, of validation, and not {listed(others)}: say "
                    f"otherwise with --columns loss={quoted(others[0])}"
                )
                self.notes.append(VALIDATION_LOSS.note(message))
            return
        if plain_ones:
            self._take("loss", plain_ones)
            return
        if self.optuna:
            self._take("loss", [name for name in self.names if name == "value"])
        self._take("loss", training)
        if "loss" not in self.columns:
            # The column is named in the sentence of what its rows hold, if it is the only one.
            self._take("loss", [name for name in self.names if name.lower() == "loss"])

    def _may_be_loss(self, name: str) -> bool:
        known = {read_name(name, "loss").base, plain(last_part(name))} & set(PLAIN["loss"])
        return bool(known) or is_loss(name)

    def other(self, name: str) -> None:
        """Find another column that laws and diagnostics ask for by name."""
        if name in self.names:
            self.columns[name] = name
            return
        same = [column for column in self.names if last_part(column) == name] or self._named(name)
        # N may be one of the counts that a law takes by their own names, too.
        is_count = name in self.needs and name in _COUNTS_FOR_PARAMS
        if len(same) == 1 and (is_count or same[0] not in self.columns.values()):
            self.columns[name] = same[0]

    def loss_error(self) -> None:
        """Find the standard error of the loss."""
        named = error_columns(self.names, self.columns.get("loss"))
        found = [name for name in named if self._numbers(name)]
        if len(found) == 1:
            self.columns[LOSS_SE] = found[0]
        elif not found:
            self.notes += text_for_error(self.raw, named)
        else:
            self.aside.append(f"{listed(found)} (none used: --columns loss_se=NAME says which)")

    def units(self) -> dict[str, str]:
        """The units that the names of the columns taken carry."""
        named = {name: _unit(column, name) for name, column in self.columns.items()}
        return {name: unit for name, unit in named.items() if unit is not None}

    def _plain_losses(self, found: Sequence[str], others: Sequence[str]) -> list[str]:
        rest = [name for name in found if name not in others]
        canonical = [name for name in rest if name.lower() == "loss"]
        full = [name for name in rest if read_name(name, "loss").base in PLAIN["loss"]]
        full = [name for name in full if len(name) > 1 and not is_only_unit(name)]
        last = [name for name in rest if plain(last_part(name)) in PLAIN["loss"]]
        last = [name for name in last if len(last_part(name)) > 1]
        letter = [name for name in rest if name.lower() == "l"]
        if self.nested:
            return list(dict.fromkeys([*canonical, *full, *last]))
        return canonical or full or last or letter

    def _take(self, quantity: str, rank: Sequence[str]) -> None:
        """Take the first of equally good columns, if they do not differ. Raises InputError."""
        if not rank:
            return
        there = [name for name in rank if self._numbers(name)] or list(rank[:1])
        exact = [name for name in there if name == quantity]
        first = exact[0] if exact else there[0]
        differ = [
            name for name in there if name != first and not self._equal(first, name, quantity)
        ]
        if differ:
            raise InputError(
                f"{self.source} has columns {listed([first, *differ])}, and any may be {quantity}",
                _say_which(quantity, differ if self.nested and not exact else [first]),
            )
        self.columns[quantity] = first

    def _named(self, name: str) -> list[str]:
        wanted = PLAIN.get(name, (name,))
        return [
            column
            for column in self.names
            if read_name(column, name).base in wanted
            or read_name(last_part(column), name).base in wanted
        ]

    def _numbers(self, name: str) -> bool:
        """Whether a column holds any number."""
        return bool(np.isfinite(counts_of(self.raw[name])).any())

    def _equal(self, one: str, other: str, quantity: str) -> bool:
        """Whether two columns hold the same numbers, each in the unit that its name carries."""
        values = []
        for name in (one, other):
            numbers = numbers_of(self.raw[name], counts=quantity != "loss")[0]
            unit = _unit(name, quantity)
            values.append(numbers if unit is None else to_base(numbers, quantity, unit))
        return bool(np.allclose(values[0], values[1], rtol=1e-6, atol=0.0, equal_nan=True))


def _unit(column: str, quantity: str) -> str | None:
    """The unit that a column's name carries, if values can be converted from it."""
    unit = read_name(last_part(column), quantity).unit
    return None if unit == "bits_per_byte" else unit


def _told(name: str) -> str:
    """The quantity to map a column to. Raises InputError for a likely slip of the pen."""
    quantity = quantity_of(name)
    if quantity not in _KNOWN:
        close = difflib.get_close_matches(name.lower(), _KNOWN, n=1, cutoff=0.8)
        if close:
            raise InputError(
                f"there is no quantity {name!r} to map a column to",
                f"did you mean {close[0]}? A column of your own needs a name less like it",
            )
    return quantity


def _say_which(quantity: str, names: Sequence[str]) -> str:
    return f"say which: --columns {quantity}={quoted(names[0])}"


def _require(search: _Search, needs: Sequence[str], *, scores: bool) -> None:
    """Raise InputError if there is no loss, or nothing that a law could be fitted in."""
    missing_needs = [name for name in needs if name not in search.columns]
    usable = not search.columns.keys() <= {*_KNOWN} - {*_SIZES} or (needs and not missing_needs)
    missing = "loss" if usable else next(iter(missing_needs), "params")
    if missing in search.columns:
        return
    refuse_wide(search.raw, search.columns.keys() & {*_SIZES}, search.source)
    hint = loss_hint(search.raw, scores=scores) if missing == "loss" else ""
    looked = listed(ALIASES.get(missing, (missing,)), 6)
    raise InputError(
        f"{search.source} has no column for {missing} (looked for {looked})",
        f"its columns are {listed(search.names)}; say which: --columns {missing}=NAME{hint}",
    )

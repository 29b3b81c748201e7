"""Whether the losses of recipes are in one unit: nats for all, or per token for all.

A better recipe lowers the loss by a few per cent, and by another share at each scale. Losses that
are the same multiple of the baseline's at all runs, and one that takes many times the compute to
reach, are of another unit, tokenizer or text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, both, listed
from llmscale.explain import digits
from llmscale.explain.estimation.levels import levels, numbers
from llmscale.explain.laws import Array
from llmscale.explain.recipes.differing import equal_runs
from llmscale.explain.recipes.joined import RECIPE, Joined
from llmscale.explain.recipes.multiplier import Multiplier
from llmscale.explain.table import RunTable, parse_units
from llmscale.explain.table.columns.names import is_training, per_byte
from llmscale.notes.comparing import LOSSES_FAR_APART

_LEAST_POINTS = 3
_FAR, _CONSTANT = math.log(1.25), 0.1
"""In ln L: how far losses are from the baseline's, and how far from the same ratio, ends left
out."""
_FAR_TIMES = math.log(LOSSES_FAR_APART.limit)
"""In ln of the compute: the largest gains of one recipe that were published are of 2 to 3 times."""
_BITS = math.log(1.0 / math.log(2.0))
_OF_BITS = 0.11
"""How far ln of a ratio may be from that of nats and bits: recipes differ besides."""
_JUST_BITS, _JUST_CONSTANT = 0.01, 0.02
"""The same of losses that differ in the unit only, and how far these are from the same ratio."""
_LEAST_SLOPE, _MOST_SAID = 1e-3, 300.0
_UNIT_COLUMNS = ("loss_unit", "unit", "loss_type", "metric", "metric_name")


def check_units(tables: Mapping[str, RunTable], by: str | None) -> None:
    """Raise InputError for tables that say themselves that their losses are of several kinds."""
    metrics = {name: table.metric for name, table in tables.items()}
    _check_one_kind(metrics, "metrics")
    for column in _UNIT_COLUMNS:
        said = {name: _only_value(table, column) for name, table in tables.items()}
        if column != by and None not in said.values():
            _check_one_kind({name: str(value) for name, value in said.items()}, column)
    columns = {name: table.columns.get("loss", "loss") for name, table in tables.items()}
    for kind, of_kind in (("bits per byte", per_byte), ("training data", is_training)):
        those = [name for name, column in columns.items() if of_kind(column)]
        others = [name for name in columns if name not in those]
        if those and others:
            raise InputError(
                f"the loss of {both(those)} is of {kind} ({columns[those[0]]}), and that of "
                f"{both(others)} is not ({columns[others[0]]})",
                "take one kind for all (--columns loss=NAME), or rename the column if it is that",
            )


def check_ratios(joined: Joined) -> None:
    """Raise InputError for losses that are too large a multiple of the baseline's, and too constant
    a one, to be a recipe's doing, unless the unit was told."""
    if _may_differ(joined):
        for ratio in _ratios(joined):
            if ratio.of_unit:
                raise _other_unit(ratio)


def ratio_notes(joined: Joined, multipliers: Sequence[Multiplier]) -> Iterator[Note]:
    """What is to be doubted of losses that are further apart than recipes are, unless the unit was
    told. `multipliers` are those at the largest compute that all have."""
    if not _may_differ(joined):
        return
    for ratio, one in zip(_ratios(joined), multipliers, strict=True):
        times = max(one.value, 1.0 / one.value)
        apart = (
            f"the losses of {ratio.high} are {math.exp(ratio.middle):.4g} times those of "
            f"{ratio.low} at {ratio.where}"
        )
        if ratio.just_bits:
            yield LOSSES_FAR_APART.note(
                f"{apart}, as bits are of nats ({math.exp(_BITS):.4g}): if {ratio.high} is in "
                "bits, name its column loss_bits"
            )
        elif times > LOSSES_FAR_APART.limit:
            takes = f"takes {digits.times(times, 2)} the" if times < math.inf else "is beyond any"
            yield LOSSES_FAR_APART.note(
                f"{apart}, which {takes} compute, and no published "
                "recipe saves so much: are they of another text, tokenizer or unit?"
            )


def _may_differ(joined: Joined) -> bool:
    """Whether losses may be of several units, for all that was told."""
    return not any(_unit_told(table) or table.metric != "loss" for table in joined.tables.values())


@dataclass(frozen=True)
class _Ratio:
    """The losses of a recipe over those of the baseline at equal runs, ln of each: `high` is the
    one of the larger losses. `slope` is by what share the loss falls as ln C rises by 1."""

    low: str
    high: str
    log_ratio_P: Array
    slope: float
    where: str

    @property
    def middle(self) -> float:
        return float(np.median(self.log_ratio_P))

    @property
    def spread(self) -> float:
        """How far the ratios are from one another, ends left out."""
        low, high = np.quantile(self.log_ratio_P, [0.1, 0.9])
        return float(high - low)

    @property
    def of_unit(self) -> bool:
        """Whether that is no recipe's doing."""
        is_far = self.middle > _FAR and self.middle / self.slope > _FAR_TIMES
        return is_far and self.spread <= _CONSTANT

    @property
    def just_bits(self) -> bool:
        """Whether the losses are those of bits and nats, and of nothing else."""
        return abs(self.middle - _BITS) < _JUST_BITS and self.spread < _JUST_CONSTANT

    @property
    def of_bits(self) -> bool:
        return abs(self.middle - _BITS) < _OF_BITS


def _other_unit(ratio: _Ratio) -> InputError:
    times = math.exp(min(ratio.middle / ratio.slope, _MOST_SAID))
    found = (
        f"the losses of {ratio.high} are {math.exp(ratio.middle):.3g} times those of {ratio.low} "
        f"at {ratio.where}; that would take {digits.times(times, 2)} the compute, so it is no "
        "recipe's doing"
    )
    told = "if both are of one text in one unit, say so: --units loss=nats"
    if ratio.of_bits:
        return InputError(
            f"{found}: {ratio.high} seems to be in bits and {ratio.low} in nats (1 nat is "
            f"{math.exp(_BITS):.4g} bits)",
            f"name the column of bits loss_bits, which is read in nats; {told}",
        )
    return InputError(
        f"{found}: they are of another unit, tokenizer or text",
        f"compare one unit on one text, such as bits per byte; {told}",
    )


def _ratios(joined: Joined) -> Iterator[_Ratio]:
    """Of every recipe and the baseline, at the sizes and tokens that both have, or if those are few
    at the compute that both have."""
    frame, baseline = joined.frame, joined.names[0]
    log_loss = np.log(frame.groupby([equal_runs(frame), RECIPE])["loss"].median().unstack())
    slope = _slope(*_best(frame, baseline))
    for name in joined.names[1:]:
        shared = log_loss[[baseline, name]].dropna()
        first, second = numbers(shared, baseline), numbers(shared, name)
        where = f"{len(shared)} sizes and budgets that both have"
        if len(shared) < _LEAST_POINTS:
            first, second = _at_equal_compute(frame, baseline, name)
            where = "equal compute"
        if np.median(second) < np.median(first):
            yield _Ratio(name, baseline, first - second, slope, where)
        else:
            yield _Ratio(baseline, name, second - first, slope, where)


def _best(frame: pd.DataFrame, name: str) -> tuple[Array, Array]:
    """ln of every budget of a recipe, and ln of its lowest loss there."""
    own = frame[frame[RECIPE] == name]
    flops = numbers(own, "flops")
    best = own.assign(level=levels(flops)).groupby("level").agg({"flops": "median", "loss": "min"})
    return np.log(numbers(best, "flops")), np.log(numbers(best, "loss"))


def _slope(log_C: Array, log_loss: Array) -> float:
    """By what share the loss falls as ln C rises by 1."""
    off = log_C - log_C.mean()
    return max(-float(off @ log_loss / (off @ off)), _LEAST_SLOPE)


def _at_equal_compute(frame: pd.DataFrame, one: str, other: str) -> tuple[Array, Array]:
    """ln of the losses of two recipes, interpolated in what compute both have."""
    (first_C, first), (second_C, second) = _best(frame, one), _best(frame, other)
    ends = max(first_C[0], second_C[0]), min(first_C[-1], second_C[-1])
    log_C = np.linspace(*ends, 5)
    return np.interp(log_C, first_C, first), np.interp(log_C, second_C, second)


def _unit_told(table: RunTable) -> bool:
    """Whether `--units` gives the unit of the loss."""
    options = zip(table.asked[::2], table.asked[1::2], strict=True)
    return any(name == "--units" and "loss" in parse_units(given) for name, given in options)


def _only_value(table: RunTable, column: str) -> object:
    """The value of a column that has one only, else None."""
    if column not in table.frame:
        return None
    values = table.frame[column].dropna().unique().tolist()
    return values[0] if len(values) == 1 else None


def _check_one_kind(kinds: Mapping[str, str], what: str) -> None:
    if len(set(kinds.values())) > 1:
        said = listed([f"{name} {kind}" for name, kind in kinds.items()], 4)
        raise InputError(
            f"recipes have losses of several kinds ({what}: {said}), which do not compare",
            "give all tables one kind of loss",
        )

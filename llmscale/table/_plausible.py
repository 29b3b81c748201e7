"""Whether what was taken for N, D, C and loss can be that: units, swapped columns, perplexities and accuracies.

C stands against 6ND wherever all three are given. A constant factor far from 1 is a unit, a scattered one a wrong
column, and a few rows that are off are in other units. Without C, the magnitudes of N, D and D/N speak. What would
give a wrong forecast is refused, with the `--units` that fixes it; `--units params=1` (or tokens, flops; loss=nats)
says that the numbers are as they stand, and ends the checks of that quantity.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, listed
from llmscale.quantity import format_count
from llmscale.table import _names
from llmscale.table._columns import quoted

Array = NDArray[np.float64]

FEWEST_ROWS = 4
"""Fewer rows are not judged: they hardly make a fit."""
FEWEST_SIZES = 3
FAR = 30.0
"""C/6ND beyond this factor of 1 is refused."""
LARGEST_LOSS = 13.0
"""Nats per token; ln of a vocabulary of 440,000, larger than any in use."""

_RATIO = (1e-2, 1e6)
"""Tokens a parameter of runs that have been published lie inside."""
_PLAUSIBLE_N = (2e3, 2e13)
_PLAUSIBLE_D = (1e5, 1e15)
_CHINCHILLA = 20.0
_USUAL_N = 3e8
_FORWARD = (0.27, 0.4)
_NEAR = (0.4, 6.0)
_TIGHT = 1.15
_COUNT_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_FLOP_UNITS = {
    "": 1.0, "1e3": 1e3, "MF": 1e6, "GF": 1e9, "TF": 1e12, "PF": 1e15, "EF": 1e18, "PFdays": 8.64e19, "ZF": 1e21,
}  # fmt: skip


@dataclass(frozen=True)
class Taken:
    """What was taken for what: base-unit columns of the usable rows, their names in the source, units by hand or name.

    `given` are the quantities that the source holds (others are computed), `names` the rows' names.
    """

    frame: pd.DataFrame
    columns: Mapping[str, str]
    units: Mapping[str, str]
    named: Mapping[str, str]
    names: list[str]
    path: Path
    by_hand: bool

    def has(self, *quantities: str) -> bool:
        return all(name in self.columns for name in quantities)

    def sure(self, *quantities: str) -> bool:
        """Whether the user gave the unit of any of these by hand."""
        return any(name in self.units for name in quantities)

    def insists(self, name: str) -> bool:
        """Whether the user said that a quantity is as it stands."""
        return self.units.get(name) == "1"

    def values(self, name: str) -> Array:
        return self.frame[name].to_numpy(dtype=float)


def check(taken: Taken) -> list[Note]:
    """Notes on what is doubtful. Raises InputError for what cannot be, with the option that fixes it."""
    notes = _loss(taken)
    if len(taken.frame) >= FEWEST_ROWS:
        notes += _rising(taken)
    notes += _experts(taken)
    if len(taken.frame) < FEWEST_ROWS or not any(
        len(np.unique(taken.values(name))) >= FEWEST_SIZES for name in ("params", "tokens", "flops") if taken.has(name)
    ):
        return notes
    if taken.has("params", "tokens", "flops"):
        notes += _compute(taken)
    if taken.has("params", "tokens"):
        by_hand = all(name in taken.units for name in ("params", "tokens"))
        if not (by_hand or taken.insists("params") or taken.insists("tokens")):
            notes += _sizes(taken)
    elif taken.has("params", "flops") and not taken.has("tokens") and not taken.sure("params", "flops"):
        _derived(taken, "params", "tokens", "D = C/(6N)")
    elif taken.has("tokens", "flops") and not taken.has("params") and not taken.sure("tokens", "flops"):
        _derived(taken, "tokens", "params", "N = C/(6D)")
    elif taken.has("params") and not taken.has("tokens") and not taken.sure("params"):
        _alone(taken, "params", _PLAUSIBLE_N)
    elif taken.has("tokens") and not taken.has("params") and not taken.sure("tokens"):
        _alone(taken, "tokens", _PLAUSIBLE_D)
    return notes


def _refuse(taken: Taken, problem: str, fix: str) -> list[Note]:
    """Raise InputError, or, with units by hand for some of N, D and C, a note that says the same."""
    if not taken.sure("params", "tokens", "flops"):
        raise InputError(problem, fix)
    return [Note("units-doubtful", f"{problem}; {fix}")]


def _compute(taken: Taken) -> list[Note]:
    """C against 6ND."""
    N, D, C = (taken.values(name) for name in ("params", "tokens", "flops"))
    ratio = C / (6.0 * N * D)
    middle = float(np.median(ratio))
    off = (ratio > FAR * middle) | (ratio < middle / FAR)
    low, high = np.quantile(ratio, [0.1, 0.9])
    if all(name in taken.units for name in ("params", "tokens", "flops")) or taken.insists("flops"):
        return []
    if off.any():
        clusters = _clusters(ratio)
        if clusters is not None and (len(clusters) == 2 or off.sum() <= 0.2 * len(off)):
            return _refuse_rows(taken, ratio, clusters, "C/(6ND)")
    constant = high <= low * FAR
    if constant and not 1 / FAR <= middle <= FAR:
        return _refuse_units(taken, middle)
    if high > 10 * low:
        return [
            Note(
                "flops-scattered",
                f"{taken.columns['flops']!r} is between {ratio.min():.2g} and {ratio.max():.2g} times 6ND, not a"
                " constant times: one of the columns for N, D and C is another quantity, or tokens were computed with"
                " a wrong batch (say which: --columns params=...,tokens=...,flops=...)",
            )
        ]
    if _FORWARD[0] <= middle <= _FORWARD[1] and high <= low * _TIGHT:
        return [
            Note(
                "flops-forward",
                f"{taken.columns['flops']!r} is {middle:.2g} times 6ND, as when only the forward pass (2ND) is counted:"
                " --units flops=3 counts both passes",
            )
        ]
    if not _NEAR[0] <= middle <= _NEAR[1]:
        return [
            Note(
                "flops-off",
                f"{taken.columns['flops']!r} is {middle:.2g} times 6ND in the middle: another count of parameters, or"
                " active experts only? Predictions at a budget take C = 6ND",
            )
        ]
    near = (ratio < middle * _TIGHT) & (ratio > middle / _TIGHT)
    apart = (ratio > 1.6 * middle) | (ratio < middle / 1.6)
    if near.sum() >= 0.6 * len(ratio) and apart.any() and (near | apart).all():
        rows = listed(f"{taken.names[row]} ({ratio[row]:.2g})" for row in np.flatnonzero(apart))
        return [
            Note(
                "flops-rows-off",
                f"C is {middle:.2g} times 6ND in most rows, and not in {rows}: tokens computed with a wrong batch, or"
                " another count of parameters there?",
            )
        ]
    return []


def _refuse_units(taken: Taken, ratio: float) -> list[Note]:
    """Refuse, with the units that bring C to 6ND."""
    C = taken.columns["flops"]
    found = _best_units(taken, with_flops=True)
    text = f"C is {ratio:.2g} times 6ND in every row of {taken.path}, so that a unit is wrong"
    if found is None:
        insist = "--units flops=1"
        return _refuse(
            taken,
            f"{text}: {_ranges(taken)}",
            f"is {C!r} a percentage, or not FLOPs of training? Name another with --columns flops=NAME, or say the units"
            f" with --units params=...,tokens=...,flops=... ({insist} takes them as they stand)",
        )
    return _refuse(
        taken,
        f"{text}: {_ranges(taken)}",
        f"say the units: --units {found} (--units flops=1 takes the numbers as they stand)",
    )


def _sizes(taken: Taken) -> list[Note]:
    """N and D by their magnitudes."""
    N, D = taken.values("params"), taken.values("tokens")
    ratio = D / N
    middle = float(np.median(ratio))
    agreed = taken.has("flops") and not taken.sure("flops")
    if agreed:
        compute = taken.values("flops") / (6.0 * N * D)
        agreed = bool(0.2 <= np.median(compute) <= 6.0) and float(np.median(taken.values("flops"))) > 1e12
    median_N, median_D = float(np.median(N)), float(np.median(D))
    outside = (ratio < _RATIO[0]) | (ratio > _RATIO[1])
    if outside.any() and not outside.all() and not agreed:
        clusters = _clusters(ratio)
        if clusters is not None:
            return _refuse_rows(taken, ratio, clusters, "D/N")
    small = median_D < 1e4 and median_N < 1e6
    far = not _RATIO[0] <= middle <= _RATIO[1]
    large = median_N > _PLAUSIBLE_N[1] or median_D > _PLAUSIBLE_D[1]
    if (small or far or large) and not agreed:
        found = _best_units(taken, with_flops=False)
        what = f"{format_count(middle)} tokens a parameter" if far else "no sizes of language models"
        fix = f"say the units: --units {found}" if found else "say the units: --units params=M,tokens=B or the like"
        return _refuse(
            taken,
            f"{_ranges(taken)} of {taken.path} make {what}: a unit is wrong, or a column",
            f"{fix}; or name other columns with --columns params=...,tokens=... ({_insist(found or 'params=1,tokens=1')}"
            " takes the numbers as they stand)",
        )
    if (ratio < 1).all() and middle < 0.3 and not taken.by_hand:
        params, tokens = taken.columns["params"], taken.columns["tokens"]
        return _refuse(
            taken,
            f"every run of {taken.path} has fewer tokens ({tokens}) than parameters ({params}), {middle:.2g} a parameter"
            " in the middle: are the two swapped?",
            f"if so: --columns params={quoted(tokens)},tokens={quoted(params)}; if not: --units params=1",
        )
    if (ratio < 1).all() and middle < 0.3:
        return [
            Note(
                "tokens-below-params",
                f"every run has fewer tokens than parameters ({middle:.2g} a parameter in the middle): are the columns"
                " for N and D swapped?",
            )
        ]
    if outside.any() and not agreed:
        rows = listed(f"{taken.names[row]} ({ratio[row]:.2g})" for row in np.flatnonzero(outside))
        return [Note("tokens-a-parameter", f"tokens a parameter are hardly possible in {rows}: check their units")]
    if middle > 1e4:
        return [
            Note(
                "tokens-a-parameter",
                f"the runs have {format_count(middle)} tokens a parameter in the middle, far more than is usual: are N"
                " and D in the same unit? (--units params=K, or tokens=... say)",
            )
        ]
    return []


def _derived(taken: Taken, given: str, computed: str, how: str) -> None:
    """N or D computed from C must be possible."""
    N, D = taken.values("params"), taken.values("tokens")
    middle = float(np.median(D / N))
    span = _PLAUSIBLE_D if computed == "tokens" else _PLAUSIBLE_N
    value = float(np.median(taken.values(computed)))
    if _RATIO[0] <= middle <= _RATIO[1] and span[0] / 100 <= value <= span[1]:
        return
    best = None
    scale = taken.values(given)
    for (name, factor), (unit, flops) in itertools.product(_COUNT_UNITS.items(), _FLOP_UNITS.items()):
        one = float(np.median(scale)) * factor
        other = float(np.median(taken.values("flops"))) * flops / (6.0 * one)
        n, d = (one, other) if given == "params" else (other, one)
        if not (_inside(n, _PLAUSIBLE_N) and _inside(d, _PLAUSIBLE_D) and 0.05 <= d / n <= 1e5):
            continue
        cost = 10 * ((name != "") + (unit != "")) + abs(np.log(d / n / _CHINCHILLA))
        if best is None or cost < best[0]:
            parts = ([f"{given}={name}"] if name else []) + ([f"flops={unit}"] if unit else [])
            best = (cost, ",".join(parts))
    fix = f"say the units, perhaps --units {best[1]}" if best else f"say the units: --units {given}=M,flops=PFdays"
    raise InputError(
        f"{_ranges(taken)} of {taken.path} give {how} of {value:.2g} in the middle, {middle:.2g} tokens a parameter:"
        " a unit is wrong, or a column",
        f"{fix} (--units flops=1 takes the numbers as they stand)",
    )


def _alone(taken: Taken, name: str, span: tuple[float, float]) -> None:
    """N or D without the other: numbers too small or too large for it."""
    value = float(np.median(taken.values(name)))
    if value >= span[0] / 20 and value <= span[1]:
        return
    unit = "M" if name == "params" else "B"
    raise InputError(
        f"{_ranges(taken)} of {taken.path} cannot be {'parameters' if name == 'params' else 'tokens'}: a unit is wrong,"
        " or the column",
        f"say the unit: --units {name}={unit}; or name the right column, --columns {name}=NAME"
        f" (--units {name}=1 takes the numbers as they stand)",
    )


def _best_units(taken: Taken, *, with_flops: bool) -> str | None:
    """The fewest units that make N, D (and C) plausible, as `--units` takes them; None if there are none."""
    N, D = taken.values("params"), taken.values("tokens")
    n, d, spread = float(np.median(N)), float(np.median(D)), float(np.median(D / N))
    ratio = float(np.median(taken.values("flops") / (6.0 * N * D))) if with_flops else 1.0
    flops = _FLOP_UNITS if with_flops else {"": 1.0}
    best: tuple[float, str] | None = None
    for (p, p_by), (t, t_by), (c, c_by) in itertools.product(_COUNT_UNITS.items(), _COUNT_UNITS.items(), flops.items()):
        after = ratio * c_by / (p_by * t_by)
        if with_flops and not 0.2 <= after <= 6.0:
            continue
        if not (_inside(n * p_by, _PLAUSIBLE_N) and _inside(d * t_by, _PLAUSIBLE_D)):
            continue
        a_parameter = spread * t_by / p_by
        if not 0.05 <= a_parameter <= 1e5:
            continue
        # The fewest units, then C nearest to 6ND, then what is usual.
        cost = 30.0 * ((p != "") + (t != "") + (c != ""))
        cost += 3 * abs(np.log(after)) if with_flops else 0.0
        cost += abs(np.log(a_parameter / _CHINCHILLA)) + 0.5 * abs(np.log(n * p_by / _USUAL_N))
        if best is None or cost < best[0]:
            pairs = (("params", p), ("tokens", t), ("flops", c))
            best = (cost, ",".join(f"{name}={unit}" for name, unit in pairs if unit))
    return best[1] if best and best[1] else None


def _clusters(ratio: Array) -> list[NDArray[np.int_]] | None:
    """Rows in groups that lie far apart, each tight, the largest first; None for one group or a spread."""
    logs = np.log(ratio)
    order = np.argsort(logs, kind="stable")
    gaps = np.flatnonzero(np.diff(logs[order]) > np.log(FAR))
    parts = np.split(order, gaps + 1)
    if not 2 <= len(parts) <= 4:
        return None
    return sorted((np.sort(part) for part in parts), key=len, reverse=True)


def _refuse_rows(taken: Taken, ratio: Array, clusters: list[NDArray[np.int_]], what: str) -> list[Note]:
    """Refuse, naming the rows whose numbers are in another unit than the rest."""
    # The rows to fix are those further from what is usual.
    usual = 1.0 if what == "C/(6ND)" else _CHINCHILLA
    sound = min(clusters[:2], key=lambda rows: abs(np.log(np.median(ratio[rows]) / usual)))
    off = np.sort(np.concatenate([rows for rows in clusters if rows is not sound]))
    rows = listed(f"{taken.names[row]} ({ratio[row]:.2g})" for row in off)
    quantity = _off_quantity(taken, off, sound)
    which = f"{quantity} ({taken.columns[quantity]}) of" if quantity else "numbers of"
    return _refuse(
        taken,
        f"{what} is about {np.median(ratio[sound]):.2g} in {len(sound)} rows of {taken.path}, and far from that in"
        f" {len(off)}: {rows}. The {which} these rows are in another unit",
        f"fix these rows, or leave them out with --where (--units {quantity or 'params'}=1 takes the numbers as they"
        " stand)",
    )


def _off_quantity(taken: Taken, off: NDArray[np.int_], sound: NDArray[np.int_]) -> str | None:
    """The quantity that is furthest from the other rows' in the rows that are off."""
    furthest, most = None, np.log(10.0)
    for name in ("params", "tokens", "flops"):
        if not taken.has(name):
            continue
        values = np.log(taken.values(name))
        distance = abs(float(np.median(values[off]) - np.median(values[sound])))
        if distance > most:
            furthest, most = name, distance
    return furthest


def _loss(taken: Taken) -> list[Note]:
    """A loss that is a perplexity, bits a byte or of training data."""
    if not taken.has("loss") or taken.sure("loss"):
        return []
    column, loss = taken.columns["loss"], taken.values("loss")
    notes = []
    high = loss > LARGEST_LOSS
    if high.mean() >= 0.25 and len(loss) > 1:
        fix = "a perplexity? --units loss=perplexity"
        if "loss" in taken.named:
            fix = f"its name says {taken.named['loss']}: is that so?"
        raise InputError(
            f"column {column!r} of {taken.path} goes from {loss.min():.4g} to {loss.max():.4g}: a loss in nats per token"
            f" is below ln of the vocabulary, {LARGEST_LOSS:g} at the most",
            f"{fix} (a sum over tokens, or not a loss? name another: --columns loss=NAME; --units loss=nats takes the"
            " numbers as they stand)",
        )
    if high.any():
        rows = listed(f"{taken.names[row]} ({loss[row]:.4g})" for row in np.flatnonzero(high))
        notes.append(
            Note("loss-too-high", f"the loss of {rows} is above ln of any vocabulary: diverged, or another unit?")
        )
    if _names.per_byte(column):
        notes.append(
            Note(
                "loss-per-byte",
                f"column {column!r} is in bits per byte by its name: floor, amplitudes and predictions are, too, and do"
                " not compare with nats per token",
            )
        )
    if _names.is_loss(column) and _names.is_training(column):
        notes.append(
            Note(
                "training-loss",
                f"column {column!r} is a training loss: it is lower than the loss on new data where data repeat, and"
                " moves with the batch and with smoothing",
            )
        )
    return notes


def _rising(taken: Taken) -> list[Note]:
    """A metric that rises as models grow."""
    if not taken.has("loss") or taken.units.get("loss") == "nats":
        return []
    column, loss = taken.columns["loss"], taken.values("loss")
    scales = {"N": "params", "D": "tokens", "C": "flops"}
    rises = []
    for letter, name in scales.items():
        values = taken.values(name)
        if np.isfinite(values).all() and len(np.unique(values)) >= 3:
            rises.append((_rank_correlation(values, loss), letter))
    named = _names.rises(column) and not _names.is_loss(column)
    if not rises or not (named or max(rises)[0] > 0.6 and sum(one for one, _ in rises) > 0 and _up(taken, loss)):
        return []
    letter = max(rises)[1]
    percent = ", in percent," if loss.max() > 1 and loss.max() <= 100 else ""
    if loss.max() <= 100 and (named or loss.max() <= 1):
        how = f"fit 1 - {column}{percent} with --units loss=accuracy"
    else:
        how = "fit what falls instead, such as 1 - accuracy with --units loss=accuracy"
    direction = f"rises with {letter}" if max(rises)[0] > 0 else "is a metric that rises as models improve, by its name"
    raise InputError(
        f"column {column!r} of {taken.path}, taken for the loss, {direction}: a law of loss falls",
        f"{how}; or name another column: --columns loss=NAME (--units loss=nats takes the numbers as they stand)",
    )


def _up(taken: Taken, loss: Array) -> bool:
    """Whether ln loss rises in the plane of ln N and ln D that is nearest to it."""
    columns = []
    for name in ("params", "tokens"):
        values = taken.values(name)
        if np.isfinite(values).all() and len(np.unique(values)) >= 3:
            columns.append(np.log(values) - np.log(values).mean())
    if not columns:
        return True
    y = loss - loss.mean()
    slopes = np.linalg.lstsq(np.stack(columns, axis=1), y, rcond=None)[0]
    return bool((slopes > 0).all())


def _experts(taken: Taken) -> list[Note]:
    """Parameters of all experts taken for N, next to those that each token uses."""
    frame = taken.frame
    if "params_active" not in frame or not taken.has("params") or taken.sure("params"):
        return []
    active, params = pd.to_numeric(frame["params_active"], errors="coerce").to_numpy(dtype=float), taken.values("params")
    if not (np.isfinite(active).all() and (active < 0.8 * params).any()):
        return []
    most = float(np.nanmax(params / active))
    return [
        Note(
            "experts-counted",
            f"N is {taken.columns['params']!r}, up to {most:.3g} times the active parameters next to it: C = 6ND follows"
            f" the active ones of a mixture of experts (--columns params={quoted(taken.columns['params_active'])})",
        )
    ]


def _rank_correlation(one: Array, other: Array) -> float:
    if len(np.unique(other)) < 2:
        return 0.0
    ranks = [pd.Series(values).rank().to_numpy() for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def _ranges(taken: Taken) -> str:
    parts = []
    for name in ("params", "tokens", "flops"):
        if taken.has(name):
            values = taken.values(name)
            unit = f" in {taken.named[name]}" if name in taken.named else ""
            parts.append(f"{taken.columns[name]}{unit} from {values.min():.3g} to {values.max():.3g}")
    return ", ".join(parts)


def _insist(units: str) -> str:
    """The same units as 1."""
    return "--units " + ",".join(f"{part.partition('=')[0]}=1" for part in units.split(","))


def _inside(value: float, span: tuple[float, float]) -> bool:
    return span[0] <= value <= span[1]

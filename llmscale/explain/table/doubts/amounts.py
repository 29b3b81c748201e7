"""Whether N, D and C can be what they were taken for, by C/(6ND), D/N and magnitudes."""

import itertools

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, listed
from llmscale.explain.table.columns.pairs import quoted
from llmscale.explain.table.doubts.flops_trend import scatter
from llmscale.explain.table.doubts.taken import Array, Taken
from llmscale.notes.reading import (
    EXPERTS_COUNTED,
    FLOPS_FORWARD,
    FLOPS_OFF,
    FLOPS_ROWS_OFF,
    TOKENS_A_PARAMETER,
    TOKENS_BELOW_PARAMS,
    UNITS_DOUBTFUL,
)
from llmscale.quantity import format_count

FAR = 30.0
"""C/6ND beyond this factor of 1 is refused."""
_RATIO = (1e-2, 1e6)
"""Tokens a parameter of runs that have been published lie inside."""
_PLAUSIBLE_N = (2e3, 2e13)
_PLAUSIBLE_D = (1e5, 1e15)
_PLAUSIBLE = {"params": _PLAUSIBLE_N, "tokens": _PLAUSIBLE_D}
_CHINCHILLA = 20.0
_USUAL_N = 3e8
_FORWARD = (0.27, 0.4)
_NEAR = (0.4, 6.0)
_TIGHT = 1.15
_COUNT_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_SMALLER = {"1e-3": 1e-3, "1e-6": 1e-6, "1e-9": 1e-9}
"""Units of numbers that were multiplied once too often."""
_FLOP_UNITS = {
    "": 1.0,
    "1e3": 1e3,
    "MF": 1e6,
    "GF": 1e9,
    "TF": 1e12,
    "PF": 1e15,
    "EF": 1e18,
    "PFdays": 8.64e19,
    "ZF": 1e21,
}


def _refuse(taken: Taken, problem: str, fix: str) -> list[Note]:
    """Raise InputError; with units by hand for N, D or C, give a note that says the same."""
    if not taken.sure("params", "tokens", "flops"):
        raise InputError(problem, fix)
    return [UNITS_DOUBTFUL.note(f"{problem}; {fix}")]


def doubtful_compute(taken: Taken) -> list[Note]:
    """C against 6ND."""
    N, D, C = (taken.values(name) for name in ("params", "tokens", "flops"))
    ratio = C / (6.0 * N * D)
    middle = float(np.median(ratio))
    off = (ratio > FAR * middle) | (ratio < middle / FAR)
    low, high = np.quantile(ratio, [0.1, 0.9])
    if all(name in taken.units for name in ("params", "tokens", "flops")) or taken.insists("flops"):
        return []
    if off.any():
        clusters = _clusters(ratio, most=10.0)
        if clusters is not None and (len(clusters) == 2 or off.sum() <= 0.2 * len(off)):
            return _refuse_rows(taken, ratio, clusters, "C/(6ND)")
    constant = high <= low * FAR
    if constant and not 1 / FAR <= middle <= FAR:
        return _refuse_units(taken, middle)
    scattered = scatter(taken, ratio)
    if scattered is not None:
        return [scattered]
    if _FORWARD[0] <= middle <= _FORWARD[1] and high <= low * _TIGHT:
        message = (
            f"{taken.columns['flops']!r} is {middle:.2g} times 6ND, as when only the forward "
            "pass (2ND) is counted: --units flops=3 counts both passes"
        )
        return [FLOPS_FORWARD.note(message)]
    if not _NEAR[0] <= middle <= _NEAR[1]:
        message = (
            f"{taken.columns['flops']!r} is {middle:.2g} times 6ND in the middle: another "
            "count of parameters, or active experts only? Predictions at a budget take C = "
            "6ND"
        )
        return [FLOPS_OFF.note(message)]
    near = (ratio < middle * _TIGHT) & (ratio > middle / _TIGHT)
    apart = (ratio > FLOPS_ROWS_OFF.limit * middle) | (ratio < middle / FLOPS_ROWS_OFF.limit)
    if near.sum() >= 0.6 * len(ratio) and apart.any() and (near | apart).all():
        rows = listed(f"{taken.names[row]} ({ratio[row]:.2g})" for row in np.flatnonzero(apart))
        message = (
            f"C is {middle:.2g} times 6ND in most rows, and not in {rows}: tokens computed "
            "with a wrong batch, or another count of parameters there?"
        )
        return [FLOPS_ROWS_OFF.note(message)]
    return []


def _refuse_units(taken: Taken, ratio: float) -> list[Note]:
    """Refuse, with the units that bring C to 6ND."""
    C = taken.columns["flops"]
    found = _best_units(taken, with_flops=True)
    fix = f"say the units: --units {found} (--units flops=1 takes the numbers as they stand)"
    if found is None:
        fix = (
            f"is {C!r} a percentage, or not FLOPs of training? Name another with --columns "
            "flops=NAME, or say the units with --units params=...,tokens=...,flops=... (--units "
            "flops=1 takes them as they stand)"
        )
    text = f"C is {ratio:.2g} times 6ND in every row of {taken.path}, so that a unit is wrong"
    return _refuse(taken, f"{text}: {_ranges(taken)}", fix)


def doubtful_sizes(taken: Taken) -> list[Note]:
    """N and D by their magnitudes."""
    N, D = taken.values("params"), taken.values("tokens")
    ratio = D / N
    # Early checkpoints of a run have seen few tokens.
    last = taken.frame.groupby("run_id")["tokens"].transform("max").to_numpy(dtype=float) <= D
    middle = float(np.median(ratio[last]))
    agreed = taken.has("flops") and not taken.sure("flops")
    if agreed:
        C = taken.values("flops")
        agreed = bool(0.2 <= np.median(C / (6.0 * N * D)) <= 6.0 and np.median(C) > 1e12)
    median_N, median_D = float(np.median(N)), float(np.median(D))
    early = ~last & (ratio > 1e-6)
    outside = ((ratio < _RATIO[0]) & ~early) | (ratio > _RATIO[1])
    if outside.any() and not outside.all():
        clusters = _clusters(ratio)
        if clusters is not None:
            return _refuse_rows(taken, ratio, clusters, "D/N")
    small = median_D < 1e4 and median_N < 1e6
    far = not _RATIO[0] <= middle <= _RATIO[1]
    large = median_N > _PLAUSIBLE_N[1] or median_D > _PLAUSIBLE_D[1]
    if far or ((small or large) and not agreed):
        what = "no sizes of language models"
        if far:
            what = f"{format_count(middle)} tokens a parameter"
        return _refuse_sizes(taken, N, D, what)
    if _swapped(ratio[last]) and not taken.by_hand:
        params, tokens = taken.columns["params"], taken.columns["tokens"]
        below = ratio[last] < 1
        runs, have = f"{below.mean():.0%} of the runs", "have"
        if below.all():
            runs, have = "every run", "has"
        return _refuse(
            taken,
            f"{runs} of {taken.path} {have} fewer tokens ({tokens}) than parameters ({params}), "
            f"{middle:.2g} a parameter in the middle: are the two swapped?",
            f"if so: --columns params={quoted(tokens)},tokens={quoted(params)}; if tokens are in "
            "thousands, --units tokens=K; if all is right, --units params=1",
        )
    if _swapped(ratio[last]):
        message = (
            f"most runs have fewer tokens than parameters ({middle:.2g} a parameter in the "
            "middle): are the columns for N and D swapped?"
        )
        return [TOKENS_BELOW_PARAMS.note(message)]
    if outside.any() and not agreed:
        rows = listed(f"{taken.names[row]} ({ratio[row]:.2g})" for row in np.flatnonzero(outside))
        message = f"tokens a parameter are hardly possible in {rows}: check their units"
        return [TOKENS_A_PARAMETER.note(message)]
    if middle > TOKENS_A_PARAMETER.limit:
        message = (
            f"the runs have {format_count(middle)} tokens a parameter in the middle, far more "
            "than is usual: are N and D in the same unit? (--units params=K, or tokens=... "
            "say)"
        )
        return [TOKENS_A_PARAMETER.note(message)]
    return []


def _refuse_sizes(taken: Taken, N: Array, D: Array, what: str) -> list[Note]:
    """Refuse, with the units that make N and D plausible."""
    found = _best_units(taken, with_flops=False)
    fix = f"say the units: --units {found or 'params=M,tokens=B or the like'}"
    return _refuse(
        taken,
        f"{_ranges(taken)} of {taken.path} make {what}: a unit is wrong, or a column",
        f"{fix}; or name other columns with --columns params=...,tokens=... "
        f"({_insist(found or 'params=1,tokens=1')} takes the numbers as they stand)",
    )


def _swapped(ratio: Array) -> bool:
    """Whether tokens a parameter are far below 1, and would be usual if N were D and D were N."""
    middle = float(np.median(ratio))
    if (ratio < 1).all():
        return middle < 0.3
    return middle < 0.3 and (ratio < 1).mean() >= 0.7 and ratio.max() <= 30


def refuse_derived(taken: Taken, given: str, computed: str, how: str) -> None:
    """N or D computed from C must be possible."""
    N, D = taken.values("params"), taken.values("tokens")
    middle = float(np.median(D / N))
    span, other = _PLAUSIBLE[computed], _PLAUSIBLE[given]
    value, known = (float(np.median(taken.values(name))) for name in (computed, given))
    possible = span[0] / 100 <= value <= span[1] and known >= other[0] / 2
    if possible and _RATIO[0] <= middle <= _RATIO[1]:
        return
    best = None
    C = float(np.median(taken.values("flops")))
    units = itertools.product(_COUNT_UNITS.items(), _FLOP_UNITS.items())
    for (name, factor), (unit, flops) in units:
        one = known * factor
        rest = C * flops / (6.0 * one)
        n, d = (one, rest) if given == "params" else (rest, one)
        if not (_inside(n, _PLAUSIBLE_N) and _inside(d, _PLAUSIBLE_D) and 0.05 <= d / n <= 1e5):
            continue
        cost = 10 * ((name != "") + (unit != "")) + abs(np.log(d / n / _CHINCHILLA))
        cost += 0.5 * abs(np.log(n / _USUAL_N))
        if best is None or cost < best[0]:
            parts = ([f"{given}={name}"] if name else []) + ([f"flops={unit}"] if unit else [])
            best = (cost, ",".join(parts))
    fix = f"say the units: --units {given}=M,flops=PFdays"
    if best:
        fix = f"say the units, perhaps --units {best[1]}"
    raise InputError(
        f"{_ranges(taken)} of {taken.path} give {how} of {value:.2g} in the middle, {middle:.2g} "
        "tokens a parameter: a unit is wrong, or a column",
        f"{fix} (--units flops=1 takes the numbers as they stand)",
    )


def refuse_alone(taken: Taken, name: str) -> None:
    """N or D without the other: numbers too small or too large for it."""
    span = _PLAUSIBLE[name]
    if span[0] / 20 <= float(np.median(taken.values(name))) <= span[1]:
        return
    what, unit = {"params": ("parameters", "M"), "tokens": ("tokens", "B")}[name]
    raise InputError(
        f"{_ranges(taken)} of {taken.path} cannot be {what}: a unit is wrong, or the column",
        f"say the unit: --units {name}={unit}; or name the right column, --columns {name}=NAME "
        f"(--units {name}=1 takes the numbers as they stand)",
    )


def _best_units(taken: Taken, *, with_flops: bool) -> str | None:
    """The fewest units that make N, D (and C) plausible, as `--units` takes them, if any do."""
    N, D = taken.values("params"), taken.values("tokens")
    n, d, spread = float(np.median(N)), float(np.median(D)), float(np.median(D / N))
    ratio, flops, counts = 1.0, {"": 1.0}, _COUNT_UNITS
    if with_flops:
        ratio = float(np.median(taken.values("flops") / (6.0 * N * D)))
        flops = _FLOP_UNITS | _SMALLER
        counts = _COUNT_UNITS | _SMALLER
    best: tuple[float, str] | None = None
    units = itertools.product(counts.items(), counts.items(), flops.items())
    for (p, p_by), (t, t_by), (c, c_by) in units:
        after = ratio * c_by / (p_by * t_by)
        if with_flops and not 0.5 <= after <= 2.2:
            continue
        if not (_inside(n * p_by, _PLAUSIBLE_N) and _inside(d * t_by, _PLAUSIBLE_D)):
            continue
        a_parameter = spread * t_by / p_by
        if not 0.05 <= a_parameter <= 1e5:
            continue
        # The fewest units, then C nearest to 6ND, then what is usual.
        chosen = [unit for unit in (p, t, c) if unit]
        cost = 30.0 * len(chosen) + 6.0 * sum(unit in _SMALLER for unit in chosen)
        if with_flops:
            cost += 3 * abs(np.log(after))
        cost += abs(np.log(a_parameter / _CHINCHILLA)) + 0.5 * abs(np.log(n * p_by / _USUAL_N))
        if best is None or cost < best[0]:
            pairs = (("params", p), ("tokens", t), ("flops", c))
            best = (cost, ",".join(f"{name}={unit}" for name, unit in pairs if unit))
    return (best and best[1]) or None


def _clusters(ratio: Array, most: float = np.inf) -> list[NDArray[np.int_]] | None:
    """Rows in groups far apart, largest first; None for one, or if one spans over `most`."""
    logs = np.log(ratio)
    order = np.argsort(logs, kind="stable")
    gaps = np.flatnonzero(np.diff(logs[order]) > np.log(FAR))
    parts = np.split(order, gaps + 1)
    if not 2 <= len(parts) <= 4 or any(np.ptp(logs[part]) > np.log(most) for part in parts):
        return None
    return sorted((np.sort(part) for part in parts), key=len, reverse=True)


def _refuse_rows(
    taken: Taken, ratio: Array, clusters: list[NDArray[np.int_]], what: str
) -> list[Note]:
    """Refuse, naming the rows whose numbers are in another unit than the rest."""
    # The rows to fix are those further from what is usual.
    usual = 1.0 if what == "C/(6ND)" else _CHINCHILLA
    sound = min(clusters[:2], key=lambda rows: abs(np.log(np.median(ratio[rows]) / usual)))
    off = np.sort(np.concatenate([rows for rows in clusters if rows is not sound]))
    rows = listed(f"{taken.names[row]} ({ratio[row]:.2g})" for row in off)
    quantity = _off_quantity(taken, ratio, off, sound, what)
    column = taken.columns[quantity]
    return _refuse(
        taken,
        f"{what} is about {np.median(ratio[sound]):.2g} in {len(sound)} rows of {taken.path}, and "
        f"far from that in {len(off)}: {rows}. {column!r} is in another unit there",
        f"fix these rows, or leave them out with --where (--units {quantity}=1 takes the numbers "
        "as they stand)",
    )


def _off_quantity(
    taken: Taken, ratio: Array, off: NDArray[np.int_], sound: NDArray[np.int_], what: str
) -> str:
    """The quantity whose other unit brings the rows that are off to the others' D/N."""
    factor = float(np.median(ratio[off]) / np.median(ratio[sound]))
    N, D = np.log(taken.values("params")), np.log(taken.values("tokens"))
    apart = float(np.median((D - N)[off]) - np.median((D - N)[sound]))
    if what == "C/(6ND)":
        changes = {"params": -np.log(factor), "tokens": np.log(factor), "flops": 0.0}
        return min(changes, key=lambda name: abs(apart + changes[name]))
    far_N, far_D = (abs(float(np.median(x[off]) - np.median(x[sound]))) for x in (N, D))
    return "params" if far_N >= far_D else "tokens"


def doubtful_experts(taken: Taken) -> list[Note]:
    """Parameters of all experts taken for N, next to those that each token uses."""
    frame = taken.frame
    if "params_active" not in frame or not taken.has("params") or taken.sure("params"):
        return []
    active = pd.to_numeric(frame["params_active"], errors="coerce").to_numpy(dtype=float)
    params = taken.values("params")
    if not (np.isfinite(active).all() and (active < EXPERTS_COUNTED.limit * params).any()):
        return []
    most = float(np.nanmax(params / active))
    message = (
        f"N is {taken.columns['params']!r}, up to {most:.3g} times the active parameters next "
        "to it: C = 6ND follows the active ones of a mixture of experts (--columns "
        f"params={quoted(taken.columns['params_active'])})"
    )
    return [EXPERTS_COUNTED.note(message)]


def _ranges(taken: Taken) -> str:
    parts = []
    for name in ("params", "tokens", "flops"):
        if taken.has(name):
            values = taken.values(name)
            unit = f" in {taken.named[name]}" if name in taken.named else ""
            span = f"from {values.min():.3g} to {values.max():.3g}"
            parts.append(f"{taken.columns[name]}{unit} {span}")
    return ", ".join(parts)


def _insist(units: str) -> str:
    """The same units as 1."""
    return "--units " + ",".join(f"{part.partition('=')[0]}=1" for part in units.split(","))


def _inside(value: float, span: tuple[float, float]) -> bool:
    return span[0] <= value <= span[1]

"""Whether the FLOPs of recipes are of one count, which their multiplier is a ratio of."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from llmscale.errors import InputError, Note, both, listed
from llmscale.explain.estimation.levels import numbers
from llmscale.explain.laws import Array
from llmscale.explain.table import RunTable, parse_units
from llmscale.explain.table.doubts.flops_trend import FlopsTrend, flops_trend
from llmscale.notes.comparing import COMPARED_BY_6ND, FLOPS_DIFFER
from llmscale.quantity import format_count

_SAME = 1.01
"""C within 1% of 6ND is 6ND, rounded."""
_DIFFER = 1.05
"""Counts this far apart are worth a word."""
_ONE_COUNT = 2.0
"""C further from 6ND than this is of other parameters than N."""
_MOST_CHANGE = 1.5
"""The factor by which recipes' C/(6ND) may change, one against another, over the sizes of both: a
context or a vocabulary changes attention's share by less."""
_MOST_SCATTER = 3.0
_ALIKE = 1.5
"""The factor by which attention's share is off what contexts and widths say, with other shapes."""
_CONTEXTS = (
    "context",
    "context_length",
    "seq_len",
    "seq_length",
    "sequence_length",
    "ctx",
    "ctx_len",
)
_BY_6ND = "--columns flops=none compares by C = 6ND"


def by_one_count(
    tables: Mapping[str, RunTable],
) -> tuple[dict[str, RunTable], tuple[Note, ...]]:
    """The same tables, with C = 6ND for all if only some have FLOPs of their own; and what is to be
    known of how FLOPs are counted. Raises InputError for counts that do not compare."""
    ratios = {name: _ratio(table) for name, table in tables.items()}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    if len(known) < len(tables) or all(map(_is_own, tables.values())):
        # Without N or D there is nothing to hold FLOPs against; a sweep counts what it does.
        return dict(tables), ()
    given = {name for name, table in tables.items() if "flops" in table.columns}
    if len(given) < len(tables):
        return _recounted(tables, {name: known[name] for name in tables if name in given})
    if any(_is_told(table) for table in tables.values()):
        return dict(tables), ()
    return dict(tables), _compared(tables, known)


def _ratio(table: RunTable) -> Array | None:
    """C/(6ND) of every run; None if N, D or C is not known."""
    N, D, C = (numbers(table.frame, name) for name in ("params", "tokens", "flops"))
    ratio = C / (6.0 * N * D)
    return ratio if len(ratio) and np.isfinite(ratio).all() else None


def _is_own(table: RunTable) -> bool:
    """Whether a sweep of our own wrote the table."""
    return table.path.is_dir()


def _is_told(table: RunTable) -> bool:
    """Whether the user said that FLOPs are right as they stand: --units flops=1."""
    pairs = zip(table.asked[::2], table.asked[1::2], strict=True)
    return any(
        name == "--units" and parse_units(value).get("flops") == "1" for name, value in pairs
    )


def _recounted(
    tables: Mapping[str, RunTable], given: Mapping[str, Array]
) -> tuple[dict[str, RunTable], tuple[Note, ...]]:
    """C = 6ND of every table; `given` is C/(6ND) of those that have FLOPs of their own."""
    apart = {name: ratio for name, ratio in given.items() if _furthest(ratio) > _SAME}
    if not apart:
        return dict(tables), ()
    without = both([name for name in tables if name not in given])
    have = "have" if len(tables) - len(given) > 1 else "has"
    said = both([f"the FLOPs of {name} are {_times(ratio)} 6ND" for name, ratio in apart.items()])
    for ratio in apart.values():
        if max(np.median(ratio), 1 / np.median(ratio)) > _ONE_COUNT:
            raise InputError(
                f"{said}, and {without} {have} no FLOPs: two counts, which do not compare",
                f"give every table a column flops of one count; or {_BY_6ND}",
            )
    found = {}
    for name, table in tables.items():
        frame = table.frame.assign(flops=6.0 * table.frame["params"] * table.frame["tokens"])
        reading = f"{table.reading}; compared by C = 6ND" if name in given else table.reading
        found[name] = replace(table, frame=frame, reading=reading)
    note = COMPARED_BY_6ND.note(
        f"{said}, and {without} {have} no FLOPs: C = 6ND is taken for all (give every table a "
        "column flops to compare by another count)"
    )
    return found, (note,)


def _compared(tables: Mapping[str, RunTable], ratios: Mapping[str, Array]) -> tuple[Note, ...]:
    """What tables that all have FLOPs differ in. Raises InputError for C/(6ND) that differ more and
    more with size, or from run to run: these would decide the comparison."""
    trends = {
        name: flops_trend(numbers(table.frame, "params"), ratios[name])
        for name, table in tables.items()
    }
    for name, trend in trends.items():
        if trend.scatter > _MOST_SCATTER and not _is_own(tables[name]):
            raise InputError(
                f"the FLOPs of {name} are {_times(ratios[name])} 6ND, other times in runs of like "
                "sizes: they would decide the comparison",
                f"name its columns (--columns params=...,tokens=...,flops=...); {_BY_6ND}, and "
                "--units flops=1 takes them as they stand",
            )
    small, large = _shared_sizes(trends)
    ends = [np.array([trend.at(N) for trend in trends.values()]) for N in (small, large)]
    change = ends[1] / ends[0]
    contexts = _contexts(tables)
    drifts = change.max() > _MOST_CHANGE * change.min()
    if drifts and not _is_attention(contexts, (small, large), ends):
        said = _from_to(trends, small, large)
        raise InputError(
            f"C/(6ND) of the recipes changes otherwise with size, between N {format_count(small)} "
            f"and {format_count(large)}: {said}. That would decide the comparison",
            f"count the FLOPs of all in one way; {_BY_6ND}, and --units flops=1 takes them as they "
            "stand (right if a longer context is the cause, whose attention weighs more in small "
            "models)",
        )
    if drifts:
        said = _from_to(trends, small, large)
        return (
            FLOPS_DIFFER.note(
                f"at equal N and D recipes have other FLOPs (C/(6ND): {said}), as their contexts "
                "explain: attention is a part of the multiplier"
            ),
        )
    middle = np.sqrt(ends[0] * ends[1])
    if middle.max() < _DIFFER * middle.min():
        return ()
    said = listed(f"{name} {value:.3g}" for name, value in zip(trends, middle, strict=True))
    return (
        FLOPS_DIFFER.note(
            f"at equal N and D recipes have other FLOPs (C/(6ND): {said}), which is a part of the "
            f"multiplier: if they are only counted otherwise, {_BY_6ND}"
        ),
    )


def _from_to(trends: Mapping[str, FlopsTrend], small: float, large: float) -> str:
    return listed(
        f"{name} from {trend.at(small):.2g} to {trend.at(large):.2g}"
        for name, trend in trends.items()
    )


def _contexts(tables: Mapping[str, RunTable]) -> Array | None:
    """The context of every recipe; None unless each has one."""
    found = []
    for table in tables.values():
        column = next((name for name in _CONTEXTS if name in table.frame), None)
        values = {} if column is None else set(numbers(table.frame, column).tolist())
        if len(values) != 1:
            return None
        found.append(float(min(values)))
    return np.array(found)


def _is_attention(contexts: Array | None, sizes: tuple[float, float], ends: list[Array]) -> bool:
    """Whether what C has above 6ND is attention's: as much for each token of context in all
    recipes, and less in large models, no faster than as they get wider at one depth."""
    if contexts is None or len(set(contexts.tolist())) < 2:
        return False
    above = np.array(ends) - 1.0
    if not (contexts > 0).all() or not (above > 0).all():
        return False
    for_each = above / contexts
    alike = (for_each.max(axis=1) < _ALIKE * for_each.min(axis=1)).all()
    falls = above[0] / above[1]
    fastest = _ALIKE * math.sqrt(sizes[1] / sizes[0])
    return bool(alike and (falls > 1.0).all() and (falls < fastest).all())


def _shared_sizes(trends: Mapping[str, FlopsTrend]) -> tuple[float, float]:
    """The sizes that all recipes have, or if there are none the one between them."""
    small = max(trend.sizes[0] for trend in trends.values())
    large = min(trend.sizes[1] for trend in trends.values())
    if small > large:
        small = large = float(np.sqrt(small * large))
    return small, large


def _furthest(ratio: Array) -> float:
    return float(np.max(np.maximum(ratio, 1 / ratio)))


def _times(ratio: Array) -> str:
    low, high = float(ratio.min()), float(ratio.max())
    if high <= _SAME * low:
        return f"{np.median(ratio):.3g} times"
    return f"{low:.2g} to {high:.2g} times"

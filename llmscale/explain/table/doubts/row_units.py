"""Rows of a table whose sizes or tokens are in another unit than the rest: told by the losses."""

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import Note, counted, listed
from llmscale.errors.command_lines import where_option
from llmscale.explain.table.doubts.least_absolute import least_absolute
from llmscale.explain.table.doubts.taken import Array, Taken
from llmscale.notes.reading import ROWS_IN_OTHER_UNITS

_LEAST_ROWS = 10
_FACTORS = {"thousands": 1e3, "millions": 1e6, "billions": 1e9}
_LEAST_GAP = 2.0
"""Values next to each other differ by less than this factor in tables of one unit, or by the
table's design."""
_WORTH = 0.01
"""A surface that misses by less than 1% needs no other units."""


def rows_in_other_units(taken: Taken) -> list[Note]:
    """A note on rows whose N or D, times a thousand, a million or a billion, bring all rows onto
    one smooth surface of loss."""
    N, D, loss = (np.log(taken.values(name)) for name in ("params", "tokens", "loss"))
    if len(N) < _LEAST_ROWS or not np.isfinite(N + D + loss).all():
        return []
    before = _misfit(N, D, loss)
    if before < _WORTH:
        return []
    found = []
    for name, unit, factor, rows in _candidates(N, D):
        shift = np.where(rows, np.log(factor), 0.0)
        moved = (N + shift, D) if name == "params" else (N, D + shift)
        # Rows of another unit come to lie among the others, and do not go beyond them.
        if not _among(moved[0 if name == "params" else 1], rows):
            continue
        found.append((_misfit(*moved, loss), name, unit, rows))
    if not found:
        return []
    after, name, unit, rows = min(found, key=lambda one: one[0])
    if after > ROWS_IN_OTHER_UNITS.limit * before:
        return []
    column, off = taken.columns[name], np.flatnonzero(rows)
    values = taken.values(name)
    named = listed(f"{taken.names[row]} ({values[row]:.3g})" for row in off)
    only = where_option(column, ">", f"{float(values[rows].max()):.3g}")
    return [
        ROWS_IN_OTHER_UNITS.note(
            f"{column!r} of {counted(len(off), 'row')} seems to be in {unit}, and that of the "
            f"other {int((~rows).sum())} is not: so taken, losses lie within {after:.1%} of one "
            f"smooth surface, and within {before:.1%} as they stand: {named}. Fix these rows, or "
            f"leave them out: {only}"
        )
    ]


def _candidates(N: Array, D: Array) -> list[tuple[str, str, float, NDArray[np.bool_]]]:
    """What may be too small, by which factor, in which rows: those below a gap in N, D or D/N."""
    found = []
    for name, values in (("params", N), ("tokens", D)):
        for scale in (values, D - N if name == "tokens" else N - D):
            order = np.sort(scale)
            gaps = np.diff(order)
            for place in np.argsort(-gaps)[:2]:
                if gaps[place] < np.log(_LEAST_GAP):
                    continue
                rows = scale <= order[place] + 1e-9
                # Most of a table is as it should be: of a tie the rows that are too small are off.
                if rows.sum() < 2 or rows.sum() > 0.6 * len(rows):
                    continue
                found += [(name, unit, factor, rows) for unit, factor in _FACTORS.items()]
    return found


def _among(values: Array, rows: NDArray[np.bool_]) -> bool:
    """Whether the middle of these rows lies within the range of the others, or near it."""
    rest, middle = values[~rows], float(np.median(values[rows]))
    slack = np.log(3.0)
    return bool(rest.min() - slack <= middle <= rest.max() + slack)


def _misfit(N: Array, D: Array, loss: Array) -> float:
    """The typical distance of ln loss from the parabola in ln N and ln D that most rows follow."""
    x, y = ((values - values.mean()) / max(values.std(), 1e-9) for values in (N, D))
    columns = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    found = least_absolute(columns, loss)
    off = np.sort(np.abs(loss - columns @ found))
    spare = off[min(columns.shape[1], len(off) - 1) :]
    return float(np.quantile(spare, 0.75))

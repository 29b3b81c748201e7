"""FLOPs that follow 6ND by another factor than they should: everywhere, in some rows, or ever less
at small sizes."""

import numpy as np
import pandas as pd

from llmscale.errors import Note, listed
from llmscale.explain.table.doubts.flops_trend import drift
from llmscale.explain.table.doubts.taken import Array, Taken
from llmscale.notes.reading import EMBEDDINGS_COUNTED, FLOPS_OFF, FLOPS_ROWS_OFF
from llmscale.quantity import format_count

_CONSTANT = 1.05
"""C/(6ND) within this factor in nine rows of ten is one count."""
_COUNTS = (0.7, 1.5)
"""Of 6ND: 4/3 with activations computed again, and up to 1.5 with attention at small sizes."""
_SIZES_APART = 3.0
_GAP, _TIGHT = 1.4, 1.15
_SAME, _OTHER = 1.01, 1.05
_FOLLOWS = 0.9


def doubtful_counts(taken: Taken) -> list[Note]:
    """What C/(6ND) says, if it lies near 1 and is not scattered."""
    N = taken.values("params")
    ratio = taken.values("flops") / (6.0 * N * taken.values("tokens"))
    if taken.sure("flops") or len(ratio) < 2 or N.max() < _SIZES_APART * N.min():
        return []
    for judge in (_constant, _embeddings, _two_counts, drift):
        note = judge(taken, ratio, N)
        if note is not None:
            return [note]
    return []


def _constant(taken: Taken, ratio: Array, N: Array) -> Note | None:
    low, middle, high = np.quantile(ratio, [0.05, 0.5, 0.95])
    if high > _CONSTANT * low or _COUNTS[0] <= middle <= _COUNTS[1]:
        return None
    return FLOPS_OFF.note(
        f"{taken.columns['flops']!r} is {middle:.3g} times 6ND at every size, which no count of "
        "operations is: are multiplications and additions counted as one, or passes twice? "
        f"--units flops={1 / middle:.3g} brings it to 6ND, and flops=1 takes it as it stands"
    )


def _embeddings(taken: Taken, ratio: Array, N: Array) -> Note | None:
    """C/(6ND) that rises with size to about 1: N counts what C does not."""
    order = np.argsort(N, kind="stable")
    thirds = np.array_split(ratio[order], 3)
    small, large = float(np.median(thirds[0])), float(np.median(thirds[-1]))
    if not (small * EMBEDDINGS_COUNTED.limit < large and small < 1 and 0.7 < large < 1.5):
        return None
    if pd.Series(N).rank().corr(pd.Series(ratio).rank()) < _FOLLOWS:
        return None
    return EMBEDDINGS_COUNTED.note(
        f"C/(6ND) rises with size, from {small:.2g} in the smallest third ("
        f"N from {format_count(N.min())}) to {large:.2g} in the largest (to "
        f"{format_count(N.max())}): N seems to count embeddings, which C does not. Name the column "
        "of parameters that multiply every token (--columns params=NAME), or read exponents as "
        "those of this count"
    )


def _two_counts(taken: Taken, ratio: Array, N: Array) -> Note | None:
    """Rows in two groups, or most rows alike and some others not."""
    order = np.sort(np.log(ratio))
    place = int(np.argmax(np.diff(order)))
    low, high = order[: place + 1], order[place + 1 :]
    spreads = [float(np.ptp(np.quantile(part, [0.05, 0.95]))) for part in (low, high)]
    apart = order[place + 1] - order[place] > np.log(_GAP) and max(spreads) < np.log(_TIGHT)
    fewer = low if len(low) <= len(high) else high
    if apart and len(fewer) >= 2:
        off = np.isin(np.log(ratio), fewer)
    else:
        near = np.abs(np.log(ratio / np.median(ratio)))
        off = near > np.log(_OTHER)
        alike = near < np.log(_SAME)
        if alike.mean() < 0.5 or off.sum() < 2 or (alike | off).mean() < 0.9:
            return None
    rows = listed(f"{taken.names[row]} ({ratio[row]:.2g})" for row in np.flatnonzero(off))
    return FLOPS_ROWS_OFF.note(
        f"C is {np.median(ratio[~off]):.2g} times 6ND in {int((~off).sum())} rows, and not in "
        f"{int(off.sum())}, {rows}: FLOPs counted twice, tokens computed with a wrong batch, or "
        "another count of parameters there?"
    )

"""Many small least-squares problems at once, unknowns not negative: half of variable projection."""

import itertools
from collections.abc import Sequence

import numpy as np

from llmscale.explain.laws import Array

_RIDGE = 1e-13


def non_negative_least_squares(
    gram_SKK: Array, target_SK: Array, free: Sequence[int] = (), most: int | None = None
) -> tuple[Array, Array]:
    """min x'Gx - 2h'x with x >= 0 for each of S problems: x (S, K) and the value reached (S,).

    Unknowns in `free` may have either sign. By trying every set of positive ones, which is quick
    for the few that laws have. If only the `most` lowest problems matter, those that cannot be
    among them are left at infinity."""
    problems, size = target_SK.shape
    best = np.zeros((problems, size))
    lowest = np.full(problems, np.inf)
    bounded = [k for k in range(size) if k not in free]
    left = np.arange(problems)
    sets = [itertools.combinations(bounded, k) for k in range(len(bounded), -1, -1)]
    for chosen in itertools.chain(*sets):
        index = sorted([*chosen, *free])
        if not index or not len(left):
            continue
        gram = gram_SKK[left[:, None, None], np.array(index)[:, None], index]
        target = target_SK[left[:, None], index]
        ridge = _RIDGE * np.trace(gram, axis1=1, axis2=2) + np.finfo(float).tiny
        ridged = gram + ridge[:, None, None] * np.eye(len(index))
        solution = np.linalg.solve(ridged, target[:, :, None])[..., 0]
        squared = ((gram @ solution[:, :, None])[..., 0] * solution).sum(axis=1)
        value = squared - 2 * (solution * target).sum(axis=1)
        positive = (solution[:, [k not in free for k in index]] >= 0).all(axis=1)
        better = positive & (value < lowest[left])
        rows = left[better]
        lowest[rows] = value[better]
        best[rows] = 0.0
        best[rows[:, None], index] = solution[better]
        if len(chosen) == len(bounded):
            # Smaller sets can only be worse than this one.
            hopeful = ~positive
            if most is not None and positive.sum() >= most:
                hopeful &= value < np.partition(lowest, most - 1)[most - 1]
            left = left[hopeful]
    return best, lowest

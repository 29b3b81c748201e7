"""Many small least-squares problems at once, their unknowns not negative: the linear half of variable projection."""

import itertools
from collections.abc import Sequence

import numpy as np

from llmscale.laws import Array

_RIDGE = 1e-13


def non_negative_least_squares(gram_SKK: Array, target_SK: Array, free: Sequence[int] = ()) -> tuple[Array, Array]:
    """min x'Gx - 2h'x with x >= 0 for each of S problems: x (S, K) and the value reached (S,).

    Unknowns in `free` may have either sign. By trying every set of positive ones, which is quick for the few that
    laws have.
    """
    problems, size = target_SK.shape
    best = np.zeros((problems, size))
    lowest = np.full(problems, np.inf)
    bounded = [k for k in range(size) if k not in free]
    left = np.arange(problems)
    for chosen in itertools.chain(*(itertools.combinations(bounded, k) for k in range(len(bounded), -1, -1))):
        index = sorted([*chosen, *free])
        if not index or not len(left):
            continue
        gram = gram_SKK[left[:, None, None], np.array(index)[:, None], index]
        target = target_SK[left[:, None], index]
        ridge = _RIDGE * np.trace(gram, axis1=1, axis2=2) + np.finfo(float).tiny
        solution = np.linalg.solve(gram + ridge[:, None, None] * np.eye(len(index)), target[:, :, None])[..., 0]
        value = ((gram @ solution[:, :, None])[..., 0] * solution).sum(axis=1) - 2 * (solution * target).sum(axis=1)
        positive = (solution[:, [k not in free for k in index]] >= 0).all(axis=1)
        better = left[positive & (value < lowest[left])]
        lowest[better] = value[positive & (value < lowest[left])]
        best[better] = 0.0
        best[better[:, None], index] = solution[np.isin(left, better)]
        if len(chosen) == len(bounded):
            left = left[~positive]  # the rest of the sets can only be worse
    return best, lowest

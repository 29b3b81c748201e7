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
    for chosen in itertools.chain(*(itertools.combinations(bounded, k) for k in range(len(bounded) + 1))):
        index = sorted([*chosen, *free])
        if not index:
            continue
        gram = gram_SKK[:, index][:, :, index]
        ridge = _RIDGE * np.trace(gram, axis1=1, axis2=2) + np.finfo(float).tiny
        solution = np.linalg.solve(gram + ridge[:, None, None] * np.eye(len(index)), target_SK[:, index, None])[..., 0]
        value = np.einsum("sk,skj,sj->s", solution, gram, solution) - 2 * (solution * target_SK[:, index]).sum(axis=1)
        better = (solution[:, [k not in free for k in index]] >= 0).all(axis=1) & (value < lowest)
        lowest[better] = value[better]
        best[better] = 0.0
        best[np.ix_(better, index)] = solution[better]
    return best, lowest

"""Least absolute deviations: the surface that most rows follow, whatever the others do."""

import numpy as np

from llmscale.explain.table.doubts.taken import Array

_ROUNDS, _SETTLED = 30, 1e-4


def least_absolute(columns_RK: Array, values_R: Array) -> Array:
    """The coefficients (K,) of the columns that minimise the sum of absolute deviations from the
    values, by least squares with weights again and again (Schlossmacher 1973)."""
    found = np.linalg.lstsq(columns_RK, values_R, rcond=None)[0]
    off = np.abs(values_R - columns_RK @ found)
    for _ in range(_ROUNDS):
        weight = 1 / np.maximum(off, 1e-3 * np.median(off) + 1e-12)
        gram = columns_RK.T @ (columns_RK * weight[:, None])
        if not np.isfinite(gram).all():
            break
        found = np.linalg.lstsq(gram, columns_RK.T @ (weight * values_R), rcond=1e-14)[0]
        before, off = off, np.abs(values_R - columns_RK @ found)
        if abs(float(before.sum() - off.sum())) <= _SETTLED * float(off.sum()):
            break
    return np.asarray(found)

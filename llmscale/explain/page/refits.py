"""The refits of a law over N and D, in little room.

How far a thousand refits are from their law is a table of a thousand rows and as many columns as
the grid has points. The rows differ in few ways, as many as the law has coefficients and some more
for its bends: so the page gets the table's singular vectors, and adds them up at the place that it
is asked for."""

import base64
from typing import Any

import numpy as np

from llmscale.explain.estimation.result import Fit, with_coefficients
from llmscale.explain.laws import Array
from llmscale.explain.page.widening import numbers

_OFF = 3e-5
"""By how much of ln L an end of an interval may be off at a point of the grid."""
_FEWEST, _MOST = 8, 64
"""Singular vectors."""
_LARGEST = 32767
"""Of two bytes."""
_TAILS = (0.025, 0.05, 0.16, 0.84, 0.95, 0.975)


def refits_over(fit: Fit, N_X: Array, D_X: Array) -> dict[str, Any] | None:
    """How far each refit is from the law in ln L (of a plain law L) at N and D: `weights` (R, B)
    and `vectors` (R, X) as whole numbers, of which it is the sum over R of the products times
    `scale` (R,), and the `noise` of a run for each refit (B,).

    A refit that gives no loss at some of these points has no part in it; None if there is no
    other."""
    with np.errstate(all="ignore"):
        refits = with_coefficients(fit.law, fit.replicates)
        losses_BX = np.asarray(refits.loss(N_X[None], D_X[None]), dtype=float)
        apart_BX = fit.law.level_of(losses_BX) - fit.law.level_of(fit.law.loss(N_X, D_X))
    usable_B = np.isfinite(apart_BX).all(axis=1)
    if not usable_B.any():
        return None
    noise_B = fit.noise[usable_B]
    weights_RB, sizes_R, vectors_RX = _factors(apart_BX[usable_B], noise_B)
    weights, largest_R = _packed(weights_RB)
    vectors, highest_R = _packed(vectors_RX)
    return {
        "weights": weights,
        "vectors": vectors,
        "scale": numbers(largest_R * sizes_R * highest_R),
        "noise": numbers(noise_B),
    }


def _factors(apart_BX: Array, noise_B: Array) -> tuple[Array, Array, Array]:
    """As few singular vectors, with their sizes, as give the ends of intervals."""
    left_BR, sizes_R, right_RX = np.linalg.svd(apart_BX, full_matrices=False)
    most = min(_MOST, len(sizes_R))
    true = _ends(apart_BX, noise_B)
    rank = min(_FEWEST, most)
    while rank < most:
        product_BX = (left_BR[:, :rank] * sizes_R[:rank]) @ right_RX[:rank]
        if np.abs(_ends(product_BX, noise_B) - true).max(initial=0.0) < _OFF:
            break
        rank = min(rank + rank // 4, most)
    return left_BR[:, :rank].T, sizes_R[:rank], right_RX[:rank]


def _ends(apart_BX: Array, noise_B: Array) -> Array:
    return np.asarray(np.quantile(apart_BX + noise_B[:, None], _TAILS, axis=0))


def _packed(rows: Array) -> tuple[str, Array]:
    """Rows as whole numbers of two bytes, in base64, and what one of them is worth in each row."""
    worth = np.maximum(np.abs(rows).max(axis=1, initial=0.0), 1e-300) / _LARGEST
    whole = np.round(rows / worth[:, None]).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode(), worth

"""Notes on an optimum at the edge of what its law can say, or of what was said of it."""

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import Note
from llmscale.explain.estimation.constraints import Constraints
from llmscale.explain.estimation.newton import unit_columns
from llmscale.explain.estimation.solver import Descent
from llmscale.explain.laws import Array, Law, Surface
from llmscale.notes.fitting import (
    BOUND_ACTIVE,
    EXPONENT_AT_BOUND,
    FLAT_DIRECTION,
    FLOOR_AT_ZERO,
    TERM_AT_ZERO,
)

_NO_SHARE = 1e-8
"""A coefficient that moves no loss by more than this share of it has gone to zero."""
_LARGE = 1e3
_AT_END = 1e-9
"""Of theta: that close to the end of the search is at it."""
_IMPLAUSIBLE = 4
"""Exponents above it fit the smallest runs only."""


def optimum_notes(
    law: Law, surface: Surface, found: Descent, constraints: Constraints
) -> list[Note]:
    """What to say of coefficients that ended on a bound, at zero, or along a ridge."""
    names, theta = law.coefficient_names(), found.theta
    at_bound = constraints.at_bound(law.coefficients())
    notes = [
        BOUND_ACTIVE.note(f"{name} ends on its bound {end:.6g}: these runs pull it beyond")
        for name, end in at_bound.items()
    ]
    jacobian = surface.jacobian(theta)
    held = np.isin(names, list(constraints.held))
    at_zero = surface.vanishing & (theta <= surface.lower)
    if not surface.centred:
        # Logarithms of amplitudes have no bound to end on: they are at zero when nothing hangs on
        # them.
        logs = ~np.isin(names, law.signed) & ~np.isin(names, law.exponents)
        at_zero |= logs & ~held & (np.abs(jacobian).max(axis=0) < _NO_SHARE)
    notes += [_zero_note(law, name) for name in np.array(names)[at_zero].tolist()]
    free = ~at_zero & ~held & ~np.isin(names, list(at_bound))
    notes += _exponent_notes(law, surface, theta, free)
    for name in law.exponents:
        index = names.index(name)
        free[index] &= surface.lower[index] < theta[index] < surface.upper[index]
    spoken = (*constraints.held, *at_bound)
    unbound = [name for name in _grown(law, surface, theta) if name not in spoken]
    if unbound or not found.settled:
        return [*notes, _ridge_note(unbound)]
    # On centred inputs columns compare as they are.
    columns = jacobian[:, free] if surface.centred else unit_columns(jacobian[:, free])
    return notes + _flat_notes(columns, np.array(names)[free])


def _zero_note(law: Law, name: str) -> Note:
    """On a term that does nothing."""
    if name == law.floor:
        return FLOOR_AT_ZERO.note(f"the best floor {name} is 0: these runs show no floor")
    value = getattr(law, name)
    if value <= 1:
        return TERM_AT_ZERO.note(
            f"the best {name} is 0: its term does nothing, and its exponent is arbitrary"
        )
    if value < _LARGE:
        return TERM_AT_ZERO.note(f"nothing hangs on {name}, {value:.3g}: its term does nothing")
    return TERM_AT_ZERO.note(f"{name} = {value:.3g} is so large that nothing hangs on its value")


def _exponent_notes(
    law: Law, surface: Surface, theta_P: Array, free_P: NDArray[np.bool_]
) -> list[Note]:
    """On exponents that are 0, or steeper than any that was measured."""
    names, notes = law.coefficient_names(), []
    for name in law.exponents:
        index, value = names.index(name), getattr(law, name)
        if not free_P[index]:
            continue
        if theta_P[index] <= surface.lower[index]:
            message = f"{name} is at its bound 0: the loss does not fall with its variable"
            notes.append(EXPONENT_AT_BOUND.note(message))
        elif theta_P[index] >= surface.upper[index] or value > _IMPLAUSIBLE:
            message = f"{name} = {value:.3g} is implausibly steep: it fits the smallest runs alone"
            notes.append(EXPONENT_AT_BOUND.note(message))
    return notes


def _grown(law: Law, surface: Surface, theta_P: Array) -> list[str]:
    """The coefficients of either sign that ended where the search does."""
    inside = np.minimum(theta_P - surface.lower, surface.upper - theta_P) > _AT_END
    names = zip(law.coefficient_names(), inside, strict=True)
    return [name for name, is_inside in names if name in law.signed and not is_inside]


def _ridge_note(unbound: list[str]) -> Note:
    reason = "the best fit lies along a ridge, on which the objective hardly changes any more"
    if unbound:
        reason = (
            f"nothing keeps {' and '.join(unbound)} from growing, and the fit ends where the "
            "search does"
        )
    return FLAT_DIRECTION.note(
        f"{reason}: the coefficients are not known one by one, only the loss near the runs is. Use "
        "a law with fewer coefficients, or add runs"
    )


def _flat_notes(columns_RK: Array, names_K: NDArray[np.str_]) -> list[Note]:
    """On coefficients that hardly move the losses apart from each other."""
    _, singular, direction = np.linalg.svd(columns_RK, full_matrices=False)
    if not len(singular) or FLAT_DIRECTION.limit * singular[-1] > singular[0]:
        return []
    condition = singular[0] / max(singular[-1], 1e-300)
    moving = names_K[np.abs(direction[-1]) > 0.3]
    return [
        FLAT_DIRECTION.note(
            f"the runs hardly tell {' and '.join(moving)} apart (condition number "
            f"{condition:.1e}): only their joint effect is known",
        )
    ]

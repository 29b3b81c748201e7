"""Roots and lowest points of functions of one number, of many functions at once: arrays in, arrays
out, each element for itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[[Array], Array]
_HALVINGS = 60
"""Bisections: what is left of the widest range here, ln 1e36, is less than a float tells apart."""
_SECTIONS, _BESIDE_A_WALL = 80, 60
"""Of the golden ratio, by the same measure; next to a wall the sides of it have to stay apart."""
_POINTS = 33
"""At which a range is tried first if it may have several valleys."""
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def crossing(function: Function, low: Any, high: Any) -> Array:
    """Where a function that is above 0 at `low` and not at `high` crosses 0."""
    low, high = _as_arrays(low, high)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        above = function(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(0.5 * (low + high))


def first_crossing(function: Function, points_BX: Array) -> Array:
    """The first of rising points X, in each row B, between which a function crosses 0 from above,
    and where: (B, 1). The first point if it is not above 0 there, infinity if it always is."""
    reached_BX = np.broadcast_to(function(points_BX) <= 0, points_BX.shape)
    place_B = reached_BX.argmax(axis=1)
    rows = np.arange(len(points_BX))
    high_B1 = points_BX[rows, place_B][:, None]
    low_B1 = points_BX[rows, np.maximum(place_B - 1, 0)][:, None]
    found_B1 = np.where(place_B[:, None] > 0, crossing(function, low_B1, high_B1), high_B1)
    return np.where(reached_BX.any(axis=1, keepdims=True), found_B1, np.inf)


def lowest(function: Function, low: Any, high: Any) -> Array:
    """Where a function with one valley is lowest, by golden-section search."""
    low, high = _valley(function, low, high, _SECTIONS)
    return np.asarray(0.5 * (low + high))


def lowest_of_valleys(function: Function, low: Any, high: Any) -> Array:
    """The same of a function with several valleys, or flat on the sides of one: the lowest of those
    that are as wide as a thirtieth of the range."""
    low, high = _as_arrays(low, high)
    step = (high - low) / (_POINTS - 1)
    place, least = low, np.full(np.shape(low), np.inf)
    for part in range(_POINTS):
        point = low + part * step
        value = function(point)
        is_lower = value < least
        place, least = np.where(is_lower, point, place), np.where(is_lower, value, least)
    return lowest(function, np.maximum(place - step, low), np.minimum(place + step, high))


def lowest_above_wall(function: Function, low: Any, high: Any) -> Array:
    """The same if the function has a wall on the left of its valley, on the side of which it is
    low."""
    low, high = _valley(function, low, high, _BESIDE_A_WALL)
    middle = 0.5 * (low + high)
    return np.asarray(np.where(function(middle) > function(high), high, middle))


def _valley(function: Function, low: Any, high: Any, sections: int) -> tuple[Array, Array]:
    """Both ends of what is left of a range."""
    low, high = _as_arrays(low, high)
    for _ in range(sections):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        falls = function(left) > function(right)
        low, high = np.where(falls, left, low), np.where(falls, high, right)
    return low, high


def _as_arrays(low: Any, high: Any) -> tuple[Array, Array]:
    """Both ends in one shape."""
    shape = np.broadcast_shapes(np.shape(low), np.shape(high))
    first, last = (np.asarray(end, dtype=float) for end in (low, high))
    return np.broadcast_to(first, shape), np.broadcast_to(last, shape)

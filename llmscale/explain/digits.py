"""How a loss is written: with the digits that its interval bears, and that its size asks for."""

import math

_OF_WIDTH = 3
"""Digits of the width of an interval: forecasts can be told apart that differ by less than it."""
_LEAST, _MOST = 3, 7
"""Significant digits of a value with an interval, however wide or narrow that is."""
_WITHOUT = 5
"""Significant digits of a value of 1 or more without an interval; of a smaller one one less."""
_PLAIN = 1e6, 1e-6
"""Beyond these numbers are written as powers of ten."""


def with_ends(value: float, low: float, high: float) -> str:
    """`2.8123 [2.7941, 2.8312]`, or `2.8123` if there is no interval."""
    shown = number(value, low, high)
    return f"{shown} {ends(low, high, value)}" if math.isfinite(high - low) else shown


def ends(low: float, high: float, value: float | None = None) -> str:
    """`[2.7941, 2.8312]` of a value in between; `-` if there is no interval."""
    if not math.isfinite(high - low):
        return "-"
    places = _decimals(0.5 * (low + high) if value is None else value, low, high)
    return f"[{_written(low, places)}, {_written(high, places)}]"


def number(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """The value to as many decimals as its interval, if there is one."""
    return _written(value, _decimals(value, low, high))


def _decimals(value: float, low: float, high: float) -> int:
    width = high - low
    if not (math.isfinite(width) and width > 0):
        return max(_decimals_of(value, _WITHOUT if abs(value) >= 1 else _WITHOUT - 1), 0)
    # Of a value next to 0 what counts is how far it may be from it.
    size = max(abs(value), width) if low <= 0 <= high else value
    least, most = (_decimals_of(size, digits) for digits in (_LEAST, _MOST))
    return max(min(max(_decimals_of(width, _OF_WIDTH), least), most), 0)


def _decimals_of(value: float, significant: int) -> int:
    """Decimals that show so many significant digits of a number."""
    if value == 0 or not math.isfinite(value):
        return 0
    return significant - 1 - math.floor(math.log10(abs(value)))


def _written(value: float, places: int) -> str:
    largest, least = _PLAIN
    if value != 0 and not least <= abs(value) < largest:
        return f"{value:.3g}"
    return f"{round(value, places) + 0.0:.{places}f}"


def telling_apart(low: float, high: float, least: int) -> int:
    """Significant digits, `least` or more, that show an interval's width to two digits."""
    if not (math.isfinite(high - low) and high > low):
        return least
    needed = _decimals_of(high - low, 2) - _decimals_of(max(abs(low), abs(high)), 0)
    return min(max(needed, least), _MOST)


def chance(p_value: float, simulations: int) -> str:
    """`= 0.03`, or `< 0.01` if none of the simulated tables went as far as the real one, so that
    nothing tells how rare that is."""
    least = 1.0 / (1 + simulations)
    return f"= {p_value:.2g}" if p_value > 1.5 * least else f"< {2 * least:.1g}"


def times(factor: float, significant: int = 3) -> str:
    """`3.1x`, `1,970x`: how many times, without powers of ten as far as that is readable."""
    rounded = float(f"{factor:.{significant}g}")
    if not 10**significant <= rounded < 1e7:
        return f"{rounded:.{significant}g}x"
    return f"{rounded:,.0f}x"


def share(part: float) -> str:
    """`44%`, `0.3%`, `<0.1%`, and `99.7%` or `>99.9%` of what is nearly all."""
    if 0 < part < 0.001:
        return "<0.1%"
    if 0.9995 <= part < 1 - 1e-6:
        return ">99.9%"
    near_an_end = part < 0.0095 or 0.995 <= part < 0.9995
    return f"{part:.1%}" if near_an_end else f"{part:.0%}"

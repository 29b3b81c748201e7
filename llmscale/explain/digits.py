"""How a loss is written: with the digits that its interval bears, and that its size asks for."""

import math

_OF_WIDTH, _OF_DRAWS = 3, 2
"""Digits of the width of an interval: forecasts can be told apart that differ by less than it. The
ends of an interval of some draws are known to a few per cent of its width."""
_LEAST, _MOST = 3, 7
"""Significant digits of a value with an interval, however wide or narrow that is."""
_WITHOUT = 5
"""Significant digits of a value of 1 or more without an interval; of a smaller one one less."""
_PLAIN = 1e6, 1e-6
"""Beyond these numbers are written as powers of ten."""
_RARE = 0.005


def with_ends(value: float, low: float, high: float) -> str:
    """`2.8123 [2.7941, 2.8312]`, or `2.8123` if there is no interval."""
    shown = number(value, low, high)
    return f"{shown} {ends(low, high, value)}" if math.isfinite(high - low) else shown


def with_drawn_ends(value: float, low: float, high: float, mark: float) -> str:
    """`0.68 [0.61, 0.74]`: a value with an interval whose ends come from draws. An end that is not
    at `mark` is not written as if it were."""
    most = _decimals_of(value, _MOST)
    places = min(max(_decimals_of(end, _OF_DRAWS) for end in (high - low, low)), most)
    while places < most and any(round(end, places) == mark != end for end in (low, high)):
        places += 1
    places = max(places, 0)
    return f"{_written(value, places)} [{_written(low, places)}, {_written(high, places)}]"


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


def percent(chance: float) -> str:
    """`86%`, `<1%`, `>99%`: draws tell no chance of 0 or 1."""
    if chance < _RARE:
        return "<1%"
    return ">99%" if chance > 1.0 - _RARE else f"{chance:.0%}"


def times(factor: float, significant: int = 3) -> str:
    """`3.1x`, `1,970x`: how many times, without powers of ten as far as that is readable."""
    rounded = float(f"{factor:.{significant}g}")
    if not 10**significant <= rounded < 1e7:
        return f"{rounded:.{significant}g}x"
    return f"{rounded:,.0f}x"


def how_far(horizon: float, *, below: bool = False) -> str:
    """`inside`, `3.1x` or `57x below`: where a point lies that is exp(`horizon`) times beyond the
    runs of a law, or `below` the smallest of them."""
    said = times(math.exp(horizon))
    if horizon <= 0 or said == times(1.0):
        return "inside"
    return f"{said} below" if below else said


def from_the_runs(horizon: float, *, below: bool = False) -> str:
    """`inside the runs`, `3.1x beyond the runs` or `57x below the runs`."""
    said = how_far(horizon, below=below)
    return f"{said} the runs" if below or said == "inside" else f"{said} beyond the runs"


def share(part: float) -> str:
    """`44%`, `0.3%`, `<0.1%`, and `99.7%` or `>99.9%` of what is nearly all."""
    if 0 < part < 0.001:
        return "<0.1%"
    if 0.9995 <= part < 1 - 1e-6:
        return ">99.9%"
    near_an_end = part < 0.0095 or 0.995 <= part < 0.9995
    return f"{part:.1%}" if near_an_end else f"{part:.0%}"

"""Differences of log losses in words: the share of the loss that they are, or the factor."""

import math

_LARGEST_SHARE = math.log(2.0)
"""Beyond a factor of two a share misleads: -128% of a loss is nothing that a loss can be."""


def relative(log_difference: float, digits: int = 1, *, plain: bool = False) -> str:
    """`+1.2%`, `-0.4%`, or `x0.28` of a difference of logarithms; of a plain one `+0.012`."""
    if not math.isfinite(log_difference):
        return "beyond numbers"
    if plain:
        return f"{log_difference:+.3g}"
    if abs(log_difference) <= _LARGEST_SHARE:
        return f"{math.expm1(log_difference):+.{digits}%}"
    return _factor(log_difference)


def size(log_difference: float, digits: int = 2, *, plain: bool = False) -> str:
    """`0.45%`, or `x3.6`, of the size of a difference of logarithms: a spread, a mean error; of a
    plain one `0.0045`."""
    if not math.isfinite(log_difference):
        return "beyond numbers"
    if plain:
        return f"{abs(log_difference):.3g}"
    if abs(log_difference) <= _LARGEST_SHARE:
        return f"{math.expm1(abs(log_difference)):.{digits}%}"
    return _factor(abs(log_difference))


def _factor(log_difference: float) -> str:
    if log_difference > 690.0:
        return f"x1e{log_difference / math.log(10.0):.0f}"
    return f"x{math.exp(log_difference):.2g}"

"""Text of legends: formulas as mathematics, numbers with intervals, wrapped to the column."""

import math
import re
import textwrap

from llmscale.explain.estimation.relative import relative
from llmscale.explain.figures._text import literal, with_mathematics
from llmscale.explain.fit import Fit, Holdout

_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eta": "η"}
_POINTS_PER_INCH = 72
_LETTER_POINTS = 3.5
"""Mean width of a letter of the legend's font size."""
_LONGEST_FORMULA = 40
_MOST_DECIMALS = 7
_LONGEST_TOLD = 32
"""Of a longer forecast of the runs held out the legend has a line of its own."""
_GLUE = "\u00a0"


def law_label(fit: Fit, width: float, *, first: bool) -> str:
    """Formula, level of the band, and coefficients with intervals, wrapped to `width` inches."""
    band = f" with {100 * fit.level:g}% band" if fit.intervals else ""
    band += ", dashed: extrapolated" if first else ""
    numbers = [
        _coefficient(name, fit.reads(name), fit.interval(name))
        for name in fit.law.coefficient_names()
        if name not in fit.untold
    ]
    lines = _lines("  ".join(numbers), width)
    head = wrapped(f"{short_formula(fit.law.formula)}{band}{_said(fit)}", width)
    return "\n".join([head, *(line.replace(_GLUE, " ") for line in lines)])


def formula(plain: str) -> str:
    """`L = E + A/N^alpha` as matplotlib's mathtext."""
    plain = re.sub(r"\b(\w)_(\w+)_star\b", r"\1_{\2}^{*}", plain)
    plain = re.sub(r"\b(\w)_(\w{2,})\b", r"\1_{\2}", plain)
    raised = re.sub(r"\^(?:\(([\w.+-]+)\)|([\w.+-]+))", r"^{\1\2}", plain)
    named = re.sub(rf"\b({'|'.join(_GREEK)})(?![A-Za-z])", r"\\\1", raised)
    return f"${named.replace('*', ' ')}$"


def short_formula(plain: str) -> str:
    """The formula as mathematics if it is short, what its letters stand for below it if it is short
    without that, else as written, which can be wrapped."""
    if len(plain) <= _LONGEST_FORMULA:
        return with_mathematics(formula(plain))
    law, *letters = plain.split(", ")
    below = ", ".join(letters)
    short = max(len(law), len(below)) <= _LONGEST_FORMULA
    if not (short and letters and all("=" in letter for letter in letters)):
        return literal(plain)
    return with_mathematics(f"{formula(law)},\n{', '.join(map(formula, letters))}")


def fitted_formula(fit: Fit) -> str:
    """The formula of a fit, with what was said of its coefficients."""
    return f"{short_formula(fit.law.formula)}{_said(fit)}"


def _said(fit: Fit) -> str:
    return f"; {literal(str(fit.constraints))}" if fit.constraints else ""


def wrapped(text: str, width: float) -> str:
    """A legend's text in lines that fit `width` inches; mathematics stays in one."""
    mathematics = re.search(r"(?<!\\)\$", text)
    return text if mathematics else "\n".join(_lines(text, width))


def _lines(text: str, width: float) -> list[str]:
    letters = round((width - 0.6) * _POINTS_PER_INCH / _LETTER_POINTS)
    return textwrap.wrap(text, letters, break_long_words=False)


def holdout_label(holdout: Holdout) -> str:
    """What was predicted without the held-out runs, and how far off it was."""
    runs = holdout.runs
    one_size = runs["params"].nunique() == 1 and runs["tokens"].nunique(dropna=False) == 1
    if not one_size:
        mean_error = f"mean error {holdout.error_text}"
        return f"held out, {len(runs)} runs; predicted without them:\n{mean_error}"
    predicted, low, high = (float(runs[name].mean()) for name in ("predicted", "low", "high"))
    measured = float(runs["loss"].mean())
    error = f"{predicted / measured - 1:+.2%}"
    if holdout.law.plain:
        error = relative(predicted - measured, plain=True)
    interval = f" {_interval(low, high)}" if math.isfinite(low) else ""
    digits = f"{predicted:.{_decimals(low, high)}f}" if interval else f"{predicted:.4g}"
    pronoun = "it" if len(runs) == 1 else "them"
    # A real minus sign: a hyphen is too short to see at this size.
    told = f"{digits}{interval}, {error}".replace("-", "\u2212")
    between = " " if len(told) <= _LONGEST_TOLD else "\n"
    return f"held out; predicted without {pronoun}:{between}{told}"


def number_with_interval(value: float, interval: tuple[float, float] | None) -> str:
    """`0.51 [0.48, 0.54]`, with as many decimals as the interval bears."""
    if interval is None:
        return _number(value)
    decimals = _decimals(*interval)
    text = _number(value) if decimals == 0 else f"{value:.{decimals}f}"
    return f"{text} {_interval(*interval)}"


def symbol(name: str) -> str:
    """A coefficient's letter: alpha is α."""
    return _GREEK.get(name, name)


def _coefficient(name: str, value: float, interval: tuple[float, float] | None) -> str:
    shown = symbol(name)
    return f"{shown} = {number_with_interval(value, interval)}".replace(" ", _GLUE)


def _interval(low: float, high: float) -> str:
    decimals = _decimals(low, high)
    if decimals == 0:
        return f"[{_number(low)}, {_number(high)}]"
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def _decimals(low: float, high: float) -> int:
    """Decimals that give the width of an interval two digits, at most as many as losses of one in
    a thousand ask for."""
    spread = high - low
    if not (math.isfinite(spread) and spread > 0):
        return 3
    return min(_MOST_DECIMALS, max(0, 1 - math.floor(math.log10(spread))))


def _number(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}" if abs(value) < 1000 else f"{float(f'{value:.3g}'):.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"

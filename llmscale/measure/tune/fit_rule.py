"""Power laws in N and D through the optima of the rungs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmscale.errors import Note
from llmscale.measure.train.rule import PowerRule
from llmscale.notes.fitting import ONE_TOKEN_BUDGET, TOKENS_PROPORTIONAL
from llmscale.notes.measuring import ONE_SIZE, OPTIMUM_BENDS

SEPARATED = 0.1
"""Standard deviation that an exponent needs of ln N, or of ln D's part that ln N leaves."""
LARGEST_WEIGHT = 3.0
"""Optima weigh by curvature, within this factor of the median's: flat valleys say less."""
LEVEL = 0.9
SIGNIFICANT, SMALLEST_BOW = OPTIMUM_BENDS.limit, 0.05
"""A bend is told of if it is significant and takes the optimum so far, in ln, off the chord."""


@dataclass(frozen=True)
class Optimum:
    """What was found best at N = `params` and D = `tokens`."""

    params: float
    tokens: float
    value: float
    curvature: float | None


@dataclass(frozen=True)
class Exponent:
    """An exponent of a power law; None if the optima leave no residual to judge it by."""

    value: float
    stderr: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class RuleFit:
    """A power law, those of its exponents that the optima identify, and how well it holds."""

    power: PowerRule
    exponents: dict[str, Exponent]
    optima: int
    spread: float | None
    """Standard deviation about the law, in ln; None if every optimum has its coefficient."""
    bend: Exponent | None
    """Coefficient of (ln N - mean)² added to the law; None if the optima left are too few."""
    notes: tuple[Note, ...]


def fit_power(optima: Sequence[Optimum], what: str) -> RuleFit:
    """Weighted least squares of ln value on ln N and ln D, if the `optima` tell them apart. `what`
    is for notes.

    Intervals (90%, Student's t) come from the residuals: with as many coefficients as optima there
    are none."""
    log_params = np.log([one.params for one in optima])
    log_tokens = np.log([one.tokens for one in optima])
    log_values = np.log([one.value for one in optima])
    columns, names, notes = [np.ones(len(optima))], [], []
    for name, column in (("params", log_params), ("tokens", log_tokens)):
        left = column - _projection(np.column_stack(columns), column)
        if np.sqrt(np.mean(left**2)) > SEPARATED:
            columns.append(column)
            names.append(name)
    if "params" not in names:
        only = f"one size was tuned: the {what} has no exponent in N and holds at that N only"
        notes.append(ONE_SIZE.note(only))
    if "tokens" not in names:
        notes.append(_tokens_note(what, grow=bool(np.std(log_tokens) > SEPARATED)))
    weights = _weights(optima)
    coefficients, errors, spread = _solve(np.column_stack(columns), log_values, weights)
    critical = _critical(len(optima) - len(columns))
    exponents = {}
    for place, name in enumerate(names, start=1):
        error = None if errors is None else float(errors[place])
        exponents[name] = _exponent(coefficients[place], error, critical)
    bend = None
    if "params" in names and len(optima) >= len(columns) + 2 and len(set(log_params)) > 2:
        bent = np.column_stack([*columns, (log_params - log_params.mean()) ** 2])
        values, bent_errors, _ = _solve(bent, log_values, weights)
        if bent_errors is not None and bent_errors[-1] > 0:
            degrees, error = len(optima) - len(columns) - 1, float(bent_errors[-1])
            bend = _exponent(values[-1], error, _critical(degrees))
            bow = abs(bend.value) * (log_params.max() - log_params.min()) ** 2 / 8
            is_sure = abs(bend.value) > _critical(degrees, 1 - SIGNIFICANT) * error
            if bow > SMALLEST_BOW and is_sure:
                direction = "downwards" if bend.value < 0 else "upwards"
                message = (
                    f"the {what} bends {direction} from a power law in N (by "
                    f"{bend.value:+.3f} ± {error:.3f} in (ln N)²): do not carry the rule far "
                    "beyond the sizes tuned"
                )
                notes.append(OPTIMUM_BENDS.note(message))
    of = {name: exponent.value for name, exponent in exponents.items()}
    scale = float(math.exp(coefficients[0]))
    power = PowerRule(scale, of.get("params", 0.0), of.get("tokens", 0.0))
    return RuleFit(power, exponents, len(optima), spread, bend, tuple(notes))


def _tokens_note(what: str, *, grow: bool) -> Note:
    """Why the rule has no exponent in D."""
    if grow:
        return TOKENS_PROPORTIONAL.note(
            f"D grows in step with N, so the exponent of the {what} in N holds along that line "
            "only: tune each size at two budgets to tell N from D"
        )
    return ONE_TOKEN_BUDGET.note(
        f"one token budget was tuned: the {what} has no exponent in D and holds near that D only"
    )


def _projection(basis: np.ndarray, column: np.ndarray) -> np.ndarray:
    return np.asarray(basis @ np.linalg.lstsq(basis, column, rcond=None)[0])


def _weights(optima: Sequence[Optimum]) -> np.ndarray:
    """The standard error of a valley's lowest point is inversely proportional to its curvature."""
    known = [one.curvature for one in optima if one.curvature]
    if not known:
        return np.ones(len(optima))
    middle = float(np.median(known))
    relative = [(one.curvature or 0.0) / middle for one in optima]
    return np.clip(relative, 1 / LARGEST_WEIGHT, LARGEST_WEIGHT) ** 2


def _solve(
    X: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, float | None]:
    """Coefficients, their standard errors, and the residuals' standard deviation."""
    root = np.sqrt(weights / weights.mean())
    coefficients = np.linalg.lstsq(X * root[:, None], y * root, rcond=None)[0]
    degrees = len(y) - X.shape[1]
    if degrees < 1:
        return coefficients, None, None
    residuals = (y - X @ coefficients) * root
    variance = float(residuals @ residuals) / degrees
    covariance = variance * np.linalg.inv((X * root[:, None]).T @ (X * root[:, None]))
    return coefficients, np.sqrt(np.diag(covariance)), math.sqrt(variance)


def _critical(degrees: int, level: float = LEVEL) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, degrees)) if degrees > 0 else math.inf


def _exponent(value: float, stderr: float | None, critical: float) -> Exponent:
    if stderr is None:
        return Exponent(float(value), None, None)
    interval = (float(value - critical * stderr), float(value + critical * stderr))
    return Exponent(float(value), stderr, interval)

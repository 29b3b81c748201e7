"""What the fits of a table believe of candidate runs and of the target, and with what noise a run
is seen by the fit that it will enter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmscale.explain.design.belief import belief_of
from llmscale.explain.design.outlook import Misfit, Outlook
from llmscale.explain.design.plausible import Plausible, from_draws
from llmscale.explain.estimation.anchor import LATER, nearness
from llmscale.explain.estimation.result import Fit, with_coefficients
from llmscale.explain.forecast.forecast import Forecast, misfit_scale, off_the_optimum
from llmscale.explain.forecast.widths import public_needs
from llmscale.explain.laws import Array
from llmscale.explain.laws.anchored import Anchored

_TRIMMED = 0.01
"""Share of draws at either end that is left out: a refit that went astray makes every covariance
its own."""
_LEAST_NOISE = 1e-4
"""Of ln L: what is less than this is rounding."""
_OUTLIERS = 0.95
"""Residuals beyond this quantile count as much as it."""


@dataclass(frozen=True)
class Believed:
    """A law's fit, and how plausible it is next to others (a logarithm)."""

    fit: Fit
    log_weight: float = 0.0


def outlook_of(
    laws: Sequence[Believed],
    forecast: Forecast,
    params: Array,
    tokens: Array,
    *,
    seed: int = 0,
    misfit: bool = True,
    as_fitted: bool = True,
) -> Outlook:
    """The outlook of a forecast of one run by the first of these laws, for candidates of these N
    and D.

    Without `misfit` the interval is taken to be that of the laws only, and unless candidates are
    seen `as_fitted` each is measured with the same noise: what an optimal design of a law that is
    exactly right goes by."""
    fit = laws[0].fit
    assert forecast.fit is fit
    target = (float(forecast.params), float(forecast.tokens))
    members = [_member(law, params, tokens, target, as_fitted) for law in laws]
    belief = belief_of(members)
    run_noise = noise_of(fit)
    middle, low, high = (
        float(fit.law.level_of(np.asarray(value)))
        for value in (forecast.loss, forecast.plain_low, forecast.plain_high)
    )
    inputs = {"params": target[0], "tokens": target[1]}
    own = forecast.tested.needs if forecast.tested else None
    scale = misfit_scale(fit) if misfit else 0.0
    off = float(off_the_optimum(fit, inputs, ())) if misfit else 0.0
    return Outlook(
        belief,
        (max(middle - low, _LEAST_NOISE), max(high - middle, _LEAST_NOISE)),
        belief.variance + run_noise**2,
        run_noise,
        Misfit(public_needs(fit.law), own, scale, off, forecast.level),
        fit.reach,
        np.log(np.column_stack([params, tokens]))
        - 0.5 * _lag(fit, params, tokens, target)[:, None],
        np.log(np.array(target)),
        np.random.default_rng(seed),
    )


def noise_of(fit: Fit) -> float:
    """The standard deviation of a run about the law, in ln L."""
    squares = np.square(fit.noise)
    squares = squares[np.isfinite(squares)]
    if not len(squares):
        return max(fit.reach.misfit, _LEAST_NOISE)
    bounded = np.minimum(squares, np.quantile(squares, _OUTLIERS))
    return max(float(np.sqrt(bounded.mean())), _LEAST_NOISE)


def _member(
    law: Believed, params: Array, tokens: Array, target: tuple[float, float], as_fitted: bool
) -> Plausible:
    fit, count = law.fit, len(params)
    inputs = [
        np.append(values, at)[None] for values, at in zip((params, tokens), target, strict=True)
    ]
    with np.errstate(all="ignore"):
        drawn = np.log(with_coefficients(fit.law, fit.replicates).loss(*inputs))
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    low, high = np.quantile(drawn[:, -1], [_TRIMMED, 1 - _TRIMMED])
    drawn = drawn[(low <= drawn[:, -1]) & (drawn[:, -1] <= high)]
    noise: Array = np.full(count, noise_of(fit))
    if as_fitted:
        noise = _noise_as_fitted(fit, params, tokens)
    return from_draws(drawn[:, :count], drawn[:, count:], noise, law.log_weight)


def _noise_as_fitted(fit: Fit, params: Array, tokens: Array) -> Array:
    """The noise of each candidate as the fit will count it: a run off the optimum is missed by a
    share of its excess, and one of a small budget counts less along the frontier (see
    estimation/anchor.py)."""
    noise: Array = np.full(len(params), noise_of(fit))
    if isinstance(fit.law, Anchored):
        noise = np.hypot(noise, fit.reach.off * fit.law.excess(params, tokens))
    if fit.reach.largest is None:
        return noise
    further = np.log(params) + np.log(tokens) - fit.reach.largest
    return np.asarray(noise * np.exp(-0.5 * LATER * np.minimum(further, 0.0)))


def _lag(fit: Fit, params: Array, tokens: Array, target: tuple[float, float]) -> Array:
    """By how much of ln C each candidate tells less of how far the law holds than a run like the
    target would: one that is 3% further above the best of its budget counts as if it cost half."""
    if not isinstance(fit.law, Anchored):
        return np.zeros(len(params))
    apart = fit.law.excess(params, tokens) - fit.law.excess(*map(np.asarray, target))
    return -np.log(nearness(apart))

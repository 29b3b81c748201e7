"""What the fits of a table believe of candidate runs and of the target, and with what noise a run
is seen by the fit that it will enter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmscale.explain.design.belief import Belief, from_draws
from llmscale.explain.design.outlook import Misfit, Outlook, Outlooks
from llmscale.explain.estimation.anchor import LATER, nearness
from llmscale.explain.estimation.levels import points
from llmscale.explain.estimation.result import Fit, with_coefficients
from llmscale.explain.forecast.forecast import Forecast, misfit_scale, off_the_optimum
from llmscale.explain.forecast.widths import growth, public_needs
from llmscale.explain.laws import Array
from llmscale.explain.laws.anchored import Anchored

_TRIMMED = 0.01
"""Share of draws at either end that is left out: a refit that went astray makes every covariance
its own."""
_LEAST_NOISE = 1e-4
"""Of ln L: what is less than this is rounding."""
_USUAL_NOISE, _USUAL_REPEATS = 0.001, 3
"""Of ln L from seed to seed, on public tables, and of how many repeats that is worth."""
_ALIKE = 0.5
"""Runs whose ln N and ln D are this far apart share most of what the law errs there."""
_JITTER = 1e-6
_OUTLIERS = 0.95
"""Residuals beyond this quantile count as much as it."""


@dataclass(frozen=True)
class Believed:
    """A law's forecast of the target, and what share it has in the choice."""

    forecast: Forecast
    share: float = 1.0

    @property
    def fit(self) -> Fit:
        assert self.forecast.fit is not None
        return self.forecast.fit


def outlooks_of(laws: Sequence[Believed], params: Array, tokens: Array) -> Outlooks:
    """The outlooks of one target by each of these laws, for candidates of these N and D."""
    return Outlooks.of((law.share, outlook_of(law.forecast, params, tokens)) for law in laws)


def outlook_of(forecast: Forecast, params: Array, tokens: Array) -> Outlook:
    """The outlook of a forecast of one run, for candidates of these N and D."""
    fit = forecast.fit
    assert fit is not None
    target = (float(forecast.params), float(forecast.tokens))
    belief = _with_errors_of_law(belief_by_law(forecast, params, tokens), fit, params, tokens)
    run_noise = noise_of(fit)
    middle, low, high = (
        float(fit.law.level_of(np.asarray(value)))
        for value in (forecast.loss, forecast.plain_low, forecast.plain_high)
    )
    inputs = {"params": target[0], "tokens": target[1]}
    own = forecast.tested.needs if forecast.tested else None
    off = float(off_the_optimum(fit, inputs, ()))
    return Outlook(
        belief,
        (max(middle - low, _LEAST_NOISE), max(high - middle, _LEAST_NOISE)),
        belief.variance + run_noise**2,
        run_noise,
        Misfit(public_needs(fit.law), own, misfit_scale(fit), off, forecast.level),
        fit.reach,
        np.log(np.column_stack([params, tokens]))
        - 0.5 * _lag(fit, params, tokens, target)[:, None],
        np.log(np.array(target)),
    )


def belief_by_law(forecast: Forecast, params: Array, tokens: Array) -> Belief:
    """What the draws of the law say of the candidates and of the target, each candidate measured
    with the noise of a run about the law."""
    fit = forecast.fit
    assert fit is not None
    count = len(params)
    inputs = [
        np.append(values, float(at))[None]
        for values, at in ((params, forecast.params), (tokens, forecast.tokens))
    ]
    with np.errstate(all="ignore"):
        drawn = np.log(with_coefficients(fit.law, fit.replicates).loss(*inputs))
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    low, high = np.quantile(drawn[:, -1], [_TRIMMED, 1 - _TRIMMED])
    drawn = drawn[(low <= drawn[:, -1]) & (drawn[:, -1] <= high)]
    return from_draws(drawn[:, :count], drawn[:, count:], noise_of(fit))


def noise_of(fit: Fit) -> float:
    """The standard deviation of a run about the law, in ln L."""
    squares = np.square(fit.noise)
    squares = squares[np.isfinite(squares)]
    if not len(squares):
        return max(fit.reach.misfit, _LEAST_NOISE)
    bounded = np.minimum(squares, np.quantile(squares, _OUTLIERS))
    return max(float(np.sqrt(bounded.mean())), _LEAST_NOISE)


def _with_errors_of_law(belief: Belief, fit: Fit, params: Array, tokens: Array) -> Belief:
    """With the noise of a seed, and what a run is off the law besides as an error of the law there,
    which a repeat has, too, and which runs of nearly the same size and tokens share."""
    own = min(seed_noise(fit), noise_of(fit))
    at = np.log(np.column_stack([params, tokens]))
    error = np.sqrt(np.maximum(_noise_as_fitted(fit, params, tokens) ** 2 - own**2, 0.0))
    shared = error[:, None] * np.linalg.cholesky(_alike(at, at) + _JITTER * np.eye(len(at)))
    lost = np.sqrt(np.maximum(belief.noise**2 - noise_of(fit) ** 2, 0.0))
    return replace(
        belief,
        runs_spread=np.hstack([belief.runs_spread, shared]),
        targets_spread=np.hstack([belief.targets_spread, np.zeros((1, len(at)))]),
        noise=np.hypot(own, lost),
    )


def _alike(one: Array, other: Array) -> Array:
    """How far runs of these ln N and ln D share what a law errs, from 0 to 1."""
    apart = np.square(one[:, None] - other[None]).sum(axis=-1)
    return np.asarray(np.exp(-0.5 * apart / _ALIKE**2))


def seed_noise(fit: Fit) -> float:
    """The standard deviation of ln L from seed to seed, by the repeats of the table, and by what is
    usual as if that had been seen in a few repeats."""
    frame = fit.table.frame
    point = points(frame, fit.law.inputs)
    log_loss = np.log(frame["loss"].to_numpy(dtype=float))
    number = np.bincount(point)
    mean = np.bincount(point, log_loss) / number
    squares = np.square(log_loss - mean[point]).sum()
    degrees = int((number - 1).sum())
    total = squares + _USUAL_REPEATS * _USUAL_NOISE**2
    return float(np.sqrt(total / (degrees + _USUAL_REPEATS)))


def _noise_as_fitted(fit: Fit, params: Array, tokens: Array) -> Array:
    """The noise of each candidate as the fit will count it: a run off the optimum is missed by a
    share of its excess, one of a small budget counts less along the frontier (see
    estimation/anchor.py), and below the runs a law errs as it does beyond them."""
    noise: Array = np.full(len(params), noise_of(fit))
    if isinstance(fit.law, Anchored):
        noise = np.hypot(noise, fit.reach.off * fit.law.excess(params, tokens))
    if fit.reach.largest is not None:
        further = np.log(params) + np.log(tokens) - fit.reach.largest
        noise = noise * np.exp(-0.5 * LATER * np.minimum(further, 0.0))
    return np.hypot(noise, misfit_scale(fit) * growth(_below(fit, params, tokens)))


def _below(fit: Fit, params: Array, tokens: Array) -> Array:
    """ln of how far each candidate lies below the runs, in N or D."""
    low_N, low_D = (fit.reach.ranges[name][0] for name in (fit.reach.size or "params", "tokens"))
    return np.maximum(np.maximum(low_N - np.log(params), low_D - np.log(tokens)), 0.0)


def _lag(fit: Fit, params: Array, tokens: Array, target: tuple[float, float]) -> Array:
    """By how much of ln C each candidate tells less of how far the law holds than a run like the
    target would: one that is 3% further above the best of its budget counts as if it cost half."""
    if not isinstance(fit.law, Anchored):
        return np.zeros(len(params))
    apart = fit.law.excess(params, tokens) - fit.law.excess(*map(np.asarray, target))
    return -np.log(nearness(apart))

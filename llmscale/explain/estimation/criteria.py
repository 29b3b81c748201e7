"""What laws are compared by: cross-validated error by point, and AICc."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import erf, gammaln

from llmscale.explain.estimation import newton
from llmscale.explain.estimation.levels import distinct, levels
from llmscale.explain.estimation.objective import Objective
from llmscale.explain.estimation.result import Fit, run_weights, solved
from llmscale.explain.laws import Array
from llmscale.explain.table import RunTable

FOLDS = 10


def common_points(table: RunTable, inputs: Sequence[str]) -> NDArray[np.int_]:
    """For each row its point, whatever the order of rows: runs that differ only in seed share one.
    If rows are steps of curves, a run is the point that its last step reaches."""
    names = [name for name in dict.fromkeys([*inputs, "params", "tokens"]) if name in table.frame]
    last = table.frame.groupby("run_id")[names].transform("max").fillna(0.0).to_numpy(dtype=float)
    return distinct([levels(column) for column in last.T])


def point_means(values_R: Array, point_R: NDArray[np.int_]) -> Array:
    """The mean over the rows of each point that has any, in the order of points."""
    rows_P = np.bincount(point_R)
    return np.asarray((np.bincount(point_R, weights=values_R) / np.maximum(rows_P, 1))[rows_P > 0])


def cross_validated(fit: Fit, point_R: NDArray[np.int_]) -> Array:
    """|ln L̂ - ln L| at every point by a refit without its fold; all folds are one batch.
    A fold's points weigh nothing in its refit, which starts from the fit to all of them."""
    surface, theta_P, log_loss_R = solved(fit)
    count = int(point_R.max()) + 1
    folds = min(FOLDS, count)
    fold_R = (np.random.default_rng(fit.options.seed).permutation(count) % folds)[point_R]
    weight_FR = run_weights(fit.table) * (fold_R != np.arange(folds)[:, None])
    objectives = fit.options.loss_function.graduated()
    ends = newton.resolve(surface, log_loss_R[None], weight_FR, theta_P, objectives)
    predicted_FR, _ = surface.evaluate(ends.theta)
    predicted_R = predicted_FR[fold_R, np.arange(len(fold_R))]
    return point_means(np.abs(predicted_R - log_loss_R), point_R)


def aicc(fits: Sequence[Fit]) -> list[float]:
    """AICc of every law, for residuals distributed as exp(-rho(r)/scale): the density that the
    objective is made for.

    Under squared error that is a Gaussian whose scale each law estimates, the textbook case. For
    Huber and log-cosh the scale is one for all laws, from the law that fits best for its number of
    coefficients: a scale estimated from a wrong law counts its misfit as noise (Ronchetti 1985,
    Statist. Probab. Lett. 3:21; Burnham & Anderson 2002, sec. 2.5, do so in QAICc). The scale
    counts as a coefficient. n is the number of runs, not of rows: the steps of one curve share
    their noise. NaN if n is too small for the correction."""
    table, objective = fits[0].table, fits[0].options.loss_function
    number = table.frame["run_id"].nunique()
    sizes = [fit.free for fit in fits]
    means = [fit.objective / float(run_weights(table).sum()) for fit in fits]
    laws = list(zip(means, sizes, strict=True))
    noise = [mean * number / max(number - size, 0.5) for mean, size in laws]
    common = _scale(objective, min(filter(math.isfinite, noise), default=1.0))
    values = []
    for mean, size in laws:
        left = number - size - 2
        if left <= 0 or not math.isfinite(mean):
            values.append(math.nan)
            continue
        scale = _scale(objective, mean) if objective.name == "squared" else common
        deviance = 2 * number * (_log_normaliser(objective, scale) + mean / scale)
        values.append(deviance + 2 * (size + 1) * (1 + (size + 2) / left))
    return values


def _scale(objective: Objective, mean_objective: float) -> float:
    """The scale under which residuals with this mean of rho are likeliest."""

    def deviance(log_scale: float) -> float:
        scale = math.exp(log_scale)
        return _log_normaliser(objective, scale) + mean_objective / scale

    # The likeliest scale is once (far beyond delta) to twice (well within) the mean.
    middle = math.log(max(mean_objective, 1e-30))
    bounds = (middle - 2.0, middle + 2.0)
    return math.exp(minimize_scalar(deviance, bounds=bounds, method="bounded").x)


def _log_normaliser(objective: Objective, scale: float) -> float:
    """ln of the integral of exp(-rho(r)/scale) over r."""
    if objective.name == "squared":
        return 0.5 * math.log(2 * math.pi * scale)
    delta, ratio = objective.delta, objective.delta**2 / scale
    if objective.name == "log-cosh":
        beta = float(gammaln(ratio / 2) - gammaln((ratio + 1) / 2))
        return math.log(delta * math.sqrt(math.pi)) + beta
    inside = math.sqrt(2 * math.pi * scale) * float(erf(delta / math.sqrt(2 * scale)))
    return math.log(inside + 2 * scale / delta * math.exp(-ratio / 2))

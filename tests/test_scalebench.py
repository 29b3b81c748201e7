"""Fits between bounds in experiments/scalebench, against ridge regression."""

import sys
from pathlib import Path

import numpy as np
import pytest

from llmscale.explain.laws import Array

sys.path.append(str(Path(__file__).parents[1] / "experiments" / "scalebench"))
from box import Box
from laplace import Pool, plausible_optima
from misfit import Misfit, Trust, surroundings
from optima import Measured, find_optima, scattered_starts


def straight(coefficients: Array, inputs: Array) -> tuple[Array, Array]:
    """a + b x + c x², x = ln of the input."""
    x = np.log(inputs[:, 0])
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    return coefficients @ design.T, np.broadcast_to(design, (len(coefficients), *design.shape))


def chinchilla(coefficients: Array, inputs: Array) -> tuple[Array, Array]:
    """E + A N^-alpha, of (E, A, alpha)."""
    E, A, alpha = coefficients.T[:, :, None]
    N = inputs[None, :, 0]
    term = A * N**-alpha
    slopes = np.stack([np.ones_like(term), term / A, -term * np.log(N)], axis=2)
    return E + term, slopes


def pool_of(inputs: Array, target: float) -> Pool:
    targets = np.array([[target]])
    flat = Misfit(np.ones(len(inputs)), np.zeros((len(inputs), 1)))
    return Pool(inputs, targets, flat)


def measured(noise: float = 0.05, runs: int = 12) -> Measured:
    inputs = np.geomspace(1, 20, runs)[:, None]
    losses, _ = straight(np.array([[1.0, -0.5, 0.1]]), inputs)
    scatter = np.random.default_rng(0).normal(0, noise, runs)
    box = Box(np.full(3, -4.0), np.full(3, 4.0))
    return Measured(straight, box, inputs, losses[0] + scatter, np.eye(runs))


def starts(count: int = 6) -> Array:
    return scattered_starts(count, 3, np.random.default_rng(1))


def test_every_start_of_a_linear_law_ends_at_the_ridge_regression() -> None:
    runs = measured()
    optima = find_optima(runs, starts())
    _, design = straight(np.zeros((1, 3)), runs.inputs)
    slopes = design[0] * 2.0  # a coordinate of 1 is half of the way to a bound of 4
    squares = np.sum((runs.losses - slopes @ optima.z[0]) ** 2) + runs.floor
    penalty = runs.prior * squares / len(runs.losses) * np.eye(3)
    ridge = np.linalg.solve(slopes.T @ slopes + penalty, slopes.T @ runs.losses)
    assert optima.z == pytest.approx(np.tile(ridge, (6, 1)), abs=1e-4)


def test_a_power_law_is_found_between_wide_bounds() -> None:
    inputs = np.geomspace(1e6, 1e9, 15)[:, None]
    truth = np.array([[1.7, 300.0, 0.33]])
    box = Box(np.array([0.0, 1.0, 0.05]), np.array([4.0, 1e5, 1.5]))
    runs = Measured(chinchilla, box, inputs, chinchilla(truth, inputs)[0][0], np.eye(15))
    optima = find_optima(runs, starts(20))
    found = box.coefficients(optima.z[0])
    said = chinchilla(found[None], np.array([[1e10]]))[0].item()
    assert said == pytest.approx(chinchilla(truth, np.array([[1e10]]))[0].item(), abs=0.01)


def test_an_outlier_moves_a_fit_less_once_the_scale_is_known() -> None:
    runs = measured(noise=0.01)
    spoilt = runs.losses.copy()
    spoilt[6] += 2.0
    target = np.array([[30.0]])

    def error(scale: float | None) -> float:
        bent = Measured(straight, runs.box, runs.inputs, spoilt, runs.whitening, scale)
        best = bent.box.coefficients(find_optima(bent, starts()).z[:1])
        return float(
            abs(straight(best, target)[0] - straight(np.array([[1, -0.5, 0.1]]), target)[0]).item()
        )

    assert error(0.01) < 0.2 * error(None)


def test_the_variance_of_a_target_is_that_of_bayesian_regression() -> None:
    runs = measured()
    rows, open_to = np.arange(8), np.arange(8, 12)
    first = Measured(straight, runs.box, runs.inputs[rows], runs.losses[rows], np.eye(8))
    optima = find_optima(first, starts())
    laws = plausible_optima(first, rows, optima, pool_of(runs.inputs, 40.0), open_to)
    assert len(laws) == 1
    _, design = straight(np.zeros((1, 3)), first.inputs)
    _, asked = straight(np.zeros((1, 3)), np.array([[40.0]]))
    precision = 4 * design[0].T @ design[0] / laws[0].belief.noise[0] ** 2 + first.prior * np.eye(3)
    expected = 4 * asked[0, 0] @ np.linalg.solve(precision, asked[0, 0])
    assert laws[0].belief.variance == pytest.approx(expected, rel=1e-6)


def test_a_law_holds_at_its_targets_and_may_drift_far_from_them() -> None:
    runs = np.geomspace(1, 1e6, 30)[:, None]
    misfit = surroundings(runs, runs[-1:], Trust()).misfit(0.05)
    drift = np.sum(misfit.drift**2, axis=1)
    assert drift[-1] < 0.01 * drift[0]
    assert misfit.noise[-1] == pytest.approx(1.0)
    assert (np.diff(misfit.noise) <= 0).all()


def test_many_runs_far_from_the_target_tell_little_more_than_few() -> None:
    """If they drift together; independent ones tell as many times more as there are."""

    def left(copies: int, trust: Trust) -> float:
        inputs = np.concatenate([np.geomspace(1, 4, 4 * copies), [50.0]])[:, None]
        losses = straight(np.array([[1.0, -0.5, 0.1]]), inputs)[0][0]
        losses += np.random.default_rng(3).normal(0, 0.05, len(losses))
        target = np.array([[60.0]])
        pool = Pool(inputs, target, surroundings(inputs, target, trust).misfit(0.05))
        rows = np.arange(4 * copies)
        runs = Measured(
            straight, measured().box, inputs[rows], losses[rows], pool.misfit.at(rows).whitening
        )
        laws = plausible_optima(
            runs, rows, find_optima(runs, starts()), pool, np.array([4 * copies])
        )
        assert laws[0].belief.gains()[0] > 0
        return laws[0].belief.variance

    alone, together = Trust(scatter=0, drift=0), Trust(scatter=0, drift=1)
    assert left(30, alone) / left(3, alone) < 0.3
    assert left(30, together) / left(3, together) > 0.5

"""Profile likelihood, covariance and predictions: what a fit says of itself beyond its
coefficients.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as f_distribution

from llmscale.errors import InputError
from llmscale.explain.estimation.profile import profile, profiles
from llmscale.explain.fit import fit_law
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.optimum import optimum


def ladder(noise: float = 0.003, seed: int = 0, floor: float = 2.0) -> pd.DataFrame:
    sizes = np.geomspace(1e4, 1e7, 10)
    factor = np.exp(noise * np.random.default_rng(seed).standard_normal(len(sizes)))
    return pd.DataFrame({"params": sizes, "loss": (floor + 60 / sizes**0.35) * factor})


def grid(noise: float = 0.003, seed: int = 0) -> pd.DataFrame:
    N, D = (
        values.ravel()
        for values in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 3e10, 6))
    )
    factor = np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    return pd.DataFrame(
        {"params": N, "tokens": D, "loss": (1.8 + 420 / N**0.36 + 2100 / D**0.31) * factor}
    )


def test_a_profile_is_what_fitting_at_fixed_values_costs() -> None:
    """Against least squares in the two coefficients that are left, which have a closed form at
    fixed alpha.
    """
    table = ladder()
    fit = fit_law(table, "power-floor", objective="squared", bootstrap=0, holdout="none")
    found = profile(fit, "alpha")
    assert len(found.values) > 20
    sizes, loss = table["params"].to_numpy(), table["loss"].to_numpy()
    for value, objective in list(zip(found.values, found.objective, strict=True))[::7]:
        # ln L is not linear in E and A: Gauss-Newton on the two of them settles in a few steps.
        E, A = fit.law.coefficients()["E"], fit.law.coefficients()["A"]
        for _ in range(30):
            law = E + A * sizes**-value
            jacobian = np.stack([1 / law, sizes**-value / law], axis=1)
            step = np.linalg.lstsq(jacobian, np.log(loss) - np.log(law), rcond=None)[0]
            E, A = E + step[0], A + step[1]
        assert objective == pytest.approx(
            0.5 * np.sum(np.log(loss / (E + A * sizes**-value)) ** 2), rel=1e-6
        )


def test_a_profile_interval_ends_where_the_threshold_is_crossed() -> None:
    fit = fit_law(grid(), "chinchilla", objective="squared", bootstrap=0, holdout="none")
    for found in profiles(fit):
        assert found.values[0] < found.low < fit.law.coefficients()[found.name] < found.high
        assert np.isfinite(found.high)
        assert np.interp([found.low, found.high], found.values, found.cost) == pytest.approx(
            found.threshold, rel=0.05
        )
        assert found.threshold == pytest.approx(f_distribution.ppf(0.9, 1, 31))


def test_near_the_optimum_profile_and_covariance_agree() -> None:
    fit = fit_law(
        grid(noise=0.0005), "chinchilla", objective="squared", bootstrap=0, holdout="none"
    )
    deviation = np.sqrt(np.diag(fit.covariance))
    for found, sigma in zip(profiles(fit), deviation, strict=True):
        assert found.high - found.low == pytest.approx(
            2 * np.sqrt(found.threshold) * sigma, rel=0.05
        )


def test_a_floor_that_the_runs_do_not_bound_is_said_to_be_open() -> None:
    sizes = np.geomspace(1e5, 1e6, 6)
    loss = 60 / sizes**0.2 * np.exp(0.003 * np.random.default_rng(2).standard_normal(6))
    fit = fit_law(
        pd.DataFrame({"params": sizes, "loss": loss}), "power-floor", bootstrap=0, holdout="none"
    )
    found = profile(fit, "E")
    assert found.low == found.values[0] == 0
    with pytest.raises(InputError, match="no coefficient 'beta'"):
        profile(fit, "beta")


def test_covariance_is_the_spread_of_fits_of_many_tables() -> None:
    fits = [
        fit_law(
            ladder(0.001, seed), "power-floor", objective="squared", bootstrap=0, holdout="none"
        )
        for seed in range(30)
    ]
    spread = np.std([list(one.law.coefficients().values()) for one in fits], axis=0)
    said = np.median([np.sqrt(np.diag(one.covariance)) for one in fits], axis=0)
    assert said == pytest.approx(spread, rel=0.3)


def test_a_prediction_takes_letters_or_columns_and_a_level() -> None:
    fit = fit_law(grid(), "chinchilla", bootstrap=200)
    one = forecast_at(fit, N=3e9, D=6e10)
    assert one.low < one.loss < one.high
    assert forecast_at(fit, params=3e9, tokens=6e10).loss == one.loss
    assert forecast_at(fit, N=3e9, C=6 * 3e9 * 6e10).loss == pytest.approx(one.loss, rel=1e-12)
    wide = forecast_at(fit, N=3e9, D=6e10, level=0.99)
    assert wide.low < one.low < one.high < wide.high
    many = forecast_at(fit, N=np.array([1e8, 1e9]), D=np.array([1e9, 1e10]))
    assert many.loss.shape == many.low.shape == (2,)
    wrongs: list[dict[str, Any]] = [{"N": 1e9}, {"N": 1e9, "D": 1e9, "C": 1e20}]
    for wrong in (*wrongs, {"N": 1e9, "E": 1.0}):
        with pytest.raises(InputError, match="predicts from params, tokens"):
            forecast_at(fit, **wrong)


def test_a_fit_prints_as_a_table_in_a_terminal_and_in_a_notebook() -> None:
    fit = fit_law(grid(), "chinchilla", bootstrap=100)
    assert "held out (largest)" in str(fit)
    shown = fit._repr_html_()
    for name, (low, high) in fit.intervals.items():
        assert f"<td>{name}</td>" in shown
        assert f"[{low:.4g}, {high:.4g}]" in shown


def test_the_optimum_at_a_budget_is_the_papers_closed_form() -> None:
    fit = fit_law(grid(0.0), "chinchilla", bootstrap=0, holdout="none")
    found = optimum(fit, 1e21)
    E, A, B, alpha, beta = 1.8, 420.0, 2100.0, 0.36, 0.31
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    assert found.params == pytest.approx(G * (1e21 / 6) ** (beta / (alpha + beta)), rel=1e-5)
    assert 6 * found.params * found.tokens == pytest.approx(1e21)
    assert found.loss == pytest.approx(E + A / found.params**alpha + B / found.tokens**beta)
    with pytest.raises(InputError, match="above zero"):
        optimum(fit, -1)

"""Forecasts ahead of the runs: they widen where they should, say what they held, and hold on the
public tables.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from llmscale.errors import InputError
from llmscale.explain.estimation import result
from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.fit import Fit, fit_law
from llmscale.explain.fit.backtest import backtest, budgets, check
from llmscale.explain.forecast.forecast import forecast
from llmscale.runs.json_values import plain


def simulated(
    drift: float = 0.0, *, noise: float = 0.004, seed: int = 0, sizes: int = 6, tokens: int = 6
) -> pd.DataFrame:
    """Runs on a grid of sizes and token budgets; `drift` lets the floor fall by that power of
    FLOPs.
    """
    rng = np.random.default_rng(seed)
    N, D = (
        axis.ravel()
        for axis in np.meshgrid(np.geomspace(1e7, 1e9, sizes), np.geomspace(1e9, 1e11, tokens))
    )
    loss = 1.8 * (6 * N * D / 1e18) ** -drift + 480 / N**0.35 + 2100 / D**0.37
    return pd.DataFrame(
        {"params": N, "tokens": D, "loss": loss * np.exp(noise * rng.standard_normal(len(N)))}
    )


@pytest.fixture(scope="module")
def chinchilla() -> Fit:
    return fit_law(simulated(), "chinchilla", bootstrap=200, holdout="none")


def test_a_forecast_inside_the_runs_is_the_plain_interval(chinchilla: Fit) -> None:
    told = forecast(chinchilla, N=[2e7, 1e8, 9e8], D=[5e9, 1e10, 9e10])
    assert (told.horizon == 0).all()
    np.testing.assert_array_equal(told.low, told.plain_low)
    np.testing.assert_array_equal(told.high, told.plain_high)
    np.testing.assert_allclose(told.loss, chinchilla.loss(N=[2e7, 1e8, 9e8], D=[5e9, 1e10, 9e10]))


def test_a_forecast_widens_with_the_distance_without_a_step(chinchilla: Fit) -> None:
    times = np.concatenate([[1, 1 + 1e-9], np.geomspace(1.01, 1e4, 30)])
    told = forecast(chinchilla, N=1e9 * np.sqrt(times), D=1e11 * np.sqrt(times))
    np.testing.assert_allclose(told.horizon, np.log(times), atol=2e-9)
    added = np.log(told.loss / told.low) ** 2 - np.log(told.loss / told.plain_low) ** 2
    assert (np.diff(added) >= -1e-12).all()
    assert added[1] < 1e-9
    assert (told.low <= told.plain_low).all()
    assert (told.high >= told.plain_high).all()
    assert [note.code for note in told.notes] == ["extrapolates-far"]
    assert "10,000x beyond the runs: this is a guess" in told.notes[0].message
    assert told.verdict.endswith(
        "a guess, 10,000x beyond the runs, the furthest of those asked for"
    )


def test_what_widens_on_one_side_is_said(chinchilla: Fit) -> None:
    """Runs of five budgets that all needed much below the forecast, and nothing above."""
    far, budget = {"N": 3e9, "D": 3e11}, np.repeat(np.arange(5.0), 3)
    needs = OwnNeeds(np.full(15, 9.0), np.zeros(15), np.full(15, 2.0), budget, np.full(15, 1 / 3))
    told = forecast(chinchilla, check=result.Tested("", (), {}, needs), **far)
    below = told.plain_low / told.low - 1
    assert f"by {below:.1%} below" in told.widening
    assert "as runs of public tables and of this one needed" in told.widening
    for text in (str(told), told._repr_html_(), told.to_json()["widening"]):
        assert told.widening in text
    assert forecast(chinchilla, N=2e7, D=5e9).widening == ""


def test_one_size_far_below_the_runs_is_an_extrapolation_too(chinchilla: Fit) -> None:
    assert forecast(chinchilla, N=1e6, D=1e10).horizon == pytest.approx(np.log(10))


def test_a_forecast_says_whether_it_is_beyond_the_runs_or_below_them(chinchilla: Fit) -> None:
    said = {
        (1e8, 1e10): "inside the runs",
        (0.997e7, 1e10): "inside the runs",  # 1x beyond or below says nothing
        (1.004e9, 1e11): "inside the runs",
        (1e6, 1e10): "10x below the runs",
        (1e6, 1e9): "10x below the runs",
        (1e9, 1e12): "10x beyond the runs",
        (1e6, 1e13): "100x beyond the runs",
    }
    for (N, D), where in said.items():
        told = forecast(chinchilla, N=N, D=D)
        assert told.verdict.endswith(where)
        assert (where in str(told)) == (where != "inside the runs")
    note = forecast(chinchilla, N=1e4, D=1e10).notes[-1]
    assert "lies 1,000x below the runs" in note.message
    assert note.message.endswith("measure smaller budgets")


def test_a_forecast_is_wider_at_a_higher_level_and_the_same_each_time(chinchilla: Fit) -> None:
    tolds = [forecast(chinchilla, level=level, N=5e9, D=5e11) for level in (0.5, 0.8, 0.95)]
    widths = [np.log(told.high / told.low) for told in tolds]
    assert widths == sorted(widths)
    assert tolds[0] == forecast(chinchilla, level=0.5, N=5e9, D=5e11)


def test_forecasts_hold_new_runs_when_the_law_is_wrong_ahead_where_plain_intervals_do_not() -> None:
    plain, widened = [], []
    for seed in range(6):
        frame = simulated(0.015, noise=0.002, seed=seed)
        held = 6 * frame["params"] * frame["tokens"] > 3e18
        fit = fit_law(frame[~held], "chinchilla", bootstrap=200, holdout="none")
        told = forecast(fit, N=frame["params"][held], D=frame["tokens"][held])
        loss = frame["loss"][held].to_numpy()
        plain.append(((told.plain_low <= loss) & (loss <= told.plain_high)).mean())
        widened.append(((told.low <= loss) & (loss <= told.high)).mean())
    assert np.mean(widened) >= 0.85
    assert np.mean(plain) < np.mean(widened) - 0.1


def test_a_fit_without_intervals_forecasts_a_loss_alone() -> None:
    fit = fit_law(simulated(), "chinchilla", bootstrap=0, holdout="none")
    told = forecast(fit, N=1e10, D=1e12)
    assert np.isfinite(told.loss)
    assert np.isnan([told.low, told.high, told.plain_low]).all()
    (point,) = plain(told.to_json())["predictions"]
    assert point["low"] is None


def test_laws_in_one_variable_forecast_from_a_few_runs() -> None:
    N = np.geomspace(1e6, 1e8, 5)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"params": N, "loss": 1.7 + 300 / N**0.4 * np.exp(0.01 * rng.standard_normal(5))}
    )
    fit = fit_law(frame, "power-floor", bootstrap=200, holdout="none")
    told = forecast(fit, N=[1e8, 1e9])
    assert told.horizon == pytest.approx([0, np.log(10)])
    assert told.low[1] < told.plain_low[1] < told.loss[1] < told.plain_high[1] < told.high[1]
    with pytest.raises(InputError):
        forecast(fit, D=1e9)


def test_budgets_are_groups_of_flops_and_curves_stay_whole() -> None:
    frame = pd.DataFrame(
        {"params": [1e6, 2e6, 1e6, 1e6], "tokens": [1e9, 5.5e8, 1e10, 1e8], "run_id": list("abcc")}
    )
    frame["flops"] = 6 * frame["params"] * frame["tokens"]
    assert budgets(frame, ("params", "tokens")).tolist() == [0, 0, 1, 1]


def test_a_backtest_counts_what_was_inside_and_repeats_itself() -> None:
    frame = simulated()
    first, second = (backtest(frame, "chinchilla", bootstrap=100, origins=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.origins == 3
    assert (first.frame["steps"] >= 1).all()
    assert (first.frame["horizon"] > 0).all()
    near = first.frame[first.frame["steps"] == 1]
    share = ((near["low"] <= near["loss"]) & (near["loss"] <= near["high"])).mean()
    assert check(fit_law(frame, "chinchilla", bootstrap=50, holdout="none")).origins == 6
    assert first.to_json()["inside"]["widened"]["next"] == pytest.approx(share)
    assert f"{100 * share:.0f}% of {len(near)} runs at the next budget" in str(first)


def test_a_backtest_says_where_it_cannot_tell_and_where_nothing_covers() -> None:
    few = backtest(simulated(sizes=4, tokens=3).iloc[:6], "chinchilla", bootstrap=50)
    assert few.n == 0
    assert [note.code for note in few.notes] == ["forecast-not-tested"]
    N = np.geomspace(1e6, 1e9, 14)
    broken = np.where(N < 1e8, 100 / N**0.2, 100 / 1e8**0.2 * (1 + 0.4 * np.log10(N / 1e8)))
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"params": N, "loss": broken * np.exp(0.001 * rng.standard_normal(14))})
    lost = backtest(frame, "power", bootstrap=100)
    assert [note.code for note in lost.notes] == ["forecast-not-covered"]
    # A run is one measurement, however many origins are asked for it.
    inside = (lost.frame["low"] <= lost.frame["loss"]) & (lost.frame["loss"] <= lost.frame["high"])
    by_run = inside.groupby(lost.frame["run_id"]).mean()
    p_value = stats.binom.cdf(np.ceil(by_run.sum() - 1e-9), len(by_run), 0.9)
    held = f"held {100 * by_run.mean():.0f}% of {len(by_run)} runs at higher ones"
    assert held in str(lost.notes[0])
    assert f"p = {p_value:.0e}" in str(lost.notes[0])
    assert p_value < 0.01
    assert "note: forecast-not-covered: " in str(lost)
    fit = fit_law(frame, "power", bootstrap=100, holdout="none")
    told = forecast(fit, N=3e9, check=lost.tested)
    assert told.coverage == lost.coverage
    assert lost.notes[0] in told.notes


@pytest.mark.parametrize("name", ["chinchilla_scalefit", "llama3_isoflop", "farseer"])
def test_forecasts_hold_on_public_tables(shared: Path, name: str) -> None:
    frame = pd.read_csv(shared / "published" / f"{name}.csv")[["params", "tokens", "loss"]]
    found = backtest(frame, "chinchilla", bootstrap=100, origins=5)
    assert found.inside["widened"]["next"] >= 0.85
    assert found.inside["widened"]["further"] >= 0.8
    assert found.inside["plain"]["further"] < found.inside["widened"]["further"]
    # Chinchilla's law is off to one side on Farseer's runs, which is said though the intervals
    # hold.
    assert [note.code for note in found.notes] == (
        ["forecast-one-sided"] if name == "farseer" else []
    )

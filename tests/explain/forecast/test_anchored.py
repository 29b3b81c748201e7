"""Forecasts that are anchored on the best runs of every budget, the choice of a law by earlier
origins, and widths that are learnt from the table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale.errors import InputError
from llmscale.explain.api.fitted import fits_of
from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.fit import Fit, fit_law
from llmscale.explain.fit.backtest import backtest
from llmscale.explain.fit.choice import judged
from llmscale.explain.forecast.chosen import Chosen, Contender
from llmscale.explain.forecast.widths import ANCHORED, SEVERAL_VARIABLES, multipliers
from llmscale.explain.laws import LAWS, Array
from llmscale.explain.laws.chinchilla import Chinchilla

FLAGSHIP = Path(__file__).resolve().parents[3] / "results" / "flagship"
"""Small models, whose loss shows no floor: their S is so large that only its ratios are seen."""
SPREAD = np.exp(np.linspace(-1.8, 1.8, 7))


def isoflops(budgets: Array, *, misfit: float = 0.0, noise: float = 0.002) -> pd.DataFrame:
    """Seven sizes about the best of every budget. Far off the optimum runs are worse than the law
    says, by `misfit` times the square of ln(size/best)."""
    rng = np.random.default_rng(3)
    rows = []
    for C in budgets:
        best = 0.6 * (C / 6) ** 0.5
        N = best * SPREAD
        D = C / (6 * N)
        loss = 1.7 + 480 / N**0.35 + 2100 / D**0.37
        loss *= np.exp(misfit * np.log(SPREAD) ** 2 + noise * rng.standard_normal(7))
        rows.append(pd.DataFrame({"params": N, "tokens": D, "loss": loss}))
    return pd.concat(rows, ignore_index=True)


def test_runs_without_noise_are_met_and_forecast() -> None:
    law = LAWS.find("anchored")
    truth = law(*law.published)
    runs = pd.DataFrame(law.example_runs())
    runs["loss"] = truth.loss(runs["params"].to_numpy(), runs["tokens"].to_numpy())
    fit = fit_law(runs, "anchored", bootstrap=0, holdout="none")
    best = truth.optimal(1e24)
    assert best is not None
    N, D = best
    assert float(fit.loss(N=N, D=D)) == pytest.approx(truth.loss(N, D), rel=0.006)
    assert float(fit.law.optimal(1e24)[0]) == pytest.approx(N, rel=0.1)  # type: ignore[index]


def test_runs_far_off_the_optimum_do_not_bend_the_forecast_of_the_best() -> None:
    runs = isoflops(np.geomspace(1e18, 1e20, 6), misfit=0.02)
    ahead = isoflops(np.array([1e21]), noise=0.0)
    best = ahead["loss"].idxmin()
    at = {"N": ahead["params"][best], "D": ahead["tokens"][best]}
    error = {}
    for law in ("anchored", "chinchilla"):
        fit = fit_law(runs, law, bootstrap=0, holdout="none")
        error[law] = abs(float(fit.loss(**at)) / ahead["loss"][best] - 1)
    assert error["anchored"] < 0.02
    assert error["anchored"] < 0.3 * error["chinchilla"]


def test_the_order_of_rows_changes_nothing() -> None:
    runs = isoflops(np.geomspace(1e18, 1e20, 4))
    one = fit_law(runs, "anchored", bootstrap=50, holdout="none")
    other = fit_law(runs.sample(frac=1, random_state=2), "anchored", bootstrap=50, holdout="none")
    assert one.law == other.law
    np.testing.assert_array_equal(one.replicates, other.replicates)


@pytest.mark.parametrize(
    ("name", "value"), [("objective", "squared"), ("delta", 0.01), ("intervals", "profile")]
)
def test_what_anchored_makes_no_use_of_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match="makes no use of"):
        fit_law(isoflops(np.geomspace(1e18, 1e20, 4)), "anchored", **{name: value})


def test_a_table_on_which_plain_intervals_hold_gets_narrower_ones() -> None:
    h = np.array([0.5, 1.1, 1.8, 2.3])
    nothing = np.zeros(40)
    budget = np.repeat(np.arange(10.0), 4)
    held = OwnNeeds(nothing, nothing, np.tile(h, 10), budget, np.ones(40) / 4)
    public = multipliers(SEVERAL_VARIABLES, None, h, 0.9)
    own = multipliers(SEVERAL_VARIABLES, held, h, 0.9)
    assert (own[0] < public[0]).all()
    assert (own[1] <= public[1]).all()
    # Far ahead of all that was held out, the public tables decide.
    far = multipliers(SEVERAL_VARIABLES, held, np.array([9.0]), 0.9)
    assert far[0][0] == pytest.approx(public[0][0], rel=0.02)


def test_runs_that_fall_on_one_side_widen_that_side() -> None:
    budget = np.repeat(np.arange(6.0), 3)
    low, high = np.full(18, 9.0), np.zeros(18)
    one_sided = OwnNeeds(low, high, np.full(18, 2.0), budget, np.full(18, 1 / 3))
    public = multipliers(ANCHORED, None, np.array([1.0]), 0.9)
    below, above = multipliers(ANCHORED, one_sided, np.array([1.0]), 0.9)
    assert below[0] > 2 * public[0][0]
    assert above[0] <= public[1][0]


def test_the_law_that_erred_least_is_taken_and_said() -> None:
    runs = isoflops(np.geomspace(1e18, 1e20, 5), misfit=0.02)
    told = llmscale.predict(runs, flops=1e21, bootstrap=50)
    assert told.chosen is not None
    first, *others = told.chosen.contenders
    assert first.law == told.fit.law.name == "anchored"  # type: ignore[union-attr]
    assert first.budgets > 0
    assert first.error < {one.law: one.error for one in others}["chinchilla"]
    assert first.law in told.chosen.reason
    assert others[0].law in told.chosen.reason
    assert told.to_json()["chosen"]["laws"][0]["loss"] == [pytest.approx(told.loss, rel=1e-12)]
    low, high = told.chosen.spread["loss"][0]
    assert low <= told.loss <= high
    named = llmscale.predict(runs, flops=1e21, law="chinchilla", bootstrap=50)
    assert named.chosen is None


def test_the_interval_of_the_best_size_holds_what_the_budgets_say() -> None:
    budgets = np.geomspace(1e18, 1e20, 5)
    runs = isoflops(budgets, noise=0.0005)
    fit = fit_law(runs, "chinchilla", bootstrap=50, holdout="none")
    agreed = llmscale.predict(fit, flops=1e20)
    assert "optimum-disputed" not in {note.code for note in agreed.notes}
    # The same losses said of a law whose lowest points lie at three times the size.
    found = fit.law.coefficients()
    times = 3.0 ** (found["alpha"] + found["beta"])
    off = Chinchilla(**{**found, "A": found["A"] * times})
    refits = fit.replicates.copy()
    refits[:, list(found).index("A")] *= times
    wrong = replace(fit, law=off, replicates=refits)
    told = llmscale.predict(wrong, flops=1e20)
    (note,) = (note for note in told.notes if note.code == "optimum-disputed")
    assert "widened to hold both" in note.message
    (best,) = told.optima
    truth = agreed.params
    assert best.params == pytest.approx(3.0 * truth, rel=0.01)
    assert best.intervals["law_params"][0] > 1.2 * truth
    assert best.isoflop is not None
    assert best.intervals["params"][0] < best.isoflop.params == pytest.approx(truth, rel=0.1)
    assert best.intervals["params"][1] == pytest.approx(best.intervals["law_params"][1])
    low, high = best.intervals["tokens"]
    assert low < best.tokens < 1e20 / (6 * best.isoflop.params) < high
    assert "the lowest points of 5 budgets say" in told.best_size
    (point,) = told.to_json()["predictions"]
    assert point["isoflop"]["params"] == best.isoflop.params
    assert f"N*: {told.best_size}" in str(told)


def test_the_interval_of_the_best_size_grows_beyond_the_runs_and_says_if_it_is_not_tested(
    tmp_path: Path,
) -> None:
    runs = isoflops(np.geomspace(1e18, 1e20, 5))
    fit = fit_law(runs, "chinchilla", bootstrap=50, holdout="none")
    told = llmscale.predict(fit, flops=[1e20, 1e21, 1e22])
    by_law = [np.ptp(np.log(one.intervals["law_params"])) for one in told.optima]
    wide = [np.ptp(np.log(one.intervals["params"])) for one in told.optima]
    added = np.sqrt(np.square(wide) - np.square(by_law))
    assert added[0] < 0.3 * added[1] < 0.3 * added[2]
    alone = llmscale.predict(replace(fit, runs=None), flops=1e21)
    assert "not tested on this table" in alone.best_size
    (best,) = alone.optima
    assert np.ptp(np.log(best.intervals["params"])) > 2 * by_law[1]
    path = tmp_path / "fit-chinchilla.json"
    kept = llmscale.fit(runs, law="chinchilla", bootstrap=50, keep=path)
    there, here = (llmscale.predict(one, flops=1e21) for one in (path, replace(kept, kept=path)))
    assert "the lowest points of 5 budgets say" in there.best_size
    assert there.to_json()["predictions"] == here.to_json()["predictions"]
    scattered = runs.iloc[::4]
    few = llmscale.predict(scattered, law="chinchilla", flops=1e21, bootstrap=50)
    assert "no 3 budgets are known that bracket an optimum" in few.best_size
    assert llmscale.predict(fit, params=1e9, tokens=2e10).best_size == ""


def test_a_law_that_errs_on_the_table_is_not_taken() -> None:
    test = backtest(isoflops(np.geomspace(1e18, 1e20, 6)), "chinchilla", bootstrap=0)
    wrong = test.frame.assign(predicted=1.05 * test.frame["predicted"])
    tests = {"anchored": replace(test, frame=wrong), "chinchilla": test}
    ranked = judged(tests)
    assert ranked[-1].law == "anchored"
    assert ranked[-1].error == pytest.approx(0.05, abs=0.02)


def test_a_law_whose_refits_tell_nothing_is_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def with_wild_anchored(asked: Any, *args: Any, **kwargs: Any) -> tuple[Fit, ...]:
        (fit,) = fits_of(asked, *args, **kwargs)
        if fit.law.name != "anchored":
            return (fit,)
        wild = fit.replicates.copy()
        wild[::3, 0] *= 100.0
        return (replace(fit, replicates=wild),)

    monkeypatch.setattr("llmscale.explain.api.choosing.fits_of", with_wild_anchored)
    told = llmscale.predict(
        isoflops(np.geomspace(1e18, 1e20, 5), misfit=0.02), flops=1e21, bootstrap=50
    )
    assert told.fit is not None
    assert told.chosen is not None
    ((law, reason),) = told.chosen.left_out
    assert law == "anchored"
    assert reason.startswith("its refits say anything from ")
    assert told.fit.law.name == told.chosen.law != "anchored"
    assert f"left out: anchored ({reason})" in str(told)


def test_coefficients_that_the_runs_do_not_tell_are_said() -> None:
    runs = isoflops(np.geomspace(1e18, 1e20, 5))
    told = fit_law(runs, "anchored", bootstrap=50, diagnostics=False)
    assert told.untold == ()
    assert "flat-direction" not in [note.code for note in told.notes]
    few = isoflops(np.geomspace(1e18, 1e19, 3), noise=0.02).iloc[::2]
    notes = fit_law(few, "anchored", bootstrap=50, diagnostics=False).notes
    said = " ".join(note.message for note in notes if note.code == "flat-direction")
    assert "alpha, beta and k are about what published laws have" in said
    fit = fit_law(FLAGSHIP, "anchored", bootstrap=50, diagnostics=False)
    assert fit.untold == ("N_S", "D_S")
    assert fit.ends("N_S") == "not told by the runs"
    (note,) = [note for note in fit.notes if note.code == "flat-direction"]
    assert "do not tell N_S and D_S" in note.message
    assert "alpha" in fit.intervals


def contender(law: str, error: float, loss: float, params: float) -> Contender:
    values = {"E": 1.57, "a": 0.46}
    return Contender(law, error, 7, True, np.array([loss]), values, np.array([params]))


def test_the_law_named_next_is_the_next_by_the_errors_that_are_shown() -> None:
    first, better, worse = (
        contender("anchored", 0.0053, 1.8501, 7.43e11),
        contender("over-training", 0.0046, 1.8714, 6.24e11),
        contender("skaling", 0.0101, 1.8428, 7e11),
    )
    said = Chosen((first, better, worse), every=True).reason
    assert said.startswith("anchored, off by 0.53% over 7 budgets when lower budgets")
    assert said.endswith("; over-training erred less here, 0.46%, and its forecast is 1.2% higher")
    off = Chosen((first, worse), excess=0.015).reason
    assert "which erred least of the two tried (more: --law all) when" in off
    assert "which erred least when" in Chosen((first, worse), every=True).reason
    assert "by the least of the two tried (more: --law all)" in Chosen((first, better)).reason
    alike = contender("chinchilla", 0.00529, 1.8501, 7e11)
    assert Chosen((first, alike)).reason == (
        "anchored, which erred less than chinchilla on public tables; here they erred alike, by "
        "0.53% over 7 budgets when lower budgets of this table were asked for higher ones; the "
        "forecast of chinchilla is the same (more: --law all)"
    )
    alone = Chosen((first,), left_out=(("chinchilla", "it gives no loss there"),)).reason
    assert "least" not in alone
    assert "off by 0.53% over 7 budgets" in alone
    assert "(runs 1.5% above the best of their budget, as the one asked for, counting most)" in off
    assert off.endswith("; next skaling, 1.0%, whose forecast is 0.39% lower")
    assert Chosen((first, better)).spread_text == (
        "anchored and over-training forecast equally well, and say E = 1.57, N* ~ C^0.46, "
        "N* from 624B to 743B and loss from 1.8501 to 1.8714"
    )


def test_every_law_is_tried_if_all_are_asked_for() -> None:
    runs = isoflops(np.geomspace(1e18, 1e20, 3)).iloc[::2]
    told = llmscale.plan(runs, flops=1e22, law="all", bootstrap=50).forecast
    assert told.chosen is not None
    tried = {one.law for one in told.chosen.contenders} | {law for law, _ in told.chosen.left_out}
    assert {"anchored", "chinchilla", "skaling", "kaplan", "over-training"} <= tried
    errors = [one.error for one in told.chosen.contenders[1:] if one.budgets]
    assert errors == sorted(errors)
    fit = fit_law(runs, "chinchilla", bootstrap=50)
    with pytest.raises(InputError, match="a fit is of one law"):
        llmscale.predict(fit, flops=1e21, law="all")


def grid(rng: np.random.Generator) -> pd.DataFrame:
    """Five sizes by five amounts of tokens, with 0.2% of noise."""
    sizes, tokens = np.meshgrid(np.logspace(7, 9, 5), np.logspace(8.5, 10.5, 5))
    N, D = sizes.ravel(), tokens.ravel()
    loss = (1.8 + 400 / N**0.34 + 1800 / D**0.36) * np.exp(0.002 * rng.standard_normal(25))
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss})


def test_seven_runs_off_the_optimum_leave_the_loss_and_the_best_size_wide_open() -> None:
    C, held = 1e21, 0
    N = np.geomspace(1e8, 1e11, 4001)
    losses = 1.8 + 400 / N**0.34 + 1800 / (C / 6 / N) ** 0.36
    best = int(np.argmin(losses))
    for seed in range(8):
        few = grid(np.random.default_rng(seed)).iloc[[0, 4, 12, 20, 24, 7, 17]]
        found = llmscale.predict(few, flops=C, law="anchored", bootstrap=100)
        row, size = found.rows()[0], found.optima[0].intervals["params"]
        held += row["low"] <= losses[best] <= row["high"] and size[0] <= N[best] <= size[1]
    assert held >= 7


def test_one_bad_run_at_the_largest_budget_carries_no_forecast() -> None:
    runs = grid(np.random.default_rng(0))
    runs.loc[runs.index[-1], "loss"] *= 1.1
    found = llmscale.predict(runs, flops=1e22, law="anchored", bootstrap=100).rows()[0]
    assert found["loss"] == pytest.approx(2.123, rel=0.03)
    assert found["low"] < 2.123 < found["high"]

"""The fit: right on published and simulated tables, and honest about what few runs can tell."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscale.errors import InputError
from llmscale.explain.estimation import newton, solver
from llmscale.explain.estimation.dependence import Dependence
from llmscale.explain.estimation.uncertainty import Fitted, bootstrap
from llmscale.explain.fit import Fit, Objective, default_laws, fit_law, fit_laws
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.laws import LAWS, Law
from llmscale.explain.table import RunTable, read_table

PUBLISHED = {
    # table: (E, A, B, alpha, beta, objective), minima of the same objective found by other means
    "chinchilla_epoch": (1.81722, 477.826, 2143.42, 0.347310, 0.367172, 0.00101827),
    "chinchilla_scalefit": (1.87223, 819.003, 3614.27, 0.377696, 0.392781, 0.000579262),
    "llama3_isoflop": (1.82748, 183.921, 979.162, 0.326679, 0.365430, 0.000254545),
    "marin_comma": (2.70093, 216045, 1393.16, 0.665783, 0.349911, 0.000525563),
}
TRUTH = {"E": 1.8, "A": 420.0, "B": 2100.0, "alpha": 0.36, "beta": 0.31}
SIZES = np.geomspace(1e4, 1e6, 5)


def table_of(params: Any, loss: Any, tokens: Any = 1e7) -> RunTable:
    params, loss = np.asarray(params, dtype=float), np.asarray(loss, dtype=float)
    frame = pd.DataFrame(
        {"run_id": [f"r{i}" for i in range(len(params))], "params": params, "tokens": tokens}
    )
    frame["flops"], frame["loss"] = 6 * frame["params"] * frame["tokens"], loss
    return RunTable(Path("simulated.csv"), frame, (), (), "params")


def example(name: str) -> Law:
    law = LAWS.find(name)
    return law(*(TRUTH[coefficient] for coefficient in law.coefficient_names()))


def simulated(law: Law, noise: float = 0.0, seed: int = 0) -> RunTable:
    rng = np.random.default_rng(seed)
    params, tokens = (
        grid.ravel() for grid in np.meshgrid(np.geomspace(1e6, 1e9, 8), np.geomspace(1e8, 3e10, 6))
    )
    table = table_of(params, np.ones(len(params)), tokens)
    loss = law.loss(*(table.frame[name].to_numpy() for name in law.inputs))
    return table_of(params, loss * np.exp(noise * rng.standard_normal(len(params))), tokens)


def ladder(sizes: Any = SIZES, noise: float = 0.003, seed: int = 0, floor: float = 2.0) -> RunTable:
    sizes = np.asarray(sizes, dtype=float)
    return table_of(
        sizes,
        (floor + 60 / sizes**0.35)
        * np.exp(noise * np.random.default_rng(seed).standard_normal(len(sizes))),
    )


def codes(fit: Fit) -> set[str]:
    return {note.code for note in fit.notes}


def published(shared: Path, name: str) -> RunTable:
    table = read_table(shared / "published" / f"{name}.csv")
    if name == "chinchilla_epoch":
        table = replace(table, frame=table.frame[~table.frame["outlier"]].reset_index(drop=True))
    return table


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tables_give_no_worse_an_objective_than_any_known(
    shared: Path, name: str
) -> None:
    table = published(shared, name)
    fit = fit_law(table, "chinchilla", bootstrap=0, holdout="none")
    *coefficients, objective = PUBLISHED[name]
    rounding = 0.5 * 10.0 ** (np.floor(np.log10(objective)) - 5)
    assert fit.objective <= objective * (1 + 1e-6) + rounding
    assert list(fit.law.coefficients().values()) == pytest.approx(coefficients, rel=2e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_tables_give_the_same_from_any_row_order_and_in_any_unit(
    shared: Path, name: str
) -> None:
    table = published(shared, name)
    best = fit_law(table, "chinchilla", bootstrap=0, holdout="none")
    shuffled = replace(
        table, frame=table.frame.sample(frac=1, random_state=3).reset_index(drop=True)
    )
    again = fit_law(shuffled, "chinchilla", bootstrap=0, holdout="none")
    assert again.objective == pytest.approx(best.objective, rel=1e-9)
    assert again.law.coefficients() == pytest.approx(best.law.coefficients(), rel=1e-5)
    for params_unit, tokens_unit in ((1e6, 1e9), (1e-3, 7e12)):
        units = table.frame.assign(
            params=table.frame.params / params_unit, tokens=table.frame.tokens / tokens_unit
        )
        scaled = fit_law(replace(table, frame=units), "chinchilla", bootstrap=0, holdout="none")
        assert scaled.objective == pytest.approx(best.objective, rel=1e-9)
        for exponent in ("alpha", "beta"):
            assert scaled.law.coefficients()[exponent] == pytest.approx(
                best.law.coefficients()[exponent], rel=1e-5
            )


def test_the_outliers_of_the_published_table_change_the_fit_as_is_known(shared: Path) -> None:
    fit = fit_law(
        read_table(shared / "published" / "chinchilla_epoch.csv"),
        "chinchilla",
        bootstrap=0,
        holdout="none",
    )
    assert fit.objective <= 0.00182601 * (1 + 1e-6) + 5e-9
    assert list(fit.law.coefficients().values()) == pytest.approx(
        [1.89134, 495.726, 12845.6, 0.349313, 0.453049], rel=2e-5
    )


@pytest.mark.parametrize("name", ["chinchilla", "power", "power-floor"])
def test_every_sum_of_powers_recovers_its_own_coefficients(name: str) -> None:
    law = example(name)
    fit = fit_law(simulated(law), name, bootstrap=0, holdout="none")
    assert fit.law.coefficients() == pytest.approx(law.coefficients(), rel=1e-6)
    assert fit.objective < 1e-18


@settings(max_examples=10)
@given(
    st.permutations(range(7)),
    st.floats(-6, 6),
    st.floats(0.01, 100),
    st.sampled_from(["power", "power-floor"]),
    st.integers(0, 10**6),
)
def test_a_fit_depends_neither_on_row_order_nor_on_units(
    order: list[int], decades: float, loss_unit: float, name: str, seed: int
) -> None:
    table = ladder(np.geomspace(1e4, 1e6, 7), 0.004, seed)
    params, loss = table.frame["params"].to_numpy(), table.frame["loss"].to_numpy()
    fit = fit_law(table, name, bootstrap=0, holdout="none")
    other = fit_law(
        table_of(params[order] * 10**decades, loss[order] * loss_unit),
        name,
        bootstrap=0,
        holdout="none",
    )
    assert other.objective == pytest.approx(fit.objective, rel=1e-6, abs=1e-15)
    assert other.law.coefficients()["alpha"] == pytest.approx(
        fit.law.coefficients()["alpha"], rel=1e-4, abs=1e-6
    )
    np.testing.assert_allclose(
        other.loss(params=params * 10**decades), fit.loss(params=params) * loss_unit, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["power", "power-floor"])
def test_where_the_objective_is_level_rounding_moves_no_answer(name: str) -> None:
    """Four budgets a size: any law between the middle two of them has the same Huber objective."""
    sizes = np.geomspace(2e7, 1.5e9, 6)
    params = np.repeat(sizes, 4)
    tokens = params * np.tile([5, 20, 80, 200], 6)
    table = table_of(params, example("chinchilla").loss(params, tokens).round(4), tokens)
    forecasts = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        frame = table.frame.sample(frac=1, random_state=seed, ignore_index=True)
        frame["loss"] *= 1 + 1e-12 * rng.standard_normal(len(frame))
        fit = fit_law(replace(table, frame=frame), name, bootstrap=0)
        assert fit.holdout
        forecasts.append([fit.loss(params=7e9), *fit.holdout.runs["predicted"].sort_values()])
    np.testing.assert_allclose(forecasts[1:], forecasts[:-1], rtol=1e-6)


@pytest.mark.parametrize("name", ["power", "power-floor", "kaplan", "chinchilla"])
def test_no_digit_of_a_fit_hangs_on_the_order_of_rows(name: str) -> None:
    law = LAWS.find(name)
    columns = pd.DataFrame(law.example_runs())
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(len(columns)))
    inputs = [columns[column].to_numpy() for column in law(*law.published).inputs]
    columns["loss"] = law(*law.published).loss(*inputs) * noise
    columns["run_id"] = [f"r{row}" for row in range(len(columns))]
    columns = columns.assign(flops=6 * columns["params"] * columns["tokens"])
    table = RunTable(Path("simulated.csv"), columns, (), (), "params")
    other = replace(table, frame=table.frame.iloc[::-1].reset_index(drop=True))
    one, same = (fit_law(runs, name, bootstrap=5, diagnostics=False) for runs in (table, other))
    assert one.law == same.law
    assert one.intervals == same.intervals
    told = ["loss", "predicted", "low", "high"]
    checks = [fit.holdout for fit in (one, same) if fit.holdout]
    pd.testing.assert_frame_equal(
        *(check.runs[told].sort_values(told, ignore_index=True) for check in checks)
    )


def test_every_refit_is_at_its_own_optimum() -> None:
    table = simulated(example("chinchilla"), noise=0.01)
    inputs = [table.frame[name].to_numpy() for name in ("params", "tokens")]
    loss = table.frame["loss"].to_numpy()
    surface = LAWS.find("chinchilla").surface(inputs, loss)
    found = solver.descend(surface, np.log(loss), np.ones(len(loss)), Objective())
    assert found.settled
    theta = found.theta
    weight = (
        np.random.default_rng(0)
        .multinomial(len(loss), np.full(len(loss), 1 / len(loss)), size=20)
        .astype(float)
    )
    ends = newton.resolve(surface, np.log(loss)[None], weight, theta, [Objective()])
    assert ends.settled.all()
    for row in range(20):
        starts = surface.starts(8)
        alone = newton.minimise(
            surface, np.log(loss), np.tile(weight[row], (8, 1)), starts, Objective().graduated()
        )
        assert ends.objective[row] <= alone.objective.min() * (1 + 1e-7)


def test_the_objective_can_be_checked_by_hand() -> None:
    fit = fit_law(ladder(), "power-floor", bootstrap=0)
    residual = np.abs(np.log(fit.loss(params=SIZES)) - np.log(fit.table.frame["loss"].to_numpy()))
    huber = np.where(residual <= 1e-3, 0.5 * residual**2, 1e-3 * (residual - 0.5e-3))
    assert fit.objective == pytest.approx(huber.sum(), rel=1e-9)


def test_the_same_seed_gives_the_same_intervals_and_another_does_not() -> None:
    one, same, other = (
        fit_law(ladder(), "power-floor", bootstrap=50, seed=seed).intervals for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_laws_suit_the_table() -> None:
    assert default_laws(ladder()) == ("power-floor", "power")
    assert default_laws(ladder(SIZES[:3])) == ("power",)
    assert default_laws(simulated(example("chinchilla")), "tokens") == ("power-floor", "power")
    assert default_laws(simulated(example("chinchilla"))) == ("chinchilla",)
    assert [fit.law.name for fit in fit_laws(ladder(), bootstrap=0)] == ["power-floor", "power"]


def test_one_token_budget_is_said_to_give_loss_in_size_alone() -> None:
    assert "one-token-budget" in codes(fit_law(ladder(), "power", bootstrap=0))
    with pytest.raises(InputError, match="5 sizes and 1 token budget") as error:
        fit_law(ladder(), "chinchilla")
    assert "each on D = 330k, 1M, 3.2M, 10M tokens" in str(error.value.fix)
    proportional = table_of(SIZES, ladder().frame["loss"], 20 * SIZES)
    assert "tokens-proportional" in codes(fit_law(proportional, "power", bootstrap=0))
    with pytest.raises(InputError, match="cannot tell the effect of size"):
        fit_law(proportional, "chinchilla")


def test_chinchilla_wants_more_points_than_coefficients() -> None:
    tokens = [1e6, 2e6, 4e6, 8e6, 9e6]
    with pytest.raises(InputError, match="5 coefficients and needs at least 6 runs"):
        fit_law(table_of(SIZES, ladder().frame["loss"], tokens), "chinchilla")


def test_three_sizes_give_a_power_law_that_is_not_to_be_trusted() -> None:
    for law in ("power", "power-floor"):
        fit = fit_law(ladder(SIZES[:3]), law, bootstrap=100)
        assert fit.law.name == "power"
        assert {"floor-not-identified", "interval-not-trusted", "holdout-skipped"} <= codes(fit)
        assert "3 sizes" in next(
            note.message for note in fit.notes if note.code == "floor-not-identified"
        )
        assert fit.holdout is None


def test_two_sizes_give_an_exact_line_without_an_interval() -> None:
    table = ladder(SIZES[:2])
    fit = fit_law(table, "power")
    np.testing.assert_allclose(fit.loss(params=SIZES[:2]), table.frame["loss"], rtol=1e-9)
    assert fit.intervals == {}
    assert {"floor-not-identified", "no-interval"} <= codes(fit)
    assert np.isnan(fit.band(params=SIZES)).all()


def test_one_size_gives_no_law() -> None:
    for table in (ladder(SIZES[:1]), ladder([1e5, 1e5, 1e5])):
        with pytest.raises(InputError, match="at least 2 sizes, and the table has 1"):
            fit_laws(table)


def test_a_table_without_a_floor_says_so() -> None:
    sizes = np.geomspace(1e4, 1e6, 8)
    fit = fit_law(
        table_of(sizes, 10 / sizes**0.1 * (1 + 0.002 * np.log(sizes / 1e5) ** 2 * -1)),
        "power-floor",
        bootstrap=50,
    )
    assert fit.law.coefficients()["E"] == 0
    assert "floor-at-zero" in codes(fit)


def test_an_exponent_that_fits_the_smallest_run_alone_is_flagged() -> None:
    fit = fit_law(
        table_of(SIZES, [5.0, 3.0, 3.0, 3.0, 3.0]), "power-floor", bootstrap=0, holdout="none"
    )
    assert "exponent-at-bound" in codes(fit)


def test_a_loss_that_does_not_fall_is_flagged() -> None:
    fit = fit_law(table_of(SIZES, [3.0, 3.1, 3.2, 3.3, 3.4]), "power", bootstrap=0, holdout="none")
    assert "exponent-at-bound" in codes(fit)


def test_the_largest_size_is_held_out_and_predicted() -> None:
    fit = fit_law(ladder(noise=0.002), "power-floor", bootstrap=200)
    assert fit.holdout is not None
    assert fit.holdout.runs["params"].tolist() == [1e6]
    without = fit_law(
        replace(fit.table, frame=fit.table.frame.iloc[:4]), "power-floor", bootstrap=0
    )
    assert fit.holdout.law == without.law
    assert fit.holdout.mean_abs_rel_error < 0.03
    row = fit.holdout.runs.iloc[0]
    assert row["inside"] == (row["low"] <= row["loss"] <= row["high"])


def test_checkpoints_of_a_run_are_held_out_all_or_none() -> None:
    tokens = np.linspace(1e8, 3e9, 12)
    curve = pd.DataFrame({"params": 1e8, "tokens": tokens, "loss": 2.5 + 400 / tokens**0.3})
    quick: dict[str, Any] = {"variable": "tokens", "bootstrap": 0, "diagnostics": False}
    fit = fit_law(read_table(curve), "power", **quick)
    assert (fit.holdout, "holdout-skipped" in codes(fit)) == (None, True)
    both = pd.concat([curve.assign(run_id="a"), curve[:-1].assign(run_id="b")])
    held = fit_law(read_table(both), "power", **quick).holdout
    assert held is not None
    assert held.runs["run_id"].tolist() == ["a"] * 12


def test_four_sizes_are_checked_with_the_simpler_law() -> None:
    fit = fit_law(ladder(SIZES[:4]), "power-floor", bootstrap=50)
    assert fit.law.name == "power-floor"
    assert fit.holdout is not None
    assert fit.holdout.law.name == "power"
    assert "holdout-by-simpler-law" in codes(fit)


def test_runs_are_held_out_by_a_rule() -> None:
    table = simulated(example("chinchilla"), noise=0.005)
    fit = fit_law(table, "chinchilla", bootstrap=100, holdout="flops>5e18")
    assert fit.holdout is not None
    assert (fit.holdout.runs["flops"] > 5e18).all()
    assert len(fit.holdout.runs) == (table.frame["flops"] > 5e18).sum()
    largest = fit_law(table, "chinchilla", bootstrap=0).holdout
    assert largest is not None
    assert sorted(largest.runs["flops"]) == sorted(table.frame["flops"].nlargest(3))
    assert fit_law(table, "chinchilla", bootstrap=0, holdout="none").holdout is None


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("biggest", "not understood"),
        ("flops>many", "holds numbers, and 'many' is none"),
        ("flops>1e15 and", "a condition is missing"),
        ("params>1T", "holds out no run"),
        ("N>1", "every run"),
    ],
)
def test_a_wrong_holdout_rule_is_one_sentence(rule: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        fit_law(ladder(), "power", holdout=rule)


@pytest.mark.parametrize(
    "wrong",
    [{"level": 1.0}, {"bootstrap": -1}, {"delta": 0.0}, {"variable": "size"}, {"law": "pwr"}],
)
def test_wrong_settings_are_one_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        fit_law(ladder(), **({"law": "power"} | wrong))


def test_seeds_of_a_size_are_one_point_and_tell_the_noise() -> None:
    sizes = np.repeat(SIZES, [3, 3, 1, 1, 1])
    fit = fit_law(ladder(sizes), "power-floor", bootstrap=100)
    assert fit.bootstrap_method == "parametric"
    note = next(note.message for note in fit.notes if note.code == "parametric-bootstrap")
    assert "5 sizes" in note
    assert "seed noise" in note
    assert fit.holdout is not None
    assert len(fit.holdout.runs) == 1


@pytest.mark.parametrize(
    ("column", "values", "word"),
    [
        ("seed", [1, 2, 3], "seed noise"),
        ("loss_stderr", [0.01, 0.02, 0.03], "seed noise"),
        ("experts", [1, 8, 64], "spread of runs that differ in experts"),
        ("tokens", [1e7, 1e8, 1e9], "spread of runs that differ in tokens"),
        ("activation", ["relu", "gelu", "swiglu"], "spread of runs that differ in activation"),
    ],
)
def test_runs_repeat_each_other_if_they_differ_in_nothing_but_the_seed(
    column: str, values: list[Any], word: str
) -> None:
    table = ladder(np.repeat(SIZES, 3))
    table = replace(table, frame=table.frame.assign(**{column: values * 5}))
    fit = fit_law(table, "power-floor", bootstrap=9, holdout="none", diagnostics=False)
    (note,) = [note.message for note in fit.notes if note.code == "parametric-bootstrap"]
    assert f"{word} 0." in note


def test_many_points_are_resampled_seeds_within_their_point() -> None:
    fit = fit_law(simulated(example("chinchilla"), noise=0.005), "chinchilla", bootstrap=200)
    assert fit.bootstrap_method == "runs"
    assert len(fit.replicates) == 200
    for name, value in TRUTH.items():
        low, high = fit.intervals[name]
        assert low < fit.law.coefficients()[name] < high
        assert 0.3 * value < low < high < 3 * value
    optimal = fit.compute_optimal
    assert optimal is not None
    assert optimal["intervals"]["a"][0] < optimal["a"] < optimal["intervals"]["a"][1]
    assert optimal["a"] == pytest.approx(0.31 / 0.67, abs=0.05)


def test_the_band_of_a_single_run_is_wider_than_that_of_the_law() -> None:
    fit = fit_law(ladder(np.geomspace(1e4, 1e6, 8)), "power-floor", bootstrap=300)
    low, high = fit.band(params=SIZES)
    run_low, run_high = fit.band(params=SIZES, single_run=True)
    assert (low < fit.loss(params=SIZES)).all()
    assert (fit.loss(params=SIZES) < high).all()
    assert (run_high - run_low > high - low).all()
    with pytest.raises(InputError, match="predicts from params"):
        forecast_at(fit, tokens=1e9)


def covered(params: np.ndarray, noise: float, tables: int, refits: int) -> dict[str, int]:
    """How many of so many simulated ladders have the truth inside their 90% intervals."""
    hits = {"E": 0, "alpha": 0, "10x the largest size": 0}
    far = 10 * params.max()
    for seed in range(tables):
        fit = fit_law(
            ladder(params, noise, seed), "power-floor", bootstrap=refits, seed=seed, holdout="none"
        )
        low, high = fit.band(params=far)
        hits["E"] += fit.intervals["E"][0] <= 2.0 <= fit.intervals["E"][1]
        hits["alpha"] += fit.intervals["alpha"][0] <= 0.35 <= fit.intervals["alpha"][1]
        hits["10x the largest size"] += bool(low <= 2.0 + 60 / far**0.35 <= high)
    return hits


def test_intervals_from_five_sizes_cover_the_truth() -> None:
    """13 of 20 or fewer happens about once in 400 times at 90%, and resampling runs covers half."""
    hits = covered(SIZES, 0.003, tables=20, refits=40)
    assert min(hits.values()) > 13, hits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "seeds", "noise"), [(5, 1, 0.003), (5, 3, 0.003), (8, 1, 0.005), (10, 1, 0.002)]
)
def test_nominal_90_percent_intervals_cover_the_truth_as_often(
    sizes: int, seeds: int, noise: float
) -> None:
    """At 90%, fewer than 124 of 150 happens about once in 300 times."""
    hits = covered(np.repeat(np.geomspace(1e4, 1e6, sizes), seeds), noise, tables=150, refits=200)
    assert min(hits.values()) >= 124, hits


def test_refits_of_a_design_with_seeds_draw_whole_points() -> None:
    law = example("power")
    params = np.repeat(np.geomspace(1e5, 1e9, 32), 2)
    rng = np.random.default_rng(0)
    log_loss = np.log(law.loss(params)) + 0.01 * rng.standard_normal(64)
    surface = LAWS.find("power").surface([params], np.exp(log_loss))
    found = solver.descend(surface, log_loss, np.ones(64), Objective())
    assert found.settled
    ones, pairs = np.ones(64), Dependence(np.repeat(np.arange(32), 2), False, "sizes")
    fitted = Fitted(surface, found.theta, log_loss, ones, ones, pairs, Objective())
    refits = bootstrap(fitted, count=100, seed=0, spread_word="seed noise")
    assert refits.method == "runs"
    low, high = np.quantile(refits.coefficients[:, 1], [0.01, 0.99])
    assert low < TRUTH["alpha"] < high


def test_steps_of_a_run_are_drawn_together() -> None:
    """Rows that share a run_id carry one weight, so more rows a run do not narrow the intervals."""
    law = example("power-floor")
    sizes = np.geomspace(1e5, 1e9, 40)
    noise = 0.01 * np.random.default_rng(0).standard_normal(40)
    once = table_of(sizes, law.loss(sizes) * np.exp(noise))
    rows = np.repeat(np.arange(40), 25)
    many = replace(once, frame=once.frame.iloc[rows].reset_index(drop=True))
    widths = []
    for table in (once, many):
        fit = fit_law(table, "power-floor", bootstrap=300, holdout="none")
        assert fit.bootstrap_method == "runs"
        low, high = fit.intervals["alpha"]
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)


def test_the_transfer_law_is_in_the_tokens_of_the_task_if_the_table_says_them() -> None:
    kind = LAWS.find("transfer")
    law, runs = kind(*kind.published), pd.DataFrame(kind.example_runs())
    runs["loss"] = law.loss(runs["params"], runs["tokens"], runs["pretrained"])
    read = runs.assign(task_tokens=runs["tokens"], tokens=7.0 * runs["tokens"])
    fit = fit_law(read, "transfer", bootstrap=0)
    found = fit.law.coefficients()
    assert found["k"] == pytest.approx(19000, rel=1e-3)
    assert found["beta"] == pytest.approx(0.38, rel=1e-3)
    assert "stands-for" in {note.code for note in fit.table.notes}
    plain = fit_law(read, "kaplan", bootstrap=0)
    assert (plain.table.frame["tokens"] == read["tokens"]).all()

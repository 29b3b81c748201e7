"""Every published law against itself and its paper: the truth comes back, and published numbers are
met.
"""

import json
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.curve_table import annealing, curve_table
from llmscale.explain.fit import fit_law
from llmscale.explain.laws import LAWS, Law
from llmscale.explain.table import read_table

EVERY_LAW = tuple(law for law in LAWS.names if LAWS.find(law).estimator is None)


def example(name: str) -> Law:
    """The law with its published coefficients."""
    law = LAWS.find(name)
    return law(*law.published)


def simulated(name: str) -> pd.DataFrame:
    """Runs without noise: the law's inputs, `run_id` and `loss`."""
    law = example(name)
    frame = pd.DataFrame(law.example_runs())
    frame["loss"] = law.loss(*(frame[column].to_numpy() for column in law.inputs))
    frame["run_id"] = [f"run{index}" for index in range(len(frame))]
    return frame


OTHER_UNITS = {
    "params": 1e-6,
    "tokens": 1e-9,
    "unique_tokens": 1e-9,
    "params_total": 1e-6,
    "params_active": 1e-6,
}
BOUND = {"farseer": "tokens"}
"""Columns whose unit a law's coefficients cannot make up for."""


def made(name: str, *values: float, **coefficients: float) -> Law:
    make: Any = LAWS.find(name)
    return cast("Law", make(*values, **coefficients))


def fit(name: str, runs: pd.DataFrame) -> tuple[dict[str, float], float]:
    """Coefficients and objective of the law fitted to these runs, without intervals."""
    as_they_stand = {column: "1" for column in ("params", "tokens") if column in runs}
    law = LAWS.find(name)
    needs = example(name).inputs
    table = read_table(runs, units=as_they_stand, needs=needs, scores=law.plain)
    result = fit_law(table, name, bootstrap=0, holdout="none")
    return result.law.coefficients(), result.objective


def noisy(name: str, seed: int = 0) -> pd.DataFrame:
    runs = simulated(name)
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(runs))
    return runs.assign(loss=LAWS.find(name).moved(runs["loss"], noise))


@pytest.mark.parametrize("name", EVERY_LAW)
def test_every_law_recovers_its_own_coefficients(name: str) -> None:
    coefficients, objective = fit(name, simulated(name))
    assert objective < 1e-18
    for letter, value in example(name).coefficients().items():
        assert coefficients[letter] == pytest.approx(value, rel=1e-6), letter


@pytest.mark.parametrize("name", EVERY_LAW)
def test_noisy_runs_are_fitted_better_than_by_the_truth_in_any_order_and_unit(name: str) -> None:
    runs = noisy(name)
    _, objective = fit(name, runs)
    law = example(name)
    told = law.loss(*(runs[column].to_numpy() for column in law.inputs))
    at_truth = law.level_of(told) - law.level_of(runs["loss"])
    clipped = np.clip(at_truth, -1e-3, 1e-3)
    assert objective < (clipped * (at_truth - 0.5 * clipped)).sum()
    units = {
        column: factor
        for column, factor in OTHER_UNITS.items()
        if column in runs and column != BOUND.get(name)
    }
    rescaled = runs.assign(**{column: runs[column] * factor for column, factor in units.items()})
    _, otherwise = fit(name, rescaled.sample(frac=1, random_state=1))
    assert otherwise == pytest.approx(objective, rel=1e-6)


def test_the_data_constrained_law_gives_the_losses_that_its_authors_print() -> None:
    # README of github.com/huggingface/datablations, "Parametric Fit".
    law = made(
        "data-constrained",
        np.exp(0.6254804),
        np.exp(6.255414),
        np.exp(7.3049974),
        0.3526596,
        0.3526596,
        15.387756,
        5.309743,
    )
    assert law.loss(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, rel=1e-12)
    assert law.loss(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, rel=1e-12)


def test_data_that_is_not_repeated_leaves_chinchilla() -> None:
    coefficients = {"E": 1.9, "A": 500.0, "B": 1500.0, "alpha": 0.35, "beta": 0.36}
    constrained = made("data-constrained", **coefficients, R_D_star=15.0, R_N_star=5.0)
    assert constrained.loss(1e8, 1e11, 1e12) == pytest.approx(
        made("chinchilla", **coefficients).loss(1e8, 1e11)
    )


def test_kaplan_has_pure_power_laws_at_its_edges() -> None:
    law = example("kaplan")
    assert law.loss(1e9, 1e30) == pytest.approx((6.4e13 / 1e9) ** 0.076)
    assert law.loss(1e40, 1e10) == pytest.approx((1.8e13 / 1e10) ** 0.103)


def test_over_training_is_chinchilla_with_equal_exponents() -> None:
    law = made("over-training", 1.5, 141.0, 190.0, 0.121)
    same = made("chinchilla", 1.5, 141.0 * 6**-0.121, 190.0 * 6**-0.121, 0.242, 0.242)
    assert law.loss(4e8, 2e10) == pytest.approx(same.loss(4e8, 2e10))


def test_a_broken_law_has_one_slope_before_its_break_and_another_after() -> None:
    law = made("broken", 0.0, 12.0, 0.12, 0.16, 3e7, 1e-3)
    assert law.loss(1e5) == pytest.approx(12.0 * 1e5**-0.12)
    assert law.loss(1e10) == pytest.approx(12.0 * 3e7**0.16 * 1e10**-0.28)


@pytest.mark.parametrize(
    ("name", "a"), [("kaplan", 0.103 / 0.179), ("over-training", 0.5), ("precision", 0.4 / 0.8965)]
)
def test_compute_optimal_exponents_are_where_the_law_is_lowest(name: str, a: float) -> None:
    law = example(name)
    optimal = law.compute_optimal()
    assert optimal is not None
    assert optimal["a"] == pytest.approx(a)
    best = []
    for budget in (1e20, 1e23):
        N = np.geomspace(1e6, 1e13, 70_001)
        bits = (8.0,) if "bits" in law.inputs else ()
        best.append(np.log(N[np.argmin(law.loss(N, budget / (6 * N), *bits))]))
    assert (best[1] - best[0]) / np.log(1e3) == pytest.approx(a, abs=1e-3)


def test_the_annealing_area_is_the_double_sum_of_the_paper() -> None:
    lr = np.concatenate([np.linspace(0.1, 1.0, 5), np.full(20, 1.0), np.linspace(1.0, 0.0, 15)])
    lr_area, annealing_area = annealing(lr, momentum=0.9)
    fall = np.concatenate([[0.0], lr[:-1] - lr[1:]])
    fall[:5] = 0.0
    expected = [
        sum(fall[k] * 0.9 ** (i - k) for i in range(s + 1) for k in range(i + 1))
        for s in range(len(lr))
    ]
    np.testing.assert_allclose(annealing_area, expected, atol=1e-12)
    np.testing.assert_allclose(lr_area, np.cumsum(lr))


def test_the_curves_of_a_sweep_become_a_table_that_the_curve_law_fits() -> None:
    law = example("curve")
    runs, curves, steps = [], [], np.arange(20, 2001, 20)
    for name, cooldown in (("constant", 2000), ("early", 1000), ("late", 1600)):
        every = np.arange(1, 2001)
        lr = 5e-3 * np.minimum(every / 100, 1.0) * np.clip((2000 - every) / (2001 - cooldown), 0, 1)
        loss = law.loss(*annealing(lr))
        evaluated = np.where(steps % 100 == 0, loss[steps - 1], np.nan)
        runs.append({"run_id": name, "params": 1e7, "status": "done", "parent": None})
        curves.append(
            pd.DataFrame(
                {
                    "run_id": name,
                    "step": steps,
                    "tokens": 1e3 * steps,
                    "lr": lr[steps - 1],
                    "loss": evaluated,
                }
            )
        )
    runs.append({"run_id": "lost", "params": 1e7, "status": "failed", "parent": None})
    table = curve_table(pd.DataFrame(runs), pd.concat(curves), "here")
    assert len(table.frame) == 60
    assert [run.reason for run in table.excluded] == ["failed"]
    result = fit_law(table, "curve", bootstrap=0, holdout="none")
    for letter, value in law.coefficients().items():
        assert getattr(result.law, letter) == pytest.approx(value, rel=1e-2), letter


def test_a_branch_has_the_schedule_of_its_trunk_behind_it() -> None:
    steps = np.arange(1, 201)
    trunk = pd.DataFrame(
        {"run_id": "trunk", "step": steps, "tokens": 1e3 * steps, "lr": 1e-3, "loss": 3.0}
    )
    branch = trunk[trunk["step"] > 150].assign(
        run_id="branch", lr=np.linspace(1e-3, 0, 50), loss=2.9
    )
    runs = pd.DataFrame({"run_id": ["trunk", "branch"], "params": 1e6, "parent": [None, "trunk"]})
    frame = curve_table(runs, pd.concat([trunk, branch]), "here").frame
    last = frame[frame["run_id"] == "branch"].iloc[-1]
    assert last["lr_area"] == pytest.approx(1e-3 * (150 + 25))
    assert last["annealing_area"] > 0
    assert (frame.loc[frame["run_id"] == "trunk", "annealing_area"] == 0).all()


def test_curves_without_a_learning_rate_are_refused() -> None:
    with pytest.raises(InputError, match="no column lr"):
        curve_table(
            pd.DataFrame({"run_id": ["a"], "params": [1.0]}),
            pd.DataFrame(columns=["run_id", "step", "tokens", "loss"]),
            "x",
        )


def test_laws_are_listed_with_formula_inputs_and_source() -> None:
    shown = CliRunner().invoke(app, ["laws"])
    assert shown.exit_code == 0, shown.output
    assert shown.output.strip().splitlines()[-1].startswith("next: ")
    listed = json.loads(CliRunner().invoke(app, ["laws", "--json"]).output)["laws"]
    assert [law["name"] for law in listed] == list(LAWS.names)
    for law in listed:
        assert law["name"] in shown.output
        assert law["source"].split(" et al.")[0] in shown.output
        assert law["formula"].startswith(("L = ", "S = "))

"""The three methods of allocating compute: right on surfaces that are known, honest on tables that
are not enough.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmscale.errors import InputError
from llmscale.explain import allocation as methods
from llmscale.explain.allocation import allocate, allocate_all, compare
from llmscale.explain.fit import as_table, fit_law
from llmscale.explain.table import read_table

E, A, B, ALPHA, BETA = 1.8, 480.0, 2100.0, 0.35, 0.37
TRUE_A = BETA / (ALPHA + BETA)
G = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
BUDGETS = np.geomspace(1e18, 1e21, 5)


def surface(N: Any, D: Any) -> Any:
    return E + A / N**ALPHA + B / D**BETA


def best_params(C: Any) -> Any:
    """Hoffmann et al. 2022, eq. 4."""
    return G * (C / 6) ** TRUE_A


def runs(params: Any, tokens: Any, noise: float = 0.0) -> pd.DataFrame:
    params, tokens = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
    loss = surface(params, tokens) * np.exp(
        noise * np.random.default_rng(0).standard_normal(len(params))
    )
    return pd.DataFrame(
        {
            "run_id": [f"r{i}" for i in range(len(params))],
            "params": params,
            "tokens": tokens,
            "flops": 6 * params * tokens,
            "loss": loss,
        }
    )


def isoflop_grid(
    times: float, drift: float = 0.0, sizes: int = 7, noise: float = 0.0
) -> pd.DataFrame:
    """At each budget sizes from the optimum over `times` to the optimum times that, `drift` further
    at each budget.
    """
    spread = np.geomspace(1 / times, times, sizes)
    params = np.concatenate(
        [best_params(C) * np.exp(drift * i) * spread for i, C in enumerate(BUDGETS)]
    )
    return runs(params, np.repeat(BUDGETS, sizes) / (6 * params), noise)


def training_curves(
    sizes: Any, tokens_per_param: float = 400.0, rows: int = 300
) -> tuple[pd.DataFrame, pd.DataFrame]:
    sizes = np.asarray(sizes, dtype=float)
    tokens = np.geomspace(sizes, tokens_per_param * sizes, rows, axis=1).ravel()
    steps = runs(np.repeat(sizes, rows), tokens)
    steps["run_id"] = np.repeat([f"r{i}" for i in range(len(sizes))], rows)
    return runs(sizes, tokens_per_param * sizes), steps.drop(columns="params")


def codes(found: Any) -> set[str]:
    return {note.code for note in found.notes}


@pytest.mark.parametrize("name", methods.METHODS.names)
def test_every_method_finds_the_optimum_of_a_known_surface(name: str) -> None:
    found = allocate(isoflop_grid(4.0, sizes=15), name, bootstrap=100)
    assert found.a == pytest.approx(TRUE_A, abs=1e-3)
    assert found.a + found.b == 1.0
    best = found.optimal(1e22)
    assert best["params"] == pytest.approx(best_params(1e22), rel=0.02)
    assert 6 * best["params"] * best["tokens"] == pytest.approx(1e22)
    low, high = found.intervals["a"]
    assert low - 1e-6 <= found.a <= high + 1e-6
    shown = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert shown["method"] == name
    assert shown["compute_optimal"]["a"] == found.a
    assert f"{found.a:.4f}" in str(found)


@pytest.mark.parametrize("name", methods.METHODS.names)
def test_every_method_gives_the_same_from_any_row_order_and_with_the_same_seed(name: str) -> None:
    table = isoflop_grid(4.0, noise=0.003)
    first, again = (allocate(table, name, bootstrap=50, seed=3) for _ in range(2))
    assert first.intervals == again.intervals
    shuffled = table.sample(frac=1.0, random_state=1).reset_index(drop=True)
    assert allocate(shuffled, name, bootstrap=0).a == pytest.approx(first.a, abs=1e-7)


def test_the_parametric_allocation_is_the_closed_form_of_its_law() -> None:
    table = as_table(isoflop_grid(4.0, noise=0.003))
    found = allocate(table, "parametric", bootstrap=100)
    law = fit_law(table, "chinchilla", bootstrap=0, holdout="none").law.coefficients()
    scale = (law["alpha"] * law["A"] / (law["beta"] * law["B"])) ** (
        1 / (law["alpha"] + law["beta"])
    )
    assert found.a == law["beta"] / (law["alpha"] + law["beta"])
    assert found.optimal(1e23)["params"] == pytest.approx(scale * (1e23 / 6) ** found.a, rel=1e-5)


@pytest.mark.parametrize(("times", "drift"), [(2.0, 0.0), (2.0, 0.1), (16.0, 0.0), (16.0, 0.1)])
def test_the_bias_of_isoflop_is_what_it_gets_wrong_on_a_noise_free_surface(
    times: float, drift: float
) -> None:
    table = isoflop_grid(times, drift)
    found = allocate(table, "isoflop", bootstrap=0)
    assert found.bias is not None
    assert found.bias.exponent == pytest.approx(found.a - TRUE_A, abs=1e-7)
    wrong = found.optimal(1e22)["params"] / best_params(1e22)
    assert found.bias.factor(1e22) == pytest.approx(wrong, rel=1e-5)
    assert found.corrected is not None
    assert found.corrected.params(1e22) == pytest.approx(best_params(1e22), rel=1e-5)
    # Independently: numpy's own parabolas, and a line through their lowest points.
    lowest = []
    for budget in BUDGETS:
        group = table[np.isclose(table["flops"], budget)]
        c2, c1, _ = np.polyfit(np.log(group["params"]), group["loss"], 2)
        lowest.append(-c1 / (2 * c2))
    assert found.a == pytest.approx(np.polyfit(np.log(BUDGETS), lowest, 1)[0], abs=1e-6)


def test_parabolas_are_biased_without_noise_and_more_so_on_wide_grids() -> None:
    """Czech et al.

    2026 (arXiv 2603.22339): centred grids give the exponent but not N*, others neither.
    """
    factor = {}
    for times in (2.0, 4.0, 16.0):
        found = allocate(isoflop_grid(times), "isoflop", bootstrap=0)
        assert found.a == pytest.approx(TRUE_A, abs=1e-9)
        factor[times] = found.optimal(1e21)["params"] / best_params(1e21)
    assert 1 > factor[2.0] > factor[4.0] > factor[16.0]
    drifting = allocate(isoflop_grid(4.0, drift=0.2), "isoflop", bootstrap=0)
    assert abs(drifting.a - TRUE_A) > 1e-3
    assert "isoflop-bias" in codes(drifting)
    assert "not to be relied on" not in str(drifting)
    misled = allocate(isoflop_grid(16.0, drift=0.9), "isoflop", bootstrap=0)
    assert misled.notes[0].code == "isoflop-bias"
    assert "not to be relied on before isoflop-bias" in str(misled)
    assert "isoflop-wide" in codes(allocate(isoflop_grid(16.0), "isoflop", bootstrap=0))


def test_a_budget_whose_optimum_is_not_bracketed_is_named_and_left_out() -> None:
    table = isoflop_grid(4.0)
    beyond = np.isclose(table["flops"], BUDGETS[2]) & (
        table["params"] <= 1.01 * best_params(BUDGETS[2])
    )
    found = allocate(table[~beyond].reset_index(drop=True), "isoflop", bootstrap=0)
    assert found.budgets["used"].tolist() == [True, True, False, True, True]
    note = next(note for note in found.notes if note.code == "optimum-not-bracketed")
    assert f"{BUDGETS[2]:.3g}" in note.message
    assert found.a == pytest.approx(TRUE_A, abs=1e-6)


def test_budgets_are_found_where_flops_were_measured_with_an_error() -> None:
    exact = isoflop_grid(4.0, sizes=9)
    table = exact.copy()
    table["tokens"] *= np.exp(0.04 * np.random.default_rng(0).uniform(-1, 1, len(table)))
    table["flops"] = 6 * table["params"] * table["tokens"]
    table["loss"] = surface(table["params"], table["tokens"])
    found = allocate(table, "isoflop", bootstrap=0)
    assert found.membership is not None
    assert found.membership.tolist() == np.repeat(range(5), 9).tolist()
    assert "budgets-uneven" in codes(found)
    assert found.a == pytest.approx(allocate(exact, "isoflop", bootstrap=0).a, abs=2e-3)


def test_intervals_of_isoflop_hold_the_truth_and_shrink_with_the_noise() -> None:
    widths = []
    for noise in (0.001, 0.004):
        found = allocate(isoflop_grid(4.0, sizes=10, noise=noise), "isoflop", bootstrap=400)
        low, high = found.intervals["a"]
        assert low < TRUE_A < high
        widths.append(high - low)
    assert 2 < widths[1] / widths[0] < 8


def test_the_envelope_of_training_curves_finds_the_exponent() -> None:
    table, curves = training_curves(np.geomspace(1e6, 1e9, 13))
    found = allocate(table, "envelope", curves=curves, bootstrap=100)
    assert found.a == pytest.approx(TRUE_A, abs=1e-3)
    assert found.optimal(1e19)["params"] == pytest.approx(best_params(1e19), rel=0.02)
    assert found.budgets["used"].tolist() == [False] + [True] * 11 + [False]
    assert {"mid-schedule", "envelope-ends", "envelope-bias"} <= codes(found)


def test_the_envelope_leaves_out_sizes_whose_curve_ends_too_soon() -> None:
    table, curves = training_curves(np.geomspace(1e6, 1e9, 13))
    short = (curves["run_id"] == "r6") & (curves["tokens"] > 25 * table["params"][6])
    found = allocate(table, "envelope", curves=curves[~short], bootstrap=0)
    row = found.budgets[np.isclose(found.budgets["params"], table["params"][6])].iloc[0]
    assert not row["used"]
    assert "ends before" in row["reason"]


def test_flops_that_are_not_6nd_enter_the_tokens_and_say_so() -> None:
    table = isoflop_grid(4.0)
    table["flops"] *= 1.4
    for name in ("parametric", "isoflop"):
        found = allocate(table, name, bootstrap=0)
        best = found.optimal(1.4e21)
        assert best["params"] == pytest.approx(best_params(1e21), rel=0.01)
        assert 8.4 * best["params"] * best["tokens"] == pytest.approx(1.4e21)
        assert "flops-not-6nd" in codes(found)


def test_methods_side_by_side_say_where_they_disagree_and_whether_the_bias_explains_it() -> None:
    agreed = allocate_all(isoflop_grid(2.0, sizes=15), bootstrap=100)
    assert [one.method for one in agreed.allocations] == ["parametric", "envelope", "isoflop"]
    assert len(agreed.disagreements) == 1
    assert "agree" in agreed.disagreements[0]

    wide = runs(
        *(lambda N: (N, np.repeat(BUDGETS, 6) / (6 * N)))(np.tile(np.geomspace(3e7, 3e10, 6), 5))
    )
    found = allocate_all(wide, bootstrap=100)
    sentence = next(text for text in found.disagreements if "parametric and isoflop" in text)
    assert "explains it" in sentence
    assert set(json.loads(json.dumps(found.to_json(), allow_nan=False))["methods"]) == set(
        methods.METHODS.names
    )
    assert all(name in str(found) for name in methods.METHODS.names)
    assert found.rows()[1][0] == "parametric (chinchilla)"


def test_a_method_that_does_not_suit_the_table_is_named_with_the_reason() -> None:
    rng = np.random.default_rng(0)
    scattered = runs(10 ** rng.uniform(6, 9, 12), 10 ** rng.uniform(8, 11, 12))
    with pytest.raises(InputError, match=r"of 12 runs \d+ fall into") as error:
        allocate(scattered, "isoflop")
    assert "parametric" in str(error.value.fix)
    found = allocate_all(scattered, bootstrap=0)
    assert "isoflop" in found.failed
    assert "method-not-possible" in codes(found)


def test_losses_that_rise_with_compute_have_no_optimum() -> None:
    table = isoflop_grid(4.0)
    table["loss"] = table["loss"].to_numpy()[::-1]
    with pytest.raises(InputError, match="rises with C"):
        allocate(table, "parametric", bootstrap=0)
    as_it_stands = read_table(table, units="loss=nats")
    with pytest.raises(InputError, match="no optimum"):
        allocate(as_it_stands, "parametric", bootstrap=0)
    with pytest.raises(InputError, match="envelope needs 3 sizes"):
        allocate(as_it_stands, "envelope", bootstrap=0)
    table["loss"] = 3.0
    with pytest.raises(InputError, match="of 5 budgets 0 have an optimum"):
        allocate(table, "isoflop", bootstrap=0)


def test_wrong_input_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="no method 'isoflops'") as error:
        allocate(isoflop_grid(4.0), "isoflops")
    assert "did you mean isoflop?" in str(error.value.fix)
    with pytest.raises(InputError, match="no law in N and D"):
        allocate(isoflop_grid(4.0), "parametric", law="power", bootstrap=0)
    with pytest.raises(InputError, match="run_id"):
        allocate(
            isoflop_grid(4.0), "envelope", curves=pd.DataFrame({"tokens": [1.0], "loss": [2.0]})
        )
    with pytest.raises(InputError, match="no allocation to compare"):
        compare([])


PUBLISHED = {
    # (table, method): the exponent of N* that others give for these runs, and how near ours comes
    ("chinchilla_epoch", "parametric"): (0.513, 0.002),  # Besiroglu et al. 2024
    ("chinchilla_epoch", "isoflop"): (
        0.49,
        0.015,
    ),  # Hoffmann et al. 2022, table 2, from the runs themselves
    ("llama3_isoflop", "isoflop"): (
        1 - 0.537,
        0.001,
    ),  # Llama 3 report, section 3.2.1: D* = 0.299 C^0.537
}


@pytest.mark.parametrize(("name", "method"), PUBLISHED)
def test_published_tables_give_the_published_exponents(
    shared: Path, name: str, method: str
) -> None:
    table = pd.read_csv(shared / "published" / f"{name}.csv")
    if "outlier" in table:
        table = table[~table["outlier"]].reset_index(drop=True)
    value, near = PUBLISHED[name, method]
    assert allocate(table, method, bootstrap=0).a == pytest.approx(value, abs=near)

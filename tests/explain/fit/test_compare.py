"""Choosing between laws: the true one wins or ties, nothing is dropped in silence, and order does
not matter.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmscale.errors import InputError, WorkError
from llmscale.explain.estimation import solver
from llmscale.explain.fit import Options
from llmscale.explain.fit.compare import compare
from llmscale.explain.table import RunTable, read_table

QUICK = Options(bootstrap=20)


def table_of(loss: Any, params: Any, tokens: Any, noise: float = 0.003, seed: int = 0) -> RunTable:
    frame = pd.DataFrame(
        {"params": np.asarray(params, dtype=float), "tokens": np.asarray(tokens, dtype=float)}
    )
    frame["run_id"] = [f"r{row}" for row in range(len(frame))]
    frame["flops"] = 6 * frame["params"] * frame["tokens"]
    frame["loss"] = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(frame)))
    return RunTable(Path("simulated.csv"), frame, (), (), "params")


def grid(seed: int = 0) -> RunTable:
    N, D = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 3e9, 7), np.geomspace(3e8, 1e11, 6))
    )
    return table_of(1.8 + 420 / N**0.36 + 2100 / D**0.31, N, D, seed=seed)


def ladder(seed: int = 0) -> RunTable:
    N = np.geomspace(1e5, 1e9, 12)
    return table_of(1.9 + 60 / N**0.3, N, 1e10, seed=seed)


def test_the_true_law_of_size_and_tokens_ranks_above_power_laws() -> None:
    found = compare(grid(), ["power", "kaplan", "power-floor", "chinchilla"], QUICK)
    assert found.fits[0].law.name == "chinchilla"
    assert [one.rank for one in found.ranked] == [1, 2, 3, 4]
    assert {one.law for one in found.ranked if one.as_good} == {"chinchilla"}
    assert {one.law for one in found.ranked[-2:]} == {"power", "power-floor"}
    best = found.ranked[0]
    assert best.delta_aicc == 0
    assert best.cv_error < 0.5
    assert best.holdout_error < 1
    assert found.weights["chinchilla"] > 0.9
    assert sum(found.weights.values()) == pytest.approx(1)
    # Every law was asked for the same runs.
    assert len({tuple(fit.holdout.runs["run_id"]) for fit in found.fits if fit.holdout}) == 1


@pytest.mark.slow
def test_a_bend_that_is_not_there_is_not_preferred() -> None:
    # Here the true law fits the held-out size worse, by chance.
    found = compare(ladder(), ["broken", "power-floor", "power"], QUICK)
    assert found.fits[0].law.name == "power-floor"
    by_law = {one.law: one for one in found.ranked}
    assert by_law["broken"].aicc > by_law["power-floor"].aicc
    assert by_law["broken"].as_good
    assert by_law["broken"].holdout_error < by_law["power-floor"].holdout_error
    assert by_law["power-floor"].weight > by_law["broken"].weight > by_law["power"].weight == 0
    assert not by_law["power"].as_good


def test_laws_that_do_not_suit_are_listed_with_a_reason() -> None:
    found = compare(ladder(), ["power", "chinchilla", "precision"], QUICK)
    reasons = dict(found.unsuitable)
    assert set(reasons) == {"chinchilla", "precision"}
    assert "3 token budgets" in reasons["chinchilla"]
    assert "bits" in reasons["precision"]
    assert "chinchilla" in str(found)
    with pytest.raises(InputError, match="token budgets"):
        compare(ladder(), ["chinchilla"], QUICK)


def test_a_comparison_does_not_depend_on_the_order_of_rows() -> None:
    table = grid()
    shuffled = replace(
        table, frame=table.frame.sample(frac=1, random_state=1).reset_index(drop=True)
    )
    laws, options = ["chinchilla", "power-floor"], Options(bootstrap=0)
    one, other = compare(table, laws, options), compare(shuffled, laws, options)
    assert one.to_json() == other.to_json()


def test_a_law_that_does_not_settle_is_listed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settles = solver.descend

    def fails_with_five(surface: Any, *rest: Any) -> Any:
        if len(surface.lower) == 5:
            raise WorkError("the fit did not settle", "try another")
        return settles(surface, *rest)

    monkeypatch.setattr(solver, "descend", fails_with_five)
    found = compare(grid(), ["chinchilla", "power"], QUICK)
    assert [fit.law.name for fit in found.fits] == ["power"]
    assert found.unsuitable == (("chinchilla", "the fit did not settle"),)


def test_steps_of_a_curve_stay_together_and_count_once() -> None:
    table = grid()
    tripled = replace(table, frame=pd.concat([table.frame] * 3, ignore_index=True))
    one, thrice = (
        compare(runs, ["chinchilla", "power"], Options(bootstrap=0)) for runs in (table, tripled)
    )
    for row, same in zip(one.ranked, thrice.ranked, strict=True):
        assert row.cv_error == pytest.approx(same.cv_error, rel=1e-4)
        assert row.aicc == pytest.approx(same.aicc, rel=1e-5)
        assert same.objective == pytest.approx(3 * row.objective, rel=1e-6)


def test_the_comparison_prints_and_goes_to_json() -> None:
    found = compare(grid(), ["chinchilla", "power", "moe"], QUICK)
    payload = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [row["law"] for row in payload["laws"]] == ["chinchilla", "power"]
    assert {
        "objective",
        "aicc",
        "delta_aicc",
        "cv_error",
        "holdout_error",
        "holdout_inside",
        "as_good",
    } <= set(payload["laws"][0])
    assert payload["unsuitable"][0]["law"] == "moe"
    lines = str(found).splitlines()
    assert "held-out error  inside  CV error" in lines[0]
    assert lines[1].split()[1:3] == ["chinchilla", "*"]  # the best has the star that is explained
    assert any(line.startswith("*: as good as the best") for line in lines)
    # The error is that of the check, which fit shows without a comparison, too.
    for row in found.ranked:
        assert row.fit.holdout is not None
        assert row.holdout_error == pytest.approx(100 * row.fit.holdout.mean_abs_rel_error)
        assert f"{row.holdout_error:.2f}%" == row.fit.holdout.error_text


@pytest.mark.parametrize("objective", ["squared", "huber", "log-cosh"])
def test_aicc_is_that_of_least_squares_where_residuals_are_far_within_delta(objective: str) -> None:
    one = compare(
        grid(), ["chinchilla"], Options(bootstrap=0, objective=objective, delta=1.0)
    ).ranked[0]
    n, k = len(one.fit.residuals), one.coefficients + 1
    textbook = (
        n * np.log(2 * np.pi * np.mean(one.fit.residuals**2))
        + n
        + 2 * k
        + 2 * k * (k + 1) / (n - k - 1)
    )
    # The scale of the robust objectives is freed of the coefficients' share.
    assert one.aicc == pytest.approx(textbook, abs=1e-3 if objective == "squared" else 0.5)


def test_without_a_hold_out_the_ranking_is_by_cross_validation() -> None:
    found = compare(grid(), ["power", "chinchilla"], Options(bootstrap=0, holdout="none"))
    assert found.fits[0].law.name == "chinchilla"
    assert np.isnan(found.ranked[0].holdout_error)


@pytest.mark.slow
def test_every_law_of_the_menu_on_the_published_table(shared: Path) -> None:
    table = read_table(shared / "published" / "chinchilla_epoch.csv", where="outlier == False")
    found = compare(table, options=Options(bootstrap=200))
    assert {one.law for one in found.ranked} >= {"chinchilla", "skaling", "kaplan", "broken"}
    assert {one.law for one in found.ranked[:3]} == {"chinchilla", "over-training", "skaling"}
    # A law whose loss rises with size next to the runs is no law to forecast with.
    assert "its loss rises with N" in dict(found.unsuitable)["farseer"]
    assert len(found.fits[0].replicates) == 200

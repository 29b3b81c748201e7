"""What a fit says of its held-out runs, its optimum and its size: names, bias, one interval each,
short reprs.
"""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.api.lowest_points import lowest_points
from llmscale.explain.estimation import large_tables as _large
from llmscale.explain.estimation.bias import bias_of
from llmscale.explain.estimation.relative import relative, size
from llmscale.explain.fit import fit_law
from llmscale.explain.fit.backtest import check, needs_up_to
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.optimum import optimum
from llmscale.explain.table.run_table import Excluded, titles_of
from llmscale.runs.title import run_title, run_titles


def runs(seed: int = 0, drift: float = 0.0, noise: float = 0.003, sizes: int = 6) -> pd.DataFrame:
    """A grid of sizes and budgets; `drift` lets the loss fall below the law above 1e20 FLOPs."""
    rng = np.random.default_rng(seed)
    N, D = (
        axis.ravel()
        for axis in np.meshgrid(np.geomspace(1e7, 1e10, sizes), np.geomspace(1e9, 1e12, 6))
    )
    loss = (1.8 + 420 / N**0.36 + 2100 / D**0.31) * np.exp(noise * rng.standard_normal(len(N)))
    loss[6 * N * D > 1e20] *= np.exp(-drift)
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss})


def test_held_out_runs_on_one_side_of_their_forecast_are_warned_of(tmp_path: Any) -> None:
    path = tmp_path / "runs.csv"
    runs(drift=0.02).to_csv(path, index=False)
    asked = [
        "fit",
        str(path),
        "--law",
        "chinchilla",
        "--bootstrap",
        "0",
        "--holdout",
        "flops>1e20",
        "--json",
    ]
    result = CliRunner().invoke(app, asked)
    payload = json.loads(result.stdout)
    bias = payload["holdout"]["bias"]
    assert bias["below"] > 10 * max(bias["above"], 0.5)
    assert bias["mean_rel_error"] == pytest.approx(-0.02, abs=0.01)
    assert bias["p_value"] < 1e-3
    assert "holdout-one-sided" in {note["code"] for note in payload["warnings"]}
    assert "lie below their forecast" in " ".join(result.stderr.split())
    sound = fit_law(runs(), "chinchilla", bootstrap=0, holdout="flops>1e20")
    assert "holdout-one-sided" not in {note.code for note in sound.notes}


def test_twenty_seven_of_thirty_on_one_side_are_no_chance() -> None:
    loss = np.concatenate([np.full(27, 2.0), np.full(3, 2.1)])
    found = bias_of(np.arange(30), loss, np.full(30, 2.05))
    assert (found.above, found.below) == (3, 27)
    assert found.p_value == pytest.approx(8.43e-6, rel=0.01)
    assert found.one_sided
    assert not bias_of(np.arange(30), np.tile([2.0, 2.1], 15), np.full(30, 2.05)).one_sided


def test_differences_of_log_losses_are_said_as_shares_or_factors() -> None:
    assert relative(-1.278) == "x0.28"
    assert relative(0.05) == "+5.1%"
    assert relative(-0.004) == "-0.4%"
    assert size(0.0031) == "0.31%"
    assert size(1e5) == "x1e43429"


def test_runs_are_named_as_people_name_them() -> None:
    row = {"params": 3e6, "tokens": 6e7, "seed": 1, "recipe": "wide"}
    assert run_title("0a63e22bb1c2", row) == "3M at 60M tokens, wide, seed 1"
    assert run_title("pythia-160m", row) == "pythia-160m"
    twins = pd.DataFrame([{"run_id": "0a63e22bb1c2", **row}, {"run_id": "ffa3e22bb1c2", **row}])
    assert run_titles(twins) == [
        "3M at 60M tokens, wide, seed 1 (0a63e22bb1c2)",
        "3M at 60M tokens, wide, seed 1 (ffa3e22bb1c2)",
    ]
    left_out = [Excluded(str(name), "stopped", row) for name in twins["run_id"]]
    assert titles_of(left_out) == run_titles(twins)
    steps = pd.DataFrame({"run_id": "pythia-160m", "params": 1.6e8, "tokens": [1e9, 2e9]})
    assert run_titles(steps) == ["pythia-160m at 1B tokens", "pythia-160m at 2B tokens"]
    table = runs().assign(run_id=[f"{place:012x}" for place in range(36)])
    fit = fit_law(table, "chinchilla", bootstrap=0)
    assert fit.holdout is not None
    assert fit.holdout.runs["title"].iloc[0] == "10B at 1T tokens"
    assert fit.holdout.runs["run_id"].iloc[0] == "000000000023"


def test_a_forecast_takes_texts_and_refuses_what_is_no_positive_number() -> None:
    fit = fit_law(runs(), "chinchilla", bootstrap=0, holdout="none", diagnostics=False)
    assert forecast_at(fit, N="1B", D="20B").loss == forecast_at(fit, N=1e9, D=2e10).loss
    assert optimum(fit, "1e21") == optimum(fit, 1e21)
    none: Any = {}
    wrongs: tuple[Any, ...] = (
        -1,
        0,
        None,
        np.nan,
        np.inf,
        10**400,
        True,
        "many",
        [1e9, [1e9]],
        none,
    )
    for wrong in wrongs:
        with pytest.raises(InputError) as error:
            forecast_at(fit, N=wrong, D=1e9)
        assert error.value.fix
        with pytest.raises(InputError):
            optimum(fit, wrong)
    with pytest.raises(InputError, match="2 of N, 3 of D"):
        forecast_at(fit, N=[1e9, 2e9], D=[1e9, 2e9, 3e9])
    several: tuple[dict[str, Any], ...] = (
        {"bootstrap": "x"},
        {"bootstrap": None},
        {"bootstrap": 2.5},
        {"level": "0.9"},
        {"bootstap": 2},
    )
    for options in several:
        with pytest.raises(InputError):
            fit_law(fit.table, "chinchilla", **options)
    others: tuple[tuple[Any, Any], ...] = (
        (fit.table, dict),
        (fit.table, 5),
        ([1, 2], "chinchilla"),
    )
    for source, law in others:
        with pytest.raises(InputError):
            fit_law(source, law)


def test_the_optimum_is_the_one_that_predict_prints(tmp_path: Any) -> None:
    path = tmp_path / "runs.csv"
    runs().to_csv(path, index=False)
    fit = fit_law(path, "chinchilla", bootstrap=50, holdout="none")
    best = optimum(fit, 1e23, check=check(fit).tested, points=lowest_points(fit))
    asked = [
        "predict",
        str(path),
        "--law",
        "chinchilla",
        "-C",
        "1e23",
        "--bootstrap",
        "50",
        "--json",
    ]
    told = json.loads(CliRunner().invoke(app, asked).stdout)["predictions"][0]
    assert best.intervals["loss"] == pytest.approx((told["low"], told["high"]))
    for name in ("params", "tokens", "loss", "law"):
        assert best.intervals[name] == pytest.approx(told["intervals"][name])
    low, high = best.intervals["law"]
    assert best.intervals["loss"][0] < low < high < best.intervals["loss"][1]
    for shown in (fit, fit.table, forecast_at(fit, N=np.geomspace(1e8, 1e10, 99), D=1e11)):
        assert len(repr(shown).splitlines()) <= 30


def test_intervals_of_a_large_table_from_scores_are_those_of_refits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = pd.concat([runs(seed, sizes=8) for seed in range(12)], ignore_index=True)
    table["params"] *= np.exp(np.random.default_rng(1).uniform(-0.2, 0.2, len(table)))
    refits = fit_law(table, "chinchilla", bootstrap=300, holdout="none", diagnostics=False)
    monkeypatch.setattr(_large, "ROWS", 100)
    scores = fit_law(table, "chinchilla", bootstrap=2000, holdout="none", diagnostics=False)
    assert (refits.bootstrap_method, scores.bootstrap_method) == ("runs", "scores")
    assert "score-bootstrap" in {note.code for note in scores.notes}
    for name, (low, high) in refits.intervals.items():
        ends = scores.intervals[name]
        assert ends[1] - ends[0] == pytest.approx(high - low, rel=0.25), name
        assert abs(sum(ends) - low - high) < 0.3 * (high - low), name


def test_a_forecast_that_overflowed_tells_of_no_width() -> None:
    held_out = {"origin": 0, "budget": [1, 1, 2], "excess": 0.0, "horizon": 0.5, "needed_low": 1.0}
    needs = needs_up_to(pd.DataFrame({**held_out, "needed_high": [1.5, np.nan, 2.0]}), 2)
    assert needs is not None
    assert needs.high.tolist() == [1.5, 2.0]
    json.dumps(needs.to_json(), allow_nan=False)
    assert needs_up_to(pd.DataFrame({**held_out, "needed_high": np.nan}), 2) is None

"""`llmscale predict`: forecasts with what such forecasts have held."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from llmscale.commands import app


@pytest.fixture
def table(tmp_path: Path) -> Path:
    N, D = (
        values.ravel()
        for values in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 3e10, 6))
    )
    factor = np.exp(0.004 * np.random.default_rng(0).standard_normal(len(N)))
    path = tmp_path / "runs.csv"
    frame = pd.DataFrame(
        {"params": N, "tokens": D, "loss": (1.8 + 420 / N**0.36 + 2100 / D**0.31) * factor}
    )
    frame.to_csv(path, index=False)
    return path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments), "--bootstrap", "100"])


def test_a_forecast_names_its_interval_its_distance_and_what_such_forecasts_held(
    table: Path,
) -> None:
    result = run(table, "-N", "10B", "-D", "20x", "--json")
    assert result.exit_code == 0, result.output
    payload = json.loads(result.stdout)
    (point,) = payload["predictions"]
    assert (point["params"], point["tokens"]) == (1e10, 2e11)
    assert point["low"] <= point["plain_low"] < point["loss"] < point["plain_high"] <= point["high"]
    truth = 1.8 + 420 / 1e10**0.36 + 2100 / 2e11**0.31
    assert point["low"] < truth < point["high"]
    assert point["horizon"] == pytest.approx(np.log(1e10 * 2e11 / (1e9 * 3e10)))
    assert payload["backtest"]["n"] > 0
    shown = run(table, "-N", "10B", "-D", "20x")
    assert "coverage: on this table 90% forecasts held" in shown.stdout.replace("\n", " ")


def test_a_budget_gives_its_best_size_and_tokens(table: Path) -> None:
    payload = json.loads(run(table, "-C", "1e20,1e21", "--json").stdout)
    small, large = payload["predictions"]
    for point in (small, large):
        assert 6 * point["params"] * point["tokens"] == pytest.approx(point["flops"])
        assert point["intervals"]["params"][0] < point["params"] < point["intervals"]["params"][1]
    assert large["params"] / small["params"] == pytest.approx(10 ** (0.31 / 0.67), rel=0.1)
    assert large["loss"] < small["loss"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "nothing was asked for"),
        (("-N", "7B"), "predicts from params and tokens, and --params was given"),
        (("-N", "7B", "-D", "lots"), "not a number"),
        (("-D", "20x"), "no params are given"),
        (("-N", "1B,2B,3B", "-D", "1T,2T"), "do not go together"),
        (("-C", "1e21", "--law", "power"), "no law in N and D"),
    ],
)
def test_wrong_input_is_one_sentence(
    table: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(table, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence in result.stderr.replace("\n", " ")


def test_runs_of_one_ratio_are_asked_for_one_of_size_and_tokens(table: Path) -> None:
    runs = pd.read_csv(table)
    runs["tokens"] = 20 * runs["params"]
    runs.drop_duplicates("params").to_csv(table, index=False)
    refused = run(table, "-N", "10B", "-D", "200B")
    assert refused.exit_code == 2
    said = refused.stderr.replace("\n", " ")
    assert "every run has 20 tokens a parameter" in said
    assert "give --params only" in said
    assert run(table, "-N", "10B").exit_code == 0
    every = run(table, "-N", "10B", "--law", "all")
    assert every.exit_code == 2
    assert "all laws in N and D are asked for, and --params was given" in every.stderr
    both = run(table, "-N", "10B", "-D", "200B", "--law", "all").stderr.replace("\n", " ")
    assert "leave --law out, and give --params only" in both


def test_all_laws_are_listed_with_what_each_erred_and_forecasts(table: Path) -> None:
    pd.read_csv(table).iloc[::2].to_csv(table, index=False)
    shown = run(table, "--flops", "1e21", "--law", "all").stdout
    assert "lower budgets asked for higher ones" in shown
    rows = [line.split() for line in shown.splitlines()]
    laws = {row[0]: row[1:] for row in rows if row[-1:] in (["yes"], ["no"])}
    assert {"anchored", "chinchilla", "kaplan", "over-training"} <= set(laws)
    taken, (error, budgets, loss, as_good) = next(iter(laws.items()))
    assert f"law: {taken}, " in shown
    assert f"{error} over {budgets} budgets" in shown
    assert loss[:4] in shown.splitlines()[0]
    assert as_good == "yes"
    listed = [line for line in shown.splitlines() if line.endswith((" yes", " no"))]
    assert max(map(len, listed)) <= 80


def test_a_run_off_the_optimum_of_a_budget_says_what_follows_from_it(table: Path) -> None:
    shown = run(table, "--flops", "1e21", "--params", "1B").stdout
    assert "at C = 1e+21, N = 1B, D = 167B" in shown
    assert "forecast, with C = 6ND" in shown
    assert "above the best of their budget, as the one asked for, counting most" in shown


def test_other_columns_of_a_law_are_given_as_inputs(tmp_path: Path) -> None:
    N, M = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e9, 6), [1, 4, 16, 64]))
    runs = pd.DataFrame({"params": N, "n_experts": M, "loss": 1.5 + 30 / (N**0.2 * M**0.08)})
    path = tmp_path / "runs.csv"
    runs.to_csv(path, index=False)
    asked = [path, "--law", "routed-floor", "--params", "1B", "--inputs", "n_experts=4,64"]
    result = run(*asked, "--json")
    told = [point["loss"] for point in json.loads(result.stdout)["predictions"]]
    assert told == pytest.approx([1.5 + 30 / (1e9**0.2 * m**0.08) for m in (4, 64)], rel=1e-3)

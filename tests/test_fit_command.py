"""`llmscale fit`: what it prints, what it writes, and its exit codes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from llmscale.commands import app

SIZES = np.geomspace(1e4, 1e6, 5)
LOSS = (2 + 60 / SIZES**0.35) * (1 + np.array([0.002, -0.003, 0.001, 0.002, -0.001]))


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["fit", *map(str, arguments)])


def frame(count: int = 5) -> pd.DataFrame:
    return pd.DataFrame(
        {"run_id": [f"run{i}" for i in range(count)], "params": SIZES[:count], "tokens": 1e7, "loss": LOSS[:count]}
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    frame().to_csv(path, index=False)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "results" / "cpu"
    path.mkdir(parents=True)
    diverged = pd.DataFrame([{"run_id": "lost", "params": 3e6, "tokens": 1e7, "status": "diverged"}])
    runs = pd.concat([frame().assign(status="done"), diverged], ignore_index=True)
    runs.to_parquet(path / "runs.parquet")
    (path / "sweep.json").write_text("{}")
    return path


def test_the_table_shows_both_laws_side_by_side_and_the_held_out_check(table: Path) -> None:
    result = run(table, "--bootstrap", 50)
    assert result.exit_code == 0, result.output
    for text in (
        "power-floor",
        "L = A/N^alpha",
        "90% interval",
        "held out (largest)",
        "run4: measured",
        "next: llmscale plot",
    ):
        assert text in result.stdout
    assert "one-token-budget" not in result.stdout
    assert "every run was trained on 10M tokens" in result.stderr.replace("\n", " ")
    assert not list(table.parent.glob("fit-*.json"))


def test_json_has_every_key_that_the_design_names(table: Path) -> None:
    result = run(table, "--json", "--bootstrap", 50, "--level", 0.8)
    assert result.exit_code == 0
    payload = json.loads(result.stdout)
    assert payload["law"] == "power-floor"
    assert payload["formula"] == "L = E + A/N^alpha"
    assert payload["method"] == "parametric"
    assert (payload["count"], payload["n_runs"], payload["excluded"]) == ("params", 5, [])
    assert set(payload["coefficients"]) == set(payload["intervals"]) == {"E", "A", "alpha"}
    assert (payload["level"], payload["bootstrap"], payload["bootstrap_method"]) == (0.8, 50, "parametric")
    assert payload["settled"] is True
    assert payload["objective"] == {"name": "huber_log", "delta": 0.001, "value": payload["objective"]["value"]}
    assert payload["compute_optimal"] is None
    assert payload["holdout"]["n"] == 1
    assert payload["holdout"]["inside_interval"] in (0, 1)
    assert payload["holdout"]["mean_abs_rel_error"] < 0.05
    assert {"one-token-budget", "parametric-bootstrap"} <= {warning["code"] for warning in payload["warnings"]}
    assert [other["law"] for other in payload["alternatives"]] == ["power"]
    assert payload["source"]


def test_a_results_folder_keeps_what_was_printed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parents[1])
    result = run("--json", "--bootstrap", 20)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert json.loads((folder / "fit-power-floor.json").read_text()) == printed
    assert json.loads((folder / "fit-power.json").read_text())["alternatives"][0]["law"] == "power-floor"
    assert printed["excluded"] == [{"run_id": "lost", "reason": "diverged"}]
    assert "left out: lost (diverged)" in run(folder, "--bootstrap", 0).stdout


def test_a_folder_that_cannot_be_written_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)
    result = run(folder, "--bootstrap", 0)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "read-only" in result.stderr
    assert not list(folder.glob("fit-*.json"))


def test_named_laws_are_fitted_in_their_order(table: Path) -> None:
    payload = json.loads(run(table, "--law", "power", "--law", "power-floor", "--json", "--bootstrap", 0).stdout)
    assert payload["law"] == "power"
    assert [other["law"] for other in payload["alternatives"]] == ["power-floor"]
    assert payload["intervals"] == {}


def test_columns_are_mapped_and_powers_of_tokens_are_fitted(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pd.DataFrame({"X": 1e6, "Y": SIZES, "Z": LOSS}).to_csv(path, index=False)
    result = run(path, "--columns", "params=X,tokens=Y,loss=Z", "--variable", "tokens", "--json", "--bootstrap", 0)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["formula"] == "L = E + A/D^alpha"


def test_three_sizes_say_what_they_cannot_tell(tmp_path: Path) -> None:
    path = tmp_path / "three.csv"
    frame(3).to_csv(path, index=False)
    result = run(path, "--bootstrap", 50)
    assert result.exit_code == 0
    said = result.stderr.replace("\n", " ")
    assert "a floor cannot be identified from 3 sizes" in said
    assert "not to be trusted" in said
    assert "measure more sizes" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--law", "chinchila"], "did you mean chinchilla"),
        (["--law", "chinchilla"], "1 token budget"),
        (["--count", "weights"], "no count 'weights'"),
        (["--columns", "params"], "not a list of quantity=column"),
        (["--columns", "params=X"], "no column 'X'"),
        (["--level", "90"], "not between 0 and 1"),
        (["--bootstrap", "-5"], "below zero"),
        (["--holdout", "biggest"], "not understood"),
        (["--delta", "0"], "not above zero"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(table: Path, arguments: list[str], sentence: str) -> None:
    result = run(table, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_without_results_the_command_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run()
    assert result.exit_code == 2
    assert "llmscale sweep" in result.stderr


def test_a_published_table_comes_out_as_published(shared: Path) -> None:
    result = run(shared / "published" / "chinchilla_scalefit.csv", "--json", "--bootstrap", 200)
    assert result.exit_code == 0
    payload = json.loads(result.stdout)
    assert payload["law"] == "chinchilla"
    assert payload["objective"]["value"] == pytest.approx(0.000579262, rel=2e-6)
    assert payload["bootstrap_method"] == "runs"
    low, high = payload["compute_optimal"]["intervals"]["a"]
    assert low < payload["compute_optimal"]["a"] < high
    assert payload["holdout"]["n"] == len(payload["holdout"]["runs"])

"""`llmscale compare` on the command line: what it prints, its exit codes, and its JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app

TOP = 120.0 * 3e8**2


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """adamw.csv, and muon.csv of a recipe that needs 0.7 of its compute."""
    folder = tmp_path_factory.mktemp("recipes")
    N = np.repeat(np.geomspace(1e7, 3e8, 5), 2)
    for name, k, seed in (("adamw", 1.0, 0), ("muon", 0.7, 1)):
        loss = 1.6 + 0.6 * (120.0 * N**2 / (k * TOP)) ** -0.15
        noise = 0.001 * np.random.default_rng(seed).standard_normal(len(N))
        runs = pd.DataFrame({"N": N, "D": 20 * N, "loss": loss * np.exp(noise)})
        runs.assign(seed=np.arange(len(N)) % 2).to_csv(folder / f"{name}.csv", index=False)
    return folder


def compare(tables: Path, *options: str) -> Any:
    names = [str(tables / "adamw.csv"), str(tables / "muon.csv")]
    return CliRunner().invoke(app, ["compare", *names, *options], env={"COLUMNS": "80"})


def test_the_sentence_comes_first_and_lines_fit_80_columns(tables: Path) -> None:
    found = compare(tables, "--at", "1e21")
    assert found.exit_code == 0
    first = found.stdout.splitlines()[0]
    assert first.startswith("compare: muon needs 0.7")
    assert "of adamw's compute at 1.08e+19 FLOPs" in found.stdout.replace("\n", " ")
    assert "at 1e+21 FLOPs, 92.6x beyond the runs (90% intervals)" in found.stdout
    rows = [line for line in found.stdout.splitlines() if line.startswith(("recipe", "muon "))]
    assert len(rows) == 4
    assert max(map(len, rows)) <= 80
    for name in ("law:", "shared:", "pairs:", "crossing:", "power:"):
        assert f"\n{name}" in found.stdout


def test_the_json_has_every_number_of_the_sentence(tables: Path) -> None:
    found = json.loads(compare(tables, "--json", "--at", "1e21", "--fail-below", "1").stdout)
    today, far = found["multipliers"]
    assert today["low"] < 0.7 < today["high"] < 1
    assert today["saving"] == pytest.approx(1 / today["multiplier"])
    assert far["flops"] == 1e21
    assert found["gates"][0]["outcome"] == "pass"
    assert found["gates"][0]["flops"] == 1e21
    assert found["passed"] is True
    assert f"{today['multiplier']:.2f}" in found["said"][0]


@pytest.mark.parametrize(
    ("least", "undecided", "code", "word"),
    [
        ("1.0", "fail", 0, "pass"),
        ("1.43", "fail", 1, "undecided"),
        ("1.43", "pass", 0, "undecided"),
    ],
)
def test_a_gate_ends_with_1_unless_the_saving_is_shown(
    tables: Path, least: str, undecided: str, code: int, word: str
) -> None:
    found = compare(tables, "--fail-below", least, "--undecided", undecided)
    assert found.exit_code == code
    assert f"gate: {word}: muon saves" in found.stdout


def test_runs_that_are_left_out_are_named(tables: Path, tmp_path: Path) -> None:
    runs = pd.read_csv(tables / "muon.csv")
    runs["status"] = ["diverged", *["done"] * (len(runs) - 1)]
    runs.to_csv(tmp_path / "some.csv", index=False)
    names = [str(tables / "adamw.csv"), str(tmp_path / "some.csv")]
    found = CliRunner().invoke(app, ["compare", *names])
    assert "left out: some: " in found.stdout
    assert "diverged" in found.stdout


def test_wrong_input_ends_with_2_and_writes_nothing(tables: Path) -> None:
    figure = tables / "compare.png"
    found = compare(tables, "--by", "seed", "--out", str(figure))
    assert found.exit_code == 2
    assert "give one table, or leave --by out" in found.stderr.replace("\n", " ")
    assert not figure.exists()
    alone = CliRunner().invoke(app, ["compare", str(tables / "adamw.csv")])
    assert alone.exit_code == 2
    assert "a comparison takes two recipes" in alone.stderr

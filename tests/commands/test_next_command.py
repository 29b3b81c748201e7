"""`llmscale next`: the runs to make, on a terminal and as JSON."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from llmscale.commands import app

ASKED = ("--budget", "1e15", "--target", "1e16", "--bootstrap", "200")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["next", *map(str, arguments)], env={"COLUMNS": "80"})


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    """A results folder of a sweep over sizes and tokens."""
    place = tmp_path / "flagship"
    shutil.copytree(repository / "results" / "flagship", place)
    return place


def test_it_shows_each_run_its_reason_and_how_to_train_it(folder: Path, tmp_path: Path) -> None:
    toml, figure = tmp_path / "next.toml", tmp_path / "next.png"
    result = run(folder, *ASKED, "-o", toml, "--figure", figure)
    assert result.exit_code == 0, result.output
    assert all(len(line) <= 80 for line in result.stdout.splitlines() if "│" in line)
    said = result.stdout.replace("\n", " ")
    assert "runs to make, in this order" in said
    assert "shortens the extrapolation from" in said
    cells = [line.split() for line in result.stdout.splitlines() if line.startswith("run  size")]
    assert cells[0][:3] == ["run", "size", "N"]  # a size is named by another count
    assert f"llmscale sweep {toml} --out {folder}".replace(" ", "") in said.replace(" ", "")
    assert f"llmscale sweep {toml} --out {folder}" in toml.read_text()
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_json_has_what_is_expected_of_every_run(folder: Path) -> None:
    payload = json.loads(run(folder, *ASKED, "--json").stdout)
    assert payload["flops"] == pytest.approx(sum(one["flops"] for one in payload["runs"]))
    low, high = payload["expected"]
    assert high - low == pytest.approx((1 - payload["narrows"]) * np.ptp(payload["interval"]))
    assert payload["interval"][0] < payload["loss"] < payload["interval"][1]
    assert {one["kind"] for one in payload["runs"]} <= {"new", "longer", "repeat"}


def test_wrong_input_is_one_sentence_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    toml = tmp_path / "next.toml"
    result = run(folder, "--budget", "10", "--target", "1e16", "-o", toml)
    assert result.exit_code == 2
    assert "more than the budget of 10" in result.stderr
    assert not toml.exists()


def test_what_is_not_proposed_is_not_called_so(folder: Path) -> None:
    shown = run(folder, *ASKED, "--width", "9").stdout
    assert "proposed:" not in shown
    assert "already no wider than 9" in " ".join(shown.split())

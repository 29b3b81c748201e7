"""Every command that reads a table of runs says which column became what."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app

READ = "N = model_size, D = tokens, loss = val_loss, run = each row; C = 6ND computed"
CALLS = {
    "fit": (),
    "predict": ("--flops", "1e21"),
    "plan": ("--flops", "1e21"),
    "advise": ("--flops", "1e21"),
    "next": ("--budget", "1e19", "--target", "1e21"),
    "explore": ("-o", "page.html"),
    "plot": ("-o", "figure.png"),
    "compare": (),
}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    N, D = np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(3e8, 3e10, 5))
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(N.shape))
    loss = (1.8 + 420 / N**0.36 + 2100 / D**0.31) * noise
    runs = {"model_size": N.ravel(), "tokens": D.ravel(), "val_loss": loss.ravel()}
    pd.DataFrame(runs).to_csv("runs.csv", index=False)
    return "runs.csv"


@pytest.mark.parametrize("command", CALLS)
def test_a_command_says_which_columns_it_read(table: str, command: str) -> None:
    words = [command, table, *CALLS[command], "--law", "chinchilla", "--bootstrap", "20"]
    if command == "compare":
        words = ["compare", f"one={table}", f"two={table}"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert f"read: {READ}" in said or f"read: one and two: {READ}" in said
    if command != "compare":
        assert result.output.count("N = model_size") == 1


@pytest.mark.parametrize("command", ["plan", "advise", "next", "explore"])
def test_the_same_is_in_json_and_in_python(table: str, command: str) -> None:
    words = [command, table, *CALLS[command], "--law", "chinchilla", "--bootstrap", "20"]
    words = [word for word in words if word not in ("-o", "page.html")]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(result.stdout)["read"] == READ
    keywords: dict[str, Any] = {"law": "chinchilla", "bootstrap": 20}
    if command == "next":
        asked = llmscale.next_runs(table, budget=1e19, target=1e21, **keywords)
        assert f"read: {READ}" in str(asked)
    elif command != "explore":
        assert f"read: {READ}" in str(getattr(llmscale, command)(table, flops=1e21, **keywords))

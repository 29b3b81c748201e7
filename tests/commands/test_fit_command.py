"""`llmscale fit`: what it prints, what it writes, and its exit codes."""

import json
import os
import subprocess
import sys
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
        {
            "run_id": [f"run{i}" for i in range(count)],
            "params": SIZES[:count],
            "tokens": 1e7,
            "loss": LOSS[:count],
        }
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
    diverged = pd.DataFrame(
        [{"run_id": "lost", "params": 3e6, "tokens": 1e7, "status": "diverged"}]
    )
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
    assert (payload["level"], payload["bootstrap"], payload["bootstrap_method"]) == (
        0.8,
        50,
        "parametric",
    )
    assert payload["settled"] is True
    assert payload["objective"] == {
        "name": "huber_log",
        "delta": 0.001,
        "value": payload["objective"]["value"],
    }
    assert payload["compute_optimal"] is None
    assert payload["holdout"]["n"] == 1
    assert payload["holdout"]["inside_interval"] in (0, 1)
    assert payload["holdout"]["mean_abs_rel_error"] < 0.05
    assert {"one-token-budget", "parametric-bootstrap"} <= {
        warning["code"] for warning in payload["warnings"]
    }
    assert [other["law"] for other in payload["alternatives"]] == ["power"]
    assert payload["source"]


def test_of_many_runs_held_out_those_outside_stand_first_and_are_marked(tmp_path: Path) -> None:
    runs = pd.concat([frame()] * 8, ignore_index=True).assign(seed=np.repeat(range(8), 5))
    largest = runs["params"] == runs["params"].max()
    runs.loc[largest, "loss"] *= 1 + np.array([0.001, -0.002, 0.4, 0.003, -0.6, 0.001, 0.0, 0.002])
    runs["run_id"] = [f"run{i}" for i in range(len(runs))]
    path = tmp_path / "runs.csv"
    runs.to_csv(path, index=False)
    shown = run(path, "--law", "power", "--bootstrap", 50)
    assert shown.exit_code == 0, shown.output
    assert "6 of 8 inside the 90% interval" in shown.stdout
    told = [line for line in shown.stdout.splitlines() if "measured" in line]
    assert [line.split(":")[0].strip() for line in told[:2]] == ["run24", "run14"]
    assert [line.endswith(", outside") for line in told] == [True, True, False, False, False]
    assert "and 3 nearer to their forecast: --json" in shown.stdout


def test_a_results_folder_keeps_what_was_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parents[1])
    result = run("--json", "--bootstrap", 20)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    kept = json.loads((folder / "fit-power-floor.json").read_text())
    assert {name: kept[name] for name in printed} == printed
    assert (
        json.loads((folder / "fit-power.json").read_text())["alternatives"][0]["law"]
        == "power-floor"
    )
    assert printed["excluded"] == [{"run_id": "lost", "reason": "diverged"}]
    assert "left out: lost (diverged)" in run(folder, "--bootstrap", 0).stdout


def test_a_folder_that_cannot_be_written_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)
    result = run(folder, "--bootstrap", 0)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "read-only" in result.stderr
    assert not list(folder.glob("fit-*.json"))


def test_named_laws_are_fitted_in_their_order(table: Path) -> None:
    payload = json.loads(
        run(table, "--law", "power", "--law", "power-floor", "--json", "--bootstrap", 0).stdout
    )
    assert payload["law"] == "power"
    assert [other["law"] for other in payload["alternatives"]] == ["power-floor"]
    assert payload["intervals"] == {}


def test_columns_are_mapped_and_powers_of_tokens_are_fitted(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pd.DataFrame({"X": 1e6, "Y": SIZES, "Z": LOSS}).to_csv(path, index=False)
    result = run(
        path,
        "--columns",
        "params=X,tokens=Y,loss=Z",
        "--variable",
        "tokens",
        "--json",
        "--bootstrap",
        0,
    )
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
        (["--level", "90"], "write it like --level 0.9"),
        (["--bootstrap", "-5"], "out of range"),
        (["--holdout", "biggest"], "not understood"),
        (["--delta", "0"], "out of range"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    table: Path, arguments: list[str], sentence: str
) -> None:
    result = run(table, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_without_results_the_command_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def grid(noise: float = 0.004, seed: int = 0) -> pd.DataFrame:
    N, D = (
        values.ravel()
        for values in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 3e10, 6))
    )
    factor = np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    return pd.DataFrame(
        {"params": N, "tokens": D, "loss": (1.8 + 420 / N**0.36 + 2100 / D**0.31) * factor}
    )


@pytest.fixture
def surface(tmp_path: Path) -> Path:
    path = tmp_path / "surface.csv"
    grid().to_csv(path, index=False)
    return path


def test_a_law_of_ones_own_gets_the_same_fit_as_the_built_in_one(
    surface: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import dataclass\n"
        "from llmscale.explain.laws import Law\n\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Law):\n"
        '    """L = E + A/N^alpha + B/D^beta"""\n'
        "    E: float; A: float; B: float; alpha: float; beta: float\n"
        '    inputs = ("params", "tokens")\n'
        "    def loss(self, N, D):\n"
        "        return self.E + self.A / N**self.alpha + self.B / D**self.beta\n"
    )
    arguments = (surface, "--json", "--bootstrap", 50)
    own = json.loads(run(*arguments, "--law", f"{mine}:Mine").stdout)
    built_in = json.loads(run(*arguments, "--law", "chinchilla").stdout)
    assert own["law"] == "Mine"
    assert own["formula"] == "L = E + A/N^alpha + B/D^beta"
    assert own["objective"]["value"] == pytest.approx(built_in["objective"]["value"], rel=1e-9)
    for name, value in built_in["coefficients"].items():
        assert own["coefficients"][name] == pytest.approx(value, rel=1e-6)
        assert own["intervals"][name] == pytest.approx(built_in["intervals"][name], rel=1e-3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "there is no file"),
        ("x = 1\n", "no law called 'Mine'"),
        ("import nothing_like_this\n", "ModuleNotFoundError"),
        (
            "from llmscale.explain.laws import Law\nclass Mine(Law):\n    A: float\n    inputs = "
            "('params',)\n    def loss(self, N): return self.A + 0 * N\n",
            "not a dataclass",
        ),
        (
            "from dataclasses import dataclass\nfrom llmscale.explain.laws import "
            "Law\n@dataclass(frozen=True)\nclass Mine(Law):\n    A: float\n    inputs = "
            "('params',)\n    def loss(self, N): return self.A if N > 1 else N\n",
            "cannot be fitted",
        ),
    ],
)
def test_a_law_that_cannot_be_used_is_one_sentence(
    surface: Path, tmp_path: Path, text: str | None, sentence: str
) -> None:
    mine = tmp_path / "mine.py"
    if text is not None:
        mine.write_text(text)
    result = run(surface, "--law", f"{mine}:Mine")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence in result.stderr.replace("\n", " ")


def test_every_suitable_law_is_ranked(surface: Path) -> None:
    result = run(surface, "--law", "all", "--bootstrap", 0, "--json")
    assert result.exit_code == 0, result.output
    payload = json.loads(result.stdout)
    ranked = payload["comparison"]["laws"]
    assert [one["rank"] for one in ranked] == list(range(1, len(ranked) + 1))
    assert payload["law"] == ranked[0]["law"]
    good = {one["law"] for one in ranked if one["as_good"]}
    assert "chinchilla" in good
    assert "power" not in good
    reasons = {one["law"]: one["reason"] for one in payload["comparison"]["unsuitable"]}
    assert "bits" in reasons["precision"]


def test_methods_stand_side_by_side(tmp_path: Path) -> None:
    surface = tmp_path / "isoflop.csv"
    N, C = (
        values.ravel()
        for values in np.meshgrid(np.geomspace(1e7, 1e9, 9), np.geomspace(1e17, 1e19, 4))
    )
    frame = pd.DataFrame({"params": N, "tokens": C / (6 * N), "flops": C})
    frame["loss"] = 1.8 + 420 / N**0.36 + 900 / frame["tokens"] ** 0.31
    frame["loss"] *= np.exp(0.002 * np.random.default_rng(0).standard_normal(len(N)))
    frame.to_csv(surface, index=False)
    payload = json.loads(run(surface, "--method", "all", "--bootstrap", 50, "--json").stdout)
    methods = {name: one["compute_optimal"]["a"] for name, one in payload["methods"].items()}
    assert set(methods) >= {"parametric", "isoflop"}
    assert methods["parametric"] == pytest.approx(0.31 / 0.67, abs=0.04)
    shown = run(surface, "--method", "isoflop", "--bootstrap", 50)
    assert shown.exit_code == 0
    assert "N* ∝ C^a" in shown.stdout


def test_groups_are_fitted_apart_and_together(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    code = grid(seed=1).assign(data="code")
    code["loss"] *= 0.8
    pd.concat([grid().assign(data="web"), code]).to_csv(path, index=False)
    arguments = (path, "--by", "data", "--law", "chinchilla", "--bootstrap", 0)
    payload = json.loads(run(*arguments, "--json").stdout)
    assert [one["group"] for one in payload["groups"]] == ["web", "code"]
    assert payload["joint"]["shared"] == ["alpha", "beta"]
    assert payload["joint"]["shareable"] is True
    assert "shared" in run(*arguments).stdout
    assert run(*arguments, "--where", "data == web").exit_code == 0
    unknown = run(path, "--by", "date")
    assert unknown.exit_code == 2
    assert "data" in unknown.stderr


@pytest.mark.parametrize("sizes", [2, 3])
def test_groups_of_a_run_a_coefficient_are_not_tested_and_say_what_was_fitted(
    sizes: int, tmp_path: Path
) -> None:
    path = tmp_path / "few.csv"
    parts = [
        frame(sizes).assign(data=name, loss=LOSS[:sizes] * scale)
        for name, scale in (("web", 1.0), ("code", [0.9, 0.85, 0.84][:sizes]))
    ]
    pd.concat(parts).to_csv(path, index=False)
    arguments = (path, "--by", "data", "--law", "power-floor", "--bootstrap", 20)
    joint = json.loads(run(*arguments, "--json").stdout)["joint"]
    assert (joint["p_value"] is None, joint["intervals"] == {}) == (sizes == 2, sizes == 2)
    warned = run(*arguments, "--notes").stderr
    assert "floor-not-identified" in warned
    verdict = "no-interval: the runs of code, web fix" if sizes == 2 else "warning: exponents-"
    assert verdict in warned


def test_a_table_comes_through_a_pipe_in_any_unit(surface: Path) -> None:
    millions = grid()
    millions["params"] /= 1e6
    command = [
        sys.executable,
        "-m",
        "llmscale",
        "fit",
        "-",
        "--units",
        "params=M",
        "--where",
        "tokens < 2e10",
        "--json",
    ]
    found = subprocess.run(
        [*command, "--bootstrap", "0"],
        input=millions.to_csv(index=False),
        capture_output=True,
        text=True,
        check=True,
    )
    piped = json.loads(found.stdout)
    same = json.loads(run(surface, "--where", "tokens < 2e10", "--json", "--bootstrap", 0).stdout)
    assert piped["n_runs"] == same["n_runs"] == 30
    assert piped["coefficients"] == pytest.approx(same["coefficients"], rel=1e-6)


def test_the_checklist_is_markdown_filled_in_from_the_table(folder: Path) -> None:
    asked = ["--law", "power-floor", "--checklist", "--method", "parametric"]
    result = run(folder, *asked, "--bootstrap", 0)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("# ")
    assert "L = E + A/N^alpha" in result.stdout
    assert "**not recorded**" in result.stdout
    sections = json.loads(
        run(folder, "--law", "power-floor", "--checklist", "--json", "--bootstrap", 0).stdout
    )
    answers = {
        one["item"]: one["answer"] for items in sections["checklist"].values() for one in items
    }
    assert answers["Form of the law"] == "L = E + A/N^alpha"
    assert None in answers.values()


def test_intervals_come_from_where_they_are_asked_for(surface: Path) -> None:
    found = {}
    for name in ("bootstrap", "profile", "jacobian"):
        payload = json.loads(run(surface, "--intervals", name, "--bootstrap", 20, "--json").stdout)
        assert payload["interval_method"] == name
        found[name] = payload["intervals"]["alpha"]
        assert found[name][0] < payload["coefficients"]["alpha"] < found[name][1]
    assert found["bootstrap"] != found["profile"] != found["jacobian"]
    assert run(surface, "--intervals", "bayes").exit_code == 2


def test_objectives_are_chosen_by_name(surface: Path) -> None:
    for name, written in (
        ("squared", "squared_log"),
        ("log-cosh", "log_cosh_log"),
        ("huber", "huber_log"),
    ):
        payload = json.loads(run(surface, "--objective", name, "--bootstrap", 0, "--json").stdout)
        assert payload["objective"]["name"] == written
        assert payload["coefficients"]["alpha"] == pytest.approx(0.36, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--objective", "absolute"], "objective 'absolute' is not known"),
        (["--law", "all", "--law", "power"], "leave the other"),
        (["--by", "data", "--law", "all"], "one law is fitted to every group"),
        (["--by", "data", "--method", "isoflop"], "--by goes with"),
        (["--checklist", "--law", "all"], "describes one fit"),
        (["--checklist", "--law", "chinchilla", "--law", "power"], "describes one fit"),
        (["--bootstrap", "many"], "--bootstrap 'many' is not a number"),
        (["--bootstrap", "1.5"], "--bootstrap 1.5 is not whole"),
        (["--bootstrap", "1M"], "bootstrap is 1000000, which is out of range"),
        (["--level", "high"], "--level 'high' is not a number"),
        (["--method", "isoflops"], "did you mean isoflop"),
        (["--where", "size < 3"], "no column"),
        (["--units", "params=miles"], "miles"),
        (["--method", "isoflop", "--holdout", "none"], "makes no use of --holdout"),
        (["--method", "envelope", "--intervals", "profile"], "makes no use of --intervals"),
        (["--method", "all", "--variable", "flops"], "makes no use of --variable"),
        (["--law", "chinchilla", "--variable", "tokens"], "no law in one variable"),
        (["--objective", "squared", "--delta", "0.1"], "no delta"),
        (["--by", "data", "--out", "fit.json"], "is the fit of one law"),
        (["--out", "fit.txt"], "does not end in .json"),
        (["--bootstrap", "19"], "takes 20 refits or more"),
        (["--bootstrap", "50", "--level", "0.99"], "takes 200 refits or more"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(
    surface: Path, arguments: list[str], sentence: str
) -> None:
    result = run(surface, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence in result.stderr.replace("\n", " ")

"""Every law of the menu on tables that no law was made for: a fit with finite numbers, or one
sentence.
"""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError, LlmscaleError
from llmscale.explain.fit import fit_law
from llmscale.explain.laws import LAWS

COLUMNS = {
    "pretrained": (0.0, 1.0),
    "bits": (3.0, 16.0),
    "lr_area": (1.0, 30.0),
    "annealing_area": (0.0, 1.0),
}


def table(runs: int, seed: int = 0, **fixed: Any) -> pd.DataFrame:
    """Runs with every column that a law of the menu takes, at random; `fixed` columns are as
    given.
    """
    rng = np.random.default_rng(seed)
    N, D = (
        np.exp(rng.uniform(np.log(1e7), np.log(1e10), runs)),
        np.exp(rng.uniform(np.log(1e9), np.log(1e12), runs)),
    )
    frame = pd.DataFrame({"params": N, "tokens": D})
    frame["params_total"], frame["params_active"] = N, N * rng.uniform(0.05, 1.0, runs)
    frame["unique_tokens"] = np.minimum(D, 1e10)
    for name, (low, high) in COLUMNS.items():
        frame[name] = rng.uniform(low, high, runs)
    noise = np.exp(0.01 * rng.standard_normal(runs))
    frame["loss"] = (1.8 + 420 / N**0.36 + 2100 / D**0.31) * noise
    return frame.assign(**fixed)


def awkward() -> dict[str, pd.DataFrame]:
    grid = table(14)
    collinear = grid["params"] * 20 * np.exp(0.1 * np.random.default_rng(1).standard_normal(14))
    return {
        "few": table(7),
        "one size": table(14, params=1e8, params_total=1e8),
        "collinear": table(14, tokens=collinear),
        "constant": table(14, loss=2.5),
        "rising": table(14, loss=1.5 + 0.1 * np.log(grid["params"]) / 20),
        "wild": table(14, loss=np.geomspace(1e-4, 12, 14)),
        "twice": pd.concat([table(7)] * 2, ignore_index=True),
        "a step": table(14, loss=np.where(grid["params"] > 3e8, 2.0, 4.0)),
        "tiny": table(14, loss=1e-6 * grid["loss"]),
        "enormous sizes": table(14, params=1e13 * np.geomspace(1, 1e6, 14)),
    }


def check(name: str, tables: dict[str, pd.DataFrame], **options: Any) -> None:
    """A fit with finite numbers throughout, or an error with a fix."""
    for what, frame in tables.items():
        runs = frame.assign(run_id=[f"run {i}" for i in range(len(frame))])
        try:
            fit = fit_law(runs, name, **options)
        except LlmscaleError as error:
            wrong = error
        else:
            assert np.isfinite(fit.objective), what
            assert np.isfinite(list(fit.law.coefficients().values())).all(), what
            assert np.isfinite(fit.residuals).all(), what
            json.dumps(fit.to_json(), allow_nan=False)
            assert len(repr(fit).splitlines()) <= 30, what
            continue
        assert wrong.fix, what
        assert len(str(wrong)) < 400, what


@pytest.mark.parametrize("name", ["chinchilla", "kaplan", "power-floor"])
def test_laws_give_finite_numbers_or_one_sentence_if_the_loss_is_constant_or_wild(
    name: str,
) -> None:
    tables = awkward()
    chosen = {what: tables[what] for what in ("constant", "wild", "one size")}
    check(name, chosen, bootstrap=0, holdout="none", diagnostics=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS.names)
def test_every_law_gives_finite_numbers_or_one_sentence_on_every_awkward_table(name: str) -> None:
    check(name, awkward(), bootstrap=4)


def test_a_law_whose_coefficients_run_along_a_ridge_is_fitted_and_says_so() -> None:
    """Chinchilla's runs say nothing of how Farseer's exponent of D bends with N."""
    rng = np.random.default_rng(3)
    N, D = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5))
    )
    loss = (1.8 + 420 / N**0.36 + 2100 / D**0.31) * np.exp(0.02 * rng.standard_normal(25))
    fit = fit_law(
        pd.DataFrame({"params": N, "tokens": D, "loss": loss}),
        "farseer",
        bootstrap=0,
        holdout="none",
    )
    assert "flat-direction" in {note.code for note in fit.notes}
    assert np.abs(fit.residuals).max() < 0.1


OWN = """
import sys
from dataclasses import dataclass
import numpy as np
from llmscale.explain.laws import Law

@dataclass(frozen=True)
class Mine(Law):
    A: float
    inputs = ("params",)

    def loss(self, N):
        {}
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 0.0 - self.A * np.log(N)", "not a positive number"),
        ("return self.A * N * np.nan", "not a positive number"),
        ("return self.A * np.ones(4)", "the shape (4,) for 3 runs"),
        ("return self.A / N + undefined", "NameError"),
        ("return 2 + 60 / N**0.3", "does not depend on A"),
        ("return self.A / N + np.random.rand()", "two answers to the same question"),
        ("sys.exit(0)", "SystemExit"),
        ("assert np.max(N) < 2e6, 'too large'; return self.A / N", "too large"),
    ],
)
def test_a_law_of_ones_own_that_goes_wrong_is_one_sentence_with_its_file_and_line(
    body: str, said: str, tmp_path: Any
) -> None:
    law, runs = tmp_path / "mine.py", tmp_path / "runs.csv"
    law.write_text(OWN.format(body), encoding="utf-8")
    N = np.geomspace(1e5, 1e8, 9)
    pd.DataFrame({"params": N, "loss": 2 + 60 / N**0.3}).to_csv(runs, index=False)
    result = CliRunner().invoke(app, ["fit", str(runs), "--law", f"{law}:Mine", "--bootstrap", "0"])
    assert result.exit_code == 2
    error = " ".join(result.stderr.split())
    assert said in error
    assert f"{law.name}, line" in error
    assert "Traceback" not in error
    law.write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["fit", str(runs), "--law", str(law)])
    assert result.exit_code == 2
    assert "line 2" in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("class Mine", "class power", "has the name of llmscale's own law power"),
        ("class Mine", "class all", "has the name of all, which stands for every law"),
        ("A: float", "A: str", "the coefficient A as str"),
        ("A: float", "A: float\n    z: float", "does not depend on z"),
        ('("params",)', '"params"', "is no tuple but 'params'"),
        ('("params",)', "(3,)", "names no columns"),
        ('("params",)', '("params", "tokens")', "does not take the 2 columns of its inputs"),
    ],
)
def test_a_law_of_ones_own_that_breaks_the_contract_is_refused_when_it_is_loaded(
    old: str, new: str, said: str, tmp_path: Any
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN.format("return self.A / N").replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as refused:
        LAWS.find(str(path))
    assert said in refused.value.problem
    assert refused.value.fix


def test_a_class_with_the_name_of_a_law_is_refused_in_python_too() -> None:
    power = type("power", (LAWS.find("power-floor"),), {"__module__": "mine"})
    with pytest.raises(InputError, match="the class power has the name of llmscale's own law"):
        fit_law(table(9), power)


@pytest.mark.parametrize(
    "wrong",
    [
        "--level 0.9999999999999999",
        "--level nan",
        "--seed -1",
        "--delta 1e-320",
        "--delta 1e300",
        "--bootstrap 1e9",
    ],
)
def test_numbers_that_no_fit_can_use_are_refused(wrong: str, tmp_path: Any) -> None:
    runs = tmp_path / "runs.csv"
    table(12).to_csv(runs, index=False)
    result = CliRunner().invoke(
        app, ["fit", str(runs), *wrong.replace("1e9", "1000000000").split()]
    )
    assert result.exit_code == 2
    assert not isinstance(result.exception, ArithmeticError)

"""By which law the page of `explore` is, and what it says if a plan takes another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import Browser, browser
from pages import grid, run

import llmscale
from llmscale.explain.laws.data_constrained import DataConstrained

OWN_LAW = """
from dataclasses import dataclass
from llmscale.explain.laws import Law

@dataclass(frozen=True)
class Mine(Law):
    E: float
    A: float
    B: float
    alpha: float
    inputs = ("params", "tokens", "unique_tokens")
    floor = "E"

    def loss(self, N, D, U):
        return self.E + self.A / N**self.alpha + self.B / D**0.3
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def few_runs() -> pd.DataFrame:
    """Runs so noisy that refits of the law that is taken say anything far beyond them."""
    rng = np.random.default_rng(5)
    N, D = map(np.ravel, np.meshgrid(np.geomspace(1e7, 1e8, 4), np.geomspace(3e8, 3e9, 4)))
    loss = (1.8 + 420 / N**0.36 + 2100 / D**0.31) * np.exp(0.02 * rng.standard_normal(16))
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss})


def repeated_runs() -> pd.DataFrame:
    runs = DataConstrained.example_runs()
    law = DataConstrained(*DataConstrained.published)
    noise = np.exp(0.004 * np.random.default_rng(0).standard_normal(len(runs["params"])))
    return pd.DataFrame(
        {**runs, "loss": law.loss(*(runs[name] for name in DataConstrained.inputs)) * noise}
    )


def test_a_budget_of_which_a_plan_takes_another_law_is_told(tab: Browser, tmp_path: Path) -> None:
    runs = few_runs()
    options: dict[str, Any] = {"bootstrap": 60, "diagnostics": False}
    page = llmscale.explore(runs, output=tmp_path / "page.html", **options)
    assert page.path is not None
    tab.open(page.path.resolve().as_uri())
    assert "takes another at some" in tab.text("#notes")
    said = {}
    for flops in ("2e18", "2e22"):
        taken = llmscale.plan(runs, flops=flops, **options).judge.fit.law.name
        tab.type_into("#control-flops-box", flops)
        said[taken] = tab.text("#cautions")
    assert list(said) == [page.fit.law.name, "chinchilla"]
    told = f"llmscale plan takes chinchilla, not {page.fit.law.name}"
    assert [told in one for one in said.values()] == [False, True]
    assert "its refits say anything from" in said["chinchilla"]


def test_runs_that_repeat_their_text_have_a_page_of_the_law_that_knows_it(
    tab: Browser, tmp_path: Path
) -> None:
    runs = repeated_runs()
    options: dict[str, Any] = {"bootstrap": 20, "diagnostics": False}
    page = llmscale.explore(runs, output=tmp_path / "page.html", **options)
    assert page.path is not None
    made = llmscale.plan(runs, flops=1e22, unique_tokens=1e10, **options)
    assert page.fit.law.name == made.judge.fit.law.name == "data-constrained"
    tab.open(page.path.resolve().as_uri() + "#flops=1e22&unique=10B")
    assert "llmscale plan takes with --unique-tokens" in tab.text("#notes")
    assert "repetition-published" not in tab.text("#cautions")
    text = made.repetition
    assert text is not None
    end, passes = tab.value("[explorer.decision.end.least, explorer.decision.passes]")
    assert end == pytest.approx(text.enough.least_loss.value, rel=1e-5)
    assert passes == pytest.approx(text.epochs, rel=1e-3)


def test_a_law_of_ones_own_in_unique_tokens_is_refused(tmp_path: Path) -> None:
    repeated_runs().to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "mine.py").write_text(OWN_LAW)
    wrong = run(tmp_path / "runs.csv", "--law", f"{tmp_path / 'mine.py'}:Mine", "--bootstrap", 20)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    said = "a page knows only data-constrained and bounded of such laws"
    assert said in wrong.stderr.replace("\n", " ")


def test_a_page_of_one_law_that_is_taken_everywhere_says_so(tmp_path: Path) -> None:
    chosen = llmscale.explore(grid(), bootstrap=20, diagnostics=False)
    assert "at every budget of this page, too" in chosen.html

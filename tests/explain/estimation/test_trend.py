"""Runs that tell a law nothing: losses that are the same everywhere, or do not move."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale.errors import InputError
from llmscale.explain.laws import Law

N, D = (
    values.ravel() for values in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(3e8, 3e10, 5))
)
TRUE_LOSS = 1.8 + 420 / N**0.36 + 2100 / D**0.31
NOISE = np.random.default_rng(3).standard_normal(25)


def runs(loss: Any) -> dict[str, Any]:
    return {"params": N, "tokens": D, "loss": loss}


def test_a_loss_that_is_the_same_in_every_run_tells_no_law() -> None:
    with pytest.raises(InputError, match="the loss is 3 in each of 25 runs"):
        llmscale.fit(runs(3.0 + 0.0 * N), "chinchilla", bootstrap=0)
    with pytest.raises(InputError, match="the loss is 3 in each of 25 runs"):
        llmscale.predict(runs(3.0 + 0.0 * N), flops=1e21)
    with pytest.raises(InputError, match="the loss is 3 in each of 25 runs"):
        llmscale.fit(runs(3.0 + 0.0 * N), "all", bootstrap=0)


def test_a_loss_that_does_not_move_has_no_best_size() -> None:
    noise = runs(3.0 + 0.01 * NOISE)
    fit = llmscale.fit(noise, "chinchilla", bootstrap=0, holdout="none")
    assert "no-trend" in {note.code for note in fit.notes}
    with pytest.raises(InputError, match="tell no best size"):
        llmscale.predict(noise, flops=1e21, bootstrap=20)
    real = llmscale.fit(runs(TRUE_LOSS * np.exp(0.01 * NOISE)), "chinchilla", bootstrap=0)
    assert "no-trend" not in {note.code for note in real.notes}


def test_a_best_size_below_any_model_is_no_answer() -> None:
    only_tokens = runs((2.0 + 2100 / D**0.31) * np.exp(0.001 * NOISE))
    with pytest.raises(InputError, match="tell no best size: by chinchilla the best of 1e"):
        llmscale.predict(only_tokens, flops=1e21, law="chinchilla", bootstrap=20)


def test_a_best_size_that_may_be_anything_is_no_answer_of_any_call(tmp_path: Path) -> None:
    # 20 tokens a parameter, and hardly anything else.
    draws = np.random.default_rng(1).standard_normal((14, 2)).T
    sizes = np.geomspace(1e7, 3e9, 14)
    along = 20 * sizes * np.exp(0.05 * draws[0])
    loss = (1.8 + 482 / sizes**0.348 + 2085 / (20 * sizes) ** 0.366) * np.exp(0.002 * draws[1])
    table = tmp_path / "along.csv"
    pd.DataFrame({"params": sizes, "tokens": along, "loss": loss}).to_csv(table, index=False)
    calls: list[Any] = [
        lambda: llmscale.optimal(table, 1e21),
        lambda: llmscale.plan(table, flops=1e21),
        lambda: llmscale.advise(table, flops=1e21),
        lambda: llmscale.explore(table),
        lambda: llmscale.next_runs(table, budget=1e19, target=1e21),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"tell no best size: by .* is anywhere from"):
            call()


def test_a_forecast_above_any_vocabulary_asks_for_the_unit_of_sizes() -> None:
    table = runs(TRUE_LOSS * np.exp(0.003 * NOISE))
    fit = llmscale.fit(table, "chinchilla", bootstrap=0, holdout="none", diagnostics=False)
    forecast = llmscale.predict(fit, params=7000, tokens=100)
    assert forecast.notes[0].code == "forecast-too-high"
    assert "--params 7B" in forecast.notes[0].message
    published = llmscale.plan(published=True, flops=1e10).all_notes
    assert "forecast-too-high" in {note.code for note in published}
    sound = llmscale.predict(fit, params="7B", tokens="100B")
    assert "forecast-too-high" not in {note.code for note in sound.notes}


@pytest.mark.parametrize("law", ["chinchilla", "anchored"])
def test_the_unit_of_the_loss_changes_nothing_but_the_unit(law: str) -> None:
    loss = TRUE_LOSS * np.exp(0.003 * NOISE)
    ends = []
    for unit in (1.0, 1e-3, 1e3):
        settings: Any = {"units": "loss=nats", "holdout": "none", "diagnostics": False}
        fit = llmscale.fit(runs(loss * unit), law, bootstrap=40, **settings)
        best = llmscale.predict(fit, flops=1e22).optima[0]
        losses = np.array([best.loss, *best.intervals["loss"]]) / unit
        ends.append([best.params, *best.intervals["params"], *losses])
    np.testing.assert_allclose(ends[1:], [ends[0]] * 2, rtol=1e-5)


@dataclass(frozen=True)
class Cliff(Law):
    """L = the larger of E and A/N^alpha"""

    E: float
    A: float
    alpha: float
    inputs = ("params",)

    def loss(self, *inputs: Any) -> Any:
        return np.maximum(self.E, self.A / inputs[0] ** self.alpha)


def test_a_coefficient_that_no_refit_moves_has_no_interval() -> None:
    loss = np.where(N < 2e7, 5.0, 3.0) * np.exp(0.01 * NOISE)
    fit = llmscale.fit(runs(loss), Cliff, bootstrap=30, holdout="none", diagnostics=False)
    assert "E" in fit.intervals
    assert "alpha" not in fit.intervals
    said = [note.message for note in fit.notes if note.code == "interval-not-trusted"]
    assert any("alpha" in message and "same in every refit" in message for message in said)


SINE = """
from dataclasses import dataclass
import numpy as np
import pandas as pd
from llmscale import Law

@dataclass(frozen=True)
class Sine(Law):
    E: float
    w: float
    inputs = ("params",)

    def loss(self, N):
        return self.E + np.sin(self.w * N)
"""


def test_a_function_that_laws_cannot_use_is_refused_with_those_that_they_can(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text(SINE)
    with pytest.raises(InputError) as refused:
        llmscale.fit(runs(TRUE_LOSS), f"{tmp_path}/mine.py:Sine")
    assert "np.sin is none of the functions" in refused.value.problem
    assert "tanh" in refused.value.problem
    assert "Jet" not in refused.value.problem


def test_a_mistyped_loss_that_hides_the_best_size_is_named() -> None:
    loss = TRUE_LOSS * np.exp(0.003 * NOISE)
    loss[8] /= 10
    with pytest.raises(InputError, match="tell no best size") as error:
        llmscale.plan(runs(loss), flops=1e21, law="chinchilla")
    assert "this may be why: 1 run lies off the law by more than" in str(error.value.fix)
    assert "row 9 (x0.1)" in str(error.value.fix)

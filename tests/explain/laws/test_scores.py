"""Laws of what may rise or be negative: such tables are read, fitted by differences, and described
so.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale.errors import InputError
from llmscale.explain.diagnostics.verdict import verdict
from llmscale.explain.fit.kept import read_kept
from llmscale.explain.laws.accuracy import Accuracy
from llmscale.explain.laws.vocabulary import Vocabulary

LAW = Accuracy(0.25, 0.55, 2e8, 0.9)
SHORT: Any = {"bootstrap": 50, "diagnostics": False}


def accuracies() -> pd.DataFrame:
    N = np.geomspace(1e6, 1e9, 12)
    noise = 0.003 * np.random.default_rng(0).standard_normal(12)
    return pd.DataFrame({"params": N, "tokens": 20 * N, "acc": LAW.loss(N) + noise})


def test_a_rising_score_is_taken_by_a_law_of_scores_and_by_no_other() -> None:
    fit = llmscale.fit(accuracies(), "accuracy", columns={"loss": "acc"}, **SHORT)
    assert fit.law.loss(5e8) == pytest.approx(LAW.loss(5e8), abs=0.01)
    told = llmscale.predict(fit, params=2e9)
    assert told.low < LAW.loss(2e9) < told.high
    for text in (told.verdict, str(told), told._repr_html_()):
        assert "acc" in text
        assert "loss" not in text
    assert told.to_json()["metric"] == fit.to_json()["metric"] == "acc"
    assert verdict(fit).startswith("fitted to 12 runs; ")
    assert llmscale.plot(fit).figure.axes[0].get_ylabel() == "acc"
    renamed = accuracies().rename(columns={"acc": "loss"})
    assert llmscale.fit(renamed, "accuracy", **SHORT).metric == "accuracy"
    with pytest.raises(InputError, match="rises with N"):
        llmscale.fit(accuracies(), "power", columns={"loss": "acc"})


def test_an_accuracy_turned_round_is_called_what_it_is(tmp_path: Path) -> None:
    fit = llmscale.fit(
        accuracies(),
        "power-floor",
        columns={"loss": "acc"},
        units={"loss": "accuracy"},
        **SHORT,
        keep=tmp_path / "fit-mine.json",
    )
    assert read_kept(tmp_path / "fit-mine.json").metric == fit.metric == "1 - acc"
    assert llmscale.predict(fit, params=2e9).verdict.startswith("1 - acc 0.")
    axes = llmscale.plot(fit).figure.axes[0]
    assert axes.get_ylabel() == "1 - acc"
    assert not axes.child_axes


def test_a_loss_that_falls_is_no_score() -> None:
    runs = {"N": [1e6, 1e7, 1e8, 1e9, 1e10], "D": [1e9] * 5, "loss": [4.0, 3.5, 3.1, 2.9, 2.8]}
    with pytest.raises(InputError, match="a law of a score, which rises with params"):
        llmscale.fit(runs, "score")


def test_losses_below_zero_are_fitted_by_differences_which_errors_are_told_in() -> None:
    law = Vocabulary(*Vocabulary.published)
    runs = pd.DataFrame(Vocabulary.example_runs())
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(runs))
    runs["loss"] = law.loss(*(runs[name].to_numpy() for name in law.inputs)) + noise
    fit = llmscale.fit(runs, "vocabulary", objective="squared", **SHORT)
    assert fit.holdout is not None
    assert "%" not in fit.holdout.error_text
    payload = fit.to_json()
    assert payload["objective"]["name"] == "squared_plain"
    assert payload["holdout"]["mean_abs_rel_error"] is None
    assert payload["holdout"]["mean_abs_error"] < 0.05
    with pytest.raises(InputError, match="positive numbers"):
        llmscale.fit(runs, "chinchilla")


def test_laws_of_differences_are_not_ranked_with_others() -> None:
    found = llmscale.fit(
        {"N": [1e6, 1e7, 1e8, 1e9, 1e10], "D": [1e9] * 5, "loss": [4.0, 3.5, 3.1, 2.9, 2.8]},
        "all",
        bootstrap=0,
        diagnostics=False,
    )
    assert "accuracy" not in [fit.law.name for fit in found]
    assert "do not compare" in dict(found.unsuitable)["accuracy"]


def test_a_law_of_shares_refuses_percents_and_reads_them_if_told() -> None:
    N = np.geomspace(1e6, 1e10, 30)
    table = pd.DataFrame({"params": N, "pass_rate": 100 * np.exp(-2e3 / N**0.45)})
    with pytest.raises(InputError, match="loss=hundredths"):
        llmscale.fit(table, "pass-rate", columns="loss=pass_rate")
    with pytest.raises(InputError, match="from 0 to 1"):
        llmscale.fit(accuracies().assign(acc=70.0 + N[:12] / 1e8), "accuracy", columns="loss=acc")
    told: Any = {"columns": "loss=pass_rate", "units": "loss=hundredths"}
    fit = llmscale.fit(table, "pass-rate", **told, **SHORT)
    assert fit.law.coefficients() == pytest.approx({"A": 2e3, "alpha": 0.45})
    assert "loss = pass_rate/100" in fit.origin.reading


def test_a_column_of_scores_is_proposed_to_a_law_of_scores_as_it_is() -> None:
    for name in ("accuracy", "pass_rate"):
        table = accuracies()[["params", "acc"]].rename(columns={"acc": name})
        with pytest.raises(InputError) as refused:
            llmscale.fit(table, "accuracy")
        assert str(refused.value.fix).endswith(f"perhaps --columns loss={name}")

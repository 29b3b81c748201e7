"""Plans for a loss in the unit of its table, and by a fit whose table may have changed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale.errors import InputError
from llmscale.explain.laws.chinchilla import Chinchilla

LAW = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283)


def runs() -> pd.DataFrame:
    sizes, tokens = np.geomspace(3e7, 3e9, 6), np.geomspace(1e9, 1e11, 6)
    N, D = (axis.ravel() for axis in np.meshgrid(sizes, tokens))
    return pd.DataFrame({"params": N, "tokens": D, "loss": LAW.loss(N, D)})


def codes(answer: Any) -> set[str]:
    return {note.code for note in answer.all_notes}


def test_a_loss_is_asked_for_in_what_its_table_gives(tmp_path: Path) -> None:
    table = runs()
    bare: Any = {"bootstrap": 0, "law": "chinchilla"}
    in_nats: Any = llmscale.plan(table, loss=2.5, **bare)
    for unit, given, asked, said in (
        ("perplexity", np.exp(table["loss"]), math.exp(2.5), "perplexity 12.1825 = 2.5 nats"),
        ("bits", table["loss"] / math.log(2), 2.5 / math.log(2), "bits 3.60674 = 2.5 nats"),
    ):
        other = table.assign(loss=given)
        found: Any = llmscale.plan(other, loss=asked, units={"loss": unit}, **bare)
        assert found.flops == pytest.approx(in_nats.flops, rel=1e-6)
        assert found.budget.said == said
        assert f"(in {unit}, converted to nats)" in str(found)
    scores = table.assign(acc=1 - table["loss"] / 10).drop(columns="loss")
    kept = tmp_path / "fit.json"
    taken: Any = {"columns": {"loss": "acc"}, "units": {"loss": "accuracy"}}
    llmscale.fit(scores, "chinchilla", bootstrap=0, keep=kept, **taken)
    share: Any = llmscale.plan(kept, loss=0.75)
    assert share.flops == pytest.approx(in_nats.flops, rel=1e-4)
    assert share.budget.said == "accuracy 0.75 = 0.25 in 1 - acc"
    assert share.to_json()["budget"]["flops"]["interval"] is None
    assert "intervals: none" in str(share)
    with pytest.raises(InputError, match="75 is no accuracy"):
        llmscale.plan(kept, loss=75)


def test_a_fit_given_by_its_file_says_that_its_table_has_changed(tmp_path: Path) -> None:
    table, kept = tmp_path / "runs.csv", tmp_path / "fit.json"
    runs().to_csv(table, index=False)
    where = "params > 4e7"
    llmscale.fit(table, "chinchilla", bootstrap=0, keep=kept, where=where)
    calls: list[Any] = [llmscale.plan, llmscale.advise, llmscale.predict]

    def told() -> list[bool]:
        return ["kept-table-changed" in codes(call(kept, flops=1e21)) for call in calls]

    assert told() == [False] * 3
    runs().iloc[:-1].to_csv(table, index=False)
    assert told() == [True] * 3
    table.unlink()
    assert told() == [False] * 3

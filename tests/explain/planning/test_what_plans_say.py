"""What a plan says in words: money as a budget, a disputed size, what smaller models take."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app, output
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.quantity import format_count

HOFFMANN = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283)


def fitted(most_tokens_per_param: float = np.inf) -> llmscale.Fit:
    """The law on runs of its own, of which none has more tokens a parameter than this."""
    sizes, texts = np.geomspace(3e7, 3e9, 8), np.geomspace(1e9, 1e11, 8)
    N, D = (axis.ravel() for axis in np.meshgrid(sizes, texts))
    table = pd.DataFrame({"params": N, "tokens": D, "loss": HOFFMANN.loss(N, D)})
    kept = table[table["tokens"] <= most_tokens_per_param * table["params"]]
    return llmscale.fit(kept, "chinchilla", bootstrap=0, diagnostics=False, holdout="none")


def test_money_buys_the_hours_that_it_pays_for() -> None:
    asked: dict[str, Any] = {"gpu": "h100", "price_per_hour": 2.5}
    fit = fitted()
    by_money = llmscale.plan(fit, money="50k", **asked)
    by_hours = llmscale.plan(fit, gpu_hours=20_000, **asked)
    assert by_money.flops == by_hours.flops
    assert by_money.cost is not None
    assert by_money.cost.money == pytest.approx(50_000)
    said = dict(by_money.said())["budget"]
    assert said.startswith("50,000 at 2.5 a GPU hour, 20,000 GPU hours of H100 SXM, ")
    assert llmscale.advise(fit, money=50_000, **asked).budget == said


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"money": 5e4}, "money= says nothing if the kind of GPU is not known"),
        ({"money": 5e4, "gpu": "h100"}, "nobody said what one costs"),
        ({"money": 5e4, "gpu": "h100", "price_per_hour": 0}, "0 money buys hours without end"),
        ({"money": -1, "gpu": "h100", "price_per_hour": 2}, "money is -1"),
        ({"money": 1, "flops": 1e20, "gpu": "h100", "price_per_hour": 2}, "are 2 budgets"),
    ],
)
@pytest.mark.parametrize("call", [llmscale.plan, llmscale.advise])
def test_money_is_refused_if_nobody_knows_what_it_buys(
    call: Callable[..., Any], asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(llmscale.InputError, match=problem):
        call(published=True, **asked)


def test_a_disputed_best_size_stands_under_the_headline(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, budgets = np.geomspace(3e7, 3e9, 9), np.geomspace(1e19, 1e21, 5)
    N, C = (axis.ravel() for axis in np.meshgrid(sizes, budgets))
    noise = np.exp(0.0005 * np.random.default_rng(0).standard_normal(len(N)))
    loss = HOFFMANN.loss(N, C / 6 / N) * noise
    table = pd.DataFrame({"params": N, "tokens": C / 6 / N, "loss": loss})
    calm = llmscale.fit(table, "chinchilla", bootstrap=50, diagnostics=False, holdout="none")
    # The same losses said of a law whose lowest points lie at three times the size.
    found, refits = calm.law.coefficients(), calm.replicates.copy()
    times = 3.0 ** (found["alpha"] + found["beta"])
    refits[:, list(found).index("A")] *= times
    off = replace(calm, law=Chinchilla(**{**found, "A": found["A"] * times}), replicates=refits)
    plan, advice = llmscale.plan(off, flops=1e20), llmscale.advise(off, flops=1e20)
    said = plan.forecast.optima[0].isoflop
    assert said is not None
    own = said.params
    more = off.law.loss(own, 1e20 / 6 / own) / plan.loss.value - 1
    assert f" the best size at {format_count(own)} [" in plan.disputed
    assert plan.disputed.endswith(f"by chinchilla its loss is {more:.1%} higher (optimum-disputed)")
    monkeypatch.delattr(output, "results")  # made at its first use, as wide as it is then
    for name, one in (("plan", plan), ("advise", advice)):
        assert str(one).splitlines()[1] == f"disputed: {plan.disputed}"
        assert plan.disputed in one._repr_html_()
        monkeypatch.setattr(llmscale, name, lambda *_, one=one, **__: one)
        shown = CliRunner().invoke(app, [name, "--flops", "1e20"], env={"COLUMNS": "300"}).stdout
        assert shown.splitlines()[1] == f"disputed: {plan.disputed}"
    monkeypatch.undo()
    # A model that has to fit into little memory is not the best one, whoever is right on that.
    assert not llmscale.advise(off, flops=1e20, serve_memory="50MB").disputed
    agreed = llmscale.plan(calm, flops=1e20)
    assert not agreed.disputed
    assert "disputed" not in str(agreed)


def test_smaller_models_say_if_no_run_had_as_many_tokens_a_parameter() -> None:
    far = dict(llmscale.plan(fitted(100), flops=1e22).said())["smaller"]
    near = dict(llmscale.plan(fitted(), flops=1e22).said())["smaller"]
    assert near.startswith("half the size reaches that loss with 1.")
    assert "x the compute, a quarter with " in near
    assert "tokens a parameter" not in near
    assert far.count(" tokens a parameter; runs have ") >= 1


def test_flops_of_training_are_named_if_there_is_serving_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(output, "results")  # made at its first use, as wide as it is then
    words = ["plan", "--published", "--flops", "1e22"]
    headings = []
    for more in ([], ["--inference-tokens", "1T"]):
        shown = CliRunner().invoke(app, [*words, *more], env={"COLUMNS": "200"}).stdout
        headings.append(next(line for line in shown.splitlines() if line.startswith("run ")))
        if more:
            (row,) = (line for line in shown.splitlines() if line.startswith("budget for both"))
            serving = llmscale.plan(published=True, flops=1e22, inference_tokens=1e12).serving
            assert serving is not None
            assert serving.in_budget is not None
            assert f"{6 * math.prod(serving.in_budget):.3g}" in row.split()
    assert ["C to train" in heading for heading in headings] == [False, True]


def test_many_tokens_a_parameter_are_written_without_a_power_of_ten() -> None:
    plan = llmscale.plan(published=True, flops=1e22)
    (quarter,) = (one for one in plan.choices if one.name == "1/4 N, same loss")
    assert 1000 < quarter.tokens_per_param < 10_000
    shown = CliRunner().invoke(app, ["plan", "--published", "--flops", "1e22"]).stdout
    for text in (shown, plan._repr_html_()):
        assert f"{float(f'{quarter.tokens_per_param:.3g}'):,.0f}" in text
        assert "e+03" not in text


def test_where_the_share_of_the_peak_was_published_is_said_in_short() -> None:
    plan = llmscale.plan(published=True, flops=1e22, gpu="h100")
    assert plan.hardware is not None
    said = dict(plan.said())["cost"]
    assert said.endswith("at 0.33 of the peak, torchtitan benchmarks/llama3_h100_202412 (2024)")
    assert plan.to_json()["hardware"]["mfu_source"].startswith("torchtitan")
    assert "8 to 128 H100" in plan.hardware.mfu_source

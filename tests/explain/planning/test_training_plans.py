"""Plans: against closed forms, published examples, and what `predict` says of the same budget."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app, output
from llmscale.errors import InputError
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.laws.data_constrained import DataConstrained
from llmscale.machine.gpus import GPUS, USUAL_MFU

HOFFMANN = Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283)
"""With which Sardana et al. 2024 made their examples."""
SIZES, TOKENS = np.geomspace(3e7, 3e9, 6), np.geomspace(1e9, 1e11, 6)


def runs(law: Chinchilla = HOFFMANN, noise: float = 0.0) -> pd.DataFrame:
    N, D = (axis.ravel() for axis in np.meshgrid(SIZES, TOKENS))
    loss = law.loss(N, D) * np.exp(noise * np.random.default_rng(0).standard_normal(len(N)))
    counts = dict.fromkeys(("params", "params_non_embedding", "params_total"), N)
    return pd.DataFrame({**counts, "tokens": D, "loss": loss})


def fitted(table: pd.DataFrame, bootstrap: int) -> llmscale.Fit:
    return llmscale.fit(table, "chinchilla", bootstrap=bootstrap, diagnostics=False, holdout="none")


@pytest.fixture(scope="module")
def exact() -> llmscale.Fit:
    """The law itself, without intervals."""
    return fitted(runs(), 0)


@pytest.fixture(scope="module")
def noisy() -> llmscale.Fit:
    return fitted(runs(noise=0.003), 200)


def flops_of_size(N: float, law: Chinchilla = HOFFMANN) -> float:
    """C of which N is the best size (Hoffmann et al. 2022, eq. 4)."""
    total = law.alpha + law.beta
    G = (law.alpha * law.A / (law.beta * law.B)) ** (1 / total)
    return float(6 * (N / G) ** (total / law.beta))


def codes(plan: Any) -> set[str]:
    return {note.code for note in plan.all_notes}


def test_the_best_size_is_that_of_the_closed_form(exact: llmscale.Fit) -> None:
    for N in (1e8, 1e10, 1e12):
        plan = llmscale.plan(exact, flops=flops_of_size(N))
        assert plan.params.value == pytest.approx(N, rel=1e-5)
        assert 6 * plan.params.value * plan.tokens.value == pytest.approx(plan.flops)
        assert plan.loss.value == pytest.approx(HOFFMANN.loss(N, plan.flops / 6 / N), rel=1e-6)


def test_a_plan_optimal_and_predict_agree_to_the_last_digit(noisy: llmscale.Fit) -> None:
    plan, told = llmscale.plan(noisy, flops="1e22"), llmscale.predict(noisy, flops="1e22")
    best = llmscale.optimal(noisy, "1e22")
    assert best.to_json() == told.to_json() == plan.to_json()["forecast"]
    (point,) = told.to_json()["predictions"]
    for name in ("params", "tokens"):
        estimate = getattr(plan, name)
        assert [estimate.value, [estimate.low, estimate.high]] == [
            point[name],
            point["intervals"][name],
        ]
    assert (plan.loss.value, plan.loss.low, plan.loss.high) == (
        point["loss"],
        point["low"],
        point["high"],
    )
    several = llmscale.optimal(noisy, ["1e21", "1e22"])
    assert several.params[1] == best.params
    in_compute = {"C": [1e18, 1e19, 1e20, 1e21], "loss": [3, 2.7, 2.5, 2.4]}
    with pytest.raises(InputError, match="which is no number"):
        llmscale.optimal(noisy, b"1e22")
    with pytest.raises(InputError, match="power is no law in N and D"):
        llmscale.optimal(in_compute, 1e22, law="power", variable="flops")


def test_a_loss_is_planned_by_the_inverse_of_the_forecast(noisy: llmscale.Fit) -> None:
    forward = llmscale.plan(noisy, flops=3e21)
    back = llmscale.plan(noisy, loss=forward.loss.value)
    assert back.flops == pytest.approx(3e21, rel=1e-9)
    for side, other in (("low", "low"), ("high", "high")):
        edge = llmscale.optimal(noisy, getattr(back.budget.flops, side))
        assert getattr(edge, other) == pytest.approx(forward.loss.value, rel=1e-9)
    assert back.budget.flops.low < back.flops < back.budget.flops.high
    assert back.shape is not None
    assert back.shape.choice.loss.value == pytest.approx(forward.loss.value, rel=1e-9)
    paid = llmscale.plan(noisy, loss=forward.loss.value, gpu="h100", gpus=1, price_per_hour=2)
    assert paid.shape is not None
    assert paid.shape.choice.cost is not None
    hours = paid.shape.choice.cost.gpu_hours
    said = dict(paid.said())
    assert said["cost"].startswith(f"{hours:,.0f} [")
    assert f"{2 * hours:,.0f} at 2 a GPU hour" in said["cost"]
    assert said["cost"].endswith(f"; of {paid.shape.shape.full_name}")
    assert " GiB on one GPU" in said["memory"]


def test_no_compute_reaches_a_loss_below_the_floor(noisy: llmscale.Fit) -> None:
    floor = noisy.law.coefficients()["E"]
    with pytest.raises(InputError, match=r"1\.6 is below the floor 1\.7\d* \[1\.\d+, 1\.\d+\]"):
        llmscale.plan(noisy, loss=1.6)
    with pytest.raises(InputError, match="by this law no compute reaches it") as refused:
        llmscale.plan(noisy, loss=floor - 0.01)
    first = re.findall(r"90% forecasts, widened .*, hold it from (\S+) FLOPs", str(refused.value))
    assert llmscale.optimal(noisy, first[0]).low == pytest.approx(floor - 0.01, rel=1e-3)
    near = llmscale.plan(noisy, loss=floor + 0.01)
    # So far out a run may have it with a millionth of the compute, where no end is looked for.
    assert near.to_json()["budget"]["flops"]["interval"] == ["any", "any"]
    assert (near.budget.flops.low, near.budget.flops.high) == (-math.inf, math.inf)
    assert "[any, any] FLOPs at the least" in dict(near.said())["budget"]
    assert "target-not-sure" in codes(near)
    assert "target-above-runs" in codes(llmscale.plan(noisy, loss=20))
    with pytest.raises(InputError, match="takes no training"):
        llmscale.plan(noisy, loss=1e5)


def test_the_basin_and_smaller_models_lie_where_they_are_said_to(exact: llmscale.Fit) -> None:
    plan = llmscale.plan(exact, flops=1e22, within="1%")
    N, D, loss = plan.params.value, plan.tokens.value, plan.loss.value
    for side in (plan.basin.smallest.value, plan.basin.largest.value):
        assert HOFFMANN.loss(N * side, D / side) == pytest.approx(1.01 * loss, rel=1e-6)
    assert plan.basin.smallest.value < 1 < plan.basin.largest.value
    for one in plan.smaller:
        assert HOFFMANN.loss(one.share * N, one.tokens) == pytest.approx(loss, rel=1e-6)
        assert one.compute.value == pytest.approx(one.share * one.tokens / D)
    half, quarter = (one.compute.value for one in plan.smaller)
    assert 1 < half < quarter
    # With 1B tokens of text a larger model costs nothing: it may be of any size.
    flat = dict(llmscale.plan(exact, flops=1e26, unique_tokens="1B").said())["flat"]
    assert " to more than 1,000x of the size" in flat
    assert "coverage" not in dict(plan.said())
    # A tenth of the size has A/N^alpha above all that the loss has above the floor.
    at = {one.name: one for one in plan.alternatives}
    assert at["twice the compute"].flops == pytest.approx(2e22)
    assert at["half the compute"].loss.value > loss > at["twice the compute"].loss.value


@pytest.mark.parametrize(
    ("size", "served", "smaller", "saved", "flops"),
    [(13e9, "2T", 7e9, 0.17, 1.7e22), (30e9, "10T", 13.6e9, 0.28, 2.46e23)],
)
def test_serving_gives_the_published_examples(
    exact: llmscale.Fit, size: float, served: str, smaller: float, saved: float, flops: float
) -> None:
    """Sardana et al.

    2024: figure 1, and their example of 30B.
    """
    plan = llmscale.plan(exact, flops=flops_of_size(size), inference_tokens=served)
    serving = plan.serving
    assert serving is not None
    assert serving.params.value == pytest.approx(smaller, rel=0.01)
    assert serving.saved.value == pytest.approx(saved, abs=0.006)
    both = serving.lifetime_flops * serving.saved.value / (1 - serving.saved.value)
    assert both == pytest.approx(flops, rel=0.01)
    N, D = serving.params.value, serving.tokens.value
    assert HOFFMANN.loss(N, D) == pytest.approx(plan.loss.value, rel=1e-6)
    if served == "2T":
        page = (Path(__file__).parents[3] / "docs" / "planning.md").read_text(encoding="utf-8")
        said = f"a {N / 1e9:.0f}B model takes {serving.saved.value:.0%} fewer FLOPs than the 13B"
        assert said in " ".join(page.split())


def test_serving_out_of_the_budget_spends_all_of_it_and_no_neighbour_is_better(
    exact: llmscale.Fit,
) -> None:
    plan = llmscale.plan(exact, flops=1e22, inference_tokens="1T")
    assert plan.serving is not None
    assert plan.serving.in_budget is not None
    N, D = plan.serving.in_budget
    assert pytest.approx(1e22) == 6 * N * D + 2 * N * 1e12
    for nearby in (0.97 * N, 1.03 * N):
        assert HOFFMANN.loss(nearby, (1e22 / nearby - 2e12) / 6) > HOFFMANN.loss(N, D)
    too_much = llmscale.plan(exact, flops=1e22, inference_tokens="1e22")
    assert too_much.serving is not None
    assert too_much.serving.in_budget is None
    assert "over-trained-beyond-runs" in codes(too_much)


def test_limited_text_is_planned_as_the_law_of_repeated_data_has_it() -> None:
    """The effective N' and D' that a plan puts into Chinchilla's law are those of Muennighoff et
    al.

    2023, whose law does so itself.
    """
    law = DataConstrained(1.869, 521.0, 1487.0, 0.3527, 0.3527, 15.39, 5.31)
    free = Chinchilla(E=1.869, A=521.0, B=1487.0, alpha=0.3527, beta=0.3527)
    fit = fitted(runs(free), 0)
    plan = llmscale.plan(fit, flops=9.3e21, unique_tokens="25B")
    N, D = plan.params.value, plan.tokens.value
    assert plan.loss.value == pytest.approx(law.loss(N, D, 25e9), rel=1e-6)
    for nearby in (0.97 * N, 1.03 * N):
        assert law.loss(nearby, 9.3e21 / 6 / nearby, 25e9) > law.loss(N, D, 25e9)
    # Their figure 1: 6.34B on 242B tokens, where Chinchilla's law says 8.67B on 178B.
    assert plan.repetition is not None
    assert pytest.approx(6.34e9, rel=0.1) == N
    assert plan.repetition.epochs == pytest.approx(9.7, rel=0.1)
    assert llmscale.optimal(fit, 9.3e21).params == pytest.approx(8.67e9, rel=0.05)
    assert {"repetition-published", "text-repeated"} <= set(codes(plan))
    cost = plan.loss.value - llmscale.optimal(fit, 9.3e21).loss
    assert plan.repetition.costs.value == pytest.approx(cost, rel=1e-6)
    endless = llmscale.plan(fit, flops=1e30, unique_tokens="25B")
    assert endless.loss.value == pytest.approx(plan.repetition.enough.least_loss.value, rel=1e-3)
    enough = llmscale.plan(fit, flops=plan.repetition.enough.flops, unique_tokens="25B")
    assert enough.loss.value == pytest.approx(1.005 * plan.repetition.enough.least_loss.value)
    with pytest.raises(InputError, match="the least that 25B unique tokens give"):
        llmscale.plan(fit, loss=1.9, unique_tokens="25B")


def test_text_that_is_enough_changes_nothing(noisy: llmscale.Fit) -> None:
    plan = llmscale.plan(noisy, flops=1e21, unique_tokens="1T")
    assert plan.forecast.to_json() == llmscale.predict(noisy, flops=1e21).to_json()
    assert plan.repetition is not None
    assert plan.repetition.epochs < 1
    assert "repeats none" in str(plan)
    assert not {"repetition-published", "text-repeated"} & set(codes(plan))


def test_a_table_of_repeated_text_is_planned_by_its_own_law() -> None:
    law = DataConstrained(1.869, 521.0, 1487.0, 0.3527, 0.3527, 8.0, 5.31)
    N, D, U = (axis.ravel() for axis in np.meshgrid(SIZES, TOKENS, [1e9, 1e10, 1e11]))
    U = np.minimum(U, D)
    table = pd.DataFrame({"params": N, "tokens": D, "unique_tokens": U, "loss": law.loss(N, D, U)})
    plan = llmscale.plan(table, flops=1e21, unique_tokens="2B", bootstrap=0, diagnostics=False)
    assert plan.forecast.fit is not None
    assert plan.forecast.fit.law.name == "data-constrained"
    assert plan.loss.value == pytest.approx(
        law.loss(plan.params.value, plan.tokens.value, 2e9), rel=1e-3
    )
    assert plan.repetition is not None
    assert not plan.repetition.published


def test_costs_are_those_of_a_published_run(exact: llmscale.Fit) -> None:
    """Llama 3.1 405B: 3.8e25 FLOPs, 30.84M hours of H100 at 38% to 43% MFU, 700 W (model card)."""
    plan = llmscale.plan(
        exact, flops=3.8e25, gpu="H100", mfu=0.38, gpus=16_000, price_per_hour=2, pue=1.1
    )
    assert plan.cost is not None
    assert plan.cost.gpu_hours == pytest.approx(30.84e6, rel=0.1)
    assert plan.cost.wall_seconds == pytest.approx(3600 * plan.cost.gpu_hours / 16_000)
    assert plan.cost.money == pytest.approx(2 * plan.cost.gpu_hours)
    assert plan.cost.kwh == pytest.approx(0.7 * 1.1 * plan.cost.gpu_hours)
    back = llmscale.plan(exact, gpu_hours=plan.cost.gpu_hours, gpu="h100", mfu=0.38)
    assert back.flops == pytest.approx(3.8e25)
    for asked, part in (("2.5", 2.5), ("0.5", 0.5), ("0.0025k", 2.5)):
        few = llmscale.plan(exact, gpu_hours=asked, gpu="h100")
        # 989.4 TFLOP/s, of which training reaches 33% (see the menu).
        assert few.flops == pytest.approx(part * 3600 * 989.4e12 * 0.33)
    hours = llmscale.plan(exact, gpus=8, hours=10.0, gpu="tpu-v5p")
    assert hours.cost is not None
    assert hours.cost.gpu_hours == pytest.approx(80)
    assert hours.cost.kwh is None


@pytest.mark.parametrize("count", ["params", "params_non_embedding", "params_total"])
def test_the_nearest_shape_is_counted_as_the_law_counts_and_keeps_to_the_budget(count: str) -> None:
    plan = llmscale.plan(
        runs(), flops=1e20, count=count, context=1024, law="chinchilla", bootstrap=0
    )
    real = plan.shape
    assert real is not None
    assert real.choice.params == getattr(real.shape, count)
    assert real.choice.params == pytest.approx(plan.params.value, rel=0.05)
    assert real.choice.tokens * real.shape.flops_per_token == pytest.approx(1e20)
    assert real.shape.context == 1024
    assert real.choice.loss.value > plan.loss.value
    assert llmscale.plan(runs(), flops=1e30, law="chinchilla", bootstrap=0).shape is None


def test_a_gpu_of_ones_own_is_planned_with(exact: llmscale.Fit, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class MyGPU:\n"
        "    name, source = 'Mine', 'its data sheet'\n"
        "    peak_flops, memory_bytes, memory_bytes_per_second = 1e15, 80e9, 2e12\n"
        "    power_watts = 500\n"
    )
    plan = llmscale.plan(exact, gpu_hours=100, gpu=f"{tmp_path}/mine.py:MyGPU")
    assert plan.flops == pytest.approx(100 * 3600 * 1e15 * 0.35)
    assert plan.hardware is not None
    assert "assumed" in plan.hardware.mfu_source
    assert plan.cost is not None
    assert plan.cost.kwh == pytest.approx(50)


def test_a_law_that_does_not_hold_far_from_the_best_says_so() -> None:
    folder = Path(__file__).parents[3] / "results" / "flagship"
    plan = llmscale.plan(folder, flops=1e16, law="anchored")
    assert "loss-rises-by-tokens" in codes(plan)
    assert plan.setting.vocab_size == 1024
    assert "assumed" not in str(plan.setting)
    assert "a quarter of it reaches that loss with 10,000 times the tokens" in str(plan)


def test_published_runs_give_the_published_model(shared: Path) -> None:
    """Hoffmann et al.

    2022: 70B on 1.4T tokens for 5.76e23 FLOPs.
    """
    plan = llmscale.plan(
        shared / "published" / "chinchilla_epoch.csv",
        flops=5.76e23,
        law="chinchilla",
        where="outlier == False",
    )
    assert plan.params.value == pytest.approx(70e9, rel=0.1)
    assert plan.tokens.value == pytest.approx(1.4e12, rel=0.1)
    assert plan.params.low < 70e9 < plan.params.high


OF_GPUS = "says nothing if the kind of GPU is not known"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "no budget is given"),
    ({"flops": 1e22, "loss": 2}, "flops= and loss= are given, which are 2 budgets"),
    ({"gpu_hours": 1, "gpus": 8, "hours": 2, "gpu": "h100"}, "2 budgets"),
    ({"gpu_hours": 100}, f"gpu_hours= {OF_GPUS}"),
    ({"flops": 1e22, "price_per_hour": 2}, f"price_per_hour= {OF_GPUS}"),
    ({"hours": 3, "gpu": "h100"}, "nobody said how many"),
    ({"flops": 1e22, "gpu": "h1000"}, "there is no GPU 'h1000'"),
    ({"flops": 1e22, "gpu": "h100", "mfu": 1.2}, "mfu is 1.2"),
    ({"flops": 1e22, "gpu": "h100", "price_per_hour": -1}, "price_per_hour is -1"),
    ({"flops": 1e22, "gpu": "h100", "pue": 0.5}, "pue is 0.5"),
    ({"flops": 1e22, "within": 0.5}, "within is 0.5"),
    ({"flops": 1e22, "within": "x%"}, "'x%' is no share"),
    ({"flops": [1e21, 1e22]}, "flops in the call is .1e.21, 1e.22."),
    ({"flops": 5}, "5 FLOPs train nothing: the smallest language models take 1e.09"),
    ({"flops": 1e-5}, "1e-05 FLOPs train nothing"),
    ({"flops": 1e37}, "1e.37, which is out of range"),
    ({"flops": 1e22, "inference_tokens": 0}, "inference_tokens is 0"),
    ({"flops": 1e22, "inference_tokens": 10}, "10 tokens are too few to serve in a model's life"),
    ({"flops": 1e22, "unique_tokens": -1}, "unique_tokens is -1"),
    ({"flops": 1e22, "unique_tokens": 5}, "5 unique tokens are too few: .* go over them"),
    ({"flops": 1e22, "output": "plan.txt"}, "its ending is 'txt'"),
]


@pytest.mark.parametrize(("asked", "problem"), WRONG)
def test_wrong_input_is_refused_in_a_sentence(
    exact: llmscale.Fit, asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        llmscale.plan(exact, **asked)
    assert caught.value.fix
    assert "\n" not in caught.value.problem


def test_a_plan_takes_a_law_in_size_and_tokens() -> None:
    one = {"N": [1e6, 2e6, 4e6, 8e6, 16e6], "loss": [4.3, 3.8, 3.5, 3.2, 3.0]}
    with pytest.raises(InputError, match="power-floor predicts from params"):
        llmscale.plan(llmscale.fit(one, "power-floor", bootstrap=0), flops=1e20)
    with pytest.raises(InputError, match="power-floor predicts from params"):
        llmscale.plan(llmscale.fit(one, "power-floor", bootstrap=0), loss=3.0)
    with pytest.raises(InputError, match="takes a law in N and D"):
        llmscale.plan(one, flops=1e20)


def test_the_command_says_what_the_call_gives_and_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(output, "results")  # made at its first use, as wide as it is then
    kept, figure = tmp_path / "fit.json", tmp_path / "plan.png"
    llmscale.fit(runs(noise=0.003), "chinchilla", bootstrap=50, keep=kept)
    asked = ["plan", str(kept), "--gpu-hours", "1k", "--gpu", "h200"]
    asked += ["--inference-tokens", "1T", "--level", "0.8"]
    asked += ["--gpus", "8", "--price-per-hour", "2"]
    shown = CliRunner().invoke(app, [*asked, "--out", str(figure)], env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    assert figure.read_bytes()[:4] == b"\x89PNG"
    lines = shown.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if line.startswith(("run", "best", "nearest")))
    heading = next(line for line in lines if line.startswith("run"))
    assert "interval" in heading.split()
    assert "energy" not in heading
    for word in ("GPU hours of H200 SXM", "half the size", "1T tokens to serve", "80%", "figure:"):
        assert word in shown.stdout, word
    assert "\ntwice the compute " in shown.stdout
    assert "all hours, money and energy are of training" in shown.stdout
    payload = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    called = llmscale.plan(
        kept, gpu_hours=1000, gpu="h200", level=0.8, inference_tokens="1T", gpus=8, price_per_hour=2
    )
    assert payload == called.to_json()
    assert f"read: {payload['read']}" in str(called).splitlines()
    assert payload["setting"] == called.setting.to_json()
    assert payload["formula"] in str(called)
    assert called.verdict.endswith(", inside the runs")
    assert called._repr_html_().count("<tr") == 1 + len(called.choices)


def test_the_page_has_every_gpu_as_the_menu_has_it() -> None:
    page = (Path(__file__).parents[3] / "docs" / "planning.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    rows = rows[1:]  # under their heading
    assert [row[0].strip("`") for row in rows] == list(GPUS.names)
    for name, peak, memory, bandwidth, watts, mfu, source, mfu_source in rows:
        gpu = GPUS.find(name.strip("`"))
        figures = (gpu.peak_flops / 1e12, gpu.memory_bytes / 1e9, gpu.memory_bytes_per_second / 1e9)
        told = [
            float(one.replace(",", "")) for one in (peak, memory.removesuffix(" GB"), bandwidth)
        ]
        assert told == pytest.approx(figures)
        assert watts == ("not published" if gpu.power_watts is None else f"{gpu.power_watts:g}")
        assert float(mfu) == gpu.mfu
        assert source == gpu.source
        # Of every other GPU it says where its MFU was published.
        assert gpu.mfu_source.startswith(mfu_source)
        assert (gpu.mfu == USUAL_MFU) == (mfu_source == "assumed")
        assert "assumed" in mfu_source or re.search(r"\b20\d\d\b", mfu_source)
        assert re.search(r"\b20\d\d\b", source)


def test_the_nearest_shape_says_how_far_it_is_from_the_best_size(exact: llmscale.Fit) -> None:
    for flops, is_far in ((1e22, False), (1e14, True)):
        plan = llmscale.plan(exact, flops=flops, vocab_size=50_000)
        assert str(plan.setting) == "llama, vocabulary 50,000, assumed context 2,048"
        assert plan.shape is not None
        own, distance = plan.shape.choice.params, plan.shape.distance
        assert distance.times == pytest.approx(own / plan.params.value)
        cost = HOFFMANN.loss(own, plan.flops / (6 * own)) - plan.loss.value
        assert distance.costs.value == pytest.approx(cost)
        assert ("than the best size, which costs" in dict(plan.said())["shape"]) == is_far
        assert plan.to_json()["shape"]["times_best_size"] == distance.times
        assert (abs(distance.times - 1) > 0.05) == is_far


@pytest.mark.parametrize(
    ("law", "served", "ended"),
    [
        (HOFFMANN, "1T", ""),
        (HOFFMANN, "1e20", "tokens"),
        # Of flat exponents a hundredth of the size reaches the loss with 1,500 times the tokens.
        (Chinchilla(E=1.0, A=4.0, B=10.0, alpha=0.05, beta=0.1), "1e20", "size"),
    ],
)
def test_an_answer_where_a_search_ended_says_so(law: Chinchilla, served: str, ended: str) -> None:
    plan = llmscale.plan(fitted(runs(law), 0), flops=1e22, inference_tokens=served)
    assert plan.serving is not None
    assert plan.serving.ended == ended
    assert ("was looked at, and one may save more" in dict(plan.said())["serving"]) == bool(ended)
    assert plan.to_json()["serving"]["search_ended_at"] == (ended or None)


def test_what_needs_no_fit_is_refused_before_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_fit(*_: Any, **__: Any) -> Any:
        pytest.fail("a fit was made")

    for module in ("plan", "advise"):
        monkeypatch.setattr(f"llmscale.explain.api.{module}.fit_of", no_fit)
    pipe, table = tmp_path / "plan.png", runs()
    os.mkfifo(pipe)
    table = table.assign(score=100 - 10 * table["loss"])
    unrounded = tmp_path / "runs.csv"
    table.to_csv(unrounded)
    in_percent: dict[str, Any] = {"columns": {"loss": "score"}, "units": {"loss": "percent"}}
    served: dict[str, Any] = {"flops": 1e21, "serve_on": "l4"}
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (llmscale.plan, {"flops": 1e21, "output": pipe}, "is a pipe or a device"),
        (llmscale.plan, {"flops": 1e21, "law": "power-floor"}, "power-floor predicts from params"),
        (llmscale.plan, {"gpu_hours": 1e30, "gpu": "h100"}, "H100 SXM are 1.18e.48 FLOPs, more th"),
        (llmscale.plan, {"loss": 101, **in_percent}, "101 is no percent"),
        (llmscale.advise, {"flops": 1e21, "law": "moe"}, "moe predicts from params_total"),
        (llmscale.advise, {**served, "heads_per_kv": 1000}, "no built-in shape has heads"),
        (llmscale.advise, {**served, "rounded": unrounded}, "does not say what rounding costs"),
        (llmscale.advise, {**served, "rounded": table}, r"^rounded in the call is .{83}\n"),
        (llmscale.advise, {**served, "rounded": tmp_path / "no.csv"}, "there is no file"),
    ]
    for call, asked, problem in wrong:
        with pytest.raises(InputError, match=problem):
            call(table, **asked)


OPTIONS: list[dict[str, Any]] = [
    {"best_of": "params,tokens", "where": "params > 1e8", "law": "chinchilla", "level": 0.8},
    {"columns": {"params": "size", "tokens": "text"}, "law": "anchored"},
    {"where": "params > 2e8", "count": "params_total", "level": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_all_calls_agree_to_the_last_digit_by_every_option_of_a_table(
    options: dict[str, Any],
) -> None:
    table = runs(noise=0.003)
    if "best_of" in options:
        table = pd.concat([table, table.assign(loss=1.01 * table["loss"])], ignore_index=True)
    table = table.assign(size=1.5 * table["params"], text=2.0 * table["tokens"])
    asked = {"bootstrap": 20, "diagnostics": False, **options}
    told = llmscale.predict(table, flops=1e22, **asked)
    best = llmscale.optimal(table, 1e22, **asked)
    plan = llmscale.plan(table, flops=1e22, **asked)
    advice = llmscale.advise(table, flops=1e22, **asked)
    forecast = told.to_json()
    assert forecast == best.to_json() == plan.to_json()["forecast"]
    assert forecast == advice.to_json()["compute_optimal"]
    (point,) = forecast["predictions"]
    assert plan.params.to_json() == {
        "value": point["params"],
        "interval": point["intervals"]["params"],
    }
    assert plan.loss.to_json() == {
        "value": point["loss"],
        "interval": [point["low"], point["high"]],
    }
    assert plan.level == advice.level == options.get("level", 0.9)
    assert plan.shape is not None
    assert advice.advised.choice.loss == plan.shape.choice.loss
    alone = llmscale.predict(
        table, params=plan.shape.choice.params, tokens=plan.shape.choice.tokens, **asked
    )
    if "law" in options:
        assert alone.loss == plan.shape.choice.loss.value

"""Advice within limits: the arithmetic of serving, which model it names, and what it warns of."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale.explain.fit.published import published_fit
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.planning.deployment import Deployment, Load, Server
from llmscale.notes.kind import Weight
from llmscale.quantity import format_count
from llmscale.runs.shape import Shape, ladder, shape_for

TRUTH = Chinchilla(E=1.8, A=420.0, B=2100.0, alpha=0.36, beta=0.37)
LLAMA_2_7B = Shape(32, 4096, 32, 11008, 32000, 4096)
A100 = Server("A100", 80e9, 2039e9, 312e12)
SETTING: dict[str, Any] = {"vocab_size": 32_000, "context": 2048}


@cache
def fitted(runs: int = 6) -> llmscale.Fit:
    """Chinchilla's law on runs of its own, with a score that follows the loss."""
    sizes, budgets = np.geomspace(1e7, 3e9, runs), np.geomspace(3e8, 3e11, runs)
    N, D = (axis.ravel() for axis in np.meshgrid(sizes, budgets))
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(len(N)))
    loss = TRUTH.loss(N, D) * noise
    table = pd.DataFrame({"params": N, "tokens": D, "loss": loss, "task_acc": score(loss)})
    return llmscale.fit(table, law="chinchilla", bootstrap=100)


def score(loss: Any) -> Any:
    """A sigmoid in the loss, from chance to a ceiling."""
    return 0.25 + 0.6 / (1 + np.exp(6 * (loss - 2.6)))


def advised(**settings: Any) -> Any:
    return llmscale.advise(fitted(), **{"flops": 1e21, **SETTING, **settings})


def codes(advice: Any) -> set[str]:
    return {note.code for note in advice.all_notes}


@pytest.mark.parametrize(("width", "measured"), [(2.0, 104.9), (1.0, 155.58)])
def test_decoding_is_as_fast_as_it_was_measured(width: float, measured: float) -> None:
    # gpt-fast, README: Llama 2 7B on an A100 with 80 GB, one stream, a prompt of 5 tokens.
    load = Load(context=200, bytes_per_weight=width)
    served = Deployment(A100, load).served(LLAMA_2_7B)
    assert served.tokens_per_second == pytest.approx(measured, rel=0.04)
    if width == 2.0:
        read = 1397.31e9 / measured
        assert load.weight_bytes_read(LLAMA_2_7B) == pytest.approx(read, rel=0.01)


def test_keys_and_values_take_the_bytes_that_are_known_of_llama_2() -> None:
    # 7B: 2 x 32 layers x 4096 channels x 2 bytes = 512 KiB a token. 70B: 8 of 64 heads have keys.
    of_7B = Load(context=4096, streams=3).cache_bytes(LLAMA_2_7B)
    assert of_7B == 3 * 4096 * 512 * 1024
    llama_2_70B = Shape(80, 8192, 64, 28672, 32000, 4096)
    assert Load(context=1, heads_per_kv=8).cache_bytes(llama_2_70B) == 320 * 1024


def test_a_step_takes_as_long_as_its_memory_or_its_arithmetic() -> None:
    server = Server("it", 80e9, 1e12, 1e14, bandwidth_share=1.0)
    few, many = (Load(context=16, streams=count) for count in (1, 4096))
    reading = (2 * 6_607_343_616 + few.cache_bytes(LLAMA_2_7B)) / 1e12
    assert server.step_seconds(LLAMA_2_7B, few) == pytest.approx(reading)
    # 2 FLOPs a weight, and 4 x 32 layers x 16 tokens x 4096 channels of attention.
    arithmetic = 4096 * (2 * 6_607_343_616 + 4 * 32 * 16 * 4096) / 1e14
    assert server.step_seconds(LLAMA_2_7B, many) == pytest.approx(arithmetic)


def test_without_limits_advice_is_the_nearest_shape_of_the_plan() -> None:
    advice, plan = advised(), llmscale.plan(fitted(), flops=1e21, **SETTING)
    assert plan.shape is not None
    assert advice.advised.model.shape == plan.shape.shape
    assert advice.advised.choice.tokens == plan.shape.choice.tokens
    assert advice.advised.choice.loss == plan.shape.choice.loss
    assert advice.best.loss == llmscale.predict(fitted(), flops=1e21).loss
    assert [one.name for one in advice.binding] == ["compute"]


LIMITS: list[dict[str, Any]] = [
    {"serve_memory": "1.5GB", "streams": 4},
    {"serve_on": "l4", "tokens_per_second": 150, "bytes_per_weight": 1},
    {"serve_memory": "1.5GB", "serve_bandwidth": "20GB/s", "tokens_per_second": 9},
]


@pytest.mark.parametrize("limits", LIMITS)
def test_no_shape_within_the_limits_has_a_lower_loss(limits: dict[str, Any]) -> None:
    advice = advised(**limits)
    model, law = advice.advised.model, fitted().law
    deployment = model.limits.deployment
    shapes = [shape for shape in ladder(**SETTING) if deployment.is_met(shape)]
    losses = [law.loss(shape.params, 1e21 / shape.flops_per_token) for shape in shapes]
    assert deployment.is_met(model.shape)
    assert law.loss(model.params, model.tokens) == pytest.approx(min(losses), rel=1e-9)
    assert model.tokens * model.shape.flops_per_token == pytest.approx(1e21)
    truth = TRUTH.loss(model.params, model.tokens)
    assert advice.advised.choice.loss.low < truth < advice.advised.choice.loss.high
    (serving,) = (one for one in advice.binding if one.name != "compute")
    others = {one.name: one for one in advice.alternatives}
    free = others.get(f"no {serving.name} limit", others["compute-optimal"])
    assert serving.costs.value == pytest.approx(-free.above.value)
    assert serving.costs.low < serving.costs.value < serving.costs.high


def test_heads_that_share_keys_divide_into_groups() -> None:
    for group in (2, 4, 7):
        advice = advised(serve_memory="1.5GB", heads_per_kv=group, inference_tokens="1T")
        assert all(one.model.shape.n_head % group == 0 for one in advice.options)
        model = advice.advised.model
        kept = model.shape.n_head // group * model.shape.d_head
        cache = 2 * model.shape.n_layer * kept * 2 * SETTING["context"]
        assert advice.advised.served.cache_bytes == cache
        assert f"{group} heads to one of keys" in dict(advice.said())["shape"]
        assert advice.distance is None  # it is as large as its memory allows
    far, near = advised(heads_per_kv=13, serve_memory="80GB"), advised()
    assert abs(far.distance.times - 1) > 0.05
    assert "times the best size, which costs 0.013 [" in dict(far.said())["shape"]
    assert "the best size" not in dict(near.said())["shape"]
    assert near.to_json()["distance"]["times_best_size"] == near.distance.times
    with pytest.raises(llmscale.InputError, match="each 1,000 share their keys and values: the la"):
        advised(serve_memory="1.5GB", heads_per_kv=1000)


def test_a_limit_that_costs_no_loss_does_not_bind() -> None:
    # The largest shape that fits is the nearest to the best size, which is a little larger.
    advice = llmscale.advise(published=True, flops=1e22, serve_on="l4", heads_per_kv=7)
    best = llmscale.advise(published=True, flops=1e22, serve_memory="80GB", heads_per_kv=7)
    assert advice.advised.model.shape == best.advised.model.shape
    (memory,) = (one for one in advice.limits if one.name == "memory")
    assert memory.allows.endswith(f"N up to {format_count(advice.advised.model.params)}")
    assert [one.name for one in advice.binding] == ["compute"]
    for limits in (*LIMITS, {"unique_tokens": "19B"}, {"unique_tokens": "4B"}):
        assert all(one.costs.value >= 1e-4 for one in advised(**limits).binding)


def test_two_limits_that_hold_a_size_together_bind_together() -> None:
    memory = {"serve_memory": "1.5GB", "serve_bandwidth": "20GB/s", "streams": 4}
    held = advised(**memory)
    speed = held.advised.served.tokens_per_second
    both = advised(**memory, tokens_per_second=speed)
    assert both.advised.model.shape == held.advised.model.shape
    assert [one.name for one in both.binding] == ["compute", "memory", "speed"]
    alone = next(one for one in held.limits if one.name == "memory").costs
    assert {one.costs for one in both.binding if one.name != "compute"} == {alone}
    assert f"; without both the loss would be {alone.value:.3g} [" in dict(both.said())["speed"]


def test_neighbours_on_the_ladder_have_names_of_their_own() -> None:
    advice = llmscale.advise(published=True, flops=1e22, serve_on="l4", heads_per_kv=7)
    shapes = {one.model.shape for one in advice.options}
    assert len({one.name for one in shapes}) < len({one.full_name for one in shapes})
    for one in advice.options:
        own = one.model.shape
        assert shape_for(own.full_name, vocab_size=32_000, context=2048) == own
        assert own.full_name in str(advice)


def test_fewer_bytes_are_never_slower_nor_worse() -> None:
    widths = (4.0, 2.0, 1.99, 1.5, 1.01, 1.0, 0.99, 0.7, 0.625, 0.6, 0.5, 0.125)
    seconds = [A100.reading_seconds(LLAMA_2_7B, Load(1, bytes_per_weight=one)) for one in widths]
    assert seconds == sorted(seconds, reverse=True)
    losses = [
        llmscale.advise(
            published=True, flops=1e22, serve_on="l4", tokens_per_second=20, bytes_per_weight=one
        ).advised.choice.loss.value
        for one in (2, 1.99, 1, 0.6)
    ]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("width", "row"),
    [(4, "16-bit"), (2, "8-bit"), (1.125, "4-bit"), (1, "4-bit"), (0.6, None), (0.5, None)],
)
def test_rows_of_fewer_bits_are_of_formats_that_exist(width: float, row: str | None) -> None:
    advice = advised(serve_memory="500MB", bytes_per_weight=width)
    assert "memory" in [one.name for one in advice.binding]
    found = [one.name for one in advice.alternatives if one.name.endswith("-bit weights")]
    assert found == ([f"{row} weights"] if row else [])


def test_a_limit_that_every_shape_meets_says_so() -> None:
    wide, narrow = (dict(advised(serve_memory=size).said())["memory"] for size in ("9000TB", "9GB"))
    largest = ladder(**SETTING)[-1].params
    assert wide.endswith(
        f"N up to {format_count(largest)}, the largest built-in shape; does not bind"
    )
    assert "largest built-in" not in narrow


def test_half_the_bytes_a_weight_allow_a_larger_model() -> None:
    advice = advised(serve_memory="2GB")
    rounded = next(one for one in advice.alternatives if one.name == "8-bit weights")
    assert 1.5 < rounded.model.params / advice.advised.model.params < 2.1
    assert rounded.above.value < 0
    assert rounded.served.memory_bytes <= 0.9 * 2e9


def test_what_rounding_cost_is_told_of_the_bits_that_are_served(repository: Path) -> None:
    table = repository / "results" / "quantized"
    advice = advised(serve_memory="2GB", bytes_per_weight=1, rounded=table)
    runs = pd.read_parquet(table / "runs.parquet").set_index(["parent", "bits"])["loss"].unstack()
    for bits in (8, 4):
        rise = runs[bits] - runs[16]
        told = advice.rounding.rises[bits]
        assert told.value == pytest.approx(rise.mean())
        # Student's t of 12 models at 90%: 1.796.
        half = 1.796 * rise.std() / len(rise) ** 0.5
        assert (told.low, told.high) == pytest.approx(
            (rise.mean() - half, rise.mean() + half), rel=0.01
        )
    assert "4 bits cost 0.0099" in dict(advice.said())["rounding"]
    assert "rounding-not-counted" not in codes(advice)
    blind = advised(serve_memory="2GB", bytes_per_weight=1)
    row, plain = (
        next(one for one in each.alternatives if one.name == "4-bit weights")
        for each in (advice, blind)
    )
    assert "in the row of 4-bit weights" in dict(advice.said())["rounding"]
    more = (runs[4] - runs[8]).mean()
    assert row.above.value - plain.above.value == pytest.approx(more)
    assert row.choice.loss.value - plain.choice.loss.value == pytest.approx(more)
    assert row.choice.loss.high - row.choice.loss.low > plain.choice.loss.high - (
        plain.choice.loss.low
    )
    with pytest.raises(llmscale.InputError, match="it has no column bits"):
        advised(serve_memory="2GB", rounded=repository / "results" / "flagship")


def test_text_that_is_too_short_is_repeated_at_a_price() -> None:
    advice, calm = advised(unique_tokens="4B"), advised(unique_tokens="1T")
    plan: Any = llmscale.plan(fitted(), flops=1e21, unique_tokens="4B", **SETTING)
    assert advice.advised.choice.loss == plan.shape.choice.loss
    (text,) = (one for one in advice.limits if one.name == "text")
    assert text.binds
    assert text.costs.value > 0
    assert "; on as much new text the loss would be 0." in dict(advice.said())["text"]
    assert advice.advised.epochs == pytest.approx(advice.advised.model.tokens / 4e9)
    assert not next(one for one in calm.limits if one.name == "text").binds
    assert "text-repeated" in codes(advice)
    assert "text-repeated" not in codes(calm)
    assert "tokens of new text are best for 1e+21" in dict(advice.said())["best size"]
    assert "new text" not in dict(calm.said())["best size"]


def test_compute_does_not_bind_if_the_text_is_used_up() -> None:
    advice, law = advised(unique_tokens="100M"), fitted().law
    plan: Any = llmscale.plan(fitted(), flops=1e21, unique_tokens="100M", **SETTING)
    assert [one.name for one in advice.binding] == ["text"]
    assert dict(advice.said())["compute"] == "1e+21 FLOPs; does not bind"
    enough = dict(advice.said())["enough"]
    assert dict(plan.said())["text"].endswith(enough)
    row = next(one for one in advice.alternatives if one.name == "enough compute")
    assert row.model.flops == pytest.approx(plan.repetition.enough.flops)
    assert row.above.value < 0.011 * advice.advised.choice.loss.value
    # A size that may not grow ends it, too: L(N, D) falls to E + A / N^alpha.
    held = advised(serve_memory="10MB")
    assert [one.name for one in held.binding] == ["memory"]
    floor = law.loss(held.advised.model.params, 1e30)
    assert held.enough.least_loss.value == pytest.approx(floor)
    at_enough = law.loss(held.advised.model.params, held.enough.tokens)
    assert at_enough == pytest.approx(1.005 * floor)


def test_runs_on_repeated_text_are_as_far_beyond_the_table_as_they_are_themselves() -> None:
    advice = advised(unique_tokens="100M", flops=1e23)
    model = advice.advised.model
    # The largest run has 3e9 parameters and 3e11 tokens.
    beyond = max(model.tokens / 3e11, model.params * model.tokens / 9e20)
    assert np.exp(advice.forecast.horizon) == pytest.approx(beyond)
    assert "inside the runs" not in advice.verdict
    plan: Any = llmscale.plan(fitted(), flops=1e23, unique_tokens="100M", **SETTING)
    assert "extrapolates-far" in codes(plan) & codes(advice)
    near = llmscale.plan(fitted(), flops=1e20, unique_tokens="100M", **SETTING).loss
    assert plan.loss.high - plan.loss.low > 2 * (near.high - near.low)


def test_the_score_of_a_task_is_forecast_for_every_model() -> None:
    advice = advised(task="task_acc", serve_memory="1GB")
    assert advice.to_json()["advised"]["served"]["tokens_per_second"] is None  # no bandwidth given
    for one in advice.options:
        truth = score(TRUTH.loss(one.model.params, one.model.tokens))
        assert one.score.value == pytest.approx(truth, abs=0.02)
        assert one.score.low < truth < one.score.high
    assert "task_acc 0." in advice.verdict


def test_a_life_of_serving_takes_fewer_flops_at_an_equal_loss() -> None:
    advice = advised(inference_tokens="1T")
    plan: Any = llmscale.plan(fitted(), flops=1e21, inference_tokens="1T", **SETTING)
    life, law = advice.lifetime, fitted().law
    other, own = life.option.model, advice.advised.model
    assert law.loss(other.params, other.tokens) == pytest.approx(law.loss(own.params, own.tokens))
    assert other.params == pytest.approx(plan.serving.params.value, rel=0.1)
    assert life.saves == pytest.approx(plan.serving.saved.value, abs=0.02)
    total = [model.shape.flops_per_token * (model.tokens + 1e12 / 3) for model in (other, own)]
    assert life.saves == pytest.approx(1 - total[0] / total[1])


def test_the_published_law_puts_chinchilla_where_it_is() -> None:
    best = llmscale.predict(published_fit(), flops=5.76e23)
    assert best.params == pytest.approx(70e9, rel=0.1)
    assert best.tokens == pytest.approx(1.4e12, rel=0.1)
    advice = llmscale.advise(published=True, flops=5.76e23)
    assert advice.advised.model.params == pytest.approx(70e9, rel=0.1)
    assert np.isnan(advice.advised.choice.loss.low)
    assert "published-law" in codes(advice)
    assert "published-law" not in codes(advised())


def test_standard_errors_one_by_one_would_leave_any_best_size_open() -> None:
    # Besiroglu et al. 2024, table 1: of A, B, alpha and beta.
    errors, rng = (124.58, 1293.23, 0.02, 0.02), np.random.default_rng(0)
    law = published_fit().law.coefficients()
    A, B, alpha, beta = (
        rng.normal(law[name], error, 20_000)
        for name, error in zip(("A", "B", "alpha", "beta"), errors, strict=True)
    )
    known = (A > 0) & (B > 0)
    G = (alpha * A / (beta * B))[known] ** (1 / (alpha + beta)[known])
    N = G * (1e22 / 6) ** (beta / (alpha + beta))[known]
    low, high = np.quantile(N, [0.05, 0.95])
    assert low < 1.4e9
    assert high > 1e11


@pytest.mark.parametrize(
    ("code", "raised", "calm"),
    [
        ("rounding-not-counted", {"serve_on": "l4", "bytes_per_weight": 1}, {"serve_on": "l4"}),
        ("served-beyond-context", {"serve_on": "l4", "serve_context": 4096}, {"serve_on": "l4"}),
        ("long-context", {"context": 1_000_000}, {}),
        ("over-trained-beyond-runs", {"serve_memory": "100MB"}, {"serve_memory": "1GB"}),
    ],
)
def test_advice_warns_of_what_does_not_hold(
    code: str, raised: dict[str, Any], calm: dict[str, Any]
) -> None:
    assert code in codes(advised(**raised))
    assert code not in codes(advised(**calm))


def test_a_run_to_serve_that_no_run_comes_near_is_warned_of() -> None:
    most = 3e11 / 1e7  # tokens a parameter, of the table
    runs = fitted().runs
    assert runs is not None
    narrow = runs.frame.query("params < 1e9 and tokens < 1e10 and tokens < 50 * params")
    fit = llmscale.fit(narrow, law="chinchilla", bootstrap=0)
    advice = llmscale.advise(fit, flops=1e21, inference_tokens="10T", **SETTING)
    assert advice.lifetime is not None
    own, ratio = advice.advised, advice.lifetime.option.choice.tokens_per_param
    assert own.choice.tokens_per_param < 75 < ratio < most
    (note,) = (one for one in advice.all_notes if one.code == "over-trained-beyond-runs")
    assert str(note).startswith("the run 'to serve 10T' has ")
    assert note.code in codes(llmscale.plan(fit, flops=1e21, inference_tokens="10T"))
    assert note.code not in codes(llmscale.advise(fit, flops=1e21, **SETTING))


def test_tokens_a_parameter_that_no_model_ever_had_are_called_so() -> None:
    asked: dict[str, Any] = {"published": True, "flops": 1e22, "serve_on": "l4"}
    far = llmscale.advise(**asked, tokens_per_second=100_000)
    assert far.advised.choice.tokens_per_param > 1e9
    assert far.verdict.endswith("; no model was ever trained on as many a parameter")
    (note,) = (one for one in far.all_notes if one.code == "over-trained-beyond-runs")
    assert note.weight == Weight.WRONG
    near = llmscale.advise(**asked, tokens_per_second=20)
    assert "no model was ever" not in near.verdict


def test_bytes_without_a_unit_are_no_machine() -> None:
    for name, value, meant in (
        ("serve_bandwidth", 300, "300GB/s"),
        ("serve_memory", 24, "24GB"),
    ):
        with pytest.raises(llmscale.InputError, match="less than any machine has") as caught:
            advised(**{name: value})
        assert meant in str(caught.value.fix)


def test_a_fit_without_its_runs_warns_by_their_ranges() -> None:
    # Of Hoffmann et al. 2022: no run has more than 318B tokens, or fewer than 57M parameters.
    most = 1.5 * 318e9 / 57e6
    for memory, flops in (("100MB", 1e22), ("100MB", 1e19)):
        advice = llmscale.advise(published=True, flops=flops, serve_memory=memory)
        beyond = advice.advised.choice.tokens_per_param > most
        assert ("over-trained-beyond-runs" in codes(advice)) == beyond
        assert beyond == (flops == 1e22)

"""Every slider of the page of `explore` from end to end, and at random: what the page says there is
what `plan` says, and it says something."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browser import Browser, browser
from pages import grid

import llmscale
from llmscale.explain.api.fitted import Asked
from llmscale.explain.api.plan import judge_of
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.laws.data_constrained import DataConstrained
from llmscale.explain.planning.said import cost_said

_LAWS = ("chinchilla", "anchored", "data-constrained")
_NO_NUMBER = ("NaN", "undefined", "Infinity", "null", "[object")
_TROUBLE = {"Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def fit_by(law: str) -> llmscale.Fit:
    if law != "data-constrained":
        return llmscale.fit(grid(), law, bootstrap=20, diagnostics=False)
    runs = DataConstrained.example_runs()
    made = DataConstrained(*DataConstrained.published)
    noise = np.exp(0.004 * np.random.default_rng(0).standard_normal(len(runs["params"])))
    loss = made.loss(*(runs[name] for name in DataConstrained.inputs)) * noise
    return llmscale.fit({**runs, "loss": loss}, law, bootstrap=20, diagnostics=False)


@pytest.fixture(scope="module", params=_LAWS)
def fit(request: pytest.FixtureRequest) -> llmscale.Fit:
    return fit_by(request.param)


@pytest.fixture(scope="module")
def page(fit: llmscale.Fit, tmp_path_factory: pytest.TempPathFactory) -> llmscale.Page:
    return llmscale.explore(fit, output=tmp_path_factory.mktemp("sliders") / "page.html")


def opened(tab: Browser, page: llmscale.Page, state: str = "") -> None:
    assert page.path is not None
    tab.open(page.path.resolve().as_uri() + f"#{state}")


def check_said(tab: Browser) -> None:
    """Nothing on the page is no number, and the browser has nothing to complain of."""
    drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    tab.value(f"{drawn}.then(() => null)")
    body = tab.value(
        "document.querySelector('main').outerHTML + document.querySelector('#sentence').outerHTML"
    )
    found = [word for word in _NO_NUMBER if word in body]
    assert not found, (found, tab.value("location.hash"))
    assert not [event for event in tab.events if event.get("method") in _TROUBLE]


def test_every_slider_goes_to_both_its_ends_and_something_follows(
    tab: Browser, page: llmscale.Page
) -> None:
    opened(tab, page)
    sliders = tab.value("Array.from(document.querySelectorAll('[type=range]'), one => one.id)")
    assert len(sliders) == 9
    for slider in sliders:
        said = []
        for key in ("Home", "End"):
            tab.value(f"document.getElementById('{slider}').focus()")
            tab.key(key)
            check_said(tab)
            said.append(tab.text("#sentence") + tab.text("#plan"))
        assert said[0] != said[1], slider


def states(fit: llmscale.Fit, ends: Any, count: int) -> list[dict[str, Any]]:
    """States of the sliders at random."""
    rng = np.random.default_rng(1)

    def any_of(low: float, high: float) -> float:
        return float(f"{math.exp(rng.uniform(low, high)):.3g}")

    found = []
    for _ in range(count):
        (first, last), (least, most) = ends["flops"], ends["tokens"]
        state: dict[str, Any] = {"flops": any_of(first + 0.01, last - 0.01)}
        if rng.uniform() < 0.5:
            state["unique"] = any_of(least + 3.0, most - 3.0)
        if rng.uniform() < 0.5:
            state["served"] = any_of(math.log(1e8), math.log(1e14))
        if rng.uniform() < 0.5:
            state["price"] = any_of(math.log(0.1), math.log(10))
        state |= {"gpus": int(rng.integers(1, 5000)), "mfu": round(rng.uniform(0.1, 0.6), 3)}
        state["gpu"] = str(rng.choice(["h100", "a100", "h200"]))
        found.append(state)
    return found


def check_as_planned(tab: Browser, fit: llmscale.Fit, state: dict[str, Any]) -> None:
    """The page in a state is the plan of it, as far as there is one."""
    tab.value(f"explorer.take({{...explorer.page.start, ...{json.dumps(state)}}})")
    shown = tab.value(
        "(({best, basin, half, lifetime, training, end}) => "
        "({best, basin, half, lifetime, training, end}))(explorer.decision)"
    )
    # On text that is worn out every size is as good, and none is the cheapest to serve.
    is_worn = shown["end"] and (shown["end"]["lnC"] or np.inf) < math.log(state["flops"])
    served = None if is_worn else state.get("served")
    made = llmscale.plan(
        fit,
        flops=state["flops"],
        unique_tokens=state.get("unique"),
        inference_tokens=served,
        gpu=state["gpu"],
        gpus=state["gpus"],
        mfu=state["mfu"],
        price_per_hour=state.get("price"),
    )
    best = shown["best"]
    assert best["loss"] == pytest.approx(made.loss.value, rel=1e-5), state
    assert made.cost is not None
    assert made.hardware is not None
    training = shown["training"]
    assert training["gpuHours"] == pytest.approx(made.cost.gpu_hours)
    assert training["seconds"] == pytest.approx(made.cost.wall_seconds)
    assert training["money"] == (made.cost.money and pytest.approx(made.cost.money))
    said = cost_said(made.hardware, made.cost, made.budget.flops)
    for name in ("GPU hours", "time", "money", "energy"):
        amount = tab.value(
            "Array.from(document.querySelectorAll('#plan tr')).find(row => "
            f"row.cells[0].textContent === '{name}').cells[1].textContent"
        )
        assert amount == "-" or re.search(rf"(^| ){re.escape(amount)}( |$)", said), (name, said)
    text = made.repetition
    if text is not None and made.flops > text.enough.flops:
        return  # every size is as good there, to as many digits as a float has
    assert np.exp([best["lnN"], best["lnD"]]) == pytest.approx(
        [made.params.value, made.tokens.value], rel=3e-3
    )
    apart = np.subtract(best["interval"], [made.loss.low, made.loss.high]) / made.loss.value
    assert np.abs(apart).max() < 2e-4, state
    if best["params"][0] is not None:
        assert best["params"] == pytest.approx([made.params.low, made.params.high], rel=1e-2)
        assert best["tokens"] == pytest.approx([made.tokens.low, made.tokens.high], rel=1e-2)
    shares = np.exp(np.array(shown["basin"]) - best["lnN"])
    planned = np.array([made.basin.smallest.value, made.basin.largest.value])
    inside = (planned > 2e-3) & (planned < 5e2)
    assert shares[inside] == pytest.approx(planned[inside], rel=5e-3), state
    times = shown["half"]["compute"] or np.inf
    assert times == pytest.approx(made.smaller[0].compute.value, rel=5e-3), state
    if made.serving is not None and np.isfinite(made.serving.tokens.value):
        saved = shown["lifetime"]["saved"]
        assert saved == pytest.approx(made.serving.saved.value, abs=2e-4), state


def check_states(tab: Browser, page: llmscale.Page, fit: llmscale.Fit, count: int) -> None:
    opened(tab, page)
    ends = tab.value(
        "(({frontier, surface}) => ({flops: [frontier.first, frontier.last], "
        "tokens: surface.ends.tokens}))(explorer.page)"
    )
    for state in states(fit, ends, count):
        check_as_planned(tab, fit, state)
        check_said(tab)


def test_sliders_at_random_say_what_plan_says(
    tab: Browser, page: llmscale.Page, fit: llmscale.Fit
) -> None:
    check_states(tab, page, fit, 5)


@pytest.mark.slow
def test_many_sliders_at_random_say_what_plan_says(
    tab: Browser, page: llmscale.Page, fit: llmscale.Fit
) -> None:
    check_states(tab, page, fit, 200)


def test_any_run_has_the_interval_of_plan(
    tab: Browser, page: llmscale.Page, fit: llmscale.Fit
) -> None:
    opened(tab, page)
    rng = np.random.default_rng(0)
    ends = tab.value("explorer.page.surface.ends")
    (least_N, most_N), (least_D, most_D) = ends["params"], ends["tokens"]
    places = rng.uniform([least_N, least_D], [most_N, most_D], (40, 2))
    for unique in (None, 3e10):
        judge = judge_of(Asked(fit), fit, unique)
        shown = tab.value(
            f"(law => {json.dumps(places.tolist())}.map(at => [law.loss(...at), "
            f"...law.interval(...at)]))(new LimitedLaw(explorer.page, {json.dumps(unique)}))"
        )
        for place, found in zip(np.exp(places), shown, strict=True):
            told = forecast_at(fit, **judge.asked(*map(float, place)))
            apart = np.subtract(found, [told.loss, told.low, told.high]) / told.loss
            assert np.abs(apart).max() < 2e-4, place

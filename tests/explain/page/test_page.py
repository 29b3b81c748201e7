"""`llmscale explore`: the page says what Python says, and follows whoever moves its sliders."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, browser
from pages import grid, run

import llmscale
from llmscale.explain import digits
from llmscale.quantity import format_count

OWN_LAW = """
from dataclasses import dataclass
from llmscale.explain.laws import Law

@dataclass(frozen=True)
class Mine(Law):
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    inputs = ("params", "tokens")
    floor = "E"

    def loss(self, N, D):
        return self.E + (self.A / N**self.alpha + self.B / D**self.beta) ** 0.9
"""
OWN_GPU = """
class Mine:
    name = "<img src=x onerror=alert(1)>"
    source = "me"
    peak_flops = 1e15
    memory_bytes = 1e11
    memory_bytes_per_second = 1e12
    power_watts = None
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def fit() -> llmscale.Fit:
    return llmscale.fit(grid(), "chinchilla", bootstrap=40)


@pytest.fixture(scope="module")
def page(fit: llmscale.Fit, tmp_path_factory: pytest.TempPathFactory) -> llmscale.Page:
    return llmscale.explore(fit, output=tmp_path_factory.mktemp("page") / "page.html")


def address(page: llmscale.Page, state: str = "") -> str:
    assert page.path is not None
    return page.path.resolve().as_uri() + (f"#{state}" if state else "")


def plan_rows(tab: Browser) -> dict[str, str]:
    """The amounts of the plan by what they are; of two by the same name the first."""
    rows = tab.value(
        "Array.from(document.querySelectorAll('#plan tr'), row => "
        "[row.cells[0].textContent, row.cells[1].textContent])"
    )
    return dict(reversed(rows))


@pytest.mark.parametrize("law", ["anchored", "own"])
def test_the_page_has_the_losses_of_any_law_and_its_intervals(
    tab: Browser, law: str, tmp_path: Path
) -> None:
    if law == "own":
        (tmp_path / "mine.py").write_text(OWN_LAW)
        law = f"{tmp_path / 'mine.py'}:Mine"
    fitted = llmscale.fit(grid()[::2], law, bootstrap=20, diagnostics=False)
    tab.open(address(llmscale.explore(fitted, output=tmp_path / "page.html")))
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(np.log([1e6, 1e8]), np.log([1e11, 1e13]), (20, 2))).T
    shown = tab.value(
        f"{json.dumps(np.log([N, D]).T.tolist())}.map(place => "
        "(law => [law.loss(...place), ...law.interval(...place)])"
        "(new LimitedLaw(explorer.page, null)))"
    )
    # One at a time: of many distances at once a forecast draws lines between some of them.
    told = [llmscale.predict(fitted, params=n, tokens=d) for n, d in zip(N, D, strict=True)]
    loss, low, high = np.array(shown, dtype=float).T
    np.testing.assert_allclose(loss, [one.loss for one in told], rtol=1e-5)
    np.testing.assert_allclose(low, [one.low for one in told], rtol=2e-4)
    np.testing.assert_allclose(high, [one.high for one in told], rtol=2e-4)
    flops = np.geomspace(1e17, 1e24, 20)
    best = llmscale.predict(fitted, flops=flops)
    shown = tab.value(
        f"(law => {json.dumps(np.log(flops).tolist())}.map(lnC => law.bestWithEnds(lnC)))"
        "(new LimitedLaw(explorer.page, null))"
    )
    for one, optimum in zip(shown, best.optima, strict=True):
        assert np.exp([one["lnN"], one["lnD"]]) == pytest.approx(
            [optimum.params, optimum.tokens], rel=1e-3
        )
        assert one["loss"] == pytest.approx(optimum.loss, rel=1e-5)
        assert one["interval"] == pytest.approx(optimum.intervals["loss"], rel=2e-4)
        for name in ("params", "tokens"):
            assert one[name] == pytest.approx(optimum.intervals[name], rel=0.01)


@pytest.mark.parametrize("unique", [None, 2e11, 5e9])
def test_what_the_page_decides_is_what_plan_decides(
    tab: Browser, page: llmscale.Page, fit: llmscale.Fit, unique: float | None
) -> None:
    state = {"flops": "2e21", "served": "2e12", "gpu": "a100", "gpus": "16", "price": "1.5"}
    state |= {} if unique is None else {"unique": f"{unique:g}"}
    tab.open(address(page, "&".join(f"{key}={value}" for key, value in state.items())))
    shown: Any = tab.value(
        "(({best, basin, half, lifetime, training, end}) => "
        "({best, basin, half, lifetime, training, end}))(explorer.decision)"
    )
    made = llmscale.plan(
        fit, flops=2e21, unique_tokens=unique, inference_tokens=2e12, gpu="a100", gpus=16,
        price_per_hour=1.5,
    )  # fmt: skip
    assert np.exp(shown["best"]["lnN"]) == pytest.approx(made.params.value, rel=1e-3)
    assert np.exp(shown["best"]["lnD"]) == pytest.approx(made.tokens.value, rel=1e-3)
    assert shown["best"]["loss"] == pytest.approx(made.loss.value, rel=1e-5)
    assert shown["best"]["interval"] == pytest.approx([made.loss.low, made.loss.high], rel=2e-4)
    basin = [made.basin.smallest.value, made.basin.largest.value]
    assert np.exp(shown["basin"]) / made.params.value == pytest.approx(basin, rel=1e-3)
    half = shown["half"]["compute"] or np.inf  # JSON has no infinity
    assert half == pytest.approx(made.smaller[0].compute.value, rel=1e-3)
    assert made.serving is not None
    lifetime = [np.exp(shown["lifetime"][name]) for name in ("lnN", "lnD")]
    wanted = [made.serving.params.value, made.serving.tokens.value]
    assert lifetime == pytest.approx(wanted, rel=3e-3)
    assert shown["lifetime"]["saved"] == pytest.approx(made.serving.saved.value, abs=1e-4)
    assert made.cost is not None
    assert shown["training"]["gpuHours"] == pytest.approx(made.cost.gpu_hours)
    assert shown["training"]["seconds"] == pytest.approx(made.cost.wall_seconds)
    assert shown["training"]["money"] == pytest.approx(made.cost.money)
    assert made.cost.kwh is not None
    assert shown["training"]["wattHours"] == pytest.approx(1000 * made.cost.kwh)
    if unique is None:
        for said in (made.params, made.tokens):
            value, ends = said.written(format_count).split(" ", 1)
            assert re.search(rf"{value} \w+ {re.escape(ends)}", tab.text("#sentence"))
        loss = digits.with_ends(made.loss.value, made.loss.low, made.loss.high)
        assert f"loss {loss} (90%);" in tab.text("#sentence")
    repeats = unique is not None and made.tokens.value > unique
    assert ("repetition-published" in tab.text("#cautions")) == repeats
    if repeats:
        text = made.repetition
        assert text is not None
        assert shown["end"]["least"] == pytest.approx(text.enough.least_loss.value, rel=1e-5)
        assert np.exp(shown["end"]["lnC"]) == pytest.approx(text.enough.flops, rel=5e-3)
        assert shown["end"]["passes"] == pytest.approx(text.enough.tokens / text.unique, rel=5e-3)
        rows = plan_rows(tab)
        least = f"{text.enough.least_loss.value:.3f}"
        assert rows["least possible"].startswith(least)
        assert float(rows["repeating adds"]) == pytest.approx(text.costs.value, rel=1e-2)
        is_past = made.flops > text.enough.flops
        assert (f"no compute gets below {least}" in tab.text("#sentence")) == is_past
        assert ("a model of half the size costs" in tab.text("#sentence")) != is_past
    codes = {note.code for note in made.notes}
    # What `advise` says of text that is gone over more than 4 times.
    codes |= {"text-repeated"} if repeats and made.tokens.value > 4 * (unique or 0) else set()
    shown = set(re.findall(r"[a-z]+(?:-[a-z]+)+(?=: )", tab.text("#cautions")))
    assert shown - {"extrapolates-far"} == codes


@pytest.mark.parametrize("times", [0.999, 1.0, 1.001])
def test_a_run_is_called_far_if_predict_calls_it_so(
    tab: Browser, page: llmscale.Page, fit: llmscale.Fit, times: float
) -> None:
    """Of 100 times the FLOPs of the largest run, which has 1.8e21."""
    params, tokens = 1e11, 3e11 * times
    told = llmscale.predict(fit, params=params, tokens=tokens)
    assert ("extrapolates-far" in {note.code for note in told.notes}) == (times > 1.0)
    tab.open(address(page, f"flops={1.8e23 * times:g}&ratio={tokens / params:g}"))
    assert ("extrapolates-far" in tab.text("#cautions")) == (times > 1.0)


@pytest.mark.parametrize("width", [2, 1, 0.5])
def test_serving_is_reckoned_as_advise_does(
    tab: Browser, page: llmscale.Page, fit: llmscale.Fit, width: float
) -> None:
    tab.open(address(page, f"flops=2e21&context=8192&bytes={width:g}&gpu=l4"))
    shown = tab.value("explorer.decision.serving")
    told = llmscale.advise(
        fit, flops=2e21, serve_on="l4", serve_gpus=shown["gpus"], serve_context=8192,
        bytes_per_weight=width,
    ).to_json()["advised"]  # fmt: skip
    assert shown["name"] == told["shape"]
    served = told["served"]
    assert shown["weights"] == pytest.approx(served["weight_bytes"])
    assert shown["cache"] == pytest.approx(served["cache_bytes"])
    assert shown["perSecond"] == pytest.approx(served["tokens_per_second"])
    assert f"at most, at {shown['reached']} of the bandwidth" in tab.text("#plan")
    assert "served-beyond-context" in tab.text("#cautions")
    assert ("rounding-not-counted" in tab.text("#cautions")) == (width < 2)
    tab.open(address(page))
    assert tab.value("explorer.state.context") == 2048


def test_the_outline_of_an_interval_that_jumps_goes_up_in_both_counts(
    tab: Browser, page: llmscale.Page
) -> None:
    tab.open(address(page))
    budgets = "spaced([explorer.page.frontier.first, explorer.page.frontier.last], 160)"
    sizes = tab.value(f"{budgets}.map(lnC => explorer.page.frontier.at(lnC).params)")
    outline = tab.value("document.querySelector('#map .frontier-band').getAttribute('d')")
    assert (np.diff(np.array(sizes), axis=0) < 0).any()
    x, y = np.array(re.findall(r"([-\d.]+) ([-\d.]+)", outline), dtype=float).T
    for side in (slice(160), slice(None, 159, -1)):
        assert (np.diff(x[side]) >= 0).all()
        assert (np.diff(y[side]) <= 0).all()


def test_a_slider_that_moves_changes_the_plan_and_the_address(
    tab: Browser, page: llmscale.Page
) -> None:
    tab.open(address(page))
    before, sentence = plan_rows(tab), tab.text("#sentence")
    tab.value("document.getElementById('control-flops').focus()")
    tab.key("ArrowRight", 40)
    after = plan_rows(tab)
    for name in ("compute C", "parameters N", "tokens D", "loss", "GPU hours", "weights"):
        assert after[name] != before[name], name
    assert tab.text("#sentence") != sentence
    assert "flops=" in tab.value("location.hash")
    tab.click(*tab.place("#control-served"))
    assert "cheapest size" in plan_rows(tab)
    tab.click(*tab.place("#control-unique", across=0.3))
    assert float(plan_rows(tab)["passes"].replace(",", "")) > 1
    moved = tab.text("#sentence"), plan_rows(tab)
    tab.open(tab.value("location.href"))
    assert (tab.text("#sentence"), plan_rows(tab)) == moved


def test_boxes_take_numbers_as_people_write_them(
    tab: Browser, page: llmscale.Page, fit: llmscale.Fit
) -> None:
    tab.open(address(page))
    tab.type_into("#control-flops-box", "3e21")
    assert plan_rows(tab)["compute C"] == "3e21 FLOPs"
    tab.type_into("#control-tokens-box", "50B")
    rows = plan_rows(tab)
    assert (rows["parameters N"], rows["tokens D"]) == ("10B", "50B")
    assert "above the best" in tab.text("#sentence")
    chosen, half = fit.law.loss(10e9, 50e9), fit.law.loss(5e9, 100e9)
    assert rows["half the choice"] == f"{100 * (half / chosen - 1):+.2g}%"
    tab.type_into("#control-ratio-box", "200k")
    said = "does not reach the choice's loss with 10,000 times the tokens"
    assert said in tab.text("#plan")
    tab.type_into("#control-tokens-box", "50B")
    tab.type_into("#control-tokens-box", "many")
    assert "this is no number: write it like" in tab.text(".problem:not(:empty)")
    assert plan_rows(tab) == rows
    tab.type_into("#control-flops-box", "1e40")
    tab.type_into("#control-flops-box", "1e35")
    assert "this page goes from" in tab.text(".problem:not(:empty)")
    tab.click(*tab.place("#best"))
    assert "a model of half the size costs" in tab.text("#sentence")
    tab.click(*tab.place("#map", across=0.3, down=0.6))
    assert "above the best" in tab.text("#sentence")


def test_a_broken_address_is_told_and_the_rest_of_it_taken(
    tab: Browser, page: llmscale.Page
) -> None:
    tab.open(address(page, "flops=2e21&gpus=<b>&gpu=none&constructor=1"))
    assert plan_rows(tab)["compute C"] == "2e21 FLOPs"
    said = "left out of the address: gpus=<b>, gpu=none, constructor=1"
    told, keys = tab.text("#told").split("; its keys are ")
    assert told == said
    exploring = (Path(__file__).parents[3] / "docs" / "exploring.md").read_text("utf-8")
    listed = re.findall(r"^\| `([a-z]+)` \|", exploring, re.MULTILINE)
    assert sorted(listed) == sorted(keys.split(", "))
    tab.open(address(page, "flops=2e21&gpus=<b>"))
    assert tab.text("#told") == "left out of the address: gpus=<b>"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("flops=1e50", ""),
        ("flops=1e12", ""),
        ("unique=0", ""),
        ("ratio=1e-9", ""),
        ("served=1e40", "1e+17: this page goes from 1M to 1e+17"),
        ("mfu=2", "1: this page goes from 0.01 to 1"),
        ("price=0", "0.01: this page goes from 0.01 to 100"),
        ("context=1e12", "1,048,576: this page goes from 128 to 1,048,576"),
    ],
)
def test_a_number_of_an_address_that_is_too_far_is_taken_as_the_nearest_which_is_told(
    tab: Browser, page: llmscale.Page, asked: str, told: str
) -> None:
    tab.open(address(page, asked))
    key = asked.partition("=")[0]
    assert tab.text("#told").startswith(f"{asked} is taken as {told}")
    state, ends = tab.value(
        f"(key => [explorer.state[key], explorer.controls.get(key).limits])('{key}')"
    )
    assert state in [pytest.approx(end) for end in ends]
    assert tab.value("Number.isFinite(explorer.decision.chosen.loss)")
    for end in re.findall(r"this page goes from (\S+) to (\S+)$", tab.text("#told"))[0]:
        tab.open(address(page, f"{key}={end}"))  # as it is shown
        assert tab.text("#told") == ""


def test_on_a_telephone_only_sliders_that_something_is_chosen_of_are_open(
    tab: Browser, page: llmscale.Page
) -> None:
    tab.open(address(page, "unique=1T"), width=420)
    groups = "Array.from(document.querySelectorAll('#controls details'), one => one.open)"
    assert tab.value(groups) == [True, False, False]
    places = "['.share', '#sentence', '#controls', '.view', '#plan', '#notes'].map(name => "
    tops = tab.value(f"{places}document.querySelector(name).getBoundingClientRect().top)")
    assert tops == sorted(tops)
    tab.open(address(page), width=1400)
    assert tab.value(groups) == [True, True, True]


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_the_screen_in_light_and_in_the_dark(
    tab: Browser, page: llmscale.Page, width: int
) -> None:
    papers = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        tab.call("Emulation.setEmulatedMedia", features=[feature])
        tab.open(address(page, "flops=1e50&served=1e40&mfu=2&price=0&key=1"), width=width)
        room = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.value(room) == 0
        assert tab.value("document.querySelectorAll('#map .run, #curve .run').length") == 72
        papers.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert papers[0] != papers[1]


def test_the_page_asks_the_network_for_nothing_and_may_not(
    tab: Browser, page: llmscale.Page
) -> None:
    assert len(page.html.encode()) < 1_500_000
    assert not re.findall(r"""(?:src|href)\s*=|url\((?!#)|@import|\bfetch\(|XMLHttp""", page.html)
    tab.open(address(page))
    asked = [
        event["params"]["request"]["url"]
        for event in tab.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert [one.partition(":")[0] for one in asked] == ["file"]
    refused = tab.value(
        "new Promise(done => { addEventListener('securitypolicyviolation', event => "
        "done(event.violatedDirective)); const image = new Image(); "
        "image.src = 'http://127.0.0.1:9/'; document.body.append(image); })"
    )
    assert refused == "img-src"


def test_names_of_a_hostile_table_are_text(tab: Browser, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    table = tmp_path / f"{evil}.csv"
    column = "</script><script>alert(2)</script>"
    names = {"params": f"N {column}", "tokens": "D & \" '", "loss": f"loss {evil}"}
    grid().rename(columns=names).to_csv(table, index=False)
    gpu = tmp_path / "mine.py"
    gpu.write_text(OWN_GPU)
    made = llmscale.explore(
        table, law="anchored", columns=names, gpu=f"{gpu}:Mine", output=tmp_path / "page.html"
    )
    tab.open(address(made))
    assert tab.text("h1").startswith(evil)
    assert tab.value("document.title").startswith(evil)
    assert f"8 × {evil}" in tab.text("#plan")
    assert tab.value("document.querySelectorAll('img').length") == 0
    assert tab.value("document.querySelectorAll('script').length") == 2
    wrong = {"Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"}
    assert not [event for event in tab.events if event.get("method") in wrong]
    assert str(tmp_path) not in made.html


def test_a_page_without_intervals_or_runs_works_and_says_so(
    tab: Browser, fit: llmscale.Fit, tmp_path: Path
) -> None:
    kept = tmp_path / "fit.json"
    llmscale.fit(fit.table, "chinchilla", bootstrap=40, keep=kept)
    tab.open(address(llmscale.explore(kept, output=tmp_path / "page.html")))
    assert "The runs are not drawn" in tab.text("#notes")
    bare = llmscale.fit(grid(), "chinchilla", bootstrap=0, diagnostics=False)
    tab.open(address(llmscale.explore(bare, output=tmp_path / "page.html")))
    assert "There are no intervals" in tab.text("#notes")
    assert "[" not in tab.text("#sentence")
    assert "coverage:" not in tab.text("#notes")
    assert tab.value("document.querySelectorAll('#map .frontier').length") == 2
    published = run("--published", "--out", tmp_path / "page.html")
    assert published.exit_code == 0, published.output
    made = llmscale.explore(llmscale.published_fit())
    assert (tmp_path / "page.html").read_text("utf-8") == made.html
    tab.open((tmp_path / "page.html").resolve().as_uri() + "#flops=1e22")
    optimum = llmscale.optimal(llmscale.published_fit(), 1e22).optima[0]
    assert f"{format_count(optimum.params)} parameters" in tab.text("#sentence")
    keys = "document.querySelectorAll('.key-band:not([hidden]), .key-run:not([hidden])').length"
    assert tab.value(keys) == 0
    assert not [one for one in tab.events if one.get("method") == "Runtime.exceptionThrown"]

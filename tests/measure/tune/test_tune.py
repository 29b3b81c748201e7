"""Tuning: the search on known surfaces, stopping on known curves, the rule from known optima, and
the command.
"""

import json
import math
import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sweeps
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import changed, llmscale, wait_for

from llmscale.errors import InputError, Note
from llmscale.measure.sweep.notes import rules_in_use
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.rule import PowerRule, Rule, read_rule
from llmscale.measure.train.throughput import throughput_job
from llmscale.measure.tune.api import tune
from llmscale.measure.tune.fit_rule import Optimum, fit_power
from llmscale.measure.tune.search import BATCH_STEP, LR_STEP, Grid, Node, Search, search
from llmscale.measure.tune.stopping import Judge, Track
from llmscale.runs.shape import shape_for

ADAMW = {"arch": "llama", "optimizer": "adamw", "parametrization": "standard", "schedule": "wsd"}


def searched(surface: Any, grid: Grid) -> tuple[Search, dict[Node, float]]:
    """The search of `surface` to its end."""
    losses: dict[Node, float] = {}
    while (found := search(losses, grid)).wanted:
        assert not set(found.wanted) & set(losses), "a node is asked for twice"
        losses |= {node: surface(node) for node in found.wanted}
    return found, losses


@given(
    optimum=st.floats(-3.0, 3.0),
    curvature=st.floats(0.02, 1.0),
    refine=st.booleans(),
    diverges=st.floats(0.8, 4.0),
)
def test_the_best_learning_rate_is_bracketed_and_the_parabola_finds_it(
    optimum: float, curvature: float, refine: bool, diverges: float
) -> None:
    """Even where trials diverge from some learning rate above the optimum on."""
    edge = optimum + diverges

    def surface(node: Node) -> float:
        at = node.lr * LR_STEP
        return 3 + curvature * (at - optimum) ** 2 if at < edge else math.inf

    found, losses = searched(surface, Grid(batch=False, refine=refine))
    step = LR_STEP if refine else 2 * LR_STEP
    assert found.lr_bracketed
    assert losses[found.best] == min(losses.values())
    assert abs(found.best.lr * LR_STEP - optimum) <= step
    assert found.lr is not None
    assert abs(found.lr.offset - optimum) <= step
    if found.lr.curvature is not None:
        assert found.lr.offset == pytest.approx(optimum, abs=1e-6)
        assert found.lr.curvature == pytest.approx(2 * curvature)


@given(
    seed=st.integers(0, 10**6),
    optimum=st.floats(-6.0, 6.0),
    batch_optimum=st.floats(-3.0, 3.0),
    noise=st.floats(0.0, 0.3),
    doublings=st.integers(1, 6),
    refine=st.booleans(),
)
def test_a_noisy_search_ends_with_a_bracket_or_at_its_limit(
    seed: int, optimum: float, batch_optimum: float, noise: float, doublings: int, refine: bool
) -> None:
    draw = random.Random(seed)

    def surface(node: Node) -> float:
        bowl = (
            0.2 * (node.lr * LR_STEP - optimum) ** 2
            + 0.1 * (node.batch * BATCH_STEP - batch_optimum) ** 2
        )
        return 3 + bowl + draw.gauss(0, noise) if node.lr < 14 else math.inf

    found, losses = searched(surface, Grid(refine=refine, doublings=doublings))
    tried = sorted(node.lr for node in losses if node.batch == found.best.batch)
    assert found.lr is not None
    assert tried[0] <= found.lr.offset / LR_STEP + 1e-9
    assert found.lr.offset / LR_STEP - 1e-9 <= tried[-1]
    if found.lr_bracketed:
        assert tried[0] < found.best.lr < tried[-1]
        assert all(
            losses[found.best] <= losses[Node(found.best.batch, lr)]
            for lr in tried
            if lr % 2 == tried[0] % 2
        )
    else:
        start = {node.lr - node.batch for node in losses if node.batch == found.best.batch}
        assert found.best.lr in (tried[0], tried[0] + 1, tried[-1] - 1, tried[-1])
        assert max(start) - min(start) >= 2 * doublings
    batches = {node.batch for node in losses}
    assert max(batches) - min(batches) >= 2
    assert found.batch_bracketed or abs(found.best.batch) == doublings


@given(optimum=st.floats(-2.0, 2.0), batch_optimum=st.floats(-2.0, 2.0))
def test_the_batch_is_found_with_the_learning_rate_following_its_square_root(
    optimum: float, batch_optimum: float
) -> None:
    def surface(node: Node) -> float:
        ln_lr, ln_batch = node.lr * LR_STEP, node.batch * BATCH_STEP
        return (
            3 + 0.2 * (ln_lr - optimum - ln_batch / 2) ** 2 + 0.1 * (ln_batch - batch_optimum) ** 2
        )

    found, _ = searched(surface, Grid())
    assert found.lr_bracketed
    assert found.batch_bracketed
    assert found.batch is not None
    assert found.lr is not None
    assert found.batch.offset == pytest.approx(batch_optimum, abs=1e-6)
    assert found.lr.offset == pytest.approx(optimum + found.best.batch * BATCH_STEP / 2, abs=1e-6)


def test_the_batch_stays_within_what_the_rung_allows() -> None:
    found, losses = searched(
        lambda node: 3.0 + 0.1 * node.batch, Grid(lowest_batch=-1, highest_batch=0)
    )
    assert {node.batch for node in losses} == {-1, 0}
    assert found.best.batch == -1
    assert found.batch_bracketed is False


def curve(
    lr: float, best_lr: float, gain: float, draw: random.Random
) -> tuple[dict[int, float], float]:
    """A training curve of 100k tokens before its cooldown, and its final loss: `gain` a doubling is
    made up in that.
    """
    final = 3 + 0.05 * math.log(lr / best_lr) ** 2
    before = final + 0.2 + gain * math.log2(lr / best_lr)
    text = random.Random(0)  # the same text for every trial
    noise = {at: text.gauss(0, 0.1) + draw.gauss(0, 0.003) for at in range(500, 80_500, 500)}
    return {at: before + 3 * (at / 1000) ** -0.5 + noise[at] for at in noise}, final


def follow(judge: Judge, name: str, lr: float, points: dict[int, float], loss: float | None) -> Any:
    """Let the judge watch a trial; the reason to stop it, or None where it is let finish."""
    judge.follow(Track(name, ("10k", 100_000, 8, 0), lr, 100_000, 80_000))
    for tokens, train_loss in points.items():
        stop = judge.log(name, tokens, train_loss)
        if stop:
            return stop
    judge.finish(name, loss)
    return None


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), gain=st.floats(0.0, 0.1), best=st.integers(-4, 4))
def test_the_best_trial_is_never_stopped_although_it_is_behind_before_the_cooldown(
    seed: int, gain: float, best: int
) -> None:
    judge, draw = Judge(), random.Random(seed)
    order = [0, -1, 1, *sorted((place for place in range(-4, 5) if abs(place) > 1), key=abs)]
    stops = {
        place: follow(judge, f"{place}", 2.0**place, *curve(2.0**place, 2.0**best, gain, draw))
        for place in order
    }
    assert stops[best] is None
    assert all(stop.gap > stop.limit > 0 for stop in stops.values() if stop)


def test_a_lower_learning_rate_is_hopeless_sooner_than_a_higher_one_that_is_as_far_behind() -> None:
    stops = {}
    for place in (-2, 2):
        judge, draw = Judge(), random.Random(1)
        for first in (0, -1, 1):
            assert (
                follow(judge, f"{first}", 2.0**first, *curve(2.0**first, 1.0, 0.05, draw)) is None
            )
        points, _ = curve(1.0, 1.0, 0.05, draw)
        stops[place] = follow(
            judge, "new", 2.0**place, {at: loss + 0.12 for at, loss in points.items()}, None
        )
    assert stops[-2] is not None
    assert 0.3 <= stops[-2].share <= 0.8
    assert "nats behind" in str(stops[-2])
    assert stops[2] is None


def test_nothing_is_stopped_before_trials_have_finished() -> None:
    judge, draw = Judge(), random.Random(1)
    judge.follow(Track("ahead", ("10k", 100_000, 8, 0), 1.0, 100_000, 80_000))
    for tokens, loss in curve(1.0, 1.0, 0.0, draw)[0].items():
        judge.log("ahead", tokens, loss)
    assert follow(judge, "behind", 0.1, *curve(0.1, 1.0, 0.0, draw)) is None


@given(
    a=st.floats(-1.0, 0.5),
    b=st.floats(-0.5, 1.0),
    c=st.floats(0.01, 100.0),
    data=st.lists(st.floats(0.1, 3.0), min_size=6, max_size=6),
)
def test_the_rule_recovers_exact_exponents(a: float, b: float, c: float, data: list[float]) -> None:
    points = [(N, D) for N in (1e4, 1e5, 1e6) for D in (1e6, 4e6)]
    optima = [
        Optimum(N, D, c * N**a * D**b, curvature)
        for (N, D), curvature in zip(points, data, strict=True)
    ]
    fit = fit_power(optima, "learning rate")
    assert fit.power.params_exponent == pytest.approx(a, abs=1e-8)
    assert fit.power.tokens_exponent == pytest.approx(b, abs=1e-8)
    assert fit.power.coefficient == pytest.approx(c, rel=1e-6)
    assert not fit.notes
    for exponent, value in ((fit.exponents["params"], a), (fit.exponents["tokens"], b)):
        assert exponent.interval is not None
        assert exponent.interval[0] - 1e-8 <= value <= exponent.interval[1] + 1e-8


def test_intervals_of_the_rule_hold_the_truth_as_often_as_they_say() -> None:
    draw, held = random.Random(0), 0
    points = [(N, D) for N in (1e4, 1e5, 1e6) for D in (1e6, 4e6)]
    for _ in range(400):
        optima = [Optimum(N, D, N**-0.4 * math.exp(draw.gauss(0, 0.2)), None) for N, D in points]
        interval = fit_power(optima, "learning rate").exponents["params"].interval
        assert interval is not None
        held += interval[0] < -0.4 < interval[1]
    assert 0.86 <= held / 400 <= 0.94


@pytest.mark.parametrize(
    ("points", "exponents", "codes"),
    [
        ([(1e4, 1e6)], set(), {"one-size", "one-token-budget"}),
        ([(1e4, 1e6), (1e4, 4e6)], {"tokens"}, {"one-size"}),
        ([(1e4, 1e6), (1e5, 1e6)], {"params"}, {"one-token-budget"}),
        ([(1e4, 2e5), (1e5, 2e6), (1e6, 2e7)], {"params"}, {"tokens-proportional"}),
        ([(1e4, 1e6), (1e5, 1e6), (1e4, 4e6)], {"params", "tokens"}, set()),
    ],
)
def test_only_what_the_design_tells_apart_is_fitted(
    points: list[tuple[float, float]], exponents: set[str], codes: set[str]
) -> None:
    fit = fit_power([Optimum(N, D, 10 * N**-0.5, 1.0) for N, D in points], "learning rate")
    assert set(fit.exponents) == exponents
    assert {note.code for note in fit.notes} == codes
    for N, D in points:
        assert fit.power.at(N, D) == pytest.approx(10 * N**-0.5)


def test_an_optimum_that_bends_in_size_is_reported() -> None:
    sizes = [10.0**power for power in (4, 4.5, 5, 5.5, 6, 6.5)]
    straight = [Optimum(N, 1e6, N**-0.5, 1.0) for N in sizes]
    bent = [
        replace(one, value=one.value * math.exp(0.05 * math.log(one.params / 1e5) ** 2))
        for one in straight
    ]
    wobble = [
        replace(one, value=one.value * (1.01 if k % 2 else 0.99)) for k, one in enumerate(straight)
    ]
    fit = fit_power(bent, "learning rate")
    assert "optimum-bends" in {note.code for note in fit.notes}
    assert fit.bend is not None
    assert fit.bend.value == pytest.approx(0.05)
    assert "optimum-bends" not in {note.code for note in fit_power(wobble, "learning rate").notes}


def rule_file(folder: Path, **changes: Any) -> Path:
    rule = Rule(PowerRule(0.5, -0.4, 0.1), PowerRule(2.0, 0.0, 0.5), (1e4, 1e5), (1e6, 4e6), ADAMW)
    path = folder / "tune.json"
    path.write_text(json.dumps({"rule": {**rule.to_json(), **changes}}))
    return path


def test_a_recipe_follows_a_tuned_rule_and_settings_of_its_own_go_first(tmp_path: Path) -> None:
    path = rule_file(tmp_path)
    recipe = Recipe(context=128, rule=str(path))
    assert recipe.learning_rate(10**5, 10**6) == pytest.approx(0.5 * 1e5**-0.4 * 1e6**0.1)
    assert recipe.batch_sequences(10**5, 10**6) == 16  # of 2000 tokens
    assert Recipe(rule=str(tmp_path)).tuned_rule == read_rule(path)
    assert replace(recipe, lr=0.1, lr_scale=2.0).learning_rate(10**5, 10**6) == pytest.approx(0.2)
    assert replace(recipe, batch_tokens=1024).batch_sequences(10**5, 10**6) == 8
    untuned = Recipe(context=128, rule=str(rule_file(tmp_path, batch_tokens=None)))
    assert untuned.batch_sequences(10**5, 10**6) == Recipe(context=128).batch_sequences(
        10**5, 10**6
    )


def test_a_rule_in_use_is_named_with_what_its_tuning_warned_of(tmp_path: Path) -> None:
    path = rule_file(tmp_path)
    warned = {"code": "lr-at-edge", "message": "10k on 1M: the best is at an end"}
    tuning = json.loads(path.read_text()) | {
        "rungs": [{"size": "10k", "finished": True}, {"size": "1M", "finished": False}],
        "warnings": [warned, {"code": "of another time", "message": "?"}],
    }
    path.write_text(json.dumps(tuning))
    spec = SweepSpec(sizes=("30k",), recipe=Recipe(rule=str(path)))
    job = throughput_job(shape_for("300k", vocab_size=300, context=256), 4, "float32")
    (said,) = rules_in_use(spec, [job])
    assert said.startswith(f"rule: {path}, tuned on 10k: N = 10k to 100k, D = 1M to 4M; it gives")
    assert (
        f"lr {job.lr:.3g}, batches of 1,024 tokens; N up to 3.3x and D up to 1.6x outside those"
        in said
    )
    assert rules_in_use(SweepSpec(sizes=("30k",)), [job]) == ()
    (note,) = read_rule(path).notes([(1e4, 1e6)], Recipe())
    assert note == Note("lr-at-edge", f"the rule in use: {warned['message']}")
    assert "warnings" not in read_rule(path).to_json()


def test_a_rule_used_far_outside_or_with_another_recipe_warns(tmp_path: Path) -> None:
    rule = read_rule(rule_file(tmp_path))
    assert rule.notes([(1e4, 1e6), (1e6, 4e7)], Recipe()) == []
    (note,) = rule.notes([(1e4, 1e6), (1.2e6, 4e7)], Recipe())
    assert note.code == "rule-extrapolates"
    assert "1.2M" in note.message
    (note,) = rule.notes([(1e4, 9e4)], Recipe())
    assert "D = 90k" in note.message
    (note,) = rule.notes([(1e4, 1e6)], Recipe(schedule="cosine"))
    assert note.code == "rule-of-another-recipe"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "holds no rule"),
        ('{"rule": null}', "no size"),
        ({"lr": 0.1}, "lr of the rule"),
        ({"lr": {"coefficient": 0, "params_exponent": 0, "tokens_exponent": 0}}, "above zero"),
        ({"lr": {"coefficient": "1", "params_exponent": 0, "tokens_exponent": 0}}, "a number"),
        ({"lr": {"coefficient": 1, "params_exponent": 0}}, "tokens_exponent"),
        ({"params": [1e5, 1e4]}, "params of the rule"),
        ({"momentum": 1}, "momentum"),
        ({"recipe": ["adamw"]}, "recipe of the rule"),
    ],
)
def test_a_file_that_holds_no_rule_is_refused(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "tune.json"
    if isinstance(content, dict):
        rule_file(tmp_path, **content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as caught:
        Recipe(rule=str(path))
    assert words in f"{caught.value.problem} {caught.value.fix}"


def options(
    text: Path, out: Path, sizes: str = "1x16x1,2x24x2", tokens: str = "4k,8k"
) -> list[str]:
    asked = sweeps.options(text, out, sizes, tokens, batch_tokens=None)
    return ["tune", *asked[1:], "--lr-scale", "2", "--no-batch"]


def read(out: Path) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((out / "tune.json").read_text())
    return payload


@pytest.fixture(scope="module")
def interrupted(
    text: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int, dict[str, Any]]:
    """A results folder whose search was stopped by Ctrl-C, the exit code, and what tune.json said
    then.
    """
    out, ended = tmp_path_factory.mktemp("results") / "tuned", threading.Event()

    def press() -> None:
        wait_for(lambda: len(list(out.glob("runs/*/run.json"))) >= 2 or ended.is_set(), 300)
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    # Background jobs of a shell ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with ThreadPoolExecutor(1) as other:
        pressed = other.submit(press)
        result = llmscale(*options(text, out))
        ended.set()
        pressed.result()
    signal.signal(signal.SIGINT, before)
    return out, result.exit_code, read(out)


@pytest.fixture(scope="module")
def tuned(interrupted: tuple[Path, int, dict[str, Any]], text: Path) -> Path:
    """The results folder of two sizes at two budgets."""
    out = interrupted[0]
    result = llmscale(*options(text, out))
    assert result.exit_code == 0, result.output
    assert "bracketed" in result.stdout
    assert f"--rule {out}" in result.stdout
    return out


def test_an_interrupted_search_goes_on_where_it_was(
    interrupted: tuple[Path, int, dict[str, Any]], tuned: Path
) -> None:
    _, code, before = interrupted
    after = read(tuned)
    assert code == 130
    assert not all(rung["finished"] for rung in before["rungs"])
    assert all(rung["finished"] for rung in after["rungs"])
    done = {
        trial["run_id"]: trial["loss"] for trial in before["trials"] if trial["status"] == "done"
    }
    assert done
    assert done.items() <= {trial["run_id"]: trial["loss"] for trial in after["trials"]}.items()


def test_every_optimum_is_the_best_of_trials_on_both_sides_of_it(tuned: Path) -> None:
    payload, runs = read(tuned), pd.read_parquet(tuned / "runs.parquet").set_index("run_id")
    assert len(payload["rungs"]) == 4
    for rung in payload["rungs"]:
        trials = [
            trial
            for trial in payload["trials"]
            if (trial["size"], trial["tokens"]) == (rung["size"], rung["tokens"])
        ]
        losses = {trial["lr"]: trial["loss"] for trial in trials if trial["status"] == "done"}
        best = min(losses, key=losses.__getitem__)
        assert rung["lr_bracketed"]
        assert min(trial["lr"] for trial in trials) < best < max(trial["lr"] for trial in trials)
        assert best / 2 <= rung["lr"] <= best * 2
        assert rung["loss"] == losses[best]
        assert rung["rule_in_use"]["penalty"] == pytest.approx(
            losses[rung["rule_in_use"]["lr"]] / losses[best] - 1
        )
        assert {trial["batch_tokens"] for trial in trials} == {rung["batch_tokens"]}
    for trial in payload["trials"]:
        run = runs.loc[trial["run_id"]]
        assert run["status"] == trial["status"]
        assert run["lr"] == trial["lr"]
        if trial["status"] == "done":
            assert run["loss"] == trial["loss"]
        elif trial["status"] == "stopped":
            assert "nats behind" in run["error"]
            assert 0.3 <= trial["stop"]["share"] < 1
        else:  # a high learning rate may or may not be too high, by the rounding of this machine
            assert trial["status"] == "diverged"
            assert trial["loss"] is None
    assert set(payload["fits"]["lr"]["exponents"]) == {"params", "tokens"}
    assert payload["rule"]["batch_tokens"] is None


def test_the_same_command_trains_nothing_twice_and_more_budgets_add_to_the_rule(
    tuned: Path, text: Path, tmp_path: Path
) -> None:
    import shutil

    out = shutil.copytree(tuned, tmp_path / "tuned")
    before = (out / "runs.parquet").read_bytes()
    again = llmscale(*options(text, out), "--json")
    assert again.exit_code == 0, again.output
    assert (out / "runs.parquet").read_bytes() == before
    assert json.loads(again.stdout)["rungs"] == read(tuned)["rungs"]
    more = llmscale(*options(text, out, sizes="1x16x1", tokens="2.4k"))
    assert more.exit_code == 0, more.output
    first, *others = read(out)["rungs"]
    assert (first["size"], first["tokens"]) == ("1x16x1", 2400)
    assert others == read(tuned)["rungs"]
    assert read(out)["fits"]["lr"]["optima"] == 5


def test_a_sweep_uses_the_rule_and_notices_when_it_changes(
    tuned: Path, text: Path, tmp_path: Path
) -> None:
    import shutil

    rule = shutil.copytree(tuned, tmp_path / "rule")
    out = tmp_path / "swept"
    command = ["sweep", *options(text, out, sizes="1x16x1,2x64x4", tokens="16k")[1:]]
    command = [word for word in command if word not in ("--lr-scale", "2", "--no-batch")] + [
        "--rule",
        str(rule),
    ]
    plan = llmscale(*command, "--dry-run", "--json")
    assert plan.exit_code == 0, plan.output
    payload = json.loads(plan.stdout)
    for run in payload["runs"]:
        assert run["lr"] == pytest.approx(read_rule(rule).lr.at(run["params"], 16_000))
    assert "rule-extrapolates" not in [warning["code"] for warning in payload["warnings"]]
    far = llmscale(*changed(command, ["--sizes", "2x128x4"]), "--dry-run", "--json")
    assert "rule-extrapolates" in [
        warning["code"] for warning in json.loads(far.stdout)["warnings"]
    ]

    assert llmscale(*changed(command, ["--sizes", "1x16x1"])).exit_code == 0
    assert (
        json.loads((out / "sweep.json").read_text())["basis"]["recipe"]["rule"]
        == read(rule)["rule"]
    )
    other = read(rule)
    other["rule"]["lr"]["coefficient"] *= 2
    (rule / "tune.json").write_text(json.dumps(other))
    refused = llmscale(*command)
    assert refused.exit_code == 2
    assert "recipe.rule.lr.coefficient" in refused.stderr


def test_a_dry_run_shows_the_first_trials_and_writes_nothing(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    plan = llmscale(*options(text, out), "--dry-run", "--json")
    assert plan.exit_code == 0, plan.output
    runs = json.loads(plan.stdout)["runs"]
    assert len(runs) == 4 * 3
    rates = sorted(run["lr"] for run in runs if run["size"] == "1x16x1" and run["tokens"] == 4000)
    assert [rate / rates[1] for rate in rates] == [0.5, 1, 2]
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--sizes", "10Q"], "not a number"),
        (["--tokens", "20"], "smaller than one step"),
        (["--rule", "nowhere/tune.json"], "nowhere"),
        (["--doublings", "0"], "doublings"),
        (["--seeds", "0"], "seeds"),
        (["--lr", "-1"], "out of range"),
        (["missing.toml"], "missing.toml"),
        (["--out", "letters"], "holds files"),
    ],
)
def test_wrong_input_is_refused_before_any_work(
    changes: list[str], words: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    result = llmscale(*changed(options(text, tmp_path / "tuned"), changes))
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["letter.txt", "letters"]


def test_a_folder_tuned_by_another_recipe_is_refused(tuned: Path, text: Path) -> None:
    result = llmscale(*options(text, tuned), "--schedule", "cosine")
    assert result.exit_code == 2
    assert "recipe.schedule is wsd there and cosine here" in result.stderr


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"recipes": {"slow": {"lr_scale": 0.5}}}, "recipes"),
        ({"retry_diverged": 2}, "retry_diverged"),
        ({"stack": "always"}, "stack"),
    ],
)
def test_settings_that_a_search_has_no_use_for_are_refused(
    asked: dict[str, Any], word: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        tune(sizes="1M", out=tmp_path / "tuned", progress=False, **asked)
    assert word in caught.value.problem
    assert caught.value.fix == f"leave {word if word != 'recipes' else '[recipes]'} out"
    assert not (tmp_path / "tuned").exists()

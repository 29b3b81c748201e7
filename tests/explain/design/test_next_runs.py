"""The next runs: what they cost, what is expected of them, and what comes of it."""

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale import InputError, NextRuns
from llmscale.explain.design.learning_rates import rates_of
from llmscale.explain.design.sizes import own_sweep, sizes_of
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.measure.sweep.spec import read_spec
from llmscale.runs.shape import shape_for

LAW = Chinchilla(E=1.82, A=482.0, B=2085.0, alpha=0.348, beta=0.366)
NOISE = 0.003
TARGET = 3e21


def measured(N: Any, D: Any, seed: int = 0) -> pd.DataFrame:
    """Runs of the law with the noise of a seed."""
    noise = NOISE * np.random.default_rng(seed).standard_normal(np.size(N))
    return pd.DataFrame({"params": N, "tokens": D, "loss": LAW.loss(N, D) * np.exp(noise)})


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """An IsoFLOP grid of five budgets up to 1e19 FLOPs."""
    C = np.repeat(np.geomspace(1e17, 1e19, 5), 7)
    best = LAW.optimal(C)
    assert best is not None
    N = np.asarray(best[0]) * np.tile(np.geomspace(0.25, 4.0, 7), 5)
    return measured(N, C / 6 / N)


def proposed(table: Any, **asked: Any) -> NextRuns:
    asked = {"budget": 1e20, "target": TARGET, "bootstrap": 300, **asked}
    return llmscale.next_runs(table, **asked)


@pytest.fixture(scope="module")
def found(table: pd.DataFrame) -> NextRuns:
    return proposed(table, max_run_flops=3e19)


def test_the_interval_to_be_narrowed_is_the_one_that_predict_gives(
    table: pd.DataFrame, found: NextRuns
) -> None:
    told = llmscale.predict(table, flops=TARGET, bootstrap=300)
    assert found.before == (told.low, told.high)
    assert found.loss == told.loss


def test_a_batch_keeps_to_its_limits_and_narrows_the_interval(found: NextRuns) -> None:
    assert 1 <= len(found.runs) <= 8
    assert found.flops == pytest.approx(sum(6 * run.params * run.tokens for run in found.runs))
    assert found.flops <= 1e20 * 1.001
    assert found.after[1] - found.after[0] < found.before[1] - found.before[0]
    for run in found.runs:
        assert run.flops <= 3e19 * 1.001
        assert 3 <= run.tokens_per_param * 1.001 <= 300.5
    assert "shortens the extrapolation from 300x to" in found.runs[0].reason


def test_once_the_runs_are_made_predict_gives_about_the_interval_that_was_expected(
    table: pd.DataFrame, found: NextRuns
) -> None:
    ratios = []
    for seed in range(1, 5):
        N, D = (
            np.array([getattr(run, name) for run in found.runs]) for name in ("params", "tokens")
        )
        told = llmscale.predict(
            pd.concat([table, measured(N, D, seed)]), flops=TARGET, bootstrap=300, law="anchored"
        )
        ratios.append((told.high - told.low) / (found.after[1] - found.after[0]))
    assert 0.85 < np.median(ratios) < 1.15


def test_what_a_run_is_worth_is_what_predict_loses_without_it(
    table: pd.DataFrame, found: NextRuns
) -> None:
    law = found.forecast.fit
    assert law is not None
    made = pd.DataFrame([{"params": run.params, "tokens": run.tokens} for run in found.runs])
    made["loss"] = law.law.loss(made["params"].to_numpy(), made["tokens"].to_numpy())
    asked: dict[str, Any] = {"bootstrap": 300, "law": law.law.name}
    asked |= {"params": found.forecast.params, "tokens": found.forecast.tokens}

    def width(runs: pd.DataFrame) -> float:
        told = llmscale.predict(pd.concat([table, runs], ignore_index=True), **asked)
        return float(told.high - told.low)

    assert len(found.runs) > 1
    assert found.refitted == pytest.approx(width(made))
    assert not found.is_doubtful
    for times, less in ((0.99, "narrow it by less"), (1.1, "not narrow it at all")):
        doubted = replace(found, refitted=times * (found.before[1] - found.before[0]))
        assert dict(doubted.said())["doubt"].endswith(f"they may {less}")
    now, then = found.before[1] - found.before[0], width(made)
    for place, run in enumerate(found.runs[:1]):
        lost = np.clip((width(made.drop(index=place)) - then) / (now - then), 0.0, 1.0)
        assert run.lost_without == pytest.approx(lost, abs=0.02)


def test_runs_that_a_fit_does_not_miss_are_left_out() -> None:
    N = np.repeat([10e6, 20e6, 40e6, 80e6], 3)
    grid = measured(N, N * np.tile([5.0, 20.0, 80.0], 4))
    asked: dict[str, Any] = {"budget": 1e19, "target": 1e21, "law": "anchored"}
    kept = proposed(grid, **asked)
    assert "of the narrowing less than 1% is lost without 1 more run, " in kept.stop
    assert all(run.lost_without is None or run.lost_without >= 0.01 for run in kept.runs)
    assert kept.toml.count("size =") == len(kept.runs)
    assert kept.flops == pytest.approx(sum(6 * run.params * run.tokens for run in kept.runs))


def test_the_same_call_gives_the_same_runs(table: pd.DataFrame, found: NextRuns) -> None:
    assert proposed(table, max_run_flops=3e19).to_json() == found.to_json()


def test_a_width_stops_the_batch_or_says_what_it_takes(table: pd.DataFrame) -> None:
    wide = proposed(table)
    now = wide.before[1] - wide.before[0]
    enough = proposed(table, width=0.8 * now)
    assert 0 < enough.flops < wide.flops
    assert enough.after[1] - enough.after[0] <= 0.8 * now
    dear = proposed(table, budget=2e18, width=0.7 * now)
    assert dear.needed is not None
    assert dear.needed > 2e18
    assert "is expected to take" in dear.stop
    assert "one run varies by" in proposed(table, width=1e-4).stop
    met = proposed(table, width=2 * now)
    assert met.runs == ()
    assert "already no wider than" in met.verdict


def test_runs_off_the_optimum_say_how_many_more_or_fewer_tokens_they_have(
    table: pd.DataFrame,
) -> None:
    for ratios, side in (("3,6", "fewer"), ("100,200", "more")):
        found = proposed(table, tokens_per_param=ratios, batch=1, max_run_flops=2e18)
        (run,), fit = found.runs, found.forecast.fit
        said = re.search(rf"^([\d.]+) times {side} tokens a parameter than are best", run.reason)
        assert said
        assert fit is not None
        N, D = fit.law.optimal(6 * run.params * run.tokens) or (np.nan, np.nan)
        times = run.tokens_per_param / float(D / N)
        assert max(times, 1 / times) == pytest.approx(float(said[1]), rel=0.03)


def test_a_budget_that_buys_nothing_worth_it_says_so(table: pd.DataFrame) -> None:
    small: dict[str, Any] = {"sizes": "80M,120M", "batch": 1}
    poor = proposed(table, budget=4e17, **small)
    assert poor.runs == ()
    assert poor.after == poor.before
    assert "is expected to narrow the interval by 1%" in poor.stop
    enough = float(re.findall(r"save the budget: (\S+) FLOPs are", poor.stop)[0])
    assert proposed(table, budget=1.01 * enough, **small).runs
    assert "no run is proposed" in str(poor)


def test_one_size_can_be_asked_for_and_one_that_is_too_dear_says_what_it_takes(
    table: pd.DataFrame,
) -> None:
    for size in ("105M", "1M"):  # the cheapest 1M run is far below a share of the budget
        assert {run.size for run in proposed(table, sizes=f"{size},{size}").runs} == {size}
    with pytest.raises(InputError, match=r"1T at 3 tokens a parameter, takes 1\.8e\+25 FLOPs"):
        proposed(table, sizes="1T,10T")


def test_a_new_size_of_a_sweep_is_a_shape_within_the_limits(repository: Path) -> None:
    runs = llmscale.read_runs(repository / "results" / "flagship")
    known = set(runs.frame["params"])
    for most in (2e6, 3e6, 4e6):  # the nearest shapes have 2.005M, 3.002M and 4.003M
        sizes = sizes_of(runs, own_sweep(runs), 1e6, most)
        new = [size.params for size in sizes if size.params not in known]
        assert 1e6 <= min(new) < max(new) <= most
        assert max(new) > 0.98 * most


def test_a_file_for_sweep_goes_on_with_the_sweep_of_the_table(
    repository: Path, tmp_path: Path
) -> None:
    folder = repository / "results" / "flagship"
    path = tmp_path / "next.toml"
    found = proposed(folder, budget=1e15, target=1e16, max_run_flops=3e14, output=path)
    assert found.written == str(path)
    spec = read_spec(path)
    stated = json.loads((folder / "sweep.json").read_text())["spec"]
    assert list(spec.sizes) == stated["sizes"]
    assert [str(one) for one in spec.tokens] == stated["tokens"]
    assert spec.recipe.context == stated["recipe"]["context"]
    assert spec.data.source == stated["data"]["source"]
    for run, asked in zip(found.runs, spec.runs, strict=True):
        shape = shape_for(asked.size, vocab_size=1024, context=spec.recipe.context)
        assert shape.params == run.params
        assert asked.tokens.tokens(shape.params) == run.tokens
        assert shape.flops_per_token * run.tokens == pytest.approx(run.own_flops)
        assert run.flops <= run.own_flops


def test_a_file_for_other_tables_is_a_sweep_of_the_runs_alone(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "next.toml"
    found = proposed(table, max_run_flops=3e19, output=path)
    runs = tomllib.loads(path.read_text())["runs"]
    assert sum(run.get("seeds", 1) for run in runs) >= len(found.runs)
    assert {run.size for run in found.runs} == {run.size for run in read_spec(path).runs}


def test_nothing_is_written_and_that_is_said_if_there_is_no_run_a_sweep_trains(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "next.toml"
    poor = proposed(table, budget=4e17, sizes="80M,120M", batch=1, output=path)
    assert not poor.runs
    assert poor.unwritten == f"{path} is not written: no run is proposed"
    path.write_text("sizes = []")
    huge = proposed(table, budget=1e30, target=1e30, output=path)
    assert "a sweep trains 10k to 1T parameters, and " in huge.unwritten
    assert huge.unwritten.endswith("is left as it was")
    assert path.read_text() == "sizes = []"


def test_where_the_target_lies_is_said_and_what_a_run_of_it_costs(table: pd.DataFrame) -> None:
    said = {
        target: dict(proposed(table, budget=1e20, target=target).said())["target"]
        for target in (1e15, 1e18, 1e22, 5.79e21)
    }
    assert "below the runs; a run of it costs 1e+15 FLOPs, <0.1% of the budget" in said[1e15]
    assert said[1e18].startswith("inside the runs")
    assert said[1e22] == "1,000x beyond the runs"
    assert said[5.79e21] == "579x beyond the runs"  # as a note on the forecast has it
    below = proposed(table, budget=1e20, target=1e15)
    assert below.side == "below"
    assert not any("extrapolation" in run.reason for run in below.runs)


def test_runs_that_take_more_than_the_target_together_are_not_proposed(
    table: pd.DataFrame,
) -> None:
    rich = proposed(table, budget=100 * TARGET)
    assert 0 < rich.flops <= TARGET * 1.001
    assert "than the target's own 3e+21 FLOPs are not proposed; " in rich.stop


def test_a_batch_says_why_it_ends_and_to_ask_again_after_a_large_run(table: pd.DataFrame) -> None:
    spent = proposed(table)
    assert spent.runs[0].flops > 0.5e20
    assert "--max-run-flops keeps runs smaller" in dict(spent.said())["then"]
    two = replace(spent, runs=spent.runs * 2)
    assert "ask again with its loss before the others" in dict(two.said())["then"]
    one = proposed(table, max_run_flops=3e19, batch=1)
    assert "as many runs as --batch 1 allows" in one.stop
    for shown in (str(one), one._repr_html_()):  # in Python options are keywords
        assert "as many runs as batch=1 allows" in shown
        assert "--" not in shown
    nearly = proposed(table, budget=1e21, max_run_flops=3e20)
    assert "of the budget" in nearly.stop
    limited = proposed(table, budget=1e22, max_run_flops=4e17, sizes="80M,120M", batch=1)
    assert limited.stop.endswith("allow larger runs than --max-run-flops 4e+17")


def test_costs_of_other_tables_are_said_as_a_sweep_counts_them_too(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "next.toml"
    found = proposed(table, max_run_flops=3e19, output=path)
    shapes = [shape_for(run.size, vocab_size=1024, context=256) for run in found.runs]
    counted = sum(
        shape.flops_per_token * run.tokens for shape, run in zip(shapes, found.runs, strict=True)
    )
    assert found.swept == pytest.approx(counted)
    assert f"# A sweep counts {counted:.3g}" in path.read_text()


def test_a_table_of_searches_tells_what_a_rate_costs_that_is_off() -> None:
    bend, scales = 0.01, np.array([0.25, 0.5, 1.0, 2.0, 4.0])
    runs = [
        measured(np.full(5, N), np.full(5, 20 * N)).assign(
            lr=1e-3 * scales, loss=LAW.loss(N, 20 * N) * np.exp(bend * np.log2(scales) ** 2)
        )
        for N in (1e7, 3e7)
    ]
    rates = rates_of(pd.concat(runs, ignore_index=True))
    assert rates is not None
    assert rates.cost == pytest.approx(np.expm1(bend))
    assert rates.largest == 3e7
    assert rates.are_checked(5e7)
    assert not rates.are_checked(1e8)


def test_a_ladder_of_one_budget_is_told_what_to_measure_first() -> None:
    N = np.geomspace(1e7, 1e9, 7)
    with pytest.raises(InputError, match="which these runs do not tell") as caught:
        proposed(measured(N, np.full(7, 1e10)))
    assert caught.value.fix is not None
    assert "measure several budgets at each size" in caught.value.fix
    assert "power-floor" not in caught.value.fix


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"budget": None}, "no budget was given"),
        ({"target": "much"}, "target 'much' is not a number"),
        ({"max_run_flops": 1e10}, "more than --max-run-flops 1e+10"),
        ({"budget": "much"}, "'much' is not a number"),
        ({"budget": 1e10}, "more than the budget of 1e+10"),
        ({"target": None}, "the target of the forecast is not said"),
        ({"params": "1B"}, "the target is said twice"),
        ({"target": None, "params": "1B"}, "half of the target is said"),
        ({"tokens_per_param": "5"}, "does not say from where to where"),
        ({"sizes": "1B,10M"}, "goes from 1B to 10M"),
        ({"output": "next.yaml"}, "next.yaml is no .toml"),
        ({"law": "power-floor"}, "power-floor"),
        ({"bootstrap": 0}, "has no intervals"),
        ({"target": [1e20, 1e21]}, "there are several targets"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence(
    table: pd.DataFrame, asked: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        proposed(table, **asked)
    assert problem in caught.value.problem
    assert caught.value.fix


def test_runs_in_one_size_tell_no_next_runs() -> None:
    C = np.geomspace(1e17, 1e19, 12)
    with pytest.raises(InputError, match="law in N and D"):
        proposed(measured(np.full(12, 1e8), C / 6e8))


def test_a_kept_fit_without_its_table_is_refused(table: pd.DataFrame) -> None:
    fit = llmscale.fit(table, law="chinchilla", bootstrap=300)
    with pytest.raises(InputError, match="are not here"):
        proposed(replace(fit, runs=None), bootstrap=None)

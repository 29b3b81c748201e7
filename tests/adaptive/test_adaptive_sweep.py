"""The loop of `llmscale next --auto` from a file to a forecast: real runs, and a real kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeps import assert_same_results, llmscale, tables, wait_for, worker_pids

from llmscale import InputError, NextRuns, WorkError, adaptive_sweep, next_runs, predict, sweep
from llmscale.adaptive import loop as loop_module
from llmscale.adaptive.result import AdaptiveSweep
from llmscale.adaptive.spending import spent_flops
from llmscale.adaptive.start import start_designs
from llmscale.adaptive.state import read_state
from llmscale.explain.design.propose import Choice
from llmscale.explain.design.sweep_file import spec_file
from llmscale.measure.sweep.spec import read_spec
from llmscale.measure.train.job import run_row
from llmscale.runs.results_folder import ResultsFolder

FIRST, LARGER = 1e10, 5e10
"""A budget that little more than the start is bought for, and one of some rounds."""
TARGET: dict[str, Any] = {"params": "40k", "tokens": "1M", "law": "chinchilla", "bootstrap": 20}


def go_on(folder: Path, **changes: Any) -> AdaptiveSweep:
    settings = {"budget": LARGER, "rounds": 2, "progress": False, **TARGET, **changes}
    return adaptive_sweep(folder, **settings)


@pytest.fixture(scope="module")
def start(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a sweep that a loop begins with."""
    path = tmp_path_factory.mktemp("loop") / "start.toml"
    path.write_text(
        f"""sizes = ["2x24x2", "1x16x1", "2x16x1", "4x64x4"]
tokens = ["5k", "10k", "20k"]
[data]
source = "{text}"
tokenizer = "bpe:300"
[recipe]
context = 32
batch_tokens = 512
lr = 0.02
[hardware]
device = "cpu"
dtype = "float32"
workers = 1
"""
    )
    return path


@pytest.fixture(scope="module")
def begun(start: Path) -> Path:
    """The folder of a loop after its start: it was allowed no more."""
    out = start.with_name("begun")
    found = go_on(start, out=out, budget=FIRST, width=1e3)
    assert found.stop == "the interval is no wider than 1000"
    return out


@pytest.fixture(scope="module")
def ended(begun: Path) -> Path:
    """The same loop with a larger budget and no width, until it has spent it."""
    out = begun.with_name("ended")
    shutil.copytree(begun, out)
    go_on(out)
    return out


def test_a_loop_begins_with_the_smallest_sizes_and_spends_no_more_than_its_budget(
    begun: Path, ended: Path
) -> None:
    first, runs = tables(begun)[0], tables(ended)[0]
    assert sorted(set(first["size"])) == ["1x16x1", "2x16x1", "2x24x2"]
    assert sorted(set(first["tokens"])) == [4_992, 9_984, 20_000]
    state = read_state(ResultsFolder(ended))
    assert state is not None
    start, *chosen = state.rounds
    assert [one.number for one in state.rounds] == list(range(len(state.rounds)))
    assert len(first) == len(start.runs)
    assert len(runs) == sum(len(one.runs) for one in state.rounds)
    # A trunk is trained once, and of its branches the cooldown, a fifth, in whole steps.
    per_token = first["flops"] / first["tokens"]
    own = per_token * first["tokens"].where(first["parent"].isna(), 0.2 * first["tokens"])
    assert start.flops == pytest.approx(own.sum(), rel=0.05)
    for one in chosen:
        assert one.flops == pytest.approx(one.planned_flops, rel=0.01)  # in whole steps
        assert one.before is not None
        assert one.after is not None
        assert one.expected is not None
    assert sum(one.flops or 0 for one in state.rounds) <= LARGER
    for one, following in zip(state.rounds, chosen, strict=False):
        assert one.after == following.before


def test_a_loop_that_was_killed_goes_on_with_the_runs_it_had_chosen_to_the_same_table(
    begun: Path, ended: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    shutil.copytree(begun, out)
    options = [f"--{name}={value}" for name, value in TARGET.items()]
    command = ["next", str(out), "--auto", f"--budget={LARGER}", "--rounds=2", *options]
    nowhere = subprocess.DEVNULL
    words = [sys.executable, "-m", "llmscale", *command]
    with subprocess.Popen(words, stdout=nowhere, stderr=nowhere) as process:
        wait_for(lambda: list(out.glob("runs/*/progress.jsonl")) and worker_pids(out), 240)
        for pid in (process.pid, *worker_pids(out)):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not worker_pids(out), 60)
    killed = read_state(ResultsFolder(out))
    assert killed is not None
    assert killed.under_way is not None
    done = llmscale(*command, "--json")
    assert done.exit_code == 0, done.output
    assert_same_results(out, ended)
    state, same = read_state(ResultsFolder(out)), read_state(ResultsFolder(ended))
    assert state is not None
    assert same is not None
    assert state.rounds[: len(killed.rounds)][-1].runs == killed.rounds[-1].runs
    assert [one.runs for one in state.rounds] == [one.runs for one in same.rounds]
    said = json.loads(done.stdout)
    assert said["spent"] == pytest.approx(sum(one.flops or 0 for one in same.rounds))
    assert said["stop"] == same.stop


def test_the_same_call_changes_nothing_and_one_that_contradicts_it_is_refused(
    start: Path, ended: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ended"
    shutil.copytree(ended, out)
    before = {path: path.read_bytes() for path in out.glob("*.*")}
    for where in ({"folder": out}, {"folder": start, "out": out}):
        again = go_on(**where, params=40_000, tokens=1_000_000)
        assert again.stop == "2 rounds were allowed: go on with more --rounds"
        assert "; larger ones were weighed up to 40k, that of the target (" in again.sizes
    assert {path: path.read_bytes() for path in out.glob("*.*")} == before
    for changes, message in (
        ({"params": "80k"}, "begun with params=40000, and this command says params=80000"),
        ({"law": None}, 'begun with law="chinchilla", and this command says no law'),
        ({"budget": FIRST}, "FLOPs, more than a budget of 1e"),
        ({"out": tmp_path / "other"}, "to write to"),
    ):
        with pytest.raises(InputError, match=message):
            go_on(out, **changes)
    assert {path: path.read_bytes() for path in out.glob("*.*")} == before


def test_a_dry_run_shows_the_first_round_and_writes_nothing(
    start: Path, begun: Path, ended: Path, tmp_path: Path
) -> None:
    found = go_on(start, out=tmp_path / "new", dry_run=True)
    assert not (tmp_path / "new").exists()
    state = read_state(ResultsFolder(ended))
    assert state is not None
    assert found.first is not None
    assert found.first.runs == state.rounds[0].runs
    before = {path: path.stat().st_mtime_ns for path in begun.rglob("*")}
    options = [f"--{name}={value}" for name, value in TARGET.items()]
    command = ["next", str(begun), "--auto", f"--budget={LARGER}", "--rounds=2", "--dry-run"]
    shown = llmscale(*command, *options)
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.stdout.split())
    assert re.search(r"round 1: .*: interval \[.*\] before, \[.*\] expected", said)
    assert ("runs of one size begin alike" in said) == state.rounds[1].has_branches
    assert state.rounds[0].has_branches
    assert all(run.size in shown.stdout for run in state.rounds[1].runs)
    assert {path: path.stat().st_mtime_ns for path in begun.rglob("*")} == before


def test_a_round_is_chosen_by_the_one_forecast_that_it_begins_with(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecasts = []

    def counted(*source: Any, **asked: Any) -> Any:
        forecasts.append(source)
        return predict(*source, **asked)

    for name in ("llmscale.adaptive.loop", "llmscale.explain.api.next_runs"):
        monkeypatch.setattr(sys.modules[name], "predict", counted)
    assert go_on(begun, dry_run=True).first is not None
    assert len(forecasts) == 1


def test_a_run_that_diverged_is_not_chosen_again(begun: Path, tmp_path: Path) -> None:
    out = tmp_path / "diverged"
    shutil.copytree(begun, out)
    asked: dict[str, Any] = {"budget": LARGER, **TARGET}
    first = next_runs(out, **asked).runs[0]
    runs = pd.read_parquet(out / "runs.parquet")
    row = runs.iloc[-1].to_dict() | {"run_id": "diverged", "status": "diverged", "loss": None}
    row |= {"size": first.size, "params": int(first.params), "tokens": int(first.tokens)}
    pd.concat([runs, pd.DataFrame([row])]).to_parquet(out / "runs.parquet")
    points = {(run.size, run.tokens) for run in next_runs(out, **asked).runs}
    assert points
    assert (first.size, first.tokens) not in points


def test_the_file_of_a_choice_costs_what_is_quoted_and_tries_the_learning_rate(
    begun: Path, tmp_path: Path
) -> None:
    path = tmp_path / "next.toml"
    asked: dict[str, Any] = {"budget": LARGER, "max_run_flops": LARGER / 4, **TARGET}
    found = next_runs(begun, **asked, output=path)
    assert "nor at any size of this table" in found.rate
    plan = sweep(path, out=begun, dry_run=True, progress=False).plan
    assert plan.flops == pytest.approx(found.flops, rel=0.02)

    found = next_runs(begun, **asked, output=path, learning_rates=True)
    trials = found.trials
    assert trials is not None
    assert trials.size == max(found.runs, key=lambda run: run.params).size
    assert found.flops + trials.flops <= LARGER
    plan = sweep(path, out=begun, dry_run=True, progress=False).plan
    assert plan.flops == pytest.approx(found.flops + trials.flops, rel=0.05)
    rates = {
        run.job.lr for run in plan.runs
        if run.job.size == trials.size and abs(run.job.tokens / trials.tokens - 1) < 0.05
    }  # fmt: skip
    assert len(rates) >= len(trials.scales)
    assert max(rates) == pytest.approx(4 * min(rates))


def test_what_diverged_is_paid_as_far_as_it_got(text: Path, tmp_path: Path) -> None:
    spec = {"sizes": "1x16x1", "tokens": "20k", "data": str(text), "tokenizer": "bpe:300"}
    recipe = {"context": 32, "lr": 1e4, "clip": 1e9, "batch_tokens": 512}
    here = {"device": "cpu", "dtype": "float32", "workers": 1, "progress": False}
    result = sweep(**spec, **recipe, **here, out=tmp_path / "out")  # type: ignore[arg-type]
    (run,) = result.runs
    assert run.status == "diverged"
    curve = tables(tmp_path / "out")[1]
    spent = spent_flops(ResultsFolder(tmp_path / "out"))
    assert 0 < spent[run.run_id] < run.flops
    assert spent == {run.run_id: pytest.approx(curve["flops"].max())}


@pytest.mark.parametrize("name", ["adaptive", "cpu", "isoflop", "flagship", "trunks"])
def test_the_file_of_a_start_asks_for_the_very_sweep(
    name: str, repository: Path, tmp_path: Path
) -> None:
    asked = replace(read_spec(repository / "experiments" / f"{name}.toml"), recipes={})
    hardware = replace(asked.hardware, executor="slurm", device="cpu")
    for design in start_designs(replace(asked, hardware=hardware), (3, 300)):
        text = spec_file(json.loads(json.dumps(design.to_json())), "a start")
        (tmp_path / "next-0.toml").write_text(text)
        assert read_spec(tmp_path / "next-0.toml").to_json() == design.to_json()


def test_a_round_that_costs_more_than_was_thought_is_chosen_again_with_less(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "dear"
    shutil.copytree(begun, out)
    asked: list[float] = []

    propose = Choice.propose

    def of_thrice(choice: Choice) -> NextRuns:
        asked.append(choice.wanted.budget)
        return propose(replace(choice, wanted=replace(choice.wanted, budget=3.0 * asked[-1])))

    def planned(asked: Any, **settings: Any) -> Any:
        plan = sweep(asked, **settings, dry_run=True).plan
        raise KeyboardInterrupt(str(plan.flops))

    monkeypatch.setattr(Choice, "propose", of_thrice)
    monkeypatch.setattr(loop_module, "sweep", planned)
    with pytest.raises(KeyboardInterrupt) as accepted:
        go_on(out, rounds=1)
    assert len(asked) > 1
    assert asked[-1] < asked[0]  # of one round: all that is left, and then less
    left = LARGER - sum(spent_flops(ResultsFolder(out)).values())
    assert asked[0] == pytest.approx(left)
    assert 0 < float(str(accepted.value)) <= left


def test_a_loop_whose_runs_all_fail_ends_with_what_is_wrong(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "failed"
    shutil.copytree(begun, out)

    def failing(asked: Any, **settings: Any) -> Any:
        planned = sweep(asked, **settings, dry_run=True)
        jobs = [run.job for run in planned.plan.runs]
        rows = [run_row(job, "failed", "cpu", error="no memory") for job in jobs]
        return replace(planned, runs=tuple(rows))

    monkeypatch.setattr(loop_module, "sweep", failing)
    with pytest.raises(WorkError, match="of round 1 failed: no memory"):
        go_on(out)
    state = read_state(ResultsFolder(out))
    assert state is not None
    assert state.under_way is not None


def test_what_no_loop_can_go_on_in_is_refused(start: Path, begun: Path, tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text("params,tokens,loss\n1,2,3\n")
    (tmp_path / "empty").mkdir()
    few = tmp_path / "few.toml"
    few.write_text('sizes = ["10k", "20k"]\n')
    two = tmp_path / "two.toml"
    two.write_text(start.read_text() + "[recipes.other]\nlr = 0.01\n")
    target = ["--budget=1e12", "--params=40k", "--tokens=1M"]
    for words, message in (
        ([str(table), "--auto"], "--auto trains, so it begins from a results folder or the .toml"),
        ([str(table), "--auto", "--out", str(tmp_path / "new")], "--auto trains, so it begins"),
        ([str(start)], "give --auto; or name the results folder"),
        (["s3://bucket/name", "--auto"], "is a URL"),
        ([str(tmp_path / "empty"), "--auto"], "there is no"),
        ([str(few), "--auto"], "takes 3 sizes to begin with"),
        ([str(two), "--auto"], "several recipes"),
        ([str(start), "--auto", "--out", str(tmp_path / "new"), "--budget=1e9"], "to begin with"),
        ([str(start), "--auto", "--law=power-floor"], "is no law in N and D"),
        ([str(start), "--auto", "--bootstrap=0"], "there is no interval"),
        ([str(start), "--auto", "--target=1e15"], "the target is said twice"),
        ([str(start), "--auto", "--learning-rates"], "is for a single choice"),
        ([str(begun), "--rounds=3"], "--rounds is for --auto"),
        ([str(begun), "--yes"], "--yes is for --auto"),
    ):
        given = [one for one in target if not any(one[:8] == word[:8] for word in words)]
        done = llmscale("next", *words, *given)
        assert done.exit_code == 2, done.output
        assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "new").exists()


def test_the_docs_say_what_the_experiment_found(repository: Path) -> None:
    page = (repository / "docs" / "next-runs.md").read_text().partition("A real loop on")[2]
    found = (repository / "results" / "adaptive" / "README.md").read_text()
    errors = re.findall(r"\d\.\d%", page)
    assert len(errors) == 3
    assert all(f"errs {error}" in found for error in errors)

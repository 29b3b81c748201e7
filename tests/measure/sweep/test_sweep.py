"""A sweep from the command line: real processes, real kills, real files."""

import functools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeps import (
    ALIKE,
    BRANCHED,
    assert_same_results,
    changed,
    llmscale,
    tables,
    wait_for,
    worker_pids,
)
from sweeps import options as sweep_options

from llmscale.measure.executors import Event, Place, Task
from llmscale.measure.lead import train_tasks
from llmscale.measure.sweep.api import sweep
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.sweep.watching import Silent
from llmscale.runs.lock import only_writer
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CURVE_COLUMNS, RUN_COLUMNS
from llmscale.runs.shape import shape_for

SIZES = "1x16x1,2x16x1,2x24x2"
ROUNDING = 1e-5
"""Relative difference of losses that another number of threads a run may bring."""
options = functools.partial(sweep_options, sizes=SIZES)


class Impatient(Silent):
    """Somebody who presses Ctrl-C when half of a run is trained."""

    def training(self, plan: Plan, folder: ResultsFolder) -> Any:
        def report(event: Event) -> None:
            if event.kind == "logged" and event.point["tokens"] > plan.runs[0].job.tokens / 2:
                raise KeyboardInterrupt

        return nullcontext(report)


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of an uninterrupted sweep over three sizes."""
    out = tmp_path_factory.mktemp("results") / "swept"
    result = llmscale(*options(text, out, workers="2"))
    assert result.exit_code == 0, result.output
    assert "loss" in result.stdout
    assert "[3/3]" in result.stderr
    return out


def test_a_sweep_writes_the_tables_of_the_contract(swept: Path, text: Path) -> None:
    runs, curves = tables(swept)
    assert list(runs.columns) == list(RUN_COLUMNS)
    assert list(curves.columns) == list(CURVE_COLUMNS)
    assert list(runs["size"]) == SIZES.split(",")
    assert set(runs["status"]) == {"done"}
    for run in runs.to_dict("records"):
        shape = shape_for(run["size"], vocab_size=run["vocab_size"], context=32)
        assert run["params"] == shape.params
        assert run["flops"] == run["tokens"] * shape.flops_per_token
        assert run["tokens"] == run["unique_tokens"] == 20_000
        assert run["perplexity"] == pytest.approx(math.exp(run["loss"]))
        assert 0 < run["loss"] < math.log(300)
        assert 0 < run["bits_per_byte"] < 8
        assert run["loss_stderr"] > 0
        assert run["mfu"] > 0
        # All of the run's time, where mfu counts that of its steps.
        assert run["wall_mfu"] == pytest.approx(
            run["mfu"] * run["tokens"] / run["tokens_per_second"] / run["seconds"]
        )
        curve = curves[curves["run_id"] == run["run_id"]]
        assert curve["step"].is_monotonic_increasing
        assert curve["step"].iloc[-1] == run["steps"]
        assert curve["loss"].iloc[-1] == run["loss"]
        assert not list(swept.glob("runs/*/checkpoint*"))
    sweep = json.loads((swept / "sweep.json").read_text())
    assert sweep["data"]["fingerprint"] == runs["data_fingerprint"].iloc[0]
    assert sweep["spec"]["data"]["source"] == str(text)
    assert sweep["hardware"]["peak_flops"] > 0
    assert {"torch", "python", "llmscale"} <= set(sweep["versions"])


def test_the_same_command_trains_nothing_twice_and_a_larger_one_only_what_is_new(
    text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    assert llmscale(*options(text, out, sizes="1x16x1", tokens="10k,20k")).exit_code == 0
    before = (out / "runs.parquet").read_bytes()
    again = llmscale(*options(text, out, sizes="1x16x1", tokens="20k,10k"), "--json")
    assert again.exit_code == 0, again.output
    assert (out / "runs.parquet").read_bytes() == before
    assert len(json.loads(again.stdout)["runs"]) == 2
    more = llmscale(*options(text, out, sizes="1x16x1,1x24x2", tokens="40k,20k,10k"))
    assert more.exit_code == 0, more.output
    assert "[4/4]" in more.stderr
    runs, _ = tables(out)
    assert sorted(zip(runs["size"], runs["tokens"], strict=True)) == [
        (size, tokens) for size in ("1x16x1", "1x24x2") for tokens in (9_984, 20_000, 40_000)
    ]


@pytest.mark.parametrize(
    ("how", "left_behind"),
    [
        pytest.param(signal.SIGKILL, "progress.jsonl", id="killed while a run trains"),
        pytest.param(
            signal.SIGINT,
            "spec.json",
            id="interrupted while a worker loads",
            marks=pytest.mark.slow,
        ),
        pytest.param(signal.SIGTERM, "run.json", id="ended after a run", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_that_was_ended_goes_on_and_ends_in_the_same_table(
    how: signal.Signals, left_behind: str, swept: Path, text: Path, tmp_path: Path
) -> None:
    """It is ended when the first run has left that file, so two runs at least are still to be
    trained.
    """
    out = tmp_path / "results"
    arguments = options(text, out)
    command = [sys.executable, "-m", "llmscale", *arguments]
    # Background jobs of a shell ignore SIGINT, and so would what they start.
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere, preexec_fn=listens) as process:
        wait_for(lambda: list(out.glob(f"runs/*/{left_behind}")) and worker_pids(out), 240)
        process.send_signal(how)
        code = process.wait(timeout=60)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    wait_for(lambda: not worker_pids(out), 60)  # workers notice that nobody listens, save and end
    result = llmscale(*arguments)
    assert result.exit_code == 0, result.output
    assert_same_results(out, swept)


@pytest.mark.usefixtures("new_workers")
def test_a_worker_killed_again_and_again_fails_its_run_alone_and_the_next_command_mends_it(
    swept: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    folders = [out / "runs" / run_id for run_id in tables(swept)[0]["run_id"]]
    with ThreadPoolExecutor(1) as other:
        with ExitStack() as held:
            for (
                folder
            ) in folders:  # a worker waits for whoever writes its run, so it gets no further
                folder.mkdir(parents=True)
                held.enter_context(only_writer(folder))
            shutil.copy(swept / "sweep.json", out)
            leading = other.submit(llmscale, *options(text, out, workers="2"))
            wait_for(lambda: worker_pids(out) or leading.done(), 240)
            victim = next(folder for folder in folders if worker_pids(folder))
            killed: set[int] = set()
            for _ in range(3):
                wait_for(lambda: set(worker_pids(victim)) - killed or leading.done(), 240)
                (pid,) = set(worker_pids(victim)) - killed
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        led = leading.result(240)
    assert led.exit_code == 1, led.output
    errors = led.stderr
    assert (
        errors.count("was killed by signal 9") == 4
    )  # twice started again, then failed: said at once and at the end
    assert "3 times without getting beyond step 0" in errors
    runs, _ = tables(out)
    assert dict(zip(runs["run_id"], runs["status"], strict=True)) == {
        folder.name: "failed" if folder == victim else "done" for folder in folders
    }
    assert llmscale(*options(text, out)).exit_code == 0
    assert_same_results(out, swept)


def test_a_diverged_run_is_named_and_the_sweep_goes_on(text: Path, tmp_path: Path) -> None:
    spec = tmp_path / "wild.toml"
    spec.write_text(
        f'sizes = ["1x16x1", "2x16x1"]\ntokens = ["40k"]\n[data]\nsource = "{text}"\ntokenizer = '
        '"bpe:300"\n'
        '[recipe]\ncontext = 32\nlr = 1e4\nclip = 1e9\n[hardware]\ndevice = "cpu"\n'
    )
    result = llmscale("sweep", str(spec), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "diverged" in result.stderr
    runs, _ = tables(tmp_path / "out")
    assert list(runs["status"]) == ["diverged", "diverged"]
    assert runs["loss"].isna().all()
    assert all("step" in error for error in runs["error"])


def test_a_plan_shows_cost_and_writes_nothing(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    usual = options(text, out, tokens="5x,20x", batch_tokens=None)
    plan = llmscale(*usual, "--seeds", "2", "--dry-run", "--json")
    assert plan.exit_code == 0, plan.output
    payload = json.loads(plan.stdout)
    assert len(payload["runs"]) == 3 * 2 * 2
    assert payload["flops"] == pytest.approx(sum(run["trained_flops"] for run in payload["runs"]))
    assert payload["saving"] == pytest.approx(
        sum(run["flops"] for run in payload["runs"]) / payload["flops"]
    )
    assert payload["saving"] == pytest.approx(
        25 / 21, rel=0.01
    )  # a fifth of 5, and 20, tokens a parameter
    trunks = {
        (run["params"], run["seed"]): run["run_id"]
        for run in payload["runs"]
        if run["parent"] is None
    }
    assert len(trunks) == 3 * 2
    assert {trunks[run["params"], run["seed"]] for run in payload["runs"] if run["parent"]} == set(
        trunks.values()
    )
    assert 0 < payload["estimated_seconds"] < 3600
    for run in payload["runs"]:
        assert run["tokens"] == pytest.approx(
            round(run["tokens"] / run["params"] / 5) * 5 * run["params"], rel=0.01
        )
    assert not out.exists()
    table = llmscale(*options(text, out), "--dry-run")
    assert "FLOPs" in table.stderr
    assert "L(N) at 20k tokens" in table.stderr
    rounded = llmscale(*options(text, out, batch_tokens="100"), "--dry-run")
    assert (
        "a step takes whole sequences of 32 tokens: 100 tokens a step become 96"
        in rounded.stderr.replace("\n", " ")
    )
    whole = llmscale(*options(text, out, batch_tokens="96"), "--dry-run")
    assert "whole sequences" not in whole.stderr
    slow = llmscale(*options(text, out), "--max-hours", "1e-9")
    assert slow.exit_code == 2
    assert "--max-hours" in slow.stderr
    assert not out.exists()


def test_more_tokens_than_text_warns_and_records_unique_tokens(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    plan = llmscale(*options(text, out, sizes="1x16x1", tokens="100k"), "--dry-run", "--json")
    assert plan.exit_code == 0, plan.output
    payload = json.loads(plan.stdout)
    assert "repeated-data" in [warning["code"] for warning in payload["warnings"]]
    assert payload["runs"][0]["epochs"] == pytest.approx(
        100e3 / payload["data"]["train_tokens"], rel=0.01
    )
    asked: dict[str, Any] = {
        "sizes": ["1x16x1"],
        "tokens": 100_000,
        "data": str(text),
        "tokenizer": "bpe:300",
    }
    asked |= {"batch_tokens": 512, "context": 32, "device": "cpu", "dtype": "float32"}
    asked |= {"workers": 1, "out": out}
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=f"stopped.* is in {out}, and the same command"):
        sweep(progress=Impatient(), **asked)
    assert signal.getsignal(signal.SIGTERM) == before
    # As a notebook's widgets do, outside of the main thread, where no signals come.
    with ThreadPoolExecutor(1) as other:
        result = other.submit(sweep, progress=False, **asked).result()
    (run,) = result.runs
    assert run.unique_tokens < run.tokens
    assert [planned.job.run_id for planned in result.plan.runs] == [run.run_id]
    assert result.plan.runs[0].is_begun
    assert "repeated-data" in [note.code for note in result.notes]
    assert repr(result) == f"SweepResult({out}: 1 of 1 run done)"
    assert f"<td>{run.loss:.4f}</td>" in result._repr_html_()
    assert list(tables(out)[0]["unique_tokens"]) == [run.unique_tokens]
    words = "--sizes 1x16x1 --tokens 100k --data .* --tokenizer bpe:300 --context 32"
    words += f" --batch-tokens 512 --device cpu --dtype float32 --workers 1 --out {out}"
    assert re.fullmatch(f"llmscale sweep {words}", result.folder.read_sweep()["command"])


def test_a_streamed_dataset_gives_each_run_the_beginning_of_the_stream(
    text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    stream = f"hub:{text.parent}"
    result = llmscale(*options(stream, out, sizes="1x16x1", tokens="10k,20k"), "--yes")
    assert result.exit_code == 0, result.output
    runs, _ = tables(out)
    assert list(runs["status"]) == ["done", "done"]
    assert list(runs["unique_tokens"]) == list(runs["tokens"])
    wider = llmscale(
        *options(stream, out, sizes="1x16x1", tokens="10k,20k,30k"),
        "--yes",
        "--dry-run",
        "--json",
    )
    assert [run["finished"] for run in json.loads(wider.stdout)["runs"]] == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--sizes": "10Q"}, "not a number"),
        ({"--sizes": "0"}, "above zero"),
        ({"--sizes": "-1M"}, "above zero"),
        ({"--sizes": ","}, "empty"),
        ({"--sizes": "6x384x7"}, "heads"),
        ({"--tokens": "lots"}, "not a number"),
        ({"--tokens": "20"}, "smaller than one step"),
        ({"--seeds": "0"}, "seeds"),
        ({"--device": "cuda"}, "no CUDA device"),
        ({"--device": "tpu"}, "device 'tpu' is not known"),
        ({"--dtype": "float8"}, "dtype 'float8' is not known"),
        ({"--arch": "rnn"}, "arch"),
        ({"--optimizer": "adammm"}, "optimizer"),
        ({"--schedule": "stairs"}, "schedule"),
        ({"--compile": "maybe"}, "compile"),
        ({"--data": "missing.txt"}, "missing.txt"),
        ({"--out": "/proc/nowhere/results"}, "cannot write"),
    ],
)
def test_wrong_input_is_one_sentence_and_writes_nothing(
    changes: dict[str, str], words: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "cuda" in changes.values():
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    asked = [f"{name}={value}" for name, value in changes.items()]
    result = llmscale(*changed(options(text, tmp_path / "results"), asked))
    assert result.exit_code == 2, result.output
    assert result.stderr.count("error:") == 1
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('sises = ["1M"]', "'sizes'"),
        ('sizes = ["1M"]\n[recipe]\nlr_scal = 2.0', "'lr_scale'"),
        ('sizes = ["1M"]\n[data]\ntokeniser = "bpe:300"', "'tokenizer'"),
        ('sizes = ["1M"]\n[recipe]\nlr = "fast"', "a number"),
        ('sizes = ["1M"]\n[recipe]\ncontext = true', "whole number"),
        ('sizes = ["1M"]\nseeds = "two"', "whole number"),
        ("sizes = [1.5]", "sizes"),
        ("tokens = 5", "no sizes"),
        ("sizes = [", "not TOML"),
    ],
)
def test_a_wrong_specification_is_refused(toml: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(toml)
    result = llmscale("sweep", str(path), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_specification_is_refused(
    swept: Path, text: Path, tmp_path: Path
) -> None:
    other = llmscale(*options(text, swept), "--lr-scale", "2")
    assert other.exit_code == 2
    assert "lr_scale is 1.0 there and 2.0 here" in other.stderr
    (tmp_path / ".lock").write_text("left by a sweep that was ended before it wrote anything")
    assert llmscale(*options(text, tmp_path), "--dry-run").exit_code == 0
    (tmp_path / "letter.txt").write_text("dear")
    full = llmscale(*options(text, tmp_path))
    assert full.exit_code == 2
    assert "no sweep" in full.stderr


def test_two_sweeps_do_not_write_into_one_folder(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    out.mkdir()
    with only_writer(out):
        second = llmscale(*options(text, out))
    assert second.exit_code == 2, second.stdout
    assert f"process {os.getpid()}" in second.stderr
    assert [file.name for file in out.iterdir()] == [".lock"]


@pytest.mark.usefixtures("new_workers")
def test_a_stopped_run_keeps_its_checkpoint_and_its_worker_goes_on_with_the_next(
    swept: Path, tmp_path: Path
) -> None:
    shutil.copytree(swept / "runs", tmp_path / "runs")
    folders = sorted((tmp_path / "runs").iterdir())
    for folder in folders[:2]:
        (folder / "run.json").unlink()
    events: list[Event] = []
    pids = set()

    def report(event: Event) -> bool:
        events.append(event)
        if event.kind == "logged":
            pids.update(worker_pids(tmp_path))
        return event.kind == "logged" and event.folder == folders[0]

    nobody_writes_this = folders[2] / "lost.pt"
    tasks = [
        Task((folders[0],)),
        Task((folders[1],), after=nobody_writes_this),
        Task((folders[2],)),
    ]
    train_tasks("local", tasks, [Place(threads=1)], report)
    ended = {event.folder: event.exit_code for event in events if event.kind == "ended"}
    assert ended == {folders[0]: 130, folders[1]: 0, folders[2]: 0}
    assert (folders[0] / "checkpoint.pt").exists()
    assert not (folders[0] / "run.json").exists()
    assert (folders[1] / "run.json").exists()
    assert not [event for event in events if event.kind == "logged" and event.folder == folders[2]]
    assert len(pids) == 1


@pytest.fixture(scope="module")
def branched(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of an uninterrupted sweep over two sizes with a trunk and two branches
    each.
    """
    out = tmp_path_factory.mktemp("results") / "branched"
    result = llmscale(*options(text, out, **BRANCHED), *ALIKE)
    assert result.exit_code == 0, result.output
    assert "branch of 40k" in result.stderr
    return out


def test_branches_name_their_trunk_and_have_whole_curves(branched: Path) -> None:
    runs, curves = tables(branched)
    assert set(runs["status"]) == {"done"}
    trunks = dict(runs[runs["tokens"] > 30_000][["size", "run_id"]].to_numpy())
    for run in runs.to_dict("records"):
        if run["run_id"] in trunks.values():
            assert pd.isna(run["parent"])
        else:
            assert run["parent"] == trunks[run["size"]]
        shape = shape_for(run["size"], vocab_size=run["vocab_size"], context=32)
        assert run["flops"] == run["tokens"] * shape.flops_per_token
        curve = curves[curves["run_id"] == run["run_id"]]
        assert list(curve["step"]) == list(range(1, run["steps"] + 1))
        assert curve["loss"].iloc[-1] == run["loss"]
    left = sorted(path.parent.name for path in branched.glob("runs/*/*.pt"))
    assert left == sorted(trunks.values()), (
        "only each trunk keeps the state before its own cooldown"
    )


def test_branches_end_in_the_losses_of_runs_trained_by_themselves(
    branched: Path, text: Path, tmp_path: Path
) -> None:
    runs, _ = tables(branched)
    out = tmp_path / "alone"
    result = llmscale(*options(text, out, sizes=BRANCHED["sizes"], tokens="20k"), *ALIKE)
    assert result.exit_code == 0, result.output
    alone, _ = tables(out)
    both = runs.merge(alone, on="run_id", suffixes=("", "_alone"))
    assert len(both) == 2
    for column in ("loss", "loss_stderr", "train_loss", "bits_per_byte"):
        assert list(both[column]) == pytest.approx(list(both[f"{column}_alone"]), rel=ROUNDING)


@pytest.mark.slow
def test_a_killed_trunk_and_its_branches_end_in_the_same_table(
    branched: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    arguments = [*options(text, out, **BRANCHED), *ALIKE]
    moments = (
        lambda: list(out.glob("runs/*/trunk-*.pt")),
        lambda: len(list(out.glob("runs/*/run.json"))) >= 2,
    )
    for moment in moments:
        with subprocess.Popen(
            [sys.executable, "-m", "llmscale", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            wait_for(moment, 240)
            for pid in [process.pid, *worker_pids(out)]:
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not worker_pids(out), 60)
    result = llmscale(*arguments)
    assert result.exit_code == 0, result.output
    assert_same_results(out, branched)


def test_a_larger_budget_goes_on_from_the_kept_trunk_and_a_lost_branch_point_is_no_error(
    branched: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    shutil.copytree(branched, out)
    before, _ = tables(out)
    wider = [*options(text, out, sizes="1x16x1", tokens="20k,25k,40k,60k"), *ALIKE]
    plan = json.loads(llmscale(*wider, "--dry-run", "--json").stdout)
    assert [run["finished"] for run in plan["runs"]] == [True, True, True, False]
    assert plan["runs"][-1]["parent"] == plan["runs"][-2]["run_id"]
    assert plan["flops"] < 0.5 * plan["runs"][-1]["flops"]
    for path in out.glob("runs/*/*.pt"):
        path.unlink()
    lost = plan["runs"][0]["run_id"]
    (out / "runs" / lost / "run.json").unlink()
    assert (
        llmscale(*options(text, out, sizes="1x16x1", tokens="20k,25k,40k"), *ALIKE).exit_code == 0
    )
    runs, _ = tables(out)
    assert runs.set_index("run_id")["parent"].isna()[lost]
    result = llmscale(*wider)
    assert result.exit_code == 0, result.output
    runs, _ = tables(out)
    again = runs.merge(before, on="run_id", suffixes=("", "_before"))
    assert list(again["loss"]) == pytest.approx(list(again["loss_before"]), rel=ROUNDING)
    assert runs["status"].eq("done").all()


def test_branches_of_a_diverged_trunk_are_recorded_as_diverged(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = llmscale(*options(text, out, **BRANCHED), "--lr", "1e4")
    assert result.exit_code == 0, result.output
    runs, curves = tables(out)
    assert list(runs["status"]) == ["diverged"] * 6
    branches = runs[runs["tokens"] < 30_000]
    assert all(error.startswith("its trunk diverged at step ") for error in branches["error"])
    assert not set(branches["run_id"]) & set(curves["run_id"])
    assert llmscale(*options(text, out, **BRANCHED), "--lr", "1e4").exit_code == 0

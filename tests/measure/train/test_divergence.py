"""Diverged runs and spikes: recorded with their step, tried again with half the learning rate, told
apart in a fit.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.explain.table import read_table
from llmscale.measure.train.curves import divergence
from llmscale.measure.train.spikes import NATS, largest_spike
from llmscale.runs.run import CurvePoint

TIMES = ["seconds", "tokens_per_second", "mfu", "wall_mfu", "peak_memory_bytes"]


# The gradient is clipped to nothing, so each step multiplies the matrices by 1 - lr and does no
# more: by -5 at learning rate 6 and by -2 at 3, which overflows on every processor, and by -0.5 at
# 1.5, which leaves a uniform guess.
SPEC = """
sizes = ["1x16x1", "2x16x1"]
tokens = ["20k", "40k"]
[data]
source = "{text}"
tokenizer = "bpe:300"
[recipe]
context = 32
batch_tokens = 256
lr = 6.0
weight_decay = 1.0
clip = 1e-15
[hardware]
device = "cpu"
dtype = "float32"
workers = 1
"""


def llmscale(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in arguments])


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sizes with a trunk and a branch each, and as many threads for every run."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("text")
    text = folder / "numbers.txt"
    text.write_text(
        "\n\n".join(" ".join(map(str, np.cumsum(rng.integers(1, 9, 200)))) for _ in range(200))
    )
    path = folder / "diverging.toml"
    path.write_text(SPEC.format(text=text))
    return path


def options(spec: Path, out: Path, retries: int) -> list[object]:
    return ["sweep", spec, "--retry-diverged", retries, "--out", out]


@pytest.fixture(scope="module")
def retried(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep at a learning rate that no run survives, nor half of it, which a second command tries
    again.
    """
    out = tmp_path_factory.mktemp("results") / "retried"
    assert llmscale(*options(spec, out, 0)).exit_code == 0
    runs = pd.read_parquet(out / "runs.parquet")
    assert list(runs["status"]) == ["diverged"] * 4
    assert runs["retry_of"].isna().all()
    assert not runs["error"].str.contains("tried again").any()
    result = llmscale(*options(spec, out, 2))
    assert result.exit_code == 0, result.output
    assert "trying 4 runs again with half the learning rate" in result.stderr, "in the second round"
    assert "1x16x1 retry" in result.stdout
    return out


def test_a_diverged_trunk_is_tried_again_with_its_branches_each_time_at_half_the_learning_rate(
    retried: Path,
) -> None:
    runs = pd.read_parquet(retried / "runs.parquet").set_index("run_id")
    assert runs.groupby("lr")["status"].agg(list).to_dict() == {
        1.5: ["done"] * 4, 3.0: ["diverged"] * 4, 6.0: ["diverged"] * 4,
    }  # fmt: skip
    assert runs["retry_of"].isna().equals(runs["lr"] == 6)
    for run in runs[runs["retry_of"].notna()].itertuples():
        first = runs.loc[run.retry_of]
        assert (first["size"], first["tokens"], first["lr"]) == (run.size, run.tokens, 2 * run.lr)
        assert first["error"].count("; tried again") == 1
        assert first["error"].endswith(
            f"; tried again with learning rate {run.lr:.3g} as run {run.Index}"
        )
        assert " at step " in first["error"]
    done = runs[runs["status"] == "done"]
    trunks = dict(done[done["tokens"] == 40_000].reset_index()[["size", "run_id"]].to_numpy())
    assert dict(done[done["tokens"] == 20_000][["size", "parent"]].to_numpy()) == trunks


def test_the_same_command_again_trains_nothing(retried: Path, spec: Path) -> None:
    plan = json.loads(llmscale(*options(spec, retried, 2), "--dry-run", "--json").stdout)
    assert [run["finished"] for run in plan["runs"]] == [True] * 12


def test_a_sweep_names_the_largest_spike_that_its_table_holds_and_speaks_of_none_otherwise(
    retried: Path, spec: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(retried, tmp_path / "out")
    rows = {path: json.loads(path.read_text()) for path in out.glob("runs/*/run.json")}
    assert all(row["spike_height"] is None for row in rows.values() if row["status"] == "done")
    assert "spiked" not in llmscale(*options(spec, out, 2)).stderr
    spikes = {("1x16x1", 40_000): (30, 1.25), ("2x16x1", 20_000): (17, 3.5)}
    for path, row in rows.items():
        if row["status"] == "done":
            step, height = spikes.get((row["size"], row["tokens"]), (None, None))
            path.write_text(json.dumps({**row, "spike_step": step, "spike_height": height}))
        else:
            path.write_text(json.dumps({**row, "spike_step": 2, "spike_height": 99.0}))
    said = llmscale(*options(spec, out, 2), "--notes").stderr.replace("\n", " ")
    assert "the training loss of 2 of 4 runs spiked and came back, of 2x16x1 retry on 20k" in said
    assert "tokens by 3.50 nats at step 17" in said


@pytest.mark.slow
def test_a_killed_sweep_with_retries_ends_in_the_same_table(
    retried: Path, spec: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [str(word) for word in options(spec, out, 2)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, "-m", "llmscale", *arguments], stdout=quiet, stderr=quiet
    ) as process:
        deadline = time.monotonic() + 240
        while len(list(out.glob("runs/*/spec.json"))) < 5 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    result = llmscale(*arguments)
    while (
        result.exit_code == 2 and time.monotonic() < deadline
    ):  # the killed one's workers are still ending
        time.sleep(0.5)
        result = llmscale(*arguments)
    assert result.exit_code == 0, result.output
    one, other = (
        pd.read_parquet(folder / "runs.parquet").drop(columns=TIMES) for folder in (retried, out)
    )
    pd.testing.assert_frame_equal(one, other)
    assert not [path for path in out.glob("runs/*/checkpoint*") if os.path.exists(path)]


def table(**columns: list[Any]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    plain = {"params": [1e6] * count, "tokens": [1e8] * count, "loss": [3.0] * count}
    return pd.DataFrame({"run_id": [f"r{number}" for number in range(count)], **plain, **columns})


def test_a_fit_leaves_out_what_diverged_and_what_was_tried_again_with_it_and_says_so() -> None:
    runs = table(
        status=["done", "diverged", "done", "done", "done"],
        retry_of=[None, None, "r0", "r1", None],
        lr=[0.2, 0.2, 0.1, 0.1, 0.2],
    )
    found = read_table(runs)
    assert list(found.frame["run_id"]) == ["r2", "r3", "r4"]
    assert {run.run_id: run.reason for run in found.excluded} == {
        "r0": "its trunk diverged and was tried again with a lower learning rate",
        "r1": "diverged",
    }
    (note,) = (note for note in found.notes if note.code == "retried-learning-rate")
    assert "2 runs were tried again" in note.message
    assert "r2 (learning rate 0.1), r3 (learning rate 0.1)" in note.message


def test_a_run_whose_retry_came_to_nothing_stays_in_the_fit() -> None:
    found = read_table(table(status=["done", "diverged"], retry_of=[None, "r0"]))
    assert list(found.frame["run_id"]) == ["r0"]


def test_results_without_the_newer_columns_still_read_and_are_extended(repository: Path) -> None:
    old = read_table(repository / "results" / "cpu")
    assert len(old.frame) == 5
    assert not {"retried-learning-rate", "loss-spikes"} & {note.code for note in old.notes}


def curve(losses: np.ndarray) -> list[CurvePoint]:
    return [
        CurvePoint(
            "r", 10 * (number + 1), 0, 0.0, float(loss), 0.0, None, None, 0.1, None, None, 0.0
        )
        for number, loss in enumerate(losses)
    ]


@pytest.mark.parametrize("batch_tokens", [256, 8192])
def test_one_odd_passage_is_no_divergence_but_a_loss_that_stays_high_is(batch_tokens: int) -> None:
    job: Any = SimpleNamespace(
        shape=SimpleNamespace(vocab_size=1024), warmup_steps=5, steps=40, finetuning=None
    )

    def found(losses: list[float]) -> bool:
        curve = [
            CurvePoint(
                "run", step, step * batch_tokens, 0.0, loss, 1.0, None, None, 0.1, None, None, 0.0
            )
            for step, loss in enumerate(losses, start=1)
        ]
        return divergence(curve, job) is not None

    assert found([5.0] * 20 + [12.0]) == (batch_tokens == 8192)
    assert found([5.0] * 20 + [12.0] * 20)
    assert not found([12.0] * 5)  # warms up
    assert not found([7.0] * 40)
    assert found([5.0] * 20 + [math.nan])


def test_a_spike_is_found_with_its_step_and_height_and_noise_is_not_one() -> None:
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(50):
        losses = 3 + 3 * np.exp(-np.arange(400) / 60) + rng.normal(0, 0.1, 400)
        false += largest_spike(curve(losses)) is not None
        losses[250:256] += [0.6, 2.0, 1.4, 0.8, 0.5, 0.3]
        losses[300] += 1.2
        spike = largest_spike(curve(losses))
        assert spike is not None
        assert spike.step == 2520
        assert spike.height == pytest.approx(2.0, abs=0.5)
    assert false == 0
    still = np.full(100, 2.0)
    still[50] += 0.9 * NATS
    assert largest_spike(curve(still)) is None
    assert largest_spike(curve(np.array([2.0, 9.0] * 5))) is None


def test_real_runs_that_went_well_have_no_spike(repository: Path) -> None:
    frame = pd.read_parquet(repository / "results" / "cpu" / "curves.parquet")
    for _, rows in frame.groupby("run_id"):
        assert largest_spike(curve(rows["train_loss"].to_numpy())) is None


def test_spikes_stand_in_the_table_and_a_fit_names_the_largest() -> None:
    found = read_table(table(spike_step=[None, 340, 20], spike_height=[None, 1.25, 0.4]))
    (note,) = (note for note in found.notes if note.code == "loss-spikes")
    assert "of 2 of 3 runs spiked, of r1 by 1.25 nats at step 340" in note.message
    sweep = table(
        spike_step=[None, 340, 20],
        spike_height=[None, 1.25, 0.4],
        run_id=["cff9d265e4d4", "fff9d265e4d4", "aff9d265e4d4"],
        size=["1M", "2M", "4M"],
    )
    (note,) = (note for note in read_table(sweep).notes if note.code == "loss-spikes")
    assert "spiked, of 2M at " in note.message

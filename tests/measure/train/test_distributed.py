"""One run by several processes: torchrun, two processes over Gloo on the CPU, and the same losses
as by one.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from trained import train_one

from llmscale.measure.text.prepare import TextSpec, TokenStore, prepare
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import Job, JobText, make_job
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_spec import RunSpec
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.shape import shape_for

STEPS = 24
ONE = Conditions("cpu", micro_batch=2, ops="plain")
ROUNDING = 2e-5
"""Nats between float32 runs whose sums are taken in another order."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("text") / "numbers.jsonl"
    counted = (" ".join(map(str, np.cumsum(rng.integers(1, 9, 200)))) for _ in range(80))
    path.write_text("\n".join(json.dumps({"text": text}) for text in counted) + "\n")
    return prepare(TextSpec(source=str(path), tokenizer="bpe:300"))


def job_on(store: TokenStore, **recipe: Any) -> Job:
    """Batches of 7 sequences, which neither two processes nor passes of two share evenly, and a
    shorter last one.
    """
    settings = Recipe(**{"context": 32, "lr": 0.01, "clip": 0.3, **recipe})
    shape = shape_for("2x16x2", vocab_size=store.vocab_size, context=32, arch=settings.arch)
    text = JobText("numbers", store.fingerprint, store.train_tokens, store.validation_tokens)
    job = make_job("2x16x2", shape, 32 * 100, settings, text, seed=0, dtype="float32")
    return replace(job, batch_sequences=7, sequences=7 * STEPS - 6, evaluations=3)


def folder_for(path: Path, job: Job, store: TokenStore, **conditions: Any) -> Path:
    folder = RunFolder(path / job.run_id)
    RunSpec(job, replace(ONE, **conditions), store=str(store.path.resolve())).write(folder)
    return folder.path


def start(*folders: Path, processes: int = 2) -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    return subprocess.Popen(
        [*command, "-m", "llmscale.measure.train.worker", *map(str, folders)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        },  # whatever this machine's name is
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def kill_second(process: "subprocess.Popen[str]", folder: Path) -> None:
    """Kill the second of two processes after some logged steps of the run in `folder`."""
    assert process.stdout is not None
    points = 0
    for line in process.stdout:
        points += f'{{"folder": "{folder}", "point": ' in line
        if points == 9:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            ranks = {
                child: Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
                for child in children
            }
            (second,) = [child for child, environment in ranks.items() if b"RANK=1" in environment]
            os.kill(int(second), signal.SIGKILL)
            break
    _, errors = process.communicate(timeout=200)  # the other process waits no longer than this
    assert points == 9, errors
    assert process.returncode != 0


def by_one(job: Job, store: TokenStore, folder: Path, stop_after: int | None = None) -> list[float]:
    """Training loss by logged step, and last the validation loss, of one process."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_after

    folder.mkdir(exist_ok=True)
    outcome = train_one(job, ONE, store.train(), store.validation(), folder, stop=stop)
    assert outcome.evaluation is not None
    return [*(point.train_loss for point in outcome.curve), outcome.evaluation.loss]


def losses(folder: Path) -> list[float]:
    """The same of what a worker wrote."""
    row = json.loads((folder / "run.json").read_text())
    assert row["status"] == "done", row["error"]
    return [*pq.read_table(folder / "curve.parquet")["train_loss"].to_pylist(), row["loss"]]


@dataclass(frozen=True)
class Trained:
    """Losses by one process, and by two from the start and from a checkpoint that one has left; and
    the folder of a run that two processes trained until one of them was killed."""

    losses: dict[str, list[float]]
    lost: Path


@pytest.fixture(scope="module")
def trained(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    path, job = tmp_path_factory.mktemp("runs"), job_on(store)
    folders = {}
    for shard in ("never", "always"):
        folders[shard] = folder_for(path / shard, job, store, shard=shard)
        folders[f"{shard} resumed"] = resumed = folder_for(
            path / f"{shard}-resumed", job, store, shard=shard
        )
        with pytest.raises(TrainingInterrupted):
            by_one(job, store, resumed, stop_after=9)
    lost = folder_for(path / "lost", job, store, shard="always", checkpoint_seconds=0.0)
    process = start(*folders.values(), lost)
    found = {"one": by_one(job, store, path / "one")}
    kill_second(process, lost)
    for folder in folders.values():
        assert {file.name for file in folder.iterdir() if not file.name.startswith(".")} == {
            "spec.json", "run.json", "curve.parquet",
        }  # fmt: skip
    return Trained(found | {name: losses(folder) for name, folder in folders.items()}, lost)


def test_two_processes_give_the_losses_of_one(trained: Trained) -> None:
    sys.stdout.write(
        f"one {trained.losses['one'][-1]:.7f}, DDP {trained.losses['never'][-1]:.7f}, FSDP2 "
        f"{trained.losses['always'][-1]:.7f}\n"
    )
    assert len(trained.losses["one"]) == STEPS + 1
    assert trained.losses["never"] == pytest.approx(trained.losses["one"], abs=ROUNDING)
    assert trained.losses["always"] == pytest.approx(trained.losses["one"], abs=ROUNDING)
    assert trained.losses["one"][0] - trained.losses["one"][-2] > 0.5


def test_the_gradients_that_these_runs_clip_are_larger_than_the_clip(
    store: TokenStore, tmp_path: Path
) -> None:
    outcome = train_one(job_on(store), ONE, store.train(), store.validation(), tmp_path)
    assert all(point.grad_norm > 0.3 for point in outcome.curve if point.grad_norm is not None)


@pytest.mark.parametrize("shard", ["never", "always"])
def test_two_processes_go_on_from_the_checkpoint_of_one(shard: str, trained: Trained) -> None:
    assert trained.losses[f"{shard} resumed"] == pytest.approx(trained.losses["one"], abs=ROUNDING)


@pytest.mark.parametrize("shard", ["always", pytest.param("never", marks=pytest.mark.slow)])
def test_a_run_that_loses_a_process_ends_and_one_process_goes_on(
    shard: str, store: TokenStore, trained: Trained, tmp_path: Path
) -> None:
    job, folder = job_on(store), trained.lost
    if shard == "never":
        folder = folder_for(tmp_path / "run", job, store, shard=shard, checkpoint_seconds=0.0)
        kill_second(start(folder), folder)
    assert (folder / "checkpoint.dcp" / "state.json").exists()
    reached = json.loads((folder / "checkpoint.dcp" / "state.json").read_text())["step"]
    assert 0 < reached < STEPS
    assert by_one(job, store, folder) == pytest.approx(trained.losses["one"], abs=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["never", "machine", "always"])
@pytest.mark.parametrize(
    "recipe", [{"optimizer": "muon"}, {"arch": "gpt2"}, {"parametrization": "mup"}]
)
def test_every_recipe_gives_the_same_by_two_processes_stopped_and_resumed(
    shard: str, recipe: dict[str, str], store: TokenStore, tmp_path: Path
) -> None:
    job = job_on(store, **recipe)
    folder = folder_for(tmp_path / "run", job, store, shard=shard)
    process = start(folder)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=200)
    assert (folder / "checkpoint.dcp").is_dir() or (folder / "run.json").exists()
    finish(start(folder, processes=3))
    assert losses(folder) == pytest.approx(by_one(job, store, tmp_path / "one"), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["never", "always"])
@pytest.mark.parametrize("conditions", [{"compile": True}, {"dtype": "bfloat16"}])
def test_compiled_and_bfloat16_runs_agree_within_rounding(
    shard: str, conditions: dict[str, Any], store: TokenStore, tmp_path: Path
) -> None:
    job = replace(job_on(store), dtype=conditions.get("dtype", "float32"))
    folder = folder_for(
        tmp_path / "run", job, store, shard=shard, compile=conditions.get("compile", False)
    )
    finish(start(folder))
    assert losses(folder) == pytest.approx(by_one(job, store, tmp_path / "one"), abs=0.02)

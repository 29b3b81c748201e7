"""Checkpoints written beside training: nothing is copied on the device, nothing waits, and nothing
is lost.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sweeps import write_counting
from trained import CPU, TRAIN, VALIDATION, job, run, train_one, without_times

from llmscale.errors import WriteError
from llmscale.measure.text.prepare import TextSpec, prepare
from llmscale.measure.train import checkpoint_writer as saving
from llmscale.measure.train.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from llmscale.measure.train.checkpoint_writer import INTERVAL_FACTOR, Saver
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import JobText, make_job
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.resumable import load_checkpoint
from llmscale.measure.train.run_folders import Audience, train_runs
from llmscale.measure.train.run_spec import RunSpec
from llmscale.runs.run_folder import CHECKPOINT, PREVIOUS_CHECKPOINT, RunFolder
from llmscale.runs.shape import shape_for


def state(step: int, weight: torch.Tensor) -> Checkpoint:
    optimizer = {
        "state": {0: {"step": torch.tensor(float(step)), "exp_avg": weight}},
        "param_groups": [{"lr": 0.1}],
    }
    return Checkpoint(
        step, 1.5, {"weight": weight}, optimizer, [{"step": step}], torch.tensor(2.5), 3
    )


def test_what_is_written_is_the_state_at_the_call_whatever_training_does_next(
    tmp_path: Path,
) -> None:
    weight = torch.arange(6.0)
    part = weight.view(2, 3)[1]  # as a member of a stack
    with Saver(60.0) as saver:
        saver.save(
            [(tmp_path / CHECKPOINT, state(1, weight)), (tmp_path / "other.pt", state(1, part))]
        )
        weight.fill_(-1)
    found, other = read_checkpoint(tmp_path / CHECKPOINT), read_checkpoint(tmp_path / "other.pt")
    assert found is not None
    assert other is not None
    assert found.model["weight"].tolist() == list(range(6))
    assert other.model["weight"].tolist() == [3, 4, 5]
    assert other.model["weight"].untyped_storage().nbytes() == 3 * 4
    assert found.optimizer["state"][0]["exp_avg"].tolist() == list(range(6))
    assert (found.step, found.loss_sum, found.steps_summed) == (1, 2.5, 3)
    assert isinstance(found.loss_sum, float)


def test_training_goes_on_while_another_thread_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote_in, may_write = [], threading.Event()
    real = save_checkpoint

    def slow(path: Path, checkpoint: Checkpoint) -> None:
        wrote_in.append(threading.current_thread())
        assert may_write.wait(60)
        real(path, checkpoint)

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    with Saver(0.0) as saver:
        saver.save([(tmp_path / CHECKPOINT, state(1, torch.zeros(3)))])
        saver.check()
        assert not (tmp_path / CHECKPOINT).exists()
        may_write.set()
        saver.wait()
        assert (tmp_path / CHECKPOINT).exists()
    assert wrote_in[0] is not threading.main_thread()


def test_the_interval_is_at_least_fifty_times_what_a_save_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    saver = Saver(60.0)
    for took, wanted in ((0.1, 60.0), (4.0, 4.0 * INTERVAL_FACTOR)):
        saver.saved(took)
        now += wanted - 1
        assert not saver.due
        now += 2
        assert saver.due


def test_an_error_of_the_thread_ends_training_with_its_sentence(tmp_path: Path) -> None:
    nowhere = [(tmp_path / "missing" / CHECKPOINT, state(1, torch.zeros(3)))]

    def saved(ending: Callable[[Saver], object]) -> None:
        with Saver(0.0) as saver:
            saver.save(nowhere)
            ending(saver)

    def step_on(saver: Saver) -> None:
        while True:
            saver.check()
            time.sleep(0.01)

    def fail(saver: Saver) -> None:
        raise KeyError("what ends the run is what is said")

    for ending, error in (
        (step_on, WriteError),
        (Saver.wait, WriteError),
        (id, WriteError),
        (fail, KeyError),
    ):
        with pytest.raises(error):
            saved(ending)


def test_a_run_saved_after_every_step_gives_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    wanted = without_times(run(job(tokens=6_000), tmp_path / "whole"))
    (folder := tmp_path / "often").mkdir()
    often = replace(CPU, checkpoint_seconds=1e-9)
    asked = iter(range(100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "INTERVAL_FACTOR", 0.0)
        with pytest.raises(TrainingInterrupted):
            train_one(
                job(tokens=6_000), often, TRAIN, VALIDATION, folder, stop=lambda: next(asked) == 11
            )
        assert (folder / PREVIOUS_CHECKPOINT).exists()
        assert (
            without_times(train_one(job(tokens=6_000), often, TRAIN, VALIDATION, folder)) == wanted
        )


def test_a_smaller_micro_batch_after_memory_ran_out_is_remembered_by_the_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmscale.measure.transformer import LanguageModel

    sizes: list[int] = []
    real = LanguageModel.losses

    def losses(self: LanguageModel, inputs_BT: torch.Tensor, *rest: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            sizes.append(len(inputs_BT))
        if len(inputs_BT) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.\nfurther lines")
        return real(self, inputs_BT, *rest)

    monkeypatch.setattr(LanguageModel, "losses", losses)
    plain = Conditions("cpu", micro_batch=8, ops="plain", evaluation_batch=16)
    whole = run(job(tokens=6_000), tmp_path, plain)
    assert whole.status == "done"
    assert sizes[:3] == [8, 4, 2]
    (folder := tmp_path / "run").mkdir()
    asked = iter(range(100))
    with pytest.raises(TrainingInterrupted):
        train_one(
            job(tokens=6_000), plain, TRAIN, VALIDATION, folder, stop=lambda: next(asked) == 5
        )
    saved = read_checkpoint(folder / CHECKPOINT)
    assert saved is not None
    assert (saved.micro_batch, saved.checkpointing) == (2, False)
    assert saved.evaluation_batch is None  # it has not evaluated so far
    sizes.clear()
    assert without_times(run(job(tokens=6_000), folder, plain)) == without_times(whole)
    assert max(sizes) == 2


KILLED = """
import sys, json, os, signal
from pathlib import Path
from llmscale.measure.train import checkpoint
real = checkpoint.os.fsync
count = 0
def fsync(number):
    global count
    count += ".checkpoint.pt" in os.readlink(f"/proc/self/fd/{number}")
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(number)
checkpoint.os.fsync = fsync
from llmscale.measure.train import checkpoint_writer
checkpoint_writer.INTERVAL_FACTOR = 0.0
from llmscale.measure.train.worker import main
main([sys.argv[1]])
"""


def test_a_worker_killed_while_it_writes_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    store = prepare(TextSpec(source=str(write_counting(tmp_path)), tokenizer="bpe:300"))
    shape = shape_for("1x16x1", vocab_size=store.vocab_size, context=32)
    text = JobText("counting", store.fingerprint, store.train_tokens, store.validation_tokens)
    settings = Recipe(context=32)
    asked = make_job("1x16x1", shape, 6_000, settings, text, seed=0, dtype="float32")
    conditions = replace(CPU, ops="plain", checkpoint_seconds=1e-9)
    whole, begun = (tmp_path / name / asked.run_id for name in ("whole", "killed"))
    for path in (whole, begun):
        RunSpec(asked, conditions, store=str(store.path)).write(RunFolder(path))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(begun)], check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert list(begun.glob(".checkpoint.pt.*.part"))
    assert load_checkpoint(begun, asked) is not None
    rows, alone = [], Audience(lambda folder, point: None, lambda folder: False)
    for path in (whole, begun):
        assert list(train_runs([path], alone)) == [(path, 0)]
        rows.append(RunFolder(path).read_row())
        assert not list(path.glob(".checkpoint*"))
    assert [row.status for row in rows] == ["done", "done"]
    assert rows[0].loss == rows[1].loss
    assert rows[0].train_loss == rows[1].train_loss

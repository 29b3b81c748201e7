"""Torn files, full disks, processes that hang or are killed: what is said, and what is kept."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sweeps import (
    assert_same_results,
    lengthened,
    llmscale,
    options,
    tables,
    wait_for,
    worker_pids,
)
from trained import (
    CPU,
    TRAIN,
    VALIDATION,
    job,
    members_of,
    run,
    train_one,
    train_stack,
    without_times,
)

from llmscale.errors import InputError, WorkError, WriteError
from llmscale.measure.executors import Event, Place, Task, _hanging
from llmscale.measure.executors._remote_worker import Node
from llmscale.measure.lead import train_tasks
from llmscale.measure.ops import compiled
from llmscale.measure.ops.compiled import Found
from llmscale.measure.sweep import kernels
from llmscale.measure.sweep import run as sweep_run
from llmscale.measure.train.checkpoint import (
    Checkpoint,
    DamagedError,
    read_checkpoint,
    save_checkpoint,
)
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.resumable import can_stack, load_checkpoint
from llmscale.runs.lock import only_writer
from llmscale.runs.results_folder import newest_results
from llmscale.runs.run_folder import CHECKPOINT, PREVIOUS_CHECKPOINT
from llmscale.runs.safe_write import write_text


def train_some(folder: Path, steps: int) -> None:
    """Train the first `steps` steps more of a run, and save a checkpoint."""
    left = iter(range(steps - 1))
    with pytest.raises(TrainingInterrupted):
        train_one(job(), CPU, TRAIN, VALIDATION, folder, stop=lambda: next(left, None) is None)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x55
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_the_one_before_gives_the_same_run(
    tmp_path: Path,
) -> None:
    wanted = without_times(run(job(), tmp_path / "whole"))
    (folder := tmp_path / "run").mkdir()
    train_some(folder, 20)
    train_some(folder, 17)
    flip(folder / CHECKPOINT, 3000)
    said: list[str] = []
    saved = load_checkpoint(folder, job(), said.append)
    assert saved is not None
    assert saved.checkpoint.step == 20
    assert said == [
        f"{folder / CHECKPOINT} is damaged: its checksum is wrong; the run goes on from "
        f"{PREVIOUS_CHECKPOINT}, after step 20"
    ]
    assert without_times(run(job(), folder)) == wanted
    (folder / PREVIOUS_CHECKPOINT).write_bytes((folder / PREVIOUS_CHECKPOINT).read_bytes()[:5000])
    found = train_one(job(), CPU, TRAIN, VALIDATION, folder, warn=said.append)
    assert without_times(found) == wanted
    assert said[1].endswith(
        f"and {folder / PREVIOUS_CHECKPOINT} is damaged or torn; the run starts from its beginning"
    )


def test_no_flipped_byte_and_no_torn_end_of_a_checkpoint_goes_unnoticed(tmp_path: Path) -> None:
    train_some(tmp_path, 5)
    path, torn = tmp_path / CHECKPOINT, tmp_path / "torn.pt"
    content, whole = path.read_bytes(), read_checkpoint(path)
    assert whole is not None
    places = np.random.default_rng(0)
    for place in places.integers(0, len(content) - 40, 60):
        path.write_bytes(content)
        flip(path, place)
        with pytest.raises(DamagedError, match="checksum"):
            read_checkpoint(path)
    for length in [0, 1, *places.integers(2, len(content) - 50, 20)]:
        torn.write_bytes(content[:length])
        with pytest.raises(DamagedError, match="torn"):
            read_checkpoint(torn)
    torn.write_bytes(content[:-40])  # as older versions wrote it
    before = read_checkpoint(torn)
    assert before is not None
    assert (before.step, before.curve) == (whole.step, whole.curve)


def test_a_damaged_branch_point_is_named_and_the_run_trains_all_its_steps(tmp_path: Path) -> None:
    point, said = tmp_path / "trunk-9.pt", list[str]()
    point.write_bytes(b"torn")
    found = train_one(job(), CPU, TRAIN, VALIDATION, tmp_path, warn=said.append, start=point)
    assert found.status == "done"
    assert said == [f"{point} is damaged or torn; the run trains all its steps itself"]


@pytest.mark.slow
def test_a_stack_killed_while_it_saved_goes_on_from_what_all_have(tmp_path: Path) -> None:
    jobs = [replace(job(), seed=seed) for seed in range(2)]
    plain = replace(CPU, ops="plain")
    folders = [tmp_path / name for name in ("0", "1", "whole 0", "whole 1")]
    for folder in folders:
        folder.mkdir()
    wanted = train_stack(jobs, plain, TRAIN, VALIDATION, folders[2:])
    for steps in (10, 7):
        left = iter(range(steps - 1))
        with pytest.raises(TrainingInterrupted):
            train_stack(
                jobs,
                plain,
                TRAIN,
                VALIDATION,
                folders[:2],
                stop=lambda left=left: next(left, None) is None,
            )
    (folders[1] / PREVIOUS_CHECKPOINT).replace(folders[1] / CHECKPOINT)
    assert can_stack(members_of(jobs, folders[:2]))
    found = train_stack(jobs, plain, TRAIN, VALIDATION, folders[:2])
    assert [without_times(one) for one in found] == [without_times(one) for one in wanted]


HOLD = "import sys, time; from pathlib import Path; from llmscale.runs.lock import only_writer\n"
HOLD += (
    "with only_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(float(sys.argv[2]))"
)


def test_a_lock_names_its_holder_is_waited_for_and_ends_with_a_killed_process(
    tmp_path: Path,
) -> None:
    def hold(seconds: float) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", HOLD, str(tmp_path), str(seconds)]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        return holder

    with hold(60) as holder:
        with (
            pytest.raises(InputError, match=rf"process {holder.pid} on \S+ since 20") as caught,
            only_writer(tmp_path),
        ):
            pass
        assert "wait for it" in str(caught.value.fix)
        holder.kill()
        holder.wait()
        with only_writer(tmp_path):
            pass
    said: list[str] = []
    with hold(2.5) as holder, only_writer(tmp_path, wait_seconds=60, warn=said.append):
        assert holder.wait() == 0
    assert len(said) == 1
    assert f"waiting for process {holder.pid} on " in said[0]


def test_a_file_system_without_locks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    said: list[str] = []
    with only_writer(tmp_path, warn=said.append):
        pass
    assert said == [
        f"{tmp_path} is on a file system without locks (No locks available): start one sweep at a "
        "time there"
    ]


def test_the_newest_results_are_those_written_last_whatever_the_clock_says(tmp_path: Path) -> None:
    from llmscale.runs.results_folder import ResultsFolder

    for name in ("first", "second", "third"):
        folder = ResultsFolder(tmp_path / name)
        folder.write_sweep({})
        folder.write_runs([])
        assert newest_results(tmp_path).path.name == name
        future = time.time() + 1e7
        os.utime(folder.runs_path, (future, future))  # and then the clock is set right


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "swept"
    result = llmscale(*options(text, out, sizes="1x16x1"))
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def untrained(swept: Path, tmp_path: Path) -> Path:
    """The folder of a run that is still to be trained."""
    shutil.copytree(swept / "runs", tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    (folder / "run.json").unlink()
    return folder


@pytest.mark.usefixtures("new_workers")
@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (
            [signal.SIGTERM, signal.SIGSTOP],
            ["was told to end, by a signal from elsewhere", "hung (no step in "],
        ),
        pytest.param(
            [signal.SIGINT], ["was told to end, by a signal from elsewhere"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_worker_that_others_end_or_that_hangs_is_started_again(
    signals: list[signal.Signals],
    words: list[str],
    untrained: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_hanging, "HANG_SECONDS", 1.0)
    untrained = lengthened(untrained, 4)  # so that it does not end before it hears of them
    events: list[Event] = []
    left, told = list(signals), set[int]()

    def report(event: Event) -> None:
        events.append(event)
        pids = set(worker_pids(untrained)) - told
        if event.kind == "logged" and left and pids:
            told.update(pids)
            how = left.pop(0)
            for pid in pids:
                os.kill(pid, how)

    train_tasks("local", [Task((untrained,))], [Place(threads=1)], report)
    warnings = [
        event.message
        for event in events
        if event.kind == "warned" and "started again" in event.message
    ]
    # A machine under load may hang by itself, too.
    assert all(any(word in warning for warning in warnings) for word in words)
    assert all("started again from its checkpoint" in warning for warning in warnings)
    assert events[-1].exit_code == 0
    assert (untrained / "curve.parquet").exists()


def test_a_sweep_with_a_run_that_was_ended_says_so_and_exits_with_1(
    swept: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(
        name: str, tasks: list[Task], places: object, report: Callable[[Event], object], *_: object
    ) -> None:
        for task in tasks:
            report(Event("started", task.folders[0]))
            report(Event("ended", task.folders[0], exit_code=130))

    monkeypatch.setattr(sweep_run, "train_tasks", cancelled)
    shutil.copytree(swept, out := tmp_path / "out")
    result = llmscale(*options(text, out, sizes="1x16x1,2x16x1"))
    assert result.exit_code == 1, result.output
    assert "1 of 2 runs were ended before their last step: 2x16x1 on 20k tokens" in result.stderr
    assert "next: llmscale" in result.stdout
    assert "next: llmscale fit" not in result.stdout


def test_runs_begun_with_kernels_that_cannot_be_made_any_more_are_named_with_what_helps(
    swept: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Found(None, WorkError("there is no C compiler", "install gcc or clang"))
    for module in (compiled, kernels):
        monkeypatch.setattr(module, "find", lru_cache(lambda: missing))
    shutil.copytree(swept, out := tmp_path / "an out")
    (folder,) = (out / "runs").iterdir()
    (folder / "run.json").unlink()
    (out / "runs.parquet").unlink()
    spec = json.loads((folder / "spec.json").read_text())
    spec["conditions"]["ops"] = "native"
    (folder / "spec.json").write_text(json.dumps(spec))
    planned = llmscale(*options(text, out, sizes="1x16x1"), "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "without the compiled kernels" in " ".join(planned.stderr.split())
    assert "several times as long without its CPU kernels: there is no C compiler" in " ".join(
        planned.stderr.split()
    )
    (folder / "checkpoint.pt").touch()
    refused = llmscale(*options(text, out, sizes="1x16x1"))
    assert refused.exit_code == 2, refused.output
    said = " ".join(refused.stderr.split())
    assert (
        "1 of the runs to train was begun with the compiled kernels, which cannot run now: there "
        "is no C" in said
    )
    assert f"install gcc or clang; or to train them anew without: rm -r '{folder}'" in said
    shutil.rmtree(folder)
    monkeypatch.setattr(sweep_run, "train_tasks", lambda *_: None)
    llmscale(*options(text, out, sizes="1x16x1"))
    assert json.loads((folder / "spec.json").read_text())["conditions"]["ops"] == "plain"


@pytest.mark.slow
@pytest.mark.usefixtures("new_workers")
def test_a_worker_that_always_hangs_fails_its_run(
    untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hanging, "FIRST_STEP_SECONDS", 2.0)
    events: list[Event] = []
    ended = threading.Event()

    def stop_all() -> None:
        while not ended.wait(0.01):
            for pid in worker_pids(untrained):
                os.kill(pid, signal.SIGSTOP)

    stopping = threading.Thread(target=stop_all)
    stopping.start()
    try:
        train_tasks("local", [Task((untrained,))], [Place(threads=1)], events.append)
    finally:
        ended.set()
        stopping.join()
    assert len([event for event in events if event.kind == "warned"]) == 2
    assert events[-1].exit_code == -signal.SIGKILL
    assert "3 times without getting beyond step 0" in events[-1].message
    assert not worker_pids(untrained)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    if shutil.which("mount") is None:
        pytest.skip(
            "there is no program `mount` here, which makes the small file system of this test"
        )
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(
            f"mounting a file system is not allowed here: {mounted.stderr.decode().strip()}"
        )
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path, leave: int = 0) -> Path:
    """Fill the file system of `path` but for so many bytes."""
    filler = path / "filler"
    with filler.open("wb") as file:
        file.write(bytes(shutil.disk_usage(path).free - leave))
    return filler


def test_what_cannot_be_written_is_one_sentence_and_the_old_file_stays(small_disk: Path) -> None:
    path = small_disk / CHECKPOINT
    tensors = {"weight": torch.zeros(100_000)}
    for step in (1, 2, 3):
        save_checkpoint(path, Checkpoint(step, 0.0, tensors, {}, [], 0.0, 0))
    filler = fill(small_disk, leave=100_000)
    save_checkpoint(
        path, Checkpoint(4, 0.0, tensors, {}, [], 0.0, 0)
    )  # in place of the one before the last
    found, before = read_checkpoint(path), read_checkpoint(small_disk / PREVIOUS_CHECKPOINT)
    assert found is not None
    assert before is not None
    assert (found.step, before.step) == (4, 3)
    (small_disk / PREVIOUS_CHECKPOINT).unlink()
    with filler.open("ab") as file:
        file.write(bytes(shutil.disk_usage(small_disk).free - 50_000))
    with pytest.raises(
        WriteError,
        match=r"No space left on device \(\d+(\.\d+)? (B|KiB) are free, up to 391 KiB are needed\)",
    ):
        save_checkpoint(path, Checkpoint(5, 0.0, tensors, {}, [], 0.0, 0))
    text = small_disk / "text"
    with pytest.raises(WriteError, match=r"cannot write .*text: No space left on device") as caught:
        write_text(text, "x" * 100_000)
    assert "make room" in str(caught.value.fix)
    assert sorted(path.name for path in small_disk.iterdir()) == [CHECKPOINT, "filler"]
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(WriteError, match="Read-only file system"):
        save_checkpoint(path, Checkpoint(5, 0.0, tensors, {}, [], 0.0, 0))
    assert read_checkpoint(path) is not None


@pytest.mark.usefixtures("new_workers")
def test_a_sweep_on_a_full_file_system_stops_with_a_sentence_and_goes_on_when_there_is_room(
    small_disk: Path, swept: Path, text: Path
) -> None:
    out = small_disk / "results"
    with ThreadPoolExecutor(1) as other:
        leading = other.submit(llmscale, *options(text, out, sizes="1x16x1"))
        wait_for(lambda: worker_pids(out) or leading.done(), 240)
        filler = fill(small_disk)
        led = leading.result(240)
    errors = led.stderr
    assert led.exit_code == 1, errors
    assert errors.count("error:") == 1
    assert "No space left on device (" in errors
    assert "are free" in errors
    assert "Traceback" not in errors
    assert not worker_pids(out)
    filler.unlink()
    result = llmscale(*options(text, out, sizes="1x16x1"))
    assert result.exit_code == 0, result.output
    assert_same_results(out, swept)


def test_a_node_of_a_cluster_says_that_nothing_can_be_written(
    small_disk: Path, untrained: Path
) -> None:
    folder = small_disk / untrained.name
    shutil.copytree(untrained, folder)
    fill(small_disk)
    with pytest.raises(WriteError, match="No space left on device"):
        list(Node(threads=1).train([str(folder)]))
    assert not worker_pids(small_disk)


@pytest.mark.slow
def test_a_sweep_that_may_no_longer_write_stops_with_a_sentence_and_loses_no_finished_run(
    text: Path, tmp_path: Path
) -> None:
    if shutil.which("chattr") is None:
        pytest.skip("there is no program `chattr` here, which forbids root to write")
    out = tmp_path / "results"
    arguments = options(text, out, sizes="1x16x1,2x16x1,2x24x2")
    with subprocess.Popen(
        [sys.executable, "-m", "llmscale", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        wait_for(lambda: (out / "runs.parquet").exists() and worker_pids(out), 240)
        forbidden = subprocess.run(["chattr", "+i", str(out)], capture_output=True, text=True)
        try:
            if forbidden.returncode:
                process.kill()
                pytest.skip(f"a folder cannot be made immutable here: {forbidden.stderr.strip()}")
            _, errors = process.communicate(timeout=240)
        finally:
            subprocess.run(["chattr", "-i", str(out)], check=False)
    assert process.returncode == 1, errors
    assert errors.count("error:") == 1
    assert "Operation not permitted" in errors
    assert "Traceback" not in errors
    done = {path.parent.name: path.stat().st_mtime_ns for path in out.glob("runs/*/run.json")}
    assert done
    result = llmscale(*arguments)
    assert result.exit_code == 0, result.output
    for run_id, written in done.items():
        assert (out / "runs" / run_id / "run.json").stat().st_mtime_ns == written
    assert list(tables(out)[0]["status"]) == ["done"] * 3

"""The plan of a sweep on a GPU, which is here in name only: what shares it, what is stacked, and
what is compiled.
"""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sweeps import llmscale

from llmscale import machine
from llmscale.machine import GPU, GPU_SHARE_VARIABLE
from llmscale.measure.executors import Place
from llmscale.measure.executors._worker_process import start_worker
from llmscale.measure.sweep import devices as places
from llmscale.measure.sweep import estimate
from llmscale.measure.sweep.batches import (
    GPU_MEMORY_SHARE,
    GPU_MICRO_BATCH_TOKENS,
    evaluation_batch,
    micro_batch,
)
from llmscale.measure.sweep.devices import RUNS_A_GPU, gpu_places, slowdown
from llmscale.measure.train import calibrate
from llmscale.measure.train.calibrate import Speeds, measure_in_child
from llmscale.runs.shape import shape_for

ROOM = 80 << 30


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this machine one with so many GPUs, which train at a speed that is given."""

    def make(
        count: int = 1, free_bytes: int = ROOM, speed: float = 5e13, shared: bool = True
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(
            machine, "_gpu_by_child", lambda: GPU("a GPU", (9, 0), free_bytes, free_bytes, shared)
        )
        monkeypatch.setattr(places, "available_cores", lambda: 16)
        monkeypatch.setattr(estimate, "can_compile", lambda device: True)
        speeds = Speeds(8e14, ((1e6, speed),))
        monkeypatch.setattr(calibrate, "measure_in_child", lambda *asked: speeds)

    return make


def plan(text: Path, out: Path, *arguments: str) -> dict[str, Any]:
    command = [
        "sweep",
        "--data",
        str(text),
        "--tokenizer",
        "bpe:300",
        "--context",
        "32",
        "--device",
        "cuda",
    ]
    result = llmscale(*command, "--out", str(out), "--dry-run", "--json", *arguments)
    assert result.exit_code == 0, result.output
    assert not torch.cuda.is_initialized()
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_small_runs_share_a_gpu_and_large_ones_do_not(
    gpus: Any, text: Path, tmp_path: Path
) -> None:
    gpus()
    assert (
        plan(text, tmp_path / "a", "--sizes", "10k,30k,100k,300k,1M,3M", "--tokens", "40k")[
            "workers"
        ]
        == RUNS_A_GPU
    )
    assert plan(text, tmp_path / "b", "--sizes", "30M,100M", "--tokens", "40k")["workers"] == 1
    assert (
        plan(text, tmp_path / "c", "--sizes", "30M,100M", "--tokens", "40k", "--workers", "2")[
            "workers"
        ]
        == 2
    )
    # Seeds that are trained as one model are one task.
    assert (
        plan(text, tmp_path / "e", "--sizes", "1M", "--tokens", "40k", "--seeds", "4")["workers"]
        == 1
    )
    gpus(shared=False)
    assert plan(text, tmp_path / "f", "--sizes", "10k,30k,100k", "--tokens", "40k")["workers"] == 1
    # A run of 100M takes 16 bytes a weight and its activations: two do not fit into 4 GB.
    gpus(free_bytes=4 << 30)
    assert (
        plan(text, tmp_path / "d", "--sizes", "30M,100M", "--tokens", "40k", "--workers", "2")[
            "workers"
        ]
        == 1
    )


@pytest.mark.parametrize(
    ("here", "cores", "asked", "most", "small", "large", "wanted"),
    [
        (1, 16, None, 9, 5, 0, [0] * 4),
        (1, 16, None, 9, 2, 1, [0] * 3),
        (1, 16, None, 9, 2, 3, [0] * 3),
        (1, 16, None, 9, 0, 5, [0]),
        (1, 16, None, 2, 5, 0, [0] * 2),
        (1, 2, None, 9, 5, 0, [0] * 2),
        (1, 16, 4, 9, 0, 5, [0] * 4),
        (1, 16, 4, 3, 0, 5, [0] * 3),
        (2, 16, None, 9, 8, 0, [0, 1] * 4),
        (2, 16, 3, 9, 0, 8, [0, 1, 0]),
        (4, 16, 2, 9, 0, 8, [0, 1]),
        (8, 16, None, 9, 3, 0, list(range(8))),
    ],
)
def test_places_lie_on_different_gpus_first_and_as_many_on_each_as_fit(
    here: int, cores: int, asked: int | None, most: int, small: int, large: int, wanted: list[int]
) -> None:
    found = gpu_places(here, cores, asked, most, small, large)
    assert [place.gpu for place in found] == wanted
    on_busiest = max(wanted.count(gpu) for gpu in wanted)
    assert all(place.memory_share == pytest.approx(1 / on_busiest) for place in found)
    assert sum(place.threads for place in found) <= max(cores, len(found))
    assert all(slowdown(place) >= 1 for place in found)
    assert slowdown(replace(found[0], memory_share=1.0)) == 1


def test_a_worker_is_told_its_share_of_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(
        "llmscale.measure.executors._worker_process.subprocess.Popen",
        lambda *given, env, **more: told.append(env),
    )
    for share in (0.25, 1.0):
        start_worker([str(tmp_path)], Place(1, 0, memory_share=share))
    assert [environment.get(GPU_SHARE_VARIABLE) for environment in told] == ["0.25", None]
    assert all("CUDA_VISIBLE_DEVICES" in environment for environment in told)


def test_a_stack_takes_a_whole_batch_a_pass_and_no_more_members_than_a_pass_holds(
    gpus: Any, text: Path, tmp_path: Path
) -> None:
    gpus()
    found = plan(text, tmp_path / "a", "--sizes", "10k,30M", "--tokens", "40k", "--seeds", "3")
    assert {run["size"]: run["stacked"] for run in found["runs"]} == {"10k": 3, "30M": 1}
    shape = shape_for("1M", vocab_size=8192, context=512)
    for members in (1, 4, 16):
        assert micro_batch(shape, 16, "cuda", ROOM, members) == 16
    assert micro_batch(shape, 16, "cuda", ROOM, 32) == GPU_MICRO_BATCH_TOKENS // (512 * 32)
    little = 2 << 30
    tight = micro_batch(shape, 16, "cuda", little, 4)
    assert (
        4 * shape.memory_bytes(tight, 2)
        <= GPU_MEMORY_SHARE * little
        < 4 * shape.memory_bytes(2 * tight, 2)
    )


def test_evaluation_takes_more_sequences_than_training_as_far_as_memory_goes() -> None:
    shape = shape_for("10M", vocab_size=8192, context=512)
    assert evaluation_batch(shape, 16, "cuda", ROOM) == 256
    assert evaluation_batch(shape, 16, "cpu", ROOM) is None
    assert evaluation_batch(shape, 16, "cuda", ROOM, windows=40) == 64
    little = 4 << 30
    tight = evaluation_batch(shape, 4, "cuda", little)
    assert tight is not None
    assert (
        shape.evaluation_bytes(tight, 2)
        <= GPU_MEMORY_SHARE * little
        < shape.evaluation_bytes(2 * tight, 2)
    )
    assert evaluation_batch(shape, 16, "cuda", 1 << 20) == 16


def test_runs_are_compiled_if_that_saves_more_time_than_it_takes(
    gpus: Any, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ["--sizes", "10k,1M", "--tokens", "200k", "--seeds", "2", "--stack", "never"]
    # FLOPs of a 1M run here are about 2e12: at 1e11 FLOP/s 20 s, and of both seeds 40 s, of which
    # compiling saves 16.
    for speed, compiled in ((1e13, set()), (2e10, {"1M"}), (1e8, {"10k", "1M"})):
        gpus(speed=speed)
        runs = plan(text, tmp_path / "out", *sizes)["runs"]
        assert {run["size"] for run in runs if run["compiled"]} == compiled
    gpus(speed=1e13)
    always = plan(text, tmp_path / "out", *sizes, "--compile", "always")["runs"]
    assert all(run["compiled"] for run in always)
    never = plan(text, tmp_path / "out", *sizes, "--compile", "never")["runs"]
    assert not any(run["compiled"] for run in never)
    gpus(speed=1e8)
    monkeypatch.setattr(estimate, "can_compile", lambda device: False)  # without a compiler, say
    assert not any(run["compiled"] for run in plan(text, tmp_path / "out", *sizes)["runs"])


@pytest.mark.parametrize(
    ("mode", "shared"), [("Default", True), ("Exclusive_Process", False), (None, True)]
)
def test_the_driver_says_whether_several_processes_may_use_a_gpu(
    mode: str | None, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode is not None:
        driver = tmp_path / "nvidia-smi"
        driver.write_text(f"#!/bin/sh\necho Default\necho {mode}\n", encoding="utf-8")
        driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._may_be_shared() is shared


def test_another_process_measures_the_speed() -> None:
    shape = shape_for("1x16x1", vocab_size=64, context=16)
    speeds = measure_in_child({shape: 2}, "cpu", "float32")
    assert speeds.peak_flops > 0
    assert speeds.measured[0][0] == shape.flops_per_token
    assert math.isfinite(speeds.tokens_per_second(shape))


def test_a_gpu_that_does_not_answer_is_one_sentence() -> None:
    """On a machine without one torch itself refuses, in the process that is asked."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, and it answers")
    program = "from llmscale.machine import find_gpu; find_gpu()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "WorkError: the GPU does not answer: " in done.stderr

"""`llmscale bench`, the timing of training steps under it, and the estimate that a sweep's plan is
made with.
"""

import json
import time
from typing import Any

import numpy as np
import pytest
import torch
from sweeps import changed
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.measure.optimizers import OPTIMIZERS
from llmscale.measure.train.calibrate import measure_speeds
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.throughput import measure_throughput, sample_tokens, throughput_job
from llmscale.measure.transformer import build_model
from llmscale.runs.shape import shape_for

TINY = ["bench", "--sizes", "10k,2x48x2", "--context", "64", "--vocab-size", "256", "--batch", "4"]
TINY += ["--device", "cpu", "--dtype", "float32"]


def bench(*arguments: str) -> dict[str, Any]:
    command = changed([*TINY, "--seconds", "0.3"], list(arguments))
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_every_size_gets_its_speed_memory_and_time() -> None:
    report = bench()
    assert report["peak_flops"] > 0
    assert report["batch_tokens"] == 4 * 64
    assert [row["size"] for row in report["sizes"]] == ["10k", "2x48x2"]
    weights = build_model(shape_for("2x48x2", vocab_size=256, context=64)).parameters()
    assert report["sizes"][1]["params"] == sum(weight.numel() for weight in weights) - 256 * 48
    for row in report["sizes"]:
        assert row["slowest"] <= row["tokens_per_second"] <= row["fastest"]
        assert 0 < row["mfu"] < 1.5
        assert row["mfu"] == pytest.approx(
            row["tokens_per_second"] * row["flops_per_token"] / report["peak_flops"], rel=1e-9
        )
        assert 0 < row["reading_share"] < 1
        assert row["first_step_seconds"] > 0
        assert row["peak_memory_bytes"] > 4 * row["params"]
        hours = 20 * row["params"] / row["tokens_per_second"] / 3600
        assert row["hours_for_20_tokens_per_param"] == pytest.approx(hours)


def test_the_table_says_what_was_measured_and_what_to_do_next() -> None:
    result = CliRunner().invoke(app, [*TINY, "--seconds", "0.1"])
    assert result.exit_code == 0
    assert "2x48x2" in result.stdout
    assert "vocabulary 256, context 64, 256 tokens a step" in result.stdout
    assert "next: llmscale" in result.stdout


@pytest.mark.parametrize("optimizer", OPTIMIZERS.names)
@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_every_architecture_and_optimizer_can_be_measured(arch: str, optimizer: str) -> None:
    report = bench(
        "--sizes", "2x16x1", "--seconds", "0.05", "--arch", arch, "--optimizer", optimizer
    )
    assert report["sizes"][0]["tokens_per_second"] > 0


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--sizes", "10Q", "10Q"),
        ("--sizes", ",", "empty"),
        ("--sizes", "1T", "memory"),
        ("--seconds", "0", "--seconds is 0"),
        ("--seconds", "nan", "--seconds is nan"),
        ("--batch", "0", "--batch is 0"),
        ("--context", "0", "context is 0"),
        ("--vocab-size", "-1", "vocab_size in shape 2x24x2 is -1"),
        ("--arch", "rnn", "rnn"),
        ("--optimizer", "sgdd", "sgdd"),
        ("--device", "tpu", "tpu"),
        ("--dtype", "int8", "int8"),
    ],
)
def test_wrong_input_exits_2_before_any_work(option: str, value: str, said: str) -> None:
    started = time.monotonic()
    result = CliRunner().invoke(app, changed([*TINY, "--seconds", "100"], [option, value]))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert "training" not in result.stderr
    assert time.monotonic() - started < 100


def test_the_steps_taken_at_the_measured_speed_fill_the_time_asked_for() -> None:
    job = throughput_job(shape_for("2x32x2", vocab_size=256, context=64), 8, "float32")
    started = time.perf_counter()
    measured = measure_throughput(
        job, Conditions("cpu", 8), sample_tokens(256, 10_000), seconds=0.5
    )
    wall = time.perf_counter() - started
    filled = measured.steps * 8 * 64 / measured.tokens_per_second
    assert wall > 0.5
    assert filled < 2 * wall  # whatever holds single steps up: a median is at most twice the mean


def test_timing_leaves_torch_as_it_was() -> None:
    torch.set_float32_matmul_precision("highest")
    job = throughput_job(shape_for("2x16x1", vocab_size=64, context=32), 2, "float32")
    measure_throughput(job, Conditions("cpu", 2), sample_tokens(64, 1000), seconds=0.01)
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(3, np.uint16), (50304, np.uint16), (100_000, np.uint32)]
)
def test_sample_tokens_are_as_frequent_as_zipf_says(vocab_size: int, dtype: type) -> None:
    tokens = sample_tokens(vocab_size, 200_000)
    assert tokens.dtype == dtype
    assert tokens.max() < vocab_size
    harmonic = float(np.sum(1 / np.arange(1, vocab_size + 1)))
    for rank in (1, 2, 3):
        assert np.mean(tokens == rank - 1) == pytest.approx(1 / (rank * harmonic), rel=0.05)


def test_the_estimate_of_a_plan_takes_some_seconds_and_is_of_the_order_of_what_is_measured() -> (
    None
):
    shapes = [
        shape_for(size, vocab_size=512, context=64) for size in ("10k", "100k", "1M", "10M", "100M")
    ]
    started = time.process_time()
    speeds = measure_speeds(dict.fromkeys(shapes, 16), "cpu", "float32")
    assert time.process_time() - started < 60
    assert len(speeds.measured) == 3
    rates = [speeds.tokens_per_second(shape) for shape in shapes]
    assert rates == sorted(rates, reverse=True)
    measured = measure_throughput(
        throughput_job(shapes[1], 16, "float32"), Conditions("cpu", 16), sample_tokens(512), 1
    )
    # However busy the machine: a wrong unit, or the FLOPs of another shape, would be further off.
    assert 1 / 20 < speeds.tokens_per_second(shapes[1]) / measured.tokens_per_second < 20

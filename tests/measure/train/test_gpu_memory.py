"""One run over many GPUs, on paper: against what torch holds, and against published figures."""

import json
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.machine.gpus import gpu_named
from llmscale.measure.optimizers import build_optimizer
from llmscale.measure.transformer import build_model
from llmscale.runs.gpu_memory import activation_bytes, memory_per_gpu, plan_layout
from llmscale.runs.shape import Shape, shape_for

LLAMA3_8B = Shape(32, 4096, 32, 14336, 128_256, 8192)
"""But that it has a key and a value for each query head."""


def shapes(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["shapes", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    payload: dict[str, Any] = json.loads(done.stdout)
    return payload


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_states_are_what_torch_allocates(arch: str) -> None:
    shape = shape_for("2x32x2", vocab_size=100, context=16, arch=arch)
    model = build_model(shape)
    optimizer = build_optimizer("adamw", model, lr=0.01, beta2=0.99, weight_decay=0.1)
    tokens = torch.zeros(1, 16, dtype=torch.int64)
    model.losses(tokens, tokens, torch.ones(1))[0].backward()
    optimizer.step()
    weights = list(model.parameters())
    memory = memory_per_gpu(shape, 1, 1, checkpointing=False)
    assert memory.weights == sum(weight.nbytes for weight in weights)
    assert memory.gradients == sum(
        weight.grad.nbytes for weight in weights if weight.grad is not None
    )
    moments = [
        value for state in optimizer.state.values() for value in state.values() if value.dim()
    ]
    assert memory.optimizer == sum(moment.nbytes for moment in moments)


def test_states_are_those_of_zeros_published_example() -> None:
    """Rajbhandari et al.

    2020, figure 1: 7.5B weights over 64 GPUs take 120 GB each whole, and 1.9 GB sharded.
    """
    shape = Shape(36, 4096, 32, 12288, 32_000, 1024)
    scale = 7.5e9 / shape.params_total
    assert scale * memory_per_gpu(shape, 1, 1, False).states == pytest.approx(120e9)
    assert scale * memory_per_gpu(shape, 64, 1, False).states == pytest.approx(1.9e9, rel=0.02)


def test_activations_lie_between_what_is_published_and_twice_that() -> None:
    """Korthikanti et al.

    2022, section 4.1: 34 d bytes a token and layer besides the scores, GELU, all in 16 bits.
    """
    shape = Shape(96, 12288, 96, 4 * 12288, 1, 2048, "gpt2")
    published = 34 * shape.d_model * shape.n_layer * shape.context
    assert published < activation_bytes(shape, 1, checkpointing=False) < 2 * published
    assert activation_bytes(shape, 1, checkpointing=True) < 0.25 * published


def test_the_counted_flops_give_the_published_mfu() -> None:
    """torchtitan's Llama 3.1 8B on H100s: 5,762 tokens/s a GPU by FSDP2, said to be 33% MFU."""
    grouped = (
        2 * LLAMA3_8B.n_layer * 4096 * (4096 - 1024)
    )  # weights of keys and values that eight heads share
    flops_per_token = LLAMA3_8B.flops_per_token - 6 * grouped
    assert 5762 * flops_per_token / gpu_named("h100").peak_flops == pytest.approx(0.33, abs=0.01)


def test_larger_sizes_are_sharded_further() -> None:
    ladder = [
        shape_for(size, vocab_size=32_000, context=2048) for size in ("125M", "7B", "70B", "1T")
    ]
    layouts = [plan_layout(shape, 64, gpu_named("h100"), 1024) for shape in ladder]
    assert [layout.name for layout in layouts] == ["DDP", "HSDP", "FSDP2", "FSDP2"]
    assert [layout.fits for layout in layouts] == [True, True, True, False]
    assert (
        plan_layout(ladder[1], 64, gpu_named("h200"), 1024).memory.total
        <= gpu_named("h200").memory_bytes
    )
    with pytest.raises(InputError, match="12 GPUs"):
        plan_layout(ladder[0], 12, gpu_named("h100"), 1024)


def test_shapes_shows_memory_layout_and_time_with_the_source_of_the_mfu() -> None:
    options = ["7B", "--gpus", 64, "--vocab-size", 32_000, "--context", 2048]
    payload = shapes(*options)
    (row,) = payload["shapes"]
    assert "torchtitan" in payload["mfu_source"]
    assert row["tokens"] == 20 * row["params"]
    shape = shape_for("7B", vocab_size=32_000, context=2048)
    seconds = (
        row["tokens"] * shape.flops_per_token / (64 * payload["gpu"]["peak_flops"] * payload["mfu"])
    )
    assert row["estimated_seconds"] == pytest.approx(seconds)
    faster = shapes(*options, "--mfu", 0.66)
    assert faster["shapes"][0]["estimated_seconds"] == pytest.approx(seconds / 2)
    shown = CliRunner().invoke(app, ["shapes", *map(str, options)])
    assert "HSDP" in shown.stdout
    assert CliRunner().invoke(app, ["shapes", "7B", "--gpus", "64", "--gpu", "z9"]).exit_code == 2

"""What torch compiles of a run: few graphs, whatever the depth, and none anew for what has been
compiled.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmscale.measure.ops import build_operations
from llmscale.measure.optimizers import OPTIMIZERS
from llmscale.measure.train import backend
from llmscale.measure.train.batches import Batches, Windows
from llmscale.measure.train.evaluate import evaluate
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.stack import Stack
from llmscale.measure.transformer import build_model
from llmscale.runs.shape import ARCHITECTURES, shape_for

VOCAB, CONTEXT = 64, 16
TOKENS = np.random.default_rng(0).integers(0, VOCAB, 2000).astype(np.uint16)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The graphs handed to the compiler so far.

    They are run as they are, without being compiled.
    """
    # Here, since it takes seconds, and every process of the tests reads this file.
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    found: list[Any] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, **options: real(function, backend=count, **options)
    )
    yield found
    torch.compiler.reset()


def passes_for(
    arch: str,
    seed: int,
    dtype: str = "bfloat16",
    members: int = 0,
    layers: int = 3,
    compile: bool = True,
) -> Passes:
    shape = shape_for(f"{layers}x16x2", vocab_size=VOCAB, context=CONTEXT, arch=arch)
    ops = build_operations("plain", dtype)
    if members:
        model: Any = Stack(
            [build_model(shape, seed + member, ops=ops) for member in range(members)]
        )
    else:
        model = build_model(shape, seed, ops=ops)
    return Passes(model, 2, compile=compile, evaluation_batch=4)


def train_some(passes: Passes, seed: int) -> None:
    """Batches of two parts, a shorter last batch of one and a half, and an evaluation with a
    shorter last part.
    """
    batches, each = Batches(TOKENS, CONTEXT, seed), passes.model.for_each
    for first, count in ((0, 4), (4, 4), (8, 3)):
        inputs_BT, targets_BT = batches.read(first, count)
        passes.gradient(each(inputs_BT), each(targets_BT))


@pytest.mark.parametrize(
    ("arch", "members"), [*((arch, 0) for arch in ARCHITECTURES), ("llama", 2)]
)
def test_a_run_takes_two_graphs_to_train_and_two_to_evaluate_and_the_next_seed_none(
    arch: str, members: int, graphs: list[Any]
) -> None:
    text = Windows(TOKENS[: 9 * CONTEXT + 1], CONTEXT)
    for seed in (0, 1):
        passes = passes_for(arch, seed, members=members)
        train_some(passes, seed)
        assert len(graphs) == (2 if seed == 0 else 4)
        evaluate(passes, text)
        train_some(passes, seed)
        evaluate(passes, text)
        assert len(graphs) == 4
    from torch._dynamo.utils import counters

    assert not counters["graph_break"]


def test_the_number_of_graphs_does_not_grow_with_depth(graphs: list[Any]) -> None:
    train_some(passes_for("llama", 0, layers=7), 0)
    assert len(graphs) == 2


def test_code_of_another_kind_of_run_is_forgotten_and_of_the_same_kept(graphs: list[Any]) -> None:
    for layers, compiled in ((2, 2), (2, 2), (3, 4), (2, 6)):
        backend.compile_for(layers)
        train_some(passes_for("llama", 0, layers=layers), 0)
        assert len(graphs) == compiled


def test_a_smaller_micro_batch_after_memory_ran_out_is_compiled_anew(
    graphs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = passes_for("llama", 0, dtype="float32")
    inputs_BT, targets_BT = Batches(TOKENS, CONTEXT, 0).read(0, 4)
    wanted = float(passes.gradient(inputs_BT, targets_BT))
    real, failures = passes.losses, iter([True])

    def losses(*part: Any) -> Any:
        if next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(*part)

    monkeypatch.setattr(passes, "losses", losses)
    assert float(passes.gradient(inputs_BT, targets_BT)) == pytest.approx(wanted, rel=1e-6)
    assert passes.reduced_to == {"micro_batch": 1, "checkpointing": False, "evaluation_batch": None}
    assert len(graphs) == 4


@pytest.mark.parametrize("members", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_compiled_passes_give_what_eager_ones_do(members: int, graphs: list[Any]) -> None:
    found = []
    for compile in (False, True):
        passes = passes_for("llama", 0, dtype="float32", members=members, compile=compile)
        inputs_BT, targets_BT = (
            passes.model.for_each(x) for x in Batches(TOKENS, CONTEXT, 0).read(0, 3)
        )
        loss = passes.gradient(inputs_BT, targets_BT)
        slopes = [weight.grad for _, weight in passes.model.named_parameters()]
        found.append([loss, passes.sequence_losses(inputs_BT, targets_BT), *slopes])
    assert len(graphs) == 4
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_compiled_code_is_kept_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")  # so that it is as before when the test ends
    backend.keep_compiled_code()
    torch.compiler.reset()
    train_some(passes_for("llama", 0), 0)
    assert any(path.is_file() for path in (tmp_path / "inductor").rglob("*"))


EAGER = """
import sys
import torch
if "torch._dynamo" in sys.modules:
    sys.exit("torch loads it")
from llmscale.measure.optimizers import OPTIMIZERS
from llmscale.runs.shape import shape_for
from llmscale.measure.train.backend import set_determinism
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.throughput import measure_throughput, sample_tokens, throughput_job
set_determinism(False)
shape = shape_for("1x16x1", vocab_size=64, context=16)
for name in OPTIMIZERS.names:
    job = throughput_job(shape, 2, "float32", name)
    where = Conditions("cpu", 2, ops="plain")
    steps = measure_throughput(job, where, sample_tokens(64, 1000), seconds=0.0).steps
    print(name, steps, "torch._dynamo" in sys.modules)
"""


def test_what_is_not_compiled_does_not_load_the_compiler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EAGER], capture_output=True, text=True, check=False
    )
    if "torch loads it" in done.stderr:
        pytest.skip(f"torch {torch.__version__} loads its compiler by itself")
    found = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _, _ in found] == list(OPTIMIZERS), done.stderr
    for _, steps, loaded in found:
        assert int(steps) >= 3
        assert loaded == "False"

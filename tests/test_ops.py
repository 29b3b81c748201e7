"""Every operation agrees with torch's own, gradient for gradient; and a batch does not care how it is cut up."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from llmscale.errors import WorkError
from llmscale.models import LanguageModel, build_model
from llmscale.models.llama import rotary_table
from llmscale.ops import build_operations, pick_operations
from llmscale.ops.compiled import library, why_not
from llmscale.shape import ARCHITECTURES, shape_for
from llmscale.train.passes import Passes

ROUNDING = {"float32": 2e-5, "bfloat16": 6e-2}
"""Of sums that processors take in different orders: 2e-6 and 2e-2 were seen between their instruction sets."""
native = pytest.mark.skipif(why_not() is not None, reason=f"the native operations do not run here: {why_not()}")


def random(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def results(run: Callable[..., tuple[Tensor, ...]], inputs: list[Tensor]) -> list[Tensor]:
    """What `run` returns, and the gradients of a fixed random projection of it by `inputs`."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    outputs = run(*leaves)
    projected = sum((y.float() * random(*y.shape, seed=i)).sum() for i, y in enumerate(outputs))
    return [*(y.detach().float() for y in outputs), *torch.autograd.grad(projected, leaves)]  # type: ignore[arg-type]


def assert_close(found: list[Tensor], wanted: list[Tensor], within: float) -> None:
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        apart = float((one.float() - other.float()).norm() / other.float().norm().clamp(min=1e-12))
        assert apart < within, f"result {place} is {apart:.1e} away"


@native
@pytest.mark.parametrize("dtype", ROUNDING)
@settings(max_examples=25)
@given(
    batch=st.integers(1, 3), time=st.integers(1, 70), heads=st.integers(1, 3),
    head=st.sampled_from([2, 8, 16, 22, 32, 40, 64, 80, 1024, 1026]), turned=st.booleans(),
)  # fmt: skip
def test_native_attention_is_causal_attention(
    dtype: str, batch: int, time: int, heads: int, head: int, turned: bool
) -> None:
    scale = 1.3 / math.sqrt(head)
    rotary = rotary_table(time, head) if turned else None
    qkv = random(batch, time, 3 * heads * head).to(getattr(torch, dtype))

    def attention(name: str, x: Tensor) -> tuple[Tensor, ...]:
        return (build_operations(name, dtype).attention(x, heads, rotary, scale),)

    exact = results(lambda x: attention("plain", x), [qkv.float()])
    assert_close(results(lambda x: attention("native", x), [qkv]), exact, ROUNDING[dtype])


@native
@pytest.mark.parametrize("dtype", ROUNDING)
@settings(max_examples=15)
@given(rows=st.integers(1, 40), width=st.integers(5, 70), kind=st.sampled_from([nn.RMSNorm, nn.LayerNorm]))
def test_native_norms_and_activations_are_torchs(dtype: str, rows: int, width: int, kind: type) -> None:
    norm = kind(width, eps=1e-6)
    with torch.no_grad():
        for seed, weight in enumerate(norm.parameters()):
            weight.copy_(random(width, seed=seed))
    x, added = random(rows, 2, width), random(rows, 2, width, seed=1).to(getattr(torch, dtype))
    wide = random(rows, 2, 2 * width, seed=2).to(getattr(torch, dtype))

    def run(name: str, x: Tensor, added: Tensor, wide: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ops = build_operations(name, dtype)
        given = nn.utils.stateless._reparametrize_module(norm, dict(zip(("weight", "bias"), weights, strict=False)))
        with given:
            y, n = ops.add_and_norm(x, added, norm)
            same, first = ops.add_and_norm(x, None, norm)
        return y, n, same, first, ops.swiglu(wide), ops.gelu(wide)

    inputs = [x, added, wide, *norm.parameters()]
    exact = results(lambda *all: run("plain", *all), [one.float() for one in inputs])
    assert_close(results(lambda *all: run("native", *all), inputs), exact, ROUNDING[dtype])


def losses_and_gradient(model: LanguageModel, passes: Passes, tokens_BT: Tensor) -> list[Tensor]:
    loss = passes.gradient(tokens_BT[:, :-1], tokens_BT[:, 1:])
    return [loss, *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)]


@pytest.fixture(name="tokens_BT")
def some_tokens() -> Tensor:
    return torch.randint(600, (7, 41), generator=torch.Generator().manual_seed(0))


@native
@pytest.mark.parametrize("parametrization", ["standard", "mup"])
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_model_is_the_same_by_native_and_plain_operations(
    arch: str, dtype: str, parametrization: str, tokens_BT: Tensor
) -> None:
    shape = shape_for("3x40x2", vocab_size=600, context=40, arch=arch)
    found = []
    for name, kind in (("plain", "float32"), ("native", dtype)):
        model = build_model(shape, 1, parametrization, build_operations(name, kind))
        passes = Passes(model, micro_batch=7)
        losses = passes.sequence_losses(tokens_BT[:, :-1], tokens_BT[:, 1:])
        found.append([losses, *losses_and_gradient(model, passes, tokens_BT)])
        assert float(losses.mean()) == pytest.approx(float(found[-1][1]), rel=1e-5)
    assert_close(found[1], found[0], ROUNDING[dtype])


@pytest.mark.parametrize("name", sorted({"plain", pick_operations("cpu")}))
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_micro_batches_and_recomputed_activations_change_rounding_alone(
    arch: str, name: str, tokens_BT: Tensor
) -> None:
    shape = shape_for("2x24x2", vocab_size=600, context=40, arch=arch)
    model = build_model(shape, ops=build_operations(name, "float32"))
    whole = losses_and_gradient(model, Passes(model, micro_batch=7), tokens_BT)
    for micro_batch in (1, 3, 64):
        assert_close(losses_and_gradient(model, Passes(model, micro_batch), tokens_BT), whole, ROUNDING["float32"])
    model.checkpointing = True
    for one, other in zip(losses_and_gradient(model, Passes(model, micro_batch=7), tokens_BT), whole, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_weights_are_cast_once_for_all_passes_and_gradients_summed_in_float32(
    arch: str, tokens_BT: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = shape_for("2x24x2", vocab_size=600, context=40, arch=arch)
    model = build_model(shape, ops=build_operations("plain", "bfloat16"))
    weights = dict(model.named_parameters())
    wanted = [torch.zeros_like(weight) for weight in weights.values()]
    for first in range(0, 7, 2):  # as if each product cast its weight, and each part had a gradient of its own
        part = tokens_BT[first : first + 2]
        total, _ = model.losses(part[:, :-1], part[:, 1:], torch.full((len(part),), 1 / 7))
        for total_slope, slope in zip(wanted, torch.autograd.grad(total, list(weights.values())), strict=True):
            total_slope += slope
    casts, real = [], torch._foreach_copy_

    def copy(to: list[Tensor], of: list[Tensor]) -> None:
        casts.append(to[0].dtype)
        real(to, of)

    monkeypatch.setattr(torch, "_foreach_copy_", copy)
    passes = Passes(model, micro_batch=2)
    for _ in range(2):
        found = losses_and_gradient(model, passes, tokens_BT)[1:]
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
        assert dict(model.named_parameters()).keys() == weights.keys()
        assert all(weight is weights[name] for name, weight in model.named_parameters())
    assert casts == [torch.bfloat16, torch.float32] * 2


@native
@settings(max_examples=10)
@given(sequences=st.integers(1, 13), micro_batch=st.integers(1, 5), threads=st.integers(2, 5))
def test_every_number_of_threads_gives_the_same_bits(sequences: int, micro_batch: int, threads: int) -> None:
    shape = shape_for("2x24x2", vocab_size=600, context=40)
    model = build_model(shape, ops=build_operations("native", "bfloat16"))
    tokens_BT = torch.randint(600, (sequences, 41), generator=torch.Generator().manual_seed(sequences))
    alone, shared = (Passes(model, micro_batch, threads=count) for count in (1, threads))
    for one, other in zip(
        losses_and_gradient(model, shared, tokens_BT), losses_and_gradient(model, alone, tokens_BT), strict=True
    ):
        assert torch.equal(one, other)
    both = [passes.sequence_losses(tokens_BT[:, :-1], tokens_BT[:, 1:]) for passes in (alone, shared)]
    assert torch.equal(*both)


@contextmanager
def memory_for(sequences: int, recomputed: int, model: LanguageModel) -> Iterator[list[int]]:
    """A machine that has memory for so many sequences at a time, fewer where activations are kept."""
    asked = []

    def check(module: nn.Module, inputs: tuple[Tensor]) -> None:
        asked.append(len(inputs[0]))
        if len(inputs[0]) > (recomputed if model.checkpointing else sequences):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nfurther lines")

    hook = model.embed.register_forward_pre_hook(check)  # type: ignore[union-attr]
    yield asked
    hook.remove()


def test_out_of_memory_halves_the_micro_batch_and_then_computes_activations_twice(tokens_BT: Tensor) -> None:
    model = build_model(shape_for("2x24x2", vocab_size=600, context=40))
    whole = losses_and_gradient(model, Passes(model, micro_batch=7), tokens_BT)
    with memory_for(2, 2, model) as asked:
        passes = Passes(model, micro_batch=7)
        assert_close(losses_and_gradient(model, passes, tokens_BT), whole, ROUNDING["float32"])
    assert asked == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert not model.checkpointing
    with memory_for(0, 1, model):
        assert_close(losses_and_gradient(model, Passes(model, micro_batch=2), tokens_BT), whole, ROUNDING["float32"])
    assert model.checkpointing
    with memory_for(0, 0, model), pytest.raises(WorkError, match="one sequence of 40 tokens does not fit"):
        Passes(model, micro_batch=2).gradient(tokens_BT[:, :-1], tokens_BT[:, 1:])


def test_without_a_compiler_or_a_cache_torchs_own_operations_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.cache_clear()
    (tmp_path / "file").write_text("")
    (tmp_path / "gcc").touch(mode=0o755)  # a compiler that is never called
    for cache, path, words in (
        (tmp_path / "empty", "", "no C compiler"),
        (tmp_path / "file", str(tmp_path), "kept"),
    ):
        monkeypatch.setenv("LLMSCALE_CACHE", str(cache))
        monkeypatch.setenv("PATH", path)
        monkeypatch.delenv("CC", raising=False)
        assert words in str(why_not())
        assert pick_operations("cpu") == "plain"
    monkeypatch.undo()
    assert pick_operations("cuda") == "plain"

"""Every operation agrees with torch's own, gradient for gradient; and a batch does not care how it
is cut up.
"""

import hashlib
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from llmscale.errors import WorkError
from llmscale.measure.models.llama import rotary_table
from llmscale.measure.ops import build_operations, compiled, pick_operations
from llmscale.measure.ops.compiled import MARK, find, library, why_not
from llmscale.measure.sweep.kernels import kernel_notes
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.runs.shape import ARCHITECTURES, shape_for

ROUNDING = {"float32": 2e-5, "bfloat16": 6e-2}
"""Of sums that processors take in different orders: 2e-6 and 2e-2 were seen between their
instruction sets.
"""
native = pytest.mark.usefixtures("native_operations")


@pytest.fixture
def native_operations() -> None:
    """Asked when a test runs, so that to collect it compiles nothing."""
    if why_not():
        pytest.skip(f"the native operations do not run here: {why_not()}")


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
@given(
    rows=st.integers(1, 40),
    width=st.integers(5, 70),
    kind=st.sampled_from([nn.RMSNorm, nn.LayerNorm]),
)
def test_native_norms_and_activations_are_torchs(
    dtype: str, rows: int, width: int, kind: type
) -> None:
    norm = kind(width, eps=1e-6)
    with torch.no_grad():
        for seed, weight in enumerate(norm.parameters()):
            weight.copy_(random(width, seed=seed))
    x, added = random(rows, 2, width), random(rows, 2, width, seed=1).to(getattr(torch, dtype))
    wide = random(rows, 2, 2 * width, seed=2).to(getattr(torch, dtype))

    def run(
        name: str, x: Tensor, added: Tensor, wide: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ops = build_operations(name, dtype)
        given = nn.utils.stateless._reparametrize_module(
            norm, dict(zip(("weight", "bias"), weights, strict=False))
        )
        with given:
            y, n = ops.add_and_norm(x, added, norm)
            same, first = ops.add_and_norm(x, None, norm)
        return y, n, same, first, ops.swiglu(wide), ops.gelu(wide)

    inputs = [x, added, wide, *norm.parameters()]
    exact = results(lambda *all: run("plain", *all), [one.float() for one in inputs])
    assert_close(results(lambda *all: run("native", *all), inputs), exact, ROUNDING[dtype])


def losses_and_gradient(model: LanguageModel, passes: Passes, tokens_BT: Tensor) -> list[Tensor]:
    loss = passes.gradient(tokens_BT[:, :-1], tokens_BT[:, 1:])
    return [
        loss,
        *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None),
    ]


@pytest.fixture(name="tokens_BT")
def some_tokens() -> Tensor:
    return torch.randint(600, (7, 41), generator=torch.Generator().manual_seed(0))


@native
@pytest.mark.parametrize("parametrization", ["standard", "mup"])
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("arch", ARCHITECTURES.names)
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
    # Rounding has a router choose other experts for tokens that are nearly as good for both.
    within = ROUNDING[dtype]
    if shape.n_experts > 1 and dtype == "bfloat16":
        within = 0.2
    assert_close(found[1], found[0], within)


@pytest.mark.parametrize("name", sorted({"plain", pick_operations("cpu")}))
@pytest.mark.parametrize("arch", ARCHITECTURES.names)
def test_micro_batches_and_recomputed_activations_change_rounding_alone(
    arch: str, name: str, tokens_BT: Tensor
) -> None:
    shape = shape_for("2x24x2", vocab_size=600, context=40, arch=arch)
    model = build_model(shape, ops=build_operations(name, "float32"))
    whole = losses_and_gradient(model, Passes(model, micro_batch=7), tokens_BT)
    for micro_batch in (1, 3, 64):
        assert_close(
            losses_and_gradient(model, Passes(model, micro_batch), tokens_BT),
            whole,
            ROUNDING["float32"],
        )
    model.checkpointing = True
    for one, other in zip(
        losses_and_gradient(model, Passes(model, micro_batch=7), tokens_BT), whole, strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("arch", ARCHITECTURES.names)
def test_weights_are_cast_once_for_all_passes_and_gradients_summed_in_float32(
    arch: str, tokens_BT: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = shape_for("2x24x2", vocab_size=600, context=40, arch=arch)
    model = build_model(shape, ops=build_operations("plain", "bfloat16"))
    weights = dict(model.named_parameters())
    wanted = [torch.zeros_like(weight) for weight in weights.values()]
    for first in range(
        0, 7, 2
    ):  # as if each product cast its weight, and each part had a gradient of its own
        part = tokens_BT[first : first + 2]
        total, _ = model.losses(part[:, :-1], part[:, 1:], torch.full((len(part),), 1 / 7))
        for total_slope, slope in zip(
            wanted, torch.autograd.grad(total, list(weights.values())), strict=True
        ):
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
def test_every_number_of_threads_gives_the_same_bits(
    sequences: int, micro_batch: int, threads: int
) -> None:
    shape = shape_for("2x24x2", vocab_size=600, context=40)
    model = build_model(shape, ops=build_operations("native", "bfloat16"))
    tokens_BT = torch.randint(
        600, (sequences, 41), generator=torch.Generator().manual_seed(sequences)
    )
    alone, shared = (Passes(model, micro_batch, threads=count) for count in (1, threads))
    for one, other in zip(
        losses_and_gradient(model, shared, tokens_BT),
        losses_and_gradient(model, alone, tokens_BT),
        strict=True,
    ):
        assert torch.equal(one, other)
    both = [
        passes.sequence_losses(tokens_BT[:, :-1], tokens_BT[:, 1:]) for passes in (alone, shared)
    ]
    assert torch.equal(*both)


@contextmanager
def memory_for(sequences: int, recomputed: int, model: LanguageModel) -> Iterator[list[int]]:
    """A machine that has memory for so many sequences at a time, fewer where activations are
    kept.
    """
    asked = []

    def check(module: nn.Module, inputs: tuple[Tensor]) -> None:
        asked.append(len(inputs[0]))
        if len(inputs[0]) > (recomputed if model.checkpointing else sequences):
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB.\nfurther lines"
            )

    hook = model.embed.register_forward_pre_hook(check)
    yield asked
    hook.remove()


def test_out_of_memory_halves_the_micro_batch_and_then_computes_activations_twice(
    tokens_BT: Tensor,
) -> None:
    model = build_model(shape_for("2x24x2", vocab_size=600, context=40))
    whole = losses_and_gradient(model, Passes(model, micro_batch=7), tokens_BT)
    with memory_for(2, 2, model) as asked:
        passes = Passes(model, micro_batch=7)
        assert_close(losses_and_gradient(model, passes, tokens_BT), whole, ROUNDING["float32"])
    assert asked == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert not model.checkpointing
    with memory_for(0, 1, model):
        assert_close(
            losses_and_gradient(model, Passes(model, micro_batch=2), tokens_BT),
            whole,
            ROUNDING["float32"],
        )
    assert model.checkpointing
    with (
        memory_for(0, 0, model),
        pytest.raises(WorkError, match="one sequence of 40 tokens does not fit"),
    ):
        Passes(model, micro_batch=2).gradient(tokens_BT[:, :-1], tokens_BT[:, 1:])


@pytest.fixture(name="kept")
def a_cache_with_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library that is kept in a new cache; and a compiler that takes no time, for it copies that
    one.
    """
    if why_not():
        pytest.skip(f"the native operations do not run here: {why_not()}")
    good = tmp_path / "good.so"
    good.write_bytes(Path(library()._name).read_bytes())
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncat {good} > "$2"\n')
    compiler.chmod(0o755)
    kept = tmp_path / "cache" / "kernels" / Path(library()._name).name
    kept.parent.mkdir(parents=True)
    shutil.copy(good, kept)
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CC", str(compiler))
    find.cache_clear()
    yield kept
    find.cache_clear()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    path.write_bytes(content)


def signed(path: Path) -> None:
    """Whole, but no library of this machine."""
    content = b"\x7fELF" + bytes(60)
    path.write_bytes(content + MARK + hashlib.sha256(content).digest())


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere.so"))
    path.symlink_to("elsewhere.so")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        half,
        zeros_inside,
        signed,
        a_link,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"garbage" * 999),
        lambda path: path.chmod(0o666),
        a_pipe,
    ],
)
def test_a_library_that_is_not_whole_or_that_others_can_write_is_made_anew(
    damage: Callable[[Path], object], kept: Path
) -> None:
    damage(kept)
    before = kept.lstat().st_ino
    assert why_not() is None
    assert kept.lstat().st_ino != before
    assert stat.S_IMODE(kept.lstat().st_mode) == 0o644
    assert [path.name for path in kept.parent.glob("*native*")] == [kept.name], (
        "nothing is left beside it"
    )


def test_kernels_in_a_folder_of_others_are_not_run_and_the_plan_says_so(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.parent.chmod(0o777)
    assert why_not() is None
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o755, (
        "a folder of one's own is closed to others"
    )
    assert not kernel_notes()
    find.cache_clear()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 12345)
    kept.parent.chmod(0o777)
    (note,) = kernel_notes()
    assert f"{kept.parent} " in note.message
    # Root's own folders are trusted by everybody, and others' are not: the next place is the user's
    # home.
    home = tmp_path / "home" / ".cache" / "llmscale" / "kernels"
    assert note.code == ("kernels-elsewhere" if home.stat().st_uid == 0 else "no-kernels")
    opened = find().library
    assert opened is None or str(home) in opened._name


def test_a_compiler_that_makes_nothing_or_fails_or_hangs_is_named(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("gcc") or shutil.which("clang") or "cc"
    for script, words in (
        ("true", "made no library of native.c that can be loaded here (0 bytes)"),
        (
            'while [ "$1" != -o ]; do shift; done; rm "$2"; echo No space left on device >&2; '
            "false",
            "No space left",
        ),
        (
            f'while [ "$1" != -o ]; do shift; done; echo "int none;" | {real} -shared -fPIC -x c - '
            '-o "$2"',
            "made no library",
        ),
        ("exit 3", "exit code 3"),
        ("sleep 99", "took longer than 0 s"),
    ):
        kept.unlink(missing_ok=True)
        find.cache_clear()
        if "sleep" in script:
            monkeypatch.setattr(compiled, "COMPILE_SECONDS", 0.2)
        (tmp_path / "compiler").write_text(f"#!/bin/sh\n{script}\n")
        assert words in str(why_not())
        assert pick_operations("cpu") == "plain"
        assert not list(kept.parent.iterdir())


def test_without_a_compiler_or_a_cache_torchs_own_operations_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "gcc").touch(mode=0o755)  # a compiler that is never called
    for cache, path, words in (
        (tmp_path / "empty", "", "no C compiler"),
        (tmp_path / "file", str(tmp_path), "kept"),
    ):
        find.cache_clear()
        monkeypatch.setenv("LLMSCALE_CACHE", str(cache))
        monkeypatch.setenv("PATH", path)
        monkeypatch.delenv("CC", raising=False)
        assert words in str(why_not())
        assert pick_operations("cpu") == "plain"
        with pytest.raises(WorkError, match=words):
            library()
    monkeypatch.undo()
    find.cache_clear()
    assert pick_operations("cuda") == "plain"


@native
@pytest.mark.parametrize("wrong", [300, 65535, 1 << 22, 1 << 62, -1])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_a_target_beyond_the_vocabulary_is_an_error_and_no_access_to_other_memory(
    wrong: int, dtype: str
) -> None:
    targets_BT = torch.zeros(3, 40, dtype=torch.int64)
    targets_BT[2, 7] = wrong
    ops = build_operations("native", dtype)
    x_BTC = random(3, 40, 16).to(ops.dtype)
    with pytest.raises(WorkError, match=f"token number {wrong}, and the vocabulary ends at 299"):
        ops.cross_entropy(x_BTC, nn.Linear(16, 300, bias=False), targets_BT, torch.ones(3), 1.0)


@native
def test_every_kernel_that_is_called_is_looked_for_when_the_library_is_opened(
    repository: Path,
) -> None:
    called = set(
        re.findall(r'call\(\s*"(\w+)"', (repository / "llmscale/measure/ops/native.py").read_text())
    )
    assert {f"{name}_{kind}" for name in called for kind in ("f32", "bf16")} == set(
        compiled.KERNELS
    )

"""A mixture of experts: what it computes, what it adds to the loss that is trained, its counts."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trained import TRAIN, VALIDATION, job, train_one, without_times

from llmscale.errors import InputError
from llmscale.measure.models.moe import BALANCE, Z, auxiliary_loss
from llmscale.measure.ops import build_operations, pick_operations
from llmscale.measure.ops.plain import by_blocks, grouped
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.stack import Stack
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.runs.shape import ARCHITECTURES, Shape, shape_for

OPERATIONS = sorted({"plain", pick_operations("cpu")})


def tokens(count: int = 5, length: int = 25) -> Tensor:
    return torch.randint(64, (count, length), generator=torch.Generator().manual_seed(0))


def model_of(arch: str, ops: str = "plain", size: str = "2x24x2x40") -> LanguageModel:
    shape = shape_for(size, vocab_size=64, context=24, arch=arch)
    return build_model(shape, 1, ops=build_operations(ops, "float32"))


def trained_loss(model: LanguageModel) -> tuple[Tensor, Tensor]:
    tokens_BT = tokens()
    weights_B = torch.full((len(tokens_BT),), 1 / len(tokens_BT))
    return model.losses(tokens_BT[:, :-1], tokens_BT[:, 1:], weights_B)


@pytest.mark.parametrize("ops", OPERATIONS)
def test_one_expert_is_llama_with_the_same_weights(ops: str) -> None:
    mixture, dense = model_of("moe:1x1", ops), model_of("llama", ops)
    weights = mixture.state_dict()
    dense.load_state_dict({name: weights[name] for name in dense.state_dict()})
    assert torch.equal(mixture(tokens(5, 24)), dense(tokens(5, 24)))
    assert torch.equal(trained_loss(mixture)[1], trained_loss(dense)[1])
    assert mixture.shape.params_total - dense.shape.params_total == 2 * 24  # the routers


class Loop(nn.Module):
    """The experts of one block one after another, each for the tokens that chose it."""

    def __init__(self, mlp: Any, chosen: int) -> None:
        super().__init__()
        self.mlp: Any = mlp
        self.chosen = chosen
        self.auxiliary: list[Tensor] = []

    def forward(self, n_BTC: Tensor) -> Tensor:
        router = self.mlp.router
        logits = n_BTC @ router.t()
        p = logits.exp() / logits.exp().sum(-1, keepdim=True)
        largest = p >= p.sort(dim=-1).values[..., -self.chosen, None]
        g = p if self.chosen == 1 else p / (p * largest).sum(-1, keepdim=True)
        written = torch.zeros_like(n_BTC)
        E = len(router)
        matrices = zip(
            self.mlp.gate_up.weight.chunk(E),
            self.mlp.down.weight.chunk(E),
            strict=True,
        )
        for e, (gate_up, down) in enumerate(matrices):
            gate, up = gate_up.chunk(2)
            output = (F.silu(n_BTC @ gate.t()) * (n_BTC @ up.t())) @ down.t()
            written = written + torch.where(largest[..., e, None], g[..., e, None] * output, 0)
        f = largest.float().mean(dim=1) / self.chosen
        z = logits.exp().sum(-1).log() ** 2
        self.auxiliary.append(BALANCE * E * (f * p.mean(1)).sum(-1) + Z * z.mean(1))
        return written


@pytest.mark.parametrize("ops", OPERATIONS)
@pytest.mark.parametrize("arch", ["moe:4x1", "moe:5x3"])
def test_loss_and_gradients_are_those_of_a_plain_loop_over_experts(arch: str, ops: str) -> None:
    model: Any = model_of(arch, ops)
    total, losses_BT = trained_loss(model)
    found = torch.autograd.grad(total, list(model.parameters()))

    chosen = model.shape.experts_per_token
    loops = [Loop(block.mlp, chosen) for block in model.blocks]
    inputs_BT, targets_BT = tokens()[:, :-1], tokens()[:, 1:]
    x_BTC = model.embed(inputs_BT)
    for block, loop in zip(model.blocks, loops, strict=True):
        rotary = model.shared(24)[0]
        qkv = block.attention.qkv(block.attention_norm(x_BTC))
        attended = build_operations("plain", "float32").attention(qkv, 2, rotary, block.scale)
        x_BTC = x_BTC + block.attention.out(attended)
        x_BTC = x_BTC + loop(block.mlp_norm(x_BTC))
    logits = model.head(model.norm(x_BTC))
    plain = F.cross_entropy(logits.transpose(1, 2), targets_BT, reduction="none")
    torch.testing.assert_close(losses_BT, plain)
    wanted = plain.mean() + sum(loop.auxiliary[0].mean() for loop in loops)
    torch.testing.assert_close(total, wanted)
    slopes = torch.autograd.grad(wanted, list(model.parameters()))
    for one, other in zip(found, slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_balance_loss_is_least_for_equal_shares_and_known_by_hand() -> None:
    even_BTE = torch.zeros(1, 6, 3)
    thirds = torch.full((1, 3), 1 / 3)
    uniform = auxiliary_loss(even_BTE, even_BTE.softmax(-1), thirds)
    assert float(uniform) == pytest.approx(BALANCE * 1 + Z * math.log(3) ** 2)
    # All six tokens take the first expert, with probability 2/4: 3 · (1 · 1/2) = 1.5.
    skewed_BTE = torch.tensor([2.0, 1.0, 1.0]).log().expand(1, 6, 3)
    shares = torch.tensor([[1.0, 0.0, 0.0]])
    found = auxiliary_loss(skewed_BTE, skewed_BTE.softmax(-1), shares)
    assert float(found) == pytest.approx(BALANCE * 1.5 + Z * math.log(4) ** 2)


@pytest.mark.parametrize("compute", [by_blocks, grouped])
@pytest.mark.parametrize(("rows", "groups"), [(50, 4), (7, 8), (6, 1)])
def test_products_by_group_take_any_sizes_of_groups(compute, rows: int, groups: int) -> None:  # type: ignore
    generator = torch.Generator().manual_seed(rows)
    x_RC, weight_GOC = (
        torch.randn(size, generator=generator) for size in ((rows, 6), (groups, 9, 6))
    )
    group_R = torch.randint(groups, (rows,), generator=generator).sort().values
    group_R[group_R == 2] = 1  # a group of its own that nothing is in
    ends_G = torch.bincount(group_R, minlength=groups).cumsum(0).int()
    wanted = torch.stack([weight_GOC[g] @ x for x, g in zip(x_RC, group_R, strict=True)])
    torch.testing.assert_close(compute(x_RC, weight_GOC, ends_G), wanted)


def test_losses_that_are_logged_are_cross_entropy_and_a_batch_can_be_cut_up_in_any_way() -> None:
    model = model_of("moe:4x2")
    inputs_BT, targets_BT = tokens()[:, :-1], tokens()[:, 1:]
    losses = [Passes(model, micro_batch).gradient(inputs_BT, targets_BT) for micro_batch in (5, 2)]
    with torch.no_grad():
        pure = F.cross_entropy(model(inputs_BT).flatten(0, 1), targets_BT.flatten())
    for loss in losses:
        assert float(loss) == pytest.approx(float(pure), rel=1e-6)
    assert trained_loss(model)[0].item() > float(pure) + 2 * BALANCE


def test_a_stack_of_mixtures_is_each_of_them() -> None:
    members = [model_of("moe:4x2"), model_of("moe:4x2")]
    members[1].init_weights(torch.Generator().manual_seed(9))
    stack = Stack(members)
    tokens_BT, weights_B = tokens(), torch.full((5,), 0.2)
    each = stack.for_each(tokens_BT)
    stack.losses(each[..., :-1], each[..., 1:], weights_B)[0].backward()
    for model in members:
        trained_loss(model)[0].backward()
    for name, weight in stack.named_parameters():
        slopes = [dict(model.named_parameters())[name].grad for model in members]
        torch.testing.assert_close(weight.grad, torch.stack(slopes), rtol=1e-4, atol=1e-6)  # type: ignore


@pytest.mark.parametrize("arch", ["moe:16x1", "moe:8x2", "moe:4x4"])
def test_counts_tell_what_works_on_a_token_from_what_is_stored(arch: str) -> None:
    shape = shape_for("3x64x4", vocab_size=300, context=32, arch=arch)
    E, k = shape.n_experts, shape.experts_per_token
    expert = 3 * 64 * shape.d_ff
    stored = {name: weight.numel() for name, weight in build_model(shape).named_parameters()}
    assert shape.params_total == sum(stored.values())
    assert shape.params_total - shape.params_active == 3 * (E - k) * expert
    dense = Shape(3, 64, 4, k * shape.d_ff, 300, 32, "llama")
    assert shape.params == dense.params + 3 * E * 64
    assert shape.flops_per_token == dense.flops_per_token + 6 * 3 * E * 64
    assert shape.memory_bytes() - dense.memory_bytes() > 16 * 3 * (E - k) * expert
    assert (dense.n_experts, dense.params_active) == (1, dense.params_total)


def test_experts_are_named_behind_the_architecture() -> None:
    assert ARCHITECTURES.pin("moe") == ARCHITECTURES.pin("moe:8x2") == "moe:8x2"
    assert "moe:64x8" in ARCHITECTURES
    for wrong in ("moe:4", "moe:0x0", "moe:2x3", "moe:9999x1"):
        with pytest.raises(InputError, match="a mixture of experts has no"):
            ARCHITECTURES.pin(wrong)
    with pytest.raises(InputError, match="takes no options"):
        ARCHITECTURES.pin("gpt2:4x1")
    with pytest.raises(InputError, match="no architecture 'mole:4x1'"):
        ARCHITECTURES.pin("mole:4x1")


def test_scores_tell_of_idle_experts() -> None:
    model: Any = model_of("moe:4x1")
    with torch.no_grad():
        for block in model.blocks:
            block.attention_norm.weight.zero_()
            block.mlp.router.zero_()  # all are equally likely, and the first is taken
    scores = model.architecture.scores(model, tokens(5, 24))
    assert scores == {"busiest_expert": 4.0, "experts_unused": 2 * 3}


def test_an_interrupted_mixture_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    one = replace(job(8_000, arch="moe:4x2"), seed=3)
    where = Conditions("cpu", micro_batch=8)
    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder in folders:
        folder.mkdir()
    whole = train_one(one, where, TRAIN, VALIDATION, folders[0])
    assert set(whole.scores) == {"busiest_expert", "experts_unused"}
    asked = iter(range(100))
    with pytest.raises(TrainingInterrupted):
        train_one(one, where, TRAIN, VALIDATION, folders[1], stop=lambda: next(asked) > 10)
    assert without_times(train_one(one, where, TRAIN, VALIDATION, folders[1])) == without_times(
        whole
    )

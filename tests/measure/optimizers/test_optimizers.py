"""Every optimiser keeps the promises of optimizers/__init__.py, and Muon is torch's Muon, matrix by
matrix.
"""

import io
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmscale.measure.optimizers import OPTIMIZERS, Weight, build_optimizer, muon
from llmscale.measure.parametrization import Role, parametrize
from llmscale.measure.transformer import build_model
from llmscale.runs.shape import shape_for

SHAPE = shape_for("2x32x2", vocab_size=50, context=16)
TOKENS_BT = torch.randint(50, (4, 17), generator=torch.Generator().manual_seed(0))
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS.names)


def learner(
    name: str, parametrization: str = "standard"
) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = build_model(SHAPE, parametrization=parametrization)
    return model, build_optimizer(name, model, lr=0.01, beta2=0.99, weight_decay=0.1)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 - step / 20) * group["lr_multiplier"]
        F.cross_entropy(
            model(TOKENS_BT[:, :-1]).flatten(0, 1), TOKENS_BT[:, 1:].flatten()
        ).backward()
        optimizer.step()
        optimizer.zero_grad()


@every_optimizer
def test_every_optimizer_goes_on_from_its_saved_state_bit_for_bit(name: str) -> None:
    model, optimizer = learner(name)
    learn(model, optimizer, 3)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    learn(model, optimizer, 3)
    resumed, fresh = learner(name)
    resumed.load_state_dict(weights)
    fresh.load_state_dict(state)
    learn(resumed, fresh, 3)
    for one, other in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@every_optimizer
@pytest.mark.parametrize("parametrization", ["standard", "mup"])
def test_every_group_of_every_optimizer_says_what_its_learning_rate_is_multiplied_by(
    name: str, parametrization: str
) -> None:
    _, optimizer = learner(name, parametrization)
    multipliers = {group["lr_multiplier"] for group in optimizer.param_groups}
    assert 1.0 in multipliers
    assert (len(multipliers) > 1) == (parametrization == "mup")
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.01 * group["lr_multiplier"])


def muon_on(matrix: Tensor, parts: int = 1, dtype: str = "float32") -> Callable[[Tensor], None]:
    """Muon on `matrix` alone, as a function that takes a step with a gradient."""
    shown = Weight(nn.Parameter(matrix), Role(in_block=True, is_matrix=True, parts=parts))
    other = Weight(nn.Parameter(torch.zeros(3)), Role(in_block=True, is_matrix=False))
    built = muon.build(
        [shown, other], parametrize(SHAPE), lr=0.02, beta2=0.99, weight_decay=0.1, dtype=dtype
    )

    def step(gradient: Tensor) -> None:
        shown.tensor.grad = gradient
        built.step()

    return step


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
@pytest.mark.parametrize("shape", [(48, 32), (32, 48), (40, 40)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-2), ("bfloat16", 1e-3)])
def test_on_one_matrix_muon_is_torchs(shape: tuple[int, int], dtype: str, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mine = torch.randn(shape, generator=generator)
    start, theirs = mine.clone(), nn.Parameter(mine.clone())
    step = muon_on(mine, dtype=dtype)
    reference = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(10):
        gradient = torch.randn(shape, generator=generator)
        step(gradient)
        theirs.grad = gradient
        reference.step()
    assert (mine - theirs).norm() < tolerance * (
        mine - start
    ).norm()  # torch's iterates in bfloat16


def test_muon_takes_steps_as_large_as_adamws_along_orthogonal_matrices() -> None:
    for rows, columns in ((64, 64), (256, 64), (64, 256)):
        matrix = torch.zeros(rows, columns)
        muon_on(matrix)(torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)))
        assert float(matrix.pow(2).mean().sqrt()) / 0.02 == pytest.approx(0.2, rel=0.2)
        values = torch.linalg.svdvals(matrix) / (0.02 * 0.2 * max(rows, columns) ** 0.5)
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.25


def test_muon_makes_each_matrix_of_a_weight_orthogonal_by_itself() -> None:
    generator = torch.Generator().manual_seed(2)
    gradients = [scale * torch.randn(24, 16, generator=generator) for scale in (1.0, 100.0, 0.01)]
    together = torch.zeros(72, 16)
    muon_on(together, parts=3)(torch.cat(gradients))
    for gradient, found in zip(gradients, together.split(24), strict=True):
        alone = torch.zeros(24, 16)
        muon_on(alone)(gradient)
        assert torch.allclose(found, alone, atol=1e-6)


def test_muon_steps_a_stack_of_models_as_it_would_each() -> None:
    gradients = torch.randn(2, 72, 16, generator=torch.Generator().manual_seed(3))
    stack = torch.zeros(2, 72, 16)
    muon_on(stack, parts=3)(gradients)
    for gradient, found in zip(gradients, stack, strict=True):
        alone = torch.zeros(72, 16)
        muon_on(alone, parts=3)(gradient)
        assert torch.allclose(found, alone, atol=1e-6)


def test_muon_takes_the_matrices_in_blocks_and_no_others() -> None:
    model, optimizer = learner("muon")
    names = {id(weight): name for name, weight in model.named_parameters()}
    parts = {
        names[id(w)]: group.get("parts")
        for group in optimizer.param_groups
        for w in group["params"]
    }
    matrices = {
        name
        for name, weight in model.named_parameters()
        if name.startswith("blocks.") and weight.dim() == 2
    }
    assert {name for name, count in parts.items() if count} == matrices
    assert parts["blocks.1.attention.qkv.weight"] == 3
    assert parts["blocks.1.mlp.gate_up.weight"] == 2
    assert parts["blocks.1.attention.out.weight"] == parts["blocks.1.mlp.down.weight"] == 1


def test_a_batch_too_large_to_make_orthogonal_at_once_is_cut_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = []
    for limit in (muon.BATCHED, 1000):
        monkeypatch.setattr(muon, "BATCHED", limit)
        model, optimizer = learner("muon")
        learn(model, optimizer, 2)
        steps.append(model.state_dict())
    for name, weight in steps[0].items():
        assert torch.allclose(weight, steps[1][name], atol=1e-5), name

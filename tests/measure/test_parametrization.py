"""Parametrizations: what `standard` leaves as it was, the table of `mup`, and the coordinate check
that it must pass.

A coordinate check (Yang et al. 2022, appendix D.1) trains models of growing width or depth for a
few steps and measures how far activations move. Under `mup` they move equally far at every size;
under `standard`, at one learning rate, the further the larger the model."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from llmscale.errors import InputError
from llmscale.measure.optimizers import OPTIMIZERS, build_optimizer
from llmscale.measure.parametrization import BASE, parametrize
from llmscale.measure.train.job import Job, JobText, make_job
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.transformer import build_model
from llmscale.runs.shape import ARCHITECTURES, Shape, shape_for

VOCAB, CONTEXT = (
    16,
    32,
)  # few tokens: what one learns hardly disturbs another, as in the limit of large width
SLOW_MOE = pytest.param("moe", marks=pytest.mark.slow)
every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES.names)


def job(**recipe: object) -> Job:
    settings = Recipe(**{"context": 64, **recipe})  # type: ignore[arg-type]
    shape = shape_for("2x16x1", vocab_size=300, context=64, arch=settings.arch)
    text = JobText("text", "f", 1_000_000, 10_000)
    return make_job("2x16x1", shape, 100_000, settings, text, seed=0, dtype="float32")


def test_a_standard_job_keeps_the_id_it_had_before_there_were_parametrizations() -> None:
    assert job(lr=0.01).run_id == "3522e1dae6d2"
    assert job(parametrization="mup").run_id != job().run_id


def test_an_unknown_parametrization_is_refused() -> None:
    with pytest.raises(InputError, match="'ntk' is not known"):
        Recipe(parametrization="ntk")
    with pytest.raises(InputError, match="'ntk' is not known"):
        parametrize(BASE, "ntk")


def test_one_learning_rate_suits_every_size_under_mup() -> None:
    mup, standard = Recipe(parametrization="mup"), Recipe()
    assert {mup.learning_rate(params, 10**9) for params in (10**4, 10**6, 10**9)} == {
        standard.learning_rate(BASE.params, 20 * BASE.params)
    }
    assert Recipe(parametrization="mup", lr=0.01, lr_scale=0.5).learning_rate(10**9, 10**9) == 0.005


@every_architecture
def test_standard_weights_are_normal_with_the_published_deviations(arch: str) -> None:
    shape = Shape(8, 64, 4, 256, 300, 256, arch)
    model = build_model(shape, seed=1)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            residual = (
                1 / math.sqrt(2 * 8)
                if name.endswith(("attention.out.weight", "mlp.down.weight"))
                else 1.0
            )
            drawn = torch.empty_like(weight).normal_(
                0.0, math.sqrt(2 / (5 * 64)) * residual, generator=generator
            )
            assert torch.equal(weight, drawn), name


@every_architecture
@pytest.mark.parametrize("optimizer", OPTIMIZERS.names)
def test_at_the_base_shape_mup_is_standard(arch: str, optimizer: str) -> None:
    shape = Shape(BASE.n_layer, BASE.d_model, BASE.n_head, 64, VOCAB, CONTEXT, arch)
    tokens_BT = text(0)
    models = [build_model(shape, 3, name) for name in ("standard", "mup")]
    for model in models:
        step = build_optimizer(optimizer, model, lr=0.01, beta2=0.95, weight_decay=0.1)
        for _ in range(2):
            train_once(model, step, tokens_BT)
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(one, other)


@every_architecture
def test_mup_scales_as_tables_8_and_1_of_its_papers_say(arch: str) -> None:
    shape = Shape(
        4 * BASE.n_layer, 2 * BASE.d_model, 4, 64, 256, CONTEXT, arch
    )  # m = 2, m_L = 4, heads of 32
    model = build_model(shape, parametrization="mup")
    parametrization = model.parametrization
    assert (parametrization.logits_multiplier, parametrization.residual_multiplier) == (0.5, 0.25)
    assert parametrization.attention_scale == pytest.approx(math.sqrt(16) / 32)
    deviations = {
        name: float(w.detach().std()) for name, w in model.named_parameters() if w.dim() == 2
    }
    at_base = math.sqrt(2 / (5 * 64))
    assert deviations["head.weight"] == pytest.approx(at_base, rel=0.1)
    assert deviations["embed.weight"] == pytest.approx(at_base, rel=0.1)
    assert deviations["blocks.0.attention.qkv.weight"] == pytest.approx(
        at_base / math.sqrt(2), rel=0.1
    )
    assert deviations["blocks.0.mlp.down.weight"] == pytest.approx(
        at_base / math.sqrt(2) / math.sqrt(4), rel=0.1
    )

    names = {id(weight): name for name, weight in model.named_parameters()}
    adamw = build_optimizer("adamw", model, lr=0.01, beta2=0.95, weight_decay=0.1)
    found = {names[id(w)]: group for group in adamw.param_groups for w in group["params"]}
    wanted = {  # learning rate, weight decay, epsilon
        "embed.weight": (0.01, 0.0, 5e-9),
        "head.weight": (0.01, 0.1, 5e-9),
        "norm.weight": (0.01, 0.0, 5e-9),
        "blocks.3.mlp.down.weight": (0.005, 0.2, 1.25e-9),
        "blocks.3.mlp_norm.weight": (0.01, 0.0, 1.25e-9),
    }
    for name, (lr, decay, epsilon) in wanted.items():
        group = found[name]
        assert (group["lr"], group["weight_decay"], group["eps"]) == pytest.approx(
            (lr, decay, epsilon)
        ), name
        assert group["lr_multiplier"] == pytest.approx(lr / 0.01)

    muon = build_optimizer("muon", model, lr=0.01, beta2=0.95, weight_decay=0.1)
    found = {names[id(w)]: group for group in muon.param_groups for w in group["params"]}
    assert found["blocks.3.mlp.down.weight"]["lr"] == pytest.approx(0.01 / math.sqrt(2))
    assert found["blocks.3.mlp.down.weight"]["weight_decay"] == pytest.approx(0.1 * math.sqrt(2))
    assert found["head.weight"]["lr"] == found["embed.weight"]["lr"] == 0.01


@pytest.mark.parametrize("optimizer", OPTIMIZERS.names)
@pytest.mark.parametrize(
    # Experts take long in float32 by plain operations; their layers are llama's otherwise.
    "arch",
    [
        pytest.param(arch, marks=[pytest.mark.slow] * (arch == "moe"))
        for arch in ARCHITECTURES.names
    ],
)
def test_activations_move_equally_far_at_every_width_under_mup_alone(
    optimizer: str, arch: str
) -> None:
    widths = (32, 64, 128)

    def slopes(name: str) -> list[float]:
        return growth(widths, [movement(width, 2, name, optimizer, arch) for width in widths])

    stream, logits = slopes("mup")
    assert stream == pytest.approx(0.0, abs=0.15)
    assert logits == pytest.approx(0.0, abs=0.25)
    assert min(slopes("standard")) > 0.35


@pytest.mark.parametrize("optimizer", OPTIMIZERS.names)
def test_activations_move_equally_far_at_every_depth_under_mup_alone(optimizer: str) -> None:
    depths = (4, 8, 16)

    def slope(name: str) -> float:
        return growth(depths, [movement(32, depth, name, optimizer) for depth in depths])[0]

    assert slope("mup") == pytest.approx(0.0, abs=0.25)
    assert slope("standard") > 0.35


def growth(sizes: tuple[int, ...], movements: list[tuple[float, ...]]) -> list[float]:
    """Slopes of each movement over the sizes, in log-log."""
    return [
        float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
        for values in zip(*movements, strict=True)
    ]


def movement(
    width: int, depth: int, name: str, optimizer: str, arch: str = "llama"
) -> tuple[float, float]:
    """Mean absolute change of the residual stream after the last block, and of the logits, by four
    steps.

    The output projection starts at 0, since what its random start adds to the logits fades with
    1/√width under `mup` and hides what training adds (Yang et al. 2022, appendix D.2). Means of two
    seeds."""
    changes = []
    for seed in range(2):
        model = build_model(
            Shape(depth, width, 4, 8 * width // 3, VOCAB, CONTEXT, arch), seed, name
        )
        with torch.no_grad():
            model.head.weight.zero_()
        step = build_optimizer(optimizer, model, lr=0.002, beta2=0.95, weight_decay=0.0)
        before = activations(model)
        for batch in range(4):
            train_once(model, step, text(batch))
        changes.append(
            [float((a - b).abs().mean()) for a, b in zip(activations(model), before, strict=True)]
        )
    stream, logits = np.mean(changes, axis=0)
    return float(stream), float(logits)


def activations(model: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """The residual stream after the last block, which the last norm reads, and the logits."""
    streams: list[Tensor] = []
    hook = model.get_submodule("norm").register_forward_pre_hook(
        lambda _, inputs: streams.append(inputs[0].clone())
    )
    with torch.no_grad():
        logits = model(text(100)[:, :-1])
    hook.remove()
    return streams[0], logits


def train_once(model: torch.nn.Module, step: torch.optim.Optimizer, tokens_BT: Tensor) -> None:
    F.cross_entropy(model(tokens_BT[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten()).backward()
    step.step()
    step.zero_grad()


def text(seed: int) -> Tensor:
    """Eight sequences of a Markov chain, (8, CONTEXT + 1)."""
    random = np.random.default_rng(seed)
    steps, starts = random.integers(1, 4, (8, CONTEXT + 1)), random.integers(0, VOCAB, (8, 1))
    return torch.from_numpy((np.cumsum(steps, axis=1) + starts) % VOCAB)

"""The loss of targets only, and adapters of low rank, against plain torch."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from trained import CPU, VOCAB, job, train_one, train_stack, without_times

from llmscale.measure.ops import build_operations
from llmscale.measure.ops.compiled import why_not
from llmscale.measure.train.evaluate import evaluate
from llmscale.measure.train.examples import Examples
from llmscale.measure.train.finetuning import FineTuning
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.job import Job
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.low_rank import LowRank, adapted
from llmscale.measure.train.low_rank_optimizer import build_low_rank
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.runs.shape import Shape, shape_for

SHAPE = shape_for("2x16x1", vocab_size=VOCAB, context=32)
LENGTH = 12
OPERATIONS = ["plain"] if why_not() else ["plain", "native"]


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Examples of random tokens, of which random ones count, and the last one does."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, VOCAB, (count, LENGTH + 1)).astype(np.int32)
    signs = random.random(tokens.shape) < 0.6
    signs[:, -1] = False
    return np.where(signs, ~tokens, tokens)


def losses_by_hand(model: LanguageModel, signed: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy of every target, and whether it counts."""
    found = torch.from_numpy(signed.astype(np.int64))
    tokens = torch.where(found < 0, ~found, found)
    logits = model(tokens[:, :-1])
    losses = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return losses.view(len(signed), -1), (found >= 0)[:, 1:]


@pytest.mark.parametrize("ops", OPERATIONS)
@pytest.mark.parametrize("micro_batch", [1, 5, 8])
def test_loss_and_gradient_are_those_of_the_targets(ops: str, micro_batch: int) -> None:
    signed = rows(8)
    model = build_model(SHAPE, seed=3, ops=build_operations(ops, "float32"))
    passes = Passes(model, micro_batch, masked=True)
    loss = passes.gradient(*Examples(signed).read(np.arange(8)))

    by_hand = build_model(SHAPE, seed=3)
    losses, counts = losses_by_hand(by_hand, signed)
    mean = losses[counts].mean()
    mean.backward()
    assert float(loss) == pytest.approx(mean.item(), rel=1e-5)
    for (name, weight), own in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(weight.grad, own.grad, rtol=1e-4, atol=1e-7), name  # type: ignore[arg-type]


def test_validation_loss_is_over_targets_and_its_error_over_examples() -> None:
    signed = rows(9)
    model = build_model(SHAPE, seed=3)
    (found,) = evaluate(Passes(model, 4, masked=True), Examples(signed))
    with torch.no_grad():
        losses, counts = losses_by_hand(model, signed)
    sums, numbers = (losses * counts).sum(dim=1).numpy(), counts.sum(dim=1).numpy()
    mean = sums.sum() / numbers.sum()
    assert found.loss == pytest.approx(mean, rel=1e-6)
    # The jackknife of a ratio agrees with its linear approximation.
    without = [
        (sums.sum() - one) / (numbers.sum() - of) for one, of in zip(sums, numbers, strict=True)
    ]
    jackknife = np.sqrt(8 / 9 * np.square(np.array(without) - np.mean(without)).sum())
    assert found.stderr == pytest.approx(jackknife, rel=0.1)


def task_job(low_rank: LowRank | None = None, **changes: Any) -> Job:
    part = FineTuning(40, LENGTH, 40 * 10, 1, low_rank=low_rank)
    return replace(job(), sequences=120, batch_sequences=8, finetuning=part, **changes)


@pytest.mark.parametrize(("arch", "low_rank"), [("llama", None), ("moe:4x1", LowRank(2, 4.0))])
def test_a_fine_tuning_goes_on_bit_for_bit(
    arch: str, low_rank: LowRank | None, tmp_path: Path
) -> None:
    asked, texts = task_job(low_rank, shape=job(arch=arch).shape), (rows(40), rows(20, seed=1))
    whole = train_one(asked, CPU, *texts, tmp_path)
    stops = iter([False] * 6 + [True] + [False] * 100)
    folder = tmp_path / "stopped"
    folder.mkdir()
    with pytest.raises(TrainingInterrupted):
        train_one(asked, CPU, *texts, folder, stop=lambda: next(stops))
    resumed = train_one(asked, CPU, *texts, folder)
    assert without_times(resumed) == without_times(whole)
    assert resumed.evaluation == whole.evaluation


def test_seeds_that_are_stacked_learn_as_they_do_alone(tmp_path: Path) -> None:
    jobs = [task_job(seed=seed) for seed in (0, 1)]
    texts, folders = (rows(40), rows(20, seed=1)), [tmp_path / "0", tmp_path / "1"]
    stacked = train_stack(jobs, replace(CPU, ops="plain"), *texts, folders)
    for one, own, folder in zip(jobs, stacked, folders, strict=True):
        alone = train_one(one, replace(CPU, ops="plain"), *texts, folder / "alone")
        assert own.evaluation is not None
        assert alone.evaluation is not None
        assert own.evaluation.loss == pytest.approx(alone.evaluation.loss, rel=1e-4)
        assert own.evaluation.stderr == pytest.approx(alone.evaluation.stderr, rel=1e-3)


def test_what_decides_a_fine_tuning_is_in_its_id() -> None:
    plain, control = job(), task_job()
    part = control.finetuning
    assert part is not None
    others = [
        control,
        replace(control, finetuning=replace(part, weights="a" * 32)),
        replace(control, finetuning=replace(part, weights="b" * 32)),
        replace(control, finetuning=replace(part, examples=20)),
        task_job(LowRank(2, 4.0)),
        task_job(LowRank(2, 8.0)),
    ]
    ids = {plain.run_id, *(one.run_id for one in others)}
    assert len(ids) == 1 + len(others)
    assert control.tokens == 120 * LENGTH
    assert control.epochs == 3


@pytest.mark.parametrize(("rank", "arch"), [(2, "llama"), (16, "llama"), (2, "moe:4x1")])
def test_adapters_learn_as_torch_would_have_them(
    rank: int, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against W_0 + (alpha/rank) B A in plain torch, with torch's own AdamW of A and B: a pair for
    each matrix, and of a mixture for each expert's."""
    monkeypatch.setattr("llmscale.measure.models.moe.BALANCE", 0.0)
    monkeypatch.setattr("llmscale.measure.models.moe.Z", 0.0)
    shape = shape_for("2x16x1", vocab_size=VOCAB, context=32, arch=arch)
    low_rank = LowRank(rank, 8.0, "attention.qkv,mlp")
    model = build_model(shape, seed=3)
    optimizer = build_low_rank(model, low_rank, lr=0.02, beta2=0.99, weight_decay=0.1, seed=7)
    passes = Passes(model, 8, masked=True)

    reference = build_model(shape, seed=3)
    start = {name: weight.detach().clone() for name, weight in reference.named_parameters()}
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    ours = dict(model.named_parameters())
    pairs = {name: _pairs(name, shape, optimizer.state[ours[name]]) for name in names}
    adapters = [one for every in pairs.values() for pair in every for one in pair]
    torchs = torch.optim.AdamW(adapters, lr=0.02, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(5):
        signed = rows(8, seed=step)
        loss = passes.gradient(*Examples(signed).read(np.arange(8)))
        optimizer.step()
        merged = {name: _merged(start[name], every, 8.0 / rank) for name, every in pairs.items()}
        losses, counts = _functional(reference, {**start, **merged}, signed)
        assert float(loss) == pytest.approx(losses[counts].mean().item(), rel=1e-5)
        torchs.zero_grad()
        losses[counts].mean().backward()
        torchs.step()
    for name in names:
        expected = _merged(start[name], pairs[name], 8.0 / rank)
        assert torch.allclose(ours[name], expected, rtol=1e-3, atol=1e-5), name
    frozen = [name for name in start if name not in names]
    assert all(torch.equal(ours[name], start[name]) for name in frozen)
    counted = sum(one.weights for one in adapted(shape, low_rank))
    assert counted == sum(one.numel() for one in adapters)


Pairs = list[tuple[torch.nn.Parameter, torch.nn.Parameter]]


def _pairs(name: str, shape: Shape, state: dict[str, torch.Tensor]) -> Pairs:
    """A and B as they begin, of each matrix that a weight holds."""
    experts = shape.n_experts if ".mlp." in name else 1
    flat = state["A"].flatten(0, -2).chunk(experts), state["B"].flatten(0, -2).chunk(experts)
    return [
        (torch.nn.Parameter(down.clone()), torch.nn.Parameter(up.clone()))
        for down, up in zip(*flat, strict=True)
    ]


def _merged(start: torch.Tensor, pairs: Pairs, scale: float) -> torch.Tensor:
    matrices = start.chunk(len(pairs))
    each = zip(matrices, pairs, strict=True)
    return torch.cat([matrix + scale * up @ down for matrix, (down, up) in each])


def _functional(
    model: LanguageModel, weights: dict[str, torch.Tensor], signed: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    class Calling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = copy.deepcopy(model)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.model(tokens)

    calling = Calling()
    own = {f"model.{name}": weight for name, weight in weights.items()}

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.func.functional_call(calling, own, (tokens,))
        return found

    return losses_by_hand(logits, signed)  # type: ignore[arg-type]

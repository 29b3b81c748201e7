"""The training loop: the same job gives the same run, whatever interrupts it and however it is cut
up.
"""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from trained import CPU, TRAIN, VALIDATION, VOCAB, job, run, train_one, train_stack, without_times

from llmscale.errors import WorkError
from llmscale.measure.ops.compiled import why_not  # noqa: F401 -- what `native` asks
from llmscale.measure.optimizers import (
    OPTIMIZERS,
    allocate_state,
    build_optimizer,
    set_learning_rate,
)
from llmscale.measure.train.batches import Batches, Windows
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.evaluate import bits_per_byte, evaluate
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.loop import UNREAD, TrainingInterrupted
from llmscale.measure.train.stack import Stack
from llmscale.measure.transformer import build_model
from llmscale.runs.run_folder import CHECKPOINT
from llmscale.runs.shape import shape_for

native = pytest.mark.skipif(
    "why_not() is not None", reason="the native operations do not run here: see llmscale doctor"
)


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_training_learns_and_reports_what_it_did(arch: str, tmp_path: Path) -> None:
    outcome = run(job(arch=arch), tmp_path)
    assert outcome.status == "done"
    assert outcome.evaluation is not None
    assert outcome.evaluation.loss < 0.75 * math.log(VOCAB)
    last = outcome.curve[-1]
    assert last.tokens == job(arch=arch).tokens
    assert last.flops == job(arch=arch).flops
    assert last.loss == outcome.evaluation.loss
    assert last.perplexity == pytest.approx(math.exp(last.loss))
    assert last.train_perplexity == pytest.approx(math.exp(last.train_loss))
    evaluated = [point for point in outcome.curve if point.loss is not None]
    assert len(evaluated) == job(arch=arch).evaluations


def test_the_same_job_gives_the_same_run_bit_for_bit(tmp_path: Path) -> None:
    first, second = (run(job(6_000), tmp_path) for _ in range(2))
    assert without_times(first) == without_times(second)


@pytest.mark.parametrize(
    ("schedule", "dtype", "ops", "threads"),
    [
        ("wsd", "float32", "plain", 1),
        ("cosine", "bfloat16", "plain", 1),
        pytest.param("wsd", "bfloat16", "native", 1, marks=native),
        pytest.param("cosine", "float32", "native", 3, marks=native),
    ],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    schedule: str, dtype: str, ops: str, threads: int, tmp_path: Path
) -> None:
    conditions = replace(CPU, ops=ops, threads=threads)
    whole = replace(job(schedule=schedule), dtype=dtype)
    wanted = run(whole, tmp_path, conditions)
    (resumed := tmp_path / "resumed").mkdir()
    asked = 0
    for stop in (1, 20, 21, 50):

        def stop_now(at: int = stop) -> bool:
            nonlocal asked
            asked += 1
            return asked >= at

        with pytest.raises(TrainingInterrupted):
            train_one(whole, conditions, TRAIN, VALIDATION, resumed, stop=stop_now)
        assert (resumed / CHECKPOINT).exists()
    assert without_times(run(whole, resumed, conditions)) == without_times(wanted)


@native
@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_a_run_is_the_same_by_native_and_plain_operations(arch: str, tmp_path: Path) -> None:
    losses = []
    for ops, threads in (("plain", 1), ("native", 1), ("native", 2)):
        evaluation = run(
            job(arch=arch), tmp_path, replace(CPU, ops=ops, threads=threads)
        ).evaluation
        assert evaluation is not None
        losses.append(evaluation.loss)
    assert losses == pytest.approx([losses[0]] * 3, abs=2e-4)


def test_steps_read_later_are_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = [job(tokens=6_000), job(lr=1000.0, clip=1e9)]
    wanted = [run(one, tmp_path) for one in ways]
    monkeypatch.setitem(UNREAD, "cpu", 3)
    for one, outcome in zip(ways, wanted, strict=True):
        late = run(one, tmp_path)
        assert (late.status, late.error, late.evaluation) == (
            outcome.status,
            outcome.error,
            outcome.evaluation,
        )
        assert str(without_times(late)) == str(without_times(outcome))  # nan is nan, too
    (resumed := tmp_path / "resumed").mkdir()
    asked = iter(range(100))
    with pytest.raises(TrainingInterrupted):
        train_one(ways[0], CPU, TRAIN, VALIDATION, resumed, stop=lambda: next(asked) == 7)
    assert without_times(run(ways[0], resumed)) == without_times(wanted[0])
    seeds = [replace(ways[0], seed=seed) for seed in range(2)]
    folders = [tmp_path / "0", tmp_path / "1"]
    stacked = train_stack(seeds, CPU, TRAIN, VALIDATION, folders)
    monkeypatch.setitem(UNREAD, "cpu", 0)
    again = train_stack(seeds, CPU, TRAIN, VALIDATION, folders)
    assert [without_times(outcome) for outcome in stacked] == [
        without_times(outcome) for outcome in again
    ]


def test_the_micro_batch_changes_rounding_and_nothing_else(tmp_path: Path) -> None:
    # The last micro-batch of a step, and the last step, are filled up.
    odd = replace(job(5_000), batch_sequences=7)
    outcomes = [run(odd, tmp_path, Conditions("cpu", micro_batch=size)) for size in (1, 3, 4, 7)]
    losses = [outcome.evaluation.loss for outcome in outcomes if outcome.evaluation]
    assert losses == pytest.approx([losses[0]] * 4, abs=2e-4)


def test_a_run_that_explodes_ends_as_diverged(tmp_path: Path) -> None:
    outcome = run(job(lr=1000.0, clip=1e9), tmp_path)
    assert outcome.status == "diverged"
    assert outcome.error is not None
    assert "step" in outcome.error
    assert outcome.evaluation is None
    assert len(outcome.curve) < job().steps


def test_sequences_are_read_once_an_epoch_in_an_order_of_the_seed() -> None:
    batches = Batches(np.arange(1001, dtype=np.uint32), context=10, seed=5)
    inputs, targets = batches.read(0, 100)
    assert sorted(inputs.flatten().tolist()) == list(range(1000))
    assert torch.equal(targets, inputs + 1)
    again = torch.cat([batches.read(first, 7)[0] for first in range(0, 98, 7)])
    assert torch.equal(again, inputs[:98])
    second_epoch, _ = batches.read(100, 100)
    assert sorted(second_epoch.flatten().tolist()) == list(range(1000))
    assert not torch.equal(second_epoch, inputs)
    other_seed, _ = Batches(np.arange(1001, dtype=np.uint32), context=10, seed=6).read(0, 100)
    assert not torch.equal(other_seed, inputs)


@pytest.mark.parametrize(
    ("seed", "context", "kind", "length", "digest"),
    [
        (
            0,
            10,
            np.uint16,
            1001,
            "1b0128ebd796662529af216191865bb48324104c72e5ab4bcdc1acf8a843e51e",
        ),
        (
            5,
            64,
            np.uint16,
            100_000,
            "f70837c28415c81045fabad83e55de89d6950cfb2af799f8825abcb63b0c0c34",
        ),
        (
            1,
            256,
            np.uint32,
            200_000,
            "9f8ef0c2893b6507bd166ca90614082256d96191b79b6e623f8abd321380ef77",
        ),
        (
            7,
            33,
            np.uint32,
            5_000,
            "2ce5499cb2a6510785bf826cf118d3872d508317f32cbb53821249b15a2d5b3a",
        ),
    ],
)
def test_the_order_of_sequences_stays_what_it_was(
    seed: int, context: int, kind: type, length: int, digest: str
) -> None:
    tokens: np.ndarray = (np.arange(length, dtype=np.uint64) * 2654435761 % 50_021).astype(kind)
    batches = Batches(tokens, context, seed)
    windows, read = batches.windows, hashlib.sha256()
    # The beginning, the crossing into the second and third epoch, and more than two epochs at once.
    for first, count in (
        (0, 16),
        (16, 16),
        (windows - 3, 9),
        (3 * windows - 2, 5),
        (0, 2 * windows + 3),
    ):
        for part in batches.read(first, count):
            assert part.dtype == torch.int64
            assert part.shape == (count, context)
            read.update(part.contiguous().numpy().tobytes())
    assert read.hexdigest() == digest


def test_the_order_of_an_epoch_is_numpys_permutation() -> None:
    for seed, windows in ((0, 1), (3, 1000), (4, 70_000)):
        batches = Batches(np.arange(2 * windows + 1, dtype=np.uint32), context=2, seed=seed)
        for epoch in (0, 1):
            inputs, _ = batches.read(epoch * windows, windows)
            np.testing.assert_array_equal(
                inputs[:, 0] // 2, np.random.default_rng([seed, epoch]).permutation(windows)
            )


@pytest.mark.parametrize(("kind", "largest"), [(np.uint16, 2**16 - 1), (np.uint32, 2**32 - 1)])
def test_windows_cut_on_the_device_are_those_that_the_host_cuts(kind: type, largest: int) -> None:
    tokens: np.ndarray = (
        np.random.default_rng(0).integers(0, largest, 1000, endpoint=True).astype(kind)
    )
    tokens[:3] = largest, 0, largest // 2 + 1
    here, there = (Batches(tokens, 9, seed=2, resident=resident) for resident in (False, True))
    windows = here.windows
    for first, count in (
        (0, 7),
        (windows - 3, 9),
        (3 * windows - 2, 5),
        (0, 2 * windows + 3),
        (4, 0),
    ):
        for one, other in zip(here.read(first, count), there.read(first, count), strict=True):
            assert torch.equal(one, other)
            assert other.is_contiguous()
            assert one.shape == (count, 9)
    text, order = Windows(tokens, 9, resident=True), np.arange(windows)
    assert torch.equal(text.read(text.order(order)[-2:])[1], Windows(tokens, 9).read(order[-2:])[1])


@pytest.mark.parametrize("ops", ["plain", pytest.param("native", marks=native)])
@pytest.mark.parametrize("name", ["train.bin", "validation.bin"])
def test_a_token_number_beyond_the_vocabulary_is_named_with_its_file(
    name: str, ops: str, tmp_path: Path
) -> None:
    texts = {"train.bin": TRAIN.copy(), "validation.bin": VALIDATION.copy()}
    texts[name][len(texts[name]) // 32 * 32 // 2] = VOCAB + 7
    (tmp_path / "a store").mkdir()
    for file, tokens in texts.items():
        tokens.tofile(tmp_path / "a store" / file)
    trained, validated = (np.memmap(tmp_path / "a store" / file, np.uint16, "r") for file in texts)
    with pytest.raises(WorkError) as raised:
        train_one(
            job(tokens=len(TRAIN), size="1x16x1"),
            replace(CPU, ops=ops),
            trained,
            validated,
            tmp_path,
        )
    assert (
        f"{name} holds the token number 67, and the vocabulary ends at 59" in raised.value.problem
    )
    assert raised.value.fix == f"have it made anew: rm -r '{tmp_path / 'a store'}'"
    with pytest.raises(WorkError, match="token number 67"):
        Windows(texts[name], 32, resident=True, vocab_size=VOCAB)


def test_evaluation_is_the_mean_over_all_whole_windows() -> None:
    model = build_model(shape_for("2x16x1", vocab_size=VOCAB, context=32))
    windows = [
        VALIDATION[start : start + 33].astype(np.int64)
        for start in range(0, len(VALIDATION) - 32, 32)
    ]
    tokens = torch.from_numpy(np.stack(windows))
    with torch.no_grad():
        logits = model(tokens[:, :-1])
        by_sequence = (
            F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
            .double()
            .mean(dim=1)
        )
    for sequences, threads, together in ((1, 1, None), (7, 1, 50), (64, 3, 64), (1000, 1, 16)):
        passes = Passes(model, sequences, threads=threads, evaluation_batch=together)
        (found,) = evaluate(passes, Windows(VALIDATION, 32))
        assert found.loss == pytest.approx(float(by_sequence.mean()), rel=1e-6)
        assert found.stderr == pytest.approx(
            float(by_sequence.std()) / len(windows) ** 0.5, rel=1e-5
        )


def test_evaluation_that_does_not_fit_the_memory_takes_fewer_sequences_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, text = (
        build_model(shape_for("2x16x1", vocab_size=VOCAB, context=32)),
        Windows(VALIDATION, 32),
    )
    (wanted,) = evaluate(Passes(model, 64), text)
    passes = Passes(model, 64)
    room, real = 10, passes.losses

    def losses(inputs_BT: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if len(inputs_BT) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.\nfurther lines")
        return real(inputs_BT, *rest)

    monkeypatch.setattr(passes, "losses", losses)
    (found,) = evaluate(passes, text)
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
    assert passes.evaluation_batch == 8
    assert passes.micro_batch == 64
    room = 0
    with pytest.raises(
        WorkError, match="one sequence of 32 tokens does not fit the memory: CUDA out of memory"
    ):
        evaluate(passes, text)


def test_a_model_that_does_not_fit_the_memory_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB.\nfurther lines"
        )

    monkeypatch.setattr(torch, "zeros_like", full)
    with pytest.raises(
        WorkError,
        match=r"the optimiser's state of 2x16x1, .* do not fit the memory: CUDA out of mem",
    ):
        run(job(), tmp_path)


@pytest.mark.parametrize("name", OPTIMIZERS.names)
@pytest.mark.parametrize("stacked", [False, True])
def test_an_optimizer_whose_state_is_made_beforehand_takes_the_same_steps(
    name: str, stacked: bool
) -> None:
    found = []
    for beforehand in (False, True):
        models = [
            build_model(shape_for("2x16x1", vocab_size=VOCAB, context=32), seed)
            for seed in range(2)
        ]
        model = Stack(models) if stacked else models[0]
        optimizer = build_optimizer(name, model, lr=0.01, beta2=0.99, weight_decay=0.1)
        before = [weight.detach().clone() for _, weight in model.named_parameters()]
        if beforehand:
            allocate_state(optimizer)
            assert all(weight.grad is None for _, weight in model.named_parameters())
            for one, (_, other) in zip(before, model.named_parameters(), strict=True):
                assert torch.equal(one, other)
        passes = Passes(model, 4)
        for first in (0, 4):
            inputs_BT, targets_BT = Batches(TRAIN, 32, 0).read(first, 4)
            set_learning_rate(optimizer, 0.01)
            passes.gradient(model.for_each(inputs_BT), model.for_each(targets_BT))
            optimizer.step()
        found.append([weight.detach().clone() for _, weight in model.named_parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_bits_per_byte_does_not_depend_on_how_text_is_cut_into_tokens() -> None:
    assert bits_per_byte(math.log(256), tokens=1000, utf8_bytes=1000) == pytest.approx(8)
    assert bits_per_byte(2 * math.log(256), tokens=500, utf8_bytes=1000) == pytest.approx(8)


@pytest.mark.parametrize("name", OPTIMIZERS.names)
def test_every_optimizer_decays_matrices_alone_and_lowers_the_loss(name: str) -> None:
    model = build_model(shape_for("2x16x1", vocab_size=VOCAB, context=32, arch="gpt2"))
    optimizer = build_optimizer(name, model, lr=0.01, beta2=0.99, weight_decay=0.1)
    names = {id(weight): weight_name for weight_name, weight in model.named_parameters()}
    decayed = {
        names[id(w)]
        for group in optimizer.param_groups
        if group["weight_decay"]
        for w in group["params"]
    }
    assert decayed == {
        weight_name
        for weight_name, weight in model.named_parameters()
        if weight.dim() == 2 and not weight_name.startswith(("embed", "positions"))
    }
    every = [id(w) for group in optimizer.param_groups for w in group["params"]]
    assert sorted(every) == sorted(names)
    tokens = torch.from_numpy(
        np.stack([TRAIN[i : i + 33] for i in range(0, 3300, 33)]).astype(np.int64)
    )
    passes = Passes(model, micro_batch=50)
    first = passes.gradient(tokens[:, :-1], tokens[:, 1:])
    for _ in range(20):
        optimizer.step()
        loss = passes.gradient(tokens[:, :-1], tokens[:, 1:])
    assert loss < first - 0.5


def test_bfloat16_agrees_with_float32_within_its_rounding(tmp_path: Path) -> None:
    exact = run(job(), tmp_path).evaluation
    rounded = run(replace(job(), dtype="bfloat16"), tmp_path).evaluation
    assert exact is not None
    assert rounded is not None
    assert rounded.loss == pytest.approx(exact.loss, rel=0.02)
    assert rounded.loss != exact.loss


@pytest.mark.slow
def test_a_compiled_run_agrees_with_an_eager_one(tmp_path: Path) -> None:
    eager = run(job(), tmp_path).evaluation
    compiled = run(job(), tmp_path, replace(CPU, compile=True)).evaluation
    assert eager is not None
    assert compiled is not None
    assert compiled.loss == pytest.approx(eager.loss, abs=1e-3)

"""Learning from a teacher: the gradient of Hinton's loss, and that nothing else changes."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sweeps import llmscale, options
from torch import Tensor
from trained import TRAIN, VALIDATION, VOCAB, job, without_times

from llmscale.errors import InputError, WorkError
from llmscale.measure.ops import build_operations, pick_operations
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.curves import Member
from llmscale.measure.train.distillation import Distillation
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.job import Job
from llmscale.measure.train.kept_weights import weights_digest, write_weights
from llmscale.measure.train.loop import Listener, TrainingInterrupted, train
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.resumable import can_stack
from llmscale.measure.train.teacher import Teacher, read_teacher
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.runs.shape import shape_for

WEIGHT, TEMPERATURE = 0.3, 2.5


def model_of(size: str, seed: int, ops: str = "plain") -> LanguageModel:
    shape = shape_for(size, vocab_size=VOCAB, context=32)
    return build_model(shape, seed, ops=build_operations(ops, "float32"))


def tokens(count: int = 5) -> tuple[Tensor, Tensor]:
    rows_BT = torch.from_numpy(TRAIN[: count * 33].astype("int64")).view(count, 33)
    return rows_BT[:, :-1], rows_BT[:, 1:]


@pytest.mark.parametrize("ops", sorted({"plain", pick_operations("cpu")}))
def test_the_gradient_is_of_hintons_loss_and_the_loss_shown_is_cross_entropy(ops: str) -> None:
    student, teacher = model_of("1x16x1", 0, ops), model_of("2x24x2", 1, ops)
    inputs_BT, targets_BT = tokens()
    passes = Passes(student, 2, teacher=Teacher(teacher, WEIGHT, TEMPERATURE))
    shown = passes.gradient(inputs_BT, targets_BT)
    found = [weight.grad for weight in student.parameters()]

    logits = student(inputs_BT).flatten(0, 1)
    hard = F.cross_entropy(logits, targets_BT.flatten())
    with torch.no_grad():
        taught = (teacher(inputs_BT).flatten(0, 1) / TEMPERATURE).softmax(-1)
    soft = F.kl_div((logits / TEMPERATURE).log_softmax(-1), taught, reduction="batchmean")
    wanted = (1 - WEIGHT) * hard + WEIGHT * TEMPERATURE**2 * soft
    slopes = torch.autograd.grad(wanted, list(student.parameters()))
    assert shown.item() == pytest.approx(hard.item(), rel=1e-5)
    for one, other in zip(found, slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    means = passes.sequence_losses(inputs_BT, targets_BT)
    assert float(means.mean()) == pytest.approx(hard.item(), rel=1e-5)


def test_a_teacher_of_weight_0_changes_no_bit() -> None:
    gradients = []
    for teacher in (Teacher(model_of("2x24x2", 1), 0.0, 2.0), None):
        student = model_of("1x16x1", 0)
        Passes(student, 8, teacher=teacher).gradient(*tokens())
        gradients.append([weight.grad for weight in student.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def taught_job(folder: Path) -> tuple[Job, Path]:
    """A job with a teacher, and the file of the teacher's weights."""
    teacher = model_of("2x24x2", 1)
    weights = {name: weight.detach() for name, weight in teacher.state_dict().items()}
    path = folder / "weights.safetensors"
    write_weights(path, weights, job(size="2x24x2"))
    taught = Distillation(
        "teacher", weights_digest(weights), teacher.shape, "standard", WEIGHT, TEMPERATURE
    )
    return replace(job(8_000), distillation=taught), path


def test_an_interrupted_student_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    one, teacher = taught_job(tmp_path)
    where, texts = Conditions("cpu", micro_batch=8), (TRAIN, VALIDATION)

    def trained(name: str, **hears: object):  # type: ignore[no-untyped-def]
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        members = [Member(one, folder, teacher=teacher)]
        return train(members, where, *texts, Listener(**hears))[0]  # type: ignore[arg-type]

    whole = trained("whole")
    asked = iter(range(100))
    with pytest.raises(TrainingInterrupted):
        trained("parts", stop=lambda: next(asked) > 10)
    assert without_times(trained("parts")) == without_times(whole)
    assert not can_stack([Member(one, tmp_path), Member(replace(one, seed=1), tmp_path)])
    assert one.teacher_flops == pytest.approx(
        one.tokens * one.distillation.shape.flops_per_token / 3  # type: ignore[union-attr]
    )


def test_the_id_is_of_the_teachers_weights_and_other_weights_do_not_teach(tmp_path: Path) -> None:
    one, path = taught_job(tmp_path)
    assert one.distillation is not None
    other = replace(one.distillation, weights="0" * 64)
    assert replace(one, distillation=None).run_id == job(8_000).run_id
    assert len({job(8_000).run_id, one.run_id, replace(one, distillation=other).run_id}) == 3
    ops = build_operations("plain", "float32")
    with pytest.raises(WorkError, match="other weights"):
        read_teacher(path, other, ops, "cpu")
    path.unlink()
    with pytest.raises(WorkError, match="are gone"):
        read_teacher(path, one.distillation, ops, "cpu")


def test_a_temperature_without_a_teacher_is_refused() -> None:
    with pytest.raises(InputError, match="there is no teacher"):
        Recipe(distill_temperature=4.0).check_teacher()
    with pytest.raises(InputError, match="the teacher is empty"):
        Recipe(teacher="").check_teacher()


SPEC = """
sizes = ["1x16x1"]
tokens = "8k"
keep = "none"
[data]
source = "{words}"
tokenizer = "{tokenizer}"
validation_tokens = 2000
[recipe]
context = 32
[recipes.distilled]
teacher = "{teacher}"
[recipes.without]
teacher = "{teacher}"
distill_weight = 0.0
[hardware]
device = "cpu"
workers = 1
"""


def test_a_sweep_distils_from_the_largest_run_of_another_and_refuses_other_tokens(
    text: Path, tmp_path: Path
) -> None:
    teacher, path = tmp_path / "teacher", tmp_path / "d.toml"
    assert llmscale(*options(text, teacher, "1x16x1,2x16x1", "8k")).exit_code == 0
    largest = pd.read_parquet(teacher / "runs.parquet").query("n_layer == 2")["run_id"].item()
    theirs = teacher / "runs" / largest / "tokenizer.json"
    path.write_text(SPEC.format(words=text, tokenizer=theirs, teacher=teacher))
    shown = llmscale("sweep", str(path), "--out", str(tmp_path / "out"))
    assert shown.exit_code == 0, shown.output
    assert f"recipe distilled: run {largest} of " in shown.stderr
    assert "recipe without weighs 0" in shown.stderr
    runs = pd.read_parquet(tmp_path / "out" / "runs.parquet").set_index("recipe")
    assert sorted(runs.index) == ["default", "distilled"]
    assert runs["flops"].nunique() == 1
    assert runs.loc["distilled", "teacher_flops"] > 0
    assert runs.loc["distilled", "loss"] != runs.loc["default", "loss"]

    path.write_text(SPEC.format(words=text, tokenizer="bpe:280", teacher=teacher))
    refused = llmscale("sweep", str(path), "--out", str(tmp_path / "other"))
    assert refused.exit_code == 2
    assert "the teacher, knows " in refused.stderr
    assert not (tmp_path / "other").exists()
    path.write_text(SPEC.format(words=text, tokenizer=theirs, teacher=tmp_path))
    assert llmscale("sweep", str(path), "--out", str(tmp_path / "other")).exit_code == 2

"""The teacher of a distillation: found before anything is trained, and read by who trains."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from llmscale.errors import InputError, WorkError
from llmscale.measure.ops import Operations
from llmscale.measure.train.distillation import Distillation
from llmscale.measure.train.kept_weights import read_weights, weights_digest
from llmscale.measure.train.run_spec import read_spec
from llmscale.measure.transformer import LanguageModel, SoftTargets, empty_model
from llmscale.menu import is_own
from llmscale.runs.checked import DamagedFile
from llmscale.runs.kept_runs import largest_kept
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.shape import Shape
from llmscale.runs.unchanged import once_while_unchanged

_NAME_IT = "name a run that kept its weights, as in results/NAME/runs/RUN_ID, or its results folder"


class FoundTeacher(NamedTuple):
    """A run whose weights were read and are sound."""

    folder: RunFolder
    shape: Shape
    parametrization: str
    digest: str

    @property
    def weights_path(self) -> Path:
        return self.folder.weights_path.resolve()


def find_teacher(place: str) -> FoundTeacher:
    """The run in the folder `place`, or the largest that kept its weights of a results folder.
    Raises InputError."""
    path = Path(place).expanduser()
    folder = RunFolder(path)
    if not folder.spec_path.exists():
        largest = largest_kept(ResultsFolder(path))
        if largest is None:
            raise InputError(f"teacher {place!r} is no run that kept its weights", _NAME_IT)
        folder = largest[0]
    if not folder.weights_path.exists():
        raise InputError(f"run {folder.path.name}, the teacher, has kept no weights", _NAME_IT)
    return _read(folder.weights_path.resolve())


def check_teacher(teacher: FoundTeacher, shape: Shape, tokenizer_path: Path) -> None:
    """Raise InputError if a model of `shape` on tokens of the tokenizer at `tokenizer_path` cannot
    learn from `teacher`. A teacher without a tokenizer is held to its vocabulary only."""
    name, own = teacher.folder.run_id, teacher.shape
    if own.vocab_size != shape.vocab_size:
        raise _unfit(teacher, f"knows {own.vocab_size:,} tokens", f"has {shape.vocab_size:,}")
    theirs = teacher.folder.tokenizer_path
    there = theirs.exists() and tokenizer_path.exists()
    if there and theirs.read_bytes() != tokenizer_path.read_bytes():
        raise _unfit(teacher, "has a tokenizer of its own", f"is in tokens of {tokenizer_path}")
    if own.context < shape.context:
        raise InputError(
            f"run {name}, the teacher, reads {own.context} tokens at once, and its students "
            f"{shape.context}",
            f"take --context {own.context}, or a teacher of a longer context",
        )


@dataclass(frozen=True)
class Teacher:
    """A trained model whose predictions a run learns from."""

    model: LanguageModel
    weight: float
    temperature: float

    @torch.no_grad()
    def says(self, inputs_BT: Tensor) -> SoftTargets:
        """What it takes to come next after each position."""
        return SoftTargets(self.model(inputs_BT), self.weight, self.temperature)


def read_teacher(path: Path, taught: Distillation, ops: Operations, device: str) -> Teacher:
    """The teacher whose weights are at `path`. Raises WorkError if they are not those that the run
    was planned with."""
    fix = "put the teacher's run back, or plan the sweep again"
    try:
        weights = read_weights(path, taught.shape, taught.parametrization)
    except FileNotFoundError:
        raise WorkError(f"the weights of the teacher are gone: there is no {path}", fix) from None
    if weights_digest(weights) != taught.weights:
        raise WorkError(f"{path} holds other weights than those that were to teach", fix)
    model = empty_model(taught.shape, taught.parametrization, ops)
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    model.requires_grad_(False).eval()
    return Teacher(model.to(device), taught.weight, taught.temperature)


@once_while_unchanged()
def _read(weights_path: Path) -> FoundTeacher:
    folder = RunFolder(weights_path.parent)
    try:
        job = read_spec(folder).job
    except FileNotFoundError:
        raise InputError(f"there is no {folder.spec_path}", _NAME_IT) from None
    except DamagedFile as error:
        raise InputError(error.problem, error.fix) from error
    if is_own(job.shape.arch):
        raise InputError(
            f"run {folder.run_id}, the teacher, is of an architecture of its user's own, "
            f"{job.shape.arch}",
            "take a teacher of a built-in architecture",
        )
    weights = read_weights(weights_path, job.shape, job.parametrization)
    return FoundTeacher(folder, job.shape, job.parametrization, weights_digest(weights))


def _unfit(teacher: FoundTeacher, has: str, theirs: str) -> InputError:
    return InputError(
        f"run {teacher.folder.run_id}, the teacher, {has}, and the text of its students {theirs}",
        f"have them read its tokens: --tokenizer {teacher.folder.tokenizer_path}",
    )

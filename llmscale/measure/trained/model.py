"""A trained model, read to be used: its weights, its tokenizer, and what is known of its run."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.measure.ops import build_operations, pick_operations
from llmscale.measure.text.tokenizer import end_of_text, load_tokenizer, vocab_size
from llmscale.measure.train.checkpoint import DamagedError, read_checkpoint
from llmscale.measure.train.kept_weights import read_weights
from llmscale.measure.train.resumable import shapes_of_weights
from llmscale.measure.train.run_spec import RunSpec, read_spec
from llmscale.measure.trained.places import find_run
from llmscale.measure.transformer import LanguageModel, empty_model
from llmscale.menu import bare_name, is_own
from llmscale.runs.checked import DamagedFile
from llmscale.runs.run import Run
from llmscale.runs.run_folder import CHECKPOINT, PREVIOUS_CHECKPOINT, RunFolder
from llmscale.runs.shape import ARCHITECTURES, Shape

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class TrainedModel:
    """A model that is not trained any more, as `open_model` reads it.

    `model` gives logits (B, T, vocab_size) for tokens (B, T), at most `context` of them."""

    model: LanguageModel
    spec: RunSpec
    folder: RunFolder
    row: Run | None = None
    """The run's row, or None while it has not ended."""
    step: int | None = None
    """The step of the checkpoint that it was read from; None for the last weights."""
    remarks: tuple[str, ...] = field(default=())
    """What was taken for what, to be said."""
    device: str = "cpu"

    @property
    def run_id(self) -> str:
        return self.spec.job.run_id

    @property
    def shape(self) -> Shape:
        return self.spec.job.shape

    @property
    def context(self) -> int:
        """The most tokens that it can read at once: those of a training sequence."""
        return self.shape.context

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer of its training text. Raises InputError if it is gone, or of another
        vocabulary."""
        return read_tokenizer(self.folder, self.spec)

    @property
    def tokenizer_file(self) -> Path:
        """Its tokenizer.json."""
        return _tokenizer_path(self.folder, self.spec)

    @cached_property
    def end_of_text(self) -> int:
        """The number of the token that ends a document."""
        return end_of_text(self.tokenizer, str(self.folder.tokenizer_path))[1]


def open_model(
    place: Path | str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    ops: str = "plain",
    arch: str | None = None,
) -> TrainedModel:
    """The trained model at `place`: the folder of a run, a results folder (its largest run), a URL
    or a run's id. Of a run under way its last checkpoint is read.

    Products are computed in `dtype` by operations `ops` (`auto` are the fastest here). `arch` names
    the file of an architecture of one's own, `./mine.py:MyModel`: files that results name are never
    run. Raises InputError for what cannot be used."""
    found = find_run(place)
    spec = spec_of(found.folder)
    check_architecture(spec, arch)
    weights, step, remarks = weights_of(found.folder, spec)
    name = pick_operations(device) if ops == "auto" else ops
    model = empty_model(spec.job.shape, spec.job.parametrization, build_operations(name, dtype))
    model.load_state_dict({key: weight.float() for key, weight in weights.items()})
    model.requires_grad_(False).eval()
    model.to(device)
    return TrainedModel(
        model,
        spec,
        found.folder,
        found.folder.known_row(),
        step,
        (*found.remarks, *remarks),
        device,
    )


def read_tokenizer(folder: RunFolder, spec: RunSpec) -> "Tokenizer":
    """The tokenizer of a run's text: next to its weights, or in its token store. InputError."""
    path = _tokenizer_path(folder, spec)
    tokenizer = load_tokenizer(path)
    size = vocab_size(tokenizer)
    if size > spec.job.shape.vocab_size:
        raise InputError(
            f"{path} has {size:,} tokens, and the model of run {folder.run_id} knows "
            f"{spec.job.shape.vocab_size:,}: it is another tokenizer",
            "put the tokenizer.json of its text there",
        )
    return tokenizer


def _tokenizer_path(folder: RunFolder, spec: RunSpec) -> Path:
    places = [folder.tokenizer_path]
    if spec.store:
        places.append(Path(spec.store) / folder.tokenizer_path.name)
    for path in places:
        if path.exists():
            return path
    raise InputError(
        f"the tokenizer of run {folder.run_id} is gone: there is no {folder.tokenizer_path}",
        "put the tokenizer.json of its text there",
    )


def spec_of(folder: RunFolder) -> RunSpec:
    """The specification of a run. Raises InputError."""
    try:
        return read_spec(folder)
    except FileNotFoundError:
        raise InputError(f"there is no {folder.spec_path}", "name the folder of a run") from None
    except DamagedFile as error:
        raise InputError(error.problem, error.fix) from error


def check_architecture(spec: RunSpec, asked: str | None) -> None:
    """Raise InputError if the run's architecture is one of a user's own, and `asked` is not it."""
    name = spec.job.shape.arch
    if not is_own(name):
        return
    given = ARCHITECTURES.pin(asked) if asked is not None else None
    if given != name:
        there = "another file" if asked else "no file of it"
        raise InputError(
            f"the run's architecture {bare_name(name)} is one of its user's own, and {there} was "
            "given",
            "name the file that it was trained by with --arch ./FILE.py:NAME",
        )


def weights_of(
    folder: RunFolder, spec: RunSpec
) -> tuple[dict[str, torch.Tensor], int | None, tuple[str, ...]]:
    """The weights of a run, and if they are of a checkpoint, its step and what is said of it."""
    shape, parametrization = spec.job.shape, spec.job.parametrization
    if folder.weights_path.exists():
        return read_weights(folder.weights_path, shape, parametrization), None, ()
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        try:
            state = read_checkpoint(folder.path / name)
        except DamagedError:
            continue
        if state is None:
            continue
        sizes = {key: weight.shape for key, weight in state.model.items()}
        if sizes != shapes_of_weights(shape, parametrization):
            continue
        said = f"run {folder.run_id} is under way: its weights after step {state.step:,} of "
        return dict(state.model), state.step, (f"{said}{spec.job.steps:,} are used",)
    raise InputError(
        f"run {folder.run_id} has kept no weights, and has no checkpoint that can be read",
        f"see which have: {command_line('llmscale', 'models', folder.path.parent.parent)}",
    )

"""The models that are fine-tuned: runs with weights, which share a tokenizer and a context."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from llmscale.errors import InputError, counted, listed
from llmscale.errors.command_lines import command_line
from llmscale.measure.train.job import Job
from llmscale.measure.train.kept_weights import weights_digest, write_weights
from llmscale.measure.trained.model import check_architecture, read_tokenizer, spec_of, weights_of
from llmscale.measure.trained.places import FoundRun, find_run
from llmscale.runs.remote import is_url
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import make_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_DIGEST_DIGITS = 32


@dataclass(frozen=True)
class Parent:
    """A model to fine-tune."""

    folder: RunFolder
    job: Job
    weights: Mapping[str, torch.Tensor]
    """In the type that they are kept in."""
    digest: str
    tokens: int
    """What it was trained on, by itself and by its own parents."""


@dataclass(frozen=True)
class Parents:
    """The models to fine-tune by growing size, what they read text by, and what is to be said."""

    models: tuple[Parent, ...]
    tokenizer: "Tokenizer"
    end_of_text: int
    context: int
    remarks: tuple[str, ...] = ()


def find_parents(places: Sequence[str], arch: str | None = None) -> Parents:
    """The models at `places`: runs, and all runs with weights of results folders. Raises InputError
    if one cannot be used, or if they read text differently."""
    from llmscale.measure.text.tokenizer import end_of_text

    found: dict[Path, RunFolder] = {}
    remarks: list[str] = []
    for place in places:
        for one in _runs_at(place):
            found.setdefault(one.folder.path.resolve(), one.folder)
            remarks += one.remarks
    models: dict[str, Parent] = {}
    for folder in found.values():
        parent, said = _open(folder, arch)
        models.setdefault(parent.digest, parent)
        remarks += said
    ordered = sorted(models.values(), key=_by_size)
    first = ordered[0]
    tokenizer = read_tokenizer(first.folder, spec_of(first.folder))
    for other in ordered[1:]:
        _check_alike(first, other, tokenizer)
    end = end_of_text(tokenizer, str(first.folder.tokenizer_path))[1]
    return Parents(tuple(ordered), tokenizer, end, first.job.shape.context, tuple(remarks))


def put_weights(parent: Parent, job: Job, path: Path) -> None:
    """Write the weights of `parent` to `path`, for the run `job` to begin with."""
    make_folder(path.parent)
    write_weights(path, parent.weights, job)


def link_weights(there: Path, path: Path) -> None:
    """The weights at `there` at `path`, too: the same file if the disk can do that."""
    make_folder(path.parent)
    path.unlink(missing_ok=True)
    try:
        os.link(there, path)
    except OSError:
        shutil.copyfile(there, path)


def _runs_at(place: str) -> list[FoundRun]:
    path = Path(place).expanduser()
    if is_url(place) or (path / "spec.json").exists() or not (path / "runs").is_dir():
        return [find_run(place)]
    results = ResultsFolder(path)
    runs = [run for run in results.run_folders if run.weights_path.exists()]
    done = [run for run in runs if (row := run.known_row()) and row.status == "done"]
    if not done:
        raise InputError(
            f"no run of {place} has kept its weights",
            f"see which runs it has: {command_line('llmscale', 'models', path)}",
        )
    said = f"{place}: {counted(len(done), 'run')} with weights"
    return [FoundRun(run, (said,) if run is done[0] else ()) for run in done]


def _open(folder: RunFolder, arch: str | None) -> tuple[Parent, tuple[str, ...]]:
    spec = spec_of(folder)
    check_architecture(spec, arch)
    weights, step, remarks = weights_of(folder, spec)
    job = spec.job
    tokens = job.tokens if step is None else min(step * job.batch_tokens, job.tokens)
    if job.finetuning is not None:
        tokens += job.finetuning.pretrain_tokens
    digest = weights_digest(weights)[:_DIGEST_DIGITS]
    return Parent(folder, job, weights, digest, tokens), remarks


def _by_size(parent: Parent) -> tuple[int, ...]:
    job = parent.job
    return job.shape.params, parent.tokens, job.seed


def _check_alike(first: Parent, other: Parent, tokenizer: "Tokenizer") -> None:
    names = listed([first.folder.run_id, other.folder.run_id])
    apart = "fine-tune them by commands of their own"
    if other.job.shape.context != first.job.shape.context:
        contexts = f"{first.job.shape.context} and {other.job.shape.context}"
        raise InputError(f"runs {names} read {contexts} tokens at once", apart)
    own = read_tokenizer(other.folder, spec_of(other.folder))
    if own.to_str() != tokenizer.to_str():
        raise InputError(f"runs {names} have different tokenizers", apart)

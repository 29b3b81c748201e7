"""What `llmscale quantize` does: each model of a ladder in fewer bits, as runs of a new folder."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, counted
from llmscale.machine.needs import need
from llmscale.measure.sweep.records import recorded_runs, write_tables
from llmscale.measure.train.job import AS_KEPT, Job
from llmscale.measure.train.kept_weights import (
    read_tensors,
    read_weights,
    weights_digest,
    write_weights,
)
from llmscale.measure.train.packed_weights import BITS
from llmscale.measure.train.run_spec import known_spec
from llmscale.measure.trained.evaluation.api import results_with_weights
from llmscale.measure.trained.evaluation.scores import Metric
from llmscale.measure.trained.evaluation.validation import validation_loss, validation_store
from llmscale.measure.trained.model import TrainedModel, open_model
from llmscale.measure.trained.places import kept_none, new_or_own, usable_runs
from llmscale.measure.trained.quantization.rounding import check_matrices, round_weights
from llmscale.measure.trained.quantization.spec import QuantizeSpec
from llmscale.runs.lock import only_writer
from llmscale.runs.remote import is_url
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import make_folder, write_bytes
from llmscale.runs.scores import known_scores, read_scores, write_measured
from llmscale.settings import shows_keywords
from llmscale.settings.tables import with_keywords

_DIGEST_DIGITS = 32
_MOST_LOSS = 700.0
"""Whose exponential is still a float."""


@dataclass(frozen=True)
class QuantizedModel:
    """A model in so many bits."""

    run_id: str
    parent: str
    size: str
    params: int
    tokens: int
    bits: int
    bits_per_weight: float
    """Bits that are stored a weight: scales, and weights that are not rounded, included."""
    bytes: int
    loss: float
    loss_stderr: float | None


@dataclass(frozen=True)
class Quantized:
    """The models of a ladder, each in several numbers of bits, by growing size."""

    folder: str
    models: tuple[QuantizedModel, ...]
    known: int = 0
    """Of these, how many were there already."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Runs that could not be used, and why."""

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": self.folder,
            "known": self.known,
            "models": [asdict(model) for model in self.models],
            "left_out": [{"run_id": run_id, "reason": why} for run_id, why in self.left_out],
        }


@shows_keywords(QuantizeSpec)
def quantize(
    place: Path | str,
    *,
    out: Path | str | None = None,
    report: Callable[[str, int, bool], object] = lambda run_id, bits, known: None,
    **settings: Any,
) -> Quantized:
    """Round the weights of every finished model of the results folder `place` to fewer bits, and
    measure the loss of each on the validation text of its training.

    The results folder `out`, by default named after `place`, gets a run for each model and number
    of bits, the weights as they were included, with the columns `bits`, `bits_per_weight` and
    `weight_bytes`. What it has already stays. Raises InputError."""
    spec = with_keywords(QuantizeSpec(), settings, "the call")
    need("torchao", "quantize", "'llmscale[models]'")
    source = results_with_weights(place)
    if source is None:
        raise InputError(f"{place} is no results folder", "name one that a sweep wrote")
    parents = [one for one in usable_runs(source) if one.weights_path.exists()]
    if not parents:
        raise kept_none(place)
    results = new_or_own(_beside(place, source) if out is None else out, source)
    opened, left_out = _opened(parents, spec)
    jobs = [
        (parent, bits, _job(parent, bits, spec.group))
        for parent in opened
        for bits in (None, *spec.bits)
    ]
    ids = {job.run_id for _, _, job in jobs}
    _refuse_other_weights(results, opened, ids)
    make_folder(results.path)
    known = 0
    with only_writer(results.path):
        for parent, bits, job in jobs:
            home = results.run_folder(job.run_id)
            is_known = _is_whole(home)
            report(parent.trained.run_id, bits or parent.width, is_known)
            if not is_known:
                _write(parent, job, home, bits, spec)
            known += is_known
        write_tables(results, final=True)
    models = tuple(_model(results, row) for row in recorded_runs(results) if row.run_id in ids)
    ordered = sorted(models, key=lambda one: (one.params, one.tokens, one.parent, -one.bits))
    return Quantized(str(results.path), tuple(ordered), known, tuple(left_out))


def _beside(place: Path | str, source: ResultsFolder) -> Path:
    """The folder to write if none is named. Raises InputError."""
    if is_url(str(place)):
        raise InputError(
            "the models are at a URL, and results of rounding go to this machine",
            "name a folder with --out results/NAME",
        )
    named = source.path if source.path.name not in ("", "..") else source.path.resolve()
    return named.with_name(f"{named.name}-quantized")


@dataclass(frozen=True)
class _Parent:
    """A model to round."""

    trained: TrainedModel
    digest: str
    """Of its weights as they are kept."""
    width: int
    """Bits of the widest of these."""


def _opened(
    parents: list[RunFolder], spec: QuantizeSpec
) -> tuple[list[_Parent], list[tuple[str, str]]]:
    """The models to round, and what of the runs cannot be. Raises InputError if all cannot."""
    usable, left_out = [], []
    for folder in parents:
        row = folder.known_row()
        try:
            if row is None or row.status != "done":
                raise InputError(f"run {folder.run_id} is not done")
            trained = open_model(folder.path, arch=spec.arch)
            if trained.spec.job.rounded is not None:
                raise InputError(f"run {folder.run_id} is rounded already")
            validation_store(trained)
            _ = trained.tokenizer_file
        except InputError as error:
            left_out.append((folder.run_id, error.problem))
            continue
        usable.append(trained)
    if not usable:
        raise InputError(
            f"none of {counted(len(parents), 'run')} can be rounded: {left_out[0][1]}",
            "name a results folder of models that are done, on the machine that has their text",
        )
    found = []
    for trained in usable:
        stored = _kept(trained)
        check_matrices(stored, spec.bits, spec.group, trained.run_id)
        width = 8 * int(max(weight.itemsize for weight in stored.values()))
        found.append(_Parent(trained, weights_digest(stored)[:_DIGEST_DIGITS], width))
    return found, left_out


def _refuse_other_weights(
    results: ResultsFolder, parents: Sequence[_Parent], ids: set[str]
) -> None:
    """Raise InputError if there are runs of a parent as it was with other weights."""
    digests = {parent.trained.run_id: parent.digest for parent in parents}
    for row in recorded_runs(results):
        if row.run_id in ids or row.parent is None or row.parent not in digests:
            continue
        run = known_spec(results.run_folder(row.run_id))
        if not (run and (run.job.rounded or "").endswith(f" of {digests[row.parent]}")):
            raise InputError(
                f"{results.path} has run {row.run_id}, which is of other weights than run "
                f"{row.parent} has now",
                "name a new folder with --out",
            )


def _is_whole(home: RunFolder) -> bool:
    """Whether a run is there with all that it was written with."""
    run = known_spec(home)
    if run is None or home.known_row() is None or "bits" not in known_scores(home):
        return False
    try:
        read_weights(home.weights_path, run.job.shape, run.job.parametrization)
    except (InputError, FileNotFoundError):
        return False
    return True


def _job(parent: _Parent, bits: int | None, group: int) -> Job:
    """The job of the model, whose id also says to what which weights are rounded."""
    name = f"int{bits}-group{group}" if bits else f"{AS_KEPT}, {parent.width} bits"
    return replace(parent.trained.spec.job, rounded=f"{name} of {parent.digest}")


def _kept(trained: TrainedModel) -> Mapping[str, Any]:
    return read_tensors(trained.folder.weights_path)[0]


def _write(
    parent: _Parent, job: Job, home: RunFolder, bits: int | None, spec: QuantizeSpec
) -> None:
    """The run of a model in `bits` bits, or as it was kept; its row is written last."""
    trained = parent.trained
    assert trained.row is not None
    stored, notes, width = _kept(trained), {}, parent.width
    if bits is not None:
        stored = round_weights(stored, bits, spec.group).stored
        notes, width = {BITS: str(bits)}, bits
    make_folder(home.path)
    replace(trained.spec, job=job, start=None, branch_points={}).write(home)
    write_weights(home.weights_path, stored, job, notes)
    write_bytes(home.tokenizer_path, trained.tokenizer_file.read_bytes())
    rounded = open_model(home.path, arch=spec.arch)
    score = validation_loss(rounded)
    size = sum(weight.nbytes for weight in stored.values())
    write_measured(
        home,
        {
            "bits": width,
            "bits_per_weight": 8 * size / trained.shape.params_total,
            "weight_bytes": size,
        },
    )
    home.write_row(_row(trained.row, job.run_id, score.metric("loss"), *score.metrics[1:]))


def _row(parent: Run, run_id: str, loss: Metric, per_byte: Metric) -> Run:
    """The row of the parent, with the loss of its rounded weights, without what training took."""
    return replace(
        parent,
        run_id=run_id,
        parent=parent.run_id,
        loss=loss.value,
        loss_stderr=loss.stderr,
        perplexity=math.exp(min(loss.value, _MOST_LOSS)),
        bits_per_byte=per_byte.value,
        retry_of=None,
        seconds=None,
        tokens_per_second=None,
        mfu=None,
        wall_mfu=None,
        peak_memory_bytes=None,
    )


def _model(results: ResultsFolder, row: Run) -> QuantizedModel:
    scores = read_scores(results.run_folder(row.run_id))
    assert row.loss is not None
    return QuantizedModel(
        run_id=row.run_id,
        parent=row.parent or "",
        size=row.size,
        params=row.params,
        tokens=row.tokens,
        bits=round(scores["bits"]),
        bits_per_weight=scores["bits_per_weight"],
        bytes=round(scores["weight_bytes"]),
        loss=row.loss,
        loss_stderr=row.loss_stderr,
    )

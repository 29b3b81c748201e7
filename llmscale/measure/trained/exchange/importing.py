"""`llmscale.import_model`: a model that another program trained, as a run that can be used."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.measure.sweep.records import write_tables
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.kept_weights import weights_digest, write_weights
from llmscale.measure.train.resumable import shapes_of_weights
from llmscale.measure.train.run_spec import RunSpec
from llmscale.measure.trained.exchange.formats import FORMATS, IMPORTED, Imported
from llmscale.measure.trained.places import new_or_own
from llmscale.quantity import parse_count
from llmscale.runs.lock import only_writer
from llmscale.runs.run import Run
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import make_folder, write_bytes

_UNKNOWN = "imported; how many tokens it was trained on is not known"


@dataclass(frozen=True)
class ImportedRun:
    """The run that a model became."""

    folder: RunFolder
    row: Run
    remarks: tuple[str, ...]
    """What was taken for what, to be said."""

    def to_json(self) -> dict[str, Any]:
        remarks = list(self.remarks)
        return {"folder": str(self.folder.path), "run": asdict(self.row), "remarks": remarks}


def import_model(
    folder: Path | str, out: Path | str, *, tokens: int | str | None = None, source: str = "hf"
) -> ImportedRun:
    """Make a run of the model in `folder`, in the results folder `out`: it can be evaluated,
    fine-tuned and exported like any other.

    `tokens` is how many it was trained on; without it no law takes the run, whose status is then
    `stopped`. `source` is its format. Raises InputError."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise InputError(
            f"there is no folder {place}",
            "name the folder of a model; one of a hub is fetched first, as by hf download",
        )
    count = None if tokens is None else parse_count(str(tokens), "--tokens")
    results = new_or_own(out)
    model: Imported = FORMATS.find(FORMATS.pin(source)).read(place)
    _check_weights(model, place)
    job = _job(model, count)
    home = results.run_folder(job.run_id)
    remarks = model.remarks
    if count is not None and job.tokens != count:
        remarks = (*remarks, f"{count:,} tokens are {job.tokens:,} in whole sequences")
    if count is None:
        remarks = (*remarks, f"{_UNKNOWN}: --tokens says so, and laws leave the run out until then")
    row = run_row(job, "done", "")
    if count is None:
        row = replace(row, status="stopped", error=_UNKNOWN)
    make_folder(home.path)
    with only_writer(results.path):
        RunSpec(job, Conditions("cpu", micro_batch=1), keep="float32").write(home)
        write_weights(home.weights_path, model.weights, job)
        write_bytes(home.tokenizer_path, model.tokenizer.read_bytes())
        home.write_row(row)
        write_tables(results, final=True)
    return ImportedRun(home, row, remarks)


def _check_weights(model: Imported, place: Path) -> None:
    wanted = shapes_of_weights(model.shape, "standard")
    for name, size in wanted.items():
        found = model.weights[name].shape
        if found != size:
            raise InputError(
                f"{place} has a weight of {tuple(found)} for {name}, which its config makes "
                f"{tuple(size)}",
                "name the folder of a whole model",
            )
        if not model.weights[name].isfinite().all():
            raise InputError(f"{name} of {place} holds numbers that are not finite", "look at it")


def _job(model: Imported, tokens: int | None) -> Job:
    """What stands for the job that nobody here has trained; its text is the model's own name."""
    context = model.shape.context
    sequences = max(1, round((tokens or context) / context))
    return Job(
        size=model.shape.name,
        shape=model.shape,
        sequences=sequences,
        text_tokens=sequences * context + 1,
        batch_sequences=1,
        lr=0.0,
        warmup_steps=0,
        optimizer="adamw",
        schedule="constant",
        cooldown=0.0,
        beta2=0.0,
        weight_decay=0.0,
        clip=0.0,
        evaluations=1,
        seed=0,
        dtype="float32",
        data=f"{IMPORTED}{model.name}",
        data_fingerprint=weights_digest(model.weights)[:32],
    )

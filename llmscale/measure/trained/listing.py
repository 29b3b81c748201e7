"""The models that a results folder holds: what can be used, and what it takes on disk."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.measure.sweep.records import recorded_runs
from llmscale.measure.train.run_spec import known_spec
from llmscale.measure.trained.exchange.formats import IMPORTED
from llmscale.measure.trained.next_use import next_use
from llmscale.measure.trained.places import find_results, largest_of
from llmscale.menu import is_own
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.scores import known_scores


@dataclass(frozen=True)
class ListedModel:
    """A run, and what of its model is there."""

    run_id: str
    size: str
    recipe: str | None
    status: str
    params: int
    tokens: int | None
    """None of an imported model of which nobody said it."""
    seed: int
    loss: float | None
    kept: str | None
    """`weights`, `checkpoint` for a run under way, `damaged` if what is there cannot be used, or
    None."""
    bytes: int
    path: str
    bits: int | None = None
    """Of a weight, if it was rounded or is next to such."""
    arch: str | None = None
    """The file and name of an architecture of the user's own, as --arch takes it."""


@dataclass(frozen=True)
class Models:
    """The models of a results folder by growing size."""

    folder: str
    models: tuple[ListedModel, ...]
    prompt: str = "Once"
    """What a model of this text may go on from: nothing if its tokens are symbols of a language."""
    suggested: ListedModel | None = None
    """The one that commands take if they are given the folder: its largest."""

    @property
    def usable(self) -> tuple[ListedModel, ...]:
        """Those whose weights are there."""
        return tuple(model for model in self.models if model.kept not in (None, "damaged"))

    @property
    def bytes(self) -> int:
        return sum(model.bytes for model in self.models)

    def next_use(self) -> str | None:
        """The command that uses the suggested model, if there is one."""
        one = self.suggested
        if one is None:
            return None
        return next_use(RunFolder(Path(one.path)), self.prompt, one.arch)

    def to_json(self) -> dict[str, Any]:
        listed = [asdict(model) for model in self.models]
        return {"folder": self.folder, "bytes": self.bytes, "models": listed}


def models(place: Path | str | None = None) -> Models:
    """The runs of a results folder or URL, by default the newest sweep's, and which of them have
    weights to use. Raises InputError."""
    results, where = find_results(place)
    rows = recorded_runs(results)
    if not rows:
        raise InputError(f"{where} has no runs", "name a results folder that a sweep wrote")
    listed = tuple(_listed(results, row) for row in rows)
    is_language = any(row.data.startswith("synthetic:") for row in rows)
    found = Models(where, listed, "" if is_language else "Once")
    return replace(found, suggested=_suggested(results, found.usable))


def _suggested(results: ResultsFolder, usable: Sequence[ListedModel]) -> ListedModel | None:
    """The one that the folder stands for; if that is damaged, the last that is not."""
    if not usable:
        return None
    largest = largest_of(results).folder.run_id
    return next((model for model in usable if model.run_id == largest), usable[-1])


def _listed(results: ResultsFolder, row: Run) -> ListedModel:
    folder = results.run_folder(row.run_id)
    kept, size = _what_is_there(folder)
    bits = known_scores(folder).get("bits")
    own = None
    if row.arch and is_own(row.arch):
        own = f"./{row.arch.partition('@')[0]}"
    return ListedModel(
        run_id=row.run_id,
        size=row.size,
        recipe=row.recipe,
        status=row.status,
        params=row.params,
        tokens=known_tokens(row),
        seed=row.seed,
        loss=row.loss,
        kept=kept,
        bytes=size,
        path=str(folder.path),
        bits=None if bits is None else round(bits),
        arch=own,
    )


def known_tokens(row: Run) -> int | None:
    """What a run was trained on; None of an imported model of which nobody said it."""
    is_unknown = row.status == "stopped" and row.data.startswith(IMPORTED)
    return None if is_unknown else row.tokens


def _what_is_there(folder: RunFolder) -> tuple[str | None, int]:
    for kept, path in (("weights", folder.weights_path), ("checkpoint", folder.checkpoint_path)):
        if path.is_file():
            is_whole = kept == "checkpoint" or _is_safetensors(path)
            is_usable = is_whole and known_spec(folder) is not None
            return kept if is_usable else "damaged", path.stat().st_size
    return None, 0


def _is_safetensors(path: Path) -> bool:
    """Whether a file is as long as its header says, which alone is read."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            begin = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(begin - 8)) if 8 < begin <= size else {}
        ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
        return bool(begin + max(ends) == size)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return False

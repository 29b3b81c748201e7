"""Where a loop goes on or begins: a results folder, or the file of a sweep and a new folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.adaptive.settings import check_trains
from llmscale.errors import InputError, both, counted
from llmscale.measure.sweep.opening import open_results
from llmscale.measure.sweep.provenance import check_folder
from llmscale.measure.sweep.spec import SweepSpec, read_spec
from llmscale.measure.sweep.status import sweep_status
from llmscale.measure.sweep.validation import settled
from llmscale.runs.lock import lock_holder
from llmscale.runs.remote import is_url
from llmscale.runs.results_folder import ResultsFolder, newest_results, results_folder

_ENDED = ("done", "diverged", "failed", "stopped early")


@dataclass(frozen=True)
class Place:
    """The results folder of a loop, and the sweep of the file that it was named by."""

    folder: ResultsFolder
    sweep: SweepSpec | None = None

    @property
    def to_begin(self) -> SweepSpec:
        """The sweep to begin with. Raises InputError if nothing says which."""
        if self.sweep is None:
            raise InputError(
                f"there are no runs in {self.folder.path} to go on with",
                "name the TOML file of a sweep to begin with",
            )
        return self.sweep


def place_of(source: Any, out: Path | str | None) -> Place:
    """Where a loop trains. Raises InputError for what no sweep can go on in."""
    check_trains(source)
    for where in (source, out):
        if where is not None and is_url(str(where)):
            raise InputError(
                f"{where} is a URL, and the loop works in a folder of this machine",
                "name a folder, and copy it there afterwards",
            )
    if source is not None and Path(source).suffix == ".toml":
        asked = Path(source)
        sweep = read_spec(asked)
        folder = open_results(out, asked, sweep, "sweep").folder
        # How much text is held out was settled when the loop began, if the file does not say it.
        check_folder(folder, settled(sweep, folder.known_sweep().get("basis")))
        return Place(folder, sweep)
    folder = newest_results() if source is None else results_folder(source)
    if out is not None and results_folder(out).path.resolve() != folder.path.resolve():
        raise InputError(
            f"the loop is to go on in {folder.path} and to write to {out}",
            "leave --out out, or name the TOML file of a sweep to begin with",
        )
    sweep_json = folder.known_sweep() if folder.adaptive_path.exists() else folder.read_sweep()
    if recipes := sweep_json.get("spec", {}).get("recipes"):
        raise InputError(
            f"the sweep in {folder.path} trains each run by several recipes: "
            f"{both(['default', *recipes])}",
            "go on in a folder of one recipe: a forecast is of one",
        )
    return Place(folder)


def check_ended(folder: ResultsFolder) -> None:
    """Raise InputError if a sweep is under way there, or was not ended: its runs would count as the
    loop's."""
    if holder := lock_holder(folder.path):
        raise InputError(f"{folder.path} is being written by {holder}", "wait for it")
    status = sweep_status(folder)
    waiting = [run for run in status.runs if run.state not in _ENDED]
    if waiting:
        runs = f"{len(waiting)} of {counted(len(status.runs), 'run')}"
        raise InputError(
            f"{runs} of the sweep in {folder.path} are not trained to their end",
            f"end it first: {status.next_command}",
        )

"""Where a trained model is: the folder of a run, by its path, its id, a results folder or a URL."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llmscale.errors import InputError, listed
from llmscale.errors.command_lines import command_line
from llmscale.runs.kept_runs import largest_first, largest_kept
from llmscale.runs.remote import is_needed, is_results, is_url, results_at
from llmscale.runs.remote.reading import fetched
from llmscale.runs.results_folder import ResultsFolder, newest_results, results_folder
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_paths import is_plain, refuse_links, refuse_unusable

_FEWEST_DIGITS = 4
"""Of a run's id that stand for it."""
_NAME_IT = "name a run, as in results/NAME/runs/RUN_ID; llmscale models lists them"


@dataclass(frozen=True)
class FoundRun:
    """A run's folder, and what was taken for what to find it."""

    folder: RunFolder
    remarks: tuple[str, ...] = ()

    @property
    def results(self) -> ResultsFolder:
        """The results folder that it is of."""
        return ResultsFolder(self.folder.path.parent.parent)


def find_run(place: Path | str) -> FoundRun:
    """The run that `place` names: the folder of a run, `RESULTS/RUN_ID`, the id of a run of the
    newest sweep or its first 4 digits or more, or a results folder or URL, of which it is the
    largest run that can be used. Raises InputError."""
    text = str(place).strip()
    if not text:
        raise InputError("no run was named", _NAME_IT)
    if is_url(text):
        return _at_url(text)
    path = refuse_unusable(Path(text).expanduser(), _NAME_IT)
    if (path / "runs.parquet").exists() and not _is_results(path):
        raise kept_none(path)
    if (path / "spec.json").exists():
        return FoundRun(RunFolder(_with_results(path)))
    if _is_results(path):
        return largest_of(ResultsFolder(path))
    if _is_results(path.parent) and path.parent != Path("."):
        return _of_id(ResultsFolder(path.parent), path.name)
    if is_plain(text):
        return _of_id(newest_results(), text)
    raise InputError(f"there is no run {text}", _NAME_IT)


def find_results(place: Path | str | None) -> tuple[ResultsFolder, str]:
    """The results folder at `place`, a path or URL, or the newest under results/; and its name for
    people. Of a URL everything but weights is fetched. Raises InputError."""
    if place is None:
        newest = newest_results()
        return newest, str(newest.path)
    text = str(place).strip()
    if is_url(text):
        remote = results_at(text)
        fetched(remote, is_needed)
        return ResultsFolder(remote.folder), remote.url
    path = refuse_unusable(Path(text).expanduser(), "name a results folder")
    if not (_is_results(path) or (path / "runs.parquet").exists()):
        raise InputError(f"{path} is no results folder", "name one that a sweep wrote")
    return ResultsFolder(path), str(path)


def new_or_own(out: Path | str, source: ResultsFolder | None = None) -> ResultsFolder:
    """The results folder `out`, if it is new or holds models that no sweep trained, and is not
    `source`. Raises InputError."""
    if is_url(str(out)):
        raise InputError(f"--out is the URL {out}", "name a folder, as in --out results/NAME")
    results = results_folder(out)
    others = [path.name for path in results.path.glob("*") if not _is_own(path.name)]
    if source is not None and results.path.resolve() == source.path.resolve():
        others.append("the models")
    if others:
        raise InputError(
            f"{results.path} holds other results ({others[0]})", "name a new folder with --out"
        )
    refuse_links(results.path)
    return results


def _is_own(name: str) -> bool:
    is_fit = name.startswith("fit-") and name.endswith(".json")
    is_usual = name in ("runs", "runs.parquet", "curves.parquet", "figures")
    return is_fit or is_usual or name.startswith(".")  # a lock, or what a killed process left


def usable_runs(results: ResultsFolder) -> list[RunFolder]:
    """The runs of a folder that have weights, or a checkpoint under way."""
    folders = results.run_folders
    return [one for one in folders if one.weights_path.exists() or one.has_checkpoint]


def largest_of(results: ResultsFolder) -> FoundRun:
    """The largest run of a folder that can be used, of these the one of the lowest loss."""
    largest = largest_kept(results)
    if largest is not None:
        folder, row = largest
        said = f"{_name_of(results)}: run {row.run_id} is used, the largest ({row.size})"
        return FoundRun(folder, (said,))
    begun = usable_runs(results)
    if begun:
        said = f"{_name_of(results)}: run {begun[0].run_id} is used, which is under way"
        return FoundRun(begun[0], (said,))
    raise kept_none(results.path)


def _name_of(results: ResultsFolder) -> str:
    return results.path.resolve().name


def kept_none(where: Path | str) -> InputError:
    """The error of a results folder of which no model can be used."""
    return InputError(
        f"no run of {where} has kept its weights",
        "train it anew in another folder with --keep all, or name another",
    )


def _of_id(results: ResultsFolder, name: str) -> FoundRun:
    ids = [folder.run_id for folder in results.run_folders]
    if name in ids:
        return FoundRun(results.run_folder(name))
    begun = [run_id for run_id in ids if run_id.startswith(name)]
    if len(name) >= _FEWEST_DIGITS and len(begun) == 1:
        return FoundRun(results.run_folder(begun[0]), (f"{name} is run {begun[0]}",))
    raise InputError(_no_such(results, name, begun), _list_them(results))


def _with_results(path: Path) -> Path:
    """The folder of a run as it was named, if its results folder can be told from that name."""
    if path.parent.name == "runs" and path.name != ".." and not path.is_symlink():
        return path
    return path.resolve()


def _no_such(results: ResultsFolder, name: str, begun: Sequence[str]) -> str:
    if len(begun) > 1:
        return f"{name} begins the ids of several runs of {results.path}: {listed(begun)}"
    return f"{results.path} has no run {name}"


def _list_them(results: ResultsFolder) -> str:
    return f"see which there are: {command_line('llmscale', 'models', results.path)}"


def _is_results(path: Path) -> bool:
    return (path / "runs").is_dir()


def _at_url(url: str) -> FoundRun:
    """A run at a URL, whose files are fetched to this machine: of others than the tables and the
    run itself none."""
    place, has_runs, run_id = url.rstrip("/").rpartition("/runs/")
    remote = results_at(place if has_runs else url)
    results = ResultsFolder(remote.folder)
    fetched(remote, is_needed)
    if has_runs:
        found = _of_id(results, run_id)
        fetched(remote, partial(_is_of_run, found.folder.run_id))
        return found
    rows = [folder.known_row() for folder in results.run_folders]
    done = [row for row in rows if row is not None and row.status == "done"]
    for row in sorted(done, key=largest_first):
        fetched(remote, partial(_is_of_run, row.run_id))
        if results.run_folder(row.run_id).weights_path.exists():
            break
    return largest_of(results)


def _is_of_run(run_id: str, name: str) -> bool:
    return is_results(name) and name.startswith(f"runs/{run_id}/")

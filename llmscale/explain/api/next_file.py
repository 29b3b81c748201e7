"""The file of the runs that `llmscale.next_runs` proposes, which `llmscale sweep` takes."""

from dataclasses import replace
from pathlib import Path

from llmscale.errors import InputError, both
from llmscale.errors.command_lines import command_line
from llmscale.explain.design.proposal import NextRuns
from llmscale.explain.design.sizes import OwnSweep
from llmscale.explain.design.sweep_file import COMMAND, is_trainable
from llmscale.explain.table import RunTable
from llmscale.quantity import format_count
from llmscale.runs.safe_paths import refuse_unusable
from llmscale.runs.safe_write import make_folder, write_text
from llmscale.runs.shape import LARGEST, SMALLEST

_PLACE = "name a file like -o next.toml, in a folder that you may write to"


def place_of_file(output: Path | str | bool) -> Path | None:
    """Where to write, or None. Raises InputError for what is no .toml."""
    if output is False or output is None:
        return None
    path = Path("next.toml" if output is True else output)
    if path.suffix != ".toml":
        raise InputError(f"{path} is no .toml", _PLACE)
    if refuse_unusable(path, _PLACE).is_dir():
        raise InputError(f"{path} is a folder", _PLACE)
    return path


def check_one_recipe(runs: RunTable, sweep: OwnSweep | None) -> None:
    """Raise InputError if the file would train every run by several recipes."""
    if sweep is None or not sweep.spec.get("recipes"):
        return
    names = ", ".join(("default", *sweep.spec["recipes"]))
    raise InputError(
        f"the sweep of {runs.path} trains each run by several recipes: {names}",
        "leave --out out, and write the runs into a sweep of one recipe",
    )


def written(found: NextRuns, path: Path, sweep: OwnSweep | None) -> NextRuns:
    """The choice with its file, or with the reason why there is none."""
    reason = _why_unwritten(found)
    if reason:
        left = f"; {path} is left as it was" if path.exists() else ""
        return replace(found, unwritten=f"{path} is not written: {reason}{left}")
    make_folder(path.parent, _PLACE)
    out = () if sweep is None else ("--out", sweep.folder.path)
    command = command_line("llmscale", "sweep", path, *out)
    write_text(path, found.toml.replace(COMMAND, command))
    return replace(found, written=str(path), command=command)


def _why_unwritten(found: NextRuns) -> str:
    """Why there is no file that a sweep takes; empty if there is."""
    if not found.runs:
        return "no run is proposed"
    outside = [run.size for run in found.runs if not is_trainable(run.size)]
    if outside:
        are = "is" if len(set(outside)) == 1 else "are"
        return (
            f"a sweep trains {format_count(SMALLEST)} to {format_count(LARGEST)} parameters, and "
            f"{both(list(dict.fromkeys(outside)))} {are} proposed"
        )
    return ""

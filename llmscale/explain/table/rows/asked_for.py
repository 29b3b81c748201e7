"""Whether a sweep's table holds all runs that the sweep was asked for."""

from pathlib import Path

import pandas as pd

from llmscale.errors import InputError, Note, counted, listed
from llmscale.notes.kind import Weight
from llmscale.notes.reading import RUNS_LACKING, SWEEP_UNKNOWN
from llmscale.runs.checked import REMAKE, DamagedFile
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.title import run_title


def runs_asked_for(raw: pd.DataFrame, path: Path) -> list[Note]:
    """A note on runs that sweep.json of the folder names and its table lacks, or if nothing says
    which runs there should be."""
    folder = ResultsFolder(path)
    if not folder.sweep_path.exists():
        said = f"there is no {folder.sweep_path}: nothing says whether runs are missing"
        return [SWEEP_UNKNOWN.note(said)]
    try:
        sweep = folder.read_sweep()
    except DamagedFile as error:
        said = f"{error.problem}, so that nothing says whether runs are missing: {REMAKE}"
        return [SWEEP_UNKNOWN.note(said, Weight.DOUBT)]
    except InputError:
        return []
    there = set(raw["run_id"].astype(str))
    asked = sweep.get("runs") or []
    lacking = [run_id for run_id in asked if run_id not in there]
    if not lacking:
        return []
    planned = sweep.get("planned") or {}
    titles = [run_title(run_id, planned.get(run_id) or {}) for run_id in lacking]
    return [
        RUNS_LACKING.note(
            f"{counted(len(asked), 'run')} were asked for, and {len(asked) - len(lacking)} are "
            f"here: {folder.runs_path} lacks {listed(titles)}; {REMAKE}"
        )
    ]

"""`tune.json`: what earlier commands have found in a folder, and whether it may go on there."""

import json
from typing import Any

from llmscale.errors import InputError
from llmscale.measure.sweep.provenance import difference
from llmscale.measure.sweep.records import known_ids
from llmscale.measure.sweep.spec import SweepSpec, parse_sizes
from llmscale.measure.tune.stopping import Stop
from llmscale.quantity import TokenBudget
from llmscale.runs.checked import (
    DamagedFile,
    WrongValue,
    check,
    check_list,
    check_table,
    read_object,
    typed,
)
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.safe_paths import refuse_links

FILE_NAME = "tune.json"
_ANEW = "it is made anew from the trials' folders, for the sizes of this command"


def check_folder(folder: ResultsFolder, spec: SweepSpec) -> str | None:
    """Raise InputError if `folder` holds another tuning or anything else; say what is damaged."""
    path = folder.path
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "name a folder with --out")
    try:
        before = _read(folder)
    except DamagedFile as error:
        if not known_ids(folder):
            raise InputError(error.problem, "name another folder with --out") from error
        refuse_links(path)
        return f"{error.problem}; {_ANEW}"
    if before is None:
        if known_ids(folder) and not folder.sweep_path.exists():
            refuse_links(path)
            return f"there is no {path / FILE_NAME}; {_ANEW}"
        entries = path.iterdir() if path.exists() else ()
        if any(not entry.name.startswith((".", "README")) for entry in entries):
            problem = f"{path} holds files but no {FILE_NAME}"
            raise InputError(problem, "name a new or empty folder with --out")
        refuse_links(path)
        return None
    refuse_links(path)
    changed = difference(before["basis"], json.loads(json.dumps(spec.basis())))
    if changed:
        problem = f"{path} holds trials of another specification: {changed}"
        raise InputError(problem, "name another folder with --out")
    return None


def known_basis(folder: ResultsFolder) -> Any:
    """What the trials of `folder` share, as an earlier command has noted it, or None."""
    return known_tuning(folder).get("basis")


def known_tuning(folder: ResultsFolder) -> dict[str, Any]:
    """What tune.json says; nothing if there is none, or if it is damaged."""
    try:
        return _read(folder) or {}
    except DamagedFile:
        return {}


def _read(folder: ResultsFolder) -> dict[str, Any] | None:
    """What tune.json says, or None if there is none. Raises DamagedFile."""
    path = folder.path / FILE_NAME
    try:
        payload = read_object(path)
        missing = sorted({"basis", "rungs", "trials"} - set(payload))
        if missing:
            raise WrongValue(f"it has no {missing[0]}, as what a tune writes")
        check_table(payload, dict, "", ("basis", "hardware", "recipes"))
        check(payload.get("hardware", {}).get("dtype"), str | None, "hardware.dtype")
        for name in ("rungs", "trials"):
            check_list(payload[name], dict, name)
        for rung in payload["rungs"]:
            check(rung.get("size"), str, "the size of a rung")
            if rung.get("budget") is not None:
                typed(TokenBudget, rung["budget"], "the budget of a rung")
            parse_sizes(rung["size"])
        for trial in payload["trials"]:
            check(trial.get("run_id"), str, "the run_id of a trial")
            if trial.get("stop") is not None:
                typed(Stop, trial["stop"], "the stop of a trial")
    except FileNotFoundError:
        return None
    except DamagedFile:
        raise
    except (ValueError, InputError) as error:
        reason = error.problem if isinstance(error, InputError) else str(error)
        raise DamagedFile(path, reason) from error
    return payload

"""Where results come from: what sweep.json says, and whether a folder holds that sweep."""

import json
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, counted
from llmscale.errors.command_lines import command_line
from llmscale.machine import available_cores, device_name
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.sweep.records import known_ids, recorded_runs
from llmscale.measure.sweep.remaining import PlannedWork
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.recipe import Recipe
from llmscale.menu import texts_of
from llmscale.runs.columns import fields_from
from llmscale.runs.results_folder import ResultsFolder, is_of_loop
from llmscale.runs.safe_paths import refuse_links
from llmscale.version import __version__


def check_folder(folder: ResultsFolder, spec: SweepSpec) -> None:
    """Raise InputError if `folder` holds another sweep's runs, or something else. If it holds runs
    and its sweep.json is lost or damaged, `check_runs` says whether they are of this sweep."""
    path = folder.path
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "name a folder with --out")
    sweep = folder.known_sweep()
    if not sweep.get("basis"):
        is_tuned = (path / "tune.json").exists()
        is_foreign = is_tuned or not known_ids(folder)
        if path.exists() and is_foreign and not folder.sweep_path.exists() and _holds(path):
            problem = f"{path} holds files but no sweep"
            raise InputError(problem, "name a new or empty folder with --out")
    refuse_links(path)
    if not sweep.get("basis"):
        return
    before, now = sweep["basis"], json.loads(json.dumps(spec.basis()))
    usual = asdict(Recipe())  # with settings younger than the folder
    if "recipe" in before:
        before["recipe"] = {**usual, **before["recipe"]}
    if "recipe" in now:  # which leaves out what it has no use for
        now["recipe"] = {**usual, **now["recipe"]}
    changed = difference(before, now)
    for name, recipe in json.loads(json.dumps(spec.stated_variants())).items():
        known = sweep.get("recipes", {}).get(name)
        if known is not None:
            changed = changed or difference(
                {**usual, **known}, {**usual, **recipe}, f"recipes.{name}"
            )
    if changed:
        problem = f"{path} holds a sweep of another specification: {changed}"
        raise InputError(problem, "name another folder with --out")


def check_runs(folder: ResultsFolder, plan: Plan) -> str | None:
    """If sweep.json is lost or damaged, say that it is written anew: the runs that are there are
    some of `plan`. Raises InputError if none of them is."""
    if folder.known_sweep().get("basis"):
        return None
    try:
        folder.read_sweep()
        problem = f"{folder.sweep_path} does not say what its sweep is"
    except InputError as error:
        problem = error.problem
    known = known_ids(folder)
    if known and not known & {run.job.run_id for run in plan.runs}:
        runs = counted(len(known), "run")
        problem += f", and none of the {runs} in {folder.path} is one of this command's"
        fix = "give the command that began them, or name another folder with --out"
        raise InputError(problem, fix)
    if known or folder.sweep_path.exists():
        return f"{problem}; it is written anew from this command"
    return None


def _holds(path: Path) -> bool:
    names = [entry.name for entry in path.iterdir()]
    return any(not (name.startswith(".") or is_of_loop(name)) for name in names)


def provenance(
    plan: Plan, spec: SweepSpec, store: TokenStore, folder: ResultsFolder, command: str
) -> dict[str, Any]:
    """What sweep.json says: specification, text, versions, hardware, command."""
    packages = ("torch", "numpy", "tokenizers", "pyarrow")
    before = folder.known_sweep()
    peak = plan.peak_flops or before.get("hardware", {}).get("peak_flops")
    return {
        "spec": spec.to_json(),
        "basis": spec.basis(),
        "recipes": {**before.get("recipes", {}), **spec.stated_variants()},
        "runs": [run.job.run_id for run in plan.runs],
        "planned": _planned(plan, folder),
        "data": describe_text(store),
        "own": _own_texts(plan, spec),
        "versions": {
            "llmscale": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "hardware": {
            "device": plan.device,
            "device_name": device_name(plan.device),
            "dtype": plan.dtype,
            "dtype_reason": plan.dtype_reason,
            "cores": available_cores(),
            "workers": len(plan.places),
            "peak_flops": peak,
        },
        "command": command,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _own_texts(plan: Plan, spec: SweepSpec) -> dict[str, str]:
    """The files of the user's own that the sweep was made with, for those who read of it later."""
    steps = spec.data.cleaning.steps
    found = texts_of([*spec.data.sources, *steps, *spec.track, spec.hardware.executor])
    for run in plan.runs:
        found |= run.job.own_texts()
    return found


def _planned(plan: Plan, folder: ResultsFolder) -> dict[str, Any]:
    """What each run is and costs, for those who look before or after it has a folder."""
    known = folder.known_sweep().get("planned", {})
    found = {}
    for run in plan.runs:
        job = run.job
        if run.finished and job.run_id not in known:
            continue  # which other run trained its first steps is not known here
        now = PlannedWork(**fields_from(PlannedWork, job, job.shape, run))
        found[job.run_id] = known[job.run_id] if run.finished else asdict(now)
    return found


def describe_text(store: TokenStore) -> dict[str, Any]:
    """The text of a sweep: what it is, how long, and the fingerprint that tells it from others."""
    return {
        "source": store.name,
        "fingerprint": store.fingerprint,
        "train_tokens": store.train_tokens,
        "validation_tokens": store.validation_tokens,
        "validation_bytes": store.validation_bytes,
        "vocab_size": store.vocab_size,
        "meta": store.meta,
    }


def folder_dtype(folder: ResultsFolder) -> str | None:
    """The dtype that earlier commands trained this folder's runs in, or None."""
    dtype: str | None = folder.known_sweep().get("hardware", {}).get("dtype")
    return dtype or next((run.dtype for run in recorded_runs(folder)), None)


def difference(before: Any, now: Any, where: str = "") -> str | None:
    """The first value in which two specifications differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            found = difference(before.get(key), now.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return None
    return None if before == now else f"{where} is {before} there and {now} here"


def own_command() -> str:
    """The command that runs this process, to be typed again; keys in its URLs are masked."""
    return command_line("llmscale", *sys.argv[1:])

"""sweep.json: each part of it that is there is of its type, whoever wrote the file."""

import math
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.runs.checked import (
    DamagedFile,
    WrongValue,
    check,
    check_count,
    check_list,
    check_table,
    read_object,
)
from llmscale.runs.safe_paths import is_plain

MOST_WORKERS = 1_000_000


def read_sweep_json(path: Path) -> dict[str, Any]:
    """What a sweep.json says. Raises InputError if there is none, and DamagedFile, which is one."""
    try:
        sweep = read_object(path)
        check_sweep(sweep)
    except FileNotFoundError:
        raise InputError(f"there is no {path}", "name a folder that a sweep wrote") from None
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    return sweep


def check_sweep(sweep: dict[str, Any]) -> None:
    """Raise WrongValue for the first part of a sweep.json that is not of its type."""
    for name, kind in (("command", str), ("written", str)):
        check_table(sweep, kind, "", [name] if sweep.get(name) is not None else [])
    check_table(sweep, dict, "", ("spec", "recipes", "data", "versions", "hardware", "planned"))
    if "runs" in sweep:
        check_list(sweep["runs"], str, "runs")
        for run_id in sweep["runs"]:
            if not is_plain(run_id):
                raise WrongValue(f"{run_id!r} in runs is no name of a run")
    if sweep.get("basis") is not None:
        check_table(sweep["basis"], dict, "basis", sweep["basis"] and ("data", "recipe"))
    check_table(sweep.get("recipes", {}), dict, "recipes")
    check_table(sweep.get("planned", {}), dict, "planned")
    hardware = sweep.get("hardware", {})
    for name in ("device", "device_name", "dtype", "dtype_reason"):
        check(hardware.get(name), str | None, f"hardware.{name}")
    for name in ("cores", "workers"):
        if hardware.get(name) is not None:
            check_count(hardware[name], f"hardware.{name}", most=MOST_WORKERS)
    if hardware.get("peak_flops") is not None:
        check(hardware["peak_flops"], float, "hardware.peak_flops")
        if not 0 <= hardware["peak_flops"] < math.inf:
            raise WrongValue(f"hardware.peak_flops is {hardware['peak_flops']}")

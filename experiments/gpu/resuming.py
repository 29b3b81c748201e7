"""Is a run that was interrupted, or whose process was killed, the run that nothing happened to: bit
for bit.
"""

import itertools
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pandas as pd

from gpu import Row
from gpu.correctness import checks
from gpu.text import write_counting
from llmscale.machine import available_cores
from llmscale.measure.executors import Event
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.jobs import jobs_of
from llmscale.measure.sweep.plan import Plan, plan_jobs
from llmscale.measure.sweep.records import write_tables
from llmscale.measure.sweep.run import carry_out, write_spec
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.text.prepare import TextSpec, TokenStore, prepare
from llmscale.measure.train.backend import set_up_device
from llmscale.measure.train.calibrate import Speeds
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_folders import EXIT_INTERRUPTED, Audience, train_runs
from llmscale.measure.train.run_spec import read_spec
from llmscale.quantity import parse_budget
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder

SIZES = {"cpu": ("1x16x1", "2x16x1"), "cuda": ("2x64x2", "4x128x2")}
TOKENS = {"cpu": "12k", "cuda": "300k"}
TOKENS_KILLED = {"cpu": "40k", "cuda": "1M"}
"""Enough for a run to last until its process has been found and killed."""
CONTEXT = {"cpu": 32, "cuda": 128}
BATCH_TOKENS = {"cpu": 256, "cuda": 2048}
STEPS_BEFORE = 20
"""Steps of a run until it is interrupted."""
CHECKPOINT_SECONDS = 0.3
TIMES = ("seconds", "tokens_per_second", "mfu", "wall_mfu", "peak_memory_bytes")
"""Columns that no two runs have alike."""
SPEEDS = Speeds(1e12, ((1e6, 1e11),))
"""In place of measuring: nothing but the estimate of time follows from it."""


def interrupted(device: str, compile: bool, dtype: str, work: str) -> Iterator[Row]:
    """Runs under `--deterministic`, interrupted after some steps and started again, against whole
    ones.
    """
    set_up_device(device)
    ways = [("adamw", False), ("muon", False)] + ([("adamw", True)] if compile else [])
    for optimizer, compiled in ways:
        name = f"interrupted run: {optimizer}, {'compiled' if compiled else 'eager'}, bit for bit"
        difference = partial(
            _interrupted_difference, device, dtype, optimizer, compiled, Path(work)
        )
        yield from checks([name], [0.0], difference)


def killed(device: str, dtype: str, work: str) -> Iterator[Row]:
    """The tables of a sweep whose worker was killed by signal 9, against those of one that was left
    in peace.
    """
    set_up_device(device)
    names = ["sweep with a killed worker: tables", "sweep with a killed worker: kills"]
    yield from checks(names, [0.0, 0.0], partial(_killed_differences, device, dtype, Path(work)))


def _interrupted_difference(
    device: str, dtype: str, optimizer: str, compiled: bool, work: Path
) -> list[float]:
    """Largest difference of what the two curves say of losses and gradients."""
    _, store, plan = _sweep(
        device,
        dtype,
        work,
        TOKENS[device],
        60.0,
        optimizer,
        compiled,
        workers=len(SIZES[device]),  # of one thread each
    )
    curves = []
    for name in ("whole", "interrupted"):
        folder = _new(work / "resuming" / f"{name}-{optimizer}-{compiled}")
        run = plan.runs[-1]
        write_spec(folder, run, plan, store)
        path = folder.run_folder(run.job.run_id).path
        if name == "interrupted":
            _train(path, _stop_after(STEPS_BEFORE), EXIT_INTERRUPTED)
        _train(path, _never, 0)
        curves.append(pd.read_parquet(path / "curve.parquet"))
    columns = [name for name in ("train_loss", "loss", "grad_norm") if name in curves[0]]
    difference = (curves[0][columns] - curves[1][columns]).abs().max().max()
    return [float(difference) if len(curves[0]) == len(curves[1]) else math.inf]


def _never(folder: Path) -> bool:
    return False


def _stop_after(steps: int) -> Callable[[Path], bool]:
    """What asks to stop when it has been asked after so many steps."""
    taken = itertools.count()
    return lambda folder: next(taken) >= steps


def _train(path: Path, stop: Callable[[Path], bool], expected: int) -> None:
    """Train the run of a folder as its worker does.

    Raises RuntimeError where it ends otherwise than expected.
    """

    def ignore(folder: Path, point: CurvePoint) -> None:
        pass

    ((_, code),) = train_runs([path], Audience(ignore, stop))
    if code != expected:
        raise RuntimeError(f"the run ended with {code}, not with {expected}: {_error(path)}")


def _error(path: Path) -> str:
    row = path / "run.json"
    return (
        str(json.loads(row.read_text(encoding="utf-8"))["error"])
        if row.exists()
        else "it has no row"
    )


def _killed_differences(device: str, dtype: str, work: Path) -> list[float]:
    """How many values differ in the tables, and how many kills are missing of the one that was
    meant.
    """
    spec, store, plan = _sweep(device, dtype, work, TOKENS_KILLED[device], CHECKPOINT_SECONDS)
    folders = [_new(work / "resuming" / name) for name in ("left-in-peace", "killed")]
    for run in plan.runs:
        write_spec(folders[0], run, plan, store)
        _train(folders[0].run_folder(run.job.run_id).path, _never, 0)
    write_tables(folders[0], final=True)
    killer = _Killer()
    carry_out(plan, spec, store, folders[1], "experiments/gpu_check.py", killer.note)
    return [_table_difference(*folders), abs(killer.kills - 1) + abs(killer.started_again - 1)]


class _Killer:
    """Kills the worker of a sweep once, when it has saved a checkpoint, or is half through the
    run.
    """

    def __init__(self) -> None:
        self.kills = self.started_again = 0

    def note(self, event: Event) -> None:
        if event.kind == "warned" and "killed by signal 9" in event.message:
            self.started_again += 1
        if event.kind != "logged" or self.kills:
            return
        half = read_spec(RunFolder(event.folder)).job.tokens / 2
        if (event.folder / "checkpoint.pt").exists() or event.point["tokens"] > half:
            for pid in _worker_pids(event.folder):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1


def _worker_pids(folder: Path) -> list[int]:
    """The processes that were started for the run of `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if b"llmscale.measure.train.worker" in words and os.fsencode(folder) in words:
                found.append(int(entry.parent.name))
    return found


def _table_difference(one: ResultsFolder, other: ResultsFolder) -> float:
    """Values of runs.parquet and curves.parquet that differ, times aside."""
    differing = 0
    for read, order in (
        (ResultsFolder.read_runs, ["run_id"]),
        (ResultsFolder.read_curves, ["run_id", "step"]),
    ):
        tables = [
            read(folder)
            .drop(columns=list(TIMES), errors="ignore")
            .sort_values(order, ignore_index=True)
            for folder in (one, other)
        ]
        if tables[0].shape != tables[1].shape:
            return math.inf
        same = (tables[0] == tables[1]) | (tables[0].isna() & tables[1].isna())
        differing += int((~same).to_numpy().sum())
    return float(differing)


def _sweep(
    device: str,
    dtype: str,
    work: Path,
    tokens: str,
    checkpoint_seconds: float,
    optimizer: str = "adamw",
    compiled: bool = False,
    workers: int = 1,
) -> tuple[SweepSpec, TokenStore, Plan]:
    """A small sweep, its text and its plan."""
    spec = SweepSpec(
        sizes=SIZES[device],
        tokens=(parse_budget(tokens),),
        data=TextSpec(source=str(write_counting(work)), tokenizer="bpe:300"),
        recipe=Recipe(
            context=CONTEXT[device], batch_tokens=BATCH_TOKENS[device], optimizer=optimizer
        ),
        hardware=Hardware(
            device=device,
            dtype=dtype,
            workers=workers if device == "cpu" else None,
            compile="always" if compiled else "never",
            deterministic=True,
            checkpoint_seconds=checkpoint_seconds,
        ),
    )
    store = prepare(spec.data, workers=min(2, available_cores()))
    return spec, store, plan_jobs(jobs_of(spec, store), spec, store, speeds={optimizer: SPEEDS})


def _new(path: Path) -> ResultsFolder:
    """An empty results folder at `path`."""
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return ResultsFolder(path)

"""A whole ladder by wall clock: `llmscale sweep`, and nanoGPT's runs, one after another or several
at a time.
"""

import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from llmscale.machine import available_memory
from llmscale.measure.sweep.batches import micro_batch
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.jobs import jobs_of
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.text.prepare import TextSpec, TokenStore, prepare
from llmscale.measure.train.job import Job
from llmscale.measure.train.recipe import Recipe
from llmscale.quantity import parse_budget
from llmscale.runs.results_folder import ResultsFolder
from training import nanogpt

OURS = "llmscale sweep"


@dataclass(frozen=True)
class Ladder:
    """One pass over all sizes. `losses` are nats per token on the whole validation set, by size."""

    name: str
    at_a_time: int
    seconds: float
    """From the start of the first process to the end of the last."""
    losses: dict[str, float]
    reached: dict[str, dict[float, float]]
    """Of ours: by size, the seconds of training after which each validation loss was measured."""


def plan(
    sizes: Sequence[str], options: Namespace, device: str
) -> tuple[SweepSpec, TokenStore, tuple[Job, ...]]:
    """The text, prepared, and our jobs; nothing of it is timed."""
    spec = SweepSpec(
        sizes=tuple(sizes),
        tokens=(parse_budget(options.tokens),),
        data=TextSpec(source=options.data, tokenizer=f"bpe:{options.vocab_size}"),
        recipe=Recipe(arch=options.arch, context=options.context),
        hardware=Hardware(device=device),
    )
    store = prepare(spec.data)
    return spec, store, jobs_of(spec, store)


def time_ours(spec: SweepSpec) -> Ladder:
    """The sweep as a user runs it: start, calibration, compiling, training, all evaluations,
    tables.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ladder"
        options = [
            "--sizes",
            ",".join(spec.sizes),
            "--tokens",
            str(spec.tokens[0]),
            "--data",
            spec.data.source,
        ]
        options += ["--tokenizer", str(spec.data.tokenizer), "--context", str(spec.recipe.context)]
        options += [
            "--arch",
            spec.recipe.arch,
            "--device",
            spec.hardware.device,
            "--out",
            str(out),
            "--yes",
        ]
        command = [sys.executable, "-m", "llmscale", "sweep", *options]
        started = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"}, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            raise RuntimeError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}"
            )
        results = ResultsFolder(out)
        runs = {row["run_id"]: row for row in pq.read_table(results.runs_path).to_pylist()}
        reached: dict[str, dict[float, float]] = {}
        for point in pq.read_table(results.curves_path).to_pylist():
            if point["loss"] is not None:
                reached.setdefault(runs[point["run_id"]]["size"], {})[point["seconds"]] = point[
                    "loss"
                ]
        workers = results.read_sweep()["hardware"]["workers"]
    return Ladder(
        OURS, workers, seconds, {run["size"]: run["loss"] for run in runs.values()}, reached
    )


def time_nanogpt(
    checkout: Path,
    changes: str,
    name: str,
    jobs: Sequence[Job],
    store: TokenStore,
    device: str,
    at_a_time: int,
    cores: int,
) -> Ladder:
    """Each job's tokens by nanoGPT, `at_a_time` processes of it, the largest first.

    Its final losses are not timed.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        nanogpt.write_data(data, store.train(), store.validation(), store.vocab_size)
        free = available_memory(device)

        def one(job: Job) -> Path:
            passes = (
                job.batch_sequences
                if device == "cpu"
                else micro_batch(job.shape, job.batch_sequences, device, free)
            )
            return nanogpt.train(
                checkout, changes, job, passes, device, data, max(1, cores // at_a_time)
            )

        largest_first = sorted(jobs, key=lambda job: -job.flops)
        started = time.perf_counter()
        with ThreadPoolExecutor(at_a_time) as pool:
            checkpoints = list(pool.map(one, largest_first))
        seconds = time.perf_counter() - started
        losses = {
            job.size: nanogpt.validation_loss(checkout, checkpoint, store.validation(), device)
            for job, checkpoint in zip(largest_first, checkpoints, strict=True)
        }
    return Ladder(name, at_a_time, seconds, losses, {})


def seconds_to(loss: float, reached: dict[float, float]) -> float | None:
    """Seconds of training until a validation loss of `loss` or less was measured, or None where it
    was not.
    """
    return min((seconds for seconds, measured in reached.items() if measured <= loss), default=None)

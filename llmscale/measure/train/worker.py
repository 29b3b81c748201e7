"""The process that trains runs: `python -m llmscale.measure.train.worker results/NAME/runs/RUN_ID`.

It reads `spec.json`, writes `curve.parquet` and then `run.json` into the same folder. On standard
output it says, one JSON object a line, `{"folder": F, "point": {...}}` for each logged step and
`{"folder": F, "exit_code": 0}` at the end; `{"folder": F, "warning": "..."}` for what people should
know, and `{"folder": F, "step": true}` now and then while it trains. Where nothing can be written
any more it says `{"folder": F, "cannot_write": [PROBLEM, FIX]}` and ends with 74. SIGINT and
SIGTERM save a checkpoint and end it with exit code 130; so does a reader that has gone away.

With `--more` it then trains what standard input names, one JSON object a line, `{"folders": [F,
...]}`, until that ends or a run has failed. There `{"stop": F}` ends the run of F alone, with a
checkpoint.

Several processes train a run together where torchrun starts them (`python -m torch.distributed.run
--nproc-per-node 8 -m llmscale.measure.train.worker FOLDER`): the first one talks and writes, and
holds the run's lock."""

import json
import os
import queue
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llmscale.errors import InputError, LlmscaleError, WriteError
from llmscale.machine import device_name
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.backend import (
    compile_for,
    keep_compiled_code,
    set_determinism,
    set_precision,
    set_up_device,
)
from llmscale.measure.train.checkpoint import remove_checkpoint, remove_parts
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.evaluate import bits_per_byte
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.loop import Outcome, TrainingInterrupted, train
from llmscale.measure.train.memory import forget_peak_memory
from llmscale.measure.train.processes import ALONE, Processes, join_processes, leave_processes
from llmscale.measure.train.run_spec import RunSpec, known_spec, read_spec, start_of
from llmscale.measure.train.sharded_checkpoint import remove_sharded
from llmscale.measure.train.spikes import largest_spike
from llmscale.measure.train.stacked import can_stack, train_stack
from llmscale.runs.checked import DamagedFile
from llmscale.runs.lock import only_writer
from llmscale.runs.log import append_progress, begin_progress, end_progress
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import cannot_write

EXIT_INTERRUPTED = 130
EXIT_CANNOT_WRITE = 74
LOCK_SECONDS = 600.0
"""How long to wait for another process that trains the run: one that has lost its sweep saves a
checkpoint and ends.
"""
SECONDS_BETWEEN_BEATS = 5.0
"""How often, at most, to say that a step has been trained."""


def main(folders: list[str], more: bool = False) -> int:
    """Train the runs of `folders`, then of all that standard input names; the exit code is that of
    the last run.
    """
    stopping, unwanted, last_beat = False, set(), time.monotonic()
    spec = known_spec(RunFolder(Path(folders[0])))
    device = spec.conditions.device if spec else "cpu"  # that the file is damaged is said below
    processes = join_processes(device)
    set_up_device(device)
    keep_compiled_code()
    tasks: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    tasks.put(folders)

    def ask_to_stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True
        tasks.put([])

    def listen() -> None:
        for line in sys.stdin:
            message = json.loads(line)
            if "stop" in message:
                unwanted.add(message["stop"])
            else:
                tasks.put(message["folders"])
        ask_to_stop()

    def say(folder: str, **news: Any) -> None:
        if not processes.first:
            return
        try:
            sys.stdout.write(json.dumps({"folder": folder, **news}) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            ask_to_stop()

    def warn(folder: Path, text: str) -> None:
        if not processes.first:
            return
        with suppress(OSError):  # a full disk
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - into worker.log
        say(str(folder), warning=text)

    def stop(folder: Path) -> bool:
        nonlocal last_beat
        if time.monotonic() - last_beat > SECONDS_BETWEEN_BEATS:
            last_beat = time.monotonic()
            say(str(folder), step=True)
        return stopping or str(folder) in unwanted

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, ask_to_stop)
    if more:
        threading.Thread(target=listen, daemon=True).start()
    code, failed = 0, False
    while not (stopping or failed) and (task := tasks.get()):
        for folder in task:
            unwanted.discard(folder)
        if more:
            _write_errors_to(RunFolder(Path(task[0])).log_path)
        ended = train_runs(
            [Path(folder) for folder in task],
            lambda folder, point: say(str(folder), point=asdict(point)),
            stop,
            warn,
            processes,
        )
        try:
            for path, code in ended:
                say(str(path), exit_code=code)
                failed = failed or code not in (0, EXIT_INTERRUPTED)
        except WriteError as error:
            say(task[0], cannot_write=[error.problem, error.fix])
            return EXIT_CANNOT_WRITE
        if not more:
            break
    leave_processes()
    return code


def train_runs(
    folders: Sequence[Path],
    report: Callable[[Path, CurvePoint], None],
    stop: Callable[[Path], bool],
    warn: Callable[[Path, str], None] = lambda folder, text: None,
    processes: Processes = ALONE,
) -> Iterator[tuple[Path, int]]:
    """Train the runs of `folders`, as one stack where that can be, and give the exit code of each
    as it ends.

    It is 0 done or diverged, 1 failed, 130 stopped. Raises WriteError where nothing can be written
    any more."""
    if not processes.first:
        yield from _train_held(processes.share(None), report, stop, warn, processes)
        return
    with ExitStack() as held:
        free = []
        for folder in folders:
            # Another process may still save the run, of a sweep that was killed, or even have
            # trained it to its end.
            try:
                waiting = only_writer(
                    folder, LOCK_SECONDS, partial(warn, folder), partial(stop, folder)
                )
                held.enter_context(waiting)
            except InputError as error:
                if not stop(folder):
                    warn(folder, error.problem)
                yield folder, EXIT_INTERRUPTED if stop(folder) else 1
                continue
            remove_parts(folder)
            if _has_ended(folder):
                yield folder, 0
            else:
                free.append(folder)
        processes.share(free)
        if free:
            yield from _train_held(free, report, stop, warn, processes)


def _train_held(
    folders: Sequence[Path],
    report: Callable[[Path, CurvePoint], None],
    stop: Callable[[Path], bool],
    warn: Callable[[Path, str], None],
    processes: Processes,
) -> Iterator[tuple[Path, int]]:
    readable, specs = [], []
    for folder in folders:
        try:
            specs.append(read_spec(RunFolder(folder)))
            readable.append(folder)
        except DamagedFile as error:
            warn(folder, error.problem)
            yield folder, 1
    jobs = [spec.job for spec in specs]
    if len(jobs) > 1 and processes.size == 1 and can_stack(jobs, readable):
        yield from _train(readable, specs, report, stop, warn, processes)
        return
    for folder, spec in zip(readable, specs, strict=True):
        yield from _train([folder], [spec], report, stop, warn, processes)


def _train(
    folders: Sequence[Path],
    specs: Sequence[RunSpec],
    report: Callable[[Path, CurvePoint], None],
    stop: Callable[[Path], bool],
    warn: Callable[[Path, str], None],
    processes: Processes,
) -> Iterator[tuple[Path, int]]:
    spec, conditions, jobs = specs[0], specs[0].conditions, [spec.job for spec in specs]
    by_id = {job.run_id: folder for job, folder in zip(jobs, folders, strict=True)}
    torch.set_num_threads(1 if conditions.ops == "native" else spec.threads)
    set_precision()
    set_determinism(conditions.deterministic)
    forget_peak_memory(conditions.device)
    if conditions.compile:
        passes = conditions.micro_batch, conditions.evaluation_batch, len(jobs)
        compile_for(
            (jobs[0].shape, jobs[0].dtype, jobs[0].parametrization, jobs[0].optimizer, *passes)
        )
    device = device_name(conditions.device)
    try:
        store = TokenStore.open(Path(spec.store))
        texts = store.train(), store.validation()

        def begin(run_id: str, before: Sequence[CurvePoint]) -> None:
            folder = by_id[run_id]
            if not processes.first:
                return
            try:
                damage = begin_progress(folder, before)
            except OSError as error:
                raise cannot_write(RunFolder(folder).progress_path, error) from error
            if damage:
                warn(folder, damage)

        def say(point: CurvePoint) -> None:
            folder = by_id[point.run_id]
            if not processes.first:
                return
            try:
                append_progress(folder, point)
            except OSError as error:
                raise cannot_write(RunFolder(folder).progress_path, error) from error
            report(folder, point)

        def unwanted() -> bool:
            return all(stop(folder) for folder in folders)

        tell = partial(warn, folders[0])
        if len(jobs) > 1:
            outcomes = train_stack(
                jobs, conditions, *texts, folders, say, unwanted, tell, begin=begin
            )
        else:
            folder = folders[0]
            points = {step: folder / name for step, name in spec.branch_points.items()}
            origin = {
                "start": start_of(RunFolder(folder), spec),
                "branch_points": points,
                "begin": begin,
                "processes": processes,
            }
            outcome = train(jobs[0], conditions, *texts, folder, say, unwanted, tell, **origin)  # type: ignore[arg-type]
            outcomes = [outcome]
    except TrainingInterrupted:
        yield from ((folder, EXIT_INTERRUPTED) for folder in folders)
        return
    except WriteError:
        raise
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, LlmscaleError):
            message = f"{error.problem} (fix: {error.fix})" if error.fix else error.problem
        for folder, job in zip(folders, jobs, strict=True):
            if processes.first:
                RunFolder(folder).write_row(run_row(job, "failed", device, error=message))
            yield folder, 1
        return
    for folder, job, outcome in zip(folders, jobs, outcomes, strict=True):
        if not processes.first:
            yield folder, 0
            continue
        RunFolder(folder).write_curve(outcome.curve)
        measured = _measured(job, conditions, store, outcome, processes.size)
        RunFolder(folder).write_row(run_row(job, outcome.status, device, **measured))
        remove_checkpoint(folder)
        remove_sharded(folder)
        end_progress(folder)
        yield folder, 0


def _has_ended(folder: Path) -> bool:
    """Whether the run has a row that says so, of whoever trained it or does not want it any
    more.
    """
    row = RunFolder(folder).known_row()
    return row is not None and row.status != "failed"


def _measured(
    job: Job, conditions: Conditions, store: TokenStore, outcome: Outcome, gpus: int
) -> dict[str, Any]:
    """What training found out, by column of the table of runs."""
    last = [point.train_loss for point in outcome.curve if point.step > 0.95 * job.steps]
    own = [point for point in outcome.curve if point.step > outcome.parent_step]
    speeds = [point.tokens_per_second for point in own if point.tokens_per_second]
    speed, peak = statistics.median(speeds) if speeds else None, conditions.peak_flops
    trained = (
        outcome.curve[-1].tokens - outcome.parent_step * job.batch_tokens if outcome.curve else 0
    )
    measured = {
        "train_loss": statistics.fmean(last) if last else None,
        "seconds": outcome.seconds,
        "tokens_per_second": speed,
        "mfu": speed * job.shape.flops_per_token / (gpus * peak) if speed and peak else None,
        "wall_mfu": trained * job.shape.flops_per_token / (outcome.seconds * gpus * peak)
        if peak
        else None,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "parent": outcome.parent,
        "error": outcome.error,
    }
    spike = largest_spike(outcome.curve)
    if spike is not None:
        measured["spike_step"], measured["spike_height"] = spike.step, spike.height
    evaluation = outcome.evaluation
    if evaluation is not None:
        measured["loss"], measured["loss_stderr"] = evaluation.loss, evaluation.stderr
        measured["perplexity"] = evaluation.perplexity
        measured["bits_per_byte"] = bits_per_byte(
            evaluation.loss, store.validation_tokens, store.validation_bytes
        )
    return measured


def _write_errors_to(path: Path) -> None:
    """Standard error of this process, and of what it calls in C, goes to the end of `path` from
    here on.
    """
    with suppress(OSError):  # a full disk
        sys.stderr.flush()
        with path.open("a", encoding="utf-8") as log:
            os.dup2(log.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    arguments = sys.argv[1:]
    code = main([word for word in arguments if word != "--more"], "--more" in arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(
        code
    )  # all is written; to take torch apart would keep who waits for this process half a second

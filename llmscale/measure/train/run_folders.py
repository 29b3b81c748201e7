"""Training runs in their folders: held against other processes, gone on with, written down."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llmscale.errors import InputError, LlmscaleError, WriteError
from llmscale.machine import device_name
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.backend import compile_for, set_determinism, set_precision
from llmscale.measure.train.checkpoint import remove_checkpoint, remove_parts
from llmscale.measure.train.curves import Member
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.kept_weights import write_weights
from llmscale.measure.train.loop import Listener, TrainingInterrupted, train
from llmscale.measure.train.measured import measured, measured_scores
from llmscale.measure.train.memory import forget_peak_memory
from llmscale.measure.train.processes import ALONE, Processes
from llmscale.measure.train.resumable import can_stack
from llmscale.measure.train.run_spec import RunSpec, read_spec, start_of
from llmscale.measure.train.sharded_checkpoint import remove_sharded
from llmscale.menu import receive
from llmscale.runs.checked import DamagedFile
from llmscale.runs.lock import only_writer
from llmscale.runs.log import append_progress, begin_progress, end_progress
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import cannot_write, write_bytes
from llmscale.runs.scores import write_measured

EXIT_INTERRUPTED = 130
"""As a shell says of what SIGINT has ended: 128 + 2."""
LOCK_SECONDS = 600.0
"""How long to wait for a process that trains the run, as one that has lost its sweep and ends."""
Ended = tuple[Path, int]
"""A run's folder, and its exit code: 0 done or diverged, 1 failed, 130 stopped."""


@dataclass(frozen=True)
class Audience:
    """Who hears of runs by their folders, and may end them, as loop.Listener."""

    report: Callable[[Path, CurvePoint], None]
    stop: Callable[[Path], bool]
    warn: Callable[[Path, str], None] = lambda folder, text: None


def train_runs(
    folders: Sequence[Path], audience: Audience, processes: Processes = ALONE
) -> Iterator[Ended]:
    """Train the runs of `folders`, as one stack if that can be, and give the exit code of each as
    it ends. Raises WriteError if nothing can be written any more."""
    if not processes.first:
        yield from _train_held(processes.share(None), audience, processes)
        return
    with ExitStack() as held:
        free = []
        for folder in folders:
            stopped = partial(audience.stop, folder)
            # Another process may still save the run, of a sweep that was killed, or even have
            # trained it to its end.
            try:
                warn = partial(audience.warn, folder)
                held.enter_context(only_writer(folder, LOCK_SECONDS, warn, stopped))
            except InputError as error:
                code = EXIT_INTERRUPTED
                if not stopped():
                    audience.warn(folder, error.problem)
                    code = 1
                yield folder, code
                continue
            remove_parts(folder)
            if _has_ended(folder):
                yield folder, 0
            else:
                free.append(folder)
        processes.share(free)
        if free:
            yield from _train_held(free, audience, processes)


@dataclass(frozen=True)
class _HeldRun:
    """A run to train, whose folder is held."""

    folder: RunFolder
    spec: RunSpec

    @property
    def job(self) -> Job:
        return self.spec.job

    @property
    def member(self) -> Member:
        points = {step: self.folder.path / name for step, name in self.spec.branch_points.items()}
        start = start_of(self.folder, self.spec)
        initial = None
        if self.spec.initial is not None:
            initial = self.folder.path / self.spec.initial
        teacher = None
        if self.spec.teacher is not None:
            teacher = Path(self.spec.teacher)
        return Member(self.job, self.folder.path, start, points, self.spec.keep, initial, teacher)


def _train_held(
    folders: Sequence[Path], audience: Audience, processes: Processes
) -> Iterator[Ended]:
    """Train the runs of folders that are held, together or one after another."""
    runs = []
    for folder in map(RunFolder, folders):
        try:
            spec = read_spec(folder)
            receive(spec.own)  # which the leader read from the file that its command names
            runs.append(_HeldRun(folder, spec))
        except (DamagedFile, InputError) as error:
            audience.warn(folder.path, error.problem)
            yield folder.path, 1
    together = len(runs) > 1 and processes.size == 1
    if together and can_stack([run.member for run in runs]):
        yield from _train(runs, audience, processes)
        return
    for run in runs:
        yield from _train([run], audience, processes)


def _train(runs: Sequence[_HeldRun], audience: Audience, processes: Processes) -> Iterator[Ended]:
    """Train `runs` together, and write down what came of each."""
    _set_up_torch(runs)
    try:
        store = TokenStore.open(Path(runs[0].spec.store))
        texts = store.train(), store.validation()
        members = [run.member for run in runs]
        listener = _listener(runs, audience, processes)
        parts = {
            name: part.windows(runs[0].job.shape.context)
            for name, part in store.validation_parts.items()
        }
        outcomes = train(members, runs[0].spec.conditions, *texts, listener, processes, parts)
    except TrainingInterrupted:
        yield from ((run.folder.path, EXIT_INTERRUPTED) for run in runs)
        return
    except WriteError:
        raise
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        for run in runs:
            if processes.first:
                _write_row(run, "failed", {"error": _sentence(error)})
            yield run.folder.path, 1
        return
    for run, outcome in zip(runs, outcomes, strict=True):
        if processes.first:
            # The row last: with it the run has ended, whatever becomes of this process.
            run.folder.write_curve(outcome.curve)
            if outcome.weights is not None:
                write_weights(run.folder.weights_path, outcome.weights, run.job)
                _copy_tokenizer(store, run.folder)
            if scores := measured_scores(run.job, outcome, store):
                write_measured(run.folder, scores)
            peak = run.spec.conditions.peak_flops
            peak_flops = peak and peak * processes.size
            _write_row(run, outcome.status, measured(run.job, outcome, store, peak_flops))
            remove_checkpoint(run.folder.path)
            remove_sharded(run.folder.path)
            if run.member.initial is not None:  # its parent has them
                run.member.initial.unlink(missing_ok=True)
            end_progress(run.folder.path)
        yield run.folder.path, 0


def _copy_tokenizer(store: TokenStore, folder: RunFolder) -> None:
    """Put the tokenizer next to the weights: what the model says is in its tokens."""
    file = store.path / folder.tokenizer_path.name
    if file.exists():  # a store made by other means may have none
        write_bytes(folder.tokenizer_path, file.read_bytes())


def _set_up_torch(runs: Sequence[_HeldRun]) -> None:
    job, conditions, threads = runs[0].job, runs[0].spec.conditions, runs[0].spec.threads
    torch.set_num_threads(1 if conditions.ops == "native" else threads)
    set_precision()
    set_determinism(conditions.deterministic)
    forget_peak_memory(conditions.device)
    if conditions.compile:
        passes = conditions.micro_batch, conditions.evaluation_batch, len(runs)
        compile_for((job.shape, job.dtype, job.parametrization, job.optimizer, *passes))


def _listener(runs: Sequence[_HeldRun], audience: Audience, processes: Processes) -> Listener:
    """What the loop tells and asks, by folders. Only the first process writes and speaks."""
    folders = {run.job.run_id: run.folder for run in runs}

    def stop() -> bool:
        return all(audience.stop(folder.path) for folder in folders.values())

    def begin(logged: Mapping[str, Sequence[CurvePoint]]) -> None:
        for run_id, before in logged.items():
            folder = folders[run_id]
            with _writing(folder.progress_path):
                damage = begin_progress(folder.path, before)
            if damage:
                audience.warn(folder.path, damage)

    def report(point: CurvePoint) -> None:
        folder = folders[point.run_id]
        with _writing(folder.progress_path):
            append_progress(folder.path, point)
        audience.report(folder.path, point)

    warn = partial(audience.warn, runs[0].folder.path)
    if not processes.first:
        return Listener(warn=warn, stop=stop)
    return Listener(begin, report, warn, stop)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def _has_ended(folder: Path) -> bool:
    """Whether a row says that the run has ended, of whoever trained it or gave it up."""
    row = RunFolder(folder).known_row()
    return row is not None and row.status != "failed"


def _sentence(error: Exception) -> str:
    if not isinstance(error, LlmscaleError):
        return f"{type(error).__name__}: {error}"
    if not error.fix:
        return error.problem
    return f"{error.problem} (fix: {error.fix})"


def _write_row(run: _HeldRun, status: str, columns: Mapping[str, Any]) -> None:
    device = device_name(run.spec.conditions.device)
    run.folder.write_row(run_row(run.job, status, device, **columns))

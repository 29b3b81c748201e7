"""Carrying a plan out: one sweep a folder, runs trained once, tables rewritten as each run ends."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from llmscale.machine import device_name
from llmscale.measure.executors import Event, Task
from llmscale.measure.lead import Report, train_tasks
from llmscale.measure.sweep.kernels import check_kernels, without_kernels
from llmscale.measure.sweep.known_floor import TRUE_LOSS, contexts_of, true_losses
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.sweep.planned_run import PlannedRun
from llmscale.measure.sweep.provenance import provenance
from llmscale.measure.sweep.records import (
    finished_runs,
    mend_rows,
    record_end,
    recorded_runs,
    write_tables,
)
from llmscale.measure.sweep.retries import name_retries
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.trunk_ends import end_with_trunk
from llmscale.measure.sweep.trunks import (
    branch_file,
    branch_point,
    remove_unneeded,
    share_trunks,
)
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.text.true_loss import TrueLoss
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import Job
from llmscale.measure.train.run_spec import RunSpec, known_spec
from llmscale.menu import is_own
from llmscale.runs.lock import only_writer
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import FINISHED, Run
from llmscale.runs.safe_write import make_folder
from llmscale.runs.scores import write_measured

INITIAL = "initial.safetensors"
"""In the folder of a run: the weights that it begins with, put there before it is begun."""


class Book(ABC):
    """What is noted of a plan's runs as they begin, go on and end."""

    SHORTEST_FIRST: ClassVar[bool] = False
    """Whether the longest runs come last; else they come first, so that all end at about a time."""

    @abstractmethod
    def begin(self) -> None:
        """Before anything is trained, while nobody else writes to the folder."""

    @abstractmethod
    def is_unwanted(self, job: Job, event: Event) -> bool:
        """Whether to stop a run, after the logged step of `event`."""

    @abstractmethod
    def end(self, job: Job, event: Event) -> None:
        """Once a run has ended."""

    @abstractmethod
    def settle(self, final: bool) -> None:
        """Before the first run, and finally after the last one or when interrupted."""


def train_plan(
    plan: Plan,
    spec: SweepSpec,
    store: TokenStore,
    folder: ResultsFolder,
    book: Book,
    report: Report,
) -> None:
    """Train what is waiting in `plan`, and have `book` note what comes of it. Raises
    KeyboardInterrupt, with every started run resumable, when interrupted."""
    make_folder(folder.path)
    jobs = {run.job.run_id: run.job for run in plan.runs}

    def note(event: Event) -> bool:
        job = jobs[event.run_id]
        is_unwanted = event.kind == "logged" and book.is_unwanted(job, event)
        if event.kind == "ended":
            book.end(job, event)
        report(event)
        return is_unwanted

    with only_writer(folder.path):
        check_kernels(folder, plan)
        book.begin()
        mend_rows(folder)
        for run in plan.waiting:
            write_spec(folder, run, plan, store)
        tasks = [_task(folder, group) for group in plan.together]
        if book.SHORTEST_FIRST:
            tasks.reverse()
        try:
            book.settle(final=False)
            hardware = spec.hardware
            train_tasks(hardware.executor, tasks, plan.places, note, hardware.executor_options)
        finally:
            book.settle(final=True)


def carry_out(
    plan: Plan,
    spec: SweepSpec,
    store: TokenStore,
    folder: ResultsFolder,
    command: str,
    report: Report,
    said: Callable[[], dict[str, Any]] | None = None,
) -> list[Run]:
    """Train what is waiting in `plan`, write the tables, and return the rows of all runs of the
    folder. `said` gives what sweep.json says, if it is another's than a sweep's.

    Raises KeyboardInterrupt, with the tables written and every started run resumable, when
    interrupted."""
    said = said or partial(provenance, plan, spec, store, folder, command)
    truths = true_losses(store, contexts_of(plan))
    train_plan(plan, spec, store, folder, _SweepBook(plan, spec, folder, said, truths), report)
    return recorded_runs(folder)


@dataclass(frozen=True)
class _SweepBook(Book):
    """The tables of a sweep, rewritten as each run ends."""

    plan: Plan
    spec: SweepSpec
    folder: ResultsFolder
    provenance: Callable[[], dict[str, Any]]
    truths: Mapping[int, TrueLoss]

    def begin(self) -> None:
        sweep = self.provenance()
        if self.truths:
            sweep["data"]["true_losses"] = [truth.to_json() for truth in self.truths.values()]
        self.folder.write_sweep(sweep)

    def is_unwanted(self, job: Job, event: Event) -> bool:
        return False

    def end(self, job: Job, event: Event) -> None:
        record_end(job, event, device_name(self.plan.device))
        truth = self.truths.get(job.shape.context)
        if truth is not None:
            write_measured(self.folder.run_folder(job.run_id), {TRUE_LOSS: truth.best})
        self.settle(final=False, ended=job.run_id)

    def settle(self, final: bool, ended: str | None = None) -> None:
        sharing = share_trunks(self.spec)
        if sharing:
            end_with_trunk(self.folder, self.plan, ended)
        name_retries(self.plan, self.folder)
        if write_tables(self.folder, final=final) and sharing:
            remove_unneeded(self.folder, finished_runs(self.folder))


def _task(folder: ResultsFolder, group: Sequence[PlannedRun]) -> Task:
    runs = tuple(folder.run_folder(run.job.run_id).path for run in group)
    return Task(runs, after=branch_point(folder, group[0].descent))


def write_spec(folder: ResultsFolder, run: PlannedRun, plan: Plan, store: TokenStore) -> None:
    """The run's `spec.json`; one begun on this device keeps its conditions, as if never stopped."""
    home = folder.run_folder(run.job.run_id)
    row = home.known_row()
    if row is None or row.status not in FINISHED:  # a worker that lost its sweep may have ended it
        home.row_path.unlink(missing_ok=True)
    before = known_spec(home)
    start = branch_point(folder, run.descent)
    spec = RunSpec(
        run.job,
        _conditions(run, plan),
        plan.places[0].threads,
        str(store.of(run.job.data_fingerprint).path.resolve()),
        store.validation_tokens,
        device_name(plan.device),
        os.path.relpath(start, home.path) if start else None,
        {step: branch_file(step) for step in run.descent.branch_steps},
        own=run.job.own_texts(),
        keep=plan.kept.dtype_of(run.job.run_id),
        initial=initial_weights(run.job),
        teacher=_teacher(run, plan),
        counts=run.job.shape.counts if is_own(run.job.shape.arch) else None,
    )
    if before is not None:
        points = {**before.branch_points, **spec.branch_points}
        spec = replace(spec, branch_points=points)
        # What was to run by kernels that cannot be made any more has not been begun, or
        # check_kernels would have said so.
        no_kernels = before.conditions.ops == "native" and without_kernels(plan)
        if before.device_name == spec.device_name and not no_kernels:
            spec = replace(spec, conditions=before.conditions, threads=before.threads)
    spec.write(home)


def initial_weights(job: Job) -> str | None:
    """The file in a run's folder of the weights that it begins with; None for new ones."""
    is_pretrained = job.finetuning is not None and job.finetuning.weights is not None
    return INITIAL if is_pretrained else None


def _teacher(run: PlannedRun, plan: Plan) -> str | None:
    """The file of the weights of the run's teacher, if it has one."""
    taught = run.job.distillation
    return None if taught is None else plan.teachers[taught.weights]


def _conditions(run: PlannedRun, plan: Plan) -> Conditions:
    """How `run` is run here, if nothing of it is there yet."""
    return Conditions(
        plan.device,
        run.micro_batch,
        run.compile,
        run.ops,
        threads=plan.places[0].threads if plan.device == "cpu" else 1,
        deterministic=plan.hardware.deterministic,
        peak_flops=plan.peak_flops,
        checkpoint_seconds=plan.hardware.checkpoint_seconds,
        evaluation_batch=run.evaluation_batch,
        shard=run.shard,
    )

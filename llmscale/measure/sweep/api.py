"""A whole sweep in one call: from what is asked for to its table of runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, counted
from llmscale.measure.lead import Report
from llmscale.measure.sweep.keeping import check_room, said_of_ended
from llmscale.measure.sweep.known_floor import contexts_of, said_of, true_losses
from llmscale.measure.sweep.notes import held_out_note
from llmscale.measure.sweep.opening import (
    Results,
    fetch,
    open_results,
    prepare_text,
    stated_command,
)
from llmscale.measure.sweep.plan import Plan, plan_sweep
from llmscale.measure.sweep.provenance import (
    check_folder,
    check_runs,
    describe_text,
    folder_dtype,
)
from llmscale.measure.sweep.records import find_damage, finished_runs
from llmscale.measure.sweep.remote_results import kept_at
from llmscale.measure.sweep.result import SweepResult
from llmscale.measure.sweep.retries import next_round
from llmscale.measure.sweep.run import carry_out
from llmscale.measure.sweep.spec import SweepSpec, asked_spec, check_choices
from llmscale.measure.sweep.teaching import said_of_teachers
from llmscale.measure.sweep.tracking import tracked
from llmscale.measure.sweep.trunks import saved_branch_points
from llmscale.measure.sweep.validation import settled
from llmscale.measure.sweep.watching import Watcher, ended_by_signals, watcher_of
from llmscale.measure.text.prepare import TokenStore
from llmscale.quantity import format_seconds
from llmscale.runs.log import saved_step
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.settings import Range

MOST_HOURS = 24.0
"""What takes longer is not started without asking."""


def sweep(
    asked: SweepSpec | Path | str | None = None,
    *,
    out: Path | str | None = None,
    max_hours: float = MOST_HOURS,
    yes: bool = False,
    dry_run: bool = False,
    progress: Watcher | bool = True,
    command: str | None = None,
    **settings: Any,
) -> SweepResult:
    """Train one Transformer for each size, and write a table of runs with their losses.

    `asked` is a specification or a TOML file; `settings` are those of the command line and take the
    place of its own: `sweep(sizes="10k,30k,100k", tokens="4M", out="results/mine")`. `out` is a
    folder or a URL. What will take longer than `max_hours` is not started, unless `yes`. `progress`
    shows how far it has got, or takes a Watcher; `command` is noted in sweep.json.

    Ctrl-C raises KeyboardInterrupt once everything is saved: the same call goes on, and with more
    sizes trains only those. Raises InputError for what is wrong, before anything is written."""
    watcher = watcher_of(progress)
    Range(0, 1e6).check("--max-hours", max_hours)
    spec = asked_spec(asked, settings)
    if not (spec.sizes or spec.flops or spec.runs):
        fix = "name them, as in: llmscale sweep --sizes 10k,30k,100k,300k"
        raise InputError("no sizes were given", fix)
    check_choices(spec, starting=not dry_run)
    results = open_results(out, asked, spec, "sweep")
    fetch(results, look_only=dry_run)
    folder = results.folder
    command = command or stated_command("sweep", results, spec)
    wanted = spec.data.validation_tokens
    spec = settled(spec, folder.known_sweep().get("basis"))
    check_folder(folder, spec)
    store = prepare_text(spec, watcher)
    plan = _plan(spec, store, folder, watcher)
    if short := held_out_note(wanted, store):
        plan = replace(plan, notes=(*plan.notes, short))
    watcher.planned(plan, store, results.where)
    for line in said_of(true_losses(store, contexts_of(plan))):
        watcher.tell(f"note: {line}")
    said = said_of_ended(spec, plan.kept, finished_runs(folder), folder, settings)
    if said and results.remote is None:  # a URL has weights that are not here
        watcher.tell(f"note: {said}")
    for line in said_of_teachers(run.job for run in plan.runs):
        watcher.tell(f"note: {line}")
    if rewritten := check_runs(folder, plan):
        watcher.warn(rewritten)
    for damage in find_damage(folder):
        watcher.warn(f"{damage.problem}; {damage.fix}")
    watcher.warn_all(plan.notes)
    planned = SweepResult(folder, results.where, plan, describe_text(store))
    if dry_run:
        return planned
    check_room(plan.kept, finished_runs(folder), folder.path)
    if plan.seconds > max_hours * 3600 and not yes:
        ask_to_start(plan, max_hours, watcher)

    def train(plan: Plan, report: Report) -> list[Run]:
        return carry_out(plan, spec, store, folder, command, report)

    plan, runs = train_rounds(
        plan, spec, results, watcher, train, lambda plan: next_round(plan, spec, store, folder)
    )
    ids = {run.job.run_id for run in plan.runs}
    return replace(planned, plan=plan, runs=tuple(run for run in runs if run.run_id in ids))


def _plan(spec: SweepSpec, store: TokenStore, folder: ResultsFolder, watcher: Watcher) -> Plan:
    finished = finished_runs(folder)
    return plan_sweep(
        spec,
        store,
        finished.__contains__,
        tell=lambda text: watcher.tell(f"{text} ..."),
        saved=saved_branch_points(folder),
        diverged=lambda run_id: run_id in finished and finished[run_id].status == "diverged",
        begun=folder_dtype(folder),
        reached=lambda run_id: saved_step(folder.run_folder(run_id).path),
    )


def ask_to_start(plan: Plan, max_hours: float, watcher: Watcher) -> None:
    """Raise InputError unless the watcher may start what takes longer than `max_hours`."""
    time = format_seconds(plan.seconds)
    problem = f"the sweep will take about {time}, more than --max-hours {max_hours:g}"
    if not watcher.may_start(problem):
        raise InputError(problem, "start it with --yes, or plan less")


def train_rounds(
    plan: Plan,
    spec: SweepSpec,
    results: Results,
    watcher: Watcher,
    train: Callable[[Plan, Report], list[Run]],
    following: Callable[[Plan], Plan | None],
) -> tuple[Plan, list[Run]]:
    """`train` a plan, and then those of runs that are tried again, which `following` gives; the
    last plan, and all rows."""
    folder = results.folder
    more: Plan | None = plan
    try:
        with ended_by_signals():
            while more is not None:
                plan = more
                jobs = [run.job for run in plan.runs]
                with (
                    watcher.training(plan, folder) as shown,
                    kept_at(results.remote, shown, watcher.tell) as sent,
                    tracked(spec.track, jobs, folder, sent, watcher.warn) as report,
                ):
                    runs = train(plan, report)
                more = following(plan)
                if more is not None:
                    waiting = counted(len(more.waiting), "run")
                    watcher.tell(f"trying {waiting} again with half the learning rate")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_stopped(plan, folder, results.where)) from None
    return plan, runs


def _stopped(plan: Plan, folder: ResultsFolder, where: str) -> str:
    """What an interrupted sweep leaves behind."""
    finished = finished_runs(folder)
    number = sum(run.job.run_id in finished for run in plan.runs)
    if number:
        done = f"{number} of {counted(len(plan.runs), 'run')} finished, in {where}"
        return f"stopped; {done}, and the same command goes on"
    begun = f"stopped before a run was finished; what was trained is in {where}"
    return f"{begun}, and the same command goes on from there"

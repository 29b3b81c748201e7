"""A whole fine-tuning in one call: from trained models and a task to a table of runs."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.measure.executors import check_executor
from llmscale.measure.lead import Report
from llmscale.measure.sweep.api import MOST_HOURS, ask_to_start, train_rounds
from llmscale.measure.sweep.keeping import check_room, said_of_ended
from llmscale.measure.sweep.opening import Results, fetch
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.sweep.provenance import check_runs, describe_text
from llmscale.measure.sweep.records import find_damage, finished_runs
from llmscale.measure.sweep.remote_results import remote_of
from llmscale.measure.sweep.result import SweepResult
from llmscale.measure.sweep.run import carry_out
from llmscale.measure.sweep.watching import Watcher, watcher_of
from llmscale.measure.text.prepare import Progress
from llmscale.measure.text.tasks.store import prepare_task
from llmscale.measure.trackers import find_trackers
from llmscale.measure.trained.finetuning.parents import find_parents
from llmscale.measure.trained.finetuning.plan import Finetuning, check_folder
from llmscale.measure.trained.finetuning.spec import FinetuneSpec, asked_finetuning
from llmscale.runs.results_folder import ResultsFolder, results_folder
from llmscale.runs.run import Run
from llmscale.settings import Range, stated_options


def finetune(
    asked: FinetuneSpec | Path | str | Sequence[Path | str] | None = None,
    *,
    out: Path | str | None = None,
    max_hours: float = MOST_HOURS,
    yes: bool = False,
    dry_run: bool = False,
    progress: Watcher | bool = True,
    command: str | None = None,
    **settings: Any,
) -> SweepResult:
    """Fine-tune trained models on a task, and write a table of runs, each with its `parent`.

    `asked` are runs, results folders (all of their runs), a specification or a TOML file;
    `settings` are those of the command line: `finetune("results/mine", data="task.jsonl",
    examples="100,1000", method="full,lora")`. All else is as in `sweep`, and so is what comes back.
    Raises InputError for what is wrong, before anything is written."""
    watcher = watcher_of(progress)
    Range(0, 1e6).check("--max-hours", max_hours)
    spec = asked_finetuning(asked, settings)
    if not spec.data.source.strip():
        raise InputError("no task was named", "name one, as in --data TASK.jsonl")
    check_executor(spec.hardware.executor, not dry_run)
    find_trackers(spec.track)
    results = _open_results(out, asked, spec)
    fetch(results, look_only=dry_run)
    command = command or _stated_command(results, spec)
    check_folder(results.folder, spec)
    work = _prepared(spec, results, watcher)
    plan = work.plan(tell=lambda text: watcher.tell(f"{text} ..."))
    watcher.planned(plan, work.store, results.where)
    ended = finished_runs(results.folder)
    said = said_of_ended(spec.as_sweep, plan.kept, ended, results.folder, settings)
    if said and results.remote is None:  # a URL has weights that are not here
        watcher.tell(f"note: {said}")
    if rewritten := check_runs(results.folder, plan):
        watcher.warn(rewritten)
    for damage in find_damage(results.folder):
        watcher.warn(f"{damage.problem}; {damage.fix}")
    watcher.warn_all(plan.notes)
    planned = SweepResult(results.folder, results.where, plan, describe_text(work.store))
    if dry_run:
        return planned
    check_room(plan.kept, ended, results.folder.path)
    if plan.seconds > max_hours * 3600 and not yes:
        ask_to_start(plan, max_hours, watcher)
    plan, runs = _train(work, plan, results, command, watcher)
    ids = {run.job.run_id for run in plan.runs}
    return replace(planned, plan=plan, runs=tuple(run for run in runs if run.run_id in ids))


def _prepared(spec: FinetuneSpec, results: Results, watcher: Watcher) -> Finetuning:
    """The models and the task, read; says what was taken for what."""
    parents = find_parents(spec.runs, spec.arch)
    for remark in parents.remarks:
        watcher.tell(f"note: {remark}")
    with watcher.preparing() as report:
        store = prepare_task(
            spec.data,
            parents.tokenizer,
            parents.end_of_text,
            parents.context,
            report=lambda examples: report(Progress("tokens", examples)),
        )
    for remark in store.remarks:
        watcher.tell(f"note: {remark}")
    return Finetuning(spec, parents, store, results.folder)


def _train(
    work: Finetuning, plan: Plan, results: Results, command: str, watcher: Watcher
) -> tuple[Plan, list[Run]]:
    spec = work.spec.as_sweep

    def train(plan: Plan, report: Report) -> list[Run]:
        def said() -> dict[str, Any]:
            work.put_weights([run.job for run in plan.waiting])
            return work.provenance(plan, command)

        return carry_out(plan, spec, work.store, results.folder, command, report, said)

    return train_rounds(plan, spec, results, watcher, train, work.next_round)


def _open_results(
    out: Path | str | None,
    asked: FinetuneSpec | Path | str | Sequence[Path | str] | None,
    spec: FinetuneSpec,
) -> Results:
    """Where the results go: `out`, a folder named after a TOML file, or after task and models."""
    if out is not None:
        remote = remote_of(str(out))
        return Results(ResultsFolder(remote.folder) if remote else results_folder(str(out)), remote)
    if isinstance(asked, str | Path) and str(asked).endswith(".toml"):
        return Results(ResultsFolder(Path("results") / Path(asked).stem))
    source = Path(spec.data.source.removeprefix("task:").split(",")[0]).name.split(".")[0].lower()
    words = re.sub(r"[^a-z0-9]+", "-", source).strip("-") or "task"
    told = json.dumps([spec.basis(), spec.runs], sort_keys=True)
    digest = hashlib.blake2b(told.encode(), digest_size=3).hexdigest()
    return Results(ResultsFolder(Path("results") / f"finetune-{words}-{digest}"))


def _stated_command(results: Results, spec: FinetuneSpec) -> str:
    """The command that does what a call in Python does, for sweep.json."""
    words = stated_options(spec)
    return command_line("llmscale", "finetune", *spec.runs, *words, "--out", results.where)

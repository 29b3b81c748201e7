"""Carrying the searches of all rungs out in one results folder: in rounds, stopping hopeless trials, resumable."""

import json
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from llmscale.curve_file import CurveFile
from llmscale.errors import InputError, WorkError, listed
from llmscale.executors import Event, Task, pick_executor
from llmscale.job import Job, run_row
from llmscale.lock import only_writer
from llmscale.machine import device_name
from llmscale.quantity import TokenBudget
from llmscale.runs import ResultsFolder, Run, make_folder, refuse_links, write_text
from llmscale.sweep.carry_out import write_spec
from llmscale.sweep.jobs import sweep_dtype
from llmscale.sweep.kernels import check_kernels
from llmscale.sweep.plan import Plan, plan_jobs
from llmscale.sweep.provenance import difference, provenance
from llmscale.sweep.records import FINISHED, finished_runs, read_run, record_end, write_tables
from llmscale.sweep.spec import SweepSpec
from llmscale.tokens import TokenStore
from llmscale.tune.result import Trial, Tuned, Tuning, conclude
from llmscale.tune.search import Grid, Node, Search, search
from llmscale.tune.stopping import Judge, Stop, Track
from llmscale.tune.trials import Rung, rung_of, rungs_of, trial_jobs

if TYPE_CHECKING:
    from llmscale.train.calibrate import Speeds

FILE_NAME = "tune.json"


def check_folder(folder: ResultsFolder, spec: SweepSpec) -> None:
    """Raise InputError where `folder` holds another specification's trials, or something else."""
    path = folder.path
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file", "name a folder with --out")
    before = _read(folder)
    if before is None:
        if path.exists() and any(not entry.name.startswith((".", "README")) for entry in path.iterdir()):
            raise InputError(f"{path} holds files but no {FILE_NAME}", "name a new or empty folder with --out")
        refuse_links(path)
        return
    refuse_links(path)
    changed = difference(before["basis"], json.loads(json.dumps(spec.basis())))
    if changed:
        raise InputError(f"{path} holds trials of another specification: {changed}", "name another folder with --out")


def known_basis(folder: ResultsFolder) -> Any:
    """What the trials of `folder` share, as an earlier command has noted it; None where there is none."""
    try:
        return (_read(folder) or {}).get("basis")
    except InputError:
        return None


class Study:
    """The searches of every rung of `spec`, and of those that the folder holds from earlier commands.

    Carry out `next_round()` until it is None; `tuning()` says at any time what has been found.
    """

    def __init__(
        self, spec: SweepSpec, grid: Grid, store: TokenStore, folder: ResultsFolder, stop_hopeless: bool = True
    ) -> None:
        self.spec, self.grid, self.store, self.folder, self.stop_hopeless = spec, grid, store, folder, stop_hopeless
        before = _read(folder) or {}
        self._dtype = sweep_dtype(spec, store, before.get("hardware", {}).get("dtype"))
        # What jobs are made of: `spec` itself says what was asked for.
        self._settled = replace(spec, hardware=replace(spec.hardware, dtype=self._dtype.dtype))
        self._asked = rungs_of(self._settled, store)
        known = before.get("rungs", ())
        earlier = (rung_of(self._settled, store, rung["size"], _budget(rung["budget"])) for rung in known)
        self._rungs = tuple({(rung.params, rung.tokens): rung for rung in [*earlier, *self._asked]}.values())
        stopped = (trial for trial in before.get("trials", ()) if trial["stop"] and stop_hopeless)
        self._stops = {trial["run_id"]: Stop(**trial["stop"]) for trial in stopped}
        self._finished = finished_runs(folder)
        self._jobs: dict[tuple[Rung, Node], tuple[Job, ...]] = {}
        self._node_of: dict[str, tuple[Rung, Node]] = {}
        self._judge = Judge()
        self._speeds: Mapping[str, Speeds] | None = None
        self._provenance = {key: before[key] for key in before if key not in ("rungs", "trials")}
        self._follow_finished()

    def next_round(self, tell: Callable[[str], None] = lambda text: None) -> Plan | None:
        """The plan of all trials that can be trained now, the cheapest first; None where every search has ended."""
        wanted = []
        for rung in self._asked:
            _, found = self._search(rung)
            jobs = (job for node in found.wanted for job in self._jobs_of(rung, node))
            wanted += [job for job in jobs if job.run_id not in self._finished]
        wanted.sort(key=lambda job: job.flops)
        if not wanted:
            return None
        plan = plan_jobs(wanted, self.spec, self.store, tell=tell, speeds=self._speeds, dtype_reason=self._dtype.reason)
        self._speeds = plan.speeds
        return plan

    def carry_out(self, plan: Plan, command: str, report: Callable[[Event], object]) -> None:
        """Train the trials of one round. Raises WorkError where one failed, KeyboardInterrupt when interrupted."""
        make_folder(self.folder.path)
        with only_writer(self.folder.path):
            check_kernels(self.folder, plan)
            self._provenance = provenance(plan, self.spec, self.store, self.folder, command)
            del self._provenance["runs"]  # of this round alone; `trials` has all
            jobs = {run.job.run_id: run.job for run in plan.runs}
            name = device_name(plan.device)
            for run in plan.runs:
                self._stops.pop(run.job.run_id, None)  # stopped behind a trial that has come to nothing
                write_spec(self.folder, run, plan, self.store)
                self._judge.follow(_track(run_row(run.job, "running", name), run.job.cooldown))

            def pass_on(event: Event) -> bool:
                job = jobs[event.run_id]
                hopeless = event.kind == "logged" and self._is_hopeless(job, event, name)
                if event.kind == "ended":
                    self._end(job, event, name)
                report(event)
                return hopeless

            try:
                hardware = self.spec.hardware
                tasks = [Task((self.folder.run_folder(run_id),)) for run_id in jobs]
                pick_executor(hardware.executor).run(tasks, plan.places, pass_on, *hardware.executor_options)
            finally:
                self._write(final=True)
        rows = [read_run(self.folder, run_id) for run_id in jobs]
        errors = [row.error for row in rows if row and row.status == "failed"]
        if errors:
            problem = f"{len(errors)} of {len(jobs)} trials failed: {listed(dict.fromkeys(errors))}"
            raise WorkError(problem, "mend that; the same command goes on")
        left = [run_id for run_id in jobs if run_id not in self._finished and run_id not in self._stops]
        if left:
            raise WorkError(
                f"{len(left)} of {len(jobs)} trials were ended before their last step", "the same command goes on"
            )

    def tuning(self) -> Tuning:
        """What has been found so far."""
        return conclude([self._tuned(rung) for rung in self._rungs], self.spec.recipe)

    def _search(self, rung: Rung) -> tuple[dict[Node, float], Search]:
        """The losses that the rung's search has met so far, and where it stands: it is gone through from the start."""
        losses: dict[Node, float] = {}
        while True:
            found = search(losses, rung.grid(self.grid))
            known = {node: self._loss(rung, node) for node in found.wanted}
            met = {node: loss for node, loss in known.items() if loss is not None}
            if not met:
                return losses, found
            losses |= met

    def _loss(self, rung: Rung, node: Node) -> float | None:
        """Mean loss over seeds: infinite where one diverged; where one was stopped, as far behind as it was."""
        ids = [job.run_id for job in self._jobs_of(rung, node)]
        runs = [self._finished[run_id] for run_id in ids if run_id in self._finished]
        if any(run.status == "diverged" for run in runs):
            return math.inf
        stops = [self._stops[run_id] for run_id in ids if run_id in self._stops]
        if stops:
            ahead = self._node_of.get(stops[0].behind)
            reached = self._loss(*ahead) if ahead else None
            return None if reached is None else reached + statistics.fmean(stop.gap for stop in stops)
        losses = [run.loss for run in runs if run.loss is not None]
        return statistics.fmean(losses) if len(losses) == len(ids) else None

    def _jobs_of(self, rung: Rung, node: Node) -> tuple[Job, ...]:
        if (rung, node) not in self._jobs:
            jobs = self._jobs[rung, node] = trial_jobs(self._settled, self.store, rung, node)
            self._node_of |= {job.run_id: (rung, node) for job in jobs}
        return self._jobs[rung, node]

    def _is_hopeless(self, job: Job, event: Event, device: str) -> bool:
        """Whether to stop the trial. The rule in use is always trained to its end, to be compared with the best."""
        if job.run_id in self._stops:
            return True
        stop = self._judge.log(job.run_id, event.point["tokens"], event.point["train_loss"])
        rung, node = self._node_of[job.run_id]
        others = (self._stops.get(other.run_id) for other in self._jobs_of(rung, node))
        stop = stop or next((other for other in others if other), None)
        if stop is None or node == Node() or not self.stop_hopeless:
            return False
        stop = self._stops[job.run_id] = replace(stop, share=event.point["tokens"] / rung.tokens)
        self._judge.forget(job.run_id)
        row = run_row(job, "stopped", device, error=str(stop))
        write_text(event.folder / "run.json", json.dumps(asdict(row), indent=2) + "\n")
        return True

    def _end(self, job: Job, event: Event, device: str) -> None:
        """Take note of a run that has ended, and write what is known by now."""
        run = read_run(self.folder, job.run_id)
        if run and run.status in FINISHED:
            self._stops.pop(job.run_id, None)
            self._finished[job.run_id] = run
            if run.status == "done":
                self._judge.finish(job.run_id, run.loss)
            else:
                self._judge.forget(job.run_id)
        else:
            record_end(self.folder, job, event, device)
            self._judge.forget(job.run_id)
        self._write()

    def _write(self, final: bool = False) -> None:
        write_tables(self.folder, final=final)
        payload = {**self._provenance, **self.tuning().to_json()}
        write_text(self.folder.path / FILE_NAME, json.dumps(payload, indent=2) + "\n")

    def _follow_finished(self) -> None:
        """Let the judge compare with what earlier commands have finished."""
        done = {run_id: run for run_id, run in self._finished.items() if run.status == "done"}
        for run in done.values():
            self._judge.follow(_track(run, self.spec.recipe.cooldown))
        if done and self.folder.curves_path.exists():
            for run_id, rows in CurveFile(self.folder.curves_path).each(["tokens", "train_loss"], done):
                for tokens, loss in zip(rows["tokens"].tolist(), rows["train_loss"].tolist(), strict=True):
                    self._judge.recall(run_id, tokens, loss)
        for run_id, run in done.items():
            self._judge.finish(run_id, run.loss)

    def _tuned(self, rung: Rung) -> Tuned:
        losses, found = self._search(rung)
        nodes = dict.fromkeys([*losses, *found.wanted])
        trials = (self._trial(node, job) for node in nodes for job in self._jobs_of(rung, node))
        return Tuned(rung, losses, found, tuple(trials))

    def _trial(self, node: Node, job: Job) -> Trial:
        run, stop = self._finished.get(job.run_id), self._stops.get(job.run_id)
        status = run.status if run else "stopped" if stop else "waiting"
        return Trial(
            run_id=job.run_id,
            size=job.size,
            params=job.shape.params,
            tokens=job.tokens,
            seed=job.seed,
            node=node,
            batch_tokens=job.batch_tokens,
            lr=job.lr,
            status=status,
            loss=run.loss if run else None,
            flops=job.flops,
            stop=stop,
        )


def _track(run: Run, cooldown: float) -> Track:
    group = (run.n_layer, run.d_model, run.n_head, run.d_ff, run.tokens, run.batch_tokens, run.seed)
    return Track(run.run_id, group, run.lr, run.tokens, (1 - cooldown) * run.tokens)


def _budget(table: dict[str, Any] | None) -> TokenBudget | None:
    return None if table is None else TokenBudget(**table)


def _read(folder: ResultsFolder) -> dict[str, Any] | None:
    """What tune.json says, or None where there is none. Raises InputError."""
    path = folder.path / FILE_NAME
    if not path.exists():
        return None
    try:
        payload: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", "name another folder with --out") from error
    if not isinstance(payload, dict) or {"basis", "rungs", "trials"} - set(payload):
        raise InputError(f"{path} is not what a tune writes", "name another folder with --out")
    return payload

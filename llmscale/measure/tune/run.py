"""Carrying the searches of all rungs out in a folder: in rounds, stopping hopeless trials."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError, WorkError, counted, listed
from llmscale.machine import device_name
from llmscale.measure.executors import Event
from llmscale.measure.lead import Report
from llmscale.measure.sweep.jobs import sweep_dtype
from llmscale.measure.sweep.plan import Plan, plan_jobs
from llmscale.measure.sweep.provenance import provenance
from llmscale.measure.sweep.records import (
    finished_runs,
    known_ids,
    read_run,
    record_end,
    recorded_runs,
    write_tables,
)
from llmscale.measure.sweep.run import Book, train_plan
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.tune.result import Trial, Tuned, Tuning, conclude
from llmscale.measure.tune.search import Grid, Node, Search, search
from llmscale.measure.tune.stopping import Judge, Stop, Track
from llmscale.measure.tune.trials import Rung, each_once, rung_of, rungs_of, trial_jobs
from llmscale.measure.tune.tune_json import FILE_NAME, known_tuning
from llmscale.quantity import TokenBudget
from llmscale.runs.curve_file import CurveFile
from llmscale.runs.log import read_progress
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import FINISHED, Run
from llmscale.runs.safe_write import write_json

if TYPE_CHECKING:
    from llmscale.measure.train.calibrate import Speeds

FIRST = (Node(), Node(0, -2), Node(0, 2))
"""What every search begins with."""
_ORDERED = "stops_in_order"
"""Noted in tune.json: trials are stopped by what was finished before their step of the search."""


class Study(Book):
    """The searches of every rung of `spec`, and of those that the folder holds from earlier
    commands.

    Carry out `next_round()` until it is None; `tuning()` says at any time what has been found."""

    SHORTEST_FIRST = True

    def __init__(
        self,
        spec: SweepSpec,
        grid: Grid,
        store: TokenStore,
        folder: ResultsFolder,
        stop_hopeless: bool = True,
    ) -> None:
        self.spec, self.grid, self.store = spec, grid, store
        self.folder, self.stop_hopeless = folder, stop_hopeless
        before = known_tuning(folder)
        begun = before.get("hardware", {}).get("dtype")
        begun = begun or next((run.dtype for run in recorded_runs(folder)), None)
        self._dtype = sweep_dtype(spec, store, begun)
        # What jobs are made of: `spec` itself says what was asked for.
        self._settled = replace(spec, hardware=replace(spec.hardware, dtype=self._dtype.dtype))
        self._asked = rungs_of(self._settled, store)
        rungs = []
        for rung in before.get("rungs", ()):
            budget = rung["budget"]
            if budget is not None:
                budget = TokenBudget(**budget)
            rungs.append(rung_of(self._settled, store, rung["size"], budget))
        self._rungs = each_once([*rungs, *self._asked])
        stopped = (trial for trial in before.get("trials", ()) if trial["stop"] and stop_hopeless)
        self._stops = {trial["run_id"]: Stop(**trial["stop"]) for trial in stopped}
        self._finished = finished_runs(folder)
        self._jobs: dict[tuple[Rung, Node], tuple[Job, ...]] = {}
        self._node_of: dict[str, tuple[Rung, Node]] = {}
        self._before: dict[tuple[Rung, Node], tuple[Node, ...]] = {}
        """The nodes known when the search asked for one: what its trials are compared with."""
        self._judges: dict[str, Judge] = {}
        """Of the trials under way here."""
        self._curves: dict[str, dict[int, float]] = {}
        # What an older version let finish was not to be stopped by it.
        self._reviewed = set(self._finished) if before and not before.get(_ORDERED) else set()
        self._unrecorded: list[Job] = []
        """Trials to stop that were trained to their end before anybody could."""
        self._speeds: Mapping[str, Speeds] | None = None
        if not before:
            self._refuse_others()
        self._provenance = {key: before[key] for key in before if key not in ("rungs", "trials")}

    def _refuse_others(self) -> None:
        """Raise InputError if the folder has trials, but none that this search begins with."""
        known, first = known_ids(self.folder), set[str]()
        for rung, node in itertools.product(self._asked, FIRST):
            first |= {job.run_id for job in self._jobs_of(rung, node)}
        if known and not known & first:
            trials = f"the {counted(len(known), 'trial')} in {self.folder.path}"
            problem = f"none of {trials} is one of this command's"
            fix = "give the command that began them, or name another folder with --out"
            raise InputError(problem, fix)

    def next_round(self, tell: Callable[[str], None] = lambda text: None) -> Plan | None:
        """The plan of all trials that can be trained now, the cheapest first; None if every search
        has ended."""
        wanted = []
        for rung in self._asked:
            _, found = self._search(rung)
            nodes = [node for node in found.wanted if self._loss(rung, node) is None]
            jobs = itertools.chain.from_iterable(self._jobs_of(rung, node) for node in nodes)
            left = (job for job in jobs if job.run_id not in self._finished)
            wanted += [job for job in left if not self._is_stopped(job.run_id)]
        wanted.sort(key=lambda job: job.flops)
        if not wanted:
            return None
        known: dict[str, Any] = {"speeds": self._speeds, "dtype_reason": self._dtype.reason}
        plan = plan_jobs(wanted, self.spec, self.store, tell=tell, **known)
        self._speeds = plan.speeds
        return plan

    def carry_out(self, plan: Plan, command: str, report: Report) -> None:
        """Train the trials of one round. Raises WorkError if one failed; KeyboardInterrupt."""
        self._begun = plan, command
        train_plan(plan, self.spec, self.store, self.folder, self, report)
        ids = [run.job.run_id for run in plan.runs]
        rows = [read_run(self.folder, run_id) for run_id in ids]
        errors = [row.error for row in rows if row and row.status == "failed"]
        if errors:
            failed = f"{len(errors)} of {counted(len(ids), 'trial')} failed"
            problem = f"{failed}: {listed(dict.fromkeys(errors))}"
            raise WorkError(problem, "correct that; the same command goes on")
        ended = {*self._finished, *self._stops}
        left = [run_id for run_id in ids if run_id not in ended]
        if left:
            count = counted(len(ids), "trial")
            problem = f"{len(left)} of {count} were ended before their last step"
            raise WorkError(problem, "the same command goes on")

    def begin(self) -> None:
        plan, command = self._begun
        self._provenance = provenance(plan, self.spec, self.store, self.folder, command)
        del self._provenance["runs"]  # of this round; `trials` has all
        for run in plan.runs:  # some were stopped behind a trial that has come to nothing
            self._stops.pop(run.job.run_id, None)

    def is_unwanted(self, job: Job, event: Event) -> bool:
        """Whether the trial is hopeless."""
        if job.run_id in self._stops:
            return True
        if not self._can_stop(job):
            return False
        points = [event.point]
        if job.run_id not in self._judges:
            # It may go on from an earlier command, or come to be watched late.
            self._judges[job.run_id] = self._judge(job)
            logged = read_progress(event.folder)[0]
            earlier = [point for point in logged if point["step"] < event.point["step"]]
            points = [*earlier, event.point]
        judge = self._judges[job.run_id]
        stops = (judge.log(job.run_id, point["tokens"], point["train_loss"]) for point in points)
        stop = next(filter(None, stops), None)
        if stop is None:
            return False
        self._stops[job.run_id] = stop
        self._record_stop(job, stop)
        return True

    def end(self, job: Job, event: Event) -> None:
        """Take note of a run that has ended, and write what is known by now."""
        self._judges.pop(job.run_id, None)
        run = read_run(self.folder, job.run_id)
        if stop := self._stops.get(job.run_id):
            self._record_stop(job, stop)
        elif run and run.status in FINISHED:
            self._finished[job.run_id] = run
        else:
            record_end(job, event, self._device)
        self.settle(final=False)

    def settle(self, final: bool) -> None:
        """Write the tables and tune.json."""
        tuning = self.tuning()  # which reviews what has ended
        for job in self._unrecorded:
            self._record_stop(job, self._stops[job.run_id])
        self._unrecorded.clear()
        write_tables(self.folder, final=final)
        payload = {**self._provenance, _ORDERED: True, **tuning.to_json()}
        write_json(self.folder.path / FILE_NAME, payload)

    def tuning(self) -> Tuning:
        """What has been found so far."""
        return conclude([self._tuned(rung) for rung in self._rungs], self.spec.recipe)

    def _search(self, rung: Rung) -> tuple[dict[Node, float], Search]:
        """The losses that the rung's search has met, gone through anew, and where it stands."""
        losses: dict[Node, float] = {}
        while True:
            found = search(losses, rung.grid(self.grid))
            for node in found.wanted:
                self._before[rung, node] = tuple(losses)
                self._review(rung, node)
            known = {node: self._loss(rung, node) for node in found.wanted}
            losses |= {node: loss for node, loss in known.items() if loss is not None}
            if not known or None in known.values():
                return losses, found  # a step of the search is done when all of its trials are

    def _loss(self, rung: Rung, node: Node) -> float | None:
        """Mean loss over seeds: infinite if one diverged; if one was stopped, as far behind as it
        was. None while one of them is still to be trained."""
        ids = [job.run_id for job in self._jobs_of(rung, node)]
        if any(run_id not in self._finished and run_id not in self._stops for run_id in ids):
            return None
        runs = [self._finished[run_id] for run_id in ids if run_id in self._finished]
        if any(run.status == "diverged" for run in runs):
            return math.inf
        stops = [self._stops[run_id] for run_id in ids if run_id in self._stops]
        if stops:
            ahead = self._node_of.get(stops[0].behind)
            reached = self._loss(*ahead) if ahead else None
            if reached is None:
                return None
            return reached + statistics.fmean(stop.gap for stop in stops)
        losses = [run.loss for run in runs if run.loss is not None]
        return statistics.fmean(losses) if len(losses) == len(ids) else None

    def _jobs_of(self, rung: Rung, node: Node) -> tuple[Job, ...]:
        if (rung, node) not in self._jobs:
            jobs = self._jobs[rung, node] = trial_jobs(self._settled, self.store, rung, node)
            self._node_of |= {job.run_id: (rung, node) for job in jobs}
        return self._jobs[rung, node]

    def _is_stopped(self, run_id: str) -> bool:
        """Whether the trial was stopped, and what it was behind is known still."""
        stop = self._stops.get(run_id)
        ahead = self._node_of.get(stop.behind) if stop else None
        return ahead is not None and ahead in self._before

    def _judge(self, job: Job) -> Judge:
        """Who watches the trial, knowing what was finished before the search asked for it."""
        rung, node = self._node_of[job.run_id]
        judge = Judge()
        for earlier in self._before[rung, node]:
            for other in self._jobs_of(rung, earlier):
                run = self._finished.get(other.run_id)
                if run is not None and run.status == "done":
                    judge.follow(_track(run, self.spec.recipe.cooldown, self._curve(run.run_id)))
                    judge.finish(run.run_id, run.loss)
        judge.follow(_track(run_row(job, "running", ""), job.cooldown, {}))
        return judge

    def _curve(self, run_id: str) -> dict[int, float]:
        """The training loss of a finished trial by tokens; nothing if its curve is lost."""
        if run_id not in self._curves:
            try:
                run = self.folder.run_folder(run_id)
                if run.curve_path.exists():
                    rows = run.read_curve().to_pydict()
                else:
                    curves = CurveFile(self.folder.curves_path)
                    rows = curves.of(run_id, ["tokens", "train_loss"]).to_dict("list")
                self._curves[run_id] = dict(zip(rows["tokens"], rows["train_loss"], strict=True))
            except (InputError, KeyError):
                self._curves[run_id] = {}
        return self._curves[run_id]

    def _can_stop(self, job: Job) -> bool:
        """The rule in use is always trained to its end, to be compared with the best."""
        return self.stop_hopeless and self._node_of[job.run_id][1] != Node()

    def _review(self, rung: Rung, node: Node) -> None:
        """Stop what was to be stopped and was trained to its end before anybody could."""
        for job in self._jobs_of(rung, node):
            run = self._finished.get(job.run_id)
            if run is None or job.run_id in self._reviewed:
                continue
            self._reviewed.add(job.run_id)
            if run.status != "done" or not self._can_stop(job):
                continue
            judge, curve = self._judge(job), sorted(self._curve(job.run_id).items())
            stops = (judge.log(job.run_id, tokens, loss) for tokens, loss in curve)
            if stop := next(filter(None, stops), None):
                self._stops[job.run_id] = stop
                del self._finished[job.run_id]
                self._unrecorded.append(job)

    @property
    def _device(self) -> str:
        return device_name(self.spec.hardware.picked_device)

    def _record_stop(self, job: Job, stop: Stop) -> None:
        """The row of a stopped trial; nothing is left of its end if it came to that meanwhile."""
        run = self.folder.run_folder(job.run_id)
        run.write_row(run_row(job, "stopped", self._device, error=str(stop)))
        run.curve_path.unlink(missing_ok=True)

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


def _track(run: Run, cooldown: float, points: dict[int, float]) -> Track:
    group = (run.n_layer, run.d_model, run.n_head, run.d_ff, run.tokens, run.batch_tokens, run.seed)
    return Track(run.run_id, group, run.lr, run.tokens, (1 - cooldown) * run.tokens, points)

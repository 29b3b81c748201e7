"""A whole tuning in one call: from what is asked for to the rule that it found."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, Note, counted
from llmscale.measure.sweep.notes import held_out_note
from llmscale.measure.sweep.opening import (
    Results,
    fetch,
    open_results,
    prepare_text,
    stated_command,
)
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.sweep.records import find_damage
from llmscale.measure.sweep.remote_results import kept_at
from llmscale.measure.sweep.spec import SweepSpec, asked_spec, check_choices
from llmscale.measure.sweep.tracking import tracked
from llmscale.measure.sweep.validation import settled
from llmscale.measure.sweep.watching import Watcher, ended_by_signals, watcher_of
from llmscale.measure.train.rule import Rule
from llmscale.measure.tune.result import Tuning
from llmscale.measure.tune.run import Study
from llmscale.measure.tune.search import Grid
from llmscale.measure.tune.spec import SearchSpec
from llmscale.measure.tune.tune_json import check_folder, known_basis
from llmscale.quantity import format_seconds
from llmscale.runs.results_folder import ResultsFolder
from llmscale.settings import options_of
from llmscale.settings.tables import with_keywords


@dataclass(frozen=True, repr=False)
class TuneResult:
    """What a tuning has found, or after a dry run the trials that it would begin with."""

    folder: ResultsFolder
    spec: SweepSpec
    tuning: Tuning
    plan: Plan | None = None
    """Of a dry run: the trials that come next; None if every search has ended."""

    @property
    def rule(self) -> Rule | None:
        """Learning rate and batch as power laws in N and D; None if no search has an optimum."""
        return self.tuning.rule

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to know of the rule."""
        return self.tuning.notes

    def to_json(self) -> dict[str, Any]:
        """As `llmscale tune --json` prints it."""
        return {"out": str(self.folder.path), **self.tuning.to_json()}

    def __repr__(self) -> str:
        ended = sum(rung.finished for rung in self.tuning.rungs)
        return f"TuneResult({self.folder.path}: {ended} of {len(self.tuning.rungs)} searches ended)"

    def _repr_html_(self) -> str:
        from html import escape

        laws = [f"{name} = {fit.power}" for name, fit in self.tuning.fits.items()]
        lines = [repr(self), *laws]
        return "<br>".join(escape(line) for line in lines)


def tune(
    asked: SweepSpec | Path | str | None = None,
    *,
    out: Path | str | None = None,
    dry_run: bool = False,
    progress: Watcher | bool = True,
    command: str | None = None,
    **settings: Any,
) -> TuneResult:
    """Find the learning rate and the batch of each size, and the rule in N and D that they follow.

    `asked`, `out`, `progress` and `command` are as those of `sweep`; `settings` are those of the
    command line: those of a sweep, and `batch`, `refine`, `stop` and `doublings` of the search, as
    SearchSpec says them.

    Ctrl-C raises KeyboardInterrupt once everything is saved: the same call goes on, and more sizes
    add to the rule. Raises InputError for what is wrong, before anything is written, and WorkError
    if a trial fails."""
    watcher = watcher_of(progress)
    of_search = {name: settings.pop(name) for name in options_of(SearchSpec) if name in settings}
    how = with_keywords(SearchSpec(), of_search, "the call")
    spec = asked_spec(asked, settings)
    if not spec.sizes:
        fix = "name them, as in: llmscale tune --sizes 10k,30k,100k --tokens 1M,4M"
        raise InputError("no sizes were given", fix)
    _check_use(spec)
    check_choices(spec, starting=not dry_run)
    results = open_results(out, asked, spec, "tune")
    fetch(results, look_only=dry_run)
    folder = results.folder
    command = command or stated_command("tune", results, spec, how)
    wanted = spec.data.validation_tokens
    spec = settled(spec, known_basis(folder))
    if rewritten := check_folder(folder, spec):
        watcher.warn(rewritten)
    for damage in find_damage(folder):
        watcher.warn(f"{damage.problem}; {damage.fix}")
    store = prepare_text(spec, watcher)
    if short := held_out_note(wanted, store):
        watcher.warn_all((short,))
    grid = Grid(how.batch, how.refine, how.doublings)
    study = Study(spec, grid, store, folder, how.stop)
    plan = study.next_round(tell=lambda text: watcher.tell(f"{text} ..."))
    begun = TuneResult(folder, spec, study.tuning(), plan)
    if dry_run:
        return begun
    _train(study, plan, results, command, watcher)
    return replace(begun, tuning=study.tuning(), plan=None)


def _check_use(spec: SweepSpec) -> None:
    """Raise InputError for a setting that a search of learning rates has no use for."""
    problems = {
        "[recipes]": "a tuning is of one recipe, and [recipes] has more",
        "[data.mixtures]": "a tuning is on one text, and [data.mixtures] has more",
        "epochs": "a tuning has one text for each budget, and epochs asks for several",
        "unique_tokens": "a tuning reads the whole text, and unique_tokens asks for a part of it",
        "retry_diverged": "retry_diverged is for sweeps: to a search, a trial that diverges is an "
        "answer",
        "stack": "stack is always, and a tuning trains each trial by itself, to stop it by itself",
    }
    asked = (
        bool(spec.recipes),
        bool(spec.data.mixtures),
        bool(spec.epochs),
        bool(spec.unique_tokens),
        spec.retry_diverged > 0,
        spec.hardware.stack == "always",
    )
    for (name, problem), is_asked in zip(problems.items(), asked, strict=True):
        if is_asked:
            raise InputError(problem, f"leave {name} out")


def describe_round(plan: Plan) -> str:
    """How many trials come next, and what they cost, in words."""
    return (
        f"{counted(len(plan.runs), 'trial')}, {plan.flops:.2e} FLOPs, about "
        f"{format_seconds(plan.seconds)}, {len(plan.places)} at a time"
    )


def _train(
    study: Study, plan: Plan | None, results: Results, command: str, watcher: Watcher
) -> None:
    """Carry out `plan` and what follows from it, until every search has ended."""
    remote = results.remote
    try:
        with ended_by_signals():
            while plan is not None:
                watcher.tell(describe_round(plan))
                jobs = [run.job for run in plan.runs]
                with (
                    watcher.training(plan, results.folder) as shown,
                    kept_at(remote, shown, watcher.tell) as sent,
                    tracked(study.spec.track, jobs, results.folder, sent, watcher.warn) as report,
                ):
                    study.carry_out(plan, command, report)
                plan = study.next_round()
            if remote and remote.waiting():  # of an earlier command that could not send all
                with kept_at(remote, lambda event: None, watcher.tell):
                    pass
    except KeyboardInterrupt:
        stopped = f"stopped; finished trials are in {results.where}, and the same command goes on"
        raise KeyboardInterrupt(stopped) from None

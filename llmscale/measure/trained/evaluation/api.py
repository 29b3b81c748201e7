"""What `llmscale eval` does: each run on each text and task, and the table of what it is worth."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, listed
from llmscale.machine import pick_device
from llmscale.measure.trained.evaluation.kept import KeptScores, key_of, scores_in_table
from llmscale.measure.trained.evaluation.measures import Measure, measures
from llmscale.measure.trained.evaluation.scores import Evaluation, RunScores, Score
from llmscale.measure.trained.evaluation.spec import EvalSpec
from llmscale.measure.trained.listing import known_tokens
from llmscale.measure.trained.model import TrainedModel, open_model
from llmscale.measure.trained.places import find_run, kept_none, usable_runs
from llmscale.runs.checked import DamagedFile
from llmscale.runs.remote import is_results, is_url, results_at
from llmscale.runs.remote.reading import fetched
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.scores import known_scores
from llmscale.settings import shows_keywords
from llmscale.settings.tables import with_keywords


@dataclass(frozen=True)
class Progress:
    """What is being measured now."""

    run: int
    runs: int
    run_id: str
    name: str
    known: bool
    """Whether it was measured before."""


@shows_keywords(EvalSpec)
def evaluate(
    place: Path | str,
    *,
    report: Callable[[Progress], object] = lambda progress: None,
    **settings: Any,
) -> Evaluation:
    """The loss of trained models on texts, and their scores on tasks: of the run at `place`, or of
    every run of a results folder that can be used.

    Each score becomes columns of the table of runs. What was measured before, of the same weights,
    text and options, is not measured again. Raises InputError."""
    spec = with_keywords(EvalSpec(), settings, "the call")
    device = pick_device(spec.device)
    asked = measures(spec)
    folders, remarks = _runs_at(place)
    runs: list[RunScores] = []
    left_out: list[tuple[str, str]] = []
    usable: list[RunFolder] = []
    trained: TrainedModel | None = None
    for folder in folders:
        try:
            trained = _opened(folder, device, spec.arch)
        except InputError as error:
            if len(folders) == 1:
                raise
            left_out.append((folder.run_id, error.problem))
            continue
        KeptScores(folder).check(measure.name for measure in asked)
        for measure in asked:
            measure.check(trained)
        usable.append(folder)
        remarks += [remark for remark in trained.remarks if remark not in remarks]
    if trained is None:
        raise InputError(
            f"none of the {len(folders)} runs of {place} can be used: {left_out[0][1]}",
            f"see which can: llmscale models {place}",
        )
    for number, folder in enumerate(usable):
        if trained.folder != folder:
            trained = _opened(folder, device, spec.arch)
        told = _Told(report, number, len(usable))
        runs.append(_measured(trained, asked, told, spec.again, remarks))
    remarks += [remark for measure in asked for remark in measure.remarks]
    remarks += _mixed(folders[0], asked, runs)
    table, why = scores_in_table(ResultsFolder(folders[0].path.parent.parent))
    if why:
        remarks.append(why)
    return Evaluation(str(place), _by_size(runs), tuple(left_out), table, tuple(remarks))


@dataclass(frozen=True)
class _Told:
    report: Callable[[Progress], object]
    run: int
    runs: int

    def __call__(self, run_id: str, name: str, known: bool) -> None:
        self.report(Progress(self.run, self.runs, run_id, name, known))


def _opened(folder: RunFolder, device: str, arch: str | None) -> TrainedModel:
    trained = open_model(folder.path, device=device, arch=arch)
    _ = trained.tokenizer, trained.end_of_text
    return trained


def _measured(
    trained: TrainedModel, asked: list[Measure], told: _Told, again: bool, remarks: list[str]
) -> RunScores:
    kept = KeptScores(trained.folder)
    scores: list[Score] = []
    known: list[str] = []
    for measure in asked:
        key = key_of(trained, measure.kind, measure.name, measure.decided_by(trained))
        score = None
        try:
            score = None if again else kept.find(measure.name, key)
        except DamagedFile as error:
            said = f"{error.path} was damaged ({error.reason})"
            remarks.append(f"{said}: {measure.name} was measured again")
        told(trained.run_id, measure.name, score is not None)
        if score is not None:
            known.append(measure.name)
        else:
            score = measure.measure(trained)
            kept.add(score, key, measure.asked)
        scores.append(score)
    job, row = trained.spec.job, trained.row
    bits = known_scores(trained.folder).get("bits")
    return RunScores(
        run_id=trained.run_id,
        size=job.size,
        recipe=job.recipe,
        seed=job.seed,
        params=job.shape.params,
        tokens=job.tokens if row is None else known_tokens(row),
        scores=tuple(scores),
        known=tuple(known),
        bits=None if bits is None else round(bits),
    )


def _mixed(folder: RunFolder, asked: list[Measure], runs: list[RunScores]) -> list[str]:
    """What is to be said of columns in which other runs were measured otherwise."""
    mine = {run.run_id for run in runs}
    others = [
        KeptScores(one)
        for one in ResultsFolder(folder.path.parent.parent).run_folders
        if one.run_id not in mine
    ]
    found = []
    for measure in asked:
        otherwise = [one for one in others if one.is_otherwise(measure.name, measure.asked)]
        if otherwise:
            runs_otherwise = listed(one.folder.run_id for one in otherwise)
            found.append(
                f"in the columns of {measure.name}, run {runs_otherwise} was measured on another "
                "text or with other options, and does not compare: measure all runs alike"
            )
    return found


def _by_size(runs: list[RunScores]) -> tuple[RunScores, ...]:
    return tuple(sorted(runs, key=lambda run: (run.params, run.tokens or 0, run.seed)))


def _runs_at(place: Path | str) -> tuple[list[RunFolder], list[str]]:
    """The runs to measure, and what was taken for what to find them. Raises InputError."""
    results = results_with_weights(place)
    if results is None:
        found = find_run(place)
        return [found.folder], list(found.remarks)
    folders = usable_runs(results)
    if not folders:
        raise kept_none(place)
    return folders, []


def results_with_weights(place: Path | str) -> ResultsFolder | None:
    """The results folder at `place`, of a URL with its weights fetched; None if that is something
    else. Raises InputError."""
    text = str(place).strip()
    if is_url(text):
        if "/runs/" in text:
            return None
        remote = results_at(text)
        fetched(remote, is_results)
        return ResultsFolder(remote.folder)
    path = Path(text).expanduser()
    if text and (path / "runs").is_dir() and not (path / "spec.json").exists():
        return ResultsFolder(path)
    return None

"""Scores that a run has: kept in its folder, each with what decided it, so that it is measured
once; and as columns of the table of runs."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmscale.errors import InputError, LlmscaleError
from llmscale.measure.sweep.records import write_tables
from llmscale.measure.text.sources import digest_of
from llmscale.measure.trained.evaluation.scores import Score
from llmscale.measure.trained.model import TrainedModel
from llmscale.runs.checked import DamagedFile, known_object, read_object
from llmscale.runs.lock import only_writer
from llmscale.runs.remote import is_results, results_at, url_of
from llmscale.runs.remote.lock import RemoteLock
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import write_json
from llmscale.runs.scores import read_scores, write_scores
from llmscale.runs.unchanged import stamp_of

FILE: Final = "evaluations.json"
REVISION: Final = 1
"""Raised when the code changes what is measured: what was measured before is measured again."""


@dataclass(frozen=True)
class KeptScores:
    """What was measured of a run, in its folder."""

    folder: RunFolder

    @property
    def path(self) -> Path:
        return self.folder.path / FILE

    def find(self, name: str, key: str) -> Score | None:
        """The score of this name, if `key` decided it and the run has its columns. Raises
        DamagedFile."""
        try:
            kept = read_object(self.path).get(name)
        except FileNotFoundError:
            return None
        if kept is None:
            return None
        try:
            if kept["key"] != key:
                return None
            score = Score.from_json(kept["score"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DamagedFile(self.path, f"{name} is no score") from error
        has_columns = read_scores(self.folder).items() >= score.columns.items()
        return score if score.name == name and has_columns else None

    def check(self, names: Iterable[str]) -> None:
        """Raise InputError if the run's columns cannot be read, or if training wrote those of one
        of `names`, or if only case tells one from what was measured before."""
        columns = {column.lower() for column in read_scores(self.folder)}
        known = {name.lower(): name for name in known_object(self.path)}
        for name in names:
            before = known.get(name.lower(), name)
            if before != name:
                raise InputError(
                    f"run {self.folder.run_id} has scores of {before}, from which only case tells "
                    f"{name}",
                    f"give it another name: NAME=FILE, or measure {before} again",
                )
            if f"share_{name}".lower() in columns:
                raise InputError(
                    f"{name} is a source of the mixture of run {self.folder.run_id}, whose "
                    f"training wrote loss_{name}",
                    "give what is measured another name: NAME=FILE",
                )

    def others_with(self, score: Score) -> list[str]:
        """The names of the other scores that have a column of `score`."""
        found = []
        for name, kept in known_object(self.path).items():
            with suppress(LookupError, TypeError, ValueError, AttributeError):
                columns = Score.from_json(kept["score"]).columns
                if name != score.name and columns.keys() & score.columns.keys():
                    found.append(name)
        return found

    def is_otherwise(self, name: str, asked: str) -> bool:
        """Whether the score of this name is there, and something else was asked for."""
        kept = known_object(self.path).get(name)
        return isinstance(kept, dict) and kept.get("asked") != asked

    def add(self, score: Score, key: str, asked: str) -> None:
        """Keep it, and its numbers as the run's columns. `asked` is what was asked for, of whatever
        run. Raises InputError."""
        if others := self.others_with(score):
            raise InputError(
                f"{score.name} and {others[0]} of run {self.folder.run_id} have a column of one "
                "name",
                "give it another name: NAME=FILE",
            )
        write_scores(self.folder, score.columns)
        known = known_object(self.path)
        kept = {"key": key, "asked": asked, "score": score.to_json()}
        write_json(self.path, {**known, score.name: kept})


def key_of(trained: TrainedModel, kind: str, name: str, decided_by: Mapping[str, Any]) -> str:
    """What decides a score: the weights, the tokenizer, the text or task, and the options."""
    weights = stamp_of(trained.folder.weights_path)
    parts = json.dumps(decided_by, sort_keys=True, default=str)
    tokenizer = digest_of([trained.tokenizer.to_str(), str(trained.end_of_text)])
    return digest_of([str(REVISION), kind, name, parts, str(weights), str(trained.step), tokenizer])


def scores_in_table(results: ResultsFolder) -> tuple[str | None, str | None]:
    """The table of runs, which has the scores now; or None, with the reason if there is a table."""
    if not results.runs_path.exists():
        return None, None
    try:
        why = write_columns(results)
    except LlmscaleError as error:
        why = f"{error.problem}: the scores are in scores.json of each run"
    return (None, why) if why else (str(results.runs_path), None)


def write_columns(results: ResultsFolder) -> str | None:
    """Have the scores as columns of the table of runs, at its URL if it is there. Why they are not
    yet, or None. Raises WriteError."""
    try:
        with only_writer(results.path):
            write_tables(results, final=True)
            _send(results)
    except InputError as error:
        return f"{error.problem}: scores become columns of the table when it is written next"
    return None


def _send(results: ResultsFolder) -> None:
    url = url_of(results.path)
    if url is None:
        return
    remote = results_at(url)
    names = (FILE, "scores.json", "runs.parquet")
    with RemoteLock(remote.files):
        remote.push(lambda name: is_results(name) and name.endswith(names))

"""Experiment trackers that a sweep's runs are shown in: `--track mlflow` is trackers/mlflow.py.

A member names the package that it `NEEDS`, of the extra `trackers`, and defines `begin(run) ->
Session` for a `TrackedRun`. A run that is resumed is begun again, under the same id, and logged
from its first step on: the member sees to it that no step is there twice. Data go to the folder of
the sweep unless the tracker's own environment variables name another place. A tracker of one's own
is such a `begin` in a file anywhere: `--track ./mine.py:my_tracker`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from llmscale.machine.needs import need
from llmscale.menu import Menu


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when it begins."""

    run_id: str
    name: str
    config: dict[str, Any]
    """Settings, one level deep: numbers and texts."""
    folder: Path
    """The results folder."""
    first_step: int
    """The first step that is going to be logged: of a resumed run again the first of all."""


class Session(Protocol):
    """One run in one tracker."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """A logged step."""

    def end(self, summary: dict[str, Any] | None) -> None:
        """The run has ended, with its row of the table of runs; None if it was stopped and can be
        resumed.
        """


def find_trackers(names: Sequence[str]) -> dict[str, Any]:
    """The members by name.

    Raises InputError for one that there is not or whose package is not installed.
    """
    found = {}
    for name in dict.fromkeys(names):
        member = TRACKERS.find(name)
        if hasattr(member, "NEEDS"):
            need(member.NEEDS, f"--track {name}", "'llmscale[trackers]'")
        found[name] = member
    return found


def finite(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of `row` that are finite."""
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _ready(found: Any) -> Any:
    return found if hasattr(found, "begin") else SimpleNamespace(begin=found)


TRACKERS: Menu[Any] = Menu(__name__, "tracker", "--track", ready=_ready, own="my_tracker")

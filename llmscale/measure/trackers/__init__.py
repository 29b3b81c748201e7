"""Experiment trackers that a sweep's runs are shown in: `--track mlflow` is trackers/mlflow.py.

A member names the package that it `NEEDS`, of the extra `trackers`, and defines `begin(run) ->
Session` for a `TrackedRun`. A run that is resumed is begun again, under the same id, and logged
from its first step on: the member sees to it that no step is there twice. Data go to the folder of
the sweep unless the tracker's own environment variables name another place. A tracker of one's own
is such a `begin` in a file anywhere: `--track ./mine.py:my_tracker`."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from llmscale.errors import InputError
from llmscale.machine.needs import need
from llmscale.menu import Menu, is_own


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
            install = member.NEEDS if is_own(name) else "'llmscale[trackers]'"
            need(member.NEEDS, f"--track {name}", install)
        found[name] = member
    return found


def finite(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of `row` that are finite."""
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _tried(found: Any, title: str) -> Any:
    """A tracker of the user's own. It is not begun here: that may need a server."""
    member = found if hasattr(found, "begin") else SimpleNamespace(begin=found)
    session = member.begin
    fix = "write a function begin(run) that returns an object with log(step, metrics), end(summary)"
    if not callable(session):
        raise InputError(f"{title} is a {type(session).__name__}, and no function", fix)
    inspect.signature(session).bind("a run")
    if isinstance(session, type):
        missing = [name for name in ("log", "end") if not callable(getattr(session, name, None))]
        if missing:
            raise InputError(f"{title} has no {' and no '.join(missing)}", fix)
    return member


TRACKERS: Menu[Any] = Menu(__name__, "tracker", "--track", tried=_tried, own="my_tracker")

"""Whether a worker on this machine hangs: it has trained no step for much longer than usual."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.measure.train.run_spec import known_spec
from llmscale.quantity import format_seconds
from llmscale.runs.run_folder import RunFolder

FIRST_STEP_SECONDS = 1800.0
"""How long a first step may take: the worker waits for a dying one, loads torch, compiles."""
HANG_SECONDS, HANG_FACTOR = 600.0, 20.0
"""A worker hangs without a step for so long, and so many times what a logged one takes."""


@dataclass
class Rhythm:
    """How often a run has logged a step, and how fast it trains."""

    intervals: list[float] = field(default_factory=list)
    """Seconds from one logged step to the next."""
    logged: float | None = None
    """When its present worker has logged a step last, by the monotonic clock."""
    speed: float = 0.0
    """Training tokens a second."""

    def log(self, point: dict[str, Any]) -> None:
        """Take note of a logged step."""
        now = time.monotonic()
        if self.logged is not None:
            self.intervals.append(now - self.logged)
        self.logged = now
        self.speed = point["tokens_per_second"] or self.speed


@dataclass
class Pulse:
    """The signs of life of a worker since it was given its task."""

    rhythms: Mapping[Path, Rhythm]
    """Of its runs."""
    last_news: float = field(default_factory=time.monotonic)
    has_stepped: bool = False

    def __post_init__(self) -> None:
        for rhythm in self.rhythms.values():
            rhythm.logged = None

    def hear(self, folder: Path, said: Mapping[str, Any]) -> None:
        """Take note of a message of the worker's."""
        self.last_news = time.monotonic()
        if "point" in said:
            self.rhythms[folder].log(said["point"])
        if "point" in said or "step" in said:
            self.has_stepped = True

    def why_hung(self, running: Sequence[Path]) -> str:
        """Why the worker is taken to hang at what is `running`; empty if it is not."""
        silent = time.monotonic() - self.last_news
        if silent <= (HANG_SECONDS if self.has_stepped else FIRST_STEP_SECONDS):
            return ""
        intervals = [each for folder in running for each in self.rhythms[folder].intervals]
        usual = statistics.median(intervals) if intervals else 0.0
        evaluation = _evaluation_seconds(running[0], self.rhythms[running[0]].speed)
        if silent <= HANG_FACTOR * (usual + evaluation):
            return ""
        usually = f", a logged step usually takes {usual:.2g} s" if intervals else ""
        return f"its process hung (no step in {format_seconds(silent)}{usually}) and was killed"


def _evaluation_seconds(folder: Path, speed: float) -> float:
    """About what evaluating takes: a token costs a third of one that is trained on."""
    if not speed:
        return 0.0
    spec = known_spec(RunFolder(folder))
    tokens = (spec.validation_tokens if spec else None) or 0
    return tokens / 3 / speed

"""How long several runs take together: of a plan before training, and for `llmscale status`."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

DOUBLING_EFFICIENCY = 0.87
"""What is left of the speed of each thread when their number is doubled."""


@dataclass(frozen=True)
class Duration:
    """How long a run takes on its place, and the run that must have done a share before."""

    seconds: float
    after: int | None = None
    """Number of the run it waits for."""
    share: float = 0.0
    threads: int = 1 << 30
    """How many threads can share its batches, at most."""

    def on(self, threads: int) -> "Duration":
        """The same run, of which this is the time on one thread, on a place of that many."""
        return replace(self, seconds=self.seconds / speedup(min(threads, self.threads)))


def speedup(threads: int) -> float:
    """The speed of that many threads, in that of one."""
    return float(threads * DOUBLING_EFFICIENCY ** math.log2(threads))


def makespan(durations: Sequence[Duration], workers: int, busy: Sequence[float] = ()) -> float:
    """Seconds until the last run ends, if a free worker takes the longest run that can start
    (Graham 1969).

    `busy` are the seconds that runs under way still take, which come before all others."""
    waiting = sorted(range(len(durations)), key=lambda number: -durations[number].seconds)
    started: dict[int, float] = {}
    free = [0.0] * workers
    for seconds in busy:
        heapq.heapreplace(free, free[0] + seconds)
    end = max(free)

    def ready_at(number: int) -> float:
        run = durations[number]
        if run.after is None:
            return 0.0
        if run.after not in started:
            return math.inf
        return started[run.after] + run.share * durations[run.after].seconds

    while waiting:
        now = heapq.heappop(free)
        chosen = next((number for number in waiting if ready_at(number) <= now), None)
        if chosen is None:
            heapq.heappush(free, min(map(ready_at, waiting)))
            continue
        waiting.remove(chosen)
        started[chosen] = now
        end = max(end, now + durations[chosen].seconds)
        heapq.heappush(free, now + durations[chosen].seconds)
    return end

"""Where to train: on which GPUs, or on the CPU with as many workers and threads each as end a sweep soonest."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmscale.errors import InputError
from llmscale.executors import Place
from llmscale.machine import available_cores
from llmscale.sweep.spec import Hardware

DOUBLING_EFFICIENCY = 0.87
"""What is left of the speed of each thread when their number is doubled."""


@dataclass(frozen=True)
class Duration:
    """How long a run takes on its place, and which one it waits for: until that has done the given share."""

    seconds: float
    after: int | None = None
    """Number of the run it waits for."""
    share: float = 0.0
    threads: int = 1 << 30
    """How many threads can share its batches, at most."""

    def on(self, threads: int) -> "Duration":
        """The same run, of which this is the time on one thread, on a place of so many."""
        return replace(self, seconds=self.seconds / speedup(min(threads, self.threads)))


def speedup(threads: int) -> float:
    """The speed of so many threads, in that of one."""
    return float(threads * DOUBLING_EFFICIENCY ** math.log2(threads))


def makespan(durations: Sequence[Duration], workers: int) -> float:
    """Seconds until the last run ends, where a free worker takes the longest run that can start (Graham 1969)."""
    waiting = sorted(range(len(durations)), key=lambda number: -durations[number].seconds)
    started: dict[int, float] = {}
    free = [0.0] * workers
    end = 0.0

    def ready_at(number: int) -> float:
        run = durations[number]
        if run.after is None:
            return 0.0
        return started[run.after] + run.share * durations[run.after].seconds if run.after in started else math.inf

    while waiting:
        now = heapq.heappop(free)
        chosen = next((number for number in waiting if ready_at(number) <= now), None)
        if chosen is None:
            heapq.heappush(free, min(ready_at(number) for number in waiting))
            continue
        waiting.remove(chosen)
        started[chosen] = now
        end = max(end, now + durations[chosen].seconds)
        heapq.heappush(free, now + durations[chosen].seconds)
    return end


def best_workers(most: int, cores: int, durations: Sequence[Duration]) -> int:
    """The number of workers, at most `most`, of cores // workers threads each, that end soonest; of equals the most.

    `durations` are those on one thread, in any unit.
    """

    def ends(workers: int) -> float:
        return makespan([run.on(cores // workers) for run in durations], workers)

    return min(range(most, 0, -1), key=ends)


def allot_places(hardware: Hardware, most: int, device: str, durations: Sequence[Duration]) -> tuple[Place, ...]:
    """One place a GPU; on the CPU as many as are asked for or end soonest, at most `most`, which share the cores.

    On a cluster one a run, as far as no number is asked for: it says how many of them it takes at a time.
    """
    cores, asked = available_cores(), hardware.workers
    cpus = hardware.slurm.cpus if hardware.executor == "slurm" else hardware.ray.cpus
    if hardware.executor == "slurm" or (hardware.executor == "ray" and (cpus or device == "cuda")):
        threads = cpus or 1
        return (Place(threads, 0 if device == "cuda" else None),) * max(1, min(asked or len(durations), len(durations)))
    together = hardware.gpus_per_run
    if together > 1:
        import torch

        here = torch.cuda.device_count()
        shares = min(here // together, asked or here)
        several = [tuple(range(share * together, (share + 1) * together)) for share in range(shares)]
        return tuple(Place(max(1, cores // here), gpus[0], gpus) for gpus in several)
    if device == "cuda":
        import torch

        gpus = min(torch.cuda.device_count(), asked or torch.cuda.device_count())
        return tuple(Place(max(1, cores // gpus), gpu) for gpu in range(gpus))
    workers = min(asked, most) if asked else best_workers(min(cores, most), cores, durations)
    return (Place(max(1, cores // workers)),) * workers


def check_gpus(together: int, device: str) -> None:
    """Raise InputError where so many GPUs cannot train one run."""
    import torch

    here = torch.cuda.device_count() if device == "cuda" else 0
    if together > max(1, here):
        raise InputError(
            f"gpus_per_run is {together}, and there are {here} GPUs to train on here",
            "take as many as there are, or leave --gpus-per-run out",
        )

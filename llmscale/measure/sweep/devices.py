"""Where to train: on which GPUs, or on the CPU with as many workers and threads each as end a sweep
soonest.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmscale.errors import InputError
from llmscale.machine import available_cores
from llmscale.measure.executors import Place
from llmscale.measure.sweep.hardware import Hardware

DOUBLING_EFFICIENCY = 0.87
"""What is left of the speed of each thread when their number is doubled."""
RUNS_A_GPU = 4
"""Small runs that share a GPU, at most, if nobody says otherwise: each leaves it idle while its
host works.
"""
SHARED_GPU_EFFICIENCY = 0.75
"""What is left of the speed of each run when so many more share a GPU that their number is doubled:
an assumption for estimates of time, which has not been measured."""


@dataclass(frozen=True)
class Duration:
    """How long a run takes on its place, and which one it waits for: until that has done the given
    share.
    """

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


def makespan(durations: Sequence[Duration], workers: int, busy: Sequence[float] = ()) -> float:
    """Seconds until the last run ends, where a free worker takes the longest run that can start
    (Graham 1969).

    `busy` are the seconds that runs under way still take, which come before all others.
    """
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
        return (
            started[run.after] + run.share * durations[run.after].seconds
            if run.after in started
            else math.inf
        )

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
    """The number of workers, at most `most`, of cores // workers threads each, that end soonest; of
    equals the most.

    `durations` are those on one thread, in any unit.
    """

    def ends(workers: int) -> float:
        return makespan([run.on(cores // workers) for run in durations], workers)

    return min(range(most, 0, -1), key=ends)


def slowdown(place: Place) -> float:
    """How many times as long a run takes on a GPU that it shares as on one of its own, to estimate
    a sweep's time.
    """
    runs = round(1 / place.memory_share)
    return float(SHARED_GPU_EFFICIENCY ** -math.log2(runs))


def allot_places(
    hardware: Hardware,
    most: int,
    device: str,
    durations: Sequence[Duration],
    small: int = 0,
    large: int = 0,
) -> tuple[Place, ...]:
    """On the CPU as many places as are asked for or end soonest, at most `most`, which share the
    cores.

    A GPU has one, or several if more runs at a time are asked for, or if some tasks are `small` and
    not `large`: at most the `most` that its memory holds. On a cluster there is one a run, as far
    as no number is asked for: it says how many of them it takes at a time."""
    cores, asked = available_cores(), hardware.workers
    cpus = hardware.slurm.cpus if hardware.executor == "slurm" else hardware.ray.cpus
    if hardware.executor == "slurm" or (hardware.executor == "ray" and (cpus or device == "cuda")):
        threads = cpus or 1
        return (Place(threads, 0 if device == "cuda" else None),) * max(
            1, min(asked or len(durations), len(durations))
        )
    together = hardware.gpus_per_run
    if together > 1:
        import torch

        here = torch.cuda.device_count()
        shares = min(here // together, asked or here)
        several = [
            tuple(range(share * together, (share + 1) * together)) for share in range(shares)
        ]
        return tuple(Place(max(1, cores // here), gpus[0], gpus) for gpus in several)
    if device == "cuda":
        import torch

        here = torch.cuda.device_count()
        return gpu_places(here, cores, asked, most, small, large)
    workers = min(asked, most) if asked else best_workers(min(cores, most), cores, durations)
    return (Place(max(1, cores // workers)),) * workers


def gpu_places(
    here: int, cores: int, asked: int | None, most: int, small: int, large: int
) -> tuple[Place, ...]:
    """Places on the `here` GPUs of this machine, for `small` tasks, which leave one idle most of
    the time, and others.

    `asked` is the number of tasks at a time, and each GPU's memory holds `most` of them. If nobody
    asks, each has a core of its own."""
    gpus = min(here, asked or here)
    if asked:
        wanted = -(-asked // gpus)
    else:
        beside_large = min(1, large)
        wanted = min(RUNS_A_GPU, -(-(small + beside_large) // gpus), max(1, cores // gpus))
    on_each = max(1, min(wanted, most))
    count = min(gpus * on_each, asked or gpus * on_each)
    # The first places, which get the longest runs, lie on different GPUs.
    return tuple(
        Place(max(1, cores // count), number % gpus, memory_share=1 / on_each)
        for number in range(count)
    )


def check_gpus(together: int, device: str) -> None:
    """Raise InputError where so many GPUs cannot train one run."""
    import torch

    here = torch.cuda.device_count() if device == "cuda" else 0
    if together > max(1, here):
        raise InputError(
            f"gpus_per_run is {together}, and there are {here} GPUs to train on here",
            "take as many as there are, or leave --gpus-per-run out",
        )

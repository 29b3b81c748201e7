"""Where to train: on which GPUs, or with how many workers and threads of the CPU."""

import math
from collections.abc import Sequence

from llmscale.errors import InputError
from llmscale.machine import available_cores
from llmscale.measure.executors import EXECUTORS, Place
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.makespan import Duration, makespan

RUNS_A_GPU = 4
"""Small runs that share a GPU by default, at most: each leaves it idle while its host works."""
SHARED_GPU_EFFICIENCY = 0.75
"""What is left of the speed of each run when so many more share a GPU that their number is doubled:
an assumption for estimates of time, which has not been measured."""


def best_workers(most: int, cores: int, durations: Sequence[Duration]) -> int:
    """The number of workers, at most `most`, of cores // workers threads each, that end soonest; of
    equals the most. `durations` are those on one thread, in any unit."""

    def ends(workers: int) -> float:
        return makespan([run.on(cores // workers) for run in durations], workers)

    return min(range(most, 0, -1), key=ends)


def slowdown(place: Place) -> float:
    """How many times as long a run takes on a GPU that it shares, to estimate a sweep's time."""
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
    executor = EXECUTORS.find(hardware.executor)
    threads = executor.threads_elsewhere(hardware.executor_options, device)
    if threads is not None:
        count = max(1, min(asked or len(durations), len(durations)))
        return (Place(threads, 0 if device == "cuda" else None),) * count
    together = hardware.gpus_per_run
    if together > 1:
        import torch

        here = torch.cuda.device_count()
        firsts = range(0, together * min(here // together, asked or here), together)
        several = [tuple(range(first, first + together)) for first in firsts]
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
    beside_large = min(1, large)
    wanted = min(RUNS_A_GPU, -(-(small + beside_large) // gpus), max(1, cores // gpus))
    if asked:
        wanted = -(-asked // gpus)
    on_each = max(1, min(wanted, most))
    count = min(gpus * on_each, asked or gpus * on_each)
    # The first places, which get the longest runs, lie on different GPUs.
    return tuple(
        Place(max(1, cores // count), number % gpus, memory_share=1 / on_each)
        for number in range(count)
    )


def check_gpus(together: int, device: str) -> None:
    """Raise InputError if that many GPUs cannot train one run."""
    import torch

    here = torch.cuda.device_count() if device == "cuda" else 0
    if together > max(1, here):
        raise InputError(
            f"gpus_per_run is {together}, and there are {here} GPUs to train on here",
            "take as many as there are, or leave --gpus-per-run out",
        )

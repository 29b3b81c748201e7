"""How fast whole training steps are: the loop itself, timed on tokens of no meaning."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from llmscale.measure.train.backend import compile_for, keep_compiled_code, set_precision
from llmscale.measure.train.batches import Batches
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.curves import Member
from llmscale.measure.train.job import LOGGED_STEPS, Job, JobText, make_job
from llmscale.measure.train.loop import Listener, train
from llmscale.measure.train.memory import forget_peak_memory, peak_memory
from llmscale.measure.train.recipe import Recipe
from llmscale.runs.run import CurvePoint
from llmscale.runs.shape import TOKENS_PER_PARAM, Shape

SAMPLE_TOKENS = 1_000_000
STEPS_A_POINT = {"cpu": 1, "cuda": 10}
"""Steps between two times that the loop reports, where a GPU's host waits, as it does seldom."""
MIN_POINTS = 3
WARMING_SHARE = 0.25
"""Share of the reported times, from the first on, that is left out: caches fill, clocks settle."""
READ_BATCHES = 5


@dataclass(frozen=True)
class Throughput:
    """Whole training steps of one job: reading, forward, backward, clipping, optimiser."""

    tokens_per_second: float
    """Median over the times that the loop reported."""
    slowest: float
    """Tokens/s between the two reports farthest apart, and the two nearest."""
    fastest: float
    first_step_seconds: float
    """From nothing to the end of the first step: building the model, compiling it."""
    reading_share: float
    """Time that reading a step's sequences takes by itself, as a share of the step."""
    peak_memory_bytes: int
    """On a GPU what tensors held, on the CPU the whole process."""
    steps: int


def measure_throughput(
    job: Job,
    conditions: Conditions,
    tokens: np.ndarray,
    seconds: float,
    steps_a_point: int | None = None,
    seeds: int = 1,
) -> Throughput:
    """Train `job` on `tokens` for about `seconds` after its first step, three reported times at
    least.

    Several `seeds` of it are trained as one stack, and tokens/s are those of all together."""
    device = conditions.device
    # The loop reports LOGGED_STEPS times a run.
    steps = LOGGED_STEPS * (steps_a_point or STEPS_A_POINT[device])
    timed = replace(
        job,
        sequences=steps * job.batch_sequences,
        text_tokens=len(tokens),
        warmup_steps=steps,  # rates so low that nothing diverges
        evaluations=1,
    )
    validation = tokens[: job.shape.context + 1]
    points: list[CurvePoint] = []
    first_step = 0.0

    def note_first_step() -> bool:
        nonlocal first_step
        first_step = first_step or time.perf_counter()
        return False

    def report(point: CurvePoint) -> None:
        if points and point.run_id != points[0].run_id:
            return  # another seed of the stack, at the same step
        points.append(point)
        if len(points) > MIN_POINTS and time.perf_counter() - first_step > seconds:
            raise _Enough

    forget_peak_memory(device)
    if conditions.compile:
        keep_compiled_code()
        passes = conditions.micro_batch, seeds
        compile_for((job.shape, job.dtype, job.parametrization, job.optimizer, *passes))
    started = time.perf_counter()
    unhurried = replace(conditions, checkpoint_seconds=float("inf"))
    listener = Listener(report=report, stop=note_first_step)
    with tempfile.TemporaryDirectory() as name, as_in_training(conditions.threads):
        every = [replace(timed, seed=timed.seed + number) for number in range(seeds)]
        members = [Member(one, Path(name) / str(one.seed)) for one in every]
        with suppress(_Enough):
            train(members, unhurried, tokens, validation, listener)
    memory = peak_memory(device)
    settled = points[max(1, int(WARMING_SHARE * len(points))) - 1 :]
    speeds = [(b.tokens - a.tokens) / (b.seconds - a.seconds) for a, b in pairwise(settled)]
    speed = statistics.median(speeds)
    return Throughput(
        tokens_per_second=speed,
        slowest=min(speeds),
        fastest=max(speeds),
        first_step_seconds=first_step - started,
        reading_share=_reading_seconds(timed, conditions, tokens) * speed / job.batch_tokens,
        peak_memory_bytes=memory,
        steps=points[-1].step,
    )


def throughput_job(shape: Shape, batch_sequences: int, dtype: str, optimizer: str = "adamw") -> Job:
    """A job to time: `shape` by the usual recipe, `batch_sequences` a step, 20 tokens a weight."""
    batch_tokens, tokens = batch_sequences * shape.context, TOKENS_PER_PARAM * shape.params
    recipe = Recipe(shape.arch, shape.context, optimizer=optimizer, batch_tokens=batch_tokens)
    text = JobText("sample", "", SAMPLE_TOKENS, validation_tokens=shape.context)
    return make_job(shape.name, shape, tokens, recipe, text, seed=0, dtype=dtype)


def ends_and_middle(by_cost: Sequence[Shape]) -> list[Shape]:
    """The first, a middle and the last of the shapes: enough to know the speed of all."""
    last = len(by_cost) - 1
    return [by_cost[place] for place in sorted({0, round(last / 2), last})]


def sample_tokens(vocab_size: int, count: int = SAMPLE_TOKENS) -> np.ndarray:
    """Token numbers as frequent as words are, P(rank) ∝ 1/rank (Zipf 1949), in random order."""
    frequencies = 1 / np.arange(1, vocab_size + 1)
    edges = np.cumsum(frequencies) / frequencies.sum()
    ranks = np.searchsorted(edges, np.random.default_rng(0).random(count), side="right")
    return np.minimum(ranks, vocab_size - 1).astype(np.uint16 if vocab_size <= 2**16 else np.uint32)


@contextmanager
def as_in_training(threads: int) -> Iterator[None]:
    """torch as a process that trains sets it: so many threads, and float32 that is float32."""
    threads_before, precision_before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    set_precision()
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_float32_matmul_precision(precision_before)


class _Enough(Exception):  # noqa: N818 - it ends the loop, and nothing is wrong
    pass


def _reading_seconds(job: Job, conditions: Conditions, tokens: np.ndarray) -> float:
    """Seconds that the host takes to read the sequences of one step: the median of a few."""
    batches = Batches(tokens, job.shape.context, job.seed, conditions.device)
    seconds = []
    for step in range(READ_BATCHES + 1):
        started = time.perf_counter()
        for offset in range(0, job.batch_sequences, conditions.micro_batch):
            batches.read(step * job.batch_sequences + offset, conditions.micro_batch)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])  # the first shuffles the epoch

"""Training in the process of a test: one run, or a stack of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmscale.measure.text.tokenizer import train_bpe, vocab_size
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.curves import Member, Outcome
from llmscale.measure.train.job import Job, JobText, make_job, run_row
from llmscale.measure.train.kept_weights import write_weights
from llmscale.measure.train.loop import Listener, train
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_spec import RunSpec
from llmscale.measure.transformer import build_model
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.shape import shape_for


def train_one(
    job: Job,
    conditions: Conditions,
    train_tokens: np.ndarray,
    validation_tokens: np.ndarray,
    folder: Path,
    *,
    start: Path | None = None,
    branch_points: Mapping[int, Path] | None = None,
    **hears: Callable[..., Any],
) -> Outcome:
    """`hears` are those of a Listener."""
    member = Member(job, folder, start, branch_points or {})
    texts = train_tokens, validation_tokens
    (outcome,) = train([member], conditions, *texts, Listener(**hears))
    return outcome


def train_stack(
    jobs: Sequence[Job],
    conditions: Conditions,
    train_tokens: np.ndarray,
    validation_tokens: np.ndarray,
    folders: Sequence[Path],
    **hears: Callable[..., Any],
) -> list[Outcome]:
    texts = train_tokens, validation_tokens
    return train(members_of(jobs, folders), conditions, *texts, Listener(**hears))


def members_of(jobs: Sequence[Job], folders: Sequence[Path]) -> list[Member]:
    return [Member(job, folder) for job, folder in zip(jobs, folders, strict=True)]


def untrained_run(
    text: Path,
    results: Path,
    *,
    seed: int = 0,
    size: str = "2x32x2",
    loss: float = 4.0,
    **recipe: object,
) -> Path:
    """The folder of a run that kept its first weights, in float32, and the tokenizer of `text`: for
    whatever uses a model and does not ask how good it is."""
    tokenizer = train_bpe((text.read_text(encoding="utf-8"),), 300)
    settings = Recipe(**{"context": 32, **recipe})  # type: ignore[arg-type]
    size_of = {"vocab_size": vocab_size(tokenizer), "context": settings.context}
    shape = shape_for(size, **size_of, arch=settings.arch)
    of_text = JobText(text.name, "f", 100_000, 10_000)
    job = make_job(size, shape, 50_000, settings, of_text, seed=seed, dtype="float32")
    folder = RunFolder(results / "runs" / job.run_id)
    folder.path.mkdir(parents=True)
    RunSpec(job, CPU, keep="float32").write(folder)
    model = build_model(shape, seed, job.parametrization)
    write_weights(folder.weights_path, model.state_dict(), job)
    folder.tokenizer_path.write_text(tokenizer.to_str())
    folder.write_row(run_row(job, "done", "cpu", loss=loss))
    return folder.path


VOCAB = 60


CPU = Conditions("cpu", micro_batch=4)


def text(tokens: int, seed: int) -> np.ndarray:
    """Tokens of a Markov chain, in which there is something to learn."""
    random = np.random.default_rng(seed)
    steps = random.integers(1, 4, tokens) * random.integers(1, 3, tokens)
    return (np.cumsum(steps) % VOCAB).astype(np.uint16)


TRAIN, VALIDATION = text(60_000, 0), text(5_000, 1)


def job(tokens: int = 16_000, size: str = "2x16x1", **recipe: object) -> Job:
    settings = Recipe(**{"context": 32, "batch_tokens": 256, **recipe})  # type: ignore[arg-type]
    shape = shape_for(size, vocab_size=VOCAB, context=32, arch=settings.arch)
    text = JobText("chain", "f", len(TRAIN), len(VALIDATION))
    return make_job(size, shape, tokens, settings, text, seed=0, dtype="float32")


def run(job: Job, folder: Path, conditions: Conditions = CPU) -> Outcome:
    return train_one(job, conditions, TRAIN, VALIDATION, folder)


def without_times(outcome: Outcome) -> list[CurvePoint]:
    return [replace(point, tokens_per_second=None, seconds=0.0) for point in outcome.curve]

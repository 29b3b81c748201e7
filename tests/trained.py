"""Training in the process of a test: one run, or a stack of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.curves import Member, Outcome
from llmscale.measure.train.job import Job
from llmscale.measure.train.loop import Listener, train


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

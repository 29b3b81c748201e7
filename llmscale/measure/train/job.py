"""A job: all that decides a training run, and the id that follows from it."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from llmscale.measure.schedules import SCHEDULES, Schedule
from llmscale.measure.train import recipe as rules
from llmscale.measure.train.distillation import Distillation
from llmscale.measure.train.finetuning import FineTuning
from llmscale.measure.train.recipe import DEFAULT, Recipe
from llmscale.menu import texts_of
from llmscale.runs.columns import fields_from
from llmscale.runs.run import Run
from llmscale.runs.shape import Shape

AS_KEPT = "as kept"
"""Begins the `rounded` of a job whose weights are those of its parent, next to rounded ones."""
REVISION = 1
"""Raised when the training code changes what a job gives: old runs are not taken for new ones."""
ADDED_LATER: dict[str, Any] = {
    "parametrization": "standard",
    "shuffled_sequences": None,
    "finetuning": None,
    "distillation": None,
    "rounded": None,
}
"""Fields younger than the first results, with what was meant before: that does not enter the id."""
NAMES_ONLY = ("size", "data", "recipe", "retry_of")
"""Fields that do not enter the id: what they stand for does."""
EVALUATION_SPEED = 2.0
"""How many tokens are evaluated in the time that one is trained on, if nothing is measured: 1.8 at
35k parameters to 3.5 at 400k, on a CPU. (By FLOPs it would be three.)"""
EVALUATION_SHARE, FORWARD_SHARE = 0.1, 1 / 3
"""FLOPs of all evaluations as a share of training's, at most; and of a token, of only forward."""
LOGGED_STEPS = 400
"""Rows of a run's curve, at most."""


@dataclass(frozen=True)
class Job:
    """One run to train. Jobs that differ in names only (NAMES_ONLY) have equal ids."""

    size: str
    shape: Shape
    sequences: int
    """Training sequences of `length` tokens."""
    text_tokens: int
    """The first tokens of the training text, of which sequences are drawn without replacement."""
    batch_sequences: int
    lr: float
    warmup_steps: int
    optimizer: str
    schedule: str
    cooldown: float
    beta2: float
    weight_decay: float
    clip: float
    evaluations: int
    """Times the validation set is read, the last after the last step."""
    seed: int
    dtype: str
    data: str
    data_fingerprint: str
    parametrization: str = "standard"
    shuffled_sequences: int | None = None
    """Sequences in a part of the text within which their order is random; None: all of it."""
    recipe: str = DEFAULT
    """Which of the sweep's recipes gave the settings above."""
    retry_of: str | None = None
    """The run that this one is again with half its learning rate."""
    finetuning: FineTuning | None = None
    """What of it is a fine-tuning's; None: it is trained on a text."""
    distillation: Distillation | None = None
    """The teacher that it learns from, besides its text; None: there is none."""

    rounded: str | None = None
    """To what its weights were rounded once they were trained, as `int4-group32`; None: they were
    not."""

    @cached_property
    def run_id(self) -> str:
        """12 hex digits of a hash over everything that decides the outcome."""
        deciding = {key: value for key, value in asdict(self).items() if key not in NAMES_ONLY}
        for name, meant_before in ADDED_LATER.items():
            if deciding[name] == meant_before:
                del deciding[name]
        canonical = json.dumps({**deciding, "revision": REVISION}, sort_keys=True)
        return hashlib.blake2b(canonical.encode(), digest_size=6).hexdigest()

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return self.finetuning.length if self.finetuning else self.shape.context

    @property
    def trained_shape(self) -> Shape:
        """The shape at the length of its sequences, which is what they cost."""
        return replace(self.shape, context=self.length)

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model in training, padding included."""
        return self.sequences * self.length

    @property
    def unique_tokens(self) -> int:
        """Different tokens trained on: all, but for a budget larger than the text."""
        return min(self.tokens, self._text_sequences * self.length)

    @property
    def epochs(self) -> float:
        """Times the text is read; above 1 if the budget is larger than the text."""
        return self.sequences / self._text_sequences

    @property
    def _text_sequences(self) -> int:
        if self.finetuning:
            return self.finetuning.examples
        return (self.text_tokens - 1) // self.shape.context

    @property
    def text_length(self) -> int:
        """How much of the training text it reads: tokens, or rows of a task."""
        return self.finetuning.examples if self.finetuning else self.text_tokens

    @property
    def steps(self) -> int:
        """Optimiser steps; the last takes what is left of the sequences."""
        return -(-self.sequences // self.batch_sequences)

    @property
    def batch_tokens(self) -> int:
        return self.batch_sequences * self.length

    @property
    def flops(self) -> float:
        """Training FLOPs: tokens x flops_per_token."""
        return float(self.tokens) * self.flops_per_token

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs a token, in sequences of its length."""
        return self.trained_shape.flops_per_token

    @property
    def teacher_flops(self) -> float:
        """FLOPs of the teacher's forward passes in training, which `flops` leaves out."""
        if self.distillation is None:
            return 0.0
        return self.tokens * self.distillation.flops_per_token(self.length)

    @property
    def log_every(self) -> int:
        """Steps from one row of the curve to the next."""
        return max(1, self.steps // LOGGED_STEPS)

    @property
    def evaluated_steps(self) -> frozenset[int]:
        """The steps after which the validation set is read."""
        times = range(1, self.evaluations + 1)
        return frozenset(round(self.steps * time / self.evaluations) for time in times)

    @property
    def branch_step(self) -> int:
        """Steps that this run has in common with every longer run of the same beginning; 0 if
        there are none.

        WSD's constant phase, less if its cooldown is so short that the steps which `train_loss`
        is taken over, the last 5%, would not all be logged as by a run of its own."""
        # What a results folder holds may be of a schedule that this command does not name.
        if not (SCHEDULES.is_here(self.schedule) and SCHEDULES.find(self.schedule).branches):
            return 0
        logged = int(0.95 * self.steps) - self.log_every
        return max(0, min(self.learning_rates().cooldown_start, logged))

    def begins_like(self, other: "Job") -> bool:
        """Whether both are the same run up to the smaller `branch_step` of the two."""
        return self.beginning == other.beginning

    @cached_property
    def beginning(self) -> "Job":
        """This job without what matters later only, and the part of the text that it begins in."""
        part = min(self.shuffled_sequences or self._text_sequences, self._text_sequences)
        job = self.unnamed
        return replace(job, sequences=0, evaluations=0, text_tokens=0, shuffled_sequences=part)

    @property
    def unnamed(self) -> "Job":
        """This job without the names that do not decide its outcome."""
        return replace(self, size="", data="", recipe=DEFAULT, retry_of=None)

    def retried(self) -> "Job":
        """This job again with half the learning rate."""
        return replace(self, lr=self.lr / 2, retry_of=self.run_id)

    def learning_rates(self) -> Schedule:
        return SCHEDULES.find(self.schedule)(self.steps, self.warmup_steps, self.cooldown)

    def own_texts(self) -> dict[str, str]:
        """The files of the user's own that it names, as `menu.receive` takes them."""
        return texts_of((self.shape.arch, self.optimizer, self.schedule))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_row(job: Job, status: str, device: str, **measured: Any) -> Run:
    """The row of the table of runs for `job`, with what was `measured` of it; the rest is empty. A
    column of which nothing is measured has the value of that name of the job or its shape."""
    described = fields_from(Run, job, job.shape, job.finetuning)
    return Run(**{**described, "status": status, "device": device, **measured})


@dataclass(frozen=True)
class JobText:
    """What a job reads."""

    data: str
    fingerprint: str
    train_tokens: int
    """The first tokens of the training text, which its sequences are drawn from."""
    validation_tokens: int
    shuffled_sequences: int | None = None
    """As in Job."""


def make_job(
    size: str,
    shape: Shape,
    tokens: int,
    recipe: Recipe,
    text: JobText,
    *,
    seed: int,
    dtype: str,
    begins_like: int | None = None,
    name: str = DEFAULT,
    distillation: Distillation | None = None,
) -> Job:
    """The job that trains `shape` on `tokens` tokens by `recipe`, called `name`, in whole
    sequences: rounded down.

    `begins_like` is the smallest of several budgets that begin with the same steps: with its
    warm-up, and with the batch and learning rate of `recipe.TRUNK_FACTOR` times as many tokens."""
    smallest, ruling = tokens, tokens
    if begins_like is not None:
        smallest, ruling = begins_like, rules.TRUNK_FACTOR * begins_like
    batch_sequences = recipe.batch_sequences(shape.params, ruling)
    batch_tokens = batch_sequences * shape.context
    return Job(
        size=size,
        shape=shape,
        sequences=tokens // shape.context,
        text_tokens=text.train_tokens,
        batch_sequences=batch_sequences,
        lr=recipe.learning_rate(shape.params, ruling),
        warmup_steps=round(rules.warmup_tokens(shape.params, smallest) / batch_tokens),
        optimizer=recipe.optimizer,
        parametrization=recipe.parametrization,
        schedule=recipe.schedule,
        cooldown=recipe.cooldown,
        beta2=rules.beta2(batch_tokens),
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        evaluations=evaluations(tokens, text.validation_tokens),
        seed=seed,
        dtype=dtype,
        data=text.data,
        data_fingerprint=text.fingerprint,
        shuffled_sequences=text.shuffled_sequences,
        recipe=name,
        distillation=distillation,
    )


def evaluations(tokens: int, validation_tokens: int) -> int:
    """How often to read the validation set: 20 times, or what costs a tenth of training."""
    return int(min(20, max(1, EVALUATION_SHARE * tokens / (validation_tokens / 3))))

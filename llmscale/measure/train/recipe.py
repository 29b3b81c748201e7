"""The recipe: everything that decides a training run but size, tokens, seed and data; and its rules
in size.

The learning rate is a rule in N (non-embedding weights plus output projection) and D (tokens), the
batch one in D."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmscale.errors import InputError
from llmscale.measure.optimizers import OPTIMIZERS
from llmscale.measure.parametrization import BASE, PARAMETRIZATIONS
from llmscale.measure.schedules import SCHEDULES
from llmscale.runs.shape import ARCHITECTURES, LEAST_CONTEXT, MOST_CONTEXT, TOKENS_PER_PARAM
from llmscale.settings import Range, check_settings, setting

if TYPE_CHECKING:
    from llmscale.measure.train.rule import Rule

RECIPE: Final = "Recipe"
"""The group of these settings."""
# Batch: 0.58 D^0.571 tokens, whatever the size (Li et al. 2025, "Step Law"): with one token budget
# every size takes equally many steps.
BATCH_TOKENS, BATCH_EXPONENT = 0.58, 0.571
# Learning rate: measured by experiments/learning_rate.py from 35k to 430k parameters and 1M to 4M
# tokens. Along 20 tokens a parameter it falls as N^-0.336, the exponent that Porian et al. 2024
# found from 5M to 900M; Step Law's exponents are -0.713 and 0.307.
LEARNING_RATE = (0.1458, -0.643, 0.307)
MOST_LEARNING_RATE = 0.03
"""The rule goes no higher: no optimum above it was measured."""
LARGE_BATCH_TOKENS = 524_288
TRUNK_FACTOR = 2
"""Budgets that share a trunk take batch and learning rate at this many times the smallest: the
middle of a factor of four, which larger budgets that are added later leave as it is."""


DEFAULT = "default"
"""The name of the recipe that [recipe] itself describes; variants have names of their own."""


@dataclass(frozen=True)
class Recipe:
    """How every run of a sweep is trained. `lr` and `batch_tokens` of None take the rules below."""

    arch: str = setting(
        "llama",
        help="The architecture: `llama` (RMSNorm, rotary positions, SwiGLU), `gpt2` (LayerNorm, "
        "learned positions, GELU), `moe:16x2` (LLaMA with 2 of 16 experts for each token), or one "
        "of your own, as `./mine.py:MyModel`.",
        group=RECIPE,
        choices=lambda: ARCHITECTURES,
    )
    context: int = setting(
        256,
        help="Tokens a sequence.",
        group=RECIPE,
        within=Range(LEAST_CONTEXT, MOST_CONTEXT),
    )
    lr: float | None = setting(
        None,
        help="Peak learning rate for every size, in place of the rule.",
        usual="a rule in N and D",
        group=RECIPE,
        within=Range(0, 1e6, above=True),
    )
    lr_scale: float = setting(
        1.0, help="Factor on the learning rate.", group=RECIPE, within=Range(0, 1e6, above=True)
    )
    batch_tokens: int | None = setting(
        None,
        help="Tokens a step for every size, in place of the rule.",
        usual="a rule in D",
        group=RECIPE,
        within=Range(1, 1e12),
    )
    rule: str | None = setting(
        None,
        help="A results folder of llmscale tune (or its tune.json) whose measured rule in N and "
        "D takes the place of the built-in one.",
        usual="the built-in rule",
        group=RECIPE,
        metavar="FOLDER",
    )
    optimizer: str = setting(
        "adamw",
        help="The optimiser: `adamw`, `muon` for the matrices of blocks, or one of your own, as "
        "`./mine.py:MyOptimizer`.",
        group=RECIPE,
        choices=lambda: OPTIMIZERS,
    )
    parametrization: str = setting(
        "standard",
        help="How initialisation and steps follow width and depth; with `mup` one learning rate "
        "suits every size.",
        group=RECIPE,
        choices=lambda: PARAMETRIZATIONS,
    )
    schedule: str = setting(
        "wsd",
        help="The schedule of the learning rate: `wsd` (warm-up, constant, cooldown), `cosine`, "
        "`linear`, `constant`, or one of your own, as `./mine.py:my_schedule`.",
        group=RECIPE,
        choices=lambda: SCHEDULES,
    )
    cooldown: float = setting(
        0.2,
        help="Share of the steps over which WSD cools down.",
        group=RECIPE,
        within=Range(0, 1),
    )
    weight_decay: float = setting(
        0.1,
        help="Decoupled, as a share of each weight a step at learning rate 1.",
        group=RECIPE,
        within=Range(0, 1),
    )
    clip: float = setting(
        1.0,
        help="Largest norm of the gradient; larger ones are scaled down to it.",
        group=RECIPE,
        within=Range(0, 1e9, above=True),
    )
    teacher: str | None = setting(
        None,
        help="A trained run, or a results folder with it as its largest, that runs learn from: the "
        "loss is then (1 - w) cross-entropy + w T² divergence from the teacher's predictions "
        "(Hinton et al. 2015).",
        usual="no teacher",
        group=RECIPE,
        metavar="RUN",
    )
    distill_weight: float = setting(
        0.5,
        help="w, the weight of what the teacher says; 0 is training without it.",
        group=RECIPE,
        within=Range(0, 1),
    )
    distill_temperature: float = setting(
        2.0,
        help="T, by which the logits of teacher and student are divided.",
        group=RECIPE,
        within=Range(0, 1000, above=True),
    )
    trunk: bool = setting(
        True,
        help="Whether the token budgets of one size share learning rate, batch and warm-up: all "
        "steps before WSD's cooldown.",
        group=RECIPE,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        _ = self.tuned_rule

    def check_teacher(self) -> None:
        """Raise InputError for settings of a teacher that is not there, and for one of no name."""
        if self.teacher is not None and not self.teacher.strip():
            raise InputError(
                "the teacher is empty", "name a trained run, as in --teacher results/NAME"
            )
        usual = type(self).__dataclass_fields__
        for name in ("distill_weight", "distill_temperature"):
            if self.teacher is None and getattr(self, name) != usual[name].default:
                raise InputError(
                    f"{name} is {getattr(self, name):g}, and there is no teacher",
                    f"name a teacher next to it, or leave {name} out",
                )

    @cached_property
    def tuned_rule(self) -> "Rule | None":
        """The rule in the file that `rule` names, or None. Raises InputError."""
        from llmscale.measure.train.rule import read_rule

        return None if self.rule is None else read_rule(Path(self.rule))

    def learning_rate(self, params: int, tokens: int) -> float:
        """Peak learning rate for N = `params` and D = `tokens`.

        The built-in rule under `mup` is that of the base shape on 20 tokens a parameter, whatever N
        and D: optimisers scale it by width (parametrization.py)."""
        from llmscale.measure.train.rule import PowerRule

        tuned = self.tuned_rule
        if tuned is not None:
            rule = tuned.lr.at(params, tokens)
        else:
            if self.parametrization == "mup":
                params, tokens = BASE.params, TOKENS_PER_PARAM * BASE.params
            rule = min(MOST_LEARNING_RATE, PowerRule(*LEARNING_RATE).at(params, tokens))
        return self.lr_scale * (rule if self.lr is None else self.lr)

    def batch_sequences(self, params: int, tokens: int) -> int:
        """Sequences a step for N = `params` and D = `tokens`: the largest power of two within the
        rule's, at least 1. By a tuned rule the power of two that is nearest in the logarithm."""
        if self.batch_tokens is not None:
            return max(1, round(self.batch_tokens / self.context))
        tuned = self.tuned_rule
        if tuned and tuned.batch_tokens:
            batch = tuned.batch_tokens.at(params, tokens)
            return int(2 ** max(0, round(math.log2(batch / self.context))))
        sequences = int(BATCH_TOKENS * tokens**BATCH_EXPONENT / self.context)
        return int(2 ** (max(1, sequences).bit_length() - 1))


def warmup_tokens(params: int, tokens: int) -> float:
    """One token of warm-up a parameter, at most a tenth of the run (Porian et al. 2024)."""
    return min(params, 0.1 * tokens)


def beta2(batch_tokens: int) -> float:
    """AdamW's second decay: 0.99 for small, noisy batches, 0.95 for large (Porian et al. 2024)."""
    return 0.95 if batch_tokens >= LARGE_BATCH_TOKENS else 0.99

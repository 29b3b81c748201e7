"""How every run of a fine-tuning is trained, and its rules in size and examples. Light: `--help`
reads the declarations."""

import math
from dataclasses import dataclass
from typing import Final

from llmscale.measure.optimizers import OPTIMIZERS
from llmscale.measure.schedules import SCHEDULES
from llmscale.measure.train.finetuning import FULL, LORA, SCRATCH
from llmscale.measure.train.recipe import BATCH_EXPONENT, BATCH_TOKENS, RECIPE, Recipe
from llmscale.settings import Range, check_settings, setting

RATE_SHARES: Final = {FULL: 1.0, LORA: 3.0, SCRATCH: 1.0}
"""Peak learning rate as a share of the rule for training from new weights: the best of 0.1, 0.3, 1
and of 1, 3, 10 by experiments/finetuning/task_learning_rate.py. Adapters take a few times as much,
as Schulman et al. 2025 (LoRA Without Regret) found of larger models: about 10 times."""


@dataclass(frozen=True)
class FinetuneRecipe:
    """How every run is fine-tuned. TOML table `[recipe]`."""

    lr: float | None = setting(
        None,
        help="Peak learning rate for every run, in place of the rule.",
        usual="a rule in N and the tokens learnt from, and by method",
        group=RECIPE,
        within=Range(0, 1e6, above=True),
    )
    lr_scale: float = setting(
        1.0, help="Factor on the learning rate.", group=RECIPE, within=Range(0, 1e6, above=True)
    )
    batch_examples: int | None = setting(
        None,
        help="Examples a step, in place of the rule.",
        usual="a rule in the tokens learnt from",
        group=RECIPE,
        within=Range(1, 1e9),
    )
    optimizer: str = setting(
        "adamw", help="The optimiser of full fine-tuning.", group=RECIPE, choices=lambda: OPTIMIZERS
    )
    schedule: str = setting(
        "linear",
        help="The schedule of the learning rate.",
        group=RECIPE,
        choices=lambda: SCHEDULES,
    )
    warmup: float = setting(
        0.1,
        help="Share of the steps over which the learning rate rises.",
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
    rank: int = setting(
        8, help="Rank of LoRA's adapters.", group=RECIPE, within=Range(1, 1_000_000)
    )
    alpha: float = setting(
        16.0,
        help="LoRA's factor on its adapters, divided by the rank.",
        group=RECIPE,
        within=Range(0, 1e6, above=True),
    )
    matrices: str = setting(
        "all",
        help="The matrices of blocks that LoRA adapts: `all`, or their names with commas between, "
        "as in `attention` or `attention.qkv,mlp`.",
        group=RECIPE,
        metavar="NAMES",
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def learning_rate(self, method: str, params: int, tokens: float, parametrization: str) -> float:
        """Peak learning rate for N = `params` and all `tokens` learnt from, repetitions counted."""
        if self.lr is not None:
            return self.lr_scale * self.lr
        rule = Recipe(parametrization=parametrization).learning_rate(params, max(1, round(tokens)))
        return self.lr_scale * RATE_SHARES[method] * rule

    def batch_of(self, tokens: float, examples: float) -> int:
        """Examples a step: the largest power of two within the rule of batches (train/recipe.py),
        for `examples` that have `tokens` in all, repetitions counted."""
        if self.batch_examples is not None:
            return self.batch_examples
        wanted = BATCH_TOKENS * tokens**BATCH_EXPONENT * examples / tokens
        return int(2 ** int(math.log2(max(1.0, wanted))))

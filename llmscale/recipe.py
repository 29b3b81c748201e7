"""The recipe: everything that decides a training run but size, tokens, seed and data; and its rules in size.

The learning rate is a rule in N (non-embedding weights plus output projection), the batch one in D.
"""

from dataclasses import dataclass

from llmscale.errors import InputError
from llmscale.optimizers import optimizer_names
from llmscale.schedule import SCHEDULES
from llmscale.shape import ARCHITECTURES

# Batch: 0.58 D^0.571 tokens, whatever the size (Li et al. 2025, "Step Law"): with one token budget every size takes
# equally many steps.
BATCH_TOKENS, BATCH_EXPONENT = 0.58, 0.571
# Learning rate: below 1M parameters measured by experiments/learning_rate.py, where the optimum falls from 0.017 at 35k
# to 0.005 at 430k; above, it goes on with the exponent that Porian et al. 2024 found from 5M to 900M.
LR_PARAMS, LR = 1e6, 0.0034
SMALL_LR_EXPONENT, LARGE_LR_EXPONENT = -1 / 2, -1 / 3
LARGE_BATCH_TOKENS = 524_288


@dataclass(frozen=True)
class Recipe:
    """How every run of a sweep is trained. `lr` and `batch_tokens` of None take the rules below."""

    arch: str = "llama"
    context: int = 256
    lr: float | None = None
    """Peak learning rate for every size, in place of the rule."""
    lr_scale: float = 1.0
    """Factor on the learning rate."""
    batch_tokens: int | None = None
    """Tokens a step for every size, in place of the rule."""
    optimizer: str = "adamw"
    schedule: str = "wsd"
    cooldown: float = 0.2
    """Share of the steps over which WSD cools down."""
    weight_decay: float = 0.1
    clip: float = 1.0
    """Largest norm of the gradient; larger ones are scaled down to it."""

    def __post_init__(self) -> None:
        menus = {"arch": ARCHITECTURES, "schedule": SCHEDULES, "optimizer": optimizer_names()}
        for name, choices in menus.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} {getattr(self, name)!r} is not known", f"choose one of {', '.join(choices)}")
        for name in ("context", "lr", "lr_scale", "batch_tokens", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}", f"{name} is above zero")
        for name in ("cooldown", "weight_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}", f"{name} lies between 0 and 1")

    def learning_rate(self, params: int) -> float:
        """Peak learning rate for N = `params`."""
        exponent = SMALL_LR_EXPONENT if params < LR_PARAMS else LARGE_LR_EXPONENT
        rule = LR * (params / LR_PARAMS) ** exponent
        return self.lr_scale * (rule if self.lr is None else self.lr)

    def batch_sequences(self, tokens: int) -> int:
        """Sequences a step for a run of D = `tokens`: the largest power of two within the rule's tokens, at least 1."""
        if self.batch_tokens is not None:
            return max(1, round(self.batch_tokens / self.context))
        sequences = int(BATCH_TOKENS * tokens**BATCH_EXPONENT / self.context)
        return int(2 ** (max(1, sequences).bit_length() - 1))


def warmup_tokens(params: int, tokens: int) -> float:
    """One token of warm-up a parameter, at most a tenth of the run (Porian et al. 2024)."""
    return min(params, 0.1 * tokens)


def beta2(batch_tokens: int) -> float:
    """AdamW's second decay: 0.99 for small batches, whose gradients are noisy, 0.95 for large (Porian et al. 2024)."""
    return 0.95 if batch_tokens >= LARGE_BATCH_TOKENS else 0.99

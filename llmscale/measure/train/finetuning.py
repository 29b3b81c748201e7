"""What makes a run a fine-tuning: the weights that it begins with, and the examples it learns."""

from dataclasses import dataclass
from typing import Any

from llmscale.measure.train.low_rank import LowRank
from llmscale.runs.checked import WrongValue, check_count, typed

FULL, LORA, SCRATCH = "full", "lora", "scratch"
"""The recipes of fine-tuning: all weights, low-rank adapters, and the same from new weights."""
FINETUNED = (FULL, LORA)
"""Those of which the parent is the model that they begin with."""


@dataclass(frozen=True)
class FineTuning:
    """Part of a job, all of it in the run's id. Without `weights` the model begins as a new one: it
    is the control that says what pretraining is worth."""

    examples: int
    """Different training examples: one a sequence."""
    length: int
    """Tokens of a sequence: as many as the longest example needs, at most the context."""
    task_tokens: int
    """Tokens of these examples without padding, prompts included: D_F of Hernandez et al. 2021."""
    trained_params: int
    """Weights that are trained: all, or those of adapters."""
    parent: str | None = None
    """The run whose weights it begins with."""
    weights: str | None = None
    """The digest of these weights."""
    pretrain_tokens: int = 0
    """What the parent was trained on."""
    low_rank: LowRank | None = None
    """The adapters that are trained; None: all weights."""

    @property
    def pretrained(self) -> int:
        """1 if it begins with a run's weights, 0 if it is the control that does not."""
        return int(self.weights is not None)


def read_finetuning(payload: Any, where: str) -> FineTuning:
    """From a JSON object. Raises WrongValue."""
    found: FineTuning = typed(FineTuning, {**_table(payload, where), "low_rank": None}, where)
    for name in ("examples", "length", "task_tokens", "trained_params"):
        check_count(getattr(found, name), f"{where}.{name}", most=2**53)
    check_count(found.pretrain_tokens, f"{where}.pretrain_tokens", least=0, most=2**53)
    if payload.get("low_rank") is None:
        return found
    low_rank: LowRank = typed(LowRank, payload["low_rank"], f"{where}.low_rank")
    check_count(low_rank.rank, f"{where}.low_rank.rank", most=2**20)
    return FineTuning(**{**vars(found), "low_rank": low_rank})


def _table(payload: Any, where: str) -> dict[str, Any]:
    if not isinstance(payload, dict):
        raise WrongValue(f"{where} is no table")
    return payload

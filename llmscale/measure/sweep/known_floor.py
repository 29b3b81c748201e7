"""The best possible losses of a sweep's runs, if the language of its text is known."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from llmscale.measure.text.true_loss import TrueLoss, true_loss

if TYPE_CHECKING:
    from llmscale.measure.sweep.plan import Plan
    from llmscale.measure.text.store import TokenStore

TRUE_LOSS: Final = "true_loss"
"""The column of the table of runs."""


def true_losses(store: "TokenStore", contexts: Iterable[int]) -> dict[int, TrueLoss]:
    """By length of the context; none if the language is not known."""
    found = {context: true_loss(store, context) for context in sorted(set(contexts))}
    return {context: truth for context, truth in found.items() if truth is not None}


def contexts_of(plan: "Plan") -> set[int]:
    """The lengths of the contexts of all runs."""
    return {run.job.shape.context for run in plan.runs}


def said_of(truths: dict[int, TrueLoss]) -> list[str]:
    """What to tell of them before the runs."""
    return [
        f"the entropy of this language is {truth.rate:.4f} nats a token; knowing it, one loses "
        f"{truth.best:.4f} on the validation text" + _windows(truth) + _repeats(truth)
        for truth in truths.values()
    ]


def _windows(truth: TrueLoss) -> str:
    if truth.loss is None:
        return ", if all of a document is seen: more in windows, as tokens are not its symbols"
    return f" in windows of {truth.context} tokens, {truth.text:.4f} if all of a document is seen"


def _repeats(truth: TrueLoss) -> str:
    if not truth.dropped:
        return ""
    return f"; {truth.dropped:,} repeated documents were left out, of which it does not know"

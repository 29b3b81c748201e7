"""What to warn of in advice: where the law, the text or the serving it rests on do not hold."""

from typing import TYPE_CHECKING

from llmscale.errors import Note
from llmscale.explain.planning.doubts import (
    long_context,
    over_trained,
    repetition,
    text_repeated,
)
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.real_shape import Setting
from llmscale.explain.planning.rounding import Rounding
from llmscale.notes.kind import Weight
from llmscale.notes.predicting import (
    LOSS_RISES_BY_TOKENS,
    ROUNDING_NOT_COUNTED,
    SERVED_BEYOND_CONTEXT,
)
from llmscale.quantity import format_count

if TYPE_CHECKING:
    from llmscale.explain.planning.advice import Lifetime, Option

_LOOKED_BACK = 10.0
"""Times fewer tokens, from which on more of them should lower the loss."""
_FULL_BYTES = 2.0
"""Of a weight that is not rounded after training."""


def advice_notes(
    judge: Judge,
    advised: "Option",
    lifetime: "Lifetime | None",
    setting: Setting,
    rounding: Rounding | None,
) -> list[Note]:
    """The notes on an advised model, but for those of its forecast and of the fit."""
    found = [
        _rises(judge, advised),
        text_repeated(judge, advised.model.tokens),
        repetition(judge, advised.model.tokens),
        over_trained(judge, advised.choice.tokens_per_param, "the advised run"),
        _served(judge, lifetime),
        _rounded(advised, rounding),
        _context(advised, setting),
        long_context(advised.model.shape, advised.model.params),
    ]
    return [note for note in found if note is not None]


def _rises(judge: Judge, advised: "Option") -> Note | None:
    model = advised.model
    if not judge.surface.rises_by_tokens(model.params, model.tokens / _LOOKED_BACK, _LOOKED_BACK):
        return None
    return LOSS_RISES_BY_TOKENS.note(
        f"by {judge.fit.law.name} a model of {format_count(model.params)} gets worse with more "
        f"tokens before it has had {format_count(model.tokens)}: the law does not hold there; take "
        "another: --law chinchilla",
        Weight.WRONG,
    )


def _served(judge: Judge, lifetime: "Lifetime | None") -> Note | None:
    """The run of the fewest FLOPs over its life is trained for longer than any of the table."""
    if lifetime is None or lifetime.saves <= 0:
        return None
    option = lifetime.option
    return over_trained(judge, option.choice.tokens_per_param, f"the run {option.name!r}")


def _rounded(advised: "Option", rounding: Rounding | None) -> Note | None:
    deployment = advised.model.limits.deployment
    if deployment is None or deployment.load.bytes_per_weight >= _FULL_BYTES:
        return None
    if rounding is not None and rounding.said(8 * deployment.load.bytes_per_weight):
        return None  # the advice says what it costs
    return ROUNDING_NOT_COUNTED.note(
        f"weights are served in {8 * deployment.load.bytes_per_weight:g} bits, and what rounding "
        "them costs is not in these losses: measure it with llmscale quantize"
    )


def _context(advised: "Option", setting: Setting) -> Note | None:
    deployment = advised.model.limits.deployment
    if deployment is None or deployment.load.context <= setting.context:
        return None
    return SERVED_BEYOND_CONTEXT.note(
        f"sequences of {deployment.load.context:,} tokens are served, and the model is trained on "
        f"{setting.context:,}: train it on as many (--context {deployment.load.context}), which "
        "takes more FLOPs"
    )

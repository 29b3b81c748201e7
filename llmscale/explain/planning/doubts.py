"""What makes a plan less certain than it seems, besides what the forecast says of itself."""

from llmscale.errors import Note
from llmscale.explain.forecast.epochs import weight_of_epochs
from llmscale.explain.planning.budget import Budget
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.real_shape import RealShape
from llmscale.explain.planning.said import three_digits
from llmscale.explain.planning.serving import Serving
from llmscale.explain.planning.surface import R_D_STAR, R_N_STAR
from llmscale.explain.planning.token_ratio import (
    EVER_TRAINED,
    is_beyond_all,
    is_beyond_runs,
    most_tokens_per_param,
)
from llmscale.notes.kind import Weight
from llmscale.notes.predicting import (
    LONG_CONTEXT,
    LOSS_RISES_BY_TOKENS,
    OVER_TRAINED_BEYOND_RUNS,
    REPETITION_PUBLISHED,
    TARGET_ABOVE_RUNS,
    TARGET_NOT_SURE,
    TEXT_REPEATED,
)
from llmscale.quantity import format_count
from llmscale.runs.shape import Shape

_TOLD_TO = 10.0
"""How many times more tokens than at equal compute a smaller model is asked for, at the most."""


def doubts(
    judge: Judge,
    budget: Budget,
    params: float,
    tokens: float,
    serving: Serving | None,
    real: RealShape | None,
) -> tuple[Note, ...]:
    """The notes on the plan of a budget whose best run has N `params` and D `tokens`."""
    found = (
        _rising_loss(judge, params, tokens),
        text_repeated(judge, tokens),
        repetition(judge, tokens),
        _target_above_runs(judge, budget),
        _target_not_sure(budget),
        _served(judge, serving),
        None if real is None else long_context(real.shape, real.choice.params),
    )
    return tuple(note for note in found if note is not None)


def _rising_loss(judge: Judge, params: float, tokens: float) -> Note | None:
    """By the law a smaller model gets worse with more tokens."""
    if not judge.surface.rises_by_tokens(0.5 * params, 2.0 * tokens, _TOLD_TO):
        return None
    return LOSS_RISES_BY_TOKENS.note(
        f"by {judge.fit.law.name} a model of half the size gets worse with more tokens beyond the "
        "best ones: what is said of smaller models that are trained for longer does not hold; "
        "take another law for that: --law chinchilla"
    )


def text_repeated(judge: Judge, tokens: float) -> Note | None:
    """The run goes over its text more than once."""
    if judge.unique is None or tokens <= judge.unique:
        return None
    epochs = tokens / judge.unique
    return TEXT_REPEATED.note(
        f"the text is shorter than the run: {format_count(judge.unique)} unique tokens are gone "
        f"over {three_digits(epochs)} times; up to {TEXT_REPEATED.limit:g} epochs are nearly worth "
        f"new text, and past about {R_D_STAR:.0f} more of them hardly help",
        weight_of_epochs(epochs),
    )


def repetition(judge: Judge, tokens: float) -> Note | None:
    """What repeated text is worth is not told by these runs."""
    if judge.unique is None or judge.surface.knows_text or tokens <= judge.unique:
        return None
    return REPETITION_PUBLISHED.note(
        "what repeated text is worth is as Muennighoff et al. (2023) measured it (R_D* = "
        f"{R_D_STAR:g}, R_N* = {R_N_STAR:g}), not told by these runs; no interval holds its "
        "uncertainty, nor that many passes may do harm"
    )


def _target_above_runs(judge: Judge, budget: Budget) -> Note | None:
    """A loss is asked for that is higher than that of any run."""
    runs = judge.fit.runs
    if budget.loss is None or runs is None:
        return None
    highest = float(runs.frame["loss"].max())
    if budget.loss <= highest:
        return None
    asked = "" if judge.fit.origin.loss_unit else ": is it in nats per token?"
    return TARGET_ABOVE_RUNS.note(
        f"{budget.said} is above that of every run of the table, {highest:.4g} at the most{asked}"
    )


def _target_not_sure(budget: Budget) -> Note | None:
    """The upper end of the forecasts never reaches the loss that is asked for."""
    if budget.is_bounded:
        return None
    return TARGET_NOT_SURE.note(
        f"no compute is sure to reach {budget.said}: the upper end of its forecasts stays above it"
    )


def long_context(shape: Shape, params: float) -> Note | None:
    """Most FLOPs of a shape of N `params` are none that a law counts."""
    times = shape.flops_per_token / (6.0 * params)
    if not times > LONG_CONTEXT.limit:
        return None
    return LONG_CONTEXT.note(
        f"a token of {shape.full_name} takes {times:,.3g} times 6N FLOPs, with sequences of "
        f"{shape.context:,} tokens: the law is one of runs of about 6ND"
    )


def over_trained(judge: Judge, ratio: float, run: str) -> Note | None:
    """A `run` has more tokens a parameter than any of the table comes near."""
    if not is_beyond_runs(judge, ratio):
        return None
    own, most = map(three_digits, (ratio, most_tokens_per_param(judge)))
    told = f"{run} has {own} tokens a parameter, and the runs have {most} at the most"
    if not is_beyond_all(judge, ratio):
        return OVER_TRAINED_BEYOND_RUNS.note(told)
    return OVER_TRAINED_BEYOND_RUNS.note(
        f"{told}; no model was ever trained on {EVER_TRAINED:,.0f}: that loss is a guess",
        Weight.WRONG,
    )


def _served(judge: Judge, serving: Serving | None) -> Note | None:
    """The run that serves is trained for longer than any run of the table."""
    if serving is None:
        return None
    ratio = serving.tokens.value / serving.params.value
    return over_trained(judge, ratio, "the run that costs least to train and serve")

"""What a plan says of itself, in sentences."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmscale.explain import digits
from llmscale.explain.planning.basin import Smaller
from llmscale.explain.planning.cost import Cost, Hardware
from llmscale.explain.planning.enough import Enough
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.repetition import Repetition
from llmscale.explain.planning.serving import LEAST_SHARE, Serving
from llmscale.explain.planning.surface import MOST_TIMES
from llmscale.explain.planning.token_ratio import (
    is_beyond_all,
    is_beyond_runs,
    most_tokens_per_param,
)
from llmscale.quantity import format_bytes, format_count, format_plainly, format_seconds
from llmscale.runs.gpu_memory import Layout

if TYPE_CHECKING:
    from llmscale.explain.estimation.result import Fit
    from llmscale.explain.planning.judge import Judge
    from llmscale.explain.planning.training_plan import TrainingPlan


def verdict(plan: "TrainingPlan") -> str:
    """What to train, and the loss to expect."""
    params, tokens = (one.written(format_count) for one in (plan.params, plan.tokens))
    ratio = plan.tokens.value / plan.params.value
    loss = digits.with_ends(plan.loss.value, plan.loss.low, plan.loss.high)
    level = f" ({100 * plan.level:g}%)" if plan.loss.has_interval else ""
    return (
        f"{params} parameters on {tokens} tokens, {three_digits(ratio)} a parameter: "
        f"{plan.forecast.metric} {loss}{level}, "
        f"{plan.forecast.from_the_runs(0)}{beyond_all(plan.judge, ratio)}"
    )


def beyond_all(judge: "Judge", ratio: float) -> str:
    """That no model had so many tokens a parameter; empty if one may have had."""
    return "; no model was ever trained on as many a parameter" * is_beyond_all(judge, ratio)


def no_interval(fit: "Fit", loss: Estimate) -> str:
    """That a fit of runs has no intervals; of a published law a note says so."""
    is_published = fit.runs is None and fit.kept is None
    if loss.has_interval or is_published:
        return ""
    return "none: the fit was made without refits (--bootstrap 0)"


def sentences(plan: "TrainingPlan") -> Iterator[tuple[str, str]]:
    """A name and a sentence of each thing that there is something to say of."""
    yield "budget", _budget(plan)
    if plan.hardware is not None:
        yield "cost", _cost(plan.hardware, plan)
    yield "shape", _shape(plan)
    if plan.shape is not None and plan.shape.layout is not None:
        yield "memory", _memory(plan.shape.layout)
    yield "flat", f"{plan.basin}, at equal compute"
    yield "smaller", _smaller(plan)
    if plan.serving is not None:
        training = "" if plan.hardware is None else "; all hours, money and energy are of training"
        yield "serving", f"{_serving(plan.serving, plan.params.value)}{training}"
    if plan.repetition is not None:
        yield "text", _repetition(plan.repetition)
    if none := no_interval(plan.judge.fit, plan.loss):
        yield "intervals", none
    yield "law", plan.law_said
    if plan.forecast.coverage:
        yield "coverage", plan.forecast.coverage


def _cost(hardware: Hardware, plan: "TrainingPlan") -> str:
    """That of the nearest shape, which is what one would train and pay for."""
    flops = plan.budget.flops
    if plan.shape is None:
        return f"{cost_said(hardware, hardware.cost(flops.value), flops)}; of C = 6ND"
    own = plan.shape.choice.flops
    paid = flops.times(own / flops.value)
    whose = f"; of {plan.shape.shape.full_name}" if plan.budget.loss is not None else ""
    return f"{cost_said(hardware, hardware.cost(own), paid)}{whose}"


def cost_said(hardware: Hardware, cost: Cost, flops: Estimate) -> str:
    """GPU hours, wall time, money and energy, as far as they are known."""
    low, high = (end / hardware.flops_per_hour for end in (flops.low, flops.high))
    hours = Estimate(cost.gpu_hours, low, high).written(amount)
    parts = [f"{hours} GPU hours of {hardware.gpu.name}"]
    if cost.wall_seconds is not None:
        parts.append(f"{format_seconds(cost.wall_seconds)} on {hardware.gpus:,}")
    if cost.money is not None:
        price = hardware.price_per_hour
        parts.append(f"{amount(cost.money)} at {price:g} a GPU hour")
    if cost.kwh is not None:
        times = "" if hardware.pue == 1 else f" x {hardware.pue:g}"
        parts.append(f"{energy(cost.kwh)} (board power{times})")
    return f"{', '.join(parts)}; at {hardware.mfu_said}"


def amount(value: float) -> str:
    """Hours or money: `2.5`, `8,400`, `1.87M`."""
    if value < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}" if round(value) < 1e5 else format_count(value)


def energy(kwh: float) -> str:
    """`29.4 MWh`."""
    for unit, size in (("GWh", 1e6), ("MWh", 1e3), ("kWh", 1.0)):
        if kwh >= size:
            return f"{format_plainly(kwh / size)} {unit}"
    return f"{1e3 * kwh:.3g} Wh"


def _budget(plan: "TrainingPlan") -> str:
    if plan.budget.loss is None:
        return plan.budget.said
    return f"{plan.budget.said} takes {plan.budget.flops.written(_flops)} FLOPs at the least"


def _shape(plan: "TrainingPlan") -> str:
    if plan.shape is None:
        return f"no built-in one is near {format_count(plan.params.value)} ({plan.setting})"
    real = plan.shape
    run = real.choice
    why = "the budget pays for" if plan.budget.loss is None else "the loss takes"
    loss = digits.number(run.loss.value, run.loss.low, run.loss.high)
    far = real.distance.said(plan.forecast.metric)
    size = f"N = {format_count(run.params)}{', ' * bool(far)}{far}"
    return (
        f"{real.shape.full_name} ({plan.setting}): {size}; a token takes "
        f"{real.attention_share:.1%} more FLOPs than 6N, so {why} {format_count(run.tokens)} "
        f"tokens, loss {loss}"
    )


def _memory(layout: Layout) -> str:
    size = format_bytes(layout.memory.total)
    twice = ", activations computed twice" if layout.checkpointing else ""
    place = "on one GPU"
    if layout.gpus > 1:
        place = f"on each of {layout.gpus:,} GPUs by {layout.name}"
    if not layout.fits:
        return f"it does not fit: it takes {size} {place}"
    return f"{size} {place}, a sequence at a time{twice}"


def _smaller(plan: "TrainingPlan") -> str:
    """What smaller models take to be as good, and whether that is far beyond the runs."""
    half, quarter = plan.smaller
    never = f"with {MOST_TIMES:,.0f} times the tokens"
    if not math.isfinite(half.tokens):
        return f"neither half the size nor a quarter of it reaches that loss {never}"
    takes = half.compute.written(_times)
    first = f"half the size reaches that loss with {takes} the compute{_over_trained(plan, half)}"
    if not math.isfinite(quarter.tokens):
        return f"{first}, and a quarter does not {never}"
    takes = quarter.compute.written(_times)
    return f"{first}, a quarter with {takes}{_over_trained(plan, quarter)}"


def _over_trained(plan: "TrainingPlan", one: Smaller) -> str:
    ratio = one.tokens / (one.share * plan.params.value)
    if not (math.isfinite(ratio) and is_beyond_runs(plan.judge, ratio)):
        return ""
    own, most = map(three_digits, (ratio, most_tokens_per_param(plan.judge)))
    return f" ({own} tokens a parameter; runs have {most} at the most)"


def _serving(serving: Serving, params: float) -> str:
    share = serving.params.value / params
    return (
        f"with {format_count(serving.served)} tokens to serve, {share:.2f}x of the size, "
        f"{serving.params.written(format_count)} on {serving.tokens.written(format_count)} tokens, "
        f"reaches that loss and saves {serving.saved.written(_percent)} of 6ND to train and 2N a "
        f"token served, attention not counted{_where_it_ended(serving)}{_in_budget(serving)}"
    )


def _where_it_ended(serving: Serving) -> str:
    """That the search ended, if it did so before the lowest cost."""
    looked = {
        "": "",
        "size": f"no size below {LEAST_SHARE:g}x was looked at, and one may save more",
        "tokens": f"no size that takes {MOST_TIMES:,.0f} times the tokens was looked at, and one "
        "may save more",
        "interval": f"its interval ends where the search does, at {LEAST_SHARE:g}x of the size or "
        f"{MOST_TIMES:,.0f} times the tokens",
    }[serving.ended]
    return f"; {looked}" if looked else ""


def _in_budget(serving: Serving) -> str:
    if serving.in_budget is None:
        return "; the budget cannot pay for serving as well"
    params, tokens = map(format_count, serving.in_budget)
    return f"; if the budget pays for both, {params} on {tokens} are best"


def _repetition(text: Repetition) -> str:
    unique = format_count(text.unique)
    if text.epochs <= 1:
        return f"the run takes {text.epochs:.0%} of {unique} unique tokens, and repeats none"
    costs = text.costs.written(digits.number)
    return (
        f"{three_digits(text.epochs)} epochs over {unique} unique tokens; on new text the loss "
        f"would be {costs} lower; {enough_said(text.enough, text.unique)}"
    )


def enough_said(enough: Enough, unique: float | None) -> str:
    """How much compute is worth spending, and how often that goes over limited text."""
    epochs = "" if unique is None else f" ({three_digits(enough.tokens / unique)} epochs)"
    return (
        f"no compute gets below {enough.least_loss.written(digits.number)}, and what lies beyond "
        f"{enough.flops:.3g} FLOPs{epochs} is worth less than {100 * enough.within:.3g}% of it"
    )


def three_digits(value: float) -> str:
    """`20.9`, `41,100`, `2.16B`: three significant digits, without a power of ten."""
    if value >= 1e6:
        return format_count(value)
    shown = f"{value:.3g}"
    return f"{float(shown):,.0f}" if value >= 1000 else shown


def _flops(value: float) -> str:
    return f"{value:.3g}"


def _times(value: float) -> str:
    return f"{value:.3g}x"


def _percent(value: float) -> str:
    return f"{value:.1%}"

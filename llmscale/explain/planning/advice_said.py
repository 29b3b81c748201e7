"""What advice says of itself, in sentences."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmscale.errors import both
from llmscale.explain import digits
from llmscale.explain.planning.deployment import Deployment, Load, Served, Server
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.rounding import Rounding
from llmscale.explain.planning.said import (
    beyond_all,
    cost_said,
    enough_said,
    no_interval,
    three_digits,
)
from llmscale.quantity import format_count, format_memory

if TYPE_CHECKING:
    from llmscale.explain.planning.advice import Advice, Limit, Option


ABOVE = "above advised"
"""What the column is called that says how much higher a loss is than the advised one's."""
LEAST_TOLD = 1e-4
"""Of a loss: less is told as nothing."""


def verdict(advice: "Advice") -> str:
    """What to train, and the loss to expect."""
    one = advice.advised
    level = f" ({100 * advice.level:g}%)" if one.choice.loss.has_interval else ""
    told = f"{advice.metric} {_estimate(one.choice.loss)}"
    if one.score is not None and advice.steps is not None:
        told += f", {advice.steps.score.column} {_estimate(one.score)}"
    ratio = one.choice.tokens_per_param
    return (
        f"{one.model.shape.full_name} (N = {format_count(one.model.params)}) on "
        f"{format_count(one.model.tokens)} tokens, {three_digits(ratio)} a parameter: "
        f"{told}{level}, {advice.forecast.from_the_runs(0)}{beyond_all(advice.judge, ratio)}"
    )


def sentences(advice: "Advice") -> Iterator[tuple[str, str]]:
    """A name and a sentence of each thing that there is something to say of."""
    yield "limits that bind", _binding(advice)
    for limit in advice.limits:
        yield limit.name, _limit(limit, advice.metric)
    if advice.enough is not None and advice.is_near_enough:
        yield "enough", enough_said(advice.enough, advice.advised.model.limits.unique)
    deployment = advice.advised.model.limits.deployment
    if deployment is not None:
        yield "serving", _serving(advice.advised, deployment)
        if advice.rounding is not None:
            yield "rounding", _rounding(advice, advice.rounding, deployment.load)
    hardware, choice = advice.judge.hardware, advice.advised.choice
    if hardware is not None and choice.cost is not None:
        yield "cost", cost_said(hardware, choice.cost, Estimate(choice.flops))
    if advice.lifetime is not None:
        yield "life", _lifetime(advice)
    yield "shape", _shape(advice)
    if advice.best.optima and advice.best.optima[0].intervals:
        yield "best size", _best_size(advice)
    if none := no_interval(advice.judge.fit, advice.advised.choice.loss):
        yield "intervals", none
    if advice.best.chosen is not None:
        yield "law", advice.best.chosen.reason
    if advice.forecast.coverage:
        yield "coverage", advice.forecast.coverage


def in_short(one: "Option") -> str:
    """A model in a line."""
    return (
        f"{one.model.shape.full_name}, N = {format_count(one.model.params)}, D = "
        f"{format_count(one.model.tokens)}: loss {_estimate(one.choice.loss)}, {above(one)}"
    )


def above(one: "Option") -> str:
    """How far its loss is above the advised one's: `+0.0213`, or nothing of that one."""
    if one.above is None:
        return ""
    return _signed(one.above.value)


def _signed(value: float) -> str:
    shown = f"{value:+.4f}"
    return shown if abs(value) >= LEAST_TOLD else "0"


def _shape(advice: "Advice") -> str:
    model = advice.advised.model
    above_6N = model.shape.flops_per_token / (6.0 * model.params) - 1.0
    far = "" if advice.distance is None else advice.distance.said(advice.metric)
    return (
        f"{advice.setting}, d_ff {model.shape.d_ff:,}; {far}{'; ' * bool(far)}a token takes "
        f"{above_6N:.1%} more FLOPs than 6N"
    )


def _best_size(advice: "Advice") -> str:
    """N and D of the lowest loss, if nothing but compute limited them, as `predict` gives them."""
    best = advice.best.optima[0]
    params, tokens = (
        _with_interval(getattr(best, name), best.intervals.get(name))
        for name in ("params", "tokens")
    )
    unique = advice.judge.unique
    new = "" if unique is None or best.tokens <= unique else " of new text"
    return f"{params} parameters on {tokens} tokens{new} are best for {best.flops:.3g} FLOPs"


def _with_interval(value: float, ends: tuple[float, float] | None) -> str:
    estimate = Estimate(value) if ends is None else Estimate(value, *ends)
    return estimate.written(format_count)


def _binding(advice: "Advice") -> str:
    return both([one.name for one in advice.binding]) or "nothing"


def _limit(limit: "Limit", metric: str) -> str:
    if limit.costs is None:
        return f"{limit.allows}; does not bind"
    amount = limit.costs.written(_amount)
    return f"{limit.allows}; {limit.without} the {metric} would be {amount} lower"


def _amount(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= LEAST_TOLD else "0"


def _serving(one: "Option", deployment: Deployment) -> str:
    assert one.served is not None
    served, server, load = one.served, deployment.server, deployment.load
    room = ""
    if math.isfinite(server.usable_bytes):
        share = f"{server.memory_share:.0%} of {format_memory(server.memory_bytes or 0.0)}"
        room = f", of {format_memory(server.usable_bytes)} ({share})"
    parts = [
        f"weights {format_memory(served.weight_bytes)} in {8 * load.bytes_per_weight:g} bits and "
        f"cache {format_memory(served.cache_bytes)} for {load.streams:,} x {load.context:,} "
        f"tokens{room}"
    ]
    if math.isfinite(served.tokens_per_second):
        parts += _speed(served, server, load)
    return "; ".join(parts)


def _speed(served: Served, server: Server, load: Load) -> Iterator[str]:
    """The tokens a second, and all that they follow from."""
    total = "" if load.streams == 1 else f", {three_digits(served.total_tokens_per_second)} in all"
    yield f"{three_digits(served.tokens_per_second)} tokens a second a stream{total}"
    assert server.bytes_per_second is not None
    weights, cache = (server.reached(width) for width in (load.bytes_per_weight, load.bytes_per_kv))
    yield (
        f"a step reads {format_memory(served.weight_bytes_read)} of weights at {weights:.3g} and "
        f"the cache at {cache:.3g} of {server.bytes_per_second / 1e9:,.6g} GB/s"
    )
    if server.peak_flops is None:
        yield "the time of arithmetic is not counted, as the kind of GPU is not known"
    elif served.is_bound_by_arithmetic:
        yield f"its arithmetic, at {server.peak_flops:.4g} FLOP/s, takes longer than that"


def _rounding(advice: "Advice", rounding: Rounding, load: Load) -> str:
    """What the bits of the advised model cost, and those of the next narrower format."""
    bits, fewer = 8.0 * load.bytes_per_weight, load.fewer_bits
    told = [rounding.said(each) for each in (bits, fewer) if each is not None]
    costs = " and ".join(filter(None, told)) or "the bits that are asked for were not measured"
    row = f"{fewer}-bit weights"
    is_counted = row in {one.name for one in advice.alternatives}
    if fewer is None or not is_counted or rounding.more(bits, fewer) is None:
        return f"{costs}, {rounding}; not in these losses"
    return f"{costs}, {rounding}; in the row of {row} as far as they cost more, in no other loss"


def _lifetime(advice: "Advice") -> str:
    life = advice.lifetime
    assert life is not None
    served = format_count(life.served)
    if life.saves <= 0:
        return f"with {served} tokens to serve no other model takes fewer FLOPs in all"
    model = life.option.model
    times = model.flops / advice.advised.model.flops
    end = "; no smaller size was looked at, and one may save more" if life.is_smallest else ""
    return (
        f"with {served} tokens to serve, {model.shape.full_name} (N = "
        f"{format_count(model.params)}) on {format_count(model.tokens)} tokens reaches that loss "
        f"and takes {life.saves:.1%} fewer FLOPs in all, those of attention counted; "
        f"{times:.3g} times as many to train{end}"
    )


def _estimate(one: Estimate) -> str:
    return digits.with_ends(one.value, one.low, one.high)

"""What bounds a model, and the best one within it: compute, text, and memory and speed of
serving."""

from dataclasses import dataclass, replace
from typing import Any

from llmscale.errors import InputError
from llmscale.explain.planning.deployment import Deployment, largest
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.real_shape import Setting, shape_near
from llmscale.quantity import format_count, format_memory
from llmscale.runs.shape import Shape

_OR_LESS = ", fewer --streams, a shorter --serve-context, or fewer --bytes-per-weight"


@dataclass(frozen=True)
class Limits:
    """FLOPs to train with, `unique` tokens of text, and what the model is served on; None sets no
    limit."""

    flops: float
    unique: float | None = None
    deployment: Deployment | None = None

    @property
    def without_text(self) -> "Limits":
        return replace(self, unique=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "flops": self.flops,
            "unique_tokens": self.unique,
            "serving": self.deployment and self.deployment.to_json(),
        }


@dataclass(frozen=True)
class Model:
    """A shape, and the tokens to train it on within limits. `count` is what N counts."""

    shape: Shape
    count: str
    tokens: float
    limits: Limits

    @property
    def params(self) -> float:
        """The N of laws."""
        return float(getattr(self.shape, self.count))

    @property
    def flops(self) -> float:
        """Of training, those of attention included."""
        return self.tokens * self.shape.flops_per_token


def best_within(judge: Judge, limits: Limits, setting: Setting) -> Model:
    """The model of the lowest loss within limits, by a judge of runs on as much text: the shape
    nearest to the best size, or the largest that can be served if that one cannot. Raises
    InputError if none can.

    The loss along a budget is a valley: left of its lowest point larger is better."""
    flops, deployment = limits.flops, limits.deployment
    count = judge.fit.origin.count
    params = float(judge.surface.best(flops)[0])
    shape = shape_near(count, params, setting)
    most = None if deployment is None else largest_served(deployment, setting)
    wanted = params if shape is None else getattr(shape, count)
    if most is not None and getattr(most, count) < wanted:
        shape = most
    if shape is None:
        text, more = "", ""
        if limits.unique is not None:
            text, more = f" on {format_count(limits.unique)} unique tokens", ", more text"
        fewer = ", or fewer --heads-per-kv" if setting.heads_per_kv > 1 else ""
        raise InputError(
            f"no built-in shape is near the best size{text}, {format_count(params)} ({setting})",
            f"ask for another budget{more}, or another --vocab-size{fewer}",
        )
    return Model(shape, count, flops / shape.flops_per_token, limits)


def largest_served(deployment: Deployment, setting: Setting) -> Shape:
    """The largest shape that can be served so. Raises InputError if there is none."""
    shapes = setting.shapes
    found = largest(shapes, deployment.is_met)
    if found is not None:
        return found
    smallest = shapes[0]
    served, server = deployment.served(smallest), deployment.server
    if not deployment.fits(smallest):
        raise InputError(
            f"no model fits: the smallest, {smallest.full_name} ({setting}), takes "
            f"{format_memory(served.memory_bytes)}, of which "
            f"{format_memory(served.cache_bytes)} are keys and values, and there are "
            f"{format_memory(server.usable_bytes)}",
            f"give more memory{_OR_LESS}",
        )
    raise InputError(
        f"no model is fast enough: the smallest, {smallest.full_name} ({setting}), gives each "
        f"stream {served.tokens_per_second:,.3g} tokens a second, and "
        f"{deployment.tokens_per_second:,.6g} are asked for",
        f"give more bandwidth{_OR_LESS}",
    )

"""The nearest model that can be built: a shape of the ladder, by the count that the law's N is."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llmscale.errors import InputError, both
from llmscale.explain.estimation.result import Fit
from llmscale.explain.planning.choice import Choice, Run
from llmscale.explain.planning.cost import Hardware
from llmscale.explain.planning.distance import Distance, distance_of
from llmscale.explain.planning.judge import Judge
from llmscale.runs.gpu_memory import GPUS_A_MACHINE, Layout, plan_layout
from llmscale.runs.shape import ARCHITECTURES, Shape, ladder, nearest_of

USUAL_VOCABULARY, USUAL_CONTEXT = 32_000, 2048
"""Of language models of the usual sizes; those of a sweep of one's own are read in its table."""
_FAR = math.log(1.3)
"""A size that is further from both ends of the ladder is off it."""


@dataclass(frozen=True)
class Setting:
    """What a shape depends on besides its size. `heads_per_kv` query heads share their keys and
    values (Ainslie et al. 2023)."""

    arch: str
    vocab_size: int
    context: int
    heads_per_kv: int = 1
    assumed: tuple[str, ...] = ()
    """Which of vocabulary and context nobody gave: they are the usual ones."""

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The built-in shapes by growing count whose heads divide into such groups. Raises
        InputError if none do."""
        every = ladder(vocab_size=self.vocab_size, context=self.context, arch=self.arch)
        found = tuple(one for one in every if one.n_head % self.heads_per_kv == 0)
        if not found:
            raise InputError(
                f"no built-in shape has heads of which each {self.heads_per_kv:,} share their keys "
                f"and values: the largest has {max(one.n_head for one in every)}",
                "give a divisor of usual numbers of heads: --heads-per-kv 4",
            )
        return found

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "assumed": list(self.assumed)}

    def __str__(self) -> str:
        shared = f", {self.heads_per_kv} heads to one of keys" if self.heads_per_kv > 1 else ""
        told = {"vocab_size": f"vocabulary {self.vocab_size:,}"}
        told["context"] = f"context {self.context:,}"
        given = "".join(f", {text}" for name, text in told.items() if name not in self.assumed)
        guessed = both([text for name, text in told.items() if name in self.assumed])
        return f"{self.arch}{given}{', assumed ' * bool(guessed)}{guessed}{shared}"


@dataclass(frozen=True)
class RealShape:
    """A model that can be built, and the run of it: as many tokens as the budget pays for, its
    attention included, or that reach the loss that was asked for."""

    shape: Shape
    count: str
    choice: Choice
    distance: Distance
    """How far its size is from the best one."""
    layout: Layout | None = None
    """How it lies on the GPUs, one sequence on each at the least; None if nobody said how many."""

    @property
    def attention_share(self) -> float:
        """How many FLOPs a token takes above the 6N that the law counts: those of attention, and of
        weights that N does not count; a share of 6N."""
        return self.shape.flops_per_token / (6.0 * self.choice.params) - 1.0

    def to_json(self) -> dict[str, Any]:
        shape = self.shape
        names = ("n_layer", "d_model", "n_head", "d_ff", "vocab_size", "context", "arch")
        counts = ("params_non_embedding", "params", "params_total", "flops_per_token")
        return {
            "shape": shape.name,
            **{name: getattr(shape, name) for name in (*names, *counts)},
            "count": self.count,
            **self.distance.to_json(),
            "flops_above_6ND": self.attention_share,
            "memory_bytes": shape.memory_bytes(),
            "run": self.choice.to_json(),
            "layout": self.layout and _layout_json(self.layout),
        }


def setting_of(fit: Fit, arch: str | None, vocab_size: int | None, context: int | None) -> Setting:
    """What was asked for, or what the largest run of the table had, or what is usual."""
    known = {
        "vocab_size": vocab_size or _of_largest(fit, "vocab_size"),
        "context": context or _of_largest(fit, "context"),
    }
    return Setting(
        arch=arch or _arch_of(fit) or "llama",
        vocab_size=int(known["vocab_size"] or USUAL_VOCABULARY),
        context=int(known["context"] or USUAL_CONTEXT),
        assumed=tuple(name for name, value in known.items() if not value),
    )


def shape_near(count: str, params: float, setting: Setting) -> Shape | None:
    """The built-in shape whose `count` is nearest; None of sizes off the ends of their ladder."""
    shapes = setting.shapes
    shape = nearest_of(shapes, params, count)
    least, found, most = (int(getattr(one, count)) for one in (shapes[0], shape, shapes[-1]))
    is_between = least <= params <= most
    return shape if is_between or abs(math.log(found / params)) <= _FAR else None


def real_shape(
    judge: Judge, params: float, flops: float, setting: Setting, loss: float | None
) -> RealShape | None:
    """The nearest shape to N, on the tokens that the budget pays for, or that reach a loss; None if
    no shape is near, or none reaches it."""
    count = judge.fit.origin.count
    shape = shape_near(count, params, setting)
    if shape is None:
        return None
    own = float(getattr(shape, count))
    tokens = flops / shape.flops_per_token
    if loss is not None:
        # Twice fewer tokens than the budget pays for never reach what its best run does.
        tokens = float(judge.surface.tokens_for(own, loss, 0.5 * tokens)[0, 0])
        if not np.isfinite(tokens):
            return None
    run = Run("nearest shape", own, tokens, tokens * shape.flops_per_token)
    return RealShape(
        shape=shape,
        count=count,
        choice=judge.choices([run])[0],
        distance=distance_of(judge, own, params, flops),
        layout=_layout(shape, judge.hardware),
    )


def _layout(shape: Shape, hardware: Hardware | None) -> Layout | None:
    """Over the GPUs that are there, if these fill machines."""
    gpus = None if hardware is None else hardware.gpus
    if hardware is None or gpus is None or (gpus > GPUS_A_MACHINE and gpus % GPUS_A_MACHINE):
        return None
    return plan_layout(shape, gpus, hardware.gpu, batch_sequences=gpus)


def _layout_json(layout: Layout) -> dict[str, Any]:
    names = ("name", "gpus", "checkpointing", "fits")
    told = {name: getattr(layout, name) for name in names}
    return {**told, "bytes_per_gpu": layout.memory.total}


def _arch_of(fit: Fit) -> str | None:
    """The architecture of the largest run, if its counts are known here."""
    name = _of_largest(fit, "arch")
    known = isinstance(name, str) and ARCHITECTURES.accepts(name) and ARCHITECTURES.is_here(name)
    return name if known else None


def _of_largest(fit: Fit, name: str) -> Any:
    """What stands in a column of the largest run; None if the table has no such column."""
    frame = None if fit.runs is None else fit.runs.frame
    if frame is None or name not in frame or "params" not in frame:
        return None
    known = frame[frame[name].notna() & frame["params"].notna()]
    return None if known.empty else known.loc[known["params"].idxmax(), name]

"""What to train within all limits at once, which of them binds, and what each costs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmscale.errors import Note, first_lines
from llmscale.explain import digits, html
from llmscale.explain.fit.two_steps import TwoSteps
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.planning import advice_said as said
from llmscale.explain.planning.choice import Choice
from llmscale.explain.planning.deployment import Served
from llmscale.explain.planning.distance import Distance
from llmscale.explain.planning.enough import Enough
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.limits import Model
from llmscale.explain.planning.real_shape import Setting
from llmscale.explain.planning.rounding import Rounding
from llmscale.notes import with_codes
from llmscale.quantity import format_count
from llmscale.runs.json_values import plain


@dataclass(frozen=True)
class Option:
    """A model that may be trained, with the loss to expect in `choice`; `above` is how much that is
    above the advised one's, by the law, and None of the advised one itself. `score` is that of a
    task, and `served` what serving it takes, if either was asked for."""

    name: str
    model: Model
    choice: Choice
    above: Estimate | None = None
    score: Estimate | None = None
    served: Served | None = None

    @property
    def epochs(self) -> float | None:
        """How often it goes over the text; None if that is not limited."""
        unique = self.model.limits.unique
        return None if unique is None else self.model.tokens / unique

    def to_json(self) -> dict[str, Any]:
        shape = self.model.shape
        names = ("n_layer", "d_model", "n_head", "d_ff", "vocab_size", "context", "arch")
        counts = ("params_non_embedding", "params", "params_total", "flops_per_token")
        return {
            **self.choice.to_json(),
            "name": self.name,
            "shape": shape.name,
            **{name: getattr(shape, name) for name in (*names, *counts)},
            self.model.count: self.model.params,
            "epochs": self.epochs,
            "above_the_advised": self.above and self.above.to_json(),
            "score": self.score and self.score.to_json(),
            "served": self.served and self.served.to_json(),
        }


@dataclass(frozen=True)
class Limit:
    """One of the limits: what it `allows`, in words, whether it `binds`, and how much lower the
    loss would be without it (of compute, with twice as much); None if it does not bind."""

    name: str
    allows: str
    binds: bool
    costs: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "allows": self.allows,
            "binds": self.binds,
            "costs": self.costs and self.costs.to_json(),
        }


@dataclass(frozen=True)
class Lifetime:
    """The model that reaches the advised loss with the fewest FLOPs over its life, of those that
    can be served: training, and `served` tokens (Sardana et al. 2024). `saves` is the share of
    these FLOPs that it saves next to the advised one."""

    served: float
    option: Option
    flops: float
    saves: float
    is_smallest: bool = False
    """Whether no smaller model was looked at: one may save more."""

    def to_json(self) -> dict[str, Any]:
        return {
            "inference_tokens": self.served,
            "is_smallest_looked_at": self.is_smallest,
            "option": self.option.to_json(),
            "flops": self.flops,
            "saves": self.saves,
        }


@dataclass(frozen=True)
class Advice:
    """The `advised` model, the limits it keeps, and the alternatives next to it.

    `forecast` is all that is known of its loss (of text that is repeated at the size and tokens
    that it is worth), and `best` the forecast of the compute-optimal run without any other limit,
    which `predict` gives for the same budget."""

    advised: Option
    alternatives: tuple[Option, ...]
    limits: tuple[Limit, ...]
    forecast: Forecast
    best: Forecast
    judge: Judge = field(repr=False)
    setting: Setting
    budget: str
    """The compute, as it was said."""
    distance: Distance | None = None
    """How far the advised size is from the best one; None if it may not be as large."""
    lifetime: Lifetime | None = None
    steps: TwoSteps | None = field(default=None, repr=False)
    """Both laws on the way to the score of a task, if one was asked for."""
    rounding: Rounding | None = None
    """What rounding weights costs, if a table was named that says so."""
    enough: Enough | None = None
    """How much compute is worth spending; None if nothing else is limited."""
    notes: tuple[Note, ...] = ()

    @property
    def level(self) -> float:
        """The share of intervals that should hold a new run."""
        return self.judge.level

    @property
    def options(self) -> tuple[Option, ...]:
        """The advised model and the alternatives."""
        return (self.advised, *self.alternatives)

    @property
    def binding(self) -> tuple[Limit, ...]:
        """The limits that bind."""
        return tuple(one for one in self.limits if one.binds)

    @property
    def is_near_enough(self) -> bool:
        """Whether text is repeated or compute does not bind, so that it matters what is enough."""
        return (self.advised.epochs or 0.0) > 1.0 or not self.limits[0].binds

    @property
    def metric(self) -> str:
        """What the law gives: the loss, or what its column is called."""
        return self.judge.fit.metric

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """What to know of the advice, of the forecast and of the fit."""
        own = self.steps.score.notes + self.steps.second.notes if self.steps else ()
        return (*self.notes, *own, *self.judge.fit.notes)

    @property
    def verdict(self) -> str:
        """What to train, and the loss to expect, in a sentence."""
        return said.verdict(self)

    def said(self) -> Iterator[tuple[str, str]]:
        """A name and a sentence of each thing that there is something to say of."""
        return said.sentences(self)

    def to_json(self) -> dict[str, Any]:
        """What `advise --json` prints, as `plan --json` has it."""
        payload = {
            "law": self.judge.fit.law.name,
            "metric": self.metric,
            "formula": self.judge.fit.formula,
            "read": self.judge.fit.origin.reading or None,
            "setting": self.setting.to_json(),
            "level": self.level,
            "budget": self.budget,
            "limits_given": self.advised.model.limits.to_json(),
            "hardware": self.judge.hardware and self.judge.hardware.to_json(),
            "advised": self.advised.to_json(),
            "distance": self.distance and self.distance.to_json(),
            "limits": [one.to_json() for one in self.limits],
            "alternatives": [one.to_json() for one in self.alternatives],
            "lifetime": self.lifetime and self.lifetime.to_json(),
            "enough": self.enough and self.enough.to_json(),
            "rounding": self.rounding and self.rounding.to_json(),
            "task": self.steps and self.steps.task_json(),
            "forecast": self.forecast.to_json(),
            "compute_optimal": self.best.to_json(),
            "warnings": [{"code": note.code, "message": note.message} for note in self.all_notes],
        }
        return dict(plain(payload))

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [self.verdict, *(f"{name}: {text}" for name, text in self.said())]
        lines += [f"  {one.name}: {said.in_short(one)}" for one in self.alternatives]
        lines += [f"note: {line}" for line in with_codes(self.all_notes)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        headings = ("", "shape", "N", "D", self.metric, f"{100 * self.level:g}% interval", "above")
        rows = [
            (
                one.name,
                one.model.shape.name,
                format_count(one.model.params),
                format_count(one.model.tokens),
                digits.number(one.choice.loss.value, one.choice.loss.low, one.choice.loss.high),
                digits.ends(one.choice.loss.low, one.choice.loss.high, one.choice.loss.value),
                said.above(one),
            )
            for one in self.options
        ]
        parts = [
            html.sentence(self.verdict),
            html.table(headings, rows),
            *(html.sentence(f"{name}: {text}") for name, text in self.said()),
            html.notes(self.all_notes),
        ]
        return "".join(parts)

"""What to train with a budget, and what may be chosen instead."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.errors import Note, first_lines
from llmscale.errors.keywords import as_keywords
from llmscale.explain import digits, html
from llmscale.explain.figures import Drawing
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.planning import said
from llmscale.explain.planning.basin import Basin, Smaller
from llmscale.explain.planning.budget import Budget
from llmscale.explain.planning.choice import Choice
from llmscale.explain.planning.cost import Cost, Hardware
from llmscale.explain.planning.dispute import disputed
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.real_shape import RealShape, Setting
from llmscale.explain.planning.repetition import Repetition
from llmscale.explain.planning.serving import Serving
from llmscale.notes import with_codes
from llmscale.quantity import format_count
from llmscale.runs.json_values import plain

_INCHES = 7.0
"""Both columns of a paper."""


@dataclass(frozen=True)
class TrainingPlan:
    """The compute-optimal run of a budget by a law: N (`params`) and D (`tokens`) with their
    intervals, the `forecast` of its loss, and what else the budget could be spent on.

    Without limited text all of these are to the last digit those of `predict` at that budget. With
    `unique` tokens it is the best run on that text, and `repetition` says what that costs."""

    budget: Budget
    params: Estimate
    tokens: Estimate
    forecast: Forecast
    basin: Basin
    smaller: tuple[Smaller, ...]
    alternatives: tuple[Choice, ...]
    """Other runs: less and more compute, smaller and larger models, and what was asked for."""
    setting: Setting
    judge: Judge = field(repr=False)
    shape: RealShape | None = None
    """The nearest model that can be built; None if none is near."""
    serving: Serving | None = None
    repetition: Repetition | None = None
    notes: tuple[Note, ...] = ()
    drawn: Path | None = None
    """The file of its figure, if one was asked for."""

    @property
    def flops(self) -> float:
        """C = 6ND of the run."""
        return self.budget.flops.value

    @property
    def loss(self) -> Estimate:
        """The loss to expect, with the interval that a new run should fall in."""
        told = self.forecast
        return Estimate(float(told.loss), float(told.low), float(told.high))

    @property
    def level(self) -> float:
        """The share of intervals that should hold the truth."""
        return self.judge.level

    @property
    def hardware(self) -> Hardware | None:
        return self.judge.hardware

    @property
    def cost(self) -> Cost | None:
        """Of the run, by C = 6ND; that of the nearest shape is in `shape`."""
        return None if self.hardware is None else self.hardware.cost(self.flops)

    @property
    def best(self) -> Choice:
        """The run itself, as the other choices are."""
        return Choice(
            "best", self.params.value, self.tokens.value, self.flops, self.loss, self.cost
        )

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The run, its nearest shape and the alternatives."""
        shape = () if self.shape is None else (self.shape.choice,)
        return (self.best, *shape, *self.alternatives)

    @property
    def flops_heading(self) -> str:
        """What the FLOPs of a choice are called: with tokens to serve they are not all."""
        return "C" if self.serving is None else "C to train"

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """What to know of the fit, of the forecast and of the plan."""
        return (*self.notes, *self.forecast.all_notes)

    @property
    def law_said(self) -> str:
        """Which law this is by, and why."""
        law, chosen = self.judge.fit.law, self.forecast.chosen
        return chosen.reason if chosen else f"{law.name}, {self.judge.fit.formula}"

    @property
    def disputed(self) -> str:
        """That the table's own lowest points put the best size elsewhere; empty if they do not."""
        return disputed(self.judge, self.forecast)

    @property
    def verdict(self) -> str:
        """What to train, and the loss to expect, in a sentence."""
        return said.verdict(self)

    def said(self) -> Iterator[tuple[str, str]]:
        """A name and a sentence of each thing that there is something to say of."""
        return said.sentences(self)

    def draw(self, width: float = _INCHES) -> Drawing:
        """The figure: loss against cost, from the runs to the choices, `width` inches wide."""
        from llmscale.explain.planning.figure import draw

        return draw(self, width)

    def to_json(self) -> dict[str, Any]:
        """What `plan --json` prints. An `interval` is null if there is none, and an end of it "any"
        if nothing bounds it; a value that does not exist is null."""
        payload = {
            "budget": self.budget.to_json(),
            "flops": self.flops,
            "params": self.params.to_json(),
            "tokens": self.tokens.to_json(),
            "tokens_per_param": self.tokens.value / self.params.value,
            "loss": self.loss.to_json(),
            "level": self.level,
            "metric": self.forecast.metric,
            "formula": self.judge.fit.formula,
            "read": self.judge.fit.origin.reading or None,
            "setting": self.setting.to_json(),
            "hardware": self.hardware and self.hardware.to_json(),
            "cost": self.cost and self.cost.to_json(),
            "shape": self.shape and self.shape.to_json(),
            "basin": self.basin.to_json(),
            "smaller": [one.to_json() for one in self.smaller],
            "serving": self.serving and self.serving.to_json(),
            "repetition": self.repetition and self.repetition.to_json(),
            "figure": self.drawn and str(self.drawn),
            "choices": [one.to_json() for one in self.choices],
            "forecast": self.forecast.to_json(),
            "warnings": [{"code": note.code, "message": note.message} for note in self.all_notes],
        }
        return dict(plain(payload))

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        reading = self.judge.fit.origin.reading
        lines = [self.verdict, *([f"disputed: {self.disputed}"] if self.disputed else [])]
        lines += [f"read: {reading}"] if reading else []
        lines += [f"{name}: {as_keywords(text)}" for name, text in self.said()]
        lines += [f"  {one.name}: {_in_short(one)}" for one in self.choices]
        lines += [f"note: {line}" for line in with_codes(self.all_notes)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        headings = ("", "N", "D", "D/N", self.flops_heading, self.forecast.metric, "interval")
        rows = [
            (
                one.name,
                format_count(one.params),
                format_count(one.tokens),
                said.three_digits(one.tokens_per_param),
                f"{one.flops:.3g}",
                digits.number(one.loss.value, one.loss.low, one.loss.high),
                digits.ends(one.loss.low, one.loss.high, one.loss.value),
            )
            for one in self.choices
        ]
        parts = [
            html.sentence(self.verdict),
            *([html.sentence(f"disputed: {self.disputed}")] if self.disputed else []),
            html.table(headings, rows),
            *(html.sentence(f"{name}: {as_keywords(text)}") for name, text in self.said()),
            html.notes(self.all_notes),
        ]
        return "".join(parts)


def _in_short(one: Choice) -> str:
    sizes = f"N = {format_count(one.params)}, D = {format_count(one.tokens)}, C = {one.flops:.3g}"
    return f"{sizes}: loss {digits.with_ends(one.loss.value, one.loss.low, one.loss.high)}"

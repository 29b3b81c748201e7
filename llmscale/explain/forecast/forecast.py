"""Forecasts beyond the runs: the plain interval of a law, widened by a misfit that grows with the
distance (see widths.py).

A law is fitted where the runs are, and is never quite right; its interval knows the noise and the
bootstrap, not that. Inside the runs the plain interval stands."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmscale.errors import Note, first_lines
from llmscale.explain import digits, html
from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.estimation.relative import size
from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.forecast.chosen import Chosen
from llmscale.explain.forecast.doubts import GUESS, far, heights
from llmscale.explain.forecast.widths import (
    growth,
    multipliers,
    public_needs,
    widened,
)
from llmscale.explain.laws import LETTERS, Array
from llmscale.explain.laws.anchored import Anchored
from llmscale.notes import with_codes
from llmscale.quantity import format_count

_SEEN, _NOTHING = 0.1, 0.02
"""What is added to the plain interval is not worth a sentence below the first share of its width,
and nothing below the second share of what the other side gets."""


@dataclass(frozen=True)
class Forecast:
    """Loss in nats per token where asked, with the interval that a new run there should fall in at
    `level`.

    `plain_low` and `plain_high` are what bootstrap and noise give alone. `horizon` is ln of how
    many times beyond the runs the point lies, 0 inside. `coverage` says what such intervals held
    when tested, and `tested` how they were. Ends are NaN, and `coverage` is empty, if a fit has no
    intervals. `at` is what was asked for, by column. All have one shape; `optima` are there if a
    budget was asked for."""

    loss: Any
    low: Any
    high: Any
    plain_low: Any
    plain_high: Any
    horizon: Any
    level: float
    coverage: str
    notes: tuple[Note, ...]
    at: Mapping[str, Any] = field(default_factory=dict)
    optima: tuple[Optimum, ...] = ()
    fit: Fit | None = field(default=None, repr=False)
    tested: Tested | None = field(default=None, repr=False)
    chosen: Chosen | None = field(default=None, repr=False)
    """Why this law, if none was named."""

    @property
    def params(self) -> Any:
        """N of the runs that are forecast: as asked for, or the best of the budget."""
        return self.at["params"]

    @property
    def tokens(self) -> Any:
        """D of the runs that are forecast: as asked for, or the best of the budget."""
        return self.at["tokens"]

    def to_json(self) -> dict[str, Any]:
        """What `predict --json` prints."""
        assert self.fit is not None
        law = self.fit.law
        return {
            "law": law.name,
            "columns": dict(self.fit.origin.columns),
            "metric": self.metric,
            "coefficients": {name: float(value) for name, value in law.coefficients().items()},
            "level": self.level,
            "predictions": self._points(),
            "coverage": self.coverage,
            "widening": self.widening,
            "best_size": self.best_size,
            "backtest": self.tested and self.tested.figures,
            "kept": self.fit.kept and str(self.fit.kept),
            "chosen": self.chosen and self.chosen.to_json(),
            "warnings": [{"code": note.code, "message": note.message} for note in self.all_notes],
        }

    @property
    def metric(self) -> str:
        """What is forecast: the loss, or the score or error that the law is of."""
        return self.fit.metric if self.fit else "loss"

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """What to know of the fit, and of the forecast."""
        return (*(self.fit.notes if self.fit else ()), *self.notes)

    @property
    def verdict(self) -> str:
        """A sentence on the point that lies furthest beyond the runs."""
        rows = self.rows()
        place = max(range(len(rows)), key=lambda place: rows[place]["horizon"])
        row = rows[place]
        at = ", ".join(f"{LETTERS.get(name, name)} = {amount(name, row)}" for name in self.at)
        said = digits.with_ends(row["loss"], row["low"], row["high"])
        level = f" ({100 * self.level:g}%)" if math.isfinite(row["low"]) else ""
        which = ", the furthest of those asked for" if len(rows) > 1 else ""
        return f"{self.metric} {said}{level} at {at}: {self.from_the_runs(place)}{which}"

    @property
    def widening(self) -> str:
        """What the misfit adds to the interval furthest beyond the runs, if it adds more on one
        side; else nothing."""
        if self.fit is None:
            return ""
        law, row = self.fit.law, max(self.rows(), key=lambda row: row["horizon"])
        ends = ("low", "plain_low", "plain_high", "high")
        with np.errstate(all="ignore"):  # a law may give no positive loss far from its runs
            low, plain_low, plain_high, high = (float(law.level_of(row[name])) for name in ends)
        below, above = plain_low - low, high - plain_high
        more, less = max(below, above), min(below, above)
        if not (more > 2.0 * less and more > _SEEN * (plain_high - plain_low)):
            return ""
        sides = {"below": below, "above": above}
        by = [
            f"by {size(amount, 1, plain=law.plain)} {side}"
            for side, amount in sides.items()
            if amount > _NOTHING * more
        ]
        own = self.tested is not None and self.tested.needs is not None
        whose = "public tables and of this one" if own else "public tables"
        only = "only " if len(by) == 1 else ""
        return f"{only}{' and '.join(by)}, as runs of {whose} needed when held out"

    @property
    def best_size(self) -> str:
        """What the law and the budgets of the table say of N* at the largest budget that was asked
        for; empty if none was."""
        if not self.optima:
            return ""
        return max(self.optima, key=lambda one: one.flops).said

    def rows(self) -> list[dict[str, float]]:
        """One row a point: what was asked for, and every number of the forecast."""
        names = ("loss", "low", "high", "plain_low", "plain_high", "horizon")
        columns = {**self.at, **{name: getattr(self, name) for name in names}}
        flat = {name: np.atleast_1d(values).ravel().tolist() for name, values in columns.items()}
        return [dict(zip(flat, row, strict=True)) for row in zip(*flat.values(), strict=True)]

    def _points(self) -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = list(self.rows())
        for point, best in zip(points, self.optima, strict=False):
            point["intervals"] = {name: list(ends) for name, ends in best.intervals.items()}
            point["isoflop"] = best.isoflop and best.isoflop.to_json()
        return points

    def __repr__(self) -> str:
        return first_lines(str(self))

    def asked(self, place: int) -> list[tuple[str, str, str]]:
        """What one point was asked at: the letter and the amount of every input, and the interval
        of the best N and D of a budget, empty of others."""
        row = self.rows()[place]
        best = self.optima[place].intervals if self.optima else {}
        said = []
        for name in self.at:
            ends = ""
            if name in best:
                low, high = map(format_count, best[name])
                ends = f"[{low}, {high}]"
            said.append((LETTERS.get(name, name), amount(name, row), ends))
        return said

    def how_far(self, place: int) -> str:
        """How many times beyond the runs one point lies, or `below` them, or `inside`."""
        return digits.how_far(self.rows()[place]["horizon"], below=self._is_below(place))

    def from_the_runs(self, place: int) -> str:
        """`inside the runs`, `3.5x beyond the runs`, or `a guess, 5,000x beyond the runs`."""
        horizon = self.rows()[place]["horizon"]
        said = digits.from_the_runs(horizon, below=self._is_below(place))
        return f"a guess, {said}" if horizon > math.log(GUESS) else said

    def _is_below(self, place: int) -> bool:
        """Whether one point is of a smaller run than those that the law was fitted to."""
        inputs = self.fit.law.inputs if self.fit else ()
        if self.fit is None or not all(name in self.at for name in inputs):
            return False
        at = [np.atleast_1d(self.at[name]).ravel()[place] for name in inputs]
        return bool(self.fit.reach.below(inputs, at))

    def __str__(self) -> str:
        lines = [self._line(place) for place in range(len(self.rows()))]
        lines += [f"{name}: {text}" for name, text in self.said()]
        return "\n".join([*lines, *(f"note: {line}" for line in with_codes(self.all_notes))])

    def _line(self, place: int) -> str:
        row = self.rows()[place]
        at = "".join(
            f"{letter} = {cell} {ends}".rstrip() + "  " for letter, cell, ends in self.asked(place)
        )
        said = digits.with_ends(row["loss"], row["low"], row["high"])
        level = f" at {100 * self.level:g}%" if math.isfinite(row["low"]) else ""
        where = self.from_the_runs(place)
        beyond = "" if where == "inside the runs" else f", {where}"
        return f"{at}{self.metric} {said}{level}{beyond}"

    def said(self) -> Iterator[tuple[str, str]]:
        """Why this law, what widens the interval, and what such forecasts held: a name and a
        sentence of each that there is something to say of."""
        named = {
            "law": self.chosen.reason if self.chosen else "",
            "left out": self.chosen.left_out_text if self.chosen else "",
            "widened": self.widening,
            "N*": self.best_size,
        }
        yield from ((name, text) for name, text in named.items() if text)
        if self.coverage:
            yield "coverage", self.coverage

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        interval = f"{100 * self.level:g}% interval"
        letters = [LETTERS.get(name, name) for name in self.at]
        headings = (*letters, self.metric, interval, "by noise alone", "beyond the runs")
        cells = [
            (
                *(f"{cell} {ends}".rstrip() for _, cell, ends in self.asked(place)),
                digits.number(row["loss"], row["low"], row["high"]),
                digits.ends(row["low"], row["high"], row["loss"]),
                digits.ends(row["plain_low"], row["plain_high"], row["loss"]),
                self.how_far(place),
            )
            for place, row in enumerate(self.rows())
        ]
        parts = [
            html.title(self.fit.law.name, self.fit.formula) if self.fit else "",
            html.table(headings, cells),
            *(html.sentence(f"{name}: {text}") for name, text in self.said()),
            html.notes(self.all_notes),
        ]
        return "".join(parts)


def forecast(
    fit: Fit,
    *,
    level: float | None = None,
    check: Tested | None = None,
    run: Any = None,
    **inputs: ArrayLike,
) -> Forecast:
    """The loss of new runs at N=, D=, ... (or by column), with an interval that is meant to hold
    beyond the runs too.

    `check` is what forecasts of this law have held on this table; without one the coverage quoted
    is that of the public tables. `run` are the counts of the run itself, by column, if the law is
    asked for what they are worth: it is as far beyond the runs as the further of both. Raises
    InputError for inputs that are not the law's."""
    level = fit.level if level is None else level
    loss: Any = fit.loss(**inputs)
    plain_low: Any
    plain_high: Any
    plain_low, plain_high = fit.band(single_run=True, level=level, **inputs)
    h: Any = _horizon(fit, inputs, loss.shape)
    if run is not None:
        h = np.maximum(h, _horizon(fit, {**inputs, **run}, loss.shape))
    low: Any
    high: Any
    own = check.needs if check else None
    low, high = _widened_by(fit, loss, (plain_low, plain_high), inputs, h, level, own)
    notes = list(check.notes) if check else []
    notes = [*heights(fit, loss), *far(fit, inputs, h), *notes]
    coverage = ""
    if np.isfinite(plain_low).any():
        coverage = check.coverage if check and check.coverage else public_needs(fit.law).held
    loss, low, high, plain_low, plain_high, h = (
        float(value) if value.ndim == 0 else value
        for value in (loss, low, high, plain_low, plain_high, h)
    )
    return Forecast(
        loss,
        low,
        high,
        plain_low,
        plain_high,
        h,
        level,
        coverage,
        tuple(notes),
        at=_at(fit, inputs, np.shape(loss)),
        fit=fit,
        tested=check,
    )


def amount(name: str, row: Mapping[str, float]) -> str:
    """A count as people write it, and FLOPs as a power of ten."""
    return f"{row[name]:.3g}" if name == "flops" else format_count(row[name])


def _at(fit: Fit, inputs: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> dict[str, Any]:
    """The law's inputs, by column, in the shape of the forecast."""
    at: dict[str, Any] = {}
    for name, values in zip(fit.law.inputs, fit.inputs_at(inputs), strict=True):
        one = np.broadcast_to(values, shape)
        at[name] = one if shape else float(one)
    return at


def law_band(fit: Fit, **inputs: ArrayLike) -> tuple[Array, Array]:
    """Low and high of the law itself at the fit's level, widened beyond the runs as forecasts
    are."""
    loss = fit.loss(**inputs)
    given: dict[str, Any] = dict(inputs)
    own = fit.tested.needs if fit.tested else None
    h = _horizon(fit, inputs, loss.shape)
    return _widened_by(fit, loss, fit.band(**given), inputs, h, fit.level, own)


def _widened_by(
    fit: Fit,
    loss: Array,
    ends: tuple[Array, Array],
    inputs: Mapping[str, ArrayLike],
    h: Array,
    level: float,
    own: OwnNeeds | None,
) -> tuple[Array, Array]:
    public = public_needs(fit.law)
    unit = misfit_scale(fit) * growth(h)
    below, above = (m * unit for m in multipliers(public, own, h, level))
    off = off_the_optimum(fit, inputs, loss.shape)
    extra = np.hypot(below, off), np.hypot(above, off)
    return widened(fit.law, loss, *ends, extra, public.most)


def misfit_scale(fit: Fit) -> float:
    """What the multipliers multiply: in several variables the typical residual of the runs (see
    Reach), in one variable 0.3%."""
    fixed = public_needs(fit.law).scale
    return fit.reach.misfit if fixed is None or fit.law.plain else fixed


def off_the_optimum(fit: Fit, inputs: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> Array:
    """By how much of ln L a law that says how far a run lies above the best of its budget misses
    such runs; 0 for others."""
    if not isinstance(fit.law, Anchored):
        return np.zeros(shape)
    excess = fit.law.excess(*fit.inputs_at(inputs))
    return np.broadcast_to(fit.reach.off * excess, shape)


def _horizon(fit: Fit, inputs: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> Array:
    beyond = fit.reach.beyond(fit.law.inputs, fit.inputs_at(inputs))
    return np.broadcast_to(beyond, shape)

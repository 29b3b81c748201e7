"""Forecasts beyond the runs: the plain interval of a law, widened by a misfit that grows with the
distance.

A law is fitted where the runs are, and is never quite right; its interval knows the noise and the
bootstrap, not that. Fitted on the lower budgets of the public tables, plain 90% intervals held 78%
of the runs at the next budget and 66% further (mean over 12 tables), nearly always because the loss
fell below the forecast. So in ln L each half-width d becomes sqrt(d² + (m s g)²), where s is the
typical residual of the law on its own runs (scaled median, corrected for coefficients; a constant
for laws in one variable, where few residuals tell it), h is how far beyond the runs the forecast
lies, in natural logs of FLOPs or of the law's own variable, and g = sqrt(h² + 0.6 h). Inside the
runs h = 0, and the plain interval stands.

The multipliers m, one for each side, are quantiles of what the public tables needed
(experiments/backtest.py measures them, each family of tables judged by the others alone; the form
of the misfit was chosen with all in view). Laws in several variables needed it mostly on the low
side, laws in one on both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmscale.errors import Note, first_lines
from llmscale.explain import html
from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.laws import LETTERS, Array
from llmscale.notes.predicting import EXTRAPOLATES_FAR, LOSS_NOT_POSITIVE
from llmscale.quantity import format_count

FAR = EXTRAPOLATES_FAR.limit
"""Forecasts more than this many times beyond the runs are called far."""
NEAR_WEIGHT = 0.6
"""How soon the misfit sets in: g = sqrt(h² + 0.6 h)."""


@dataclass(frozen=True)
class Multipliers:
    """How many residual scales a unit of g moves the loss, at some levels: below the forecast and
    above it."""

    levels: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    most: float
    """The misfit moves neither end by more than this many plain half-widths: scatter is not all
    misfit."""
    scale: float | None
    """The residual scale they multiply; None takes the law's own. In one variable too few residuals
    tell it."""
    held: str
    """What forecasts held on the public tables at 90%, each family of tables judged with
    multipliers of the others."""

    def at(self, level: float) -> tuple[float, float]:
        """Both at `level`, linear in the normal quantile between the levels given."""
        known = [_normal(value) for value in self.levels]
        wanted = _normal(level)
        return float(np.interp(wanted, known, self.low)), float(np.interp(wanted, known, self.high))


_LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
SEVERAL_VARIABLES = Multipliers(
    _LEVELS,
    low=(4.27, 5.07, 5.39, 5.48, 6.37),
    high=(0.0, 0.0, 1.87, 2.88, 4.58),
    most=8.0,
    scale=None,
    held="not tested on this table; on 12 public ones 90% forecasts of Chinchilla held 92% of "
    "the runs at the next budget and 94% further (plain intervals 78% and 66%)",
)
"""From Chinchilla on 12 published tables of 7 families."""
ONE_VARIABLE = Multipliers(
    _LEVELS,
    low=(2.25, 2.49, 2.49, 6.2, 7.72),
    high=(1.44, 1.64, 2.26, 4.17, 5.74),
    most=3.0,
    scale=0.003,
    held="not tested on this table; on 111 slices of public ones 90% forecasts in one variable "
    "held 96% of the runs at the next size or budget and 93% further (plain intervals 90% "
    "and 88%)",
)
"""From power-floor in N, D or C on 111 slices of the same tables; lower levels lowered to rise with
the level."""


@dataclass(frozen=True)
class Forecast:
    """Loss in nats per token where asked, with the interval that a new run there should fall in at
    `level`.

    `plain_low` and `plain_high` are what bootstrap and noise give alone. `horizon` is ln of how
    many times beyond the runs the point lies, 0 inside. `coverage` says what such intervals held
    when tested, and `tested` how they were. Ends are NaN if a fit has no intervals. `at` is what
    was asked for, by column. All have one shape; `optima` are there if a budget was asked for."""

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
    optima: "tuple[Optimum, ...]" = ()
    fit: Fit | None = field(default=None, repr=False)
    tested: Tested | None = field(default=None, repr=False)

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
            "coefficients": {name: float(value) for name, value in law.coefficients().items()},
            "level": self.level,
            "predictions": self._points(),
            "coverage": self.coverage,
            "backtest": self.tested and self.tested.figures,
            "kept": self.fit.kept and str(self.fit.kept),
            "warnings": [{"code": note.code, "message": note.message} for note in self.all_notes],
        }

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """What to know of the fit, and of the forecast."""
        return (*(self.fit.notes if self.fit else ()), *self.notes)

    @property
    def verdict(self) -> str:
        """A sentence on the point that lies furthest beyond the runs."""
        row = max(self.rows(), key=lambda row: row["horizon"])
        at = ", ".join(f"{LETTERS.get(name, name)} = {format_count(row[name])}" for name in self.at)
        interval = ""
        if math.isfinite(row["low"]):
            interval = f" [{row['low']:.4f}, {row['high']:.4f}] ({100 * self.level:g}%)"
        beyond = f"{math.exp(row['horizon']):.3g}x beyond the runs"
        where = beyond if row["horizon"] > 0 else "inside the runs"
        which = ", the furthest of those asked for" if len(self.rows()) > 1 else ""
        return f"loss {row['loss']:.4f}{interval} at {at}: {where}{which}"

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
        return points

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [self._line(row) for row in self.rows()]
        lines.append(f"coverage: {self.coverage}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _line(self, row: Mapping[str, float]) -> str:
        at = "".join(f"{LETTERS.get(name, name)} = {format_count(row[name])}  " for name in self.at)
        interval = f"[{row['low']:.4f}, {row['high']:.4f}] at {100 * self.level:g}%"
        horizon = row["horizon"]
        beyond = f", {math.exp(horizon):.3g}x beyond the runs" if horizon > 0 else ""
        return f"{at}{row['loss']:.4f}  {interval}{beyond}"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        interval = f"{100 * self.level:g}% interval"
        letters = [LETTERS.get(name, name) for name in self.at]
        headings = (*letters, "loss", interval, "by noise alone", "beyond the runs")
        cells = [
            (
                *(format_count(row[name]) for name in self.at),
                f"{row['loss']:.4f}",
                html.ends((row["low"], row["high"]), ".4f"),
                html.ends((row["plain_low"], row["plain_high"]), ".4f"),
                f"{math.exp(row['horizon']):.3g}x" if row["horizon"] > 0 else "inside",
            )
            for row in self.rows()
        ]
        parts = [
            html.title(self.fit.law.name, self.fit.formula) if self.fit else "",
            html.table(headings, cells),
            html.sentence(f"coverage: {self.coverage}"),
            html.notes(self.all_notes),
        ]
        return "".join(parts)


@dataclass(frozen=True)
class Optimum:
    """N (params) and D (tokens) of the lowest loss at a budget of `flops`.

    The intervals of params and tokens are confidence intervals: where the optimum of the law lies,
    by the bootstrap. That of `loss` is a prediction interval: where a new run trained there would
    fall, with its own noise, and with the misfit that grows beyond the runs. `law` is the
    confidence interval of the law's lowest loss itself, without either. All are left out if the fit
    has no refits."""

    flops: float
    params: float
    tokens: float
    loss: float
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def forecast(
    fit: Fit, *, level: float | None = None, check: Tested | None = None, **inputs: ArrayLike
) -> Forecast:
    """The loss of new runs at N=, D=, ... (or by column), with an interval that is meant to hold
    beyond the runs too.

    `check` is what forecasts of this law have held on this table; without one the coverage quoted
    is that of the public tables. Raises InputError for inputs that are not the law's."""
    level = fit.level if level is None else level
    loss: Any = fit.loss(**inputs)
    plain_low: Any
    plain_high: Any
    plain_low, plain_high = fit.band(single_run=True, level=level, **inputs)
    h: Any = _horizon(fit, inputs, loss.shape)
    chosen = multipliers_for(fit.law.inputs)
    low: Any
    high: Any
    low, high = _widened_by(fit, loss, plain_low, plain_high, h, level)
    notes = list(check.notes) if check else []
    furthest = float(h.max(initial=0.0))
    if furthest > math.log(FAR):
        notes.insert(
            0,
            EXTRAPOLATES_FAR.note(
                f"the forecast lies {math.exp(furthest):.3g}x beyond the runs: past {FAR:g}x even "
                "widened 90% intervals held 74% of the runs of public tables; measure a larger "
                "budget in between",
            ),
        )
    nowhere = ~(np.asarray(loss) > 0)
    if nowhere.any():
        notes.insert(
            0,
            LOSS_NOT_POSITIVE.note(
                f"{fit.law.name} gives no positive loss at {int(nowhere.sum())} of {nowhere.size} "
                "forecasts: its formula does not hold there; use another law (llmscale laws), or "
                "forecast nearer to the runs",
            ),
        )
    coverage = check.coverage if check and check.coverage else chosen.held
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
    low, high = fit.band(**given)
    h = _horizon(fit, inputs, loss.shape)
    return _widened_by(fit, loss, low, high, h, fit.level)


def _widened_by(
    fit: Fit, loss: Array, low: Array, high: Array, h: Array, level: float
) -> tuple[Array, Array]:
    chosen = multipliers_for(fit.law.inputs)
    return widened(loss, low, high, h, misfit_scale(fit), chosen.at(level), chosen.most)


def multipliers_for(inputs: Sequence[str]) -> Multipliers:
    """Those measured for laws in one variable, or in several."""
    return ONE_VARIABLE if len(inputs) == 1 else SEVERAL_VARIABLES


def misfit_scale(fit: Fit) -> float:
    """What the multipliers multiply: in several variables the typical residual of the runs (see
    Reach), in one variable 0.3%."""
    fixed = multipliers_for(fit.law.inputs).scale
    return fit.reach.misfit if fixed is None else fixed


def _horizon(fit: Fit, inputs: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> Array:
    beyond = fit.reach.beyond(fit.law.inputs, fit.inputs_at(inputs))
    return np.broadcast_to(beyond, shape)


def growth(h: Array) -> Array:
    """g(h), the shape of the misfit."""
    return np.asarray(np.sqrt(h * h + NEAR_WEIGHT * h))


def widened(
    loss: Array,
    low: Array,
    high: Array,
    h: Array,
    scale: ArrayLike,
    multipliers: tuple[float, float],
    most: float,
) -> tuple[Array, Array]:
    """The interval with the misfit added to each side in quadrature, in ln L, as far as `most`
    half-widths."""
    extra = np.asarray(scale) * growth(h)
    with np.errstate(invalid="ignore", divide="ignore"):
        below, above = np.log(loss / low), np.log(high / loss)
        limit = most * 0.5 * (below + above)
        below = _added(below, np.minimum(multipliers[0] * extra, limit))
        above = _added(above, np.minimum(multipliers[1] * extra, limit))
    moved = extra > 0
    return np.where(moved, loss * np.exp(-below), low), np.where(moved, loss * np.exp(above), high)


def _added(half: Array, extra: Array) -> Array:
    """In quadrature; a plain interval that leaves out the law itself (half < 0) moves by
    `extra`."""
    return np.where(half > 0, np.hypot(half, extra), half + extra)


def _normal(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)

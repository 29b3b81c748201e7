"""What a fit gives: the law, intervals, what was left out and why, the held-out check, notes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmscale.errors import InputError, Note, first_lines
from llmscale.explain import html
from llmscale.explain.estimation.constrained import surface_of
from llmscale.explain.estimation.constraints import Constraints
from llmscale.explain.estimation.holdout import Holdout
from llmscale.explain.estimation.lowest_points import LowestPoints
from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.reach import Reach
from llmscale.explain.estimation.verdict import verdict
from llmscale.explain.laws import LETTERS, Array, Law, Surface
from llmscale.explain.table import Excluded, RunTable
from llmscale.explain.table.columns.names import is_loss
from llmscale.notes import with_codes
from llmscale.runs.json_values import plain

_NO_FLOOR = 1e-9
"""Nats per token: floors below it are rounding."""
_ANYTHING = 1e3
"""How many times as high as its lower end the upper end is of an interval that tells nothing."""
_AT_ONCE = 2**22
"""Losses (refits × points) that are held in memory at once."""


@dataclass(frozen=True)
class Origin:
    """What a fit says of its table without having it: where it is, what N counts (`count`), which
    column became what, how many runs and rows there are, what was left out and why, and what its
    losses are (see RunTable)."""

    path: Path
    count: str
    columns: Mapping[str, str]
    reading: str
    size: str
    runs: int
    rows: int
    excluded: tuple[Excluded, ...]
    metric: str = "loss"
    loss_unit: str | None = ""
    asked: tuple[str, ...] | None = ()
    """The options by which the table was read; both are None of a fit that was kept without."""

    @property
    def named(self) -> str:
        """For a sentence: the table, and its path unless it came through a pipe or in Python."""
        path = str(self.path)
        place = "" if path.startswith("<") else f", {path}"
        return f"the table that it was fitted to{place}"


def origin_of(table: RunTable) -> Origin:
    """Where a fit to this table comes from."""
    return Origin(
        path=table.path,
        count=table.count,
        columns=table.columns,
        reading=table.reading,
        size=table.size,
        runs=table.runs,
        rows=len(table.frame),
        excluded=table.excluded,
        metric=table.metric,
        loss_unit=table.loss_unit,
        asked=table.asked,
    )


@dataclass(frozen=True)
class Tested:
    """What forecasts of a law have held on its own table: a sentence, what to warn of, and the
    figures that `predict --json` prints. `coverage` is empty if nothing could be tested. `needs`
    is what the held-out runs needed of their intervals, by which others are made."""

    coverage: str
    notes: tuple[Note, ...]
    figures: Mapping[str, Any]
    needs: OwnNeeds | None = None


@dataclass(frozen=True, eq=False)
class Fit:
    """A law with its best coefficients for a table of runs, and how far to believe them.

    `intervals` are those of the coefficients at `level`, by the way that `options.intervals` names;
    {} if there is none. `covariance` (K, K) is that of the coefficients from the Jacobian at the
    optimum. `replicates` holds one row a bootstrap refit, in the order of the law's coefficients;
    `noise` one log residual a refit, for bands of single runs. Both are empty if no interval can be
    given. `objective` is the sum over runs of weight times rho(log L̂ - log L), raw units, for the
    objective that `options` names; a fit that has not `settled` still creeps along a ridge, by next
    to nothing. `kept` is the file that the fit was read from, and `tested` what
    forecasts of the law have held, as far as it was asked; `lowest_points` is what the budgets of
    the table say of the best size, as it was kept. A fit that was kept has no `runs`."""

    law: Law
    options: Options
    origin: Origin
    reach: Reach
    objective: float
    replicates: Array
    noise: Array
    bootstrap_method: str
    notes: tuple[Note, ...]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    covariance: Array = field(default_factory=lambda: np.empty((0, 0)))
    holdout: Holdout | None = None
    settled: bool = True
    tested: Tested | None = None
    lowest_points: LowestPoints | None = None
    runs: RunTable | None = None
    kept: Path | None = None

    @property
    def level(self) -> float:
        """The share of intervals that should hold the truth."""
        return self.options.level

    @property
    def constraints(self) -> Constraints:
        """What was said of the coefficients before they were fitted."""
        return self.options.constraints

    @property
    def metric(self) -> str:
        """What the law gives: a loss, or `1 - acc`; or of scores and errors what their column is
        called."""
        if self.law.metric == "loss" and not self.law.plain:
            return self.origin.metric
        column = self.origin.columns.get("loss", "loss")
        return self.law.metric if is_loss(column) else column

    @property
    def free(self) -> int:
        """How many coefficients were fitted."""
        return self.constraints.free(self.law.coefficient_names())

    @property
    def formula(self) -> str:
        """The law's formula, with what is said of its coefficients."""
        said = f", with {self.constraints}" if self.constraints else ""
        return f"{self.law.formula}{said}"

    @property
    def untold(self) -> tuple[str, ...]:
        """Coefficients that neither the runs tell nor what is known beforehand."""
        return untold(self.law, self.intervals)

    def shown(self, name: str, significant: int = 6) -> str:
        """A coefficient as text; one that is not told as the power of ten that it happens to be."""
        return f"{self.reads(name):.{1 if name in self.untold else significant}g}"

    def reads(self, name: str) -> float:
        """A coefficient as people are shown it (see `reads`)."""
        return reads(self.law, name)

    def ends(self, name: str) -> str:
        """The interval of a coefficient as text, or what it has instead of one."""
        if name in self.constraints.held:
            leader = self.constraints.tied.get(name)
            return "fixed" if leader is None else f"= {leader}"
        if name in self.untold:
            return "not told by the runs"
        return html.ends(self.interval(name))

    def interval(self, name: str) -> tuple[float, float] | None:
        """The interval of a coefficient as people are shown it."""
        found = self.intervals.get(name)
        if found is None or name != self.law.floor:
            return found
        low, high = (0.0 if abs(end) < _NO_FLOOR else end for end in found)
        return low, high

    @property
    def table(self) -> RunTable:
        """The runs. Raises InputError if the fit was kept without them."""
        if self.runs is None:
            place = self.kept or self.origin.path
            raise InputError(
                f"{place} keeps the fit of {self.law.name}, and not its runs",
                f"name {self.origin.named}",
            )
        return self.runs

    @property
    def verdict(self) -> str:
        """What was found, how it did on the runs held out, and how far to use it, in a sentence.
        Raises InputError if the fit was kept without its runs."""
        return verdict(self)

    @property
    def inputs(self) -> list[Array]:
        """The columns that the law takes, one value a run."""
        return [self.table.frame[name].to_numpy(dtype=float) for name in self.law.inputs]

    @property
    def residuals(self) -> Array:
        """ln(measured loss) - ln(the law's), one a run; of a plain law the losses' difference."""
        measured = self.table.frame["loss"].to_numpy(dtype=float)
        level = self.law.level_of
        return np.asarray(level(measured) - level(self.law.loss(*self.inputs)))

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of every coefficient, from `covariance`; NaN in flat directions."""
        errors = np.sqrt(np.diag(self.covariance))
        names = self.law.coefficient_names()
        return {name: float(value) for name, value in zip(names, errors, strict=True)}

    @cached_property
    def compute_optimal(self) -> dict[str, Any] | None:
        """Exponents of N* ∝ C^a, D* ∝ C^b with intervals, or None if the law has no optimum."""
        best = self.law.compute_optimal()
        if best is None:
            return None
        intervals = {}
        if len(self.replicates):
            refits = with_coefficients(self.law, self.replicates).compute_optimal()
            assert refits is not None
            for name, values in refits.items():
                low, high = percentiles(np.asarray(values).reshape(-1, 1), self.level)
                intervals[name] = (float(low[0]), float(high[0]))
        return {**best, "intervals": intervals}

    def loss(self, **inputs: ArrayLike) -> Array:
        """The law's loss in nats per token at params=, tokens= and so on (or N=, D=, C=)."""
        return np.asarray(self.law.loss(*self.inputs_at(inputs)))

    def band(
        self, *, single_run: bool = False, level: float | None = None, **inputs: ArrayLike
    ) -> tuple[Array, Array]:
        """Low and high of the law at `level`, point by point; NaN if there are none.
        With `single_run`, of one new run with its noise."""
        values = np.broadcast_arrays(*self.inputs_at(inputs))
        if not len(self.replicates):
            nothing = np.full(values[0].shape, np.nan)
            return nothing, nothing.copy()
        refits = with_coefficients(self.law, self.replicates)
        level = self.level if level is None else level
        flat = [value.reshape(1, -1) for value in values]
        ends: list[tuple[Array, Array]] = []
        most = max(_AT_ONCE // len(self.replicates), 1)
        for first in range(0, max(values[0].size, 1), most):
            with np.errstate(all="ignore"):
                losses = refits.loss(*(value[:, first : first + most] for value in flat))
            if single_run:
                losses = self.law.moved(losses, self.noise[:, None])
            ends.append(percentiles(losses, level))
        low, high = map(np.concatenate, zip(*ends, strict=True))
        return low.reshape(values[0].shape), high.reshape(values[0].shape)

    def to_json(self) -> dict[str, Any]:
        """The object that `fit --json` prints for one law."""
        optimal = self.compute_optimal
        scale = "plain" if self.law.plain else "log"
        payload = {
            "law": self.law.name,
            "formula": self.formula,
            "source": self.law.source,
            "method": "parametric",
            "count": self.origin.count,
            "table": str(self.origin.path),
            "variables": list(self.law.inputs),
            "columns": dict(self.origin.columns),
            "metric": self.metric,
            "n_runs": self.origin.runs,
            "n_rows": self.origin.rows,
            "excluded": [
                {"run_id": run.run_id, "reason": run.reason} for run in self.origin.excluded
            ],
            "coefficients": {name: float(value) for name, value in self.law.coefficients().items()},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "fixed": dict(self.constraints.fixed),
            "tied": dict(self.constraints.tied),
            "bounds": {name: list(ends) for name, ends in self.constraints.bounds.items()},
            "interval_method": self.options.intervals,
            "standard_errors": self.standard_errors,
            "level": self.level,
            "bootstrap": len(self.replicates),
            "bootstrap_method": self.bootstrap_method,
            "settled": self.settled,
            "objective": {
                "name": f"{self.options.objective.replace('-', '_')}_{scale}",
                "delta": None if self.options.objective == "squared" else self.options.delta,
                "value": self.objective,
            },
            "compute_optimal": optimal
            and {
                **optimal,
                "intervals": {name: list(ends) for name, ends in optimal["intervals"].items()},
            },
            "holdout": self.holdout and self.holdout.to_json(),
            "warnings": [note.to_json() for note in self.notes],
        }
        return dict(plain(payload))

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [f"{self.formula}  ({self.law.source}), {self.origin.size}"]
        for name in self.law.coefficient_names():
            lines.append(f"  {name:<6} {self.shown(name)}  {self.ends(name)}".rstrip())
        lines += [f"  {self.holdout}"] if self.holdout else []
        lines += [f"  {self.verdict}"] if self.runs is not None else []
        lines += [f"  note: {line}" for line in with_codes(self.notes)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = [(name, self.shown(name), self.ends(name)) for name in self.law.coefficient_names()]
        best = self.compute_optimal or {}
        for name, meaning in (("a", "N* ∝ C^a"), ("b", "D* ∝ C^b")):
            if name in best:
                ends = html.ends(best["intervals"].get(name))
                rows.append((f"{name}, {meaning}", f"{best[name]:.4g}", ends))
        about = f"{self.formula} ({self.law.source}), {self.origin.size}"
        parts = [
            html.title(self.law.name, about),
            html.table(("", self.law.name, f"{100 * self.level:g}% interval"), rows),
            html.sentence(str(self.holdout)) if self.holdout else "",
            html.sentence(self.verdict) if self.runs is not None else "",
            html.notes(self.notes),
        ]
        return "".join(parts)

    def inputs_at(self, given: Mapping[str, ArrayLike]) -> list[Array]:
        """The law's inputs, in its order, from letters or columns. Raises InputError for others."""
        columns = {letter: name for name, letter in LETTERS.items()}
        values = {name: np.asarray(value, dtype=float) for name, value in given.items()}
        at = {columns.get(name, name): value for name, value in values.items()}
        needed = self.law.inputs
        if "flops" in at and "flops" not in needed and ("params" in at) != ("tokens" in at):
            other, missing = ("params", "tokens") if "params" in at else ("tokens", "params")
            at[missing] = at.pop("flops") / (6.0 * at[other])
        if set(at) != set(needed) or len(at) != len(given):
            raise InputError(
                f"{self.law.name} predicts from {', '.join(needed)}, and got "
                f"{', '.join(given) or 'nothing'}",
                f"give {', '.join(f'{LETTERS.get(name, name)}=...' for name in needed)}",
            )
        return [at[name] for name in needed]


def reads(law: Law, name: str) -> float:
    """A coefficient as people are shown it: a floor that is nothing but rounding is 0."""
    value = float(law.coefficients()[name])
    return 0.0 if name == law.floor and abs(value) < _NO_FLOOR else value


def untold(law: Law, intervals: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Coefficients of a law with knowledge of its own whose intervals span more than a thousand
    times."""
    if law.told_by_runs is None:
        return ()
    return tuple(name for name, (low, high) in intervals.items() if high > _ANYTHING * low > 0)


def with_coefficients(law: Law, rows_BK: Array) -> Law:
    """`law` with columns of coefficients, so that one call of `loss` answers for every row."""
    return type(law)(*rows_BK.T[:, :, None], **settings_of(law))


def solved(fit: Fit) -> tuple[Surface, Array, Array]:
    """The surface of a fit, its optimum there, and the level of the losses (see Surface)."""
    loss = fit.table.frame["loss"].to_numpy(dtype=float)
    law, settings = type(fit.law), settings_of(fit.law)
    surface = surface_of(law, settings, fit.inputs, loss, fit.constraints)
    theta_P = surface.theta(np.array([list(fit.law.coefficients().values())]))[0]
    return surface, theta_P, np.asarray(surface.level_of(loss))


def settings_of(law: Law) -> dict[str, Any]:
    """The fields of a law that are not coefficients, like the variable of a law in one."""
    return {item.name: getattr(law, item.name) for item in fields(law) if item.kw_only}


def run_weights(table: RunTable) -> Array:
    """How much each run counts in the objective: the column `weight` if asked for, or one."""
    if "weight" not in table.columns:
        return np.ones(len(table.frame))
    weight = table.frame["weight"].to_numpy(dtype=float)
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise InputError(
            f"column {table.columns['weight']!r}, the weight of the runs, must hold numbers that "
            "are not negative",
            "fix it, or leave weight out of --columns",
        )
    return weight


def percentiles(rows_BX: Array, level: float) -> tuple[Array, Array]:
    """Ends of the central interval at `level` over the rows: two of (X,)."""
    tail = (1 - level) / 2
    # Refits outside a formula's domain predict nothing.
    quantile = np.quantile if np.isfinite(rows_BX).all() else np.nanquantile
    nowhere_X = np.isnan(rows_BX).all(axis=0)
    rows_BX = np.where(nowhere_X, 0.0, rows_BX)
    with np.errstate(invalid="ignore"):
        low, high = np.where(nowhere_X, np.nan, quantile(rows_BX, [tail, 1 - tail], axis=0))
    return low, high

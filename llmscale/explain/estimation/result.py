"""What a fit gives: the law, its intervals, what was left out and why, the held-out check, and
notes.
"""

import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from llmscale.errors import InputError, Note, first_lines
from llmscale.errors.command_lines import command_line
from llmscale.explain.estimation.asked import numbers_asked, points_asked
from llmscale.explain.estimation.bias import Bias, bias_of
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.suitability import law_in_both
from llmscale.explain.forecast.forecast import Forecast, forecast
from llmscale.explain.laws import LETTERS, Array, Law, Surface
from llmscale.explain.table import RunTable
from llmscale.notes.fitting import HOLDOUT_ONE_SIDED
from llmscale.quantity import MOST
from llmscale.runs.json_values import plain
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.safe_paths import refuse_links
from llmscale.runs.safe_write import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST_FLOPS = 6.0
"""One parameter and one token."""
_AT_ONCE = 2**22
"""Losses (refits × points) that are held in memory at once."""


@dataclass(frozen=True)
class Holdout:
    """The check: a fit without the runs of `rule`, asked for their losses.

    `runs` has one row a held-out run: run_id, title (how people name it), params, tokens, flops,
    loss, predicted, low, high, inside, and plain_low, plain_high. `low` and `high` bound a new run
    there, seed noise and a misfit that grows beyond the runs included, the plain ones without that;
    they are NaN where no interval can be given."""

    rule: str
    law: Law
    runs: pd.DataFrame

    @property
    def mean_abs_rel_error(self) -> float:
        """Mean of |predicted/measured - 1| over the held-out runs."""
        return float((self.runs["predicted"] / self.runs["loss"] - 1).abs().mean())

    @property
    def error_text(self) -> str:
        """The mean error as people read it: a share, or beyond 100% a factor."""
        error = self.mean_abs_rel_error
        return f"{error:.2%}" if error < 1 else f"a factor of {1 + error:.3g}"

    @cached_property
    def bias(self) -> Bias:
        """On which side of their forecast the held-out runs lie."""
        return bias_of(self.runs["run_id"], self.runs["loss"], self.runs["predicted"])

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to warn of: `holdout-one-sided`."""
        return (self.bias.note(HOLDOUT_ONE_SIDED, "held-out runs"),) if self.bias.one_sided else ()

    @property
    def has_interval(self) -> bool:
        return bool(np.isfinite(self.runs["low"]).all())

    @property
    def inside_interval(self) -> int | None:
        """How many held-out runs lie inside their interval; None without intervals."""
        return int(self.runs["inside"].sum()) if self.has_interval else None

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        count = len(self.runs)
        text = (
            f"held out ({self.rule}): {count} {'run' if count == 1 else 'runs'} predicted by "
            f"{self.law.name}"
        )
        text += (
            f" with a mean error of {self.error_text}{f' ({self.bias})' if str(self.bias) else ''}"
        )
        return (
            text
            if not self.has_interval
            else f"{text}, {self.inside_interval} of {count} inside the interval"
        )


@dataclass(frozen=True)
class Fit:
    """A law with its best coefficients for a table of runs, and how far to believe them.

    `replicates` holds one row a bootstrap refit, in the order of the law's coefficients; `noise`
    one log residual a refit, for bands of single runs. Both are empty where no interval can be
    given. `objective` is the sum over runs of weight times rho(log L̂ - log L), raw units, for the
    objective that `options` names."""

    law: Law
    table: RunTable
    options: Options
    objective: float
    replicates: Array
    noise: Array
    bootstrap_method: str
    holdout: Holdout | None
    notes: tuple[Note, ...]

    @property
    def level(self) -> float:
        """The share of intervals that should hold the truth."""
        return self.options.level

    @property
    def inputs(self) -> list[Array]:
        """The columns that the law takes, one value a run."""
        return [self.table.frame[name].to_numpy(dtype=float) for name in self.law.inputs]

    @property
    def residuals(self) -> Array:
        """ln(measured loss) - ln(the law's), one a run."""
        return np.log(self.table.frame["loss"].to_numpy(dtype=float)) - np.log(
            self.law.loss(*self.inputs)
        )

    @property
    def variable(self) -> str:
        """The column a one-variable law is fitted in; for other laws the first of its columns."""
        return self.law.inputs[0]

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Interval at `level` of every coefficient, by the way that `options.intervals` names; {}
        where there is none.

        By bootstrap they are percentiles of the refits. A profile interval that stays open ends at
        0 or infinity. By the Jacobian they are Student's, and NaN for coefficients on a bound."""
        names = self.law.coefficient_names()
        if self.options.intervals == "profile":
            from llmscale.explain.estimation.profile import profiles

            return {one.name: (one.low, one.high) for one in profiles(self)}
        if self.options.intervals == "jacobian":
            degrees = len(self.table.frame) - len(names)
            reach = float(stdtrit(degrees, 0.5 + 0.5 * self.level)) if degrees > 0 else math.nan
            errors = self.standard_errors
            values = self.law.coefficients()
            return {
                name: (values[name] - reach * errors[name], values[name] + reach * errors[name])
                for name in names
            }
        if not len(self.replicates):
            return {}
        low, high = percentiles(self.replicates, self.level)
        return {name: (float(low[index]), float(high[index])) for index, name in enumerate(names)}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of every coefficient, from `covariance`; NaN where that is."""
        errors = np.sqrt(np.diag(self.covariance))
        return {
            name: float(value)
            for name, value in zip(self.law.coefficient_names(), errors, strict=True)
        }

    @cached_property
    def compute_optimal(self) -> dict[str, Any] | None:
        """Exponents of N* ∝ C^a, D* ∝ C^b with intervals, or None where the law has no optimum."""
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

    @cached_property
    def covariance(self) -> Array:
        """Covariance of the coefficients from the Jacobian at the optimum, (K, K); rows of flat
        directions are NaN.

        s² (JᵀJ)⁻¹ with the residuals' own variance s², as for least squares: right for small, even,
        Gaussian noise near the optimum. The bootstrap assumes less."""
        surface, theta, log_loss = solved(self)
        jacobian = surface.jacobian(theta)
        free = (theta > surface.lower) & (theta < surface.upper)
        covariance = np.full((len(theta), len(theta)), np.nan)
        degrees = len(log_loss) - int(free.sum())
        if degrees <= 0:
            return covariance
        weight = run_weights(self.table)
        variance = float((weight * self.residuals**2).sum()) / degrees
        inner = (
            np.linalg.pinv((jacobian[:, free] * weight[:, None]).T @ jacobian[:, free], rcond=1e-14)
            * variance
        )
        # To raw units by the slope of the coefficients in theta.
        step = 1e-6 * np.maximum(np.abs(theta), 1.0)
        with np.errstate(all="ignore"):
            ahead = surface.coefficients(theta + np.diag(step))
            behind = surface.coefficients(theta - np.diag(step))
            slope_PK = ((ahead - behind) / (2 * step[:, None]))[free]
            covariance = slope_PK.T @ inner @ slope_PK
        return np.asarray(covariance)

    def loss(self, **inputs: ArrayLike) -> Array:
        """The law's loss in nats per token, at params=, tokens=, ...

        as the law needs (N=, D= and C= will do).
        """
        return np.asarray(self.law.loss(*self.inputs_at(inputs)))

    def predict(self, *, level: float | None = None, **inputs: ArrayLike) -> Forecast:
        """The loss of a new run at N=, D= or C= (or by column: params=, tokens=, ...), with an
        interval that widens beyond the runs (see `fit.forecast`). Each is a number, a text such as
        "1B", or several. Raises InputError."""
        given: dict[str, Any] = points_asked(inputs, self.law.may_be_zero)
        found = forecast(self, level=None if level is None else Options(level=level).level, **given)
        if not np.isfinite(found.loss).all():
            raise InputError(
                f"{self.law.name} gives no finite loss there: its formula does not hold that far "
                "from the runs",
                "forecast nearer to the runs, or use another law (llmscale laws)",
            )
        return found

    def plot(self, kind: str = "scaling", **settings: Any) -> "Figure":
        """A matplotlib figure of `llmscale plot --kind KIND`: width= in inches, title=."""
        from llmscale.explain.figures import Evidence, load_kind
        from llmscale.runs.curve_file import CurveFile

        folder = ResultsFolder(self.table.path)
        inside = folder.runs_path.is_file()
        curves = CurveFile(folder.curves_path) if inside and folder.curves_path.is_file() else None
        evidence = Evidence(self.table, (self,), folder.read_runs() if inside else None, curves)
        return load_kind(kind).draw(evidence, **settings).figure

    def optimal(self, C: float | str, *, level: float | None = None) -> dict[str, Any]:
        """N and D of the lowest loss at C = 6ND FLOPs: params, tokens, loss and `intervals`. Raises
        InputError.

        `llmscale predict -C` prints the same. The intervals of params and tokens are confidence
        intervals: where the optimum of the law lies, by the bootstrap. That of loss is a prediction
        interval: where a new run trained there would fall, with its own noise, and with the misfit
        that grows beyond the runs (see `predict`). `intervals["law"]` is the confidence interval of
        the law's lowest loss itself, without either."""
        level = self.level if level is None else Options(level=level).level
        asked = numbers_asked("C", C)
        if asked.ndim:
            raise InputError(
                f"there are {asked.size} budgets, and one is asked for at a time",
                "give one: C=1e21",
            )
        C = float(asked)
        if not _LEAST_FLOPS <= C <= MOST:
            raise InputError(
                f"a budget of {C:g} FLOPs is not from {_LEAST_FLOPS:g} to {MOST:.0e}",
                "give FLOPs, like C=1e21",
            )
        best = self.law.optimal(C)
        if best is None:
            raise InputError(
                f"{self.law.name} is no law in N and D, and has no optimum at a budget",
                law_in_both(self.table.frame),
            )
        N, D = (float(value) for value in best)
        answer: dict[str, Any] = {
            "params": N,
            "tokens": D,
            "loss": float(self.law.loss(N, D)),
            "intervals": {},
        }
        if len(self.replicates):
            with np.errstate(all="ignore"):
                refits = with_coefficients(self.law, self.replicates)
                found = refits.optimal(C)
                assert found is not None
                losses = refits.loss(*found)
            for name, values in zip(("params", "tokens", "law"), (*found, losses), strict=True):
                low, high = percentiles(np.asarray(values).reshape(-1, 1), level)
                answer["intervals"][name] = (float(low[0]), float(high[0]))
            told = self.predict(params=N, tokens=D, level=level)
            answer["intervals"]["loss"] = (told.low, told.high)
        return answer

    def band(
        self, *, single_run: bool = False, level: float | None = None, **inputs: ArrayLike
    ) -> tuple[Array, Array]:
        """Low and high of the law at `level`, point by point; with `single_run`, of one new run
        with its noise.

        NaN where no interval can be given.
        """
        values = np.broadcast_arrays(*self.inputs_at(inputs))
        if not len(self.replicates):
            nothing = np.full(values[0].shape, np.nan)
            return nothing, nothing.copy()
        refits, level = (
            with_coefficients(self.law, self.replicates),
            self.level if level is None else level,
        )
        flat = [value.reshape(1, -1) for value in values]
        ends: list[tuple[Array, Array]] = []
        most = max(_AT_ONCE // len(self.replicates), 1)
        for first in range(0, max(values[0].size, 1), most):
            with np.errstate(all="ignore"):
                losses = refits.loss(*(value[:, first : first + most] for value in flat))
            if single_run:
                losses = losses * np.exp(self.noise[:, None])
            ends.append(percentiles(losses, level))
        low, high = (
            np.concatenate(side).reshape(values[0].shape) for side in zip(*ends, strict=True)
        )
        return low, high

    def to_json(self) -> dict[str, Any]:
        """The object that `fit --json` prints for one law."""
        optimal = self.compute_optimal
        payload = {
            "law": self.law.name,
            "formula": self.law.formula,
            "source": self.law.source,
            "method": "parametric",
            "count": self.table.count,
            "table": str(self.table.path),
            "variables": list(self.law.inputs),
            "columns": dict(self.table.columns),
            "n_runs": self.table.runs,
            "n_rows": len(self.table.frame),
            "excluded": [
                {"run_id": run.run_id, "reason": run.reason} for run in self.table.excluded
            ],
            "coefficients": {name: float(value) for name, value in self.law.coefficients().items()},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "interval_method": self.options.intervals,
            "standard_errors": self.standard_errors,
            "level": self.level,
            "bootstrap": len(self.replicates),
            "bootstrap_method": self.bootstrap_method,
            "settled": True,
            "objective": {
                "name": f"{self.options.objective.replace('-', '_')}_log",
                "delta": None if self.options.objective == "squared" else self.options.delta,
                "value": self.objective,
            },
            "compute_optimal": optimal
            and {
                **optimal,
                "intervals": {name: list(ends) for name, ends in optimal["intervals"].items()},
            },
            "holdout": self.holdout and _holdout_json(self.holdout),
            "warnings": [{"code": note.code, "message": note.message} for note in self.notes],
        }
        return dict(plain(payload))

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [f"{self.law.formula}  ({self.law.source}), {self.table.size}"]
        for name, value in self.law.coefficients().items():
            ends = self.intervals.get(name)
            interval = f"  [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
            lines.append(f"  {name:<6} {value:.6g}{interval}")
        lines += [f"  {self.holdout}"] if self.holdout else []
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = "".join(
            f"<tr><td>{name}</td><td>{value:.6g}</td><td>{_ends(self.intervals.get(name))}</td></tr>"
            for name, value in self.law.coefficients().items()
        )
        head = f"<tr><th>{self.law.name}</th><th></th><th>{100 * self.level:g}% interval</th></tr>"
        held = f"<p>{html.escape(str(self.holdout))}</p>" if self.holdout else ""
        notes = "".join(f"<li>{html.escape(str(note))}</li>" for note in self.notes)
        return (
            f"<p>{html.escape(self.law.formula)} ({html.escape(self.law.source)}), "
            f"{self.table.size}</p><table>{head}{rows}</table>{held}<ul>{notes}</ul>"
        )

    def inputs_at(self, given: Mapping[str, ArrayLike]) -> list[Array]:
        """The law's inputs, in its order, from letters or columns. Raises InputError for others."""
        columns = {letter: name for name, letter in LETTERS.items()}
        at = {
            columns.get(name, name): np.asarray(value, dtype=float) for name, value in given.items()
        }
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


def to_json(fits: Sequence[Fit]) -> dict[str, Any]:
    """The first fit's object with the others under `alternatives`: what `fit --json` prints."""
    return {**fits[0].to_json(), "alternatives": [fit.to_json() for fit in fits[1:]]}


def write_fits(fits: Sequence[Fit]) -> tuple[Path, ...]:
    """Write fit-LAW.json for every fit into the results folder they were read from, if it is one.

    Raises InputError.
    """
    source = fits[0].table.path
    if not source.is_dir():
        return ()
    if not os.access(source, os.W_OK):
        elsewhere = command_line("llmscale", "fit", ResultsFolder(source).runs_path)
        raise InputError(
            f"the fit cannot be written into {source}: the folder is read-only",
            f"fit the file in it, which writes nothing: {elsewhere}",
        )
    refuse_links(source, with_runs=False)
    paths = []
    for fit in fits:
        path = ResultsFolder(source).fit_path(fit.law.name)
        payload = to_json([fit, *(other for other in fits if other is not fit)])
        write_text(path, json.dumps(payload, indent=2, allow_nan=False) + "\n")
        paths.append(path)
    return tuple(paths)


def with_coefficients(law: Law, rows_BK: Array) -> Law:
    """`law` with columns of coefficients, so that one call of `loss` answers for every row."""
    return type(law)(*rows_BK.T[:, :, None], **settings_of(law))


def solved(fit: Fit) -> tuple[Surface, Array, Array]:
    """The surface of a fit, its optimum there, and ln L."""
    loss = fit.table.frame["loss"].to_numpy(dtype=float)
    surface = type(fit.law).surface(fit.inputs, loss, **settings_of(fit.law))
    theta_P = surface.theta(np.array([list(fit.law.coefficients().values())]))[0]
    return surface, theta_P, np.log(loss)


def settings_of(law: Law) -> dict[str, Any]:
    """The fields of a law that are not coefficients, like the variable of a law in one."""
    return {item.name: getattr(law, item.name) for item in fields(law) if item.kw_only}


def run_weights(table: RunTable) -> Array:
    """How much each run counts in the objective: the column `weight`, if it was asked for, or one
    each.
    """
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
    low, high = quantile(rows_BX, [tail, 1 - tail], axis=0)
    return low, high


def _ends(interval: tuple[float, float] | None) -> str:
    return f"[{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""


def _holdout_json(holdout: Holdout) -> dict[str, Any]:
    return {
        "rule": holdout.rule,
        "law": holdout.law.name,
        "n": len(holdout.runs),
        "mean_abs_rel_error": holdout.mean_abs_rel_error,
        "bias": holdout.bias.to_json(),
        "inside_interval": holdout.inside_interval,
        "coefficients": {name: float(value) for name, value in holdout.law.coefficients().items()},
        "runs": holdout.runs.to_dict(orient="records"),
    }

"""What a fit gives: the law, its intervals, what was left out and why, the held-out check, and notes."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from llmscale.errors import InputError, Note
from llmscale.laws import Array, Law
from llmscale.runs import ResultsFolder, write_text
from llmscale.table import RunTable


@dataclass(frozen=True)
class Holdout:
    """The check: a fit without the runs of `rule`, asked for their losses.

    `runs` has one row a held-out run: run_id, params, tokens, flops, loss, predicted, low, high, inside. `low`
    and `high` bound a new run, seed noise and misfit included; they are NaN where no interval can be given.
    """

    rule: str
    law: Law
    runs: pd.DataFrame

    @property
    def mean_abs_rel_error(self) -> float:
        """Mean of |predicted/measured - 1| over the held-out runs."""
        return float((self.runs["predicted"] / self.runs["loss"] - 1).abs().mean())

    @property
    def has_interval(self) -> bool:
        return bool(np.isfinite(self.runs["low"]).all())

    @property
    def inside_interval(self) -> int | None:
        """How many held-out runs lie inside their interval; None without intervals."""
        return int(self.runs["inside"].sum()) if self.has_interval else None

    def __str__(self) -> str:
        count = len(self.runs)
        text = f"held out ({self.rule}): {count} {'run' if count == 1 else 'runs'} predicted by {self.law.name}"
        text += f" with a mean error of {100 * self.mean_abs_rel_error:.2f}%"
        return text if not self.has_interval else f"{text}, {self.inside_interval} of {count} inside the interval"


@dataclass(frozen=True)
class Fit:
    """A law with its best coefficients for a table of runs, and how far to believe them.

    `replicates` holds one row a bootstrap refit, in the order of the law's coefficients; `noise` one log residual
    a refit, for bands of single runs. Both are empty where no interval can be given. `objective` is the sum over
    runs of Huber_delta(log L̂ - log L), raw units.
    """

    law: Law
    table: RunTable
    level: float
    delta: float
    objective: float
    replicates: Array
    noise: Array
    bootstrap_method: str
    holdout: Holdout | None
    notes: tuple[Note, ...]

    @property
    def variable(self) -> str:
        """The column a one-variable law is fitted in; for other laws the first of its columns."""
        return self.law.inputs[0]

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Percentile interval at `level` of every coefficient; empty where none can be given."""
        if not len(self.replicates):
            return {}
        low, high = _percentiles(self.replicates, self.level)
        return {
            name: (float(low[index]), float(high[index])) for index, name in enumerate(self.law.coefficient_names())
        }

    @cached_property
    def compute_optimal(self) -> dict[str, Any] | None:
        """Exponents of N* ∝ C^a, D* ∝ C^b with intervals, or None where the law has no optimum."""
        best = self.law.compute_optimal()
        if best is None:
            return None
        intervals = {}
        if len(self.replicates):
            refits = _with_coefficients(self.law, self.replicates).compute_optimal()
            assert refits is not None
            for name, values in refits.items():
                low, high = _percentiles(np.asarray(values).reshape(-1, 1), self.level)
                intervals[name] = (float(low[0]), float(high[0]))
        return {**best, "intervals": intervals}

    def predict(self, **inputs: ArrayLike) -> Array:
        """The law's loss in nats per token, at params=, tokens= or flops= as the law needs."""
        return np.asarray(self.law.loss(*self._inputs(inputs)))

    def band(self, *, single_run: bool = False, **inputs: ArrayLike) -> tuple[Array, Array]:
        """Low and high of the law at `level`, point by point; with `single_run`, of one new run with its noise.

        NaN where no interval can be given.
        """
        values = np.broadcast_arrays(*self._inputs(inputs))
        if not len(self.replicates):
            nothing = np.full(values[0].shape, np.nan)
            return nothing, nothing.copy()
        losses = _with_coefficients(self.law, self.replicates).loss(*(value.reshape(1, -1) for value in values))
        if single_run:
            losses = losses * np.exp(self.noise[:, None])
        low, high = _percentiles(losses, self.level)
        return low.reshape(values[0].shape), high.reshape(values[0].shape)

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
            "n_runs": len(self.table.frame),
            "excluded": [{"run_id": run.run_id, "reason": run.reason} for run in self.table.excluded],
            "coefficients": {name: float(value) for name, value in self.law.coefficients().items()},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "level": self.level,
            "bootstrap": len(self.replicates),
            "bootstrap_method": self.bootstrap_method,
            "settled": True,
            "objective": {"name": "huber_log", "delta": self.delta, "value": self.objective},
            "compute_optimal": optimal
            and {**optimal, "intervals": {name: list(ends) for name, ends in optimal["intervals"].items()}},
            "holdout": self.holdout and _holdout_json(self.holdout),
            "warnings": [{"code": note.code, "message": note.message} for note in self.notes],
        }
        return dict(_finite(payload))

    def __str__(self) -> str:
        lines = [f"{self.law.formula}  ({self.law.source}), {len(self.table.frame)} runs"]
        for name, value in self.law.coefficients().items():
            ends = self.intervals.get(name)
            interval = f"  [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
            lines.append(f"  {name:<6} {value:.6g}{interval}")
        lines += [f"  {self.holdout}"] if self.holdout else []
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _inputs(self, given: dict[str, ArrayLike]) -> list[Array]:
        missing = [name for name in self.law.inputs if name not in given]
        if missing or len(given) > len(self.law.inputs):
            raise InputError(
                f"{self.law.name} predicts from {', '.join(self.law.inputs)}, and got {', '.join(given) or 'nothing'}",
                f"give {', '.join(f'{name}=...' for name in self.law.inputs)}",
            )
        return [np.asarray(given[name], dtype=float) for name in self.law.inputs]


def to_json(fits: Sequence[Fit]) -> dict[str, Any]:
    """The first fit's object with the others under `alternatives`: what `fit --json` prints."""
    return {**fits[0].to_json(), "alternatives": [fit.to_json() for fit in fits[1:]]}


def write_fits(fits: Sequence[Fit]) -> tuple[Path, ...]:
    """Write fit-LAW.json for every fit into the results folder they were read from, if it is one. Raises InputError."""
    source = fits[0].table.path
    if not source.is_dir():
        return ()
    if not os.access(source, os.W_OK):
        raise InputError(
            f"the fit cannot be written into {source}: the folder is read-only",
            f"fit the file in it, which writes nothing: llmscale fit {ResultsFolder(source).runs_path}",
        )
    paths = []
    for fit in fits:
        path = ResultsFolder(source).fit_path(fit.law.name)
        payload = to_json([fit, *(other for other in fits if other is not fit)])
        write_text(path, json.dumps(payload, indent=2, allow_nan=False) + "\n")
        paths.append(path)
    return tuple(paths)


def _with_coefficients(law: Law, rows_BK: Array) -> Law:
    """`law` with columns of coefficients, so that one call of `loss` answers for every row."""
    settings = {"variable": law.inputs[0]} if hasattr(law, "variable") else {}
    return type(law)(*rows_BK.T[:, :, None], **settings)


def _percentiles(rows_BX: Array, level: float) -> tuple[Array, Array]:
    tail = (1 - level) / 2
    low, high = np.quantile(rows_BX, [tail, 1 - tail], axis=0)
    return low, high


def _holdout_json(holdout: Holdout) -> dict[str, Any]:
    return {
        "rule": holdout.rule,
        "law": holdout.law.name,
        "n": len(holdout.runs),
        "mean_abs_rel_error": holdout.mean_abs_rel_error,
        "inside_interval": holdout.inside_interval,
        "coefficients": {name: float(value) for name, value in holdout.law.coefficients().items()},
        "runs": holdout.runs.to_dict(orient="records"),
    }


def _finite(value: Any) -> Any:
    """`value` with null for numbers that JSON has no way to write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value

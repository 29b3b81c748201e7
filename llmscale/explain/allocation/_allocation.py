"""How a method splits a budget between parameters and tokens, and how far to believe it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import LlmscaleError, Note, both, first_lines
from llmscale.explain import html
from llmscale.explain.allocation import _frontier
from llmscale.explain.allocation._frontier import Frontier
from llmscale.explain.fit import Options, fit_law
from llmscale.explain.laws import Array, Law
from llmscale.explain.table import RunTable
from llmscale.notes import Weight, weight_of, with_codes
from llmscale.notes.predicting import (
    BIAS_UNKNOWN,
    ENVELOPE_BIAS,
    EXPONENT_IMPLAUSIBLE,
    ISOFLOP_BIAS,
)
from llmscale.quantity import format_count
from llmscale.runs.json_values import plain

_MOST_CODES = 2
HORIZONS = (1.0, 10.0, 100.0)
"""Optima are shown at the largest budget of the table, and 10 and 100 times beyond."""


Optima = tuple[Array, Array, Array, list[str | None]]
"""ln C and ln N of optima, their weight in the power law, and why some have no weight."""


@dataclass(frozen=True)
class Bias:
    """What a method finds on a noise-free surface at the table's runs, next to the surface's truth.
    The surface is a law fitted to the same table (Czech et al. 2026, arXiv 2603.22339)."""

    surface: Law
    truth: Frontier
    found: Frontier

    @property
    def exponent(self) -> float:
        """By how much the method's exponent a is too large."""
        return float(self.found.a - self.truth.a)

    def factor(self, flops: float) -> float:
        """The method's N* over the true one at C FLOPs."""
        return float(self.found.params(flops) / self.truth.params(flops))


@dataclass(frozen=True)
class Allocation:
    """N* ∝ C^a and D* ∝ C^b by one method, with C = k N D (k is `frontier.flops_factor`).

    `refits` holds a and ln N* at one FLOP of every bootstrap refit, (B, 2), empty without
    intervals. `budgets` has a row for each optimum the method found: flops, params, tokens, loss,
    low and high (of params, at `level`), n_runs, n_sizes, used, reason (why not), and the method's
    own columns. `membership` is the row of `budgets` of each run of the table, -1 for none. `law`
    is there if the method has fitted one."""

    method: str
    source: str
    table: RunTable
    frontier: Frontier
    refits: Array
    level: float
    budgets: pd.DataFrame
    notes: tuple[Note, ...]
    bias: Bias | None = None
    law: Law | None = None
    membership: NDArray[np.int_] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.a < 1:
            message = (
                f"a = {self.a:.3g} would shrink {'parameters' if self.a <= 0 else 'tokens'} as "
                f"compute grows: {self.method} has not found the optimum in these runs"
            )
            object.__setattr__(self, "notes", (*self.notes, EXPONENT_IMPLAUSIBLE.note(message)))

    @property
    def a(self) -> float:
        """The exponent of N* ∝ C^a."""
        return float(self.frontier.a)

    @property
    def b(self) -> float:
        """The exponent of D* ∝ C^b."""
        return float(self.frontier.b)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Percentile intervals of a and b at `level`; empty if none can be given."""
        if not len(self.refits):
            return {}
        return {
            "a": interval(self.refits[:, 0], self.level),
            "b": interval(1.0 - self.refits[:, 0], self.level),
        }

    @property
    def corrected(self) -> Frontier | None:
        """The frontier less the bias measured on the fitted surface, if that is known."""
        if self.bias is None:
            return None
        found, truth = self.bias.found, self.bias.truth
        return Frontier(
            self.frontier.a - (found.a - truth.a),
            self.frontier.log_params - (found.log_params - truth.log_params),
            self.frontier.flops_factor,
        )

    @property
    def largest_flops(self) -> float:
        """The largest budget of the table, FLOPs."""
        return float(self.table.frame["flops"].max())

    def optimal(self, flops: float) -> dict[str, Any]:
        """N*, D*, tokens a parameter and loss (None without a law) at C FLOPs, with intervals."""
        params, tokens = float(self.frontier.params(flops)), float(self.frontier.tokens(flops))
        loss = None
        if self.law is not None:
            columns = {"params": params, "tokens": tokens, "flops": flops}
            loss = float(self.law.loss(*(columns[name] for name in self.law.inputs)))
        intervals = {}
        if len(self.refits):
            refits = Frontier(self.refits[:, 0], self.refits[:, 1], self.frontier.flops_factor)
            intervals["params"] = interval(refits.params(flops), self.level)
            intervals["tokens"] = interval(refits.tokens(flops), self.level)
        return {
            "flops": float(flops),
            "params": params,
            "tokens": tokens,
            "tokens_per_param": tokens / params,
            "loss": loss,
            "intervals": intervals,
        }

    def to_json(self) -> dict[str, Any]:
        """The object that `fit --method NAME --json` prints."""
        corrected, bias, largest = self.corrected, self.bias, self.largest_flops
        payload = {
            "method": self.method,
            "source": self.source,
            "law": self.law.name if self.law else None,
            "count": self.table.count,
            "table": str(self.table.path),
            "columns": dict(self.table.columns),
            "n_runs": self.table.runs,
            "excluded": [
                {"run_id": run.run_id, "reason": run.reason} for run in self.table.excluded
            ],
            "compute_optimal": {"a": self.a, "b": self.b, "intervals": self.intervals},
            "flops_factor": self.frontier.flops_factor,
            "optimal": [self.optimal(times * largest) for times in HORIZONS],
            "budgets": self.budgets.to_dict(orient="records"),
            "bias": bias
            and {
                "surface": bias.surface.name,
                "coefficients": bias.surface.coefficients(),
                "a": bias.exponent,
                "params_factor": [
                    {"flops": times * largest, "factor": bias.factor(times * largest)}
                    for times in HORIZONS
                ],
            },
            "corrected": corrected and {"a": float(corrected.a), "b": float(corrected.b)},
            "level": self.level,
            "bootstrap": len(self.refits),
            "warnings": [note.to_json() for note in self.notes],
        }
        return dict(plain(payload))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        about = f"({self.source}), {len(self.table.frame)} runs"
        parts = [
            html.title(self.method, about),
            html.table(("", "exponent"), self._exponents()),
            html.table(("C", "N*", "D*"), self._optima()),
            html.notes(self.notes),
        ]
        return "".join(parts)

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        optima = f", {int(self.budgets['used'].sum())} optima" if len(self.budgets) else ""
        lines = [f"{self.method} ({self.source}), {len(self.table.frame)} runs{optima}"]
        wrong = [note.code for note in self.notes if weight_of(note) is Weight.WRONG]
        if wrong:
            grave = list(dict.fromkeys(wrong))[:_MOST_CODES]
            are = "is" if len(grave) == 1 else "are"
            lines.append(f"  not to be relied on before {both(grave)} {are} settled")
        lines += [f"  {name}  {value}" for name, value in self._exponents()]
        lines += [
            f"  C = {C}: N* = {params}, D* = {tokens}" for C, params, tokens in self._optima()
        ]
        lines += [f"  note: {line}" for line in with_codes(self.notes)]
        return "\n".join(lines)

    def _exponents(self) -> list[tuple[str, str]]:
        """The exponents with their intervals, as text."""
        rows = []
        for name, meaning, value in (("a", "N* ∝ C^a", self.a), ("b", "D* ∝ C^b", self.b)):
            ends = self.intervals.get(name)
            shown = f" [{ends[0]:.4f}, {ends[1]:.4f}]" if ends else ""
            rows.append((f"{name}, {meaning}", f"{value:.4f}{shown}"))
        return rows

    def _optima(self) -> list[tuple[str, str, str]]:
        """C, N* and D* at every horizon, as text with intervals."""
        rows = []
        for times in HORIZONS:
            best = self.optimal(times * self.largest_flops)
            params, tokens = (_with_ends(best, name) for name in ("params", "tokens"))
            rows.append((f"{best['flops']:.3g}", params, tokens))
        return rows


def interval(values: Array, level: float) -> tuple[float, float]:
    """Percentile interval at `level`."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def measure_bias(
    table: RunTable,
    law: str | type[Law] | Law | None,
    options: Options,
    factor: float,
    again: Callable[[Array, Law], Frontier],
) -> tuple[Bias | None, tuple[Note, ...]]:
    """The bias of a method: `again` applies it to the surface's losses at the table's runs.

    None, with a note, if no surface can be fitted or it has no optimum; None without a law."""
    if law is None:
        return None, ()
    try:
        if isinstance(law, Law):
            surface = law
        else:
            surface = fit_law(table, law, options, bootstrap=0, holdout="none").law
        columns = [table.frame[name].to_numpy() for name in surface.inputs]
        largest = float(table.frame["flops"].max())
        truth, _ = _frontier.of_law(surface, largest, factor)
        if not (0 < truth.a < 1 and min(truth.params(largest), truth.tokens(largest)) > 2):
            message = (
                f"the method's bias is not known: the {surface.name} fitted to these runs has no "
                "optimum"
            )
            return None, (BIAS_UNKNOWN.note(message),)
        bias = Bias(surface, truth, again(np.asarray(surface.loss(*columns)), surface))
    except LlmscaleError as error:
        message = f"the method's bias on these runs is not known: {error.problem}"
        return None, (BIAS_UNKNOWN.note(message),)
    if not np.isfinite([bias.exponent, float(bias.found.log_params)]).all():
        message = (
            f"the method's bias is not known: it finds no optimum on the fitted {surface.name}"
        )
        return None, (BIAS_UNKNOWN.note(message),)
    return bias, ()


_LARGE_FACTOR = 2.0
"""A bias of N* at the largest budget from which the result is likely wrong."""
_BIAS_OF = {"isoflop": ISOFLOP_BIAS, "envelope": ENVELOPE_BIAS}


def bias_note(method: str, found: Frontier, bias: Bias, largest: float) -> Note:
    """The measured bias in a sentence; a large one makes the result likely wrong."""
    kind = _BIAS_OF[method]
    off = abs(float(np.log(bias.factor(largest))))
    large = abs(bias.exponent) > kind.limit or off > np.log(_LARGE_FACTOR)
    return kind.note(
        f"without any noise, {method} on exactly these runs of the fitted {bias.surface.name} "
        f"finds a = {bias.found.a:.4f} where the truth is {bias.truth.a:.4f} "
        f"({bias.exponent:+.4f}), and N* {percent(bias.factor(largest))} at the largest budget, "
        f"{percent(bias.factor(10 * largest))} at ten times that; less this bias, a = "
        f"{found.a - bias.exponent:.4f}",
        Weight.WRONG if large else None,
    )


def percent(factor: float) -> str:
    """`12% too large`, `30% too small`."""
    away = abs(factor - 1)
    if away < 5e-4:
        return "exact"
    if factor >= 2:
        return f"{factor:.2g} times too large"
    return f"{100 * away:.2g}% too {'large' if factor > 1 else 'small'}"


def _with_ends(best: dict[str, Any], name: str) -> str:
    ends = best["intervals"].get(name)
    shown = f" [{format_count(ends[0])}, {format_count(ends[1])}]" if ends else ""
    return f"{format_count(best[name])}{shown}"

"""Backtest: a law fitted again on the lower budgets and asked for the runs of the higher ones,
origin after origin.

What it says of forecasts is what happened, not what should have: how many held-out runs fell inside
their interval, at the next budget and further, with the plain interval and with the widened one
(see forecast/forecast.py)."""

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtr

from llmscale.errors import LlmscaleError, Note, counted, first_lines
from llmscale.explain.estimation.anchor import nearness
from llmscale.explain.estimation.bias import Bias, bias_of
from llmscale.explain.estimation.levels import MEASURED, points
from llmscale.explain.estimation.needs import OwnNeeds
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.estimation.suitability import inputs_of
from llmscale.explain.fit.parametric import bare_fit
from llmscale.explain.fit.sources import Source, as_table
from llmscale.explain.forecast import forecast as forecasts
from llmscale.explain.forecast.widths import growth, needed
from llmscale.explain.laws import Array, Law, law_named
from llmscale.notes import with_codes
from llmscale.notes.predicting import FORECAST_NOT_COVERED, FORECAST_NOT_TESTED, FORECAST_ONE_SIDED
from llmscale.runs.json_values import plain

BUDGET_WIDTH = 1.5
"""Runs within this factor of the smallest of a budget belong to it."""
REFITS = 200
"""Bootstrap refits at each origin, unless told."""
LOWEST_BUDGETS = 3
"""An origin has at least this many budgets behind it."""
_MISSED, _RARE = FORECAST_NOT_COVERED.limit, 0.01
"""Intervals do not cover that hold this much less than their level, if chance is this rare."""
_MOST_NEEDS = 1000
"""Of more held-out rows as many say what intervals needed."""
_COLUMNS = (
    "origin", "fitted", "budget", "steps", "horizon", "scale", "run_id", "loss", "excess",
    "predicted", "plain_low", "plain_high", "low", "high", "needed_low", "needed_high",
    "off",
)  # fmt: skip


@dataclass(frozen=True)
class Backtest:
    """Every held-out prediction, and what share fell inside.

    `frame` has one row a held-out run and origin: origin (index of the last budget fitted), fitted
    (runs behind it), budget, steps (1 is the next one), horizon (ln of times beyond the runs),
    scale (of the law's residuals), run_id, loss, excess (ln of loss over the lowest of its budget),
    predicted, plain_low, plain_high, low, high, needed_low, needed_high (see widths.py), off (what
    is added off the optimum). It is empty if the table has too few budgets."""

    law: str
    level: float
    budgets: int
    frame: pd.DataFrame
    plain: bool = False
    """Whether the law's residuals are differences, and not of logarithms."""

    @property
    def n(self) -> int:
        """How many held-out predictions were judged."""
        return len(self.frame)

    @property
    def origins(self) -> int:
        return int(self.frame["origin"].nunique())

    @cached_property
    def inside(self) -> dict[str, dict[str, float]]:
        """Share inside, of `plain` and `widened` intervals, at the `next` budget and `further`; NaN
        without runs."""
        loss, near = self.frame["loss"], self.frame["steps"] == 1
        shares: dict[str, dict[str, float]] = {}
        for name, low, high in (("plain", "plain_low", "plain_high"), ("widened", "low", "high")):
            held = (self.frame[low] <= loss) & (loss <= self.frame[high])
            shares[name] = {"next": _mean(held[near]), "further": _mean(held[~near])}
        return shares

    @cached_property
    def width_ratio(self) -> dict[str, float]:
        """Median width of the widened interval over that of the plain one, at the next budget,
        further, and at all."""
        frame = self.frame
        ends = frame[["low", "high", "plain_low", "plain_high"]]
        level = ends if self.plain else np.log(ends)
        ratio = (level["high"] - level["low"]) / (level["plain_high"] - level["plain_low"])
        near = frame["steps"] == 1
        return {
            "next": _median(ratio[near]),
            "further": _median(ratio[~near]),
            "all": _median(ratio),
        }

    @property
    def coverage(self) -> str:
        """One sentence on what the intervals held; empty if nothing could be tested."""
        if not self.n:
            return ""
        parts = []
        for where, words in (("next", "at the next budget"), ("further", "further")):
            asked = self.frame[(self.frame["steps"] == 1) == (where == "next")]
            count = len(asked)
            # Checkpoints of one run are no tests of their own.
            size = f"{count} runs"
            if asked.duplicated(["origin", "run_id"]).any():
                size = f"{count} rows of {counted(int(asked['run_id'].nunique()), 'run')}"
            if count:
                widened, plain = (self.inside[name][where] for name in ("widened", "plain"))
                if count == 1:
                    held, plainly = f"{widened:.0f} of 1 run", f"{plain:.0f}"
                else:
                    held, plainly = f"{widened:.0%} of {size}", f"{plain:.0%}"
                parts.append(f"{held} {words} (plain intervals {plainly})")
        held = f"on this table {100 * self.level:g}% forecasts held {' and '.join(parts)}"
        return f"{held}, from {counted(self.origins, 'origin')}"

    @cached_property
    def bias(self) -> Bias:
        """On which side of their forecast the runs of the next budget lie, each judged once."""
        near = self.frame[self.frame["steps"] == 1]
        return bias_of(near["run_id"], near["loss"], near["predicted"], plain=self.plain)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to warn of: `forecast-not-tested`; or `forecast-not-covered` and
        `forecast-one-sided`, as measured."""
        if not self.n:
            message = (
                f"{self.budgets} {'budget is' if self.budgets == 1 else 'budgets are'} too few to "
                f"test forecasts of {self.law} on this table: their width is the one that public "
                "tables needed"
            )
            return (FORECAST_NOT_TESTED.note(message),)
        one_sided = (
            self.bias.note(FORECAST_ONE_SIDED, "runs at the next budget")
            if self.bias.one_sided
            else None
        )
        return tuple(note for note in (self._not_covered, one_sided) if note is not None)

    def not_covered(self, what: str, remedy: str) -> Note | None:
        """The note on intervals that hold too few runs, for `what` was forecast; None if they hold
        enough, or if there are too few runs to judge."""
        held = (self.frame["low"] <= self.frame["loss"]) & (
            self.frame["loss"] <= self.frame["high"]
        )
        # A run that several origins are asked for is one measurement, and is missed or held as one.
        held_R = held.groupby(self.frame["run_id"].to_numpy()).mean()
        runs, share = len(held_R), float(held_R.mean())
        p_value = float(bdtr(math.ceil(share * runs - 1e-9), runs, self.level))
        if share > self.level - _MISSED or p_value >= _RARE:
            return None
        message = (
            f"forecasts of {what} do not cover on this table: from lower budgets its "
            f"{100 * self.level:g}% intervals held {100 * share:.0f}% of {counted(runs, 'run')} at "
            f"higher ones (binomial test, p = {p_value:.0e}); {remedy}"
        )
        return FORECAST_NOT_COVERED.note(message)

    @property
    def _not_covered(self) -> Note | None:
        remedy = "try other laws (--law all), or fit the higher budgets only"
        return self.not_covered(self.law, remedy)

    @property
    def tested(self) -> Tested:
        """What to quote next to a forecast."""
        needs = needs_up_to(self.frame, self.budgets)
        return Tested(self.coverage, self.notes, self.to_json(), needs)

    def to_json(self) -> dict[str, Any]:
        """Figures without the single predictions; null if there is none."""
        return {
            "law": self.law,
            "level": self.level,
            "budgets": self.budgets,
            "origins": self.origins,
            "n": self.n,
            "inside": plain(self.inside),
            "width_ratio": plain(self.width_ratio),
            "bias": self.bias.to_json(),
            "warnings": [asdict(note) for note in self.notes],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        if not self.n:
            return str(self.notes[0])
        lines = [f"backtest of {self.law}: {self.coverage}"]
        lines.append(f"  {self.width_ratio['all']:.2f} times as wide as the plain interval")
        lines.append(f"  measured against forecast at the next budget: {self.bias}")
        return "\n".join([*lines, *(f"  note: {line}" for line in with_codes(self.notes))])


def backtest(
    table: Source,
    law: str | type[Law],
    options: Options | None = None,
    *,
    origins: int | None = 6,
    **changes: Any,
) -> Backtest:
    """Fit `law` on the budgets up to an origin, predict every run beyond it, and go on to the next
    origin.

    Budgets are groups of runs by FLOPs, or by the variable of a law in one. At most `origins`
    origins, spread evenly, the last included; None takes all. Options as in `fit_law`; 200
    bootstrap refits unless told, and without any there are no intervals. Origins whose runs cannot
    identify the law are passed over."""
    options = replace(options or Options(bootstrap=REFITS), holdout="none", **changes)
    runs, kind = as_table(table), law_named(law)
    inputs = inputs_of(kind, options.variable)
    budget = budgets(runs.frame, inputs)
    number = int(budget.max()) + 1
    needed = options.constraints.unknowns(kind)
    parts: list[pd.DataFrame] = []
    for origin in _spread(_origins(runs.frame, inputs, budget, needed), origins):
        behind = replace(
            runs, frame=runs.frame.loc[budget <= origin].reset_index(drop=True), notes=()
        )
        try:
            fit = bare_fit(behind, kind, options)
        except LlmscaleError:
            continue
        if type(fit.law) is kind and (len(fit.replicates) or not options.bootstrap):
            before = pd.concat(parts, ignore_index=True) if parts else _nothing()
            parts.append(_ahead(fit, runs.frame, budget, origin, needs_up_to(before, origin)))
    return Backtest(
        kind.name,
        options.level,
        number,
        pd.concat(parts, ignore_index=True) if parts else _nothing(),
        kind.plain,
    )


def _ahead(
    fit: Fit,
    frame: pd.DataFrame,
    budget: NDArray[np.int_],
    origin: int,
    needs: OwnNeeds | None,
) -> pd.DataFrame:
    """What a fit up to an origin says of every run beyond it, knowing what earlier origins
    needed."""
    ahead, of = frame.loc[budget > origin], budget[budget > origin]
    at = {name: ahead[name].to_numpy(dtype=float) for name in fit.law.inputs}
    loss = ahead["loss"].to_numpy(dtype=float)
    known = None if needs is None else Tested("", (), {}, needs)
    told = forecasts.forecast(fit, check=known, **at)
    unit = forecasts.misfit_scale(fit) * growth(told.horizon)
    low, high = needed(fit.law, loss, told.loss, told.plain_low, told.plain_high, unit)
    columns = {
        "origin": origin,
        "fitted": len(fit.table.frame),
        "budget": of,
        "steps": of - origin,
        "horizon": told.horizon,
        "scale": forecasts.misfit_scale(fit),
        "run_id": ahead["run_id"].to_numpy(),
        "loss": loss,
        "excess": _excess(fit.law, loss, of),
        "predicted": told.loss,
        "plain_low": told.plain_low,
        "plain_high": told.plain_high,
        "low": told.low,
        "high": told.high,
        "needed_low": low,
        "needed_high": high,
        "off": forecasts.off_the_optimum(fit, at, loss.shape),
    }
    return pd.DataFrame(columns)


def _excess(law: Law, loss: Array, budget: NDArray[np.int_]) -> Array:
    """ln of how far each loss lies above the lowest of its budget; 0 for laws in one variable."""
    if len(law.inputs) == 1:
        return np.zeros(len(loss))
    level = pd.Series(law.level_of(loss))
    return np.asarray(level - level.groupby(budget).transform("min"), dtype=float)


def needs_up_to(frame: pd.DataFrame, origin: int) -> OwnNeeds | None:
    """What the runs of budgets up to an origin needed when earlier origins held them out,
    near-optimal ones most; `frame` as in Backtest. None if there were none."""
    seen = frame[(frame["budget"] <= origin) & (frame["origin"] < origin)]
    # A forecast that overflowed tells of no width.
    seen = seen.dropna(subset=["needed_low", "needed_high"])
    if not len(seen):
        return None
    weight = nearness(seen["excess"])
    weight /= weight.groupby([seen["origin"], seen["budget"]]).transform("sum")
    columns = ("needed_low", "needed_high", "horizon", "budget")
    if len(seen) > _MOST_NEEDS:
        some = np.linspace(0, len(seen) - 1, _MOST_NEEDS).astype(int)
        seen, weight = seen.iloc[some], weight.iloc[some]
    # They stand in the file of a kept fit, where six digits are enough.
    parts = [*(seen[name] for name in columns), weight]
    low, high, horizon, of, weights = (part.to_numpy(dtype=float).round(6) for part in parts)
    return OwnNeeds(low, high, horizon, of, weights)


def check(fit: Fit) -> Backtest:
    """The backtest of a fit's own law on its own table, with its options and at most 200 refits an
    origin."""
    return backtest(
        fit.table, type(fit.law), replace(fit.options, bootstrap=min(fit.options.bootstrap, REFITS))
    )


def budgets(frame: pd.DataFrame, inputs: tuple[str, ...]) -> NDArray[np.int_]:
    """For each run the index of its budget, lowest first: FLOPs, or the variable of a law in one
    unless that was measured. Curves stay whole."""
    name = inputs[0] if len(inputs) == 1 and inputs[0] not in MEASURED else "flops"
    values = frame[name]
    if "tokens" in inputs and "params" in inputs:
        values = 6.0 * frame["params"] * frame["tokens"]
    elif not np.isfinite(values.to_numpy(dtype=float)).all():
        values = frame[inputs[0]]
    values = values.astype(float).groupby(frame["run_id"].to_numpy()).transform("max").to_numpy()
    index = np.empty(len(values), dtype=int)
    lowest, current = -np.inf, -1
    for row in np.argsort(values, kind="stable"):
        if values[row] > BUDGET_WIDTH * lowest:
            lowest, current = values[row], current + 1
        index[row] = current
    return index


def _origins(
    frame: pd.DataFrame, inputs: tuple[str, ...], budget: NDArray[np.int_], coefficients: int
) -> list[int]:
    """Budgets after which enough points are known: one more than coefficients in one variable that
    was chosen, else twice as many."""
    one = len(inputs) == 1 and inputs[0] not in MEASURED
    needed = coefficients + 1 if one else 2 * coefficients
    point = points(frame, inputs)
    return [
        origin
        for origin in range(LOWEST_BUDGETS - 1, int(budget.max()))
        if len(np.unique(point[budget <= origin])) >= needed
    ]


def _spread(candidates: list[int], most: int | None) -> list[int]:
    if most is None or len(candidates) <= most:
        return candidates
    return [candidates[round(place)] for place in np.linspace(0, len(candidates) - 1, most)]


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({name: [] for name in _COLUMNS})


def _mean(values: pd.Series) -> float:
    if not len(values):
        return math.nan
    return float(values.mean())


def _median(values: pd.Series) -> float:
    if not len(values):
        return math.nan
    return float(values.median())

"""The law that `predict` takes if none is named: the one that erred least on the same table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from llmscale.errors import InputError, LlmscaleError
from llmscale.explain import digits
from llmscale.explain.api.fitted import Asked, fits_of
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, with_coefficients
from llmscale.explain.estimation.suitability import (
    default_laws,
    default_variable,
    inputs_of,
    more_or_along,
    no_chinchilla,
)
from llmscale.explain.fit.backtest import REFITS, Backtest, backtest
from llmscale.explain.fit.choice import CANDIDATES, as_good, judged
from llmscale.explain.fit.parametric import bare_fit
from llmscale.explain.forecast.chosen import Chosen, Contender
from llmscale.explain.laws import LAWS, Array
from llmscale.explain.laws.anchored import Anchored
from llmscale.explain.table import RunTable

_OF_TWO = ("params", "tokens")
_MOST_LOST, _WIDEST = 0.05, 2.0
"""A law that more of its refits give no loss by, or whose interval has ends this factor apart, is
not forecast with if another one can be."""


def best_fit(asked: Asked, runs: RunTable, points: Mapping[str, Array]) -> tuple[Fit, Chosen]:
    """The fit of the law that forecasts best, and why; `points` are budgets, or of two columns.
    Raises InputError."""
    return contest(asked, runs, points).taken(points)


def contest(asked: Asked, runs: RunTable, points: Mapping[str, Array]) -> "Contest":
    """The laws that are tried for such points. Raises InputError, as `best_fit` does."""
    options = Options(**{"holdout": "none", **asked.options})
    several = "variable" not in asked.options and default_laws(runs)[0] == "chinchilla"
    if not several:
        raise _no_law_of_two(asked, runs, points)
    return Contest(asked, runs, options, *_tried(_candidates(asked.every), runs, options))


@dataclass(frozen=True, eq=False)
class Contest:
    """Laws that were fitted to a table and to its lower budgets, of which one is taken for the
    points that are asked for; those that cannot be fitted, with the reason."""

    asked: Asked
    runs: RunTable
    options: Options
    fits: Mapping[str, Fit]
    tests: Mapping[str, Backtest]
    unfitted: Sequence[tuple[str, str]]
    _whole: dict[str, Fit] = field(default_factory=dict, repr=False)
    """Fits with their refits, of the laws that came to be taken."""

    def taken(self, points: Mapping[str, Array]) -> tuple[Fit, Chosen]:
        """The fit of the law that is taken for points, and why. Raises InputError."""
        at = {law: _asked_of(fit, points) for law, fit in self.fits.items()}
        fits = {law: self.fits[law] for law, (loss, _) in at.items() if _is_loss(loss)}
        left_out = [*self.unfitted]
        left_out += [(law, "it gives no loss there") for law in self.fits if law not in fits]
        if not fits:
            raise InputError("no law gives a loss there", "forecast nearer to the runs")
        excess = _excess(points, fits)
        ranked = judged({law: self.tests[law] for law in fits}, excess)
        fit, unusable = self._first_usable([one.law for one in ranked], points)
        left_out += unusable.items()
        ranked = tuple(one for one in ranked if one.law not in unusable)
        good = as_good(ranked)
        contenders = [
            Contender(
                one.law, one.error, one.budgets, one.law in good, loss, _values(fits[one.law]), size
            )
            for one in ranked
            for loss, size in [at[one.law]]
        ]
        if fit.tested is None and fit.kept is None and _refits(fit.law.name, self.options):
            fit = replace(fit, tested=self.tests[fit.law.name].tested)
        return fit, Chosen(_by_error(contenders), excess, tuple(left_out), self.asked.every)

    def _first_usable(
        self, laws: Sequence[str], points: Mapping[str, Array]
    ) -> tuple[Fit, dict[str, str]]:
        """The fit of the first law whose refits tell something of what is asked, and why not those
        of the laws before it; the first of all if there is none."""
        unusable: dict[str, str] = {}
        for law in laws:
            fit = self._fit_of(law)
            reason = _no_interval(fit, points)
            if reason is None:
                return fit, unusable
            unusable[law] = reason
        return self._fit_of(laws[0]), {}

    def _fit_of(self, law: str) -> Fit:
        if law not in self._whole:
            asked = replace(self.asked, laws=(law,))
            self._whole[law] = fits_of(asked, self.runs, first=True, holdout="none")[0]
        return self._whole[law]


def _is_loss(values: Array) -> bool:
    return bool((np.isfinite(values) & (values > 0)).all())


def _by_error(contenders: Sequence[Contender]) -> tuple[Contender, ...]:
    """The law that is taken, which public tables had a say in, then the others by their errors on
    this table."""
    first, *others = contenders
    others.sort(key=lambda one: one.error if one.budgets else np.inf)
    return first, *others


def _no_interval(fit: Fit, points: Mapping[str, Array]) -> str | None:
    """Why the refits of a law tell nothing of the points asked for, or None."""
    if not len(fit.replicates):
        return None
    at: dict[str, Any] = dict(points)
    if set(points) == {"flops"}:
        best = fit.law.optimal(points["flops"])
        assert best is not None
        at = {"params": best[0], "tokens": best[1]}
    with np.errstate(all="ignore"):
        inputs = [np.reshape(value, (1, -1)) for value in fit.inputs_at(at)]
        loss_BX = np.asarray(with_coefficients(fit.law, fit.replicates).loss(*inputs))
        low, high = (np.ravel(end) for end in fit.band(**at))
        lost = float((~np.isfinite(loss_BX)).mean(axis=0).max())
        widest = int(np.argmax(high / low))
    if lost > _MOST_LOST:
        return f"{lost:.0%} of its refits overflow there"
    if not high[widest] < _WIDEST * low[widest]:
        ends = [digits.number(float(end[widest])) for end in (low, high)]
        return f"its refits say anything from {' to '.join(ends)} there"
    return None


def _no_law_of_two(asked: Asked, runs: RunTable, points: Mapping[str, Array]) -> InputError:
    """Why these runs do not tell what is asked, which takes a law in N and D."""
    what, instead, flops = "how to split a budget", "", None
    if set(points) == {"flops"}:
        flops = float(np.max(points["flops"]))
    else:
        variable = default_variable(runs, asked.options.get("variable", "params"))
        what, instead = "a forecast at N and D", f"give --{variable} only; or "
        if asked.every:
            instead = f"leave --law out, and {instead}"
    reason = no_chinchilla(runs.frame)
    if reason is None:
        return InputError(
            f"{what} takes a law in N and D, not one in a single variable", "leave --variable out"
        )
    return InputError(
        f"{what} takes a law in N and D, which these runs do not tell: {reason.problem}",
        f"{instead}{more_or_along(reason, runs, flops)}",
    )


def _candidates(every: bool) -> Sequence[str]:
    if not every:
        return CANDIDATES
    others = [law for law in LAWS if inputs_of(LAWS.find(law)) == _OF_TWO]
    return (*CANDIDATES, *(law for law in others if law not in CANDIDATES))


def _tried(
    laws: Sequence[str], runs: RunTable, options: Options
) -> tuple[dict[str, Fit], dict[str, Backtest], list[tuple[str, str]]]:
    """Every law that can be fitted, with its backtest, and the others with the reason."""
    fits, tests, left_out = {}, {}, []
    for law in laws:
        try:
            with np.errstate(all="ignore"):
                fits[law] = bare_fit(runs, law, options, bootstrap=0)
                test = replace(options, bootstrap=_refits(law, options))
                tests[law] = backtest(fits[law].table, law, test)
        except LlmscaleError as error:
            fits.pop(law, None)
            left_out.append((law, error.problem))
    if not fits:
        raise InputError(
            f"no law can be fitted: {left_out[0][1]}", "see what each needs: llmscale laws"
        )
    return fits, tests, left_out


def _refits(law: str, options: Options) -> int:
    """Refits at each origin: those of a law with an estimator of its own are draws, which take no
    time, and tell what its intervals hold. Of other laws only the one taken is tested with them."""
    return 0 if LAWS.find(law).estimator is None else min(options.bootstrap, REFITS)


def _asked_of(fit: Fit, points: Mapping[str, Array]) -> tuple[Array, Array]:
    """What a law forecasts, and N* of every budget, or NaN if none was asked for: one value a
    point."""
    loss: Any
    size: Any = np.nan
    with np.errstate(all="ignore"):
        if set(points) != {"flops"}:
            loss = fit.loss(**points)
        else:
            best = fit.law.optimal(points["flops"])
            size = np.nan if best is None else best[0]
            loss = np.nan if best is None else fit.law.loss(*best)
    shape = np.broadcast_shapes(*(np.shape(values) for values in points.values()))
    return _flat(loss, shape), _flat(size, shape)


def _flat(values: Any, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(np.asarray(values, dtype=float), shape).ravel()


def _excess(points: Mapping[str, Array], fits: Mapping[str, Fit]) -> float:
    """How far the runs asked for lie above the best of their budget, in ln L; 0 of a budget."""
    fit = fits.get("anchored")
    if fit is None or set(points) == {"flops"} or not isinstance(fit.law, Anchored):
        return 0.0
    return float(np.median(fit.law.excess(*fit.inputs_at(dict(points)))))


def _values(fit: Fit) -> dict[str, float]:
    """The floor as E, and a of N* ∝ C^a, if the law has them."""
    found = {}
    if fit.law.floor is not None:
        found["E"] = float(getattr(fit.law, fit.law.floor))
    best = fit.law.compute_optimal()
    if best is not None:
        found["a"] = float(best["a"])
    return found

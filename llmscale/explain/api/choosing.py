"""The law that `predict` takes if none is named: the one that erred least on the same table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from llmscale.errors import InputError, LlmscaleError
from llmscale.explain import digits
from llmscale.explain.api.fitted import Asked, fits_of
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, with_coefficients
from llmscale.explain.estimation.suitability import default_laws, inputs_of, no_chinchilla
from llmscale.explain.fit.backtest import Backtest, backtest
from llmscale.explain.fit.choice import CANDIDATES, as_good, judged
from llmscale.explain.fit.parametric import fit_law
from llmscale.explain.forecast.chosen import Chosen, Contender
from llmscale.explain.laws import LAWS, Array
from llmscale.explain.laws.anchored import Anchored
from llmscale.explain.table import RunTable

_OF_TWO = ("params", "tokens")
_MOST_LOST, _WIDEST = 0.05, 2.0
"""A law that more of its refits give no loss by, or whose interval has ends this factor apart, is
not forecast with if another one can be."""


def best_fit(
    asked: Asked, runs: RunTable, points: Mapping[str, Array], *, every: bool
) -> tuple[Fit, Chosen | None]:
    """The fit of the law that forecasts best, and why; the reason is None if only one law suits.
    `every` tries all laws in N and D, not only the usual ones. Raises InputError."""
    options = Options(**{"holdout": "none", **asked.options})
    several = "variable" not in asked.options and default_laws(runs)[0] == "chinchilla"
    if not several:
        if every:
            raise InputError(
                "laws are compared by forecasts in N and D, and these runs tell no law in both",
                "name one law, or leave --law out",
            )
        if set(points) == {"flops"}:
            raise _no_split(runs)
        return fits_of(asked, runs, first=True, holdout="none")[0], None
    quick = replace(options, bootstrap=0, holdout="none", diagnostics=False)
    fits, tests, left_out = _tried(_candidates(every), runs, quick)
    at = _asked_points(points, fits)
    for law in list(fits):
        if not (np.isfinite(at[law]).all() and (at[law] > 0).all()):
            left_out.append((law, "it gives no loss there"))
            del fits[law], tests[law]
    if not fits:
        raise InputError("no law gives a loss there", "forecast nearer to the runs")
    ranked = judged(tests, _excess(points, fits))
    fit, unusable = _first_usable([one.law for one in ranked], asked, runs, points)
    left_out += unusable.items()
    ranked = tuple(one for one in ranked if one.law not in unusable)
    good = as_good(ranked)
    contenders = [
        Contender(
            one.law,
            one.error,
            one.budgets,
            one.law in good,
            at[one.law],
            _values(fits[one.law]),
            _best_params(fits[one.law], points, len(at[one.law])),
        )
        for one in ranked
    ]
    return fit, Chosen(tuple(contenders), tuple(left_out))


def _first_usable(
    laws: Sequence[str], asked: Asked, runs: RunTable, points: Mapping[str, Array]
) -> tuple[Fit, dict[str, str]]:
    """The fit of the first law whose refits tell something of what is asked, and why not those of
    the laws before it; the first of all if there is none."""
    unusable: dict[str, str] = {}
    fits = []
    for law in laws:
        fit = fits_of(replace(asked, laws=(law,)), runs, first=True, holdout="none")[0]
        reason = _no_interval(fit, points)
        if reason is None:
            return fit, unusable
        fits.append(fit)
        unusable[law] = reason
    return fits[0], {}


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


def _no_split(runs: RunTable) -> InputError:
    """Why these runs do not say how to split a budget."""
    reason = no_chinchilla(runs.frame)
    if reason is None:
        return InputError(
            "a budget is split by a law in N and D, not by one in a single variable",
            "leave --variable out, or name a law: --law chinchilla",
        )
    return InputError(
        f"how to split a budget takes a law in N and D, which these runs do not tell: "
        f"{reason.problem}",
        reason.fix,
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
                fits[law] = fit_law(runs, law, options)
                tests[law] = backtest(runs, law, options)
        except LlmscaleError as error:
            fits.pop(law, None)
            left_out.append((law, error.problem))
    if not fits:
        raise InputError(
            f"no law can be fitted: {left_out[0][1]}", "see what each needs: llmscale laws"
        )
    return fits, tests, left_out


def _asked_points(points: Mapping[str, Array], fits: Mapping[str, Fit]) -> dict[str, Array]:
    """What each law forecasts, one value a point."""
    found = {}
    for law, fit in fits.items():
        with np.errstate(all="ignore"):
            if set(points) == {"flops"}:
                best = fit.law.optimal(points["flops"])
                loss = np.full(np.shape(points["flops"]), np.nan)
                if best is not None:
                    loss = np.asarray(fit.law.loss(*best))
            else:
                loss = fit.loss(**points)
        found[law] = np.atleast_1d(np.asarray(loss, dtype=float)).ravel()
    return found


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


def _best_params(fit: Fit, points: Mapping[str, Array], count: int) -> Array:
    """N* of every budget asked for; NaN otherwise."""
    if set(points) != {"flops"}:
        return np.full(count, np.nan)
    best = fit.law.optimal(points["flops"])
    assert best is not None
    return np.atleast_1d(np.asarray(best[0], dtype=float)).ravel()

"""Which law to use for a table: every law that suits it, ranked by how well it predicts runs it has
not seen.

Every law is asked for the same held-out runs and the same folds. Laws whose cross-validated error
is within two standard errors of the lowest (paired by point) are as good, unless their
cross-validated and held-out errors together are more than three times the lowest of these; of laws
that are as good, the one with the fewest coefficients comes first (the one-standard-error rule of
Breiman et al. 1984, with two). Other laws follow by the sum of both errors.

Why so: laws chosen on the lower budgets of public tables and asked for every run at higher ones.
The mean error ahead, sources of tables equal, in percent (left: laws in N and D, 47 origins of 12
tables of 7 sources; right: laws in N along ladders at one D, 75 origins of 2 sources), and how
often a bend was found in 28 simulated ladders without one:

    this rule                        2.47   0.52    0
    held-out error                   3.18   0.50    4
    cross-validated error            4.04   0.45   11
    cross-validated, one error       3.38   0.42    6
    AICc, common scale               3.25   0.54    0
    always chinchilla; power-floor   2.65   0.35
    always over-training             2.45
    the best law in hindsight        1.50   0.32

(Errors above 50% and laws that overflow count as 50%.) Cross-validated error and AICc alone choose
laws with many coefficients that fail ahead of the data; held-out error alone hangs on few runs.
Some 60 rules were tried on these same tables, and a handful near this one are equal within noise:
its lead over held-out error is 0.09 ± 0.06 in the mean of ln error, and over always taking
over-training 0.30 ± 0.27; a few bad origins dominate the means above. On ladders it leads over
none. Predictions averaged with `weight`, the best of some 40 schemes, err by 2.25 and 0.38; with
Akaike weights by 3.22 and 0.54."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import InputError, LlmscaleError, Note
from llmscale.explain.estimation import holdout as holdouts
from llmscale.explain.estimation.beyond import nonsense
from llmscale.explain.estimation.criteria import aicc, common_points, cross_validated, point_means
from llmscale.explain.estimation.identifiability import same_everywhere, unusable, why_not
from llmscale.explain.estimation.intervals import with_intervals
from llmscale.explain.estimation.levels import in_order
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, solved
from llmscale.explain.estimation.suitability import inputs_of
from llmscale.explain.fit import parametric
from llmscale.explain.fit.comparison import STANDARD_ERRORS, WORST_FACTOR, Compared, Comparison
from llmscale.explain.fit.held_out import checker_of, predict_held_out
from llmscale.explain.fit.parametric import bare_fit
from llmscale.explain.fit.sources import Source, as_table
from llmscale.explain.laws import LAWS, Array, Law
from llmscale.explain.table import RunTable
from llmscale.notes.fitting import HOLDOUT_SKIPPED

__all__ = ["Compared", "Comparison", "compare"]

HOPELESS = math.log(2.0)
"""A law that errs by a factor of two on runs it has not seen is never as good as another."""
SLOW_FROM, FEW_REFITS, ENOUGH_REFITS = 6, 50, 300
"""Laws of so many coefficients, whose refits are slow, get at most so many refits, and the last if
they turn out best."""
_TINY = 1e-12
_log = logging.getLogger(__name__)
"""What is being done, for a command to show."""


def _problem(law: type[Law], runs: RunTable, variable: str, *, plain: bool) -> LlmscaleError | None:
    if law.plain != plain:
        told = "of losses" if law.plain else "of their logarithms"
        return InputError(
            f"its residuals are differences {told}, and do not compare with those of the others",
            f"fit it by itself: --law {law.name}",
        )
    try:
        law = law.suited_to(runs.frame)
    except InputError as error:
        return error
    inputs = inputs_of(law, variable)
    return unusable(law, runs.frame, inputs) or why_not(law, runs.frame, inputs)


def compare(
    table: Source,
    laws: Sequence[str | type[Law]] = (),
    options: Options | None = None,
    **changes: Any,
) -> Comparison:
    """Every law that suits the table, or every law named, fitted once and ranked; `changes` are
    fields of Options.

    All laws are asked for the same held-out runs and the same folds. A law that cannot be fitted is
    listed with its reason. Raises the first of these errors if none can be.

    >>> import numpy as np, pandas as pd
    >>> grids = np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 5))
    >>> N, D = (grid.ravel() for grid in grids)
    >>> noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(30))
    >>> loss = noise * (1.8 + 420 / N**0.36 + 2100 / D**0.31)
    >>> runs = pd.DataFrame({"params": N, "tokens": D, "loss": loss})
    >>> found = compare(runs, ["power", "kaplan", "chinchilla"], bootstrap=0)
    >>> [fit.law.name for fit in found.fits]
    ['chinchilla', 'kaplan', 'power']"""
    options, runs = replace(options or Options(), **changes), _in_order(as_table(table))
    # Laws with many coefficients overflow far from their runs, which their errors then say.
    if (same := same_everywhere(runs.frame["loss"].to_numpy(dtype=float))) is not None:
        raise same
    with np.errstate(all="ignore"):
        fits, unsuitable, first_error = _fits(runs, laws, options)
        if not fits:
            raise first_error or InputError(
                "no law suits this table", "see what each needs: llmscale laws"
            )
        return Comparison(_ranked(_tried(fits, options), options), tuple(unsuitable), options)


def _in_order(table: RunTable) -> RunTable:
    """The runs sorted, so that a comparison is the same to the last digit in any order of rows."""
    names = [name for name in table.frame.columns if table.frame[name].dtype.kind in "iuf"]
    return replace(table, frame=in_order(table.frame, names))


def _fits(
    runs: RunTable, laws: Sequence[str | type[Law]], options: Options
) -> tuple[list[Fit], list[tuple[str, str]], LlmscaleError | None]:
    """A fit of every law without its refits, the laws that have none or none that makes sense and
    why, and the first error met."""
    fits: dict[str, Fit] = {}
    unsuitable, first_error = [], None
    kinds = [LAWS.find(law) if isinstance(law, str) else law for law in laws or LAWS]
    # Of all laws those of a loss, unless none but others were named.
    plain = all(law.plain for law in kinds)
    for law in kinds:
        error = _not_ranked(law) or _problem(law, runs, options.variable, plain=plain)
        if error is None:
            try:
                fits[law.name] = _bare(runs, law, options)
            except LlmscaleError as caught:
                error = caught
        if error:
            unsuitable.append((law.name, error.problem))
            first_error = first_error or error
    wrong = {name: reason for name, fit in fits.items() if (reason := nonsense(fit))}
    if len(wrong) < len(fits):
        # Such a law may meet runs held out, and then say anything of larger ones.
        unsuitable += [(name, f"not ranked: {reason}") for name, reason in wrong.items()]
        fits = {name: fit for name, fit in fits.items() if name not in wrong}
    return list(fits.values()), unsuitable, first_error


def _not_ranked(law: type[Law]) -> InputError | None:
    """A law with an estimator of its own has no objective in common with the others."""
    if law.estimator is None:
        return None
    return InputError(
        f"{law.name} is made for forecasts, and is judged by them: llmscale predict --law all",
        "fit it by itself",
    )


def _bare(runs: RunTable, law: type[Law], options: Options) -> Fit:
    return bare_fit(runs, law, options, bootstrap=0)


@dataclass(frozen=True)
class _Tried:
    """A law with its evidence: |ln L̂ - ln L| at every point when it was left out, and its mean
    over those held out. Both are by points: here repeats of a run count once, unlike in the
    held-out error that is shown."""

    fit: Fit
    check: Fit | None
    held_R: NDArray[np.bool_]
    folds_P: Array
    held_error: float
    aicc: float
    notes: tuple[Note, ...]

    @property
    def size(self) -> int:
        return len(self.fit.law.coefficient_names())

    @property
    def cv_error(self) -> float:
        error = float(self.folds_P.mean())
        return error if math.isfinite(error) else math.inf


def _tried(fits: Sequence[Fit], options: Options) -> list[_Tried]:
    table = fits[0].table
    point_R = common_points(table, [name for fit in fits for name in fit.law.inputs])
    # What counts as largest depends on a law's inputs: those of the law with most of them are held
    # out for all.
    held_R = holdouts.held_out(
        table.frame, max((fit.law.inputs for fit in fits), key=len), options.holdout
    )
    rows = table.select(held_R).frame
    tried = []
    for fit, criterion in zip(fits, aicc(fits), strict=True):
        _log.debug("cross-validating %s", fit.law.name)
        check, notes = _check(fit, held_R, options)
        held_error = math.nan
        if check is not None:
            inputs = [rows[name].to_numpy(dtype=float) for name in check.law.inputs]
            level, measured = check.law.level_of, rows["loss"].to_numpy(dtype=float)
            error_R = np.abs(level(check.law.loss(*inputs)) - level(measured))
            held_error = float(point_means(error_R, point_R[held_R]).mean())
        tried.append(
            _Tried(fit, check, held_R, cross_validated(fit, point_R), held_error, criterion, notes)
        )
    return tried


def _check(
    fit: Fit, held_R: NDArray[np.bool_], options: Options
) -> tuple[Fit | None, tuple[Note, ...]]:
    """A fit of the same law without the held-out runs, or none and why."""
    if not held_R.any():
        return None, ()
    rest = fit.table.select(~held_R)
    law, notes = checker_of(fit.law, rest, options.constraints)
    if law is not type(fit.law):
        return None, notes
    try:
        return _bare(rest, law, options), notes
    except LlmscaleError as error:
        return None, (
            HOLDOUT_SKIPPED.note(f"no held-out check of {fit.law.name}: {error.problem}"),
        )


def _ranked(tried: Sequence[_Tried], options: Options) -> tuple[Compared, ...]:
    score = _scores(tried)
    as_good = _as_good(tried, score)
    order = sorted(
        range(len(tried)),
        key=lambda i: (
            not as_good[i],
            tried[i].size if as_good[i] else 0,
            score[i],
            tried[i].cv_error,
        ),
    )
    weight = _weights(tried, as_good, score)
    lowest = min((one.aicc for one in tried if math.isfinite(one.aicc)), default=math.nan)
    ranked = []
    for place, index in enumerate(order):
        one = tried[index]
        _log.debug("refitting %s", one.fit.law.name)
        fit = _with_intervals(one, options, best=place == 0)
        ranked.append(
            Compared(
                fit=fit,
                aicc=one.aicc,
                delta_aicc=one.aicc - lowest,
                cv_error=100 * one.cv_error,
                holdout_error=100 * fit.holdout.mean_error if fit.holdout else math.nan,
                holdout_inside=fit.holdout.inside_interval if fit.holdout else None,
                rank=place + 1,
                as_good=as_good[index],
                weight=weight[index],
                notes=one.notes,
            )
        )
    return tuple(ranked)


def _scores(tried: Sequence[_Tried]) -> list[float]:
    """Cross-validated plus held-out error; infinite if only others could be checked."""
    checked = any(math.isfinite(one.held_error) for one in tried)
    scores = [one.cv_error + (one.held_error if checked else 0.0) for one in tried]
    return [max(score, _TINY) if math.isfinite(score) else math.inf for score in scores]


def _as_good(tried: Sequence[_Tried], score: Sequence[float]) -> list[bool]:
    """Which laws nothing tells from the best: by cross-validated errors, paired by point, and by
    the score."""
    best = min(tried, key=lambda one: one.cv_error)
    good = []
    for one in tried:
        excess_P = one.folds_P - best.folds_P
        error = float(excess_P.std(ddof=1)) / math.sqrt(len(excess_P)) if len(excess_P) > 1 else 0.0
        # A wild error on one fold makes the standard error as wild: that is no tie.
        hopeless = (
            max(one.cv_error, one.held_error if math.isfinite(one.held_error) else 0.0) > HOPELESS
        )
        good.append(
            one is best or (not hopeless and float(excess_P.mean()) <= STANDARD_ERRORS * error)
        )
    lowest = min(value for value, near in zip(score, good, strict=True) if near)
    return [
        near and value <= WORST_FACTOR * lowest for value, near in zip(score, good, strict=True)
    ]


def _weights(
    tried: Sequence[_Tried], as_good: Sequence[bool], score: Sequence[float]
) -> list[float]:
    """Shares of the laws in an average: exp(-coefficients/2)/score² among those that are as good,
    none for others."""
    lowest = min(value for value, good in zip(score, as_good, strict=True) if good)
    raw = []
    for one, good, value in zip(tried, as_good, score, strict=True):
        closeness = (lowest / value) ** 2 if math.isfinite(lowest) else 1.0
        raw.append(good * math.exp(-one.size / 2) * closeness)
    return [value / sum(raw) for value in raw]


def _with_intervals(one: _Tried, options: Options, *, best: bool) -> Fit:
    """The fit with its bootstrap refits, its held-out check, and the diagnostics if it is the one
    to use."""
    if one.size >= SLOW_FROM:
        most = ENOUGH_REFITS if best else FEW_REFITS
        options = replace(options, bootstrap=min(options.bootstrap, most))
    fit = _with_refits(replace(one.fit, options=options))
    check = None
    if one.check is not None:
        check = predict_held_out(
            _with_refits(replace(one.check, options=options)),
            fit.table,
            one.held_R,
            options.holdout,
        )
        check = replace(check, ranked=True)
    diagnosed = parametric.diagnosed(fit, ranked=True) if best and options.diagnostics else ()
    one_sided = check.notes if check else ()
    return replace(fit, holdout=check, notes=(*fit.notes, *one.notes, *one_sided, *diagnosed))


def _with_refits(fit: Fit) -> Fit:
    """A fit with the bootstrap refits of its options."""
    surface, theta_P, _ = solved(fit)
    refits = parametric.refit(fit.table, fit.law.inputs, surface, theta_P, fit.options)
    refitted = replace(
        fit,
        replicates=refits.coefficients,
        noise=refits.noise,
        bootstrap_method=refits.method,
        notes=(*fit.notes, *refits.notes),
    )
    return with_intervals(refitted)

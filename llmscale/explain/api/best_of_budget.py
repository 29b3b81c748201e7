"""The best size and tokens of a budget, and the forecast there: what every command says of it."""

from dataclasses import replace

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.api.fitted import tested
from llmscale.explain.api.lowest_points import lowest_points
from llmscale.explain.diagnostics.diagnose import faults_of_runs
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.trend import no_trend
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.best_size import Optimum
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.forecast.optimum import optimum
from llmscale.explain.laws import Array
from llmscale.notes import heaviest_first
from llmscale.notes.fitting import GROUP_OFF_LAW, OUTLIERS, TWO_KINDS_OF_RUNS
from llmscale.notes.reading import LOSS_TOO_HIGH, ROWS_IN_OTHER_UNITS
from llmscale.quantity import format_count

_LEAST_COUNT = 10.0
"""A law whose best model has fewer parameters, or tokens, falls without end in the other."""
_ANY_SIZE = 1e3
"""Best sizes of refits that span more than this many times say nothing: those of seven public
tables span 17 at the most at 1e28 FLOPs."""
_ANY_SIZE_WIDENED = 1e10
"""So of intervals with what is not known beyond the runs: there they spanned 129,000."""

_FAULTS_OF_RUNS = {
    kind.code
    for kind in (OUTLIERS, TWO_KINDS_OF_RUNS, GROUP_OFF_LAW, ROWS_IN_OTHER_UNITS, LOSS_TOO_HIGH)
}


def best_of(fit: Fit, flops: Array, level: float) -> Forecast:
    """The forecast at the best size and tokens of every budget."""
    check_trend(fit)
    check, points = tested(fit, level), lowest_points(fit)
    optima = tuple(
        optimum(fit, float(budget), level=level, check=check, points=points)
        for budget in flops.ravel()
    )
    for one in optima:
        check_told(fit, one)
    best = {
        name: np.array([getattr(one, name) for one in optima]).reshape(flops.shape)
        for name in ("params", "tokens")
    }
    found = forecast_at(fit, level=level, check=check, **best)
    budgets = flops if flops.ndim else float(flops)
    disputed = tuple(note for one in optima for note in one.notes)
    notes = (*found.notes, *disputed[-1:])  # of the last budget: the others say the same
    return replace(found, at={"flops": budgets, **found.at}, optima=optima, notes=notes)


def check_trend(fit: Fit) -> None:
    """Raise InputError if the loss does not move with what the law takes."""
    if (flat := no_trend(fit)) is not None:
        raise InputError(
            f"these runs tell no best size: {flat.message}",
            f"{_first_of_all(fit)}name the column of the loss, --columns loss=NAME, or measure a "
            "wider range of runs",
        )


def check_told(fit: Fit, best: Optimum) -> None:
    """Raise InputError for a best size or tokens that no model can have, or that may be anything:
    the law has no optimum there."""
    of_refits = best.intervals.get("law_params", (1.0, 1.0))
    is_any = not of_refits[1] <= _ANY_SIZE * of_refits[0]
    for name in ("params", "tokens"):
        value, ends = getattr(best, name), best.intervals.get(name)
        what = None
        if not value >= _LEAST_COUNT:
            what = f"the best of {best.flops:.3g} FLOPs would be {value:.3g} {name}"
        elif ends is not None and (is_any or not ends[1] <= _ANY_SIZE_WIDENED * ends[0]):
            low, high = map(format_count, ends)
            what = f"the best of {best.flops:.3g} FLOPs is anywhere from {low} to {high} {name}"
        if what is not None:
            raise InputError(
                f"these runs tell no best size: by {fit.law.name} {what}",
                f"{_first_of_all(fit)}ask for a loss at --params and --tokens, or measure several "
                "budgets at each size",
            )


def _first_of_all(fit: Fit) -> str:
    """What is said of runs that went wrong, which may be all that hides the optimum."""
    notes = fit.notes
    if fit.runs is not None and not fit.options.diagnostics:
        notes = (*notes, *faults_of_runs(fit))
    faults = [note for note in heaviest_first(notes) if note.code in _FAULTS_OF_RUNS]
    return f"this may be why: {faults[0].message}; if it is not, " if faults else ""

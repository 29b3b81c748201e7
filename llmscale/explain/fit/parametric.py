"""Fit a law to a table of runs: best coefficients, intervals, held-out check, and notes on what
they are worth."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, LlmscaleError, Note, WorkError, listed
from llmscale.explain.curve_table import folder_steps
from llmscale.explain.diagnostics.curves import seen_curves
from llmscale.explain.diagnostics.diagnose import diagnose
from llmscale.explain.diagnostics.evidence import SeenCurve
from llmscale.explain.estimation import holdout as holdouts
from llmscale.explain.estimation import solver, uncertainty
from llmscale.explain.estimation.constrained import surface_of
from llmscale.explain.estimation.constraints import NONE, Constraints
from llmscale.explain.estimation.dependence import Dependence
from llmscale.explain.estimation.design_notes import design_notes, floor_note
from llmscale.explain.estimation.evaluation import evaluation_noise
from llmscale.explain.estimation.holdout import Holdout
from llmscale.explain.estimation.identifiability import SIZES_FOR_A_FLOOR, unusable, why_not
from llmscale.explain.estimation.intervals import with_intervals
from llmscale.explain.estimation.levels import count_levels, has_steps, in_order, points, words
from llmscale.explain.estimation.objection import not_tested, objection
from llmscale.explain.estimation.options import Options, without_constraints
from llmscale.explain.estimation.reach import reach_of
from llmscale.explain.estimation.repeats import differing
from llmscale.explain.estimation.result import Fit, origin_of, run_weights
from llmscale.explain.estimation.suitability import (
    counts_of_experts,
    default_laws,
    default_variable,
    inputs_of,
)
from llmscale.explain.fit.anchoring import anchored
from llmscale.explain.fit.stand_ins import with_stand_ins
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.laws import LAWS, LETTERS, Array, Law, OneVariableLaw, Surface, law_named
from llmscale.explain.laws._own import errors_named
from llmscale.explain.table import RunTable, read_table
from llmscale.notes.fitting import (
    BOUND_ACTIVE,
    EXPONENT_AT_BOUND,
    FLAT_DIRECTION,
    FLOOR_AT_ZERO,
    HOLDOUT_BY_SIMPLER_LAW,
    HOLDOUT_SKIPPED,
    TERM_AT_ZERO,
)
from llmscale.runs.curve_file import CurveFile
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.title import run_titles

_log = logging.getLogger(__name__)
"""News of large tables, for a command to show."""
_NO_SHARE = 1e-8
"""A coefficient that moves no loss by more than this share of it has gone to zero."""

Source: TypeAlias = RunTable | pd.DataFrame | Path | str
"""Where runs come from: a table, a data frame, or the path of a file or results folder."""


def fit_laws(
    table: Source,
    laws: Sequence[str | type[Law]] = (),
    options: Options | None = None,
    **changes: Any,
) -> tuple[Fit, ...]:
    """Fits of the laws named, or of those that suit the table; the first is the one to use.
    `changes` are fields of Options. Raises InputError, WorkError, as `fit_law` does."""
    options, runs = _options(options, changes), as_table(table, laws)
    if not laws:
        options = replace(options, variable=default_variable(runs, options.variable))
    fits: dict[str, Fit] = {}
    folder = _Folder(runs)
    for law in laws or default_laws(runs, options.variable, options.constraints):
        fit = _fit_law(folder, law, options)
        fits.setdefault(fit.law.name, fit)
    return tuple(fits.values())


def fit_law(
    table: Source, law: str | type[Law], options: Options | None = None, **changes: Any
) -> Fit:
    """A law fitted to a table: `law` is a name, a FILE.py:CLASS, or the class; `changes` are fields
    of Options.

    Below four sizes a law with a floor gives way to the one without it, with a note. The fit itself
    always uses every run; the runs of `holdout` are predicted by a second fit without them. Raises
    InputError if the runs cannot identify the law, WorkError if the fit does not settle.

    >>> import numpy as np, pandas as pd
    >>> grids = np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 5))
    >>> N, D = (grid.ravel() for grid in grids)
    >>> loss = 1.8 + 420 / N**0.36 + 2100 / D**0.31
    >>> runs = pd.DataFrame({"params": N, "tokens": D, "loss": loss})
    >>> fit = fit_law(runs, "chinchilla", bootstrap=0)
    >>> {name: float(f"{value:.4g}") for name, value in fit.law.coefficients().items()}
    {'E': 1.8, 'A': 420.0, 'B': 2100.0, 'alpha': 0.36, 'beta': 0.31}
    >>> round(float(fit.loss(N=70e9, D=1.4e12)), 4)
    2.2129"""
    return _fit_law(_Folder(as_table(table, (law,))), law, _options(options, changes))


@dataclass(frozen=True)
class _Folder:
    """A table, and what its results folder holds besides: read once for all laws, and only if asked
    for."""

    table: RunTable

    @property
    def place(self) -> ResultsFolder:
        return ResultsFolder(self.table.path)

    @cached_property
    def every_run(self) -> pd.DataFrame:
        return self.place.read_runs()

    @cached_property
    def seen(self) -> dict[str, SeenCurve] | None:
        if not self.place.curves_path.is_file():
            return None
        return seen_curves(CurveFile(self.place.curves_path))

    @cached_property
    def steps(self) -> RunTable:
        return folder_steps(self.table, self.every_run, CurveFile(self.place.curves_path))

    def for_law(self, law: type[Law]) -> RunTable:
        """The table, or for laws of whole curves the evaluated steps of its folder."""
        columns = inputs_of(law)
        if (
            "lr_area" not in columns
            or "lr_area" in self.table.frame
            or not self.place.curves_path.is_file()
        ):
            return with_stand_ins(self.table, law)
        return self.steps


def table_for(table: RunTable, law: type[Law]) -> RunTable:
    """The rows that this law is fitted to: the runs, or for laws of whole curves their steps."""
    return _Folder(table).for_law(law)


def _fit_law(folder: _Folder, law: str | type[Law], options: Options) -> Fit:
    chosen = law_named(law)
    with errors_named(chosen):
        return _fit_and_check(folder, chosen, options)


def _fit_and_check(folder: _Folder, chosen: type[Law], options: Options) -> Fit:
    runs = folder.for_law(chosen)
    fit = with_intervals(_fit(runs, chosen, options))
    if options.diagnostics:
        if len(runs.frame) > solver.MANY_ROWS:
            _log.info("looking for what misleads the fit of %s", fit.law.name)
        fit = replace(fit, notes=fit.notes + diagnosed(fit, folder))
        if options.constraints:
            fit = replace(fit, notes=(_objected(fit, chosen), *fit.notes))
    held = holdouts.held_out(runs.frame, fit.law.inputs, options.holdout)
    if not held.any():
        return fit
    rest = replace(runs, frame=runs.frame.loc[~held].reset_index(drop=True))
    checker, notes = checker_of(fit.law, rest, options.constraints)
    if checker is None:
        return replace(fit, notes=fit.notes + notes)
    if len(runs.frame) > solver.MANY_ROWS:
        _log.info("checking %s on %s rows held out", checker.name, f"{int(held.sum()):,}")
    check = _fit(rest, checker, options)
    checked = predict_held_out(check, runs, held, options.holdout)
    return replace(fit, holdout=checked, notes=fit.notes + notes + checked.notes)


def as_table(source: Source, laws: Sequence[str | type[Law]] = ()) -> RunTable:
    """The table itself, or the one read from a path or a data frame for these laws. Raises
    InputError."""
    for law in laws:
        if not (isinstance(law, str) or (isinstance(law, type) and issubclass(law, Law))):
            named = law.__name__ if isinstance(law, type) else repr(law)[:60]
            raise InputError(
                f"{named} is no law", "give the name of one (llmscale laws), or a class of laws.Law"
            )
    if isinstance(source, RunTable):
        return source
    kinds = [law_named(law) for law in laws]
    own = [kind for law, kind in zip(laws, kinds, strict=True) if not isinstance(law, str)]
    own += [kind for kind in kinds if not set(inputs_of(kind)) & set(LETTERS)]
    of_experts = [counts_of_experts(kind) for kind in kinds]
    needs = dict.fromkeys(chain.from_iterable([*map(inputs_of, own), *of_experts]))
    scores = bool(kinds) and all(kind.plain for kind in kinds)
    return read_table(source, needs=[*needs], scores=scores)


def diagnosed(fit: Fit, folder: _Folder | None = None) -> tuple[Note, ...]:
    """What `diagnose` says of a fit, with all rows and curves of its results folder, if any."""

    def again(table: RunTable) -> Fit:
        quick = replace(fit.options, bootstrap=0, holdout="none", diagnostics=False)
        return _fit(table, type(fit.law), quick)

    folder = folder or _Folder(fit.table)
    if not folder.place.runs_path.is_file():
        return diagnose(fit, refit=again)
    return diagnose(fit, runs=folder.every_run, curves=folder.seen, refit=again)


def _objected(fit: Fit, chosen: type[Law]) -> Note:
    """Whether the table objects to what was said of the coefficients."""
    try:
        free = with_intervals(_fit(fit.table, chosen, without_constraints(fit.options)))
    except LlmscaleError as error:
        return not_tested(fit, error.problem)
    return objection(fit, free)


def _options(options: Options | None, changes: dict[str, Any]) -> Options:
    known = [field.name for field in fields(Options)]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise InputError(
            f"there is no option {unknown[0]!r} of a fit", f"options are {', '.join(known)}"
        )
    if not isinstance(options, Options | None):
        raise InputError(
            f"options is a {type(options).__name__}", "give Options(...), or its fields by name"
        )
    return replace(options or Options(), **changes)


def _fit(table: RunTable, asked: type[Law], options: Options) -> Fit:
    _log.debug("fitting %s", asked.name)
    law, notes = choose(table, asked, options.variable, options.constraints)
    options.constraints.check(law)
    settings = {"variable": options.variable} if issubclass(law, OneVariableLaw) else {}
    inputs = inputs_of(law, options.variable)
    # Sums, starts and draws go by the order of rows: the answer must not hang on the file's.
    used = [*inputs, *(name for name in ("loss", "weight") if name in table.frame)]
    ordered = replace(table, frame=in_order(table.frame, used))
    if law.estimator == "anchor":
        return anchored(ordered, options, tuple(notes))
    columns = [ordered.frame[column].to_numpy(dtype=float) for column in inputs]
    loss = ordered.frame["loss"].to_numpy(dtype=float)
    # Noise may take a score of about 0 below it.
    if law.rises and np.median(loss) < 0:
        raise InputError(
            f"{law.name} is a law of a score, which is 0 or more, and {int((loss < 0).sum())} of "
            f"{len(loss)} values are below",
            "name another column as loss, or fit losses below zero with --law vocabulary",
        )
    level, weight = law.level_of(loss), run_weights(ordered)

    if len(loss) > solver.MANY_ROWS:
        _log.info("fitting %s to %s rows", law.name, f"{len(loss):,}")
    surface = surface_of(law, settings, columns, loss, options.constraints)
    objective = options.loss_function
    found = solver.descend(surface, level, weight, objective)
    errors = None if law.plain else evaluation_noise(ordered, surface, found.theta)
    if errors is not None:
        notes.append(errors.note())
    if errors is not None and errors.weighs:
        table, ordered = errors.weighed(table), errors.weighed(ordered)
        weight = run_weights(ordered)
        found = solver.descend(surface, level, weight, objective)
    theta = found.theta
    best = law(*surface.coefficients(theta[None])[0].tolist(), **settings)
    with np.errstate(all="ignore"):
        predicted = law.level_of(np.asarray(best.loss(*columns), dtype=float))
        value = float(objective.total(predicted - level, weight))
    if not np.isfinite(value):
        raise WorkError(
            f"the best coefficients of {law.name} for these {len(loss)} rows are beyond what "
            "numbers hold",
            "fit a law with fewer coefficients (llmscale laws), or add runs",
        )

    if len(loss) > solver.MANY_ROWS:
        _log.info("fitted %s; its intervals", law.name)
    refits = refit(ordered, inputs, surface, theta, options)
    notes += design_notes(best, table)
    notes += _degenerate(best, surface, found, options.constraints)
    return Fit(
        law=best,
        options=options,
        origin=origin_of(table),
        reach=reach_of(best, table, options.constraints.unknowns(best)),
        objective=value,
        replicates=refits.coefficients,
        noise=refits.noise,
        bootstrap_method=refits.method,
        notes=(*table.notes, *notes, *refits.notes),
        runs=table,
    )


def refit(
    table: RunTable, inputs: tuple[str, ...], surface: Surface, theta: Array, options: Options
) -> uncertainty.Replicates:
    """The bootstrap refits of a fit that ended at theta."""
    fitted = uncertainty.fitted_to(table, inputs, surface, theta, options.loss_function)
    word = _spread_word(table.frame, fitted.related)
    return uncertainty.bootstrap(
        fitted, count=options.bootstrap, seed=options.seed, spread_word=word
    )


def _spread_word(frame: pd.DataFrame, related: Dependence) -> str:
    """What the spread of the rows of one point is called: that of seeds, if they repeat a run."""
    if related.rows_together:
        return f"spread within {related.word}"
    names = differing(frame, related.unit_R)
    if not names:
        return "seed noise"
    return f"spread of runs that differ in {listed(names, 3)}"


def choose(
    table: RunTable, law: type[Law], variable: str, constraints: Constraints = NONE
) -> tuple[type[Law], list[Note]]:
    """The law to fit: the one asked for, or without its floor if that cannot be identified."""
    notes = []
    law = law.suited_to(table.frame)
    inputs = inputs_of(law, variable)
    problem = unusable(law, table.frame, inputs)
    if problem:
        raise problem
    has_known_floor = law.floor is not None and constraints.value(law.floor) is not None
    if len(inputs) == 1 and issubclass(law, OneVariableLaw) and not has_known_floor:
        number = count_levels(table.frame[variable].to_numpy())
        if number < SIZES_FOR_A_FLOOR:
            notes.append(floor_note(number, words(variable, number)))
            law = LAWS.find(law.without_floor) if law.without_floor else law
    problem = why_not(law, table.frame, inputs, constraints)
    if problem:
        raise problem
    return law, notes


def checker_of(
    law: Law, rest: RunTable, constraints: Constraints = NONE
) -> tuple[type[Law] | None, tuple[Note, ...]]:
    """The law to predict the held-out runs with: one point more than coefficients, or a law with
    fewer, or none."""
    inputs = law.inputs
    if rest.frame.empty:
        return None, (
            HOLDOUT_SKIPPED.note(
                f"no held-out check of {law.name}: every run is among the largest",
            ),
        )
    number = int(points(rest.frame, inputs).max()) + 1
    if has_steps(rest.frame):
        number = len(rest.frame)
    needed = constraints.unknowns(law) + 1
    problem = why_not(type(law), rest.frame, inputs, constraints)
    if number >= needed and problem is None:
        return type(law), ()
    if _suffices_without_floor(law, number, constraints):
        assert law.without_floor is not None
        message = (
            f"without the held-out runs {number} {words(inputs[0], number)} are left, too few for "
            f"{law.name}: the check was made with {law.without_floor}"
        )
        return LAWS.find(law.without_floor), (HOLDOUT_BY_SIMPLER_LAW.note(message),)
    what = words(inputs[0], number) if len(inputs) == 1 else "points"
    reason = (
        f"{number} {what} {'is' if number == 1 else 'are'} left"
        if problem is None or number < needed
        else problem.problem
    )
    return None, (
        HOLDOUT_SKIPPED.note(
            f"no held-out check of {law.name}: without the largest runs, {reason}",
        ),
    )


def _suffices_without_floor(law: Law, number: int, constraints: Constraints) -> bool:
    """Whether so many points are enough for the law without its floor, of which all is known that
    was said."""
    if law.without_floor is None:
        return False
    names = LAWS.find(law.without_floor).coefficient_names()
    return constraints.lacking(names) is None and number >= constraints.free(names) + 1


def predict_held_out(check: Fit, table: RunTable, held: NDArray[np.bool_], rule: str) -> Holdout:
    """What a fit without the held-out runs says of them."""
    columns = dict.fromkeys(["run_id", "params", "tokens", "flops", *check.law.inputs, "loss"])
    runs = table.frame.loc[held, list(columns)].reset_index(drop=True)
    at = {name: runs[name].to_numpy() for name in check.law.inputs}
    told = forecast_at(check, **at)
    runs.insert(1, "title", run_titles(table.frame, np.flatnonzero(held)))
    runs["predicted"], runs["low"], runs["high"] = told.loss, told.low, told.high
    runs["plain_low"], runs["plain_high"] = told.plain_low, told.plain_high
    rounding = 1e-9 * runs["loss"].abs()
    runs["inside"] = (runs["low"] - rounding <= runs["loss"]) & (
        runs["loss"] <= runs["high"] + rounding
    )
    return Holdout(rule, check.law, runs)


def _degenerate(
    law: Law, surface: Surface, found: solver.Descent, constraints: Constraints
) -> list[Note]:
    """Notes on an optimum at the edge of what the law can say, or of what was said of it."""
    names, theta = law.coefficient_names(), found.theta
    held = np.array([name in constraints.held for name in names])
    at_bound = constraints.at_bound(law.coefficients())
    notes = [
        BOUND_ACTIVE.note(f"{name} ends on its bound {end:.6g}: these runs pull it beyond")
        for name, end in at_bound.items()
    ]
    jacobian = surface.jacobian(theta)
    at_zero = surface.vanishing & (theta <= surface.lower)
    if not surface.centred:
        # Logarithms of amplitudes have no bound to end on: they are at zero when nothing hangs on
        # them.
        logs = ~np.isin(names, law.signed) & ~np.isin(names, law.exponents)
        at_zero |= logs & ~held & (np.abs(jacobian).max(axis=0) < _NO_SHARE)
    for name in np.array(names)[at_zero]:
        if name == law.floor:
            notes.append(
                FLOOR_AT_ZERO.note(f"the best floor {name} is 0: these runs show no floor")
            )
        elif getattr(law, name) <= 1:
            notes.append(
                TERM_AT_ZERO.note(
                    f"the best {name} is 0: its term does nothing, and its exponent is arbitrary",
                )
            )
        else:
            notes.append(
                TERM_AT_ZERO.note(
                    f"{name} = {getattr(law, name):.3g} is so large that nothing hangs on its "
                    "value",
                )
            )
    free = ~at_zero & ~held & ~np.isin(names, list(at_bound))
    for name in law.exponents:
        index = names.index(name)
        if not free[index]:
            continue
        value = getattr(law, name)
        if theta[index] <= surface.lower[index]:
            notes.append(
                EXPONENT_AT_BOUND.note(
                    f"{name} is at its bound 0: the loss does not fall with its variable",
                )
            )
        elif theta[index] >= surface.upper[index] or value > 4:
            notes.append(
                EXPONENT_AT_BOUND.note(
                    f"{name} = {value:.3g} is implausibly steep: it fits the smallest runs alone",
                )
            )
        free[index] &= surface.lower[index] < theta[index] < surface.upper[index]
    unbound = [
        name
        for name, lower, value, upper in zip(
            names, surface.lower, theta, surface.upper, strict=True
        )
        if name in law.signed
        and name not in (*constraints.held, *at_bound)
        and not lower < value < upper
    ]
    if unbound or not found.settled:
        reason = "the best fit lies along a ridge, on which the objective hardly changes any more"
        if unbound:
            reason = (
                f"nothing keeps {' and '.join(unbound)} from growing, and the fit ends where the "
                "search does"
            )
        notes.append(
            FLAT_DIRECTION.note(
                f"{reason}: the coefficients are not known one by one, only the loss near the "
                "runs is. Use a law with fewer coefficients, or add runs",
            )
        )
        return notes
    # On centred inputs columns compare as they are.
    columns = jacobian[:, free] if surface.centred else solver.unit_columns(jacobian[:, free])
    _, singular, direction = np.linalg.svd(columns, full_matrices=False)
    if len(singular) and FLAT_DIRECTION.limit * singular[-1] <= singular[0]:
        condition = singular[0] / max(singular[-1], 1e-300)
        moving = np.array(names)[free][np.abs(direction[-1]) > 0.3]
        notes.append(
            FLAT_DIRECTION.note(
                f"the runs hardly tell {' and '.join(moving)} apart (condition number "
                f"{condition:.1e}): only their joint effect is known",
            )
        )
    return notes

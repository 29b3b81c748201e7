"""Fit a law to a table of runs: best coefficients, intervals, held-out check, and notes on what
they are worth."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError, LlmscaleError, Note, WorkError, listed
from llmscale.explain.diagnostics.diagnose import diagnose, faults_of_runs
from llmscale.explain.estimation import holdout as holdouts
from llmscale.explain.estimation import solver, uncertainty
from llmscale.explain.estimation.constrained import surface_of
from llmscale.explain.estimation.constraints import NONE, Constraints
from llmscale.explain.estimation.dependence import Dependence
from llmscale.explain.estimation.design_notes import design_notes, floor_note
from llmscale.explain.estimation.evaluation import has_errors, weighed_by_noise
from llmscale.explain.estimation.expansion import MANY_ROWS
from llmscale.explain.estimation.identifiability import SIZES_FOR_A_FLOOR, unusable, why_not
from llmscale.explain.estimation.intervals import with_intervals
from llmscale.explain.estimation.levels import count_levels, in_order, words
from llmscale.explain.estimation.objection import check_near, not_tested, objection
from llmscale.explain.estimation.optimum_notes import optimum_notes
from llmscale.explain.estimation.options import Options, without_constraints
from llmscale.explain.estimation.reach import reach_of
from llmscale.explain.estimation.repeats import differing
from llmscale.explain.estimation.result import Fit, origin_of, run_weights
from llmscale.explain.estimation.suitability import default_laws, default_variable, inputs_of
from llmscale.explain.estimation.trend import no_trend
from llmscale.explain.fit.anchoring import anchored
from llmscale.explain.fit.held_out import checker_of, predict_held_out
from llmscale.explain.fit.sources import Folder, Source, as_table
from llmscale.explain.laws import LAWS, Array, Law, OneVariableLaw, Surface, law_named
from llmscale.explain.laws._own import errors_named
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.table import RunTable

_log = logging.getLogger(__name__)
"""News of large tables, for a command to show."""


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
    folder = Folder(runs)
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
    return _fit_law(Folder(as_table(table, (law,))), law, _options(options, changes))


def bare_fit(
    table: Source, law: str | type[Law], options: Options | None = None, **changes: Any
) -> Fit:
    """As `fit_law`, with refits, but without the intervals of coefficients, the diagnostics and the
    held-out check: for many fits of which only the curve is used."""
    chosen = law_named(law)
    runs = Folder(as_table(table, (law,))).for_law(chosen)
    with errors_named(chosen):
        return _fit(runs, chosen, _options(options, changes))


def _fit_law(folder: Folder, law: str | type[Law], options: Options) -> Fit:
    chosen = law_named(law)
    with errors_named(chosen):
        return _fit_and_check(folder, chosen, options)


def _fit_and_check(folder: Folder, chosen: type[Law], options: Options) -> Fit:
    runs = folder.for_law(chosen)
    fit = with_intervals(_fit(runs, chosen, options))
    if options.diagnostics:
        flat = no_trend(fit)
        fit = replace(fit, notes=fit.notes if flat is None else (flat, *fit.notes))
        if len(runs.frame) > MANY_ROWS:
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
    if len(runs.frame) > MANY_ROWS:
        _log.info("checking %s on %s rows held out", checker.name, f"{int(held.sum()):,}")
    check = _fit(rest, checker, options)
    checked = predict_held_out(check, runs, held, options.holdout)
    return replace(fit, holdout=checked, notes=fit.notes + notes + checked.notes)


def diagnosed(fit: Fit, folder: Folder | None = None, *, ranked: bool = False) -> tuple[Note, ...]:
    """What `diagnose` says of a fit, with all rows and curves of its results folder, if any;
    `ranked` if other laws were fitted next to it. Runs are looked at by the residuals of a law that
    aims at all of them."""
    again = _refitting(fit)
    of_runs: tuple[Note, ...] = ()
    if fit.law.estimator is not None:
        every = _refitting(fit, Chinchilla)
        of_runs = faults_of_runs(every(fit.table), every)
    folder = folder or Folder(fit.table)
    if not folder.place.runs_path.is_file():
        return (*diagnose(fit, refit=again, ranked=ranked), *of_runs)
    seen: dict[str, Any] = {"runs": folder.every_run, "curves": folder.seen}
    return (*diagnose(fit, **seen, refit=again, ranked=ranked), *of_runs)


def _refitting(fit: Fit, law: type[Law] | None = None) -> Callable[[RunTable], Fit]:
    """Fits the same law, or another, to a table as `fit` was, without what takes time."""
    quick = replace(fit.options, bootstrap=0, holdout="none", diagnostics=False)
    return lambda table: _fit(table, law or type(fit.law), quick)


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

    if len(loss) > MANY_ROWS:
        _log.info("fitting %s to %s rows", law.name, f"{len(loss):,}")
    surface = surface_of(law, settings, columns, loss, options.constraints)
    objective = options.loss_function
    found = solver.descend(surface, level, weight, objective)
    if not law.plain:
        about = (surface, found.theta)
        if options.constraints and has_errors(ordered):
            about = _freely(law.surface(columns, loss, **settings), level, weight, options) or about
        (ordered, table), said = weighed_by_noise(*about, ordered, table)
        notes += said
    if not np.array_equal(run_weights(ordered), weight):
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
    check_near(law, options.constraints, predicted - level)

    if len(loss) > MANY_ROWS:
        _log.info("fitted %s; its intervals", law.name)
    refits = refit(ordered, inputs, surface, theta, options)
    notes += design_notes(best, table, options)
    notes += optimum_notes(best, surface, found, options.constraints)
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
        settled=found.settled,
        runs=table,
    )


def _freely(
    surface: Surface, level: Array, weight: Array, options: Options
) -> tuple[Surface, Array] | None:
    """Where a fit without constraints ends, about which noise is what both fits weigh runs by:
    what was said may be wrong, and the misfit that makes is none. None if it does not end."""
    try:
        return surface, solver.descend(surface, level, weight, options.loss_function).theta
    except LlmscaleError:
        return None


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

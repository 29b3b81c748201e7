"""Fit a law to a table of runs: best coefficients, intervals, held-out check, and notes on what they are worth."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import InputError, Note
from llmscale.fit import holdout as holdouts
from llmscale.fit import identify, solver, uncertainty
from llmscale.fit.result import Fit, Holdout
from llmscale.laws import Array, Law, OneVariableLaw, Surface, find
from llmscale.table import RunTable

_FLAT = 1e-5
"""Singular values of the scaled Jacobian below this share of the largest are flat directions."""


def fit_laws(
    table: RunTable,
    laws: Sequence[str] = (),
    *,
    variable: str = "params",
    level: float = 0.9,
    bootstrap: int = 1000,
    holdout: str = "largest",
    seed: int = 0,
    delta: float = 1e-3,
) -> tuple[Fit, ...]:
    """Fits of the laws named, or of those that suit the table; the first is the one to use."""
    fits: dict[str, Fit] = {}
    for name in laws or identify.default_laws(table, variable):
        fit = fit_law(
            table, name, variable=variable, level=level, bootstrap=bootstrap, holdout=holdout, seed=seed, delta=delta
        )
        fits.setdefault(fit.law.name, fit)
    return tuple(fits.values())


def fit_law(
    table: RunTable,
    law: str,
    *,
    variable: str = "params",
    level: float = 0.9,
    bootstrap: int = 1000,
    holdout: str = "largest",
    seed: int = 0,
    delta: float = 1e-3,
) -> Fit:
    """The law of that name fitted to the table.

    Below four sizes a law with a floor gives way to the one without it, with a note. `holdout` leaves out `largest`,
    `none`, or the runs of a rule like `flops>1e19`; the fit itself always uses every run. Raises InputError where
    the runs cannot identify the law, WorkError where the fit does not settle.
    """
    if not 0 < level < 1:
        raise InputError(f"level {level:g} is not between 0 and 1", "use --level 0.9")
    if bootstrap < 0:
        raise InputError(f"{bootstrap} bootstrap refits are below zero", "use --bootstrap 1000, or 0 for no intervals")
    if not (math.isfinite(delta) and delta > 0):
        raise InputError(f"delta {delta:g} is not above zero", "use --delta 1e-3")
    fit = _fit(table, law, variable, level, bootstrap, seed, delta)
    held = holdouts.held_out(table.frame, fit.law.inputs, holdout)
    if not held.any():
        return fit
    rest = replace(table, frame=table.frame.loc[~held].reset_index(drop=True))
    checker, notes = _checker(fit.law, rest)
    if checker is None:
        return replace(fit, notes=fit.notes + notes)
    check = _fit(rest, checker, variable, level, bootstrap, seed, delta)
    return replace(fit, holdout=_predict(check, table, held, holdout), notes=fit.notes + notes)


def _fit(table: RunTable, name: str, variable: str, level: float, bootstrap: int, seed: int, delta: float) -> Fit:
    law, notes = _choose(table, name, variable)
    settings = {"variable": variable} if issubclass(law, OneVariableLaw) else {}
    inputs = law(*np.ones(len(law.coefficient_names())), **settings).inputs
    columns = [table.frame[column].to_numpy() for column in inputs]
    loss = table.frame["loss"].to_numpy()
    log_loss = np.log(loss)

    surface = law.surface(columns, loss)
    theta = solver.solve(surface, log_loss, np.ones(len(loss)), delta)
    best = law(*surface.coefficients(theta[None])[0].tolist(), **settings)
    objective = float(solver.huber_sum(np.log(best.loss(*columns)) - log_loss, np.ones(len(loss)), delta))

    point = identify.points(table.frame, inputs)
    word = identify.words(inputs[0], int(point.max()) + 1) if len(inputs) == 1 else "points"
    refits = uncertainty.bootstrap(
        surface, theta, log_loss, point, count=bootstrap, delta=delta, seed=seed, points_word=word
    )
    notes += identify.design_notes(best, table)
    notes += _degenerate(best, surface, theta)
    return Fit(
        law=best,
        table=table,
        level=level,
        delta=delta,
        objective=objective,
        replicates=refits.coefficients,
        noise=refits.noise,
        bootstrap_method=refits.method,
        holdout=None,
        notes=(*table.notes, *notes, *refits.notes),
    )


def _choose(table: RunTable, name: str, variable: str) -> tuple[type[Law], list[Note]]:
    """The law to fit: the one asked for, or without its floor where that cannot be identified."""
    law, notes = find(name), []
    if variable not in ("params", "tokens", "flops"):
        raise InputError(f"there is no variable {variable!r}", "use params, tokens or flops")
    inputs = (variable,) if issubclass(law, OneVariableLaw) else None
    if inputs and np.isfinite(table.frame[variable].to_numpy()).all():
        number = identify.count_levels(table.frame[variable].to_numpy())
        if number < identify.SIZES_FOR_A_FLOOR:
            notes.append(identify.floor_note(number, identify.words(variable, number)))
            law = find(law.without_floor) if law.without_floor else law
    problem = identify.why_not(law, table.frame, inputs)
    if problem:
        raise problem
    return law, notes


def _checker(law: Law, rest: RunTable) -> tuple[str | None, tuple[Note, ...]]:
    """The law to predict the held-out runs with: one point more than coefficients, or a law with fewer, or none."""
    inputs = law.inputs
    number = int(identify.points(rest.frame, inputs).max()) + 1
    needed = len(law.coefficient_names()) + 1
    problem = identify.why_not(type(law), rest.frame, inputs)
    if number >= needed and problem is None:
        return law.name, ()
    if law.without_floor and number >= len(find(law.without_floor).coefficient_names()) + 1:
        message = (
            f"without the held-out runs {number} {identify.words(inputs[0], number)} are left, too few for {law.name}:"
            f" the check was made with {law.without_floor}"
        )
        return law.without_floor, (Note("holdout-by-simpler-law", message),)
    what = identify.words(inputs[0], number) if len(inputs) == 1 else "points"
    reason = (
        f"{number} {what} {'is' if number == 1 else 'are'} left"
        if problem is None or number < needed
        else problem.problem
    )
    return None, (Note("holdout-skipped", f"no held-out check of {law.name}: without the largest runs, {reason}"),)


def _predict(check: Fit, table: RunTable, held: NDArray[np.bool_], rule: str) -> Holdout:
    runs = table.frame.loc[held, ["run_id", "params", "tokens", "flops", "loss"]].reset_index(drop=True)
    at = {name: runs[name].to_numpy() for name in check.law.inputs}
    low, high = check.band(single_run=True, **at)
    runs["predicted"] = check.predict(**at)
    runs["low"], runs["high"] = low, high
    runs["inside"] = (runs["low"] <= runs["loss"]) & (runs["loss"] <= runs["high"])
    return Holdout(rule, check.law, runs)


def _degenerate(law: Law, surface: Surface, theta: Array) -> list[Note]:
    """Notes on an optimum at the edge of what the law can say."""
    notes, names = [], law.coefficient_names()
    at_zero = surface.vanishing & (theta <= surface.lower)
    for name in np.array(names)[at_zero]:
        if name == law.floor:
            notes.append(Note("floor-at-zero", f"the best floor {name} is 0: these runs show no floor"))
        else:
            notes.append(
                Note("term-at-zero", f"the best {name} is 0: its term does nothing, and its exponent is arbitrary")
            )
    free = ~at_zero
    for name in law.exponents:
        index = names.index(name)
        value = getattr(law, name)
        if theta[index] <= surface.lower[index]:
            notes.append(
                Note("exponent-at-bound", f"{name} is at its bound 0: the loss does not fall with its variable")
            )
        elif theta[index] >= surface.upper[index] or value > 4:
            notes.append(
                Note("exponent-at-bound", f"{name} = {value:.3g} is implausibly steep: it fits the smallest runs alone")
            )
        free[index] &= surface.lower[index] < theta[index] < surface.upper[index]
    _, singular, direction = np.linalg.svd(surface.jacobian(theta)[:, free], full_matrices=False)
    if len(singular) and singular[-1] <= _FLAT * singular[0]:
        condition = singular[0] / max(singular[-1], 1e-300)
        moving = np.array(names)[free][np.abs(direction[-1]) > 0.3]
        notes.append(
            Note(
                "flat-direction",
                f"the runs hardly tell {' and '.join(moving)} apart (condition number {condition:.1e}):"
                " only their joint effect is known",
            )
        )
    return notes

"""The fits that forecasts and figures are made of: given, kept in a file, kept next to the table,
or made now."""

import logging
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, Note, both
from llmscale.explain.api.read import LawName, read_as, read_runs
from llmscale.explain.estimation.options import Options, asked_for, disagreement, said
from llmscale.explain.estimation.result import Fit, Tested
from llmscale.explain.estimation.suitability import default_laws, default_variable
from llmscale.explain.fit.backtest import check
from llmscale.explain.fit.comparison import Comparison
from llmscale.explain.fit.fingerprint import is_of
from llmscale.explain.fit.fits import Fits
from llmscale.explain.fit.kept import is_kept, read_kept, table_of
from llmscale.explain.fit.parametric import choose, fit_laws
from llmscale.explain.fit.sources import table_for
from llmscale.explain.laws import LAWS, Law, OneVariableLaw, law_named
from llmscale.explain.table import RunTable
from llmscale.notes.predicting import KEPT_OPTIONS, KEPT_TABLE_CHANGED
from llmscale.runs.remote import is_url
from llmscale.runs.results_folder import ResultsFolder

_log = logging.getLogger(__name__)
"""Which fit is used, for a command to show."""
_tested: "weakref.WeakKeyDictionary[Fit, Tested]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Asked:
    """What a forecast or a figure is to be made of.

    `source` is a table, a fit, or several; `reading` the options by which a table is read, and
    `options` those of Options that were given. With `refit` no fit that was kept is used, and with
    `every` the law of a forecast is chosen among all that are in N and D."""

    source: Any
    laws: tuple[LawName, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    refit: bool = False
    every: bool = False

    def __post_init__(self) -> None:
        if "all" in self.laws:
            raise InputError(
                "laws are ranked when they are fitted, not here: --law all",
                "name one: --law chinchilla",
            )

    @cached_property
    def given(self) -> tuple[Fit, ...]:
        """The fits that the source is or names, of the laws that are asked for; none if it is a
        table. Raises InputError if it has no fit of such a law."""
        if isinstance(self.source, Fit):
            return self._chosen((self.source,))
        if isinstance(self.source, (Fits, Comparison)):
            return self._chosen(tuple(self.source))
        if is_kept(self.source):
            kind = next(iter(self._kinds()), None)
            fit = read_kept(self.source, kind)
            return self._chosen((replace(fit, notes=(*fit.notes, *_changed_since(fit, kind))),))
        return ()

    def _kinds(self) -> list[type[Law]]:
        return [law_named(law) for law in self.laws]

    def _chosen(self, fits: tuple[Fit, ...]) -> tuple[Fit, ...]:
        if not self.laws:
            return fits
        by_name = {fit.law.name: fit for fit in fits}
        names = [kind.name for kind in self._kinds()]
        for name in names:
            if name not in by_name:
                raise InputError(
                    f"there is no fit of {name} here, only of {both(list(by_name))}",
                    "name one of these, or give the table to fit it",
                )
        return tuple(by_name[name] for name in names)


def _changed_since(fit: Fit, own: type[Law] | None) -> list[Note]:
    """A note if the table that a kept fit names gives other runs by now."""
    table, reading = fit.origin.path, fit.origin.asked
    if fit.kept is None or reading is None or str(table).startswith("<") or is_url(str(table)):
        return []
    if not table.exists():
        _log.info("%s, which %s was fitted to, is not here", table, fit.kept)
        return []
    law = own or type(fit.law)
    try:
        given = read_as(reading)
    except InputError:
        return []
    try:
        runs = read_runs(table, laws=(law,), **given)
        same = is_of(table_for(runs, law), table_of(fit.kept))
    except InputError:
        same = False
    if same:
        return []
    message = (
        f"{table} no longer gives the runs that {fit.kept} was fitted to: name it to fit again"
    )
    return [KEPT_TABLE_CHANGED.note(message)]


def check_variable(laws: Sequence[LawName], options: Mapping[str, Any]) -> None:
    """Raise InputError for a variable that no law named is fitted in."""
    if options.get("variable") is None or not laws:
        return
    kinds = [law_named(law) for law in laws if law != "all"]
    if kinds and not any(issubclass(kind, OneVariableLaw) for kind in kinds):
        raise InputError(
            f"{kinds[0].name} is no law in one variable, and is fitted in its own",
            "leave --variable out",
        )


def check_constraints(laws: Sequence[LawName], options: Options) -> None:
    """Raise InputError for what is said of coefficients that a law named does not have, or cannot
    have so, and for --law all: laws differ in what a coefficient of one name means."""
    if not options.constraints:
        return
    if "all" in laws:
        raise InputError(
            f"{options.constraints} is said of one law, and --law all ranks every one",
            "name the laws that have these coefficients: --law chinchilla",
        )
    for law in map(law_named, laws):
        # A law that a table gives its coefficients is checked when it has them.
        if law.suited_to.__func__ is Law.suited_to.__func__:  # type: ignore[attr-defined]
            options.constraints.check(law)


def check_given(fit: Fit, asked: Asked, but: Sequence[str] = ()) -> None:
    """Raise InputError for options that a fit, once it is made, does not follow."""
    reading = {name: value for name, value in asked.reading.items() if value not in ((), [])}
    if reading.get("count") == fit.origin.count:
        del reading["count"]
    again = f"to fit it again, name {fit.origin.named}"
    if "count" in reading:
        raise InputError(
            f"N of the fit counts {fit.origin.count}, and {reading['count']} is asked for", again
        )
    if reading or asked.refit:
        option = next(iter(reading), "refit")
        raise InputError(
            f"a fit that is made reads no table, and --{option} is about one",
            f"name {fit.origin.named}",
        )
    options = {name: value for name, value in asked.options.items() if name not in but}
    name = disagreement(fit.options, options)
    if name is not None:
        raise InputError(
            f"the fit was made with {said(fit.options, name)}, and {asked_for(options[name])} is "
            "asked for",
            again,
        )


def fits_of(
    asked: Asked, runs: RunTable, *, first: bool = False, **defaults: Any
) -> tuple[Fit, ...]:
    """The fits of a table by the laws named, or by those that suit it (with `first` the first):
    each as it was kept next to the table if that is of the same runs and options, or made now with
    `defaults` for what was not given."""
    options = Options(**{**defaults, **asked.options})
    if not asked.laws and "variable" not in asked.options:
        options = replace(options, variable=default_variable(runs, options.variable))
    laws = asked.laws or default_laws(runs, options.variable, options.constraints)
    found: dict[str, Fit] = {}
    for law in laws[:1] if first else laws:
        kept = None if asked.refit else _kept(asked, runs, law, options.variable)
        fit = kept or fit_laws(runs, (law,), options)[0]
        found.setdefault(fit.law.name, fit)
    return tuple(found.values())


def tested(fit: Fit, level: float) -> Tested | None:
    """What forecasts of this law have held on its own table; None if nothing tells. Of a kept fit
    without its table, what they held at the level it was made at."""
    if fit.tested is not None and fit.level == level:
        return fit.tested
    if fit.runs is None or not fit.options.bootstrap:
        return fit.tested and _at_another(fit.tested, level)
    if fit.level != level:
        return check(replace(fit, options=replace(fit.options, level=level))).tested
    if fit not in _tested:
        _tested[fit] = check(fit).tested
    return _tested[fit]


def _at_another(tested: Tested, level: float) -> Tested:
    """A test that says that forecasts of this level were not part of it."""
    if not tested.coverage:
        return tested
    said = f"{tested.coverage}; {100 * level:g}% forecasts were not tested"
    return replace(tested, coverage=f"{said}: name the table for that")


def read_for(asked: Asked) -> RunTable:
    """The table that is asked for."""
    return read_runs(asked.source, laws=asked.laws, **asked.reading)


def _kept(asked: Asked, runs: RunTable, law: LawName, variable: str) -> Fit | None:
    """The fit of this law that is kept next to the table, if it is of these runs and options."""
    kind = law_named(law)
    place = _place_of(asked.source, runs.path)
    if place is None:
        return None
    constraints = Options(**asked.options).constraints
    chosen, notes = choose(runs, kind, variable, constraints)
    path = ResultsFolder(place).fit_path(chosen.name)
    if not path.is_file():
        return None
    try:
        table = table_for(runs, chosen)
        fit = read_kept(path, None if chosen.name in LAWS else chosen)
        reason = _reason(fit, asked, chosen, runs, variable)
        if reason is None and not is_of(table, table_of(path)):
            reason = _of_other_runs(fit, runs)
    except InputError as error:
        _log.info("%s: fitted again", error.problem)
        return None
    # A law without its floor is said to be one, or was asked for as it is.
    if reason is None and any(note not in fit.notes for note in notes):
        reason = f"was not asked for as {kind.name}"
    if reason is not None:
        _log.info("%s %s: fitted again", path, reason)
        return None
    _log.info("the fit kept in %s is used (--refit fits again)", path)
    return replace(fit, runs=table, notes=(*fit.notes, *_unusual(fit, asked.options)))


def _of_other_runs(fit: Fit, runs: RunTable) -> str:
    """That a fit next to a table is not of its runs: of another table, or of this one before."""
    if fit.origin.path.name != runs.path.name:
        return f"is of {fit.origin.path}, not of {runs.path}"
    return "is of the table before it changed"


def _unusual(fit: Fit, given: Mapping[str, Any]) -> list[Note]:
    """What a kept fit was made with that nobody asked for now, and that is not the usual."""
    usual = Options(variable=fit.options.variable)
    names = [one.name for one in fields(Options) if one.name not in given]
    made = {name: getattr(fit.options, name) for name in names}
    unusual = [f"{name} {made[name]}" for name in names if made[name] != getattr(usual, name)]
    if not unusual:
        return []
    return [KEPT_OPTIONS.note(f"the fit in {fit.kept} is used, which has {both(unusual)}")]


def _reason(fit: Fit, asked: Asked, kind: type[Law], runs: RunTable, variable: str) -> str | None:
    """Why a fit of this table is not the one that is asked for."""
    name = disagreement(fit.options, asked.options)
    if name is not None:
        return f"was made with {said(fit.options, name)}"
    if fit.constraints != Options(**asked.options).constraints:
        # Of other options a forecast tells; with these the law would be another one.
        return f"was made with {fit.constraints}"
    if fit.origin.count != runs.count:
        return f"counts {fit.origin.count}"
    if issubclass(kind, OneVariableLaw) and fit.law.inputs[0] != variable:
        return f"is in {fit.law.inputs[0]}"
    return None if fit.options.diagnostics else "was made without diagnostics"


def _place_of(source: Any, path: Path) -> Path | None:
    """The folder in which fits of a table are kept; None of what is no file here."""
    if is_url(source) or not path.exists():
        return None
    return path if path.is_dir() else path.parent

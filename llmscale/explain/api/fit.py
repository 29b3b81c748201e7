"""`llmscale.fit`: laws fitted to a table of runs, in any of the ways that `llmscale fit` offers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, Unpack, overload

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.allocation import (
    METHODS,
    Allocation,
    MethodComparison,
    allocate,
    allocate_all,
)
from llmscale.explain.api.fitted import check_constraints, check_variable
from llmscale.explain.api.lowest_points import lowest_points
from llmscale.explain.api.read import LawName, laws_of, read_runs
from llmscale.explain.api.settings import (
    FitSpec,
    Given,
    asked_spec,
    options_given,
    reading_given,
)
from llmscale.explain.api.written_over import refuse_input
from llmscale.explain.estimation.options import CONSTRAINTS, Options, asked_for
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.suitability import default_laws
from llmscale.explain.fit.backtest import check
from llmscale.explain.fit.compare import compare
from llmscale.explain.fit.comparison import Comparison
from llmscale.explain.fit.fits import Fits
from llmscale.explain.fit.groups import Groups, fit_groups
from llmscale.explain.fit.kept import check_file, check_place, keep_in_folder
from llmscale.explain.fit.kept import keep as keep_fit
from llmscale.explain.fit.parametric import fit_laws
from llmscale.explain.laws import law_named
from llmscale.explain.table import RunTable, groups
from llmscale.runs.remote import is_url
from llmscale.settings import shows_keywords

Found: TypeAlias = Fit | Fits | Comparison | Groups | Allocation | MethodComparison
_SURFACE = "chinchilla"
"""The law on which methods are checked, and that `parametric` fits."""
_TESTED_ROWS = 5000
"""Of more rows, forecasts are tested when they are made, and not for every fit that is kept."""


Keep: TypeAlias = bool | Path | str | None


@overload
def fit(source: Any, law: Literal["all"], **settings: Unpack[Given]) -> Comparison: ...


@overload
def fit(source: Any = None, law: Any = None, *, by: str, **settings: Unpack[Given]) -> Groups: ...


@overload
def fit(
    source: Any = None,
    law: Any = None,
    *,
    method: Literal["isoflop", "envelope"],
    **settings: Unpack[Given],
) -> Allocation: ...


@overload
def fit(
    source: Any = None, law: Any = None, *, method: Literal["all"], **settings: Unpack[Given]
) -> MethodComparison: ...


@overload
def fit(
    source: Any = None,
    law: LawName | None = None,
    *,
    keep: Keep = False,
    **settings: Unpack[Given],
) -> Fit: ...


@overload
def fit(
    source: Any, law: Sequence[LawName], *, keep: Keep = False, **settings: Unpack[Given]
) -> Fits: ...


@overload
def fit(
    source: Any = None,
    law: Any = None,
    *,
    method: str,
    by: str | None = None,
    keep: Keep = False,
    **settings: Unpack[Given],
) -> Found: ...


@shows_keywords(FitSpec)
@np.errstate(all="ignore")  # laws overflow far from their runs, which is said
def fit(
    source: Any = None,
    law: Any = None,
    *,
    method: str = "parametric",
    by: str | None = None,
    keep: Keep = False,
    **settings: Unpack[Given],
) -> Any:
    """A law fitted to a table of runs, with intervals and a check on runs held out.

    `source` is a results folder, a file, a URL, a table of pandas, polars or pyarrow, or a dict of
    columns; None is the newest sweep. It is read as `read_runs` says. `law` is a name, a
    FILE.py:CLASS or a class: one gives a Fit, and none the one that suits the table; a list gives
    Fits, an empty one those that suit; "all" ranks every law that suits, in a Comparison. `by` fits
    one law for every value of a column, and jointly (Groups). `method` isoflop or envelope finds
    the compute-optimal allocation only (Allocation), and all compares the methods. `keep` writes
    the fit of one law to a path, or with True into the results folder, as fit-LAW.json; None does
    so if the source is such a folder. `settings` are those of docs/settings.md: how to read the
    table, and how to fit. Raises InputError, and WorkError if a fit does not settle.

    >>> import llmscale
    >>> N = [1e6, 2e6, 4e6, 8e6, 16e6, 32e6]
    >>> runs = {"params": N, "tokens": [1e9] * 6, "loss": [2 + 300 / n**0.4 for n in N]}
    >>> found = llmscale.fit(runs, "power-floor", bootstrap=0)
    >>> {name: round(value, 3) for name, value in found.law.coefficients().items()}
    {'E': 2.0, 'A': 300.0, 'alpha': 0.4}
    """
    asked = {"law": law, "method": method, "by": by, "keep": keep, **settings}
    spec = asked_spec(FitSpec, asked)
    laws, given = laws_of(spec.law), options_given(spec, settings)
    _check_combination(laws, spec, given)
    named = tuple(one for one in laws if one != "all")
    runs = read_runs(source, laws=named, **reading_given(settings))
    if spec.by is not None:
        return _by_group(runs, spec.by, named, spec.options)
    if spec.method == "all":
        return allocate_all(runs, spec.options, law=named[0] if named else _SURFACE)
    if spec.method != "parametric":
        return allocate(runs, spec.method, spec.options, law=named[0] if named else _SURFACE)
    if "all" in laws:
        return compare(runs, options=spec.options)
    place = _place(keep, source, runs)
    found = fit_laws(runs, named, spec.options)
    if law is None:
        found = found[:1]
    if place is not None:
        found = _kept(found, place)
    return found[0] if law is None or isinstance(law, (str, type)) else Fits(found)


def _by_group(runs: RunTable, by: str, laws: tuple[LawName, ...], options: Options) -> Groups:
    parts = groups(runs, by)
    smallest = min(parts.values(), key=lambda part: len(part.frame))
    law = laws[0] if laws else default_laws(smallest, options.variable, options.constraints)[0]
    return fit_groups(parts, by, law, options)


def _with_test(one: Fit) -> Fit:
    """The fit with what forecasts of its law have held on its table, and what the budgets say."""
    one = replace(one, lowest_points=lowest_points(one))
    if not len(one.replicates) or one.origin.rows > _TESTED_ROWS:
        return one
    return replace(one, tested=check(one).tested)


def _place(keep: Keep, source: Any, runs: RunTable) -> Path | None:
    """The file or the results folder to keep fits in. Raises InputError if they cannot be."""
    if keep is False:
        return None
    if isinstance(keep, (str, Path)):
        path = Path(os.path.expanduser(keep))
        refuse_input(path, source)
        return path
    # A part of a folder's runs is not the folder's fit, and at a URL only a sweep writes.
    is_part = not {"--where", "--best-of"}.isdisjoint(runs.asked)
    if runs.path.is_dir() and not is_part and not is_url(source):
        check_place(runs.path)
        return runs.path
    if keep is None:
        return None
    reason = f"{runs.path} is no results folder here"
    if is_part:
        reason = f"it is of a part of the runs of {runs.path}"
    raise InputError(
        f"the fit cannot be kept next to its table: {reason}",
        'say where, as in keep="fit-mine.json"',
    )


def _kept(fits: tuple[Fit, ...], place: Path) -> tuple[Fit, ...]:
    """The fits, all kept in a results folder, or the first in a file that tells of the others."""
    fits = tuple(_with_test(one) for one in fits)
    if place.is_dir():
        return keep_in_folder(fits)
    return (keep_fit(fits[0], place, fits[1:]), *fits[1:])


def _check_combination(laws: tuple[LawName, ...], spec: FitSpec, given: Mapping[str, Any]) -> None:
    """Raise InputError for settings that do not go together, before anything is read."""
    method, by = spec.method, spec.by
    several = len(laws) > 1 or "all" in laws
    if method != "parametric":
        _check_used(method, laws, given)
    check_variable(laws, given)
    check_constraints(laws, spec.options)
    if "all" in laws and len(laws) > 1:
        raise InputError(
            "every law that suits is fitted already by --law all", "leave the other --law out"
        )
    if by is not None and several:
        raise InputError("one law is fitted to every group of --by", "name one: --law chinchilla")
    if by is not None and method != "parametric":
        raise InputError(
            f"--by goes with --method parametric, not {method}", "use --where to pick one group"
        )
    if spec.keep is not False:
        _check_keep(spec, laws)
    if method == "parametric":
        return
    if method != "all":
        METHODS.find(method)
    if several:
        raise InputError(
            f"the method {method} takes one law, as the surface it is checked on", "name one --law"
        )


def _check_used(method: str, laws: tuple[LawName, ...], given: Mapping[str, Any]) -> None:
    """Raise InputError for settings of a law's fit that another method has no use for."""
    unused = ("holdout", "intervals", "variable", *CONSTRAINTS)
    idle = [name for name in unused if given.get(name)]
    if not idle:
        return
    fix = "leave it out"
    if not any(law_named(law).estimator for law in laws if law != "all"):
        option = f"--{idle[0]} {asked_for(given[idle[0]])}"
        fix += f", or fit a law: --method parametric {option}"
    raise InputError(f"the method {method} makes no use of --{idle[0]}", fix)


def _check_keep(spec: FitSpec, laws: tuple[LawName, ...]) -> None:
    if spec.by is not None or spec.method != "parametric" or "all" in laws:
        raise InputError(
            "what is kept is the fit of one law to all runs",
            "name one law, and leave --by and --method out",
        )
    if spec.keep is True:
        return
    check_file(Path(os.path.expanduser(str(spec.keep))))
    if len(laws) > 1:
        raise InputError(f"{len(laws)} laws are named, and a file keeps one", "name one --law")

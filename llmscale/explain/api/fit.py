"""`llmscale.fit`: laws fitted to a table of runs, in any of the ways that `llmscale fit` offers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, Unpack, overload

from llmscale.errors import InputError
from llmscale.explain.allocation import (
    METHODS,
    Allocation,
    MethodComparison,
    allocate,
    allocate_all,
)
from llmscale.explain.api.fitted import LawName, check_variable
from llmscale.explain.api.read import read_runs
from llmscale.explain.estimation.options import Options, OptionsGiven, those_given
from llmscale.explain.estimation.result import Fit
from llmscale.explain.estimation.suitability import default_laws
from llmscale.explain.fit.backtest import check
from llmscale.explain.fit.compare import compare
from llmscale.explain.fit.comparison import Comparison
from llmscale.explain.fit.fits import Fits
from llmscale.explain.fit.groups import Groups, fit_groups
from llmscale.explain.fit.kept import keep as keep_fit
from llmscale.explain.fit.kept import keep_in_folder
from llmscale.explain.fit.parametric import fit_laws
from llmscale.explain.table import RunTable, groups
from llmscale.runs.remote import is_url
from llmscale.runs.safe_paths import refuse_links

Found: TypeAlias = Fit | Fits | Comparison | Groups | Allocation | MethodComparison
_SURFACE = "chinchilla"
"""The law on which methods are checked, and that `parametric` fits."""
_TESTED_ROWS = 5000
"""Of more rows, forecasts are tested when they are made, and not for every fit that is kept."""


class FitSettings(OptionsGiven, total=False):
    """The settings of `fit` that do not change what it returns."""

    columns: Mapping[str, str] | str | None
    count: str
    units: Mapping[str, str] | str | None
    where: str | Sequence[str] | None
    status: str | None
    keep: bool | Path | str


@overload
def fit(source: Any, law: Literal["all"], **settings: Unpack[FitSettings]) -> Comparison: ...


@overload
def fit(
    source: Any = None, law: Any = None, *, by: str, **settings: Unpack[FitSettings]
) -> Groups: ...


@overload
def fit(
    source: Any = None,
    law: Any = None,
    *,
    method: Literal["isoflop", "envelope"],
    **settings: Unpack[FitSettings],
) -> Allocation: ...


@overload
def fit(
    source: Any = None, law: Any = None, *, method: Literal["all"], **settings: Unpack[FitSettings]
) -> MethodComparison: ...


@overload
def fit(source: Any = None, law: LawName | None = None, **settings: Unpack[FitSettings]) -> Fit: ...


@overload
def fit(source: Any, law: Sequence[LawName], **settings: Unpack[FitSettings]) -> Fits: ...


@overload
def fit(
    source: Any = None,
    law: Any = None,
    *,
    method: str,
    by: str | None = None,
    **settings: Unpack[FitSettings],
) -> Found: ...


def fit(
    source: Any = None,
    law: Any = None,
    *,
    method: str = "parametric",
    by: str | None = None,
    columns: Mapping[str, str] | str | None = None,
    count: str = "params",
    units: Mapping[str, str] | str | None = None,
    where: str | Sequence[str] | None = None,
    status: str | None = None,
    keep: bool | Path | str = False,
    **options: Unpack[OptionsGiven],
) -> Any:
    """A law fitted to a table of runs, with intervals and a check on runs held out.

    `source` is a results folder, a file, a URL, a table of pandas, polars or pyarrow, or a dict of
    columns; None is the newest sweep. It is read as `read_runs` says. `law` is a name, a
    FILE.py:CLASS or a class: one gives a Fit, and none the one that suits the table; a list gives
    Fits, an empty one those that suit; "all" ranks every law that suits, in a Comparison. `by` fits
    one law for every value of a column, and jointly (Groups). `method` isoflop or envelope finds
    the compute-optimal allocation only (Allocation), and all compares the methods. `keep` writes
    fit-LAW.json into the results folder, or the fit to a path. `options` are the fields of Options:
    variable, level, bootstrap, holdout, seed, objective, delta, intervals. Raises InputError, and
    WorkError if a fit does not settle.

    >>> import llmscale
    >>> N = [1e6, 2e6, 4e6, 8e6, 16e6, 32e6]
    >>> runs = {"params": N, "tokens": [1e9] * 6, "loss": [2 + 300 / n**0.4 for n in N]}
    >>> found = llmscale.fit(runs, "power-floor", bootstrap=0)
    >>> {name: round(value, 3) for name, value in found.law.coefficients().items()}
    {'E': 2.0, 'A': 300.0, 'alpha': 0.4}
    """
    given = those_given(options)
    laws = _laws(law)
    _check_combination(laws, method, by, given)
    chosen = Options(**given)
    named = tuple(one for one in laws if one != "all")
    runs = read_runs(
        source,
        columns=columns,
        count=count,
        units=units,
        where=where,
        status=status,
        laws=named,
    )
    if by is not None:
        return _by_group(runs, by, named, chosen)
    if method == "all":
        return allocate_all(runs, chosen, law=named[0] if named else _SURFACE)
    if method != "parametric":
        return allocate(runs, method, chosen, law=named[0] if named else _SURFACE)
    if "all" in laws:
        return compare(runs, options=chosen)
    # A part of a folder's runs is not the folder's fit, and at a URL only a sweep writes.
    in_folder = keep is True and runs.path.is_dir() and not where and not is_url(source)
    if in_folder:
        refuse_links(runs.path, with_runs=False)
    found = fit_laws(runs, named, chosen)
    if law is None:
        found = found[:1]
    if in_folder:
        found = keep_in_folder([_with_test(one) for one in found])
    elif not isinstance(keep, bool):
        found = _kept_at(found, Path(keep))
    return found[0] if law is None or isinstance(law, (str, type)) else Fits(found)


def _laws(law: Any) -> tuple[LawName, ...]:
    if law is None:
        return ()
    return (law,) if isinstance(law, (str, type)) else tuple(law)


def _by_group(runs: RunTable, by: str, laws: tuple[LawName, ...], options: Options) -> Groups:
    parts = groups(runs, by)
    smallest = min(parts.values(), key=lambda part: len(part.frame))
    law = laws[0] if laws else default_laws(smallest, options.variable)[0]
    return fit_groups(parts, by, law, options)


def _with_test(one: Fit) -> Fit:
    """The fit with what forecasts of its law have held on its table."""
    if not len(one.replicates) or one.origin.rows > _TESTED_ROWS:
        return one
    return replace(one, tested=check(one).tested)


def _kept_at(fits: tuple[Fit, ...], path: Path) -> tuple[Fit, ...]:
    if path.suffix != ".json":
        raise InputError(f"{path} does not end in .json", "name a file like fit-chinchilla.json")
    if len(fits) > 1:
        raise InputError(
            f"{len(fits)} laws were fitted, and a file keeps one", "name one --law to keep"
        )
    return (keep_fit(_with_test(fits[0]), path),)


def _check_combination(
    laws: tuple[LawName, ...], method: str, by: str | None, given: Mapping[str, Any]
) -> None:
    """Raise InputError for settings that do not go together, before anything is read."""
    check_variable(laws, given)
    if "all" in laws and len(laws) > 1:
        raise InputError("--law all already fits every law that suits", "leave the other --law out")
    if by and (len(laws) > 1 or "all" in laws):
        raise InputError("--by fits one law to every group", "name one: --law chinchilla")
    if by and method != "parametric":
        raise InputError(
            f"--by goes with --method parametric, not {method}", "use --where to pick one group"
        )
    if method == "parametric":
        return
    if method != "all":
        METHODS.find(method)
    if len(laws) > 1 or "all" in laws:
        raise InputError(
            f"--method {method} takes one law, as the surface it is checked on", "name one --law"
        )
    idle = [name for name in ("holdout", "intervals", "variable") if name in given]
    if idle:
        raise InputError(
            f"--method {method} makes no use of --{idle[0]}",
            f"leave it out, or fit a law: --method parametric --{idle[0]} {given[idle[0]]}",
        )

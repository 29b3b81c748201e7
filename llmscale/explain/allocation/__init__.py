"""The menu of methods that split a budget between parameters and tokens: `--method isoflop` is
allocation/isoflop.py.

A member is one file. Its name, underscores as hyphens, is the option's value, and it provides
- `SOURCE`: where it was published;
- `allocate(table, options, *, law, curves) -> Allocation`.
Files that begin with an underscore are what members share. `compare` puts several side by side.
"""

import inspect
from dataclasses import replace
from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

from llmscale.errors import InputError, with_article
from llmscale.explain.allocation._allocation import Allocation, Bias
from llmscale.explain.allocation._comparison import MethodComparison, compare
from llmscale.explain.allocation._frontier import Frontier
from llmscale.explain.fit import Options, as_table
from llmscale.explain.fit.sources import Source
from llmscale.explain.laws import Law
from llmscale.menu import Menu, errors_named, file_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from llmscale.explain.table import RunTable

__all__ = [
    "METHODS",
    "Allocation",
    "Bias",
    "Frontier",
    "MethodComparison",
    "allocate",
    "allocate_all",
    "compare",
]


class Method(Protocol):
    """What a file of this folder provides."""

    SOURCE: str

    def allocate(
        self,
        table: "RunTable",
        options: Options,
        *,
        law: str | type[Law] | Law | None = "chinchilla",
        curves: "DataFrame | None" = None,
    ) -> Allocation: ...


def _tried(found: Any, title: str) -> Method:
    """A method of the user's own."""
    if not isinstance(getattr(found, "SOURCE", None), str):
        raise InputError(f"{title} has no SOURCE", "write where it was published, or by whom")
    inspect.signature(found.allocate).bind(None, None, law=None, curves=None)

    @wraps(found.allocate)
    def allocated(*runs: Any, **settings: Any) -> Allocation:
        with errors_named(file_of(found), "cannot split a budget", "change the file"):
            given = found.allocate(*runs, **settings)
        if not isinstance(given, Allocation):
            kind = with_article(type(given).__name__)
            raise InputError(f"{title} gives {kind}, and no Allocation", "return an Allocation")
        return given

    method: Any = SimpleNamespace(SOURCE=found.SOURCE, allocate=allocated)
    return cast(Method, method)


METHODS: Menu[Method] = Menu(__name__, "method", "--method", tried=_tried)


def allocate(
    table: Source,
    method: str = "parametric",
    options: Options | None = None,
    *,
    law: str | type[Law] | Law | None = "chinchilla",
    curves: "DataFrame | None" = None,
    **changes: Any,
) -> Allocation:
    """The compute-optimal N*(C) and D*(C) of a table by one method, with percentile intervals.

    `changes` are fields of Options (level, bootstrap, seed). `law` is what `parametric` fits, and
    the surface on which the other methods' bias is measured (they take a fitted Law, too); None
    measures none. `curves` (run_id, tokens, flops, loss or train_loss) is for `envelope`; left out,
    a results folder's own are read.
    Raises InputError if the table does not suit the method."""
    member = METHODS.find(method)
    return member.allocate(
        as_table(table), replace(options or Options(), **changes), law=law, curves=curves
    )


def allocate_all(
    table: Source,
    options: Options | None = None,
    *,
    law: str | type[Law] | Law | None = "chinchilla",
    curves: "DataFrame | None" = None,
    **changes: Any,
) -> MethodComparison:
    """Every method that suits the table, side by side, and why others do not.
    Raises InputError if none does."""
    runs, chosen = as_table(table), replace(options or Options(), **changes)
    done, failed = [], {}
    for name in ("parametric", *(name for name in METHODS if name != "parametric")):
        try:
            done.append(METHODS.find(name).allocate(runs, chosen, law=law, curves=curves))
        except InputError as error:
            failed[name] = error
    if not done:
        raise next(iter(failed.values()))
    return compare(done, failed={name: error.problem for name, error in failed.items()})

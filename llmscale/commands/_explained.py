"""What `llmscale fit` found, in whichever way it was asked: on screen, or as one JSON object."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from llmscale.commands import _fit_output as shown
from llmscale.commands import output
from llmscale.errors import Note
from llmscale.explain.allocation import Allocation, MethodComparison
from llmscale.explain.fit.comparison import Comparison
from llmscale.explain.fit.fits import Fits
from llmscale.explain.fit.groups import Groups
from llmscale.explain.fit.kept import to_json


def show(found: Any, *, json: bool, every: bool) -> None:
    """Print what was found, then its warnings (all of them with `every`), then what to do next."""
    if json:
        output.print_json(_payload(found))
    else:
        _print(found)
    if isinstance(found, Groups):
        for note in found.notes:  # what the test says is never among those that are left out
            output.warn(note)
    output.warn_all(_notes(found), every=every)
    best = _fits(found)
    if best and not json:
        output.show_next(shown.next_step(tuple(best)))


@singledispatch
def _print(found: Any) -> None:
    raise NotImplementedError(type(found).__name__)


@_print.register
def _(found: Fits) -> None:
    shown.show_fits(found.fits)
    kept = [fit.kept for fit in found if fit.kept is not None]
    if kept:
        names = ", ".join(path.name for path in kept)
        output.results.print(output.styled((f"wrote {names} to {kept[0].parent}", "dim")))


@_print.register
def _(found: Comparison) -> None:
    shown.show_ranking(found)
    shown.show_fits(found.fits[:1])


@_print.register
def _(found: Groups) -> None:
    first = next(iter(found))
    shown.show_reading(first.table, first.law.inputs)
    shown.show_groups(found)


@_print.register
def _(found: Allocation) -> None:
    shown.show_reading(found.table)
    shown.show_allocation(found)


@_print.register
def _(found: MethodComparison) -> None:
    shown.show_reading(found.allocations[0].table)
    shown.show_methods(found)


def _payload(found: Any) -> dict[str, Any]:
    if isinstance(found, Comparison):
        return {**to_json(found.fits), "comparison": found.to_json()}
    payload: dict[str, Any] = found.to_json()
    return payload


def _fits(found: Any) -> Sequence[Any]:
    """The fits that a next step follows from."""
    if isinstance(found, Fits):
        return found.fits
    return found.fits[:1] if isinstance(found, Comparison) else ()


def _notes(found: Any) -> Sequence[Note]:
    if isinstance(found, Groups):
        return shown.distinct_notes(found.fits)
    fits = _fits(found)
    return shown.distinct_notes({fit.law.name: fit for fit in fits}) if fits else found.notes

"""Budgets of a page at which a plan takes another law than the page's own."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.page.frontier import Frontier

LawAt = Callable[[float], tuple[str, str]]
"""The law that a plan takes at a budget, and why not the one of the page."""
_A_DECADE = 3
_CLOSE = math.log(1.001)
"""How exactly the budget is told from which on another law is taken, in ln C."""


def other_laws(law_at: LawAt, own: str, line: Frontier) -> Iterator[dict[str, Any]]:
    """From which ln C to which one a plan takes another law, or none: the law, and why not `own`,
    both empty if it takes none."""
    first, last = map(math.log, line.flops)
    steps = max(math.ceil((last - first) / math.log(10.0) * _A_DECADE), 1)
    places = np.linspace(first, last, steps + 1).tolist()
    names = [_name_at(law_at, place) for place in places]
    edges = [(first, names[0])]
    for (low, before), (high, after) in itertools.pairwise(zip(places, names, strict=True)):
        if before != after:
            edges.append((_edge(law_at, low, high), after))
    edges.append((last, ""))
    for (low, name), (high, _) in itertools.pairwise(edges):
        if name != own:
            why = law_at(math.exp(0.5 * (low + high)))[1] if name else ""
            yield {"from": low, "to": high, "law": name, "why": why}


def _edge(law_at: LawAt, low: float, high: float) -> float:
    """The ln C from which on the law is another than at `low`."""
    before = _name_at(law_at, low)
    while high - low > _CLOSE:
        middle = 0.5 * (low + high)
        if _name_at(law_at, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _name_at(law_at: LawAt, place: float) -> str:
    """The law, or nothing if a plan is refused."""
    try:
        return law_at(math.exp(place))[0]
    except InputError:
        return ""

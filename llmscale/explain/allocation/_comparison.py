"""Several methods on one table, side by side, with sentences where they disagree."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmscale.errors import InputError, Note, first_lines
from llmscale.explain import html
from llmscale.explain.allocation._allocation import HORIZONS, Allocation
from llmscale.notes import with_codes
from llmscale.notes.predicting import METHOD_NOT_POSSIBLE
from llmscale.quantity import format_count
from llmscale.runs.json_values import plain

_FACTOR = 1.25
"""Allocations that differ by less than this in N cost next to nothing: the optimum is flat."""
_SAME = 1.05
"""Methods that differ by less agree, even if intervals without noise are too narrow to overlap."""


@dataclass(frozen=True)
class MethodComparison:
    """Allocations of one table by several methods; `failed` says why others do not suit it."""

    allocations: tuple[Allocation, ...]
    failed: Mapping[str, str]
    disagreements: tuple[str, ...]

    @property
    def notes(self) -> tuple[Note, ...]:
        """Every note once; one that only some of the methods carry names them."""
        carriers: dict[Note, list[str]] = {}
        for one in self.allocations:
            for note in one.notes:
                carriers.setdefault(note, []).append(one.method)
        notes = [METHOD_NOT_POSSIBLE.note(f"{name}: {why}") for name, why in self.failed.items()]
        every = len(self.allocations)
        return (
            *(note if len(who) == every else note.of(who) for note, who in carriers.items()),
            *notes,
        )

    def rows(self) -> list[list[str]]:
        """The table side by side as text, the header first."""
        largest = self.allocations[0].largest_flops
        header = ["method", "a, N* ∝ C^a", "less bias", "b, D* ∝ C^b"]
        for times in HORIZONS:
            header += [f"N* at {times * largest:.3g}", f"D* at {times * largest:.3g}"]
        rows = [header]
        for one in self.allocations:
            corrected = f"{one.corrected.a:.3f}" if one.corrected else "-"
            a, b = (_number(one, name) for name in ("a", "b"))
            law = f" ({one.law.name})" if one.law is not None else ""
            row = [f"{one.method}{law}", a, corrected, b]
            for times in HORIZONS:
                best = one.optimal(times * largest)
                row += [format_count(best["params"]), format_count(best["tokens"])]
            rows.append(row)
        return rows

    def to_json(self) -> dict[str, Any]:
        """The object that `fit --method all --json` prints."""
        payload = {
            "method": "all",
            "methods": {one.method: one.to_json() for one in self.allocations},
            "failed": dict(self.failed),
            "disagreements": list(self.disagreements),
            "warnings": [{"code": note.code, "message": note.message} for note in self.notes],
        }
        return dict(plain(payload))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        head, *rows = self.rows()
        sentences = map(html.sentence, self.disagreements)
        return html.table(head, rows) + "".join(sentences) + html.notes(self.notes)

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines += [f"- {sentence}" for sentence in self.disagreements]
        lines += [f"  note: {line}" for line in with_codes(self.notes)]
        return "\n".join(lines)


def compare(
    allocations: Sequence[Allocation], *, failed: Mapping[str, str] | None = None
) -> MethodComparison:
    """The allocations side by side. Raises InputError for none, or for several tables."""
    if not allocations:
        raise InputError("there is no allocation to compare", "give at least one method")
    tables = {(str(one.table.path), len(one.table.frame)) for one in allocations}
    if len(tables) > 1:
        raise InputError(
            f"the allocations come from {len(tables)} tables: "
            f"{', '.join(sorted(path for path, _ in tables))}",
            "compare methods on one table",
        )
    sentences = [_pair(one, other) for one, other in itertools.combinations(allocations, 2)]
    found = tuple(sentence for sentence in sentences if sentence)
    if not found and len(allocations) > 1:
        found = (
            f"the methods agree: N* differs by less than a factor of {_FACTOR:g} as far as "
            f"{HORIZONS[-1]:g} times the largest budget",
        )
    return MethodComparison(tuple(allocations), dict(failed or {}), found)


def _pair(one: Allocation, other: Allocation) -> str | None:
    """Where two methods disagree, and whether measured biases explain it; None if nowhere."""
    largest = one.largest_flops
    apart = _apart(one, other)
    factors = {
        times: float(one.frontier.params(times * largest) / other.frontier.params(times * largest))
        for times in HORIZONS
    }
    times = max(factors, key=lambda at: max(factors[at], 1 / factors[at]))
    factor = max(factors[times], 1 / factors[times])
    if factor < (_SAME if apart else _FACTOR):
        return None
    parts = [
        f"{one.method} and {other.method} disagree: a = {_number(one, 'a')} against "
        f"{_number(other, 'a')}"
    ]
    if apart is not None:
        parts.append("intervals apart" if apart else "intervals overlap")
    more = one if factors[times] > 1 else other
    where = "the largest budget" if times == 1 else f"{times:g} times the largest budget"
    parts.append(f"at {where} {more.method} asks for {factor:.3g} times the parameters")
    reason = _explained(one, other, times * largest)
    return ", ".join(parts) + (f"; {reason}" if reason else "")


def _apart(one: Allocation, other: Allocation) -> bool | None:
    """Whether the intervals of a lie apart; None if one of them has none."""
    if not (one.intervals and other.intervals):
        return None
    (low, high), (other_low, other_high) = one.intervals["a"], other.intervals["a"]
    return high < other_low or other_high < low


def _explained(one: Allocation, other: Allocation, flops: float) -> str:
    """What is left of the difference in N* once the measured biases are taken off."""
    if one.corrected is None and other.corrected is None:
        return ""
    before = np.log(one.frontier.params(flops) / other.frontier.params(flops))
    first, second = one.corrected or one.frontier, other.corrected or other.frontier
    after = np.log(first.params(flops) / second.params(flops))
    names = " and ".join(item.method for item in (one, other) if item.corrected)
    left = abs(after / before)
    verdict = "explains part of it"
    if abs(after) < np.log(_FACTOR) and left < 0.5:
        verdict = "explains it"
    elif left > 0.8:
        verdict = "does not explain it"
    return (
        f"the bias of {names} on these runs {verdict} (without it {np.exp(abs(after)):.3g} times "
        "is left)"
    )


def _number(one: Allocation, name: str) -> str:
    """The exponent `a` or `b` with its interval."""
    ends = one.intervals.get(name)
    shown = f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""
    return f"{getattr(one, name):.3f}{shown}"

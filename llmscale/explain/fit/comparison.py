"""What a comparison of laws gives: one row a law, as a table and as JSON."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmscale.errors import Note, first_lines
from llmscale.explain import html
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.relative import size
from llmscale.explain.estimation.result import Fit
from llmscale.runs.json_values import plain

STANDARD_ERRORS = 2.0
"""Laws with a cross-validated error within this many standard errors of the lowest are as good."""


_HEAD = ("", "law", "coefficients", "hold-out", "inside", "CV", "ΔAICc", "weight", "")

_SHARED = {
    "and the table has no ": "the table lacks columns that they take (llmscale laws)",
    "do not compare with those of the others": "they are of scores and of losses below zero",
}
"""Reasons of which a part says that several laws share them, and their words."""


@dataclass(frozen=True)
class Compared:
    """One law: its fit and three judgements of it.

    `cv_error` and `holdout_error` are means of |ln L̂ - ln L| over points, in percent; NaN if the
    runs allow none. `aicc` is NaN if there are too few runs for its correction. `weight` is its
    share in an average over laws. `as_good` says that nothing tells it from the best (see
    `compare`)."""

    fit: Fit
    aicc: float
    delta_aicc: float
    cv_error: float
    holdout_error: float
    holdout_inside: int | None
    rank: int
    as_good: bool
    weight: float
    notes: tuple[Note, ...]

    @property
    def law(self) -> str:
        return self.fit.law.name

    @property
    def objective(self) -> float:
        return self.fit.objective

    @property
    def coefficients(self) -> int:
        """How many coefficients the law has."""
        return len(self.fit.law.coefficient_names())

    def to_json(self) -> dict[str, Any]:
        check = self.fit.holdout
        return {
            "law": self.law,
            "coefficients": self.coefficients,
            "objective": self.objective,
            "aicc": plain(self.aicc),
            "delta_aicc": plain(self.delta_aicc),
            "cv_error": plain(self.cv_error),
            "holdout_error": plain(self.holdout_error),
            "holdout_inside": self.holdout_inside,
            "holdout_n": len(check.runs) if check else 0,
            "rank": self.rank,
            "as_good": self.as_good,
            "weight": self.weight,
            "notes": [{"code": note.code, "message": note.message} for note in self.notes],
        }


@dataclass(frozen=True)
class Comparison:
    """Laws in the order in which to use them, and those that were not fitted, with the reason."""

    ranked: tuple[Compared, ...]
    unsuitable: tuple[tuple[str, str], ...]
    options: Options

    def __getitem__(self, place: int) -> Fit:
        return self.ranked[place].fit

    def __len__(self) -> int:
        return len(self.ranked)

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits)

    @property
    def fits(self) -> tuple[Fit, ...]:
        """The fits, best first."""
        return tuple(one.fit for one in self.ranked)

    @property
    def weights(self) -> dict[str, float]:
        """The share of each law in an average over laws; they sum to 1."""
        return {one.law: one.weight for one in self.ranked}

    @property
    def left_out(self) -> list[str]:
        """One line a reason for which laws were not fitted: several laws may share one."""
        shared: dict[str, list[str]] = {words: [] for words in _SHARED.values()}
        apart = []
        for law, reason in self.unsuitable:
            words = next((words for part, words in _SHARED.items() if part in reason), None)
            if words is None:
                apart.append(f"not fitted: {law}: {reason.removeprefix(f'{law} ')}")
            else:
                shared[words].append(law)
        together = [
            f"not fitted: {words}: {', '.join(laws)}" for words, laws in shared.items() if laws
        ]
        return [*apart, *together]

    def to_json(self) -> dict[str, Any]:
        return {
            "laws": [one.to_json() for one in self.ranked],
            "unsuitable": [{"law": law, "reason": reason} for law, reason in self.unsuitable],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        table = html.table(_HEAD[1:], [_row(one)[1:] for one in self.ranked])
        left_out = map(html.sentence, self.left_out)
        notes = html.notes(note for one in self.ranked for note in one.notes)
        return "".join([table, *left_out, notes])

    def __str__(self) -> str:
        rows = [_HEAD, *(_row(one) for one in self.ranked)]
        width = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [_aligned(row, width) for row in rows]
        lines += [
            "hold-out and CV: mean error of ln L over runs held out, and over folds, as a share "
            f"of the loss; as good: CV within {STANDARD_ERRORS:g} standard errors of the lowest, "
            "fewest coefficients first"
        ]
        lines += [f"note: {one.law}: {note}" for one in self.ranked for note in one.notes]
        return "\n".join([*lines, *self.left_out])


def _aligned(row: Sequence[str], width: Sequence[int]) -> str:
    """The cells of a row as wide as their columns: words to the left, numbers to the right."""
    cells = [cell.rjust(size) for cell, size in zip(row, width, strict=True)]
    for place in (1, 8):
        cells[place] = row[place].ljust(width[place])
    return "  ".join(cells).rstrip()


def _row(one: Compared) -> tuple[str, ...]:
    check = one.fit.holdout
    inside = "-"
    if check and one.holdout_inside is not None:
        inside = f"{one.holdout_inside} of {len(check.runs)}"
    return (
        f"{one.rank}",
        one.law,
        f"{one.coefficients}",
        _percent(one.holdout_error),
        inside,
        _percent(one.cv_error),
        f"{one.delta_aicc:.1f}" if math.isfinite(one.delta_aicc) else "-",
        f"{one.weight:.2f}",
        "as good as the best" if one.as_good and one.rank > 1 else "",
    )


def _percent(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return size(value / 100)

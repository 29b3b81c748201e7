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
WORST_FACTOR = 3.0
"""Of laws that are as good, none has more than this many times the lowest sum of both errors."""

HEADINGS = (
    "", "law", "coefficients", "held-out error", "inside", "CV error", "ΔAICc", "weight"
)  # fmt: skip
_DECIMALS = 2
"""Of errors in percent."""

_SHARED = {
    "and the table has no ": "the table lacks columns that they take (llmscale laws)",
    "do not compare with those of the others": "they are of scores and of losses below zero",
}
"""Reasons of which a part says that several laws share them, and their words."""


@dataclass(frozen=True)
class Compared:
    """One law: its fit and three judgements of it.

    `holdout_error` is that of the fit's held-out check, a mean over runs (see Holdout), and
    `cv_error` the mean of |ln L̂ - ln L| over points, both in percent; NaN if the runs allow none.
    `aicc` is NaN if there are too few runs for its correction. `weight` is its share in an average
    over laws. `as_good` says that nothing tells it from the best (see `compare`)."""

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
    def legend(self) -> tuple[str, str]:
        """What the errors and the star mean."""
        return (
            "held-out error: mean over the runs held out; CV error: mean over points, each "
            "predicted without its fold",
            f"*: as good as the best: CV error within {STANDARD_ERRORS:g} standard errors of the "
            "lowest, by the differences point by point, and both errors together at most "
            f"{WORST_FACTOR:g} times the lowest",
        )

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
        table = html.table(HEADINGS[1:], [row[1:] for row in self.rows()])
        told = map(html.sentence, (*self.legend, *self.left_out))
        notes = html.notes(note for one in self.ranked for note in one.notes)
        return "".join([table, *told, notes])

    def __str__(self) -> str:
        rows = [HEADINGS, *self.rows()]
        width = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [_aligned(row, width) for row in rows]
        lines += self.legend
        lines += [f"{note.code}: {one.law}: {note}" for one in self.ranked for note in one.notes]
        return "\n".join([*lines, *self.left_out])

    def rows(self) -> list[tuple[str, ...]]:
        """A row a law under HEADINGS, a star behind those that are as good as the best."""
        decimals = _telling_apart([one.cv_error for one in self.ranked])
        return [_row(one, decimals) for one in self.ranked]


def _aligned(row: Sequence[str], width: Sequence[int]) -> str:
    """The cells of a row as wide as their columns: laws to the left, numbers to the right."""
    cells = [cell.rjust(size) for cell, size in zip(row, width, strict=True)]
    cells[1] = row[1].ljust(width[1])
    return "  ".join(cells).rstrip()


def _row(one: Compared, decimals: int) -> tuple[str, ...]:
    check, plain_law = one.fit.holdout, one.fit.law.plain
    inside = "-"
    if check and one.holdout_inside is not None:
        inside = f"{one.holdout_inside} of {len(check.runs)}"
    # The held-out error is a share already, the cross-validated one a difference of logarithms.
    share = one.holdout_error / 100
    return (
        f"{one.rank}",
        f"{one.law} *" if one.as_good else one.law,
        f"{one.coefficients}",
        _error(share if plain_law else math.log1p(share), 2, plain=plain_law),
        inside,
        _error(one.cv_error / 100, decimals, plain=plain_law),
        f"{one.delta_aicc:.1f}" if math.isfinite(one.delta_aicc) else "-",
        f"{one.weight:.2f}",
    )


def _telling_apart(percents: Sequence[float]) -> int:
    """Decimals of errors in percent: 2, or 3 if different ones would look alike."""
    errors = [error for error in percents if math.isfinite(error)]
    shown = {round(error, _DECIMALS) for error in errors}
    return _DECIMALS if len(shown) == len(set(errors)) else _DECIMALS + 1


def _error(value: float, decimals: int, *, plain: bool) -> str:
    return size(value, decimals, plain=plain) if math.isfinite(value) else "-"

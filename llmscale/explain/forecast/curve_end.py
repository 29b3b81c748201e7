"""The end of a run that is under way, from its curve and from those of finished runs: by
regressions over these (curve_fall.py), in an interval from what such forecasts of the finished runs
themselves missed by (curve_backtest.py). Light: `status` uses it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmscale.errors import InputError, Note, both, first_lines
from llmscale.explain import digits, html
from llmscale.explain.forecast.curve import Curve
from llmscale.explain.forecast.curve_backtest import FEWEST_TESTS, Backtest, Tests, backtest
from llmscale.explain.forecast.curve_fall import FEWEST, Asked
from llmscale.explain.forecast.curve_unlike import unlike_finished
from llmscale.notes import with_codes
from llmscale.notes.predicting import (
    CURVE_FAR_BEYOND,
    CURVE_NOT_TESTED,
    CURVE_OF_RELATIVE,
    CURVE_UNLIKE,
)
from llmscale.quantity import format_count

LEAST_SHARE = 0.05
"""Before, a curve is mostly its warm-up."""
_LIKE = {
    (0,): "of the size of",
    (1,): "of as many tokens as",
    (0, 1): "of the size and the tokens of",
}
"""What no finished run has in common with the run under way, by `Standing.new`."""


@dataclass(frozen=True)
class EndForecast:
    """The final loss of a run under way, nats per token, and the interval that it should fall in at
    `level`; NaN ends if too few finished runs could be asked, or if it is unlike them."""

    run: str
    params: float
    tokens: float
    share: float
    loss: float
    low: float
    high: float
    level: float
    now: float
    """The training loss of the moment."""
    finished: int
    """Runs that it is judged by."""
    tests: Tests | None
    law: str | None = None
    law_loss: float | None = None
    """What a law says of its size and tokens, which the forecast does not rest on."""
    notes: tuple[Note, ...] = field(default=())

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """What to know of it."""
        return self.notes

    @property
    def coverage(self) -> str:
        """One sentence on how such forecasts did; empty if none could be made."""
        if self.tests is None:
            return ""
        one, by = self.tests, "from smaller ones" if self.tests.of_larger else "from the others"
        held = f"{100 * self.level:g}% intervals held {one.inside}"
        return (
            f"on {one.count} finished runs, asked at {self.share:.0%} of their training {by}, "
            f"{held}; mean error {one.error:.2%} (the loss of that moment {one.naive_error:.2%})"
        )

    @property
    def sentence(self) -> str:
        """`1M at 60M tokens, 45% trained, will end at loss 3.2101 [3.1854, 3.2350] (90%)`."""
        level = f" ({100 * self.level:g}%)" if math.isfinite(self.low) else ""
        loss = digits.with_ends(self.loss, self.low, self.high)
        return f"{self.run}, {self.share:.0%} trained, will end at loss {loss}{level}"

    def to_json(self) -> dict[str, Any]:
        """What `predict --from-curve --json` prints."""
        tests = self.tests and {name: getattr(self.tests, name) for name in _TESTED}
        names = ("run", "params", "tokens", "share", "loss", "low", "high", "level", "now")
        told = {name: getattr(self, name) for name in names}
        finite = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in told.items()
        }
        return {
            **finite,
            "finished": self.finished,
            "law": self.law,
            "law_loss": self.law_loss,
            "coverage": self.coverage,
            "backtest": tests,
            "warnings": [note.to_json() for note in self.notes],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [self.sentence]
        lines += [self.coverage] if self.coverage else []
        return "\n".join([*lines, *(f"  note: {line}" for line in with_codes(self.notes))])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        parts = [
            html.title("forecast", self.sentence),
            html.sentence(f"coverage: {self.coverage}") if self.coverage else "",
            html.notes(self.notes),
        ]
        return "".join(parts)


_TESTED = ("count", "inside", "error", "naive_error", "of_larger")


def forecast_end(
    run: Curve,
    finished: Sequence[Curve],
    *,
    title: str,
    level: float,
) -> EndForecast:
    """The final loss of `run` by those of `finished` runs. Raises InputError if the run has hardly
    begun, or if too few runs have ended."""
    share = min(run.share, 1.0)
    if share < LEAST_SHARE:
        raise InputError(
            f"{title} has seen {share:.1%} of its {format_count(run.planned)} tokens, and says "
            f"nothing of its end before {LEAST_SHARE:.0%}",
            f"ask again later, or look at its tokens, {format_count(run.tokens_S[-1])} by now; or "
            "ask a law, by --params and --tokens without --from-curve",
        )
    if math.isnan(run.level(share)):
        raise InputError(
            f"{title} has no training loss that is a number just before {share:.0%} of its "
            "training",
            "a run that diverged has no end to forecast",
        )
    others = [one for one in finished if math.isfinite(one.loss) and one.loss > 0]
    others = [one for one in others if one.run_id != run.run_id and one.trunk != run.trunk]
    related = {one.trunk: one for one in others if run.begins_as(one)}
    others = [one for one in others if one.trunk not in related]
    others = [one for one in others if math.isfinite(one.level(share))]
    if len(others) < FEWEST:
        raise InputError(
            f"{len(others)} finished runs with curves are too few to know the end of "
            f"{title} by: it takes {FEWEST}",
            "finish more runs of the ladder, or let a law forecast it: llmscale predict --params "
            "--tokens",
        )
    asked = Asked.of(run, others, share)
    end = asked.forecast(len(others), np.ones(len(others), dtype=bool))
    tested = backtest(asked)
    unlike = unlike_finished(run, others, asked)
    half = math.nan if unlike else tested.half_width(level)
    return EndForecast(
        run=title,
        params=run.traits["params"],
        tokens=run.planned,
        share=share,
        loss=math.exp(end),
        low=math.exp(end - half),
        high=math.exp(end + half),
        level=level,
        now=math.exp(run.level(share)),
        finished=len(others),
        tests=None if unlike else tested.tests(level),
        notes=(*_notes(title, others, tested, unlike), *_related_notes(title, run, related)),
    )


def _related_notes(title: str, run: Curve, related: Mapping[str, Curve]) -> list[Note]:
    """Which finished runs share its beginning, and so tell nothing on their own."""
    notes = []
    for one in related.values():
        like = f"finished at {one.planned:.4g} tokens with a loss of {one.loss:.4f}"
        if run.is_part_of(one):
            like += ": it may be this very run, whose end is then known"
        notes.append(
            CURVE_OF_RELATIVE.note(
                f"{title} begins with the losses of {one.run_id}, which is left out with its "
                f"branches, and {like}"
            )
        )
    return notes


def _notes(
    title: str, others: Sequence[Curve], tested: Backtest, unlike: Sequence[str]
) -> list[Note]:
    """What to know of a forecast."""
    notes = []
    if unlike:
        notes.append(
            CURVE_UNLIKE.note(
                f"{title} is unlike the finished runs, which an interval would rest on: no "
                f"interval; {both(unlike)}"
            )
        )
    if math.isinf(tested.here):
        notes.append(
            CURVE_NOT_TESTED.note(
                f"the {len(others)} finished runs do not tell what another size or another number "
                f"of tokens changes, as {title} has: no interval"
            )
        )
    elif len(tested.miss) < FEWEST_TESTS:
        notes.append(
            CURVE_NOT_TESTED.note(
                f"{len(others)} finished runs are too few to test such forecasts: no interval"
            )
        )
    elif not unlike and tested.standing != tested.wanted:
        notes.append(CURVE_FAR_BEYOND.note(_not_tested_as(title, tested)))
    return notes


def _not_tested_as(title: str, tested: Backtest) -> str:
    """In what no finished run could be tested as this one stands."""
    like = "as large as"
    if not tested.wanted.is_beyond:
        like = _LIKE[tested.wanted.new[0]]
    return (
        f"no finished run is {like} {title}, and too few runs have ended to test forecasts of such "
        "a run: the interval is the one of runs among the others"
    )

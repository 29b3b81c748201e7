"""What `llmscale.next_runs` answers: which runs to make next, why each, and what the forecast is
expected to become."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmscale.errors import Note, both, counted, first_lines
from llmscale.errors.keywords import as_keywords
from llmscale.explain import digits, html
from llmscale.explain.design.standing import Side, how_far, side_of
from llmscale.explain.forecast.forecast import Forecast
from llmscale.notes import with_codes
from llmscale.quantity import format_count
from llmscale.runs.shape import USUAL_CONTEXT, USUAL_VOCABULARY

if TYPE_CHECKING:
    from llmscale.explain.design.learning_rates import Trials
    from llmscale.explain.design.text import Text

Ends = tuple[float, float]

_LARGE = 0.5
"""A run that takes more than this share of the budget is best judged before others are bought."""
_HALF = 0.5
"""Of the narrowing that is expected, less than this is doubtful."""
_DEARER = 1.01
"""How many times the budget a sweep has to count for that to be said."""


@dataclass(frozen=True)
class ProposedRun:
    """One run of the batch: its size, N and D, which seed of that point it is, and what it costs in
    training FLOPs (`flops`; `own_flops` if it were trained from its first step).

    `horizon` is ln of how many times beyond the runs the target lies after it and those before."""

    size: str
    params: float
    tokens: float
    seed: int
    flops: float
    own_flops: float
    kind: str
    """`new`, `longer` (of a size that the table has), or `repeat`."""
    reason: str
    horizon: float
    lost_without: float | None = None
    """The share of the narrowing that is lost if all runs but this one are made; None of a single
    run, or if it is not known."""

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params

    def to_json(self) -> dict[str, Any]:
        fields = ("size", "params", "tokens", "seed", "flops", "own_flops", "kind", "reason")
        found = {name: getattr(self, name) for name in fields}
        return {**found, "horizon": self.horizon, "lost_without": self.lost_without}


@dataclass(frozen=True)
class NextRuns:
    """The runs to make next with a budget, so that the forecast of a target has the narrowest
    interval that can be expected; none if the budget buys nothing worth it.

    `forecast` is that of the target as things stand, with the same law as `predict` takes; `laws`
    are those that were weighed, with their shares."""

    forecast: Forecast
    runs: tuple[ProposedRun, ...]
    budget: float
    laws: tuple[tuple[str, float], ...]
    candidates: int
    expected: Ends | None = None
    """The interval that is expected after all runs, if there are any."""
    refitted: float | None = None
    """How wide the interval is if the runs have the losses that the law gives them, by a fit to
    them and the table."""
    width: float | None = None
    """The width of the interval that was asked for, as a difference of losses."""
    needed: float | None = None
    """The FLOPs that are expected to reach it, if the budget is not."""
    stop: str = ""
    """Why nothing more is proposed, in words."""
    notes: tuple[Note, ...] = ()
    toml: str = field(default="", repr=False)
    """A file that `llmscale sweep` runs."""
    written: str = ""
    """Where it was written."""
    unwritten: str = ""
    """Why a file that was asked for is not written, in words."""
    swept: float | None = None
    """FLOPs that `llmscale sweep` counts for the runs, in its usual vocabulary and context, if the
    runs are not quoted so."""
    command: str = ""
    """The command that trains them from there."""
    trials: "Trials | None" = None
    """Short runs that try the learning rate, which the budget pays, too."""
    rate: str = ""
    """What is not known of the learning rate, in words."""
    text: "Text | None" = None
    """What is known of the text of the sweep that the runs go on with."""
    drawn: str = ""
    """Where the figure was written."""

    @property
    def loss(self) -> float:
        """The loss that is forecast at the target."""
        return float(self.forecast.loss)

    @property
    def before(self) -> Ends:
        """The interval as things stand."""
        return float(self.forecast.low), float(self.forecast.high)

    @property
    def after(self) -> Ends:
        """The interval that is expected after all runs."""
        return self.expected or self.before

    def without(self, run: ProposedRun) -> Ends | None:
        """The interval after all runs but this one; None if it is not known."""
        if run.lost_without is None:
            return None
        low, high = (
            end + run.lost_without * (first - end)
            for first, end in zip(self.before, self.after, strict=True)
        )
        return low, high

    @property
    def narrows(self) -> float:
        """Share of its width by which the interval is expected to narrow."""
        before, after = self.before, self.after
        return 1.0 - (after[1] - after[0]) / (before[1] - before[0])

    @property
    def flops(self) -> float:
        """What the runs cost together."""
        return sum(run.flops for run in self.runs)

    @property
    def target(self) -> str:
        """`N = 7B, D = 140B`."""
        N, D = format_count(float(self.forecast.params)), format_count(float(self.forecast.tokens))
        return f"N = {N}, D = {D}"

    @property
    def verdict(self) -> str:
        """One sentence: from which interval to which, and what it costs."""
        now = f"{self.forecast.metric} {digits.with_ends(self.loss, *self.before)}"
        at = f"{now} ({100 * self.forecast.level:g}%) at {self.target}"
        if not self.runs:
            return f"{at}: {self.nothing}"
        expected = digits.ends(*self.after, self.loss)
        number = counted(len(self.runs), "run")
        share = digits.share(self.flops / self.budget)
        cost = f"{number} of {self.flops:.2g} FLOPs ({share} of the budget)"
        return f"{at}; after {cost} expect {expected}, {self.narrows:.0%} narrower"

    @property
    def is_met(self) -> bool:
        """Whether the interval is as narrow as was asked for already."""
        return self.width is not None and self.before[1] - self.before[0] <= self.width

    @property
    def nothing(self) -> str:
        """What to say if no run is proposed."""
        if self.is_met:
            return f"already no wider than {self.width:g}, so that no run is needed"
        return "no run is proposed"

    @property
    def reading(self) -> str:
        """Which column became what."""
        return self.forecast.fit.origin.reading if self.forecast.fit else ""

    @property
    def side(self) -> Side:
        """On which side of the runs the target lies."""
        assert self.forecast.fit is not None
        return side_of(self.forecast.fit.reach, *self._point)

    @property
    def target_flops(self) -> float:
        """What a run of the target would cost: 6ND."""
        N, D = self._point
        return 6.0 * N * D

    @property
    def large(self) -> int | None:
        """The place of a run, from 1, that takes most of the budget; None if there is none."""
        places = range(1, len(self.runs) + 1)
        return next((one for one in places if self._share(one) > _LARGE), None)

    def _share(self, place: int) -> float:
        """Of the budget that a run takes, by its place from 1."""
        return self.runs[place - 1].flops / self.budget

    @property
    def _point(self) -> tuple[float, float]:
        return float(self.forecast.params), float(self.forecast.tokens)

    def said(self) -> Iterator[tuple[str, str]]:
        """A name and a sentence of each that there is something to say of."""
        yield from self.background()
        yield from self.ending()

    def background(self) -> Iterator[tuple[str, str]]:
        """What the choice is made by, and where the target lies."""
        if self.forecast.chosen:
            yield "law", self.forecast.chosen.reason
        if len(self.laws) > 1:
            shares = both([f"{law} ({share:.0%})" for law, share in self.laws])
            yield "weighed", f"the runs are to narrow the forecasts of {shares}"
        yield "target", "; ".join(self._target_said())
        text = self.text.said(self.runs, self._point[1]) if self.text else ""
        if text:
            yield "text", text

    def ending(self) -> Iterator[tuple[str, str]]:
        """Why there are no more runs, and what to do with these."""
        if self.stop:
            yield "stop", self.stop
        if self.large is not None:
            yield "then", self._then(self.large)
        if self.is_doubtful:
            yield "doubt", self._doubt()
        if self.rate:
            yield "learning rate", self.rate
        if self.swept is not None:
            yield "cost", self._cost(self.swept)
        if self.unwritten:
            yield "file", self.unwritten

    def _target_said(self) -> Iterator[str]:
        """Where the target lies, and what a run of it costs if the budget buys one."""
        if self.side == "inside":
            yield "inside the runs, so that no distance is left to shorten"
        else:
            yield f"{how_far(float(self.forecast.horizon), self.side)} the runs"
        if self.target_flops <= self.budget * (1 + 1e-9):
            share = digits.share(self.target_flops / self.budget)
            yield (
                f"a run of it costs {self.target_flops:.2g} FLOPs, {share} of the budget, and "
                "tells its loss without a forecast"
            )

    def _then(self, place: int) -> str:
        """What to do after a large run."""
        share = digits.share(self._share(place))
        if len(self.runs) == 1:
            return f"run 1 takes {share} of the budget: --max-run-flops keeps runs smaller"
        return (
            f"make run {place} first, which takes {share} of the budget, and ask again with its "
            "loss before the others: it may tell more than was expected, or less "
            "(--max-run-flops keeps runs smaller)"
        )

    @property
    def is_doubtful(self) -> bool:
        """Whether a fit to these runs, if they are as the law says, narrows the interval by less
        than half of what is expected."""
        if self.refitted is None or not self.runs:
            return False
        now, then = (high - low for low, high in (self.before, self.after))
        return now - self.refitted < _HALF * (now - then)

    def _doubt(self) -> str:
        now, then = (high - low for low, high in (self.before, self.after))
        assert self.refitted is not None
        less = "not narrow it at all" if self.refitted >= now else "narrow it by less"
        return (
            f"the interval is {now:.3g} wide and {then:.3g} are expected, but a fit to these runs "
            f"with the losses that the law gives them makes it {self.refitted:.3g}: they may "
            f"{less}"
        )

    def _cost(self, swept: float) -> str:
        """What a sweep counts, next to what is quoted."""
        said = (
            f"{self.flops:.3g} FLOPs, as 6ND or as the table counts them; a sweep counts attention "
            f"and the output layer too: {_more(swept / self.flops)} (in its usual vocabulary of "
            f"{USUAL_VOCABULARY:,} and context of {USUAL_CONTEXT}; more in larger ones)"
        )
        if swept <= _DEARER * self.budget:
            return said
        less = self.budget * self.flops / swept
        return f"{said}: more than the budget, and --budget {less:.2g} leaves room for that"

    def to_json(self) -> dict[str, Any]:
        """What `next --json` prints."""
        return {
            "target": {
                "params": self._point[0],
                "tokens": self._point[1],
                "flops": self.target_flops,
            },
            "law": self.forecast.fit.law.name if self.forecast.fit else None,
            "read": self.reading or None,
            "laws": dict(self.laws),
            "level": self.forecast.level,
            "loss": self.loss,
            "interval": list(self.before),
            "horizon": float(self.forecast.horizon),
            "side": self.side,
            "expected": list(self.after),
            "budget": self.budget,
            "flops": self.flops,
            "sweep_flops": self.swept,
            "narrows": self.narrows,
            "refitted_width": self.refitted,
            "candidates": self.candidates,
            "width": self.width,
            "needed": self.needed,
            "stop": self.stop,
            "runs": [run.to_json() for run in self.runs],
            "text": self.text and self.text.to_json(self.runs, self._point[1]),
            "trials": self.trials and self.trials.to_json(),
            "written": self.written or None,
            "unwritten": self.unwritten or None,
            "said": dict(self.said()),
            "command": self.command or None,
            "figure": self.drawn or None,
            "warnings": [note.to_json() for note in self.notes],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [self.verdict, *([f"read: {self.reading}"] if self.reading else [])]
        for run in self.runs:
            where = f"{run.size} at {format_count(run.tokens)} tokens, seed {run.seed}"
            lines.append(f"{where}: {run.flops:.2g} FLOPs; {run.reason}")
        lines += [f"{name}: {as_keywords(text)}" for name, text in self.said()]
        return "\n".join([*lines, *(f"note: {line}" for line in with_codes(self.notes))])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        headings = ("size", "N", "D", "D/N", "seed", "FLOPs", "narrowing lost without", "why")
        rows = [
            (
                run.size,
                format_count(run.params),
                format_count(run.tokens),
                f"{run.tokens_per_param:.3g}",
                run.seed,
                f"{run.flops:.2g}",
                lost_said(run),
                run.reason,
            )
            for run in self.runs
        ]
        parts = [
            html.sentence(self.verdict),
            html.table(headings, rows),
            *(html.sentence(f"{name}: {as_keywords(text)}") for name, text in self.said()),
            html.notes(self.notes),
        ]
        return "".join(parts)


def lost_said(run: ProposedRun) -> str:
    """`30%` of the narrowing; empty if it is not known."""
    return "" if run.lost_without is None else f"{run.lost_without:.0%}"


def _more(times: float) -> str:
    """`0.4% more`, or `2.3x`."""
    if times >= 2.0:
        return digits.times(times, 2)
    more = digits.share(abs(times - 1.0))
    return f"{more} {'more' if times >= 1.0 else 'less'}"

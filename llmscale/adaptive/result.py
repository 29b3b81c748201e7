"""What `llmscale.adaptive_sweep` answers: its rounds, why it ended, and the forecast."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmscale.adaptive.state import Outcome, Round, State
from llmscale.errors import Note, counted, first_lines
from llmscale.explain import digits, html
from llmscale.explain.forecast.forecast import Forecast
from llmscale.notes import with_codes
from llmscale.quantity import format_count


@dataclass(frozen=True)
class AdaptiveSweep:
    """A loop of rounds in a results folder; after a dry run `first` is the round that comes next,
    and nothing was trained."""

    where: str
    state: State
    forecast: Forecast | None
    budget: float
    spent: float
    """Training FLOPs since the loop began: trunks once, and lost runs too."""
    width: float | None = None
    first: Round | None = None
    sizes: str = ""
    """Which sizes the runs have and which were weighed, in words."""

    @property
    def rounds(self) -> tuple[Round, ...]:
        """Those that have ended, by number."""
        return tuple(one for one in self.state.rounds if one.has_ended)

    @property
    def stop(self) -> str:
        """Why the loop has ended, in words."""
        return self.state.stop

    @property
    def notes(self) -> tuple[Note, ...]:
        """Those of the forecast."""
        return self.forecast.all_notes if self.forecast else ()

    @property
    def verdict(self) -> str:
        """One sentence: the forecast, and what it took."""
        cost = f"{self.spent:.2g} of {self.budget:.2g} FLOPs"
        runs = counted(sum(len(one.runs) for one in self.rounds), "run")
        took = f"{runs} in {counted(len(self.rounds), 'round')}, {cost}"
        if self.forecast is None:
            return f"{took}: nothing is forecast yet"
        found = self.forecast
        ends = float(found.low), float(found.high)
        said = f"{found.metric} {digits.with_ends(float(found.loss), *ends)}"
        N, D = format_count(float(found.params)), format_count(float(found.tokens))
        return f"{said} ({100 * found.level:g}%) at N = {N}, D = {D}, after {took}"

    def said(self) -> Iterator[tuple[str, str]]:
        """A name and a sentence of each that there is something to say of."""
        if self.forecast is not None and self.forecast.chosen:
            yield "law", self.forecast.chosen.reason
        lost = [run for one in self.rounds for run in one.lost]
        if lost:
            yield "lost", "; ".join(lost)
        if self.widened is not None:
            first, last = self.widened
            yield (
                "wider",
                f"the interval was {first:.2g} wide at first and is {last:.2g} now: later runs "
                "told more of how far the law errs, so the wider one is the better founded",
            )
        if self.sizes:
            yield "sizes", self.sizes
        if self.stop:
            yield "stop", self.stop

    @property
    def widened(self) -> tuple[float, float] | None:
        """The width of the first interval and of the last one, if that is wider; else None."""
        known = [one.after for one in self.rounds if one.after is not None]
        if self.rounds and self.rounds[0].before is not None:
            known = [self.rounds[0].before, *known]
        if len(known) < 2 or known[-1].width <= known[0].width:
            return None
        return known[0].width, known[-1].width

    def to_json(self) -> dict[str, Any]:
        """What `next --auto --json` prints."""
        found = self.forecast
        return {
            "out": self.where,
            "target": found and {"params": float(found.params), "tokens": float(found.tokens)},
            "law": found.fit.law.name if found and found.fit else None,
            "level": found and found.level,
            "loss": found and float(found.loss),
            "interval": found and [float(found.low), float(found.high)],
            "budget": self.budget,
            "spent": self.spent,
            "width": self.width,
            "stop": self.stop or None,
            "rounds": [one.to_json() for one in self.rounds],
            "first": self.first and self.first.to_json(),
            "warnings": [note.to_json() for note in self.notes],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [self.verdict]
        lines += [round_line(one) for one in self.rounds]
        if self.first is not None:
            lines.append(round_line(self.first))
            lines += [f"  {run.title}, seed {run.seed}" for run in self.first.runs]
        lines += [f"{name}: {text}" for name, text in self.said()]
        return "\n".join([*lines, *(f"note: {line}" for line in with_codes(self.notes))])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        headings = ("round", "runs", "FLOPs", "interval before", "expected", "got")
        rows = [round_cells(one) for one in self.rounds]
        parts = [
            html.sentence(self.verdict),
            html.table(headings, rows),
            *(html.sentence(f"{name}: {text}") for name, text in self.said()),
            html.notes(self.notes),
        ]
        return "".join(parts)


def round_cells(one: Round) -> tuple[str, ...]:
    """Its number, runs, FLOPs, and the interval before it, expected and got."""
    spent = one.planned_flops if one.flops is None else one.flops
    center = one.before.loss if one.before else 0.0
    return (
        str(one.number) if one.number else "start",
        str(len(one.runs)),
        f"{spent:.2g}",
        _ends(one.before),
        digits.ends(*one.expected, center) if one.expected else "",
        _ends(one.after),
    )


def round_line(one: Round) -> str:
    """A round in a line: runs, FLOPs, and the interval before, expected and got."""
    name, _, flops, *ends = round_cells(one)
    name = f"round {name}" if one.number else name
    named = zip(ends, ("before", "expected", "got"), strict=True)
    intervals = ", ".join(f"{end} {said}" for end, said in named if end)
    lost = f" ({len(one.lost)} lost)" if one.lost else ""
    runs = f"{name}: {counted(len(one.runs), 'run')}{lost}, {flops} FLOPs"
    return f"{runs}: interval {intervals}" if intervals else runs


def _ends(outcome: Outcome | None) -> str:
    return digits.ends(outcome.low, outcome.high, outcome.loss) if outcome else ""

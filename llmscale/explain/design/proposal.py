"""What `llmscale.next_runs` answers: which runs to make next, why each, and what the forecast is
expected to become."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmscale.errors import Note, counted, first_lines
from llmscale.explain import digits, html
from llmscale.explain.forecast.forecast import Forecast
from llmscale.notes import with_codes
from llmscale.quantity import format_count

Ends = tuple[float, float]


@dataclass(frozen=True)
class ProposedRun:
    """One run of the batch: its size, N and D, which seed of that point it is, and what it costs in
    training FLOPs (`flops`; `own_flops` if it were trained from its first step).

    `low` and `high` are the interval that the forecast is expected to have after it and those
    before it, `horizon` ln of how many times beyond the runs the target lies then."""

    size: str
    params: float
    tokens: float
    seed: int
    flops: float
    own_flops: float
    kind: str
    """`new`, `longer` (of a size that the table has), or `repeat`."""
    reason: str
    low: float
    high: float
    horizon: float

    @property
    def tokens_per_param(self) -> float:
        return self.tokens / self.params

    def to_json(self) -> dict[str, Any]:
        fields = ("size", "params", "tokens", "seed", "flops", "own_flops", "kind", "reason")
        found = {name: getattr(self, name) for name in fields}
        return {**found, "low": self.low, "high": self.high, "horizon": self.horizon}


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
    command: str = ""
    """The command that trains them from there."""
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
        return (self.runs[-1].low, self.runs[-1].high) if self.runs else self.before

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
            return f"{at}: no run is worth its cost"
        expected = digits.ends(*self.after, self.loss)
        number = counted(len(self.runs), "run")
        share = f"{self.flops / self.budget:.0%} of the budget"
        cost = f"{number} of {self.flops:.2g} FLOPs ({share})"
        return f"{at}; after {cost} expect {expected}, {self.narrows:.0%} narrower"

    def said(self) -> Iterator[tuple[str, str]]:
        """A name and a sentence of each that there is something to say of."""
        if self.forecast.chosen:
            yield "law", self.forecast.chosen.reason
        if len(self.laws) > 1:
            shares = ", ".join(f"{law} {share:.0%}" for law, share in self.laws)
            yield "weighed", shares
        if not float(self.forecast.horizon) > 0:
            yield "target", "inside the runs: only the law is left to narrow, and no distance"
        if self.stop:
            yield "stop", self.stop

    def to_json(self) -> dict[str, Any]:
        """What `next --json` prints."""
        return {
            "target": {
                "params": float(self.forecast.params),
                "tokens": float(self.forecast.tokens),
                "flops": 6.0 * float(self.forecast.params) * float(self.forecast.tokens),
            },
            "law": self.forecast.fit.law.name if self.forecast.fit else None,
            "laws": dict(self.laws),
            "level": self.forecast.level,
            "loss": self.loss,
            "interval": list(self.before),
            "horizon": float(self.forecast.horizon),
            "expected": list(self.after),
            "budget": self.budget,
            "flops": self.flops,
            "candidates": self.candidates,
            "width": self.width,
            "needed": self.needed,
            "stop": self.stop,
            "runs": [run.to_json() for run in self.runs],
            "written": self.written or None,
            "command": self.command or None,
            "figure": self.drawn or None,
            "warnings": [note.to_json() for note in self.notes],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [self.verdict]
        for run in self.runs:
            where = f"{run.size} at {format_count(run.tokens)} tokens, seed {run.seed}"
            expected = digits.ends(run.low, run.high, self.loss)
            lines.append(f"{where}: {run.flops:.2g} FLOPs, expect {expected}; {run.reason}")
        lines += [f"{name}: {text}" for name, text in self.said()]
        return "\n".join([*lines, *(f"note: {line}" for line in with_codes(self.notes))])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        headings = ("size", "N", "D", "D/N", "seed", "FLOPs", "interval expected", "why")
        rows = [
            (
                run.size,
                format_count(run.params),
                format_count(run.tokens),
                f"{run.tokens_per_param:.3g}",
                run.seed,
                f"{run.flops:.2g}",
                digits.ends(run.low, run.high, self.loss),
                run.reason,
            )
            for run in self.runs
        ]
        parts = [
            html.sentence(self.verdict),
            html.table(headings, rows),
            *(html.sentence(f"{name}: {text}") for name, text in self.said()),
            html.notes(self.notes),
        ]
        return "".join(parts)

"""The value that a comparison of recipes gives."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.errors import Note, both, counted, first_lines, listed
from llmscale.explain import html
from llmscale.explain.recipes.frontiers import Frontiers
from llmscale.explain.recipes.gate import Gate
from llmscale.explain.recipes.joined import LADDER, Joined
from llmscale.explain.recipes.multiplier import Crossing, Multiplier
from llmscale.notes import with_codes

_LAWS = {LADDER: "L = E + A/C^alpha along the ladder"}
_SURFACE = "L = E + A/N^alpha + B/D^beta, each recipe at its best split of the budget"
_NAMES = {"alpha": "alpha", "beta": "beta", "E": "the floor"}


@dataclass(frozen=True)
class RecipeComparison:
    """How much of the compute of the baseline each other recipe needs for the same loss.

    `multipliers` are those at `today`, the largest compute that all recipes have, then those at
    every other budget asked for, in `scales`. `shared` is how likely recipes share a coefficient of
    their laws, `noise` the standard deviation of ln L of a run, and `paired_share` the share of its
    variance that cancels between recipes. `advice` says what the runs could tell, and what would
    tell more."""

    joined: Joined = field(repr=False)
    frontiers: Frontiers = field(repr=False)
    metric: str
    level: float
    today: float
    scales: tuple[float, ...]
    multipliers: tuple[Multiplier, ...]
    crossings: tuple[Crossing, ...]
    shared: Mapping[str, float]
    noise: float
    paired_share: float
    advice: tuple[str, ...]
    notes: tuple[Note, ...] = ()
    gates: tuple[Gate, ...] = ()
    why_baseline: str = ""
    """Why the baseline is, if it was not named."""
    path: Path | None = None
    """The figure that was drawn."""

    @property
    def names(self) -> tuple[str, ...]:
        """The recipes, the baseline first."""
        return self.joined.names

    @property
    def baseline(self) -> str:
        return self.names[0]

    @property
    def law(self) -> str:
        """The law of each recipe, in words."""
        return _LAWS.get(self.joined.law, _SURFACE)

    def at(self, flops: float | None = None) -> tuple[Multiplier, ...]:
        """The multipliers at a budget that was asked for, or at today's: the least first."""
        wanted = self.today if flops is None else flops
        found = [one for one in self.multipliers if one.flops == wanted]
        return tuple(sorted(found, key=lambda one: one.value))

    def best_chance(self, name: str, flops: float | None = None) -> float:
        """How likely a recipe has the lowest loss of all at a budget that was asked for."""
        others = {one.recipe: one.best for one in self.at(flops)}
        return others.get(name, 1.0 - sum(others.values()))

    @property
    def passed(self) -> bool:
        """Whether every gate is open; true without one."""
        return all(gate.passed for gate in self.gates)

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence for each recipe, at today's scale and at the largest of the others."""
        return tuple(self._sentence(name) for name in self.names[1:])

    def _sentence(self, name: str) -> str:
        of_recipe = [one for one in self.multipliers if one.recipe == name]
        first, last = of_recipe[0], max(of_recipe, key=lambda one: one.flops)
        if last.flops <= first.flops:
            tail = ", and the interval includes 1" if first.includes_one else ""
            return f"{first.sentence}{tail}"
        if last.includes_one:
            return f"{first.sentence}; at {last.flops:.3g} the interval includes 1"
        return f"{first.sentence}; at {last.flops:.3g} it needs {last.shown}"

    @property
    def sharing(self) -> str:
        """`alpha with a chance of 86%, the floor 72%`."""
        said = [f"{_NAMES[name]} {chance:.0%}" for name, chance in self.shared.items()]
        known = self.joined.runs.floor
        if known is not None:
            said.append(f"the floor is given as {known:g}")
        return both(said)

    @property
    def pairing(self) -> str:
        """How many pairs there are, and what they gained; or why there are none."""
        pairing = self.joined.pairing
        if not pairing.pairs:
            return f"none, since {pairing.why_not}"
        alike = "size, tokens and seed" if pairing.seeds else "size and tokens"
        gained = math.sqrt(max(1.0 - self.paired_share, 0.0))
        return (
            f"{counted(pairing.pairs, 'pair')} of one {alike} share {self.paired_share:.0%} of the "
            f"noise: the interval is about {gained:.2g} times as wide as unpaired"
        )

    @property
    def reading(self) -> str:
        """Which columns of the tables became what."""
        said = {table.reading for table in self.joined.tables.values() if table.reading}
        return "; ".join(sorted(said))

    def said(self) -> Iterator[tuple[str, str]]:
        """A name and a sentence of all that there is to say next to the multipliers."""
        if self.why_baseline:
            yield "baseline", f"{self.baseline}, {self.why_baseline} (--baseline names another)"
        yield "law", self.law
        yield "shared", f"{self.sharing} (the interval is averaged over both)"
        yield "pairs", self.pairing
        for one in self.crossings:
            yield "crossing", f"{one.recipe}: {one.shown}" if len(self.crossings) > 1 else one.shown
        for text in self.advice:
            yield "power", text
        for name, table in self.joined.tables.items():
            if table.excluded:
                yield "left out", f"{name}: {listed(table.left_out)}"
        for gate in self.gates:
            yield "gate", gate.sentence

    def to_json(self) -> dict[str, Any]:
        """What `compare --json` prints."""
        pairing = self.joined.pairing
        return {
            "baseline": self.baseline,
            "recipes": [
                {
                    "recipe": name,
                    "runs": len(table.frame),
                    "source": str(table.path),
                    "columns": dict(table.columns),
                    "excluded": [
                        {"run_id": run.run_id, "reason": run.reason} for run in table.excluded
                    ],
                }
                for name, table in self.joined.tables.items()
            ],
            "law": self.joined.law,
            "metric": self.metric,
            "level": self.level,
            "today": self.today,
            "overlap": list(self.joined.overlap),
            "multipliers": [one.to_json() for one in self.multipliers],
            "best": [
                {"flops": flops, **{name: self.best_chance(name, flops) for name in self.names}}
                for flops in self.scales
            ],
            "crossings": [one.to_json() for one in self.crossings],
            "shared": dict(self.shared),
            "noise": self.noise,
            "pairs": {
                "pairs": pairing.pairs,
                "seeds": pairing.seeds,
                "shared_noise": self.paired_share,
                "why_not": pairing.why_not,
            },
            "gates": [gate.to_json() for gate in self.gates],
            "passed": self.passed,
            "figure": self.path and str(self.path),
            "said": [*self.sentences, *self.advice],
            "warnings": [{"code": note.code, "message": note.message} for note in self.notes],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [*self.sentences, *(f"{name}: {text}" for name, text in self.said())]
        return "\n".join([*lines, *(f"note: {line}" for line in with_codes(self.notes))])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = [
            (one.recipe, f"{one.flops:.3g}", one.shown, one.saving_shown, f"{one.best:.0%}")
            for flops in self.scales
            for one in self.at(flops)
        ]
        headings = ("recipe", "FLOPs", f"of {self.baseline}'s compute", "saving", "best")
        parts = [
            *map(html.sentence, self.sentences),
            html.table(headings, rows),
            *(html.sentence(f"{name}: {text}") for name, text in self.said()),
            html.notes(self.notes),
        ]
        return "".join(parts)

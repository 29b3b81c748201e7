"""The value that a comparison of recipes gives."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, Note, both, counted, first_lines, listed
from llmscale.explain import digits, html
from llmscale.explain.estimation.levels import count_levels, numbers
from llmscale.explain.forecast.asked import numbers_asked
from llmscale.explain.recipes.budgets import (
    Extrapolated,
    extrapolated,
    extrapolated_said,
    is_same_budget,
)
from llmscale.explain.recipes.differing import Difference, given_by_some, gives_settings
from llmscale.explain.recipes.frontiers import Frontiers
from llmscale.explain.recipes.gate import Gate
from llmscale.explain.recipes.joined import LADDER, RECIPE, Joined
from llmscale.explain.recipes.multiplier import Crossing, Multiplier, possessive
from llmscale.explain.recipes.power import Power, power_said
from llmscale.notes import with_codes

_LAWS = {LADDER: "L = E + A/C^alpha for each recipe, along the ladder of its runs"}
_ONE_SIZE = "L = E + A/C^alpha for each recipe, of one size with more tokens"
_SURFACE = "L = E + A/N^alpha + B/D^beta for each recipe, at its best split of the budget"
_NAMES = {"alpha": "exponent alpha", "beta": "exponent beta", "E": "floor E"}
_TAKEN_EQUAL = "text, tokenizer, batch size and learning rates are taken to be equal"
_LEAST_PAIRS = 4
"""Fewer tell nothing of what pairs share."""
_FEW, _LONG = 3, 14
"""Recipes that have a sentence each, and letters of a baseline's name that have room in a
heading."""


@dataclass(frozen=True)
class RecipeComparison:
    """How much of the compute of the baseline each other recipe needs for the same loss.

    `multipliers` are those at `today`, the largest compute that all recipes have, then those at
    every other budget asked for, in `scales`. `settings` are those by which recipes differ besides
    what tells them apart, `same` the recipes that have the runs of the baseline. `shared` is how
    likely recipes share a coefficient of
    their laws, `noise` the standard deviation of ln L of a run, and `paired_share` the share of its
    variance that cancels between recipes. `power` says what the runs could tell, and what would
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
    power: tuple[Power, ...]
    settings: tuple[Difference, ...] = ()
    same: tuple[str, ...] = ()
    by: str | None = None
    """The column that tells the recipes of one table apart."""
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
        if self.joined.law == LADDER and self._has_one_size:
            return _ONE_SIZE
        return _LAWS.get(self.joined.law, _SURFACE)

    @property
    def _has_one_size(self) -> bool:
        return count_levels(numbers(self.joined.frame, "params")) == 1

    def at(self, flops: Any = None) -> tuple[Multiplier, ...]:
        """The multipliers at a budget that was asked for, such as 1e21 or "1e21", or at today's:
        the least first. Raises InputError for a budget that was not asked for."""
        wanted = self.today if flops is None else self._scale(flops)
        found = [one for one in self.multipliers if one.flops == wanted]
        return tuple(sorted(found, key=lambda one: one.value))

    def _scale(self, flops: Any) -> float:
        """The budget among `scales` that is meant."""
        asked = numbers_asked("at", flops)
        if asked.size != 1:
            raise InputError(f"at() takes one budget, and {asked.size} are given", "give one")
        wanted = float(asked.item())
        nearest = min(self.scales, key=lambda one: abs(math.log(one / wanted)))
        if not is_same_budget(nearest, wanted):
            raise InputError(
                f"the comparison has no multipliers at {wanted:.3g} FLOPs, only at "
                f"{both([f'{one:.3g}' for one in self.scales])}",
                f"compare again with at={wanted:.3g}, or several: at=[1e21, 1e23]",
            )
        return nearest

    def best_chance(self, name: str, flops: Any = None) -> float:
        """How likely a recipe has the lowest loss of all at a budget that was asked for."""
        others = {one.recipe: one.best for one in self.at(flops)}
        return others.get(name, 1.0 - sum(others.values()))

    def place(self, flops: float) -> str:
        """Where a budget is among those of the runs: `83.3x beyond the runs`."""
        if flops == self.today:
            return "the largest compute that all have"
        (low, high), (least, most) = self.joined.overlap, self._reach
        if flops > high:
            whose = "the runs" if is_same_budget(most, high) else "the compute that all have"
            return f"{digits.times(flops / high)} beyond {whose}"
        if flops < low:
            whose = "the runs" if is_same_budget(least, low) else "the compute that all have"
            return f"{digits.times(low / flops)} below {whose}"
        return "inside the runs"

    @property
    def _reach(self) -> tuple[float, float]:
        """The least and the most compute of any recipe."""
        ends = self.joined.reaches.values()
        return min(low for low, _ in ends), max(high for _, high in ends)

    @property
    def extrapolated(self) -> tuple[Extrapolated, ...]:
        """Multipliers inside the runs that rest on a recipe's law beyond its own runs."""
        return tuple(extrapolated(self.multipliers, self.joined.reaches))

    @property
    def passed(self) -> bool:
        """Whether every gate is open; true without one."""
        return all(gate.passed for gate in self.gates)

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence for each recipe, at today's scale and at every other that was asked for."""
        return tuple(self._sentence(name) for name in self.names[1:])

    @property
    def headlines(self) -> tuple[str, ...]:
        """What a command says first, above its tables: the sentences with the largest budget that
        was asked for, or of many recipes only which is best."""
        if len(self.names) <= _FEW:
            return tuple(self._sentence(name, every=False) for name in self.names[1:])
        best = min(self.at(), key=lambda one: one.value)
        name = self.baseline if best.value > 1.0 else best.recipe
        said = (
            f"{name} is the best of {len(self.names)} at {self.today:.3g} FLOPs, with a chance of "
            f"{digits.percent(self.best_chance(name))}"
        )
        return (said,) if name == self.baseline else (said, self._sentence(name, every=False))

    @property
    def of_whose(self) -> str:
        """`of adamw's compute`, as far as that has room in a heading."""
        if len(self.baseline) > _LONG:
            return "of baseline"
        return f"of {possessive(self.baseline)} compute"

    def rows(self, flops: float) -> list[tuple[str, str, str, str]]:
        """The table at a budget, the best first: recipe, multiplier, saving, chance to be best."""
        shown = {
            one.recipe: (one.value, one.shown, one.saving_shown)
            for one in self.at(flops)
            if one.recipe not in self.same
        }
        shown |= dict.fromkeys((self.baseline, *self.same), (1.0, "1", "1x"))
        return [
            (name, multiplier, saving, digits.percent(self.best_chance(name, flops)))
            for name, (_, multiplier, saving) in sorted(shown.items(), key=lambda row: row[1][0])
        ]

    def _sentence(self, name: str, every: bool = True) -> str:
        today, *asked = [one for one in self.multipliers if one.recipe == name]
        if name in self.same:
            alike = f"{name} has the runs of {self.baseline}, loss for loss"
            return f"{alike}: it needs the same compute"
        if not asked:
            tail = ", and the interval includes 1" if today.includes_one else ""
            return f"{today.sentence}{tail}"
        asked.sort(key=lambda one: one.flops)
        return "; ".join([today.sentence, *map(_further, asked if every else asked[-1:])])

    @property
    def sharing(self) -> str:
        """How likely one exponent and one floor do for all recipes."""
        chances = [f"{_NAMES[name]} {digits.percent(one)}" for name, one in self.shared.items()]
        averaged = (
            f"chance that the recipes have the same {both(chances)}; intervals average over laws "
            "that share them and laws that do not"
        )
        known = self.joined.runs.floor
        return averaged if known is None else f"{averaged}; floor E is given as {known:g}"

    @property
    def setting(self) -> str:
        """The settings by which recipes differ, as far as the tables say."""
        if not gives_settings(self.joined, self.by):
            besides = f" but {self.by}" if self.by else ""
            return f"the tables give none{besides}: {_TAKEN_EQUAL}"
        differ = {one.name for one in self.settings}
        found = [one for one in given_by_some(self.joined, self.by) if one.name not in differ]
        some = [self._given(one) for one in found]
        untold = f"; not all recipes give {both(some)}" if some else ""
        if not self.settings:
            of_all = " that all give" if some and not self.by else ""
            return f"recipes differ in none{f' but {self.by}' if self.by else of_all}{untold}"
        besides = f"besides {self.by} " if self.by else ""
        return f"recipes differ {besides}in {both([str(one) for one in self.settings])}{untold}"

    def _given(self, setting: Difference) -> str:
        """`batch_size (adamw 16)`, or if most recipes give it `batch_size (muon does not)`."""
        lacking = [name for name in self.names if name not in setting.values]
        if len(lacking) >= len(setting.values):
            return str(setting)
        return f"{setting.name} ({both(lacking)} {'does' if len(lacking) == 1 else 'do'} not)"

    @property
    def pairing(self) -> str:
        """How many pairs there are, and what they gained; or why there are none."""
        pairing = self.joined.pairing
        if not pairing.pairs:
            return f"none, since {pairing.why_not}"
        alike = "size, tokens and seed" if pairing.seeds else "size and tokens"
        found = f"{counted(pairing.pairs, 'pair')} of runs with the same {alike}"
        if pairing.pairs < _LEAST_PAIRS:
            return f"{found}; too few to tell what they share"
        share = self._share_in_pairs
        among = "" if share == 1.0 else f", {share:.0%} of all runs"
        return (
            f"{found}{among}; {self.paired_share:.0%} of their noise is common to both and "
            f"cancels, which makes intervals {1.0 - self._width_left(share):.0%} narrower"
        )

    @property
    def _share_in_pairs(self) -> float:
        """The share of the runs of the baseline and of each other recipe that are in a pair."""
        runs = self.joined.frame[RECIPE].value_counts()
        of_each = sum(int(runs[self.baseline] + runs[name]) for name in self.names[1:])
        return min(2.0 * self.joined.pairing.pairs / of_each, 1.0)

    def _width_left(self, share: float) -> float:
        """The width of intervals with this share of runs in pairs, in units of that without pairs:
        a pair tells as much as 1/(1 - s) runs of each that do not pair."""
        left = max(1.0 - self.paired_share, 0.0)
        return math.sqrt(left / (share + (1.0 - share) * left)) if left else 0.0

    @property
    def reading(self) -> str:
        """Which columns of the tables became what."""
        of_recipes = {
            name: table.reading for name, table in self.joined.tables.items() if table.reading
        }
        if len(set(of_recipes.values())) < 2:
            return next(iter(of_recipes.values()), "")
        return "; ".join(f"{name}: {reading}" for name, reading in of_recipes.items())

    def said(self) -> Iterator[tuple[str, str]]:
        """A name and a sentence of all that there is to say next to the multipliers."""
        if self.why_baseline:
            yield "baseline", f"{self.baseline}, {self.why_baseline} (--baseline names another)"
        yield "settings", self.setting
        yield from (("runs", str(one)) for one in self.joined.counted)
        if len(self.same) < len(self.names) - 1:
            for text in extrapolated_said(self.extrapolated):
                yield "extrapolated", text
            yield "law", self.law
            yield "shared", self.sharing
            yield "pairs", self.pairing
            yield from (("crossing", text) for text in self._crossing())
            yield from (("power", text) for text in power_said(self.power))
        for name, table in self.joined.tables.items():
            if table.excluded:
                yield "left out", f"{name}: {listed(table.left_out)}"
        for gate in self.gates:
            yield "gate", gate.sentence

    def _crossing(self) -> Iterator[str]:
        """Of recipes of which the same is said, once."""
        if len(self.names) == 2:
            yield from (one.shown for one in self.crossings)
            return
        for text in dict.fromkeys(one.shown for one in self.crossings):
            those = [one.recipe for one in self.crossings if one.shown == text]
            of_all = len(those) == len(self.names) - 1
            yield f"{'all' if of_all else both(those)}: {text}"

    def to_json(self) -> dict[str, Any]:
        """What `compare --json` prints."""
        pairing = self.joined.pairing
        return {
            "baseline": self.baseline,
            "recipes": [
                {
                    "recipe": name,
                    "runs": len(table.frame),
                    "runs_counted": int((self.joined.frame[RECIPE] == name).sum()),
                    "source": str(table.path),
                    "columns": dict(table.columns),
                    "excluded": [
                        {"run_id": run.run_id, "reason": run.reason} for run in table.excluded
                    ],
                }
                for name, table in self.joined.tables.items()
            ],
            "why_baseline": self.why_baseline,
            "reading": self.reading,
            "by": self.by,
            "settings": [
                {"setting": one.name, "values": {name: list(of) for name, of in one.values.items()}}
                for one in self.settings
            ],
            "same_runs": list(self.same),
            "law": self.joined.law,
            "metric": self.metric,
            "level": self.level,
            "today": self.today,
            "scales": [{"flops": flops, "place": self.place(flops)} for flops in self.scales],
            "overlap": list(self.joined.overlap),
            "multipliers": [one.to_json() for one in self.multipliers],
            "extrapolated": [one.to_json() for one in self.extrapolated],
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
            "power": [one.to_json() for one in self.power],
            "gates": [gate.to_json() for gate in self.gates],
            "passed": self.passed,
            "figure": self.path and str(self.path),
            "said": [
                *dict.fromkeys((*self.headlines, *self.sentences)),
                *(f"{name}: {text}" for name, text in self.said()),
            ],
            "warnings": [{"code": note.code, "message": note.message} for note in self.notes],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [*self.sentences, *(f"{name}: {text}" for name, text in self.said())]
        return "\n".join([*lines, *(f"note: {line}" for line in with_codes(self.notes))])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        headings = ("recipe", f"multiplier, {self.of_whose}", "saving", "chance to be best")
        tables = [
            part
            for flops in self.scales
            for part in (
                html.sentence(f"at {flops:.3g} FLOPs, {self.place(flops)}"),
                html.table(headings, self.rows(flops)),
            )
        ]
        parts = [
            *map(html.sentence, self.sentences),
            *tables,
            *(html.sentence(f"{name}: {text}") for name, text in self.said()),
            html.notes(self.notes),
        ]
        return "".join(parts)


def _further(one: Multiplier) -> str:
    """`at 1e+21 it needs 0.70 [0.61, 0.79]`, after a sentence on another budget."""
    said = "the interval includes 1" if one.includes_one else f"it needs {one.shown}"
    return f"at {one.flops:.3g} {said}"

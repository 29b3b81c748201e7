"""Whether a recipe saves the compute that it has to: what a team lets a change through by."""

from dataclasses import dataclass
from typing import Any, Literal

from llmscale.explain.recipes.multiplier import Multiplier

Outcome = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True)
class Gate:
    """The saving of a recipe against the least that is asked for: `pass` if the whole interval is
    at or above it, `fail` if the whole is below, else `undecided`. `passed` says whether the gate
    is open: undecided runs keep it shut unless that is allowed."""

    multiplier: Multiplier
    least: float
    undecided_passes: bool = False

    @property
    def outcome(self) -> Outcome:
        low, high = self.multiplier.saving_interval
        if low >= self.least:
            return "pass"
        return "fail" if high < self.least else "undecided"

    @property
    def passed(self) -> bool:
        allowed = self.undecided_passes and self.outcome == "undecided"
        return self.outcome == "pass" or allowed

    @property
    def sentence(self) -> str:
        """`undecided: muon saves 1.02x [0.95, 1.10] at 1e20 FLOPs, and 1x or more is asked for: the
        interval holds both, ...`."""
        one = self.multiplier
        saving = one.saving_shown if one.low < one.high else f"{one.saving:g}x"
        said = (
            f"{self.outcome}: {one.recipe} saves {saving} at {one.flops:.3g} FLOPs, and "
            f"{self.least:g}x or more is asked for"
        )
        if self.outcome != "undecided":
            return said
        more = "which lets it pass" if self.undecided_passes else "which keeps the gate shut"
        return f"{said}: the interval holds less, too, {more}"

    def to_json(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        one = self.multiplier
        return {
            "recipe": one.recipe,
            "flops": one.flops,
            "least_saving": self.least,
            "outcome": self.outcome,
            "said": self.sentence,
            "passed": self.passed,
        }

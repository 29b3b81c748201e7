"""What `compare` can be told: each setting is an option and a keyword. Light: `--help` reads the
declarations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmscale.explain.api.settings import DRAW, FORECAST, OUTPUT, Reading, several
from llmscale.explain.estimation.options import HOW
from llmscale.settings import Range, check_settings, setting

COMPARE: Final = "What to compare"
"""The group of these settings."""
LAWS = ("power-floor", "chinchilla")
METRICS = ("loss", "bits_per_byte")
UNDECIDED = ("fail", "pass")


@dataclass(frozen=True)
class CompareSpec:
    """What `llmscale compare` compares, and how."""

    by: str | None = setting(
        None,
        help="The column of one table that tells its recipes apart, such as optimizer or arch.",
        group=COMPARE,
        metavar="COLUMN",
    )
    baseline: str | None = setting(
        None,
        help="The recipe that the others are compared with.",
        usual="the first; with --by default, base or baseline, else the first run's",
        group=COMPARE,
        metavar="NAME",
    )
    at: Any = setting(
        None,
        help="Budgets in FLOPs, like 1e21,1e23, next to the largest that all recipes have.",
        group=FORECAST,
        parse=several,
        metavar="1e21,...",
    )
    fail_below: float | None = setting(
        None,
        help="Exit with 1 unless every recipe's saving is shown to be this or more: 1.0 is the "
        "baseline's own compute. Judged at the largest --at, or without it at the largest compute "
        "that all have.",
        group=COMPARE,
        within=Range(0, 1000, above=True),
        metavar="SAVING",
    )
    undecided: str = setting(
        "fail",
        help="Whether --fail-below lets a recipe pass whose interval holds savings on both sides "
        "of it.",
        group=COMPARE,
        choices=lambda: UNDECIDED,
    )
    metric: str | None = setting(
        None,
        help="The column that is compared.",
        usual="loss, or bits_per_byte if tokenizers differ",
        group=COMPARE,
        choices=lambda: METRICS,
    )
    law: str | None = setting(
        None,
        help="The law of each recipe: power-floor in C along a ladder, or chinchilla in N and D, "
        "compared at each recipe's best split.",
        usual="chinchilla if each recipe's runs tell it",
        group=COMPARE,
        choices=lambda: LAWS,
    )
    floor: float | None = setting(
        None,
        help="The floor E of the loss, if it is known.",
        usual="found with the rest",
        group=COMPARE,
        within=Range(0, 1e6),
        metavar="E",
    )
    level: float = setting(
        0.9,
        help="Share of intervals that should hold the truth.",
        group=HOW,
        within=Range(0.01, 0.999),
    )
    seed: int = setting(0, help="Seed of the draws.", group=HOW, within=Range(0, 2**63 - 1))
    output: str | Path | None = setting(
        None,
        help="Draw the laws and the multiplier into this .png, .pdf or .svg.",
        group=OUTPUT,
        flags=("--out", "-o"),
        metavar="FILE",
    )
    title: str | None = setting(None, help="A title above the figure.", group=DRAW, metavar="TEXT")
    reading: Reading = setting(factory=Reading, help="How the tables are read.")

    def __post_init__(self) -> None:
        check_settings(self)

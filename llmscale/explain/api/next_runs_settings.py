"""What `llmscale next` can be told. Light: `--help` reads the declarations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.explain.api.settings import LAW, OUTPUT, REFIT, OfRuns, laws_to_try
from llmscale.settings import Range, check_settings, setting

BUY: Final = "What to buy"
"""A group of settings."""


@dataclass(frozen=True)
class NextSpec(OfRuns):
    """What `llmscale next` may buy, and which forecast it is for."""

    budget: Any = setting(
        None,
        help="FLOPs that the runs may cost together, like 1e19.",
        group=BUY,
        parse=str,
        flags=("--budget", "-B"),
        metavar="1e19",
    )
    target: Any = setting(
        None,
        help="FLOPs whose compute-optimal run is to be forecast, like 1e22; or give --params and "
        "--tokens.",
        group=BUY,
        parse=str,
        flags=("--target", "-C"),
        metavar="1e22",
    )
    params: Any = setting(
        None,
        help="The size that is to be forecast, like 7B.",
        group=BUY,
        parse=str,
        flags=("--params", "-N"),
        metavar="7B",
    )
    tokens: Any = setting(
        None,
        help="Its tokens, like 1.4T; or 20x for 20 a parameter.",
        group=BUY,
        parse=str,
        flags=("--tokens", "-D"),
        metavar="1.4T",
    )
    width: float | None = setting(
        None,
        help="Stop once the interval, from low to high, is expected to be this narrow.",
        usual="the budget is spent, as far as runs are worth it",
        group=BUY,
        within=Range(0, 1e3, above=True),
    )
    batch: int = setting(
        8, help="Runs to propose, at most.", group=BUY, within=Range(1, 100), metavar="8"
    )
    tokens_per_param: Any = setting(
        "3,300",
        help="The fewest and the most tokens a parameter of a run.",
        group=BUY,
        parse=str,
        metavar="3,300",
    )
    sizes: Any = setting(
        None,
        help="The smallest and the largest N of a run, like 10M,1B.",
        usual="from the smallest of the table to what the budget buys, or the target",
        group=BUY,
        parse=str,
        metavar="MIN,MAX",
    )
    max_run_flops: Any = setting(
        None,
        help="FLOPs of one run, at most.",
        usual="the budget",
        group=BUY,
        parse=str,
        metavar="3e18",
    )
    learning_rates: bool = setting(
        False,
        help="Whether to try half and twice the recipe's learning rate at the largest proposed "
        "size, on few tokens, if the table has no size like it at which several were tried.",
        group=BUY,
    )
    law: str | type | None = setting(
        None,
        help="A law in N and D, ./mine.py:MyLaw, or all, to try every law in N and D.",
        choices=laws_to_try,
        **{
            **LAW,
            "usual": "of anchored and chinchilla the one that forecasts this table's own higher "
            "budgets best, next to the other if it does so as well",
        },
    )
    refit: bool = setting(False, **REFIT)
    output: str | Path | bool = setting(
        False,
        help="A .toml that `llmscale sweep` runs. Nothing is written unless it is named.",
        usual="nothing is written",
        group=OUTPUT,
        flags=("--out", "-o"),
        metavar="FILE.toml",
    )
    figure: str | Path | None = setting(
        None,
        help="Draw the runs, the target and the intervals into this .png, .pdf or .svg.",
        group=OUTPUT,
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        check_settings(self)


def ends_said(name: str, given: Any, parse: Any) -> tuple[float, float]:
    """`5,320` as two numbers, the smaller first. Raises InputError."""
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        raise InputError(
            f"{name} {begun(repr(given))} does not say from where to where",
            f"give two, with a comma: {name} {'5,320' if 'tokens' in name else '10M,1B'}",
        )
    low, high = (parse(part) for part in parts)
    if not low <= high:
        raise InputError(f"{name} goes from {parts[0]} to {parts[1]}", "give the smaller one first")
    return low, high

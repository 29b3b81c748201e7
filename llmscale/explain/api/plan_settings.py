"""What `llmscale plan` can be told. Light: `--help` reads the declarations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.explain.api.settings import (
    LAW_THAT_FORECASTS,
    OUTPUT,
    PLAN,
    PUBLISHED,
    REFIT,
    OfRuns,
    laws_to_try,
)
from llmscale.machine.gpus import GPUS
from llmscale.quantity import MOST, parse_amount
from llmscale.runs.shape import ARCHITECTURES, LEAST_CONTEXT, MOST_CONTEXT
from llmscale.settings import Range, check_settings, setting


def share_said(text: str) -> float:
    """`0.5%` as 0.005. Raises InputError."""
    number, percent, rest = text.strip().partition("%")
    try:
        if rest:
            raise ValueError
        return float(number) / (100.0 if percent else 1.0)
    except ValueError:
        raise InputError(f"{begun(repr(text))} is no share", "write it like 0.5%") from None


def _counted(name: str) -> dict[str, Any]:
    """What is known of a positive amount that may be written as 1T."""
    return {
        "parse": lambda text: parse_amount(text, f"--{name}"),
        "within": Range(0, float(MOST), above=True),
        "group": PLAN,
    }


@dataclass(frozen=True)
class BudgetSpec(OfRuns):
    """What there is to train with, what the model is for, and by which law it is judged."""

    flops: float | None = setting(
        None,
        help="A budget, like 1e22.",
        flags=("--flops", "-C"),
        metavar="1e22",
        **_counted("flops"),
    )
    gpu_hours: float | None = setting(
        None,
        help="A budget in hours of one GPU, with --gpu.",
        metavar="1k",
        **_counted("gpu-hours"),
    )
    hours: float | None = setting(
        None,
        help="A budget in hours of all --gpus.",
        group=PLAN,
        within=Range(0, 1e6, above=True),
    )
    money: float | None = setting(
        None,
        help="A budget in money, with --gpu and --price-per-hour.",
        metavar="50k",
        **_counted("money"),
    )
    gpu: str | None = setting(
        None,
        help="What to train on, for hours, money and energy.",
        usual="only FLOPs are told",
        group=PLAN,
        metavar="NAME",
        choices=lambda: GPUS,
        only_shown=True,
    )
    gpus: int | None = setting(
        None, help="How many of them, for the time.", group=PLAN, within=Range(1, 1e7)
    )
    mfu: float | None = setting(
        None,
        help="Share of their peak that training reaches.",
        usual="what was published of such a GPU, or 0.35",
        group=PLAN,
        within=Range(0, 1, above=True),
    )
    price_per_hour: float | None = setting(
        None, help="What an hour of one GPU costs.", group=PLAN, within=Range(0, 1e6)
    )
    pue: float | None = setting(
        None,
        help="Energy of the building for each of the boards.",
        usual="1, that of the boards",
        group=PLAN,
        within=Range(1, 10),
    )
    inference_tokens: float | None = setting(
        None,
        help="Tokens to serve in the model's life, for the run that costs least with them.",
        metavar="1T",
        **_counted("inference-tokens"),
    )
    unique_tokens: float | None = setting(
        None,
        help="How much text there is: more tokens are passes over it again.",
        usual="as much as is asked for",
        metavar="50B",
        **_counted("unique-tokens"),
    )
    arch: str | None = setting(
        None,
        help="The architecture of the nearest shape.",
        usual="that of the largest run, or llama",
        group=PLAN,
        metavar="NAME",
        choices=lambda: ARCHITECTURES,
        only_shown=True,
    )
    vocab_size: int | None = setting(
        None,
        help="Entries of its vocabulary.",
        usual="those of the largest run, or 32,000",
        group=PLAN,
        within=Range(2, 1e9),
    )
    context: int | None = setting(
        None,
        help="Tokens of its sequences.",
        usual="those of the largest run, or 2,048",
        group=PLAN,
        within=Range(LEAST_CONTEXT, MOST_CONTEXT),
    )
    law: str | type | None = setting(
        None,
        help="A law in N and D, ./mine.py:MyLaw, or all, to try every law in N and D.",
        choices=laws_to_try,
        **LAW_THAT_FORECASTS,
    )
    refit: bool = setting(False, **REFIT)
    published: bool = setting(False, **PUBLISHED)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class PlanSpec(BudgetSpec):
    """What `llmscale plan` plans."""

    loss: float | None = setting(
        None,
        help="A loss, for the least compute that reaches it, in what the table gives losses in.",
        group=PLAN,
        within=Range(-1e6, 1e6),
    )
    within: float = setting(
        0.005,
        help="How much of the loss another size may cost.",
        usual="0.5%",
        group=PLAN,
        parse=share_said,
        metavar="0.5%",
        within=Range(0, 0.1, above=True),
    )
    output: str | Path | None = setting(
        None,
        help="A figure of loss against cost: a .png, .pdf or .svg.",
        usual="none",
        group=OUTPUT,
        flags=("--out", "-o"),
        metavar="FILE",
    )

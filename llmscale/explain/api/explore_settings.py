"""What `llmscale explore` can be told. Light: `--help` reads the declarations."""

from dataclasses import dataclass
from pathlib import Path

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
from llmscale.settings import Range, check_settings, setting


@dataclass(frozen=True)
class ExploreSpec(OfRuns):
    """What the page of `llmscale explore` begins with, and by which law."""

    gpu: str = setting(
        "h100",
        help="The GPU that is chosen at first.",
        group=PLAN,
        metavar="NAME",
        choices=lambda: GPUS,
        only_shown=True,
    )
    price_per_hour: float | None = setting(
        None,
        help="What an hour of one GPU costs.",
        usual="no money is told until the page is",
        group=PLAN,
        within=Range(0.01, 100),
    )
    law: str | type | None = setting(
        None,
        help="A law in N and D, data-constrained or bounded, ./mine.py:MyLaw, or all, to try every "
        "law in N and D.",
        choices=laws_to_try,
        **LAW_THAT_FORECASTS,
    )
    refit: bool = setting(False, **REFIT)
    published: bool = setting(False, **PUBLISHED)
    output: str | Path | None = setting(
        None,
        help="The file to write, a .html; without it, the page is served to this machine's "
        "browser only.",
        usual="none",
        group=OUTPUT,
        flags=("--out", "-o"),
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        check_settings(self)

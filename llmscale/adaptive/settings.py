"""What `llmscale next --auto` can be told besides what to buy. Light: `--help` reads the
declarations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.explain.api.next_runs_settings import BUY
from llmscale.explain.api.settings import OUTPUT
from llmscale.settings import Range, check_settings, setting


@dataclass(frozen=True)
class AutoSpec:
    """How long `llmscale next --auto` goes on."""

    auto: bool = setting(
        False,
        help="Train the runs too, and choose again, until the interval is as narrow as `width` or "
        "the budget is spent. TABLE is then a results folder, or the FILE.toml of a sweep to begin "
        "with, and `--out` the folder.",
        group=BUY,
    )
    rounds: int = setting(
        10,
        help="With `auto` the rounds of chosen runs, at most, those of earlier commands included.",
        group=BUY,
        within=Range(1, 1000),
        metavar="10",
    )

    max_hours: float = setting(
        24.0,
        help="With `auto` hours of a round, at most: what will take longer is asked for first.",
        group=OUTPUT,
        within=Range(0, 1e6),
    )

    def __post_init__(self) -> None:
        check_settings(self)


def check_trains(source: Any) -> None:
    """Raise InputError for a table, which does not say how its runs are trained."""
    if source is None:
        return
    if not isinstance(source, str | Path):
        what = "a table of runs"
    elif Path(source).is_file() and Path(source).suffix != ".toml":
        what = f"{source}, a table of runs,"
    else:
        return
    raise InputError(
        f"{what} does not say how they are trained: --auto trains, so it begins from a results "
        "folder or the .toml of a sweep",
        "name one of these; or leave --auto out, which only chooses the runs",
    )

"""Which command goes on from a table of runs: one that works on what stands there."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llmscale.errors import LlmscaleError
from llmscale.errors.command_lines import command_line
from llmscale.explain.api.fit import fit
from llmscale.explain.table.columns.names import of_hundred, rises

_FEWEST_SIZES = 3
"""Through two sizes a law can always be drawn, so that a fit says nothing."""
MORE_SIZES = (
    f"measure models of {_FEWEST_SIZES} sizes or more, to see how the score changes with size"
)
NO_LAW = "no law can be fitted to this score yet: more runs may show how it changes with size"


def can_fit(table: Path | str, **settings: Any) -> bool:
    """Whether `fit` takes the table with these settings. Nothing is kept."""
    try:
        fit(table, keep=False, bootstrap=0, diagnostics=False, holdout="none", **settings)
    except LlmscaleError:
        return False
    return True


def after_scores(table: Path | str, column: str, sizes: Collection[int]) -> str:
    """What to do with the scores in `column` of a table whose runs have these sizes: a law, or a
    figure, or more sizes."""
    given: Mapping[str, str] = {"columns": f"loss={column}", **_units(column)}
    if len(sizes) < 2 or not can_fit(table, **given):
        return MORE_SIZES if len(sizes) < _FEWEST_SIZES else NO_LAW
    verb = "plot" if len(sizes) < _FEWEST_SIZES else "fit"
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    return command_line("llmscale", verb, table, *options)


def _units(column: str) -> dict[str, str]:
    """What a fit has to be told of a metric that rises."""
    if not rises(column):
        return {}
    return {"units": "loss=percent" if of_hundred(column) else "loss=accuracy"}

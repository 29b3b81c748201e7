"""Runs that ended before their planned length, and tokens that may not count every pass."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import Note, listed
from llmscale.explain.table.columns.names import columns_named, plain, spellings
from llmscale.explain.table.columns.units import counts_of
from llmscale.notes.reading import PASSES_OVER_DATA, RUNS_CUT_SHORT

_STEPS = spellings(
    """
    step steps global_step steps_done _step iteration iter iterations final_step last_step
    completed_steps
    """
)
_PLANNED_STEPS = spellings(
    """
    max_steps target_steps planned_steps num_train_steps total_steps max_iters train_iters
    steps_target steps_planned max_iterations
    """
)
_PLANNED_TOKENS = spellings(
    """
    target_tokens planned_tokens max_tokens tokens_target tokens_planned token_budget tokens_budget
    max_train_tokens
    """
)
_EPOCHS = ("epochs", "n_epochs", "num_epochs", "num_train_epochs")
_SHORT = RUNS_CUT_SHORT.limit
"""Below this share of its planned length, a run is cut short."""
_SAME = 0.05


def cut_short(
    raw: pd.DataFrame,
    frame: pd.DataFrame,
    columns: Mapping[str, str],
    left: NDArray[np.bool_],
    names: pd.Series,
) -> list[Note]:
    """A note on runs whose last row is far before the steps or tokens that they were to have."""
    pairs = []
    planned = _column(raw, _PLANNED_STEPS)
    done = _column(raw, _STEPS)
    if planned and done and plain(planned) != plain(done):
        pairs.append((done, counts_of(raw[done]), planned))
    planned = _column(raw, _PLANNED_TOKENS)
    if planned and planned != columns.get("tokens") and "tokens" in columns:
        pairs.append((columns["tokens"], frame["tokens"].to_numpy(dtype=float), planned))
    for name, reached, target in pairs:
        wanted = counts_of(raw[target])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = pd.Series(np.where(wanted > 0, reached / wanted, np.nan))[left]
        last = share.groupby(frame["run_id"].to_numpy()[left]).transform("max") <= share
        ends = share[last].dropna()
        short = ends[ends < _SHORT]
        # Without a run at its end, the two may be in other units.
        if len(short) and len(short) < len(ends) and ends.max() < 1.5:
            are = "run is" if len(short) == 1 else "runs are"
            shown = listed(f"{names.iloc[row]} ({share[row]:.0%})" for row in short.index)
            message = (
                f"{len(short)} {are} short of the planned length, {name!r} below {target!r}: "
                f"{shown}. If a schedule was cut off, their losses are too high: leave such "
                "rows out"
            )
            return [RUNS_CUT_SHORT.note(message)]
    return []


def passes(raw: pd.DataFrame, columns: Mapping[str, str]) -> list[Note]:
    """A note if runs took several passes over data, and nothing says that D counts them all."""
    name = _column(raw, _EPOCHS)
    if name is None or "tokens" not in columns or "flops" in columns or "unique_tokens" in columns:
        return []
    epochs = counts_of(raw[name])
    if not np.isfinite(epochs).all() or epochs.max() < PASSES_OVER_DATA.limit:
        return []
    tokens = counts_of(raw[columns["tokens"]])
    ratio = tokens / epochs
    if len(raw) > 1 and np.ptp(epochs) > 0 and ratio.max() <= ratio.min() * (1 + _SAME):
        return []  # tokens grow with passes: they count them
    message = (
        f"column {name!r} says up to {epochs.max():g} passes over the data: D must count the "
        f"tokens of every pass, and {columns['tokens']!r} is taken to"
    )
    return [PASSES_OVER_DATA.note(message)]


def _column(raw: pd.DataFrame, wanted: Sequence[str]) -> str | None:
    """The first column of one of these names that holds any number."""
    found = columns_named(raw.columns, wanted)
    return next((name for name in found if np.isfinite(counts_of(raw[name])).any()), None)

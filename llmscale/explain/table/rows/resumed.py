"""Steps that stand twice in a run, as after it was resumed: the later row counts."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import Note, listed
from llmscale.notes.reading import STEPS_REPEATED

COPY = "a copy of another row of the run"
STEP_TWICE = "its step stands again further down, and the later row is kept"
"""Why a row of a resumed run is left out."""
_SAME = 0.01


def steps_again(
    ids: pd.Series, at: NDArray[np.float64], along: NDArray[np.float64], usable: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The usable rows of a run whose step `at` a later row of the run holds, too.

    `along` is the tokens (or FLOPs) of each row: runs of their own may have one number of steps and
    other batches, and so other tokens."""
    table = pd.DataFrame({"id": ids, "at": at, "along": along})
    table = table[usable & np.isfinite(at)]
    grown = table.groupby("id")["at"].nunique() > 1
    table = table[table["id"].map(grown)]
    last = table.groupby(["id", "at"])["along"].transform("last")
    same = ((table["along"] - last).abs() <= _SAME * last.abs()) | last.isna()
    later = table.duplicated(["id", "at"], keep="last") & same
    again = np.zeros(len(ids), dtype=bool)
    again[later[later].index.to_numpy()] = True
    return again


def resumed_notes(ids: pd.Series, again: NDArray[np.bool_]) -> list[Note]:
    """A note that says which steps were left out, if any were."""
    if not again.any():
        return []
    runs = listed(dict.fromkeys(ids[again]), 3)
    rows = listed([f"row {row + 1}" for row in np.flatnonzero(again)], 3)
    message = (
        f"{int(again.sum())} steps of {runs} stand twice, as when a run is resumed from a "
        f"checkpoint: the later row is kept, and {rows} left out"
    )
    return [STEPS_REPEATED.note(message)]

"""Which rows repeat a run, and which only share its size: repeats differ in the seed at most."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.explain.estimation.levels import levels
from llmscale.explain.laws import LETTERS
from llmscale.explain.table.columns.names import is_loss, per_byte, rises, words_of

_MEASURED = {
    "seed", "run", "id", "name", "index", "row", "step", "steps", "status", "error", "parent",
    "retry", "spike", "split", "fold", "note", "notes", "comment", "outlier", "time", "timestamp",
    "date", "seconds", "minutes", "hours", "runtime", "elapsed", "created", "started", "mfu",
    "throughput", "speed", "memory", "perplexity", "ppl", "bpb", "grad", "norm", "device", "host",
    "node", "gpu", "gpus", "url", "path", "weight", "stderr", "std", "se", "sem", "version",
    "commit",
}  # fmt: skip
"""Words of columns that name a run or say how it went, not how it was made."""


def differing(frame: pd.DataFrame, point_R: NDArray[np.int_]) -> list[str]:
    """The columns by whose settings runs of one point differ; none if they repeat each other.

    A column of settings other than N, D and C has few values: one with a value for nearly every row
    was measured."""
    if np.bincount(point_R).max(initial=0) < 2:
        return []
    found = [name for name in map(str, frame.columns) if is_setting(name)]
    found = [name for name in found if _differs(frame[name], point_R)]
    if "tokens" in found and "flops" in found:
        found.remove("flops")
    return found


def is_setting(name: str) -> bool:
    """Whether a column of this name says how a run was made, and not how it went."""
    measured = is_loss(name) or rises(name) or per_byte(name)
    return not measured and not set(words_of(name)) & _MEASURED


def _differs(column: pd.Series, point_R: NDArray[np.int_]) -> bool:
    value_R = values_of(column)
    of_points = pd.DataFrame({"point": point_R, "value": value_R})
    few = column.name in LETTERS or len(np.unique(value_R)) <= max(2, len(value_R) // 2)
    return few and bool((of_points.groupby("point")["value"].nunique() > 1).any())


def values_of(column: pd.Series) -> NDArray[np.int_]:
    """For each row the index of its value; numbers within 1% are one."""
    if column.dtype.kind in "iuf" and (column.dropna() >= 0).all():
        return levels(column.to_numpy(dtype=float))
    return np.asarray(pd.factorize(column, use_na_sentinel=False)[0])

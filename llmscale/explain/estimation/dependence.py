"""Which rows are not independent: checkpoints of a run, branches of a trunk, runs of a size.

Rows of one run share their point (`levels.points`). Runs that branched from one trunk share its
seed, its order of data and its luck: they are found by a column that names what each came from
(`parent`, `trunk`, `branch_of`, ...) and resampled together, as the checkpoints of a run are."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import Note, counted, listed
from llmscale.explain.estimation.levels import has_steps, levels, numbers, points, words
from llmscale.explain.table.columns.names import columns_named, spellings
from llmscale.notes.fitting import DEPENDENT_RUNS, SIZE_EFFECT, TRUNKS_IGNORED

_TRUNKS = spellings(
    """
    parent parent_id parent_run parent_run_id trunk trunk_id trunk_run branch_of branched_from
    branch_from base_run from_run source_run root_run main_run training_run trajectory
    trajectory_id lineage resumed_from continued_from forked_from fork_of init_from initialized_from
    warm_started_from started_from ancestor
    """
)
"""Columns that name the run which a row came from, likeliest first."""
_SIZES = ("params", "params_active")
UNITS_TO_RESAMPLE = 30
"""Fewer sizes, points, runs or trunks than this are too few to draw from."""
_OF_TRUNKS = 0.5
"""Branches of a trunk do share something: what they share is estimated unless it comes out as
nothing."""
_NONE = ("", "none", "nan", "null", "-", "root")
"""What stands in such a column for runs that came from no other."""


@dataclass(frozen=True)
class Shared:
    """A size or trunk (`what`) of every row. That its runs are off the law together is taken from
    the residuals if chance does so less often than `rare`."""

    what: str
    index_R: NDArray[np.int_]
    rare: float

    @property
    def groups(self) -> int:
        """How many sizes or trunks there are."""
        return int(self.index_R.max()) + 1


@dataclass(frozen=True)
class Dependence:
    """The unit of every row that is drawn as one, what units are called, and whether the `rows` of
    a unit are drawn together or, as seeds are, one by one. `shared` is what units may be off the
    law by together, the larger first."""

    unit_R: NDArray[np.int_]
    rows_together: bool
    word: str
    shared: tuple[Shared, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def units(self) -> int:
        """How many there are."""
        return int(self.unit_R.max()) + 1


def dependence(frame: pd.DataFrame, inputs: tuple[str, ...]) -> Dependence:
    """Which rows of a table share what, for a law in these inputs."""
    point_R, steps = points(frame, inputs), has_steps(frame)
    number = int(point_R.max()) + 1
    size_R, found = _sizes(frame, inputs), trunks(frame)
    shared = [] if size_R is None else [Shared("size", size_R, SIZE_EFFECT.limit)]
    word = words(inputs[0], number) if len(inputs) == 1 else "points"
    word = "runs" if steps else word
    if found is None:
        return Dependence(point_R, steps, word, tuple(shared), tuple(_ignored(frame)))
    column, trunk_R = found
    trunk = Shared("trunk", trunk_R, _OF_TRUNKS)
    if shared and shared[0].groups == trunk.groups:
        shared = []
    note = DEPENDENT_RUNS.note(
        f"{counted(len(frame), 'row')} came from {trunk.groups} runs by column {column!r}: those "
        "of one share its seed and data, and the intervals count on it"
    )
    if trunk.groups >= UNITS_TO_RESAMPLE:
        return Dependence(trunk_R, True, "trunks", tuple(shared), (note,))
    return Dependence(point_R, steps, word, (*shared, trunk), (note,))


def trunks(frame: pd.DataFrame) -> tuple[str, NDArray[np.int_]] | None:
    """The column that names what runs came from, and the trunk of every row; None without one that
    joins runs of one size."""
    for column in columns_named(frame.columns, _TRUNKS):
        trunk_R, circle = _roots(frame, column)
        if circle:
            continue
        rows = np.bincount(trunk_R)
        if len(rows) < 2 or rows.max() < 2 or not _of_one_size(frame, trunk_R):
            continue
        if len(rows) < frame["run_id"].nunique():
            return column, trunk_R
    return None


def _ignored(frame: pd.DataFrame) -> Iterator[Note]:
    """What to say of columns that name what runs came from, and cannot be followed."""
    for column in columns_named(frame.columns, _TRUNKS):
        trunk_R, circle = _roots(frame, column)
        trunks = int(trunk_R.max()) + 1
        why = ""
        if circle:
            why = f"{listed(circle, 3)} came from each other, in a circle"
        elif 1 < trunks < frame["run_id"].nunique() and not _of_one_size(frame, trunk_R):
            why = "those of one trunk differ in size"
        if why:
            yield TRUNKS_IGNORED.note(
                f"what runs came from by column {column!r} is not used, since {why}: runs are "
                "taken to be independent"
            )


def _roots(frame: pd.DataFrame, column: str) -> tuple[NDArray[np.int_], list[str]]:
    """The first of the runs that each row came from, as an index: its parent's parent, and so
    on; and the runs that came from themselves by way of others."""
    own = frame["run_id"].astype(str)
    given = frame[column].where(frame[column].notna(), "").astype(str)
    came_from = given.where(~given.str.strip().str.lower().isin(_NONE), own)
    parent = dict(zip(own, came_from, strict=True))
    roots, circle = [], []
    for run, first in zip(own, came_from, strict=True):
        seen = {run}
        while first in parent and first not in seen and parent[first] != first:
            seen.add(first)
            first = parent[first]
        roots.append(first)
        if first == run != parent[run]:
            circle.append(run)
    return np.asarray(pd.factorize(np.array(roots, dtype=object))[0]), circle


def _of_one_size(frame: pd.DataFrame, index_R: NDArray[np.int_]) -> bool:
    sizes = numbers(frame, "params")
    if not np.isfinite(sizes).all():
        return True
    of_each = pd.Series(sizes).groupby(index_R)
    return bool((of_each.max() <= of_each.min() * 1.01).all())


def _sizes(frame: pd.DataFrame, inputs: tuple[str, ...]) -> NDArray[np.int_] | None:
    """The size of each row, for laws that take one next to something else."""
    name = next((name for name in _SIZES if name in inputs), None)
    return None if name is None or len(inputs) < 2 else levels(numbers(frame, name))

"""Which rows belong to one run: checkpoints of a run are known by what its rows hold, whatever the
column is called.

A column names runs if the rows of each of its names have one size and differ in tokens (or steps).
So `model` names runs if it stands next to a step, and does not if it says `llama` for every size.
Ids such as NAME@1000 or NAME/checkpoint-500 are read without their step. Without names, rows that
are alike in all but tokens and loss, and whose tokens grow by equal steps, are one run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, counted, listed
from llmscale.explain.table.columns.names import MODEL_NAMES, NAMES, columns_named, spellings
from llmscale.explain.table.rows.grid import is_grid, one_after_another, share_steps
from llmscale.explain.table.rows.resumed import resumed_notes, steps_again
from llmscale.explain.table.rows.row_names import (
    OF_A_ROW,
    OWN_ROW,
    called,
    is_counter,
    is_unique,
    numbered,
    step_numbers,
    texts_of,
)
from llmscale.explain.table.rows.step_names import with_step, with_tokens
from llmscale.notes.reading import RUN_ID_REPEATED

_OF_MANY = spellings("experiment experiment_name exp exp_name job_name logdir log_dir display_name")
"""Columns that name runs or what several runs are part of: they repeat without a word."""

STEPS = spellings(
    """
    step global_step steps_done iteration iter ckpt checkpoint checkpoint_step ckpt_step
    training_iteration train_step training_step current_step update updates epoch step_id
    """
)
"""Columns that count the steps of a run at a checkpoint. (`steps` is the length of a run.)"""


_NUMBER = re.compile(r"^(?P<run>.+?)[\s/:#_.-]+(?P<step>\d{2,})$")
_SAMPLE = 300
"""Names that are looked at before all of them are."""
_SAME = 0.01
_EQUAL_STEPS = 6
"""Rows of one size whose tokens grow by so many equal steps are taken for checkpoints."""


@dataclass(frozen=True)
class Identity:
    """The run of every row, the column that says so, rows that a later one repeats, and notes.

    `labels` is a column that may name runs, and was taken to name sizes; `alike` says that runs
    were told apart by their settings; `grid` that every size has the same budgets, so that rows are
    runs, though steps stand next to them."""

    run_ids: pd.Series
    column: str | None
    repeated: NDArray[np.bool_]
    notes: tuple[Note, ...]
    labels: str | None = None
    alike: bool = False
    grid: bool = False


def identify(
    raw: pd.DataFrame,
    frame: pd.DataFrame,
    found: Mapping[str, str],
    told: frozenset[str],
    usable: NDArray[np.bool_],
) -> Identity:
    """The run of every row.
    `frame` holds params, tokens and flops in base units, `usable` the rows that are done."""
    rows = _Rows(raw, frame, usable)
    if "run_id" in told and "run_id" not in found:
        return rows.apart()
    if "run_id" in told:
        column = found["run_id"]
        ids = texts_of(raw[column])
        return rows.settle(ids, column, forced=True)
    strong, weak = _called(NAMES, raw), _called(MODEL_NAMES, raw)
    for column in strong:
        texts = texts_of(raw[column])
        for ids in (texts, rows.without_steps(texts)):
            if ids is not None and rows.are_checkpoints(ids):
                return rows.settle(ids, column)
    plainly = next((name for name in strong if is_unique(raw[name], usable)), None)
    counted = plainly is None or is_counter(raw[plainly])
    labels = None
    for column in weak:
        texts = texts_of(raw[column])
        stripped = rows.without_steps(texts)
        if stripped is not None and rows.are_checkpoints(stripped):
            return rows.settle(stripped, column)
        if not rows.are_checkpoints(texts):
            continue
        if rows.by_step(texts, alone=counted) if counted else rows.every_few_steps(texts):
            return rows.settle(texts, column)
        if counted and rows.at_shared_steps(texts):
            return rows.settle(texts, column)
        labels = labels or column
    if counted:
        ids = rows.alike()
        if ids is not None:
            return rows.settle(ids, None)
    if plainly is not None and not counted and one_after_another(texts_of(raw[plainly])):
        # run0, run1, ... of 20 rows a size count rows, as an index does.
        ids = rows.alike(by_steps=False)
        if ids is not None:
            return rows.settle(ids, None)
    if plainly is not None:
        return rows.settle(texts_of(raw[plainly]), plainly)
    last = next((name for name in strong if called(name) not in _OF_MANY), None)
    return rows.apart(labels) if last is None else rows.settle(texts_of(raw[last]), last)


def _parts(
    ids: pd.Series, parts: Mapping[str, tuple[str, float]]
) -> tuple[pd.Series, NDArray[np.float64]]:
    """The run of each id, the id itself for none, and the number that stands behind the run."""
    runs = ids.map({one: run or one for one, (run, _) in parts.items()})
    return runs, ids.map({one: number for one, (_, number) in parts.items()}).to_numpy(dtype=float)


def _called(wanted: tuple[str, ...], raw: pd.DataFrame) -> list[str]:
    """The columns of these names, in the order of the names."""
    found = [name for name in raw.columns if called(name) in wanted]
    return sorted(found, key=lambda name: wanted.index(called(name)))


@dataclass
class _Rows:
    raw: pd.DataFrame
    frame: pd.DataFrame
    usable: NDArray[np.bool_]

    def __post_init__(self) -> None:
        self.params = self.frame["params"].to_numpy(dtype=float)
        self.step, self.step_column = self._steps()
        self.along = self._along()
        self.grid = False

    def _steps(self) -> tuple[NDArray[np.float64] | None, str | None]:
        for name in columns_named(self.raw.columns, STEPS):
            numbers = step_numbers(self.raw[name])
            if numbers is not None and len(np.unique(numbers[self.usable])) > 1:
                return numbers, name
        return None, None

    def _along(self) -> NDArray[np.float64] | None:
        """What grows along a run: tokens, or FLOPs, or steps."""
        for name in ("tokens", "flops"):
            values = self.frame[name].to_numpy(dtype=float)
            if np.isfinite(values[self.usable]).any():
                return values
        return self.step

    def groups(self, ids: pd.Series) -> NDArray[np.int_]:
        return np.asarray(pd.factorize(ids)[0])

    def one_size(self, ids: pd.Series) -> bool:
        """Whether the rows of each name have one size, if sizes are known."""
        if not np.isfinite(self.params[self.usable]).any():
            return True
        sizes = pd.Series(self.params[self.usable]).groupby(self.groups(ids)[self.usable])
        return bool((sizes.max() <= sizes.min() * (1 + _SAME)).all())

    def are_checkpoints(self, ids: pd.Series) -> bool:
        """Whether names stand in several rows each, of one size and of different tokens."""
        names = ids[self.usable]
        counts = names.value_counts()
        if not len(counts) or counts.max() < 2 or self.along is None or not self.one_size(ids):
            return False
        along = pd.Series(self.along[self.usable]).groupby(self.groups(ids)[self.usable])
        grow = along.nunique() > 1
        if not grow.any():
            return False
        if len(counts) == 1:
            # One name for all rows may be that of an experiment: only steps make it that of a run.
            return self.by_step(ids, alone=True)
        repeated = counts.to_numpy() > 1
        # Names of recipes repeat at equal tokens (seeds, learning rates); a resumed run repeats
        # some of its steps.
        mostly = (along.nunique() / along.size())[grow].median() > 0.5
        return bool(mostly and repeated.sum() <= 2 * grow.sum())

    def by_step(self, ids: pd.Series, *, alone: bool) -> bool:
        """Whether steps grow with tokens within each name, or, without steps, tokens grow evenly.
        `alone` lets tokens speak: no column names every row on its own."""
        group = self.groups(ids)
        if self.step is not None and self._proportional(self.step, group):
            if not self._in_a_grid(group):
                return True
            self.grid = True
            return False
        return alone and self._equally_spaced(group)

    def _in_a_grid(self, group: NDArray[np.int_]) -> bool:
        """Whether every size has the same budgets or ratios, not spaced as checkpoints are."""
        if self.along is None:
            return False
        known = self.usable & np.isfinite(self.along)
        return is_grid(group[known], self.along[known], self.params[known])

    def at_shared_steps(self, ids: pd.Series) -> bool:
        """Whether names stand at the steps of others, as checkpoints do, however few a run has."""
        group = self.groups(ids)
        if self.step is None or not self._proportional(self.step, group):
            return False
        return share_steps(group[self.usable], self.step[self.usable])

    def every_few_steps(self, ids: pd.Series) -> bool:
        """Whether each name's rows lie equal steps apart, as runs of their own hardly do."""
        group = self.groups(ids)
        return (
            self.step is not None
            and self._proportional(self.step, group)
            and self._equally_spaced(group, self.step)
        )

    def _proportional(self, step: NDArray[np.float64], group: NDArray[np.int_]) -> bool:
        if self.along is None:
            return False
        table = pd.DataFrame({"step": step, "along": self.along, "group": group})
        table = table[self.usable].dropna().sort_values(["group", "step"], kind="stable")
        by = table.groupby("group")
        if not (by["step"].nunique() > 1).any():
            return False
        rise, on = by["along"].diff(), by["step"].diff()
        moved = on > 0
        return bool(moved.any() and (rise[moved] > 0).mean() > 0.9)

    def _equally_spaced(
        self, group: NDArray[np.int_], at: NDArray[np.float64] | None = None
    ) -> bool:
        at = self.along if at is None else at
        if at is None:
            return False
        table = pd.DataFrame({"along": at, "group": group})[self.usable].dropna()
        table = table.drop_duplicates().sort_values(["group", "along"], kind="stable")
        gap = table.groupby("group")["along"].diff()
        by = pd.DataFrame({"gap": gap, "group": table["group"]}).dropna().groupby("group")["gap"]
        many = by.size() >= _EQUAL_STEPS - 1
        equal = by.max() <= by.min() * (1 + 2 * _SAME)
        return bool(many.any() and equal[many].mean() > 0.8 and many.mean() > 0.5)

    def without_steps(self, ids: pd.Series) -> pd.Series | None:
        """Ids such as NAME@1000 without their step, if it grows with tokens; None for others."""
        unique = pd.unique(ids)
        sample = unique[:_SAMPLE]
        if sum(with_step(one) is not None for one in sample) < 0.8 * len(sample):
            return self._without_tokens(ids)
        parts = {one: with_step(one) or ("", np.nan) for one in unique}
        if sum(bool(run) for run, _ in parts.values()) < 0.8 * len(unique):
            return self._without_tokens(ids)
        runs, steps = _parts(ids, parts)
        if len(pd.unique(runs)) == len(unique) or not self._proportional(steps, self.groups(runs)):
            return None
        return runs

    def _without_tokens(self, ids: pd.Series) -> pd.Series | None:
        """Ids such as NAME_5B without their tokens, if each NAME's tokens grow by equal steps."""
        unique = pd.unique(ids)
        if not len(unique) or not all(map(with_tokens, unique[:_SAMPLE])):
            return self._without_numbers(ids)
        runs, tokens = _parts(ids, {one: with_tokens(one) or ("", np.nan) for one in unique})
        group = self.groups(runs)
        as_named = self._proportional(tokens, group) and self._equally_spaced(group, tokens)
        return runs if as_named and self._equally_spaced(group) else None

    def _without_numbers(self, ids: pd.Series) -> pd.Series | None:
        """Ids such as NAME-1000, if sizes share their tokens a step, which are no power of ten."""
        unique = pd.unique(ids)
        if self.along is None or not len(unique) or not all(map(_NUMBER.match, unique)):
            return None
        found = {one: _NUMBER.match(one) for one in unique}
        runs, steps = _parts(
            ids, {one: (part["run"], float(part["step"])) for one, part in found.items() if part}
        )
        counts = runs[self.usable].value_counts()
        if len(counts) < 2 or counts.max() < 3 or not self._proportional(steps, self.groups(runs)):
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (self.along / steps)[self.usable]
        power = float(np.log10(np.median(ratio)))
        if not np.isfinite(power) or abs(power - round(power)) < 1e-6:
            return None
        return runs if ratio.max() <= ratio.min() * (1 + 2 * _SAME) else None

    def alike(self, *, by_steps: bool = True) -> pd.Series | None:
        """Rows alike in all but tokens, loss and the like as one run, if their steps say so.
        Without `by_steps`, only tokens that grow by equal amounts say so."""
        if self.along is None or not np.isfinite(self.params[self.usable]).any():
            return None
        keys = [pd.Series(self.params, index=self.raw.index)]
        for name in self.raw.columns:
            given = self.raw[name]
            if name == self.step_column or called(name) in (*OF_A_ROW, *OWN_ROW):
                continue
            distinct = given[self.usable].nunique(dropna=False)
            if 1 < distinct <= max(1, self.usable.sum() // 2) and not self._grows(given):
                keys.append(given)
        codes = np.zeros(len(self.raw), dtype=np.int64)
        for key in keys:
            code = pd.factorize(key, use_na_sentinel=False)[0]
            codes = pd.factorize(codes * (int(code.max()) + 1) + code)[0]
        names = [f"run {code + 1}" for code in codes]
        ids = pd.Series(names, index=self.raw.index, dtype=object)
        if not self.are_checkpoints(ids):
            return None
        if by_steps:
            grows = self.by_step(ids, alone=True)
        else:
            grows = self._equally_spaced(self.groups(ids))
        return ids if grows and ids[self.usable].value_counts().median() >= 3 else None

    def _grows(self, given: pd.Series) -> bool:
        """Whether a column is the tokens, FLOPs or loss themselves, or one for one with them."""
        for name in ("tokens", "flops", "loss"):
            table = pd.DataFrame({"one": pd.factorize(given)[0], "other": self.frame[name]})
            table = table[self.usable].drop_duplicates()
            differs = table["other"].nunique() > 1
            if differs and table["one"].nunique() >= 0.9 * len(table):
                return True
        return False

    def apart(self, labels: str | None = None) -> Identity:
        """Every row as a run of its own."""
        nothing = np.zeros(len(self.raw), dtype=bool)
        return Identity(numbered(self.raw), None, nothing, (), labels, grid=self.grid)

    def settle(self, ids: pd.Series, column: str | None, *, forced: bool = False) -> Identity:
        """Run ids by a column, with a note on names that stand in several rows."""
        nothing = np.zeros(len(ids), dtype=bool)
        ids = self._by_seed(ids)
        done = ids[self.usable]
        names = list(dict.fromkeys(done[done.duplicated(keep=False)]))
        if not names:
            return Identity(ids, column, nothing, ())
        if forced and not self.one_size(ids):
            sizes = pd.Series(self.params[self.usable]).groupby(done.to_numpy()).nunique()
            raise InputError(
                f"column {column!r} is not of runs: a run has one size, and {sizes.idxmax()!r} "
                f"has {sizes.max()}",
                "name a column with one value a run, or run_id=none: every row is a run",
            )
        checkpoints = self.are_checkpoints(ids)
        grown = checkpoints or self._grown(ids)
        if not forced and not (self.one_size(ids) and grown):
            verb = "stands" if len(names) == 1 else "stand"
            why = "they do not differ in tokens" if self.one_size(ids) else "their sizes differ"
            text = (
                f"{listed(names)} {verb} in more than one row: each row counts as a run of its "
                f"own, since {why}"
            )
            many = ids.isin(names)
            ids = ids.where(~many, ids + " (" + numbered(self.raw) + ")")
            return Identity(ids, None, nothing, (RUN_ID_REPEATED.note(text),))
        again = nothing
        if checkpoints and self.along is not None:
            at = self.along if self.step is None else self.step
            again = steps_again(ids, at, self.along, self.usable)
        kept = self.usable & ~again
        number = ids[kept].nunique()
        shown = "by their settings, without a name" if column is None else f"by column {column!r}"
        text = (
            f"{int(kept.sum())} rows are of {counted(number, 'run')}, told apart {shown} "
            f"({listed(names, 3)}): intervals rest on whole runs, not on rows"
        )
        if not forced:
            text += (
                ". If that is wrong, --columns run_id=NAME names another column, and run_id=none "
                "takes rows for runs"
            )
        notes = [RUN_ID_REPEATED.note(text), *resumed_notes(ids, again)]
        return Identity(ids, column, again, tuple(notes), alike=column is None)

    def _grown(self, ids: pd.Series) -> bool:
        """Whether any name stands at several lengths of training."""
        if self.along is None:
            return False
        along = pd.Series(self.along[self.usable]).groupby(self.groups(ids)[self.usable])
        return bool((along.nunique() > 1).any())

    def _by_seed(self, ids: pd.Series) -> pd.Series:
        """Names of recipes, run several times with other seeds, as a run for each seed."""
        seeds = ("seed", "random_seed", "rng_seed")
        seed = next((name for name in self.raw.columns if called(name) in seeds), None)
        if seed is None or self.raw[seed].nunique() < 2:
            return ids
        both = pd.DataFrame({"id": ids, "seed": self.raw[seed]})[self.usable]
        if not (both.groupby("id")["seed"].nunique() > 1).any():
            return ids
        return ids + ", seed " + self.raw[seed].astype(str)

"""The tables of several recipes as one, and which of their runs pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, both, counted
from llmscale.explain.estimation.identifiability import OnlyALadderError
from llmscale.explain.estimation.levels import SAME, count_levels, distinct, levels, numbers
from llmscale.explain.estimation.suitability import no_chinchilla
from llmscale.explain.laws import Array
from llmscale.explain.recipes.ladders import Counted, along_ladders, on_ladder
from llmscale.explain.recipes.noise import Index, blocks_of
from llmscale.explain.recipes.posterior import RecipeRuns
from llmscale.explain.table import RunTable

LADDER, SURFACE = "power-floor", "chinchilla"
"""The laws that recipes are compared by: in C along a ladder, or in N and D."""
LAWS = (LADDER, SURFACE)
RECIPE = "recipe compared"
"""The column of a joined table that says which recipe a run is of."""
_LEAST_LEVELS, _LEAST_OF_ALL = 2, 3
_FAR_ABOVE = 0.1
"""A run whose loss is 10% above the best of its budget counts half."""


@dataclass(frozen=True)
class Pairing:
    """How many pairs of runs of two recipes share their size and tokens (and their seed, if those
    are known), or why there is none."""

    pairs: int
    seeds: bool
    points: int
    why_not: str = ""


@dataclass(frozen=True)
class Joined:
    """The runs of all recipes, the baseline's first. `flops_per_ND` is what C is in N D, by
    recipe."""

    tables: Mapping[str, RunTable]
    frame: pd.DataFrame
    law: str
    runs: RecipeRuns
    pairing: Pairing
    flops_per_ND: Array
    repeated: int
    """Rows that repeat another of their recipe, and count once."""
    counted: tuple[Counted, ...] = ()
    """The recipes of which only the runs near a ladder count."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.tables)

    @property
    def reaches(self) -> dict[str, tuple[float, float]]:
        """The least and the most compute of every recipe."""
        ends = self.frame.groupby(RECIPE)["flops"].agg(["min", "max"])
        return {name: (float(ends["min"][name]), float(ends["max"][name])) for name in self.names}

    @property
    def overlap(self) -> tuple[float, float]:
        """The compute that all recipes were measured at."""
        ends = self.reaches.values()
        return max(low for low, _ in ends), min(high for _, high in ends)


def join(
    tables: Mapping[str, RunTable], law: str | None, floor: float | None, metric: str = "loss"
) -> Joined:
    """The tables as one, by a law that suits all. Raises InputError for runs that no law of them
    can be told from."""
    parts = {}
    for name, table in tables.items():
        _check_amounts(name, table)
        part = table.frame.copy()
        part[RECIPE] = name
        part["loss"] = numbers(part, metric)
        parts[name] = part
    chosen = _law(tables, law)
    parts, counting = along_ladders(parts) if chosen == LADDER else (parts, ())
    frame = pd.concat(parts.values(), ignore_index=True)
    repeats_R = _repeats(frame)
    frame = frame[~repeats_R]
    names = tuple(tables)
    in_order = _by_content(frame, names)
    frame = _in_order(frame, in_order)
    recipe_R = _places(frame, in_order)
    loss = frame["loss"].to_numpy(dtype=float)
    if floor is not None and not 0 <= floor < loss.min():
        raise InputError(
            f"the floor is {floor:g}, and the lowest loss of the runs {loss.min():.5g}",
            "give a floor from 0 to below the lowest loss, or leave --floor out",
        )
    point_R = _points(frame, recipe_R)
    seed_R = _seeds(frame)
    logs = [np.log(numbers(frame, name)) for name in _INPUTS[chosen]]
    middle = np.array([values.mean() for values in logs])
    runs = RecipeRuns(
        in_order,
        np.stack(logs, axis=1) - middle,
        middle,
        loss,
        _mean_of_points(loss, point_R),
        recipe_R,
        _spread(frame, loss) if chosen == SURFACE else np.ones(len(loss)),
        blocks_of(point_R, recipe_R, seed_R),
        floor,
    )
    per_ND = frame["flops"] / (frame["params"] * frame["tokens"])
    flops_per_ND = per_ND.groupby(frame[RECIPE]).median().reindex(list(names)).to_numpy(dtype=float)
    pairing = _pairing(frame, point_R, _places(frame, names), seed_R)
    repeated = int(repeats_R.sum())
    return Joined(dict(tables), frame, chosen, runs, pairing, flops_per_ND, repeated, counting)


def _by_content(frame: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """The recipes in the order of what their runs are: sums, draws and with them the answer do not
    hang on which is the baseline or is named first."""
    runs = np.nan_to_num(np.stack([numbers(frame, name) for name in _MEASURED], axis=1))
    recipe = frame[RECIPE].to_numpy()
    content = {name: sorted(map(tuple, runs[recipe == name])) for name in names}
    return tuple(sorted(names, key=content.__getitem__))


def _in_order(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The runs from the least compute up, alike in whatever order they come."""
    # `astype` would leave a run without a seed no text to be sorted by.
    seeds = frame["seed"].astype(object).map(str) if "seed" in frame else np.zeros(len(frame))
    seed = np.unique(np.asarray(seeds), return_inverse=True)[1]
    measured = [numbers(frame, name) for name in reversed(_MEASURED)]
    return frame.take(np.lexsort([_places(frame, names), seed, *measured])).reset_index(drop=True)


def _places(frame: pd.DataFrame, names: Sequence[str]) -> Index:
    """The place of every run's recipe among the names."""
    return np.array([names.index(name) for name in frame[RECIPE]])


def _repeats(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows are a run of their recipe over again: its size, tokens and seed, and its loss to
    the last digit. They would pass for runs without any noise."""
    names = [RECIPE, "params", "tokens", "flops", "loss", "seed"]
    return frame.duplicated([name for name in names if name in frame]).to_numpy()


_MEASURED = ("flops", "params", "tokens", "loss")
_INPUTS = {LADDER: ("flops",), SURFACE: ("params", "tokens")}


def _check_amounts(name: str, table: RunTable) -> None:
    """Raise InputError unless the recipe has runs of several budgets."""
    frame = table.frame
    flops = numbers(frame, "flops")
    if not np.isfinite(flops).all():
        raise InputError(
            f"{name} has runs without compute, which is what recipes are compared by",
            "give a table with a column flops, or with params and tokens",
        )
    if frame["run_id"].duplicated().any():
        raise InputError(
            f"{name} has {table.size}: rows are steps of runs, and finished runs are compared",
            "keep the last row of each run, or name a table of runs",
        )
    found = count_levels(flops)
    if found < _LEAST_LEVELS:
        runs = counted(len(frame), "run")
        raise InputError(
            f"{name} has {runs} of one budget, which tells no law",
            f"measure it at {_LEAST_LEVELS} budgets or more; {_LEAST_OF_ALL} or more tell a curve",
        )


def _law(tables: Mapping[str, RunTable], asked: str | None) -> str:
    """The law that was asked for, or in N and D if each recipe tells one. Raises InputError."""
    reasons = {name: _no_surface(table.frame) for name, table in tables.items()}
    lacking = [(name, reason) for name, reason in reasons.items() if reason is not None]
    if asked == SURFACE and lacking:
        name, reason = lacking[0]
        measure = reason.measure if isinstance(reason, OnlyALadderError) else reason.fix
        raise InputError(
            f"{name} tells no law in N and D: {reason.problem}",
            f"leave --law out, to compare along the ladder; or {measure}",
        )
    chosen = asked or (LADDER if lacking else SURFACE)
    most = max(count_levels(numbers(table.frame, "flops")) for table in tables.values())
    if most < _LEAST_OF_ALL:
        raise InputError(
            f"no recipe has more than {most} budgets, and a curve takes {_LEAST_OF_ALL}",
            "measure more sizes of one recipe, or better of each",
        )
    return chosen


def _no_surface(frame: pd.DataFrame) -> InputError | None:
    """Why runs tell no law in N and D, or None. On a ladder, even if it is not quite straight, they
    leave it open whether it is N or D that lowers the loss."""
    reason = no_chinchilla(frame)
    if reason is None and on_ladder(frame) is not None:
        return InputError(
            "it has about one number of tokens at each size",
            "train each size on several numbers of tokens",
        )
    return reason


def _spread(frame: pd.DataFrame, loss: Array) -> Array:
    """How large the noise of each run is taken to be: of runs far above the best of their recipe
    and budget larger, since no law in N and D is right so far from the optimum."""
    spread = np.ones(len(loss))
    for _, rows in frame.groupby(RECIPE).indices.items():
        flops, level = numbers(frame, "flops")[rows], np.log(loss[rows])
        at_most = flops[None, :] <= (1.0 + SAME) * flops[:, None]
        lowest = np.where(at_most, level[None, :], np.inf).min(axis=1)
        spread[rows] = np.hypot(1.0, (level - lowest) / _FAR_ABOVE)
    return spread


def _points(frame: pd.DataFrame, recipe_R: Index) -> Index:
    """The index of every run's size and tokens. Where recipes are of other counts at one size, as
    architectures are, sizes go by their names and tokens by parameters: whichever pairs more."""
    flops, tokens = levels(numbers(frame, "flops")), levels(numbers(frame, "tokens"))
    if np.isfinite(numbers(frame, "params")).all() and np.isfinite(numbers(frame, "tokens")).all():
        candidates = [distinct([levels(numbers(frame, "params")), tokens])]
    else:
        candidates = [flops]
    if "size" in frame and frame["size"].notna().all():
        size = np.asarray(pd.factorize(frame["size"].astype(str))[0])
        ratio = levels(numbers(frame, "tokens") / numbers(frame, "params"))
        candidates += [distinct([size, tokens]), distinct([size, ratio])]
    return max(candidates, key=lambda point_R: _shared_points(point_R, recipe_R))


def _mean_of_points(loss: Array, point_R: Index) -> Array:
    """The mean loss of all runs of each run's point."""
    return np.asarray((np.bincount(point_R, loss) / np.bincount(point_R))[point_R])


def _shared_points(point_R: Index, recipe_R: Index) -> int:
    """How many points have runs of several recipes."""
    return int((pd.Series(recipe_R).groupby(point_R).nunique() > 1).sum())


def _seeds(frame: pd.DataFrame) -> Index | None:
    """The seed of every run; None if it is not known of all."""
    if "seed" not in frame or frame["seed"].isna().any():
        return None
    return np.asarray(pd.factorize(frame["seed"].astype(str))[0])


def _pairing(frame: pd.DataFrame, point_R: Index, recipe_R: Index, seed_R: Index | None) -> Pairing:
    """Pairs of the baseline, the first recipe, with each other one."""
    points = _shared_points(point_R, recipe_R)
    if not points:
        return Pairing(
            0, seeds=False, points=0, why_not="no run has the size and tokens of another's"
        )
    keys = point_R if seed_R is None else distinct([point_R, seed_R])
    table = pd.crosstab(keys, recipe_R)
    pairs = sum(int(np.minimum(table[0], table[other]).sum()) for other in range(1, table.shape[1]))
    if seed_R is not None and not pairs:
        seeds = [sorted(set(part["seed"].astype(str))) for _, part in frame.groupby(RECIPE)]
        said = both([", ".join(one[:4]) for one in seeds])
        return Pairing(0, seeds=False, points=points, why_not=f"their seeds are {said}")
    return Pairing(pairs, seeds=seed_R is not None, points=points)

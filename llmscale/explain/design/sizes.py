"""The sizes that a table's next runs can have: those that it has, and new ones, as real shapes if
the table is a sweep's own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError
from llmscale.explain.design.candidates import Size, new_params
from llmscale.explain.table import RunTable
from llmscale.explain.table.run_table import FOLDER
from llmscale.quantity import format_count, parse_budget
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.shape import Shape, ladder, size_of

_ALIKE = 0.1
"""Sizes whose ln N differs by about less than this are one, if they have no names."""
_DIGITS = 2
"""Significant digits of N of a size that has no shape."""


@dataclass(frozen=True)
class OwnSweep:
    """The sweep whose results folder a table is: where it is, and what its sweep.json says."""

    folder: ResultsFolder
    spec: Mapping[str, Any]

    @property
    def recipe(self) -> Mapping[str, Any]:
        found = self.spec.get("recipe", {})
        return found if isinstance(found, Mapping) else {}

    @property
    def cooldown(self) -> float | None:
        """The share of a branch that is its own, if the budgets of one size begin alike."""
        several = len(self.spec.get("tokens") or ()) > 1
        branches = self.recipe.get("trunk") and self.recipe.get("schedule") == "wsd"
        cooldown = self.recipe.get("cooldown")
        return float(cooldown) if several and branches and cooldown else None

    def budgets(self, shape: Shape) -> dict[float, str]:
        """By the tokens of a run of this shape what the sweep was asked for."""
        single = [run.get("tokens") for run in self.spec.get("runs") or ()]
        found: dict[float, str] = {}
        for text in (*(self.spec.get("tokens") or ()), *single):
            if isinstance(text, str):
                whole = parse_budget(text).tokens(shape.params) // shape.context
                found[float(whole * shape.context)] = text
        return found

    def lost(self, count: str) -> tuple[tuple[float, float], ...]:
        """N as `count` has it, and D, of runs that diverged or failed; not if another is done."""
        runs = self.folder.read_runs()
        points = {
            status: set(zip(some[count].astype(float), some["tokens"].astype(float), strict=True))
            for status, some in runs.groupby("status")
        }
        lost = points.get("diverged", set()) | points.get("failed", set())
        return tuple(sorted(lost - points.get("done", set())))

    def saved(self, run_id: str, tokens: float) -> float:
        """How many tokens of this run are kept as a state to go on from."""
        if self.cooldown is None:
            return 0.0
        path = self.folder.run_folder(run_id).path
        there = path.is_dir() and any(path.glob("trunk-*.pt"))
        return (1.0 - self.cooldown) * tokens if there else 0.0


def own_sweep(runs: RunTable) -> OwnSweep | None:
    """The sweep of a table that was read from a results folder of one; else None."""
    place = runs.frame.attrs.get(FOLDER)
    if place is None:
        return None
    folder = ResultsFolder(Path(place))
    try:
        spec = folder.read_sweep().get("spec")
    except InputError:
        return None
    return OwnSweep(folder, spec) if isinstance(spec, dict) else None


def sizes_of(runs: RunTable, sweep: OwnSweep | None, least: float, most: float) -> list[Size]:
    """Those of the table, and new ones from `least` to `most` parameters, by N."""
    frame = runs.frame
    named = sweep is not None and "size" in frame
    of_size = frame["params"] if named else (np.log(frame["params"]) / _ALIKE).round()
    known = [_known(some, sweep) for _, some in frame.groupby(of_size)]
    inside = [size.params for size in known if least <= size.params <= most]
    wanted = new_params(least, most, inside)
    shape = _shape_of(frame) if sweep is not None else None
    new = [_new(params, least, most) for params in wanted]
    if shape is not None:
        cooldown = sweep.cooldown if sweep else None
        new = _shapes(wanted, shape, runs.count, cooldown, known, (least, most))
    return sorted([*known, *new], key=lambda size: size.params)


def _known(some: pd.DataFrame, sweep: OwnSweep | None) -> Size:
    """A size of the table, with the tokens of its runs and what they cost a token."""
    params = float(some["params"].median())
    tokens = some["tokens"].to_numpy(dtype=float)
    flops = some["flops"].to_numpy(dtype=float) / tokens
    per_token = float(np.median(flops)) if np.isfinite(flops).all() else 6.0 * params
    measured = {float(one): len(runs) for one, runs in some.groupby("tokens")}
    if "seed" in some:
        measured = {float(one): int(runs["seed"].max()) + 1 for one, runs in some.groupby("tokens")}
    found = Size(_rounded(params), params, per_token, tuple(sorted(measured)), seeds=measured)
    shape = _shape_of(some)
    if sweep is None or shape is None or "size" not in some:
        return found
    first = some[some["seed"] == some["seed"].min()]
    longest = first.loc[first["tokens"].idxmax()]
    return replace(
        found,
        name=str(some["size"].iloc[0]),
        saved=sweep.saved(str(longest["run_id"]), float(longest["tokens"])),
        cooldown=sweep.cooldown,
        step=shape.context,
        budgets=sweep.budgets(shape),
    )


def _new(params: float, least: float, most: float) -> Size:
    rounded = min(max(float(f"{params:.{_DIGITS}g}"), least), most)
    return Size(_rounded(rounded), rounded, 6.0 * rounded)


def _rounded(params: float) -> str:
    return format_count(params)


def _shape_of(frame: pd.DataFrame) -> Shape | None:
    """The shape of a run, of which the others differ in size only."""
    names = ("n_layer", "d_model", "n_head", "d_ff", "vocab_size", "context")
    if not {*names, "arch"} <= set(frame.columns):
        return None
    one = frame.iloc[-1]
    try:
        counts: Any = {name: int(one[name]) for name in names}
        return Shape(**counts, arch=str(one["arch"]))
    except (InputError, ValueError):
        return None


def _shapes(
    wanted: list[float],
    like: Shape,
    count: str,
    cooldown: float | None,
    known: list[Size],
    ends: tuple[float, float],
) -> list[Size]:
    """The shapes of the ladder that are nearest to the sizes wanted, each once: those with N within
    `ends` if there are any, since one that is a hair beyond is no candidate."""
    try:
        shapes = ladder(vocab_size=like.vocab_size, context=like.context, arch=like.arch)
    except InputError:  # an architecture in a file that this command does not name
        return []
    inside = [shape for shape in shapes if ends[0] <= getattr(shape, count) <= ends[1]]
    shapes = tuple(inside) or shapes
    log_params = np.log([float(getattr(shape, count)) for shape in shapes])
    names = {size.name for size in known}
    found: dict[str, Size] = {}
    for params in wanted:
        shape = shapes[int(np.argmin(np.abs(log_params - np.log(params))))]
        name = size_of(shape)
        if name not in names:
            found[name] = Size(
                name,
                float(getattr(shape, count)),
                float(shape.flops_per_token),
                cooldown=cooldown,
                step=shape.context,
            )
    return list(found.values())

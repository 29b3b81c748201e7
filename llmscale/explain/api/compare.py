"""`llmscale.compare`: how much of one recipe's compute another needs for the same loss."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from llmscale.errors import InputError, listed
from llmscale.errors.command_lines import command_line
from llmscale.explain.api.compare_settings import CompareSpec
from llmscale.explain.api.read import read_runs
from llmscale.explain.api.settings import ReadingGiven, reading_given
from llmscale.explain.api.written_over import refuse_input
from llmscale.explain.forecast.asked import numbers_asked
from llmscale.explain.recipes.compare import check_budgets, compare_recipes
from llmscale.explain.recipes.comparison import RecipeComparison
from llmscale.explain.recipes.gate import Gate
from llmscale.explain.table import NO_VALUE, RunTable, groups
from llmscale.settings import shows_keywords
from llmscale.settings.tables import with_keywords

_TELLING = ("recipe", "optimizer", "arch", "architecture", "data", "dataset", "schedule", "model")
"""Columns that often tell recipes apart."""
_COMPARED_IN = {"params": "N", "tokens": "D", "flops": "C", "loss": "the loss"}
"""What no recipe is told apart by."""
_MOST_RECIPES = 12
_BASELINES = ("default", "base", "baseline")
"""Values of `by` that are the baseline, if it is not named."""
_NAMELESS = ("-", "<table>", "<stdin>")
"""Sources that name no recipe."""


@shows_keywords(CompareSpec)
def compare(
    *sources: Any,
    by: str | None = None,
    baseline: str | None = None,
    at: Any = None,
    fail_below: float | None = None,
    undecided: str | None = None,
    metric: str | None = None,
    law: str | None = None,
    floor: float | None = None,
    level: float | None = None,
    seed: int | None = None,
    output: Path | str | None = None,
    title: str | None = None,
    **reading: Unpack[ReadingGiven],
) -> RecipeComparison:
    """The compute multiplier of recipes: the factor k such that a recipe reaches with k C FLOPs the
    loss that the baseline reaches with C, at the largest C that all were measured at, and `at`
    others.

    `sources` are tables as `fit` takes them, "NAME=PATH" to name one, a pair of a name and a table,
    or a dict of tables by name; or one table, whose recipes the column `by` tells apart. The
    baseline is the first table, or the recipe named default, base or baseline, or that of the first
    run. `fail_below` makes a gate of each recipe: is its saving, 1/k, shown to be
    at least that? `output` draws the laws and the multiplier. Raises InputError for recipes whose
    losses do not compare."""
    keywords = {"by": by, "baseline": baseline, "at": at, "fail_below": fail_below}
    keywords |= {"undecided": undecided, "metric": metric, "law": law, "floor": floor}
    keywords |= {"level": level, "seed": seed, "output": output, "title": title, **reading}
    spec = with_keywords(CompareSpec(), keywords, "the call")
    budgets = () if spec.at is None else np.atleast_1d(numbers_asked("at", spec.at)).tolist()
    path = _place(spec, sources)
    tables, column = _tables(sources, spec, reading_given(reading))
    baseline, why = spec.baseline, ""
    if column is not None and baseline is None:
        baseline, why = _usual_baseline(tables)
    found = compare_recipes(
        _baseline_first(tables, baseline, column),
        by=column,
        at=budgets,
        law=spec.law,
        floor=spec.floor,
        metric=spec.metric,
        level=spec.level,
        seed=spec.seed,
    )
    check_budgets(budgets, found.joined)
    found = replace(found, why_baseline=why)
    if spec.fail_below is not None:
        judged = max(budgets, default=found.today)
        allowed = spec.undecided == "pass"
        gates = tuple(Gate(one, spec.fail_below, allowed) for one in found.at(judged))
        found = replace(found, gates=gates)
    return found if path is None else replace(found, path=_drawn(found, path, spec.title))


def _drawn(found: RecipeComparison, path: Path, title: str | None) -> Path:
    from llmscale.explain.recipes.figure import draw

    draw(found, title=title).save(path)
    return path


def _place(spec: CompareSpec, sources: Sequence[Any]) -> Path | None:
    """The file to draw, checked before anything is compared."""
    if spec.output is None:
        return None
    from llmscale.explain.figures._place import check_place

    path = Path(os.path.expanduser(spec.output))
    check_place(path)
    refuse_input(path, [table for _, table in _named(sources)])
    return path


def _tables(
    sources: Sequence[Any], spec: CompareSpec, reading: Mapping[str, Any]
) -> tuple[dict[str, RunTable], str | None]:
    """The table of every recipe, and the column of one table that they were told apart by."""
    named = _named(sources)
    if len(named) > 1:
        _check_number(len(named), f"{len(named)} tables are given", "leave some of them out")
        if spec.by is not None:
            raise InputError(
                f"--by {spec.by} tells the recipes of one table apart, and {len(named)} are given",
                "give one table, or leave --by out",
            )
        return {name: read_runs(source, **reading) for name, source in named}, None
    table = read_runs(named[0][1] if named else None, **reading)
    if spec.by is None:
        raise _nothing_to_compare(table)
    _check_tells(table, spec.by)
    found = groups(table, spec.by)
    if len(found) < 2:
        raise InputError(
            f"{spec.by} is {listed(found)} in all runs of {table.path}: one recipe only",
            f"name another column{_columns_said(table)}, or two tables",
        )
    said = f"{spec.by} has {len(found)} values"
    _check_number(len(found), said, "keep some of them with --where")
    if all(_is_bare(name) for name in found):
        found = {f"{spec.by}={name}": one for name, one in found.items()}
    return found, spec.by


def _check_number(number: int, said: str, fix: str) -> None:
    if number > _MOST_RECIPES:
        raise InputError(f"{said}, and {_MOST_RECIPES} recipes are compared at most", fix)


def _check_tells(table: RunTable, by: str) -> None:
    """Raise InputError for a column of what recipes are compared in."""
    for name, letter in _COMPARED_IN.items():
        if by in (name, table.columns.get(name)):
            raise InputError(
                f"--by {by} is the column of {letter}, which changes within each recipe and tells "
                "none apart",
                f"name a column that says how runs were trained{_columns_said(table)}",
            )


def _is_bare(name: str) -> bool:
    """Whether a value names no recipe by itself, as a number does."""
    try:
        float(name)
    except ValueError:
        return name.lower() in ("true", "false", NO_VALUE)
    return True


def _named(sources: Sequence[Any]) -> list[tuple[str, Any]]:
    """Every source with the name of its recipe. Raises InputError for two of one name."""
    if len(sources) == 1 and _is_tables_by_name(sources[0]):
        sources = list(sources[0].items())
    found: list[tuple[str, Any]] = []
    for place, source in enumerate(sources):
        name, table = _name_of(source, place)
        if name in dict(found):
            raise InputError(
                f"two recipes are named {name}", f"name them: {name}-1=PATH {name}-2=PATH"
            )
        found.append((name, table))
    return found


def _is_tables_by_name(source: Any) -> bool:
    """Whether a dict holds tables, and not the columns of one."""
    return isinstance(source, Mapping) and all(
        isinstance(one, (str, Path, RunTable, Mapping)) or hasattr(one, "columns")
        for one in source.values()
    )


def _name_of(source: Any, place: int) -> tuple[str, Any]:
    """The name of a recipe, as it is given, of its folder or file, or a letter; and its table."""
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], str):
        return source
    if isinstance(source, str) and "=" in source and not Path(source).exists():
        name, _, table = source.partition("=")
        if name.strip() and table and "/" not in name:
            return name.strip(), table
    path = source.path if isinstance(source, RunTable) else source
    if not isinstance(path, (str, Path)) or str(path) in _NAMELESS:
        return chr(ord("A") + place), source
    place_of = Path(path)
    if place_of.stem == "runs" and place_of.parent.name:
        return place_of.parent.name, source
    return (place_of.name if place_of.is_dir() else place_of.stem) or str(path), source


def _baseline_first(
    tables: Mapping[str, RunTable], baseline: str | None, by: str | None
) -> dict[str, RunTable]:
    if baseline is None:
        return dict(tables)
    if f"{by}={baseline}" in tables:
        baseline = f"{by}={baseline}"
    if baseline not in tables:
        raise InputError(
            f"there is no recipe {baseline!r}", f"name one of {listed(tables, 10)} as --baseline"
        )
    return {baseline: tables[baseline], **tables}


def _usual_baseline(tables: Mapping[str, RunTable]) -> tuple[str, str]:
    """The baseline of a table, if none is named, and why it is."""
    usual = next((name for name in _BASELINES if name in tables), None)
    if usual is not None:
        return usual, "by its name"
    return next(iter(tables)), "the recipe of the first run"


def _nothing_to_compare(table: RunTable) -> InputError:
    """What to do about one table without a column that tells its recipes apart."""
    columns = _columns_of_recipes(table)
    fix = "name two tables: llmscale compare results/a results/b; or one with --by COLUMN"
    if columns:
        fix = f"tell its recipes apart: {table.command('compare', '--by', columns[0])}"
    elif table.path.exists():
        fix = f"name another next to it: {command_line('llmscale', 'compare', table.path, 'OTHER')}"
    return InputError(f"{table.path} is one table, and a comparison takes two recipes", fix)


def _columns_said(table: RunTable) -> str:
    columns = _columns_of_recipes(table)
    return f" (such as {listed(columns, 3)})" if columns else ""


def _columns_of_recipes(table: RunTable) -> list[str]:
    frame = table.frame
    return [name for name in _TELLING if name in frame and 1 < frame[name].nunique() < 7]

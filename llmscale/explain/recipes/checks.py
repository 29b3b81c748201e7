"""Whether recipes can be compared by their losses, and what else they differ in."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, both, listed
from llmscale.explain.diagnostics.mixing import searched
from llmscale.explain.estimation.levels import levels, numbers
from llmscale.explain.recipes.differing import TEXTS, Difference, is_label, mixed_within
from llmscale.explain.recipes.floors import floor_notes
from llmscale.explain.recipes.joined import LADDER, RECIPE, Joined
from llmscale.explain.recipes.steps import step_notes
from llmscale.explain.table import RunTable
from llmscale.notes.comparing import (
    FLOPS_DIFFER,
    IN_BITS_PER_BYTE,
    LADDERS_DIFFER,
    RATES_AS_REPEATS,
    RATES_NOT_TUNED,
    RECIPES_DIFFER_TOO,
    RUNS_UNPAIRED,
    SETTINGS_AS_REPEATS,
    TEXTS_DIFFER,
)

LOSS, BITS_PER_BYTE = "loss", "bits_per_byte"
METRICS = (LOSS, BITS_PER_BYTE)
_OF_A_GRID = 1.1
"""How far the runs of a grid that count next to a ladder may be off its tokens per parameter: far
from the best split 1.25 times changed a multiplier of 1 to 1.12."""
_TOKENIZERS = ("tokenizer", "vocab_size")
_VALIDATION = (
    "eval_set", "evalset", "eval_dataset", "eval_data", "evaluation_set", "val_set",
    "validation_set", "test_set", "eval_split",
)  # fmt: skip


def chosen_metric(
    tables: Mapping[str, RunTable], asked: str | None
) -> tuple[str, tuple[Note, ...]]:
    """The column that losses are compared in. Raises InputError for losses of two tokenizers if a
    table lacks bits per byte."""
    lacking = [name for name, table in tables.items() if not _has(table.frame, BITS_PER_BYTE)]
    if asked == BITS_PER_BYTE and lacking:
        raise InputError(
            f"{both(lacking)} has no bits_per_byte", "give its column, or compare in --metric loss"
        )
    column = next((name for name in _TOKENIZERS if _differs(tables, name)), None)
    if asked is not None or column is None:
        if asked == LOSS and column is not None:
            raise _tokenizers(tables, column, "compare in --metric bits_per_byte")
        return asked or LOSS, ()
    if lacking:
        raise _tokenizers(
            tables, column, f"add bits_per_byte to {both(lacking)}, or train with one tokenizer"
        )
    said = f"recipes differ in {column} ({_values(tables, column)}): compared in bits per byte"
    return BITS_PER_BYTE, (IN_BITS_PER_BYTE.note(said),)


def check_comparable(tables: Mapping[str, RunTable], by: str | None) -> tuple[Note, ...]:
    """Raise InputError for recipes whose losses are of other texts, or whose sizes count other
    weights; a note if recipes are texts, by which they are told apart."""
    counts = {table.count for table in tables.values()}
    if len(counts) > 1:
        raise InputError(
            f"N counts {both(sorted(counts))}, which are not one size",
            "name one count that all tables have: --count params_non_embedding",
        )
    for name in _VALIDATION:
        if name != by and _differs(tables, name):
            raise InputError(
                f"recipes were measured on other texts ({name}: {_values(tables, name)}), whose "
                "losses do not compare",
                "measure all recipes on one validation text",
            )
    column = next((name for name in TEXTS if _differs(tables, name)), None)
    if column is None:
        return ()
    told = by in TEXTS or any(_has_one(tables, name) for name in _VALIDATION)
    if not told and by is None:
        raise InputError(
            f"recipes have other texts ({column}: {_values(tables, column)}), and with them other "
            "validation texts, whose losses do not compare",
            "train and measure all on one text; if the text is the recipe and the validation text "
            f"is one, put the runs into one table: --by {column}",
        )
    if any(_has_one(tables, name) for name in _VALIDATION):
        return ()
    said = f"recipes differ in {column} ({_values(tables, column)}): their losses are taken to be "
    return (TEXTS_DIFFER.note(f"{said}of one validation text"),)


def check_overlap(joined: Joined) -> None:
    """Raise InputError if recipes were not measured at compute that both have."""
    for one, other in combinations(joined.names, 2):
        (_, first), (second, _) = sorted(
            (joined.reaches[one], joined.reaches[other]), key=lambda ends: ends[0]
        )
        if second > 1.01 * first:
            low, high = sorted((one, other), key=lambda name: joined.reaches[name][0])
            raise InputError(
                f"{low} has runs up to {first:.3g} FLOPs and {high} from {second:.3g} on: nothing "
                "was measured at equal compute",
                f"measure {low} at larger budgets, or {high} at smaller ones",
            )


def notes_of(joined: Joined, found: Sequence[Difference], by: str | None) -> Iterator[Note]:
    """What to know of the design of a comparison, whose settings differ as was `found`."""
    yield from step_notes(joined)
    yield from _allocation(joined)
    yield from _counts_of_compute(joined)
    yield from _rates(joined)
    yield from floor_notes(joined)
    yield from _settings_as_repeats(joined, by)
    yield from _other_settings(found, by)
    if not joined.pairing.pairs:
        yield RUNS_UNPAIRED.note(f"no runs pair, since {joined.pairing.why_not}")


def _allocation(joined: Joined) -> Iterator[Note]:
    """Ladders with other tokens per parameter."""
    if joined.law != LADDER:
        return
    ratio = joined.frame["tokens"] / joined.frame["params"]
    middle = ratio.groupby(joined.frame[RECIPE]).median().reindex(list(joined.names))
    limit = _OF_A_GRID if joined.counted else LADDERS_DIFFER.limit
    if middle.isna().any() or not middle.max() > limit * middle.min():
        return
    said = both([f"{name} {value:.3g}" for name, value in middle.items()])
    yield LADDERS_DIFFER.note(
        f"tokens per parameter differ ({said}): a part of the multiplier is that"
    )


def _rates(joined: Joined) -> Iterator[Note]:
    frame = joined.frame
    if "lr" not in frame or frame["lr"].isna().any():
        return
    for name, part in frame.groupby(RECIPE, sort=False):
        tried = searched(part.reset_index(drop=True))
        if tried:
            yield RATES_AS_REPEATS.note(
                f"{name} has {len(tried)} points with several learning rates, which count as "
                "repeats"
            )
            return
    other = [name for name in ("optimizer", "arch") if _several(frame, name)]
    by_size = frame.groupby([levels(numbers(frame, "params")), RECIPE])["lr"].mean().unstack()
    shared = by_size.dropna()
    if other and len(shared) > 1 and np.allclose(shared.min(axis=1), shared.max(axis=1), rtol=1e-3):
        yield RATES_NOT_TUNED.note(
            f"recipes differ in {other[0]} and have the same learning rate at each size: those of "
            "one were hardly tuned for it"
        )


def _other_settings(found: Sequence[Difference], by: str | None) -> Iterator[Note]:
    """Settings that differ between recipes: more than one is more than one change. Learning rates
    are none, since each recipe has to have them tuned; they are said only."""
    changes = [one for one in found if one.known and not one.is_rate]
    most = max((sum(name in one.values for one in changes) for name in _others(changes)), default=0)
    if most + (not is_label(by)) > 1:
        more_than = "" if is_label(by) else f"more than {by}: "
        yield RECIPES_DIFFER_TOO.note(
            f"recipes differ in {more_than}{both([str(one) for one in changes])}: the "
            "multiplier is of all that together"
        )


def _others(changes: Sequence[Difference]) -> set[str]:
    """The recipes that differ from the baseline."""
    return {name for one in changes for name in list(one.values)[1:]}


def _settings_as_repeats(joined: Joined, by: str | None) -> Iterator[Note]:
    said = [f"{name} in {both(names)}" for name, names in mixed_within(joined, by)]
    if said:
        yield SETTINGS_AS_REPEATS.note(
            f"runs of one recipe, size and tokens differ ({listed(said, 3, '; ')}), and count as "
            "repeats"
        )


def _counts_of_compute(joined: Joined) -> Iterator[Note]:
    """FLOPs of sweeps of other architectures; flops_counts.py judges those of other tables."""
    of_recipe = joined.flops_per_ND
    swept = all(table.path.is_dir() for table in joined.tables.values())
    if not (swept and np.isfinite(of_recipe).all()):
        return
    if of_recipe.max() > FLOPS_DIFFER.limit * of_recipe.min():
        pairs = zip(joined.names, of_recipe, strict=True)
        said = both([f"{name} {value:.3g}" for name, value in pairs])
        yield FLOPS_DIFFER.note(
            f"FLOPs per parameter and token differ ({said}): a part of the multiplier is that"
        )


def _has(frame: pd.DataFrame, name: str) -> bool:
    return name in frame and bool(np.isfinite(numbers(frame, name)).all())


def _several(frame: pd.DataFrame, name: str) -> bool:
    return name in frame and frame[name].nunique() > 1


def _of_each(tables: Mapping[str, RunTable], name: str) -> dict[str, frozenset[str]] | None:
    """The values of a column in every table; None if one lacks it."""
    found = {}
    for recipe, table in tables.items():
        if name not in table.frame:
            return None
        values = table.frame[name].dropna().astype(str)
        if values.empty:
            return None
        found[recipe] = frozenset(values)
    return found


def _differs(tables: Mapping[str, RunTable], name: str) -> bool:
    """Whether recipes have other values of a column that all have."""
    found = _of_each(tables, name)
    return found is not None and len(set(found.values())) > 1


def _has_one(tables: Mapping[str, RunTable], name: str) -> bool:
    found = _of_each(tables, name)
    return found is not None and len(frozenset.union(*found.values())) == 1


def _values(tables: Mapping[str, RunTable], name: str) -> str:
    """`adamw a, muon b`; of recipes that are told apart by it each value once: `c4, rpj`."""
    found = _of_each(tables, name) or {}
    said = []
    for recipe, values in found.items():
        shown = listed(sorted(_short(value) for value in values), 3)
        is_name = values == {recipe} or recipe == f"{name}={shown}"
        said.append(shown if is_name else f"{recipe} {shown}")
    return listed(said, 4)


def _short(value: str) -> str:
    return value if len(value) <= 20 else f"{value[:8]}…"


def _tokenizers(tables: Mapping[str, RunTable], column: str, fix: str) -> InputError:
    return InputError(
        f"recipes differ in {column} ({_values(tables, column)}): losses per token of other "
        "tokenizers do not compare",
        fix,
    )

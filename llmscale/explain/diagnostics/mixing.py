"""Runs made in several ways that one law cannot hold, told by a column or by nothing in the
table."""

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from llmscale.errors import Note, both, listed
from llmscale.errors.command_lines import condition, where_option
from llmscale.explain.diagnostics.evidence import Evidence, groups, known
from llmscale.explain.diagnostics.inputs import is_product, laws_taking
from llmscale.explain.estimation.levels import distinct
from llmscale.explain.estimation.repeats import differing, is_setting, values_of
from llmscale.explain.laws import LETTERS, Array
from llmscale.notes.fitting import (
    MIXED_ARCHITECTURES,
    MIXED_CONTEXTS,
    MIXED_DATA,
    MIXED_EVALUATIONS,
    MIXED_OPTIMIZERS,
    MIXED_SCHEDULES,
    MIXED_SETTINGS,
    MIXED_TOKENIZERS,
    REPEATS_DIFFER,
)
from llmscale.notes.kind import Kind

_MIXED: dict[Kind, tuple[tuple[str, ...], str]] = {
    MIXED_TOKENIZERS: (
        ("tokenizer", "vocab_size"),
        "tokenizers, whose losses per token do not compare",
    ),
    MIXED_DATA: (
        ("data", "dataset", "corpus", "data_fingerprint"),
        "data, each with a floor and scale of its own",
    ),
    MIXED_SCHEDULES: (
        ("schedule",),
        "learning-rate schedules, which end at different losses",
    ),
    MIXED_OPTIMIZERS: (("optimizer",), "optimizers, each with a law of its own"),
    MIXED_ARCHITECTURES: (("arch", "architecture"), "architectures, each with a law of its own"),
    MIXED_EVALUATIONS: (
        (
            "eval_set",
            "evalset",
            "eval_dataset",
            "eval_data",
            "evaluation_set",
            "val_set",
            "validation_set",
            "test_set",
            "eval_split",
            "metric",
            "metric_name",
            "loss_type",
            "loss_unit",
            "unit",
        ),
        "evaluations, whose losses do not compare",
    ),
    MIXED_CONTEXTS: (
        ("context", "context_length", "seq_len"),
        "context lengths: longer ones predict better",
    ),
}
"""The columns that tell, and what several values of one mean."""
MIXED_CODES = {kind.code for kind in (*_MIXED, MIXED_SETTINGS, REPEATS_DIFFER)}
"""The codes of notes that say that a table holds more than one law."""
NAMED = [name for columns, _ in _MIXED.values() for name in columns]
_SEARCHED = ("lr", "learning_rate", "lr_scale", "lr_area", "annealing_area")
"""Learning rates, whose searches have notes of their own."""
_LEAST_REPEATED = 3
_EFFECT = 0.003
"""0.3% of the loss: settings that matter less matter no more than seeds do."""


def mixed(kind: Kind, evidence: Evidence) -> Note | None:
    """Runs made in ways that one law cannot hold, told by a column with several values."""
    columns, what = _MIXED[kind]
    shares = _several(evidence, columns)
    if shares is None:
        return None
    return kind.note(
        f"the runs have {len(shares)} {what} ({shares.index.name}: {_shown(shares)}). "
        f"{_apart(evidence, shares)}"
    )


def mixed_settings(evidence: Evidence) -> Note | None:
    """A setting that has no note of its own, by which runs of one size and budget differ in loss.
    One-way analysis of variance of ln loss within points."""
    frame = evidence.frame
    if frame["run_id"].duplicated().any():
        return None
    point_R = groups(frame, [name for name in NAMED if name in frame])
    off_R = evidence.level - _means(evidence.level, point_R)[point_R]
    law, columns = evidence.fit.law, evidence.fit.origin.columns
    own = {*law.inputs, *law.explained}
    taken = {*own, *(columns.get(name, name) for name in own), *LETTERS, *_SEARCHED}
    names = [name for name in differing(frame, point_R) if name not in taken]
    names = [name for name in names if not is_product(frame, name, law.inputs)]
    found = [(*_effect(off_R, values_of(frame[name])), name) for name in names]
    certain = [(effect, name) for p, effect, name in found if p < MIXED_SETTINGS.limit]
    effect, name = max(certain, default=(0.0, ""))
    if effect < _EFFECT:
        return None
    shares = frame[name].value_counts(dropna=True)
    return MIXED_SETTINGS.note(
        f"runs of one size and budget differ in {name} ({_shown(shares)}), and by it "
        f"{evidence.size(effect)} in loss, which this law does not know. {_apart(evidence, shares)}"
    )


def told_apart_by(evidence: Evidence, few_R: NDArray[np.bool_]) -> str:
    """What is special in how the fewer of two kinds of runs were made, and how to fit them so."""
    found = _what_tells(evidence, few_R)
    if found is None:
        by_name = _several(evidence, NAMED)
        if by_name is not None:
            return f"The runs differ in {by_name.index.name}. {_apart(evidence, by_name)}"
        return (
            "No column of the table tells them apart: add one that does, to fit one law each with "
            "--by"
        )
    name, value = found
    has_R = evidence.frame[name] == value
    shares = evidence.frame[name].value_counts(dropna=True)
    return (
        f"{int(has_R[few_R].sum())} of the {int(few_R.sum())} have {condition(name, '==', value)}, "
        f"as {int(has_R.sum())} of all do. {_apart(evidence, shares)}"
    )


def _several(evidence: Evidence, columns: Iterable[str]) -> pd.Series | None:
    """How many runs have each value of the first of these columns that has several and that the
    law does not know; None if there is none."""
    frame, law = evidence.frame, evidence.fit.law
    for name in columns:
        if name in frame and name not in (*law.inputs, *law.explained):
            shares = frame[name].value_counts(dropna=True)
            if len(shares) > 1:
                return shares
    return None


def _shown(shares: pd.Series) -> str:
    """`llama (5), gpt2 (1)`."""
    return listed((f"{key} ({count})" for key, count in shares.items()), 4)


def _what_tells(evidence: Evidence, few_R: NDArray[np.bool_]) -> tuple[str, object] | None:
    """The column and its value that nearly all of these runs have, and that chance hardly gives
    them; None if there is none."""
    frame = evidence.frame
    taken = {*LETTERS, *evidence.fit.law.inputs}
    found = []
    for name in map(str, frame.columns):
        if name in taken or not is_setting(name):
            continue
        of_all = frame[name].value_counts(dropna=True)
        if not 1 < len(of_all) <= _MOST_LAWS:
            continue
        of_few = frame[name][few_R].value_counts(dropna=True)
        if len(of_few) and of_few.iloc[0] >= _NEARLY_ALL * few_R.sum():
            value = of_few.index[0]
            drawn = _chance(len(frame), int(of_all[value]), int(few_R.sum()), int(of_few.iloc[0]))
            found.append((drawn, name not in NAMED, name, value))
    if not found:
        return None
    chance, _, name, value = min(found, key=lambda one: one[:3])
    return (name, value) if chance * len(found) < _LEAST_CHANCE else None


def _chance(runs: int, having: int, drawn: int, least: int) -> float:
    """How likely `least` or more of the runs drawn have what `having` of all have
    (hypergeometric)."""
    ways = sum(
        math.comb(having, k) * math.comb(runs - having, drawn - k)
        for k in range(least, min(having, drawn) + 1)
    )
    return ways / math.comb(runs, drawn)


_NEARLY_ALL, _LEAST_CHANCE = 0.9, 0.01
"""Which kind a run near both is of is a guess."""


def _apart(evidence: Evidence, shares: pd.Series) -> str:
    """How to fit runs of several values of a column: by a law that takes it, or apart, a law each
    only if that can be done."""
    name, value = shares.index.name, shares.index[0]
    taking = laws_taking(evidence.fit, str(name))
    several = f" ({both(taking)} do)" if len(taking) > 1 else ""
    ways = [
        f"fit a law that takes it{several}: {evidence.again('--law', law)}" for law in taking[:1]
    ]
    enough = shares >= _LEAST_A_LAW
    if len(shares) <= _MOST_LAWS and enough.all():
        ways += [
            f"fit one law each: {evidence.again('--by', name)}",
            f"one of them: {where_option(name, '==', value)}",
        ]
    elif enough.any():
        only = condition(name, "==", value)
        ways.append(f"fit those of one value: {evidence.again('--where', only)}")
    if not ways:
        return f"No value has the {_LEAST_A_LAW} runs that a law of its own takes"
    said = "; or ".join(ways)
    return said[0].upper() + said[1:]


_MOST_LAWS, _LEAST_A_LAW = 6, 4
"""Values of a column, and runs of each, for which a law each can be fitted and read."""


def repeats_differ(evidence: Evidence) -> Note | None:
    """Runs that nothing in the table tells apart, and that differ by more than seeds do."""
    frame = evidence.frame
    if frame["run_id"].duplicated().any() or searched(frame):
        return None
    point_R = groups(frame)
    names = differing(frame, point_R)
    alike_R = distinct([point_R, *(values_of(frame[name]) for name in names)])
    count = np.bincount(alike_R)
    off_R = evidence.level - _means(evidence.level, alike_R)[alike_R]
    places, spare = int((count > 1).sum()), int((count - 1).sum())
    spread = float(np.sqrt((off_R**2).sum() / max(spare, 1)))
    # Differences of scores are in the score's own unit: percents or shares.
    unit = float(np.abs(np.median(evidence.level))) if evidence.fit.law.plain else 1.0
    if places < _LEAST_REPEATED or spread < REPEATS_DIFFER.limit * unit:
        return None
    budgets = "" if known(frame, "tokens") else "token budgets, "
    return REPEATS_DIFFER.note(
        f"at {places} sizes and budgets stand {int(count[count > 1].sum())} runs that no setting "
        f"in the table tells apart, and that differ by {evidence.size(spread)} in loss, more than "
        f"seeds do: are they of several {budgets}data, tokenizers or recipes? Add a column that "
        "says so, to fit one law each with --by"
    )


def _effect(off_R: Array, value_R: NDArray[np.int_]) -> tuple[float, float]:
    """The p-value of a difference between values, and the standard deviation of their means."""
    mean_R = _means(off_R, value_R)[value_R]
    count, spare = int(value_R.max()), len(off_R) - int(value_R.max()) - 1
    explained, rest = float((mean_R**2).sum()), float(((off_R - mean_R) ** 2).sum())
    if count < 1 or spare < 1:
        return 1.0, 0.0
    ratio = (explained / count) / max(rest / spare, 1e-300)
    return float(special.fdtrc(count, spare, ratio)), float(np.sqrt(explained / len(off_R)))


def _means(values_R: Array, group_R: NDArray[np.int_]) -> Array:
    return np.asarray(np.bincount(group_R, weights=values_R) / np.bincount(group_R))


MIXED: tuple[Callable[[Evidence], Note | None], ...] = (
    *(partial(mixed, kind) for kind in _MIXED),
    mixed_settings,
    repeats_differ,
)
"""A diagnostic for each way in which runs can be mixed."""


def searched(frame: pd.DataFrame) -> list[NDArray[np.int_]]:
    """The rows of every point (size and budget) at which several learning rates were tried."""
    if not all(known(frame, name) for name in ("lr", "loss", "params")):
        return []
    if "run_id" in frame and frame["run_id"].duplicated().any():
        return []  # steps of one run, whose learning rate is the schedule's
    lr = frame["lr"].to_numpy(dtype=float)
    point = groups(frame, [name for name in NAMED if name in frame])
    rows = (np.flatnonzero(point == number) for number in range(int(point.max()) + 1))
    return [chosen for chosen in rows if len(set(lr[chosen])) > 1]

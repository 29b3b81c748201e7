"""The settings by which recipes differ, besides what tells them apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import listed
from llmscale.explain.estimation.levels import distinct, levels, numbers
from llmscale.explain.estimation.repeats import differing, is_setting, values_of
from llmscale.explain.recipes.joined import RECIPE, Joined
from llmscale.explain.table import COUNTS
from llmscale.explain.table.columns.names import ALIASES, MODEL_NAMES, NAMES, is_loss, words_of

TEXTS = ("data_fingerprint", "data", "dataset", "corpus", "text")
SHAPE = "shape"
_SHAPES = (
    "n_layer", "n_layers", "layers", "num_layers", "depth", "d_model", "width", "hidden_size",
    "n_head", "n_heads", "num_heads", "heads", "d_ff", "ffn_size", "d_head", "head_dim",
)  # fmt: skip
"""Columns that count as one setting together."""
_LABELS = {*NAMES, *MODEL_NAMES, "recipe", "group", "method", "setup", "tokenizer", "vocab_size"}
"""Names, which set nothing; and tokenizers, which are told by the metric."""
_WORDS = {
    "lr", "learning", "batch", "bs", "wd", "decay", "warmup", "cooldown", "anneal", "annealing",
    "schedule", "scheduler", "optimizer", "optim", "arch", "architecture", "context", "ctx", "seq",
    "sequence", "dtype", "clip", "clipping", "dropout", "momentum", "beta", "beta1", "beta2",
    "betas", "eps", "epsilon", "ema", "init", "initialization", "epochs", "steps", "tied",
    "parametrization", "unique", "experts", "pretrained",
}  # fmt: skip
"""Words of columns that set how a run is trained."""
_RATES = {"lr", "learning"}
_SYNONYMS = (
    ("lr", "learning_rate", "peak_lr", "max_lr"),
    ("context", "context_length", "seq_len", "seq_length", "sequence_length", "ctx", "ctx_len"),
    ("weight_decay", "wd"),
    ("batch_size", "bs", "global_batch_size"),
    ("optimizer", "optim"),
    ("schedule", "scheduler", "lr_schedule", "lr_scheduler"),
)
"""Names of one setting, of which one table may have the one and another the other."""
_FOLLOW_FROM_ARCH = ("n_experts", "experts_per_token")
_FOLLOW_FROM_BATCH = ("steps", "num_steps", "n_steps", "train_steps")
_MOST_SAID, _WHOLE, _LONGEST = 4, 1000, 20
_FIFTH = 0.2
"""Levels are 1% wide: those of the fifth root 5%."""
_FEW_VALUES = 2
"""Of a recipe without runs of the same size and tokens as another's."""


@dataclass(frozen=True)
class Difference:
    """A setting, and its values of the baseline and of the recipes that have others: {recipe:
    values}, the baseline's first. `known` says whether a column of this name is known to change the
    training, `is_rate` whether it is a learning rate, which each recipe should have its own of."""

    name: str
    values: Mapping[str, tuple[str, ...]]
    known: bool = True
    is_rate: bool = False

    def __str__(self) -> str:
        """`batch_size (adamw 16, muon 64)`."""
        if self.name == SHAPE:
            return SHAPE
        said = [f"{recipe} {_said(values)}" for recipe, values in self.values.items()]
        return f"{self.name} ({listed(said, _MOST_SAID)})"


def differences(joined: Joined, by: str | None) -> tuple[Difference, ...]:
    """The settings by which recipes differ from the baseline, but for `by`: those that are known to
    change the training first.

    They are compared at the sizes and tokens that recipes share, since settings go with these."""
    found = {one.name: one for one in _differing(joined, by)}
    if any({"batch", "bs"} & set(words_of(name)) for name in found):
        found = _without(found, _FOLLOW_FROM_BATCH)
    if "arch" in found or by == "arch":
        found = _without(found, _FOLLOW_FROM_ARCH)
    if by in _FOLLOW_FROM_ARCH:
        found = _without(found, ("arch",))
    if sum(name in TEXTS for name in found) > 1:
        found = _without(found, ("data_fingerprint",))
    shapes = [one for name, one in found.items() if name in _SHAPES]
    if len(shapes) > 1:
        found = _without(found, _SHAPES)
        recipes = {recipe: () for one in shapes for recipe in one.values}
        found[SHAPE] = Difference(SHAPE, recipes)
    return tuple(sorted(found.values(), key=lambda one: (not one.known, one.is_rate)))


def given_by_some(joined: Joined, by: str | None) -> tuple[Difference, ...]:
    """The settings that are known to change the training and that some recipes do not give, with
    the values of those that do: whether recipes differ in them is not known."""
    frame = _with_one_name_each(joined.frame)
    found = {}
    for name in filter(_is_known, _columns(joined, frame, by)):
        values = {
            recipe: _values(frame.loc[frame[RECIPE] == recipe, name]) for recipe in joined.names
        }
        given = {recipe: of for recipe, of in values.items() if of}
        if 0 < len(given) < len(values):
            found[name] = Difference(name, given)
    if any({"batch", "bs"} & set(words_of(name)) for name in found):
        found = _without(found, _FOLLOW_FROM_BATCH)
    if {"batch_size", "batch_tokens"} <= found.keys() and _is_one_batch(frame):
        found = _without(found, ("batch_size", "batch_tokens"))
    if by == "arch" or by in _FOLLOW_FROM_ARCH:
        found = _without(found, _FOLLOW_FROM_ARCH)
    shapes = [name for name in found if name in _SHAPES]
    if len(shapes) > 1:
        found[SHAPE] = Difference(SHAPE, found[shapes[0]].values)
        found = _without(found, _SHAPES)
    return tuple(found.values())


def gives_settings(joined: Joined, by: str | None) -> bool:
    """Whether the tables have a column of a setting."""
    return any(True for _ in _columns(joined, joined.frame, by))


def mixed_within(joined: Joined, by: str | None) -> Iterator[tuple[str, list[str]]]:
    """The recipes of which runs of one size and tokens differ in settings that are known to change
    the training, with these; but for learning rates."""
    point_R = equal_runs(joined.frame)
    columns = _columns(joined, joined.frame, by)
    names = {name for name in columns if _is_known(name) and not _is_rate(name)}
    for recipe, rows in joined.frame.groupby(RECIPE, sort=False).indices.items():
        part = joined.frame.iloc[rows]
        found = [name for name in differing(part, point_R[rows]) if name in names]
        if found:
            yield (
                str(recipe),
                list(dict.fromkeys(SHAPE if one in _SHAPES else one for one in found)),
            )


def is_label(by: str | None) -> bool:
    """Whether a column only names recipes, whose one difference is then another column's."""
    return by in _LABELS or by is None


def equal_runs(frame: pd.DataFrame) -> NDArray[np.int_]:
    """The index of every run's size and tokens, or of its compute if those are not known."""
    amounts = [numbers(frame, name) for name in ("params", "tokens")]
    if not all(np.isfinite(values).all() for values in amounts):
        amounts = [numbers(frame, "flops")]
    return distinct([levels(values) for values in amounts])


def _differing(joined: Joined, by: str | None) -> Iterator[Difference]:
    frame, baseline = _with_one_name_each(joined.frame), joined.names[0]
    point_R = equal_runs(frame)
    for name in _columns(joined, frame, by):
        value_R = _value_of(frame[name])
        if not _is_known(name) and not _is_chosen(frame, point_R, value_R):
            continue
        runs = pd.DataFrame({"point": point_R, "recipe": frame[RECIPE], "value": value_R})
        runs = runs[frame[name].notna().to_numpy()]
        others = [one for one in joined.names[1:] if _differ(runs, baseline, one)]
        if others:
            values = {
                recipe: _values(frame.loc[frame[RECIPE] == recipe, name])
                for recipe in (baseline, *others)
            }
            yield Difference(name, values, _is_known(name), _is_rate(name))


def _with_one_name_each(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs with settings that tables name in several ways under one name."""
    for names in _SYNONYMS:
        present = [name for name in names if name in frame]
        if len(present) > 1 and (frame[present].nunique(axis=1) <= 1).all():
            values = frame[present].bfill(axis=1).iloc[:, 0].infer_objects()
            frame = frame.drop(columns=present).assign(**{present[0]: values})
    return frame


def _is_one_batch(frame: pd.DataFrame) -> bool:
    """Whether batches in sequences, of a context that is known, are those in tokens."""
    if "context" not in frame:
        return False
    tokens = numbers(frame, "batch_size") * numbers(frame, "context")
    given = numbers(frame, "batch_tokens")
    own, other = (np.unique(values[np.isfinite(values)]) for values in (tokens, given))
    return np.array_equal(own, other)


def _value_of(column: pd.Series) -> NDArray[np.int_]:
    """The index of every run's value; numbers within 5% are one."""
    if column.dtype.kind == "f" and (column.dropna() >= 0).all():
        return levels(column.to_numpy(dtype=float) ** _FIFTH)
    return values_of(column)


def _is_known(name: str) -> bool:
    return bool(set(words_of(name)) & _WORDS) or name in (*TEXTS, *_SHAPES)


def _is_rate(name: str) -> bool:
    return bool(set(words_of(name)) & _RATES)


def _without(found: Mapping[str, Difference], names: Sequence[str]) -> dict[str, Difference]:
    return {name: one for name, one in found.items() if name not in names}


def _columns(joined: Joined, frame: pd.DataFrame, by: str | None) -> Iterator[str]:
    """Columns of settings: not of what law takes, what was measured, or what names runs; nor flags
    with the name of a recipe, which say that it is one."""
    quantities = {*ALIASES, *COUNTS, "params_active", "trained_params", RECIPE, by, *joined.names}
    for table in joined.tables.values():
        quantities |= {table.columns.get(name, name) for name in ALIASES}
    if by in TEXTS:
        quantities |= {*TEXTS}
    for name in map(str, frame.columns):
        if name in quantities or name in _LABELS or is_loss(name):
            continue
        if is_setting(name) or set(words_of(name)) & _WORDS:
            yield name


def _is_chosen(frame: pd.DataFrame, point_R: NDArray[np.int_], values_R: NDArray[np.int_]) -> bool:
    """Whether values look chosen and not measured: few, and one for all repeats of a run."""
    if len(np.unique(values_R)) > max(2, len(values_R) // 2):
        return False
    runs = pd.DataFrame({"point": point_R, "recipe": frame[RECIPE], "value": values_R})
    return bool((runs.groupby(["point", "recipe"])["value"].nunique() == 1).all())


def _differ(runs: pd.DataFrame, baseline: str, other: str) -> bool:
    """Whether a recipe has other values than the baseline at one of the points that both have, or
    if there is none other values throughout."""
    own, others = (runs[runs["recipe"] == recipe] for recipe in (baseline, other))
    sets = [part.groupby("point")["value"].agg(frozenset) for part in (own, others)]
    shared = pd.concat(sets, axis=1, join="inner")
    if len(shared):
        return any(one.isdisjoint(two) for one, two in shared.itertuples(index=False))
    values = [set(part["value"]) for part in (own, others)]
    few = 0 < min(map(len, values)) <= max(map(len, values)) <= _FEW_VALUES
    return few and values[0].isdisjoint(values[1])


def _values(column: pd.Series) -> tuple[str, ...]:
    """The values of a column, in order, as text."""
    found = sorted(column.dropna().unique().tolist())
    return tuple(_written(one) for one in found)


def _said(values: Sequence[str]) -> str:
    """`16`, `16 and 64`, `16 to 512`, or `not given`."""
    if not values:
        return "not given"
    return " and ".join(values) if len(values) < 3 else f"{values[0]} to {values[-1]}"


def _written(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if value < _WHOLE else f"{value:.0f}"
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:8]}…"

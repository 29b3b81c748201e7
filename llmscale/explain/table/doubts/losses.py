"""Whether the loss can be one: perplexities, accuracies, bits a byte, training losses."""

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, listed
from llmscale.errors.command_lines import command_line
from llmscale.explain.table.columns.names import (
    is_loss,
    is_training,
    last_part,
    of_hundred,
    per_byte,
    plain,
    rises,
)
from llmscale.explain.table.doubts.taken import Array, Taken
from llmscale.notes.kind import Weight
from llmscale.notes.reading import (
    ACCURACY_BELOW_ZERO,
    LOSS_PER_BYTE,
    LOSS_TOO_HIGH,
    LOSS_TOO_LOW,
    MIXED_SPLITS,
    TRAINING_LOSS,
)

LARGEST_LOSS = LOSS_TOO_HIGH.limit
"""Nats per token; ln of a vocabulary of 440,000, larger than any in use."""
_BY_NAME = "is a metric that rises as models improve, by its name"
_MADE_OF_SHARES = ("accuracy", "acc", "percent")
_SMALL = 1e9
"""Parameters below which text costs a model more than a nat a token."""
_NEAR_TEXT = 3e7
"""Parameters, or tokens."""
_LOW, _HIGH = 0.55, 2.2
"""Of what text costs: losses of published tables lie between 0.7 and 1.4; log10 would be 0.43 of
it, perplexities 3 times and more."""
_LEVEL = 0.05
"""A slope in ln N or ln D is level up to this share of the other one."""


def doubtful_loss(taken: Taken) -> list[Note]:
    """A loss that is a perplexity, bits a byte or of training data."""
    if not taken.has("loss") or taken.sure("loss"):
        return []
    column, loss = taken.columns["loss"], taken.values("loss")
    notes = []
    high = loss > LARGEST_LOSS
    if high.mean() >= 0.25 and len(loss) > 1:
        fix = "a perplexity? --units loss=perplexity"
        if "loss" in taken.named:
            fix = f"its name says {taken.named['loss']}: is that so?"
        if by_groups := _read_by_groups(taken):
            fix = f"{by_groups}: if its comma stands for decimals, write points; or {fix}"
        raise InputError(
            f"column {column!r} of {taken.path} goes from {loss.min():.4g} to {loss.max():.4g}: a "
            f"loss in nats per token is below ln of the vocabulary, {LARGEST_LOSS:g} at the most",
            f"{fix} (a sum over tokens, or not a loss? name another: --columns loss=NAME; --units "
            "loss=nats takes the numbers as they stand)",
        )
    if high.any():
        rows = listed(f"{taken.names[row]} ({loss[row]:.4g})" for row in np.flatnonzero(high))
        message = f"the loss of {rows} is above ln of any vocabulary: diverged, or another unit?"
        notes.append(LOSS_TOO_HIGH.note(message))
    elif len(loss) > 1 and _beside_text(taken) > _HIGH:
        message = (
            f"column {column!r} goes from {loss.min():.4g} to {loss.max():.4g}, "
            f"{_beside_text(taken):.2g} times what text costs models of these sizes in nats per "
            "token: is it a perplexity (--units loss=perplexity), or in bits (--units loss=bits)? "
            "If it is in nats: --units loss=nats"
        )
        notes.append(LOSS_TOO_HIGH.note(message, Weight.DOUBT))
    if per_byte(column):
        message = (
            f"column {column!r} is in bits per byte by its name: floor, amplitudes and "
            "predictions are, too, and do not compare with nats per token"
        )
        notes.append(LOSS_PER_BYTE.note(message))
    elif _too_low(taken):
        message = (
            f"column {column!r} goes from {loss.min():.4g} to {loss.max():.4g}, low for nats per "
            "token of text at these sizes: bits per byte (usually 0.5 to 1.2), or log10? Then "
            "floor, amplitudes and predictions are, too, and do not compare with nats per token; "
            "exponents stay. If it is in nats (code, maths): --units loss=nats"
        )
        notes.append(LOSS_TOO_LOW.note(message))
    if is_loss(column) and is_training(column):
        message = (
            f"column {column!r} is a training loss: it is lower than the loss on new data "
            "where data repeat, and moves with the batch and with smoothing"
        )
        notes.append(TRAINING_LOSS.note(message))
    return notes


def _read_by_groups(taken: Taken) -> str:
    """`5,679 in loss was read as 5679`, if it may be a decimal comma; else nothing."""
    said = f" in {taken.columns['loss']} was read as "
    parts = (part for note in taken.read for part in note.message.split("; ") if said in part)
    return next((part for part in parts if "," in part), "")


def _too_low(taken: Taken) -> bool:
    """Whether most small models do better than text lets them."""
    small = ~(taken.values("params") >= _SMALL)
    loss = taken.values("loss")[small]
    if len(loss) > 0 and float(np.median(loss)) < LOSS_TOO_LOW.limit:
        return True
    return _beside_text(taken) < _LOW


def _beside_text(taken: Taken) -> float:
    """The typical loss over what text costs a model of its size and tokens, by the law of Hoffmann
    et al. 2022 as Besiroglu et al. 2024 fit it; 1 for sizes that it was not measured near."""
    if not taken.has("params", "tokens"):
        return 1.0
    N, D = taken.values("params"), taken.values("tokens")
    near = (N > _NEAR_TEXT) & (D > _NEAR_TEXT)
    if near.mean() < 0.5:
        return 1.0
    of_text = 1.817 + 482.0 / N[near] ** 0.348 + 2085.0 / D[near] ** 0.366
    return float(np.median(taken.values("loss")[near] / of_text))


def mixed_splits(raw: pd.DataFrame) -> list[Note]:
    """A note if a column `split` says that losses are of training data and of validation data.
    Runs set aside to test a law with are train and test, too: those two words say nothing."""
    for name in map(str, raw.columns):
        if plain(last_part(name)) not in ("split", "data_split", "loss_split", "subset", "phase"):
            continue
        counts = raw[name].dropna().astype(str).value_counts()
        words = set(counts.index.str.strip().str.lower())
        if words & {"train", "training"} and words & {
            "val",
            "valid",
            "validation",
            "eval",
            "evaluation",
            "dev",
        }:
            shown = listed(f"{word} ({count})" for word, count in counts.items())
            message = (
                f"column {name!r} mixes losses of training and of validation data ({shown}), "
                "which do not compare: keep one of them, "
                f"{command_line('--where', f'{name} == {counts.index[0]}')}"
            )
            return [MIXED_SPLITS.note(message)]
    return []


def refuse_rising(taken: Taken) -> None:
    """Raise InputError for a metric that rises as models grow."""
    if not taken.has("loss") or taken.units.get("loss") == "nats":
        return
    column, loss = taken.columns["loss"], taken.values("loss")
    scales = {"N": "params", "D": "tokens", "C": "flops"}
    correlations = []
    for letter, name in scales.items():
        values = taken.values(name)
        if np.isfinite(values).all() and len(np.unique(values)) >= 3:
            correlations.append((_rank_correlation(values, loss), letter))
    if not correlations:
        return
    highest, letter = max(correlations)
    on_the_whole = sum(one for one, _ in correlations) > 0
    named = rises(column) and not is_loss(column)
    seen = highest > 0.6 and on_the_whole and _up(taken, loss)
    as_told = highest < 0 and "loss" in taken.units
    if not (named or seen) or (named and as_told):
        return
    unit = taken.units.get("loss")
    if unit is not None:
        raise InputError(
            f"column {column!r} of {taken.path}, taken in the unit {unit}, gives losses that rise "
            f"with {letter}: a law of loss falls",
            "leave loss out of --units if the column falls as it stands, or name another: "
            "--columns loss=NAME",
        )
    raise _rising(taken, f"rises with {letter}" if highest > 0 else _BY_NAME)


def doubtful_accuracy(taken: Taken) -> list[Note]:
    """An accuracy below zero. Raises InputError if half of them are."""
    unit = taken.units.get("loss") or taken.named.get("loss") or ""
    if unit.lower() not in _MADE_OF_SHARES or not taken.has("loss"):
        return []
    below = taken.values("loss") > 1
    if not below.any():
        return []
    problem = (
        f"column {taken.columns['loss']!r} of {taken.path} is below zero in {int(below.sum())} of "
        f"{len(below)} runs, and is taken for an accuracy, which is a share"
    )
    if below.mean() < 0.5:
        return [ACCURACY_BELOW_ZERO.note(problem)]
    raise InputError(
        problem,
        "name the column of the accuracy: --columns loss=NAME; or take the numbers as they stand, "
        "by a law of any score: --law score",
    )


def refuse_named_rising(taken: Taken) -> None:
    """Raise InputError for a metric that rises as models improve, by its name."""
    column = taken.columns.get("loss", "")
    if rises(column) and not is_loss(column) and "loss" not in taken.units:
        raise _rising(taken, _BY_NAME)


def _rising(taken: Taken, direction: str) -> InputError:
    column, loss = taken.columns["loss"], taken.values("loss")
    if of_hundred(column):
        how = f"fit 1 - {column}/100 with --units loss=percent"
    elif loss.max() <= 1:
        how = f"fit 1 - {column} with --units loss=accuracy"
    elif loss.max() <= 100:
        how = f"fit 1 - {column}/100, if it is in percent, with --units loss=accuracy"
    else:
        how = "fit what falls instead, such as 1 - accuracy with --units loss=accuracy"
    return InputError(
        f"column {column!r} of {taken.path}, taken for the loss, {direction}: a law of loss falls",
        f"{how}, or a law of scores: --law accuracy; or name another column: --columns loss=NAME "
        "(--units loss=nats takes the numbers as they stand)",
    )


def _up(taken: Taken, loss: Array) -> bool:
    """Whether ln loss rises in the plane of ln N and ln D that is nearest to it."""
    columns = []
    for name in ("params", "tokens"):
        values = taken.values(name)
        if np.isfinite(values).all() and len(np.unique(values)) >= 3:
            columns.append(np.log(values) - np.log(values).mean())
    if not columns:
        return True
    y = loss - loss.mean()
    slopes = np.linalg.lstsq(np.stack(columns, axis=1), y, rcond=None)[0]
    # A metric that depends on only one of the two has a slope of about 0, of either sign, in the
    # other.
    return bool(slopes.max() > 0 and slopes.min() > -_LEVEL * slopes.max())


def _rank_correlation(one: Array, other: Array) -> float:
    if len(np.unique(other)) < 2:
        return 0.0
    ranks = [pd.Series(values).rank().to_numpy() for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])

"""The numbers of a table of runs: read, brought to base units, N, D and C completed, checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, counted, listed
from llmscale.errors.command_lines import where_option
from llmscale.explain.table.columns.find import ALIASES, LABELS, WEIGHT, nearest
from llmscale.explain.table.columns.loss_error import LOSS_SE, error_in_nats
from llmscale.explain.table.columns.names import of_hundred
from llmscale.explain.table.columns.pairs import quoted
from llmscale.explain.table.columns.text_numbers import written_plainly
from llmscale.explain.table.columns.units import numbers_of, to_base
from llmscale.notes.reading import (
    PARAMS_FROM_FLOPS,
    PARAMS_UNKNOWN,
    TOKENS_FROM_FLOPS,
    TOKENS_UNKNOWN,
)

_ACCURACY = ("accuracy", "acc")
_ABOVE_ZERO = {
    **dict.fromkeys(("perplexity", "ppl"), "numbers above 1"),
    **dict.fromkeys(_ACCURACY, "accuracies below 1 (or 100 percent)"),
    "percent": "numbers below 100",
    "log-likelihood": "negative numbers",
}
"""What a loss of these units must be to be above zero in nats."""


def with_quantities(
    raw: pd.DataFrame,
    found: Mapping[str, str],
    units: Mapping[str, str],
    path: Path,
    named: Mapping[str, str],
) -> tuple[pd.DataFrame, list[Note]]:
    """The source's columns with each quantity in base units (NaN: no number), and notes.

    `named` are units that the columns' names carry, which values with a suffix of their own do
    without. Raises InputError for units of a column that is not there or is not numbers."""
    for name in units:
        if name not in found and name not in raw.columns:
            hint = f"; say which: --columns {name}=NAME"
            if name not in ALIASES:
                hint = nearest(name, [*found, *map(str, raw.columns)])
            raise InputError(
                f"{path} has no column for {name} to convert from {units[name]!r}",
                f"its columns are {listed(raw.columns)}{hint}",
            )
    frame = raw.copy()
    for name, column in ({name: name for name in units} | dict(found)).items():
        if name in ("run_id", LOSS_SE):
            continue
        quantity = name in ALIASES
        if name in LABELS and name not in units:
            frame[name] = raw[column]
            continue
        values, suffixed = numbers_of(
            raw[column], counts=name != "loss", truths=not quantity and name != WEIGHT
        )
        if not quantity and (np.isnan(values) & raw[column].notna().to_numpy()).any():
            if name in units:
                raise InputError(
                    f"column {column!r} of {path} is not all numbers",
                    f"leave {name} out of --units",
                )
            frame[name] = raw[column]
            continue
        if name in units and suffixed:
            raise InputError(
                f"column {column!r} of {path} has values with a suffix of their own, and --units "
                f"{name}={units[name]}",
                f"leave {name} out of --units: 125M is read as 125,000,000",
            )
        unit = units.get(name) or (None if suffixed else named.get(name))
        if unit == "log":
            unit = _base_of_logarithm(values, str(column), name, path)
        if unit:
            if name == "loss":
                _refuse_other_scale(values, unit.lower(), str(column), path)
            values = to_base(values, name, unit)
        frame[name] = values
    if LOSS_SE in found:
        unit = units.get("loss") or named.get("loss")
        frame = error_in_nats(frame, raw[found[LOSS_SE]], raw[found["loss"]], unit)
    return frame, _derive(frame, found, _unused(raw, found))


def _refuse_other_scale(values: np.ndarray, unit: str, column: str, path: Path) -> None:
    """Raise InputError for a metric of 100 by its name or its unit, but not by both, none of whose
    numbers is above 1."""
    present = values[np.isfinite(values)]
    if not len(present) or present.max() > 1:
        return
    if unit == "percent" and not of_hundred(column):
        raise InputError(
            f"column {column!r} of {path} goes from {present.min():.4g} to {present.max():.4g}, "
            "which is no metric in percent",
            "take it as of 1: --units loss=accuracy",
        )
    if unit in _ACCURACY and of_hundred(column):
        raise InputError(
            f"column {column!r} of {path} goes from {present.min():.4g} to {present.max():.4g}, "
            "and may be of 1 or of 100",
            "say which: --units loss=percent takes it as of 100 (sacrebleu's BLEU and chrF are); "
            "for one of 1 give its name another word",
        )


def _base_of_logarithm(values: np.ndarray, column: str, name: str, path: Path) -> str:
    """`log10` or `ln` for a logarithm of a count, by what it can be. Raises InputError."""
    middle = float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan
    least, most = {"params": (4.0, 11.0), "tokens": (6.0, 13.5)}.get(name, (12.0, 27.0))
    if least <= middle <= most:
        return "log10"
    if most < middle and least * 2.3 <= middle <= most * 2.4:
        return "ln"
    raise InputError(
        f"column {column!r} of {path} is a logarithm by its name, and its base is not clear from "
        "its values",
        f"say the base: --units {name}=log10 or {name}=ln",
    )


def _unused(raw: pd.DataFrame, found: Mapping[str, str]) -> list[str]:
    """Columns of positive numbers that differ and were taken for nothing."""
    unused = []
    for name in map(str, raw.columns):
        values = numbers_of(raw[name], counts=True)[0]
        values = values[np.isfinite(values)]
        if name not in found.values() and (values > 0).all() and len(np.unique(values)) > 1:
            unused.append(name)
    return unused


def _derive(frame: pd.DataFrame, found: Mapping[str, str], unused: Sequence[str]) -> list[Note]:
    """Fill in the one of N, D and C = 6ND that the source lacks."""
    there = {name for name in ("params", "tokens", "flops") if name in found}
    for name in ("params", "tokens", "flops"):
        if name not in there:
            frame[name] = np.nan
    notes = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if there == {"params", "flops"}:
            frame["tokens"] = frame["flops"] / (6.0 * frame["params"])
            notes.append(TOKENS_FROM_FLOPS.note("the table has no tokens: computed as D = C/(6N)"))
        elif there == {"tokens", "flops"}:
            frame["params"] = frame["flops"] / (6.0 * frame["tokens"])
            message = "the table has no parameters: computed as N = C/(6D)"
            notes.append(PARAMS_FROM_FLOPS.note(message))
        elif there == {"params"}:
            message = (
                "the table has neither tokens nor FLOPs: its runs are taken to share one "
                "token budget"
            )
            notes.append(TOKENS_UNKNOWN.note(message))
        elif there == {"params", "tokens"}:
            frame["flops"] = 6.0 * frame["params"] * frame["tokens"]
        elif "params" not in there:
            only = " or ".join(sorted(there)) or "columns of their own"
            message = f"the table has no parameters: only laws in {only} can be fitted"
            if unused:
                message += (
                    f" (numbers that are not used: {listed(unused)}; if one counts them: "
                    f"--columns params={quoted(unused[0])})"
                )
            notes.append(PARAMS_UNKNOWN.note(message))
    return notes


def check_above(
    values: pd.Series,
    least: float,
    given: pd.Series,
    left: np.ndarray,
    run_ids: pd.Series,
    path: Path,
    unit: str | None,
) -> None:
    """Raise InputError naming the rows, among those left, whose value is no finite number above
    `least`, 0 or -infinity."""
    number = values.to_numpy()
    bad = left & ~(np.isfinite(number) & (number > least))
    if bad.any():
        places = np.flatnonzero(bad)
        texts = [row for row in places if isinstance(given[row], str) and np.isnan(number[row])]
        rows = [f"{_on_one_line(run_ids[row])} ({_shown(given[row])})" for row in places]
        above = _ABOVE_ZERO.get(str(unit).lower(), "positive numbers")
        above = "numbers" if least < 0 else above
        fix = f"fix these rows, or leave them out: {_without(values, number[left])}"
        where = listed(rows)
        if left.sum() / 2 < bad.sum() < left.sum():
            where = f"{int(bad.sum()):,} of {counted(int(left.sum()), 'row')}: {where}"
            fix += f", which leaves only {counted(int((left & ~bad).sum()), 'row')}"
        if bad.sum() == left.sum():
            fix = f"name the right column: --columns {values.name}=NAME"
            if values.name == "loss" and unit is None and (number[left] < 0).all():
                fix += ", or say that these are log-likelihoods: --units loss=log-likelihood"
        if texts and (plainly := written_plainly(given[texts[0]], str(values.name))):
            shown = f"{_shown(given[texts[0]], 40)!r} in {_on_one_line(run_ids[texts[0]])}"
            fix = f"{shown} is no number: {plainly}; or {fix}"
        raise InputError(
            f"column {given.name!r} of {path} must be {above}, and is not in {where}", fix
        )


def _without(values: pd.Series, number: NDArray[np.float64]) -> str:
    """The options that leave out the numbers that are not above zero, or not finite."""
    options = []
    if np.isposinf(number).any():
        options.append(where_option(values.name, "<", "inf"))
    if not (number[~np.isposinf(number)] > 0).all():
        options.append(where_option(values.name, ">", 0))
    return " ".join(options)


def _shown(value: Any, most: int = 20) -> str:
    if pd.isna(value):
        return "empty"
    text = _on_one_line(str(value))
    if len(text) <= most:
        return text
    return text[: most - 3] + "..."


def _on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)

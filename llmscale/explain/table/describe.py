"""The line that says which column became what, what was computed, and what was left out and why."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from llmscale.explain.table.columns.find import ALIASES, WEIGHT, Found
from llmscale.explain.table.columns.loss_error import LOSS_SE
from llmscale.explain.table.columns.pairs import quoted
from llmscale.explain.table.columns.units import above_one, counts_of
from llmscale.explain.table.rows.identity import Identity

LETTERS = {"params": "N", "tokens": "D", "flops": "C"}
_MOST_REASONS = 4


_COMPUTED = {"flops": "C = 6ND", "tokens": "D = C/(6N)", "params": "N = C/(6D)"}
"""What was computed from the other two, if a source has only those."""


def _in_unit(column: str, unit: str | None, values: pd.Series) -> str:
    """A column, and what is made of it."""
    if unit is None:
        return column
    if unit.lower() == "hundredths":
        return f"{column}/100"
    accuracy = unit.lower() in ("accuracy", "acc")
    if unit.lower() == "percent" or (accuracy and above_one(counts_of(values))):
        return f"1 - {column}/100"
    if accuracy:
        return f"1 - {column}"
    return f"{column} (in {unit})"


def metric_of(raw: pd.DataFrame, found: Found, units: Mapping[str, str]) -> str:
    """`1 - acc` if the losses are made of an accuracy; else `loss`."""
    unit = units.get("loss") or found.units.get("loss")
    if "loss" not in found.columns or unit is None:
        return "loss"
    taken = _in_unit(found.columns["loss"], unit, raw[found.columns["loss"]])
    return taken if taken.startswith("1 - ") else "loss"


def loss_unit_of(raw: pd.DataFrame, found: Found, units: Mapping[str, str]) -> str:
    """What the source gives the loss in, `perplexity`, if not as it is taken; else empty."""
    unit = (units.get("loss") or found.units.get("loss") or "").lower()
    if "loss" not in found.columns or unit in ("", "nats", "nat"):
        return ""
    is_accuracy = unit in ("accuracy", "acc")
    in_percent = is_accuracy and above_one(counts_of(raw[found.columns["loss"]]))
    return "percent" if in_percent else unit


def describe(
    raw: pd.DataFrame,
    found: Found,
    units: Mapping[str, str],
    identity: Identity,
    statuses: Sequence[str],
    left_out: Sequence[str],
) -> tuple[dict[str, str], str]:
    """The source's column of every quantity, and a sentence of it: `N = params, D = tokens`."""
    columns = _columns(found, identity, statuses)
    parts = []
    for name in (*ALIASES, WEIGHT):
        if name in columns:
            unit = units.get(name) or found.units.get(name)
            taken = _in_unit(columns[name], unit, raw[columns[name]])
            if name == "loss" and taken.endswith(")") and loss_unit_of(raw, found, units):
                taken = f"{taken[:-1]}, converted to nats)"
            parts.append(f"{LETTERS.get(name, name)} = {taken}")
    if LOSS_SE in columns:
        parts.append(f"{LOSS_SE} = {columns[LOSS_SE]}")
    parts.append(_run(found, identity))
    if statuses:
        parts.append(f"status = {columns['status']}")
    sentence = ", ".join(parts)
    missing = [name for name in _COMPUTED if name not in columns]
    if len(missing) == 1:
        sentence += f"; {_COMPUTED[missing[0]]} computed"
    if found.aside:
        sentence += "; " + ", ".join(found.aside)
    if left_out:
        sentence += f"; left out: {_counted(left_out)}"
    return columns, sentence


def _columns(found: Found, identity: Identity, statuses: Sequence[str]) -> dict[str, str]:
    first = [name for name in (*ALIASES, WEIGHT) if name in found.columns]
    others = [name for name in found.columns if name not in (*first, "run_id")]
    columns = {name: found.columns[name] for name in (*first, *others)}
    if identity.column is not None:
        columns["run_id"] = identity.column
    if statuses:
        columns["status"] = ", ".join(statuses)
    return columns


def _run(found: Found, identity: Identity) -> str:
    """What a run is in this table, and how to say so if it is something else."""
    if identity.column is not None:
        return f"run = {identity.column}"
    if identity.alike:
        return "run = rows alike in all but tokens and loss"
    if identity.labels is not None:
        option = f"--columns run_id={quoted(identity.labels)}"
        return f"run = each row (if {identity.labels} names runs: {option})"
    if identity.grid and "params" in found.columns:
        option = f"--columns run_id={quoted(found.columns['params'])}"
        return f"run = each row (if the rows of one size are checkpoints of one run: {option})"
    return "run = each row"


def _counted(reasons: Sequence[str]) -> str:
    """The most frequent reasons, each with how many rows it left out."""
    counts = Counter(reasons).most_common()
    named = ", ".join(f"{number} {reason}" for reason, number in counts[:_MOST_REASONS])
    more = sum(number for _, number in counts[_MOST_REASONS:])
    if more:
        named += f" and {more} more"
    return named

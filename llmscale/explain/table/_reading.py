"""The line that says which column became what, what was computed, and what was left out and why."""

from collections import Counter
from collections.abc import Mapping, Sequence

from llmscale.explain.table._columns import ALIASES, WEIGHT, Found, quoted
from llmscale.explain.table._identity import Identity

LETTERS = {"params": "N", "tokens": "D", "flops": "C"}


def describe(
    found: Found,
    units: Mapping[str, str],
    identity: Identity,
    statuses: Sequence[str],
    left_out: Sequence[str],
) -> tuple[dict[str, str], str]:
    """The source's column of every quantity, and the sentence about them: `N = params, D = tokens
    (in B), ...`.
    """
    columns = {name: found.columns[name] for name in (*ALIASES, WEIGHT) if name in found.columns}
    columns |= {
        name: column for name, column in found.columns.items() if name not in (*columns, "run_id")
    }
    if identity.column is not None:
        columns["run_id"] = identity.column
    if statuses:
        columns["status"] = ", ".join(statuses)
    parts = []
    for name in (*ALIASES, WEIGHT):
        if name in columns:
            unit = units.get(name) or found.units.get(name)
            parts.append(
                f"{LETTERS.get(name, name)} = {columns[name]}" + (f" (in {unit})" if unit else "")
            )
    if identity.column is not None:
        parts.append(f"run = {identity.column}")
    elif identity.alike:
        parts.append("run = rows alike in all but tokens and loss")
    else:
        parts.append("run = each row")
        if identity.labels is not None:
            parts[-1] += (
                f" (if {identity.labels} names runs: --columns run_id={quoted(identity.labels)})"
            )
        elif identity.grid and "params" in found.columns:
            size = quoted(found.columns["params"])
            parts[-1] += (
                f" (if the rows of one size are checkpoints of one run: --columns run_id={size})"
            )
    if statuses:
        parts.append(f"status = {columns['status']}")
    sentence = ", ".join(parts)
    sizes = {name for name in ("params", "tokens", "flops") if name in columns}
    if len(sizes) == 2:
        (missing,) = {"params", "tokens", "flops"} - sizes
        sentence += (
            "; "
            + {"flops": "C = 6ND", "tokens": "D = C/(6N)", "params": "N = C/(6D)"}[missing]
            + " computed"
        )
    if found.aside:
        sentence += "; " + ", ".join(found.aside)
    if left_out:
        counts = Counter(left_out)
        sentence += "; left out: " + ", ".join(
            f"{number} {reason}" for reason, number in counts.most_common(4)
        )
        more = sum(number for _, number in counts.most_common()[4:])
        sentence += f" and {more} more" if more else ""
    return columns, sentence

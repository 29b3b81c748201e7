"""What a table of runs can tell: which laws suit it, which it cannot identify, and what to say about either."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note
from llmscale.laws import Array, Law, OneVariableLaw, find
from llmscale.quantity import format_count
from llmscale.table import RunTable

SIZES_FOR_A_FLOOR = 4
_WORDS = {"params": ("size", "sizes"), "tokens": ("token budget", "token budgets"), "flops": ("budget", "budgets")}
_SAME = 0.01
"""Values of N, D or C within 1% of their neighbour are one size or one budget."""
_DEFAULT_LAWS_OF_ONE = ("power-floor", "power")


def levels(values: Array) -> NDArray[np.int_]:
    """For each value the index of its size or budget, smallest first."""
    order = np.argsort(values, kind="stable")
    steps = np.diff(np.log(values[order])) > np.log1p(_SAME)
    index = np.empty(len(values), dtype=int)
    index[order] = np.concatenate([[0], np.cumsum(steps)])
    return index


def count_levels(values: Array) -> int:
    return int(levels(values).max()) + 1 if len(values) else 0


def points(frame: pd.DataFrame, inputs: tuple[str, ...]) -> NDArray[np.int_]:
    """For each run the index of its point: runs that differ in seed alone share one."""
    keys = np.stack([levels(frame[name].to_numpy()) for name in inputs], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def describe_levels(frame: pd.DataFrame, name: str) -> str:
    """`5 sizes`, `1 token budget`."""
    number = count_levels(frame[name].to_numpy())
    return f"{number} {_WORDS[name][number != 1]}"


def default_laws(table: RunTable, variable: str = "params") -> tuple[str, ...]:
    """The laws to fit when none is named: Chinchilla where N and D vary enough, else L(N), or that of `variable`."""
    if variable == "params" and why_not(find("chinchilla"), table.frame) is None:
        return ("chinchilla",)
    enough = variable in table.frame and count_levels(table.frame[variable].to_numpy()) >= SIZES_FOR_A_FLOOR
    return _DEFAULT_LAWS_OF_ONE if enough else _DEFAULT_LAWS_OF_ONE[1:]


def why_not(law: type[Law], frame: pd.DataFrame, inputs: tuple[str, ...] | None = None) -> InputError | None:
    """Why these runs cannot identify the law's coefficients, or None where they can."""
    columns = inputs or _inputs(law)
    unknown = [name for name in columns if not np.isfinite(frame[name].to_numpy()).all()]
    if unknown:
        return InputError(
            f"{law.name} needs {' and '.join(columns)}, and the table has no {' or '.join(unknown)}",
            f"add the column, or fit a law in N alone: --law {_DEFAULT_LAWS_OF_ONE[0]}",
        )
    coefficients = len(law.coefficient_names())
    if len(columns) == 1:
        return _too_few_sizes(law, frame, columns[0], coefficients)
    for name in columns:
        if count_levels(frame[name].to_numpy()) < 3:
            return InputError(
                f"{law.name} needs at least 3 sizes and 3 token budgets to tell its terms apart, and the table has"
                f" {describe_levels(frame, 'params')} and {describe_levels(frame, 'tokens')}",
                "measure several budgets at each size: llmscale sweep --sizes 1M,3M,10M --tokens 5x,20x,80x;"
                " or fit --law power-floor",
            )
    ratios = count_levels(frame["tokens"].to_numpy() / frame["params"].to_numpy())
    if ratios == 1:
        return InputError(
            f"every run has {frame['tokens'].iloc[0] / frame['params'].iloc[0]:.3g} tokens a parameter, so {law.name}"
            " cannot tell the effect of size from that of tokens",
            "measure several budgets at each size: llmscale sweep --sizes 1M,3M,10M --tokens 5x,20x,80x",
        )
    number = int(points(frame, columns).max()) + 1
    if number <= coefficients:
        return InputError(
            f"{law.name} has {coefficients} coefficients and needs at least {coefficients + 1} runs that differ in"
            f" {' or '.join(columns)}, but there are {number}",
            "measure more: llmscale sweep --sizes 1M,3M,10M --tokens 5x,20x,80x",
        )
    return None


def design_notes(law: Law, table: RunTable) -> list[Note]:
    """What the choice of runs keeps this law from knowing."""
    frame, notes = table.frame, []
    tokens, params = frame["tokens"].to_numpy(), frame["params"].to_numpy()
    budget, ratio = float(np.median(tokens)), float(np.median(tokens / params))
    if law.inputs == ("params",) and np.isfinite(tokens).all():
        if count_levels(tokens) == 1:
            notes.append(
                Note(
                    "one-token-budget",
                    f"every run was trained on {format_count(budget)} tokens: this is L(N) at that D alone, and neither"
                    " its exponent nor its floor carries over to other budgets (sweep with several --tokens)",
                )
            )
        elif count_levels(tokens / params) == 1:
            notes.append(
                Note(
                    "tokens-proportional",
                    f"every run has {ratio:.3g} tokens a parameter: the exponent mixes the effects of size"
                    " and of tokens (sweep with several --tokens)",
                )
            )
        else:
            notes.append(
                Note(
                    "mixed-token-budgets",
                    f"the runs have {describe_levels(frame, 'tokens')}, and a law in N alone takes what tokens do"
                    " for noise (fit --law chinchilla, or one budget at a time)",
                )
            )
    if "unique_tokens" in frame:
        repeated = int((frame["unique_tokens"].fillna(np.inf).to_numpy(dtype=float) < tokens).sum())
        if repeated:
            notes.append(
                Note(
                    "repeated-data",
                    f"{repeated} of {len(frame)} runs went over their data more than once, and the law counts every"
                    " pass as new tokens",
                )
            )
    spread = min(float(frame[name].max() / frame[name].min()) for name in law.inputs)
    if spread < 10 and len(frame) > 1:
        notes.append(
            Note("narrow-range", f"the runs span only a factor of {spread:.3g}; exponents want 10 or, better, 30")
        )
    return notes


def floor_note(number: int, word: str) -> Note:
    """Too few sizes for a floor."""
    return Note(
        "floor-not-identified",
        f"a floor cannot be identified from {number} {word}, which takes {SIZES_FOR_A_FLOOR}: the pure power law was"
        " fitted, and it is too low far beyond the largest run if there is a floor",
    )


def words(name: str, number: int) -> str:
    return _WORDS[name][number != 1]


def _inputs(law: type[Law]) -> tuple[str, ...]:
    return ("params",) if issubclass(law, OneVariableLaw) else law(*[1.0] * len(law.coefficient_names())).inputs


def _too_few_sizes(law: type[Law], frame: pd.DataFrame, column: str, coefficients: int) -> InputError | None:
    number = count_levels(frame[column].to_numpy())
    needed = coefficients + 1 if law.floor else coefficients
    if number >= needed:
        return None
    return InputError(
        f"{law.name} needs runs of at least {needed} {_WORDS[column][1]}, and the table has {number}",
        "measure more: llmscale sweep --sizes 1M,3M,10M,30M,100M",
    )

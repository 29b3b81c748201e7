"""What a table of runs can tell: which laws suit it, which it cannot identify, and what to say
about either.
"""

import itertools
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, listed
from llmscale.errors.command_lines import where_option
from llmscale.explain.estimation.advice import more_budgets, more_sizes
from llmscale.explain.laws import LAWS, Array, Law, OneVariableLaw
from llmscale.explain.table import RunTable
from llmscale.notes.fitting import (
    FLOOR_NOT_IDENTIFIED,
    MIXED_TOKEN_BUDGETS,
    NARROW_RANGE,
    ONE_TOKEN_BUDGET,
    REPEATED_DATA,
    TOKENS_PROPORTIONAL,
)
from llmscale.quantity import format_count
from llmscale.runs.title import run_titles

SIZES_FOR_A_FLOOR = FLOOR_NOT_IDENTIFIED.limit
_WORDS = {
    "params": ("size", "sizes"),
    "tokens": ("token budget", "token budgets"),
    "flops": ("budget", "budgets"),
}
_SAME = 0.01
"""Values of N, D or C within 1% of the smallest are one size or one budget."""
_DEFAULT_LAWS_OF_ONE = ("power-floor", "power")


def levels(values: Array) -> NDArray[np.int_]:
    """For each value the index of its size or budget, smallest first; zeros are a level of their
    own.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order].tolist()
    known = len(ordered) - int(np.isnan(values).sum())  # NaN comes last, and is one level
    # From the smallest of each level, not from neighbour to neighbour: many scattered sizes are not
    # one.
    firsts, first = [0], 0
    while first < known and (
        first := bisect_right(ordered, ordered[first] * (1 + _SAME), first, known)
    ) < len(ordered):
        firsts.append(first)
    index = np.empty(len(values), dtype=int)
    index[order] = np.searchsorted(firsts, np.arange(len(values)), side="right") - 1
    return index


def count_levels(values: Array) -> int:
    """How many sizes or budgets there are; 0 where values are missing."""
    return int(levels(values).max()) + 1 if len(values) and np.isfinite(values).all() else 0


def points(frame: pd.DataFrame, inputs: tuple[str, ...]) -> NDArray[np.int_]:
    """For each row the index of its point: runs that differ in seed alone share one, as do the
    steps of one run.
    """
    if has_steps(frame):
        return np.asarray(pd.factorize(frame["run_id"])[0])
    return distinct([levels(_numbers(frame, name)) for name in inputs])


def has_steps(frame: pd.DataFrame) -> bool:
    """Whether rows are steps of runs, several a run."""
    return bool(frame["run_id"].duplicated().any())


def distinct(levels_of: Sequence[NDArray[np.int_]]) -> NDArray[np.int_]:
    """The index of each row's combination of levels."""
    key = np.zeros(len(levels_of[0]), dtype=np.int64)
    for index in levels_of:
        key = np.unique(key * (int(index.max()) + 1) + index, return_inverse=True)[1].reshape(-1)
    return key


def describe_levels(frame: pd.DataFrame, name: str) -> str:
    """`5 sizes`, `1 token budget`."""
    number = count_levels(_numbers(frame, name))
    return f"{number} {words(name, number)}"


def default_laws(table: RunTable, variable: str = "params") -> tuple[str, ...]:
    """The laws to fit when none is named: Chinchilla where N and D vary enough, else L(N), or that
    of `variable`.
    """
    chinchilla = LAWS.find("chinchilla")
    inputs = inputs_of(chinchilla)
    suits = (
        unusable(chinchilla, table.frame, inputs) is None
        and why_not(chinchilla, table.frame, inputs) is None
    )
    if variable == "params" and suits:
        return ("chinchilla",)
    enough = (
        variable in table.frame
        and count_levels(table.frame[variable].to_numpy()) >= SIZES_FOR_A_FLOOR
    )
    return _DEFAULT_LAWS_OF_ONE if enough else _DEFAULT_LAWS_OF_ONE[1:]


def default_variable(table: RunTable, asked: str) -> str:
    """What laws in one variable are fitted in: what was asked for, or what varies where sizes do
    not.
    """
    if asked != "params" or count_levels(_numbers(table.frame, "params")) > 1:
        return asked
    varying = (
        name for name in ("tokens", "flops") if count_levels(_numbers(table.frame, name)) > 1
    )
    return next(varying, asked)


def inputs_of(law: type[Law], variable: str = "params") -> tuple[str, ...]:
    """The columns that a law takes, for laws in one variable that one."""
    if issubclass(law, OneVariableLaw):
        return (variable,)
    return tuple(law(*[1.0] * len(law.coefficient_names())).inputs)


def unusable(law: type[Law], frame: pd.DataFrame, inputs: tuple[str, ...]) -> InputError | None:
    """What keeps the columns of a table from being this law's inputs at all, or None."""
    wanted = " and ".join(inputs)
    columns = {name: _numbers(frame, name) for name in inputs if name in frame}
    missing = [
        name for name in inputs if name not in columns or not np.isfinite(columns[name]).any()
    ]
    if missing:
        return InputError(
            f"{law.name} needs {wanted}, and the table has no {' or '.join(missing)}",
            "name a sweep's results folder: its curves give them"
            if "lr_area" in missing
            else f"say which column it is: --columns {missing[0]}=NAME; or fit another law "
            "(llmscale laws)",
        )
    for name, values in columns.items():
        bad = ~(np.isfinite(values) & ((values >= 0) if name in law.may_be_zero else (values > 0)))
        if bad.any():
            rows = listed(run_titles(frame, np.flatnonzero(bad)))
            least = (
                "numbers that are not negative" if name in law.may_be_zero else "positive numbers"
            )
            return InputError(
                f"{law.name} needs {name} as {least}, and it is none in {int(bad.sum())} of "
                f"{len(frame)} runs: {rows}",
                f"fix these rows, or leave them out: {where_option(name, '>', 0)}",
            )
    return None


def why_not(law: type[Law], frame: pd.DataFrame, inputs: tuple[str, ...]) -> InputError | None:
    """What these runs cannot tell apart, which the law needs, and the runs that would settle it; or
    None.
    """
    coefficients = len(law.coefficient_names())
    columns = {name: _numbers(frame, name) for name in inputs}
    level = {name: levels(values) for name, values in columns.items()}
    count = {name: int(index.max()) + 1 for name, index in level.items()}
    if len(inputs) == 1:
        return _too_few_sizes(law, frame, inputs[0], coefficients)
    if {"params", "tokens"} <= set(inputs):
        sizes, budgets = count["params"], count["tokens"]
        if min(sizes, budgets) < 3:
            return InputError(
                f"{law.name} needs at least 3 sizes and 3 token budgets to tell its terms apart, "
                "and the table has"
                f" {describe_levels(frame, 'params')} and {describe_levels(frame, 'tokens')}"
                + _one_constant(frame, sizes, budgets),
                f"measure several budgets at each size: {more_budgets(frame)};"
                f" or fit {_law_of_one(frame, 'tokens' if sizes < budgets else 'params')}",
            )
        if count_levels(columns["tokens"] / columns["params"]) == 1:
            ratio = float(frame["tokens"].iloc[0] / frame["params"].iloc[0])
            return InputError(
                f"every run has {ratio:.3g} tokens a parameter, so {law.name}"
                " cannot tell the effect of size from that of tokens",
                f"measure several budgets at each size: {more_budgets(frame)};"
                f" or fit the law along this ratio: {_law_of_one(frame, 'flops')}",
            )
    for name in inputs:
        if count[name] == 1:
            return InputError(
                f"every run has {name} = {columns[name][0]:.4g}, so the terms of {law.name} that "
                "hang on it"
                " are one constant",
                f"measure runs with other {name}, or fit a law without it (llmscale laws)",
            )
    along = _on_one_line(columns)
    if along:
        one, other, power = along
        raised = one if abs(power - 1) < 0.005 else f"{one}^{power:.3g}"
        return InputError(
            f"{other} is {raised} times a constant in every run, so {law.name} cannot tell the "
            f"effect of {one} from"
            f" that of {other}",
            f"measure runs that differ in {other} at equal {one}, or fit a law in one of them",
        )
    number = len(frame) if has_steps(frame) else int(distinct(list(level.values())).max()) + 1
    if number <= coefficients:
        return InputError(
            f"{law.name} has {coefficients} coefficients and needs at least {coefficients + 1} "
            "runs that differ in"
            f" {' or '.join(inputs)}, but there are {number}",
            f"measure more: {more_budgets(frame)}",
        )
    return None


def law_in_both(frame: pd.DataFrame) -> str:
    """How to get a law in N and D from these runs: fit it, or measure what it takes."""
    reason = _no_chinchilla(frame)
    if reason is None:
        return "take one that is: --law chinchilla"
    return f"a law in N and D takes more than these runs: {reason.fix}"


def design_notes(law: Law, table: RunTable) -> list[Note]:
    """What the choice of runs keeps this law from knowing."""
    frame, notes = table.frame, []
    tokens, params = _numbers(frame, "tokens"), _numbers(frame, "params")
    budget, ratio = float(np.median(tokens)), float(np.median(tokens / params))
    if law.inputs == ("params",) and np.isfinite(tokens).all():
        if count_levels(tokens) == 1:
            notes.append(
                ONE_TOKEN_BUDGET.note(
                    f"every run was trained on {format_count(budget)} tokens: this is L(N) at that "
                    "D alone, and neither"
                    " its exponent nor its floor carries over to other budgets (sweep with several "
                    "--tokens)",
                )
            )
        elif count_levels(tokens / params) == 1:
            notes.append(
                TOKENS_PROPORTIONAL.note(
                    f"every run has {ratio:.3g} tokens a parameter: the exponent mixes the effects "
                    "of size"
                    " and of tokens (sweep with several --tokens)",
                )
            )
        else:
            notes.append(
                MIXED_TOKEN_BUDGETS.note(
                    f"the runs have {describe_levels(frame, 'tokens')}, and a law in N alone takes "
                    "what tokens do"
                    f" for noise ({_law_of_both(frame)}one budget at a time: --where 'tokens == "
                    "...')",
                )
            )
    if "unique_tokens" in frame and "unique_tokens" not in law.inputs:
        epochs = tokens / frame["unique_tokens"].fillna(np.inf).to_numpy(dtype=float)
        repeated = int((epochs > REPEATED_DATA.limit).sum())
        if repeated:
            notes.append(
                REPEATED_DATA.note(
                    f"{repeated} of {len(frame)} runs went over their data more than once, up to "
                    f"{epochs.max():.3g}"
                    " times, and the law counts every pass as new tokens (fit --law "
                    "data-constrained, or --where"
                    ' "tokens <= ..." for runs of one pass)',
                )
            )
    for name in law.inputs:
        values = (
            {"tokens": tokens, "params": params}[name]
            if name in ("tokens", "params")
            else _numbers(frame, name)
        )
        if (
            name not in _WORDS
            or not len(values)
            or values.max() >= NARROW_RANGE.limit * values.min()
        ):
            continue
        notes.append(
            NARROW_RANGE.note(
                f"the runs span only a factor of {values.max() / values.min():.3g} in {name}; "
                "exponents want 10 or,"
                " better, 30 (sweep wider: "
                f"{more_sizes(frame) if name == 'params' else more_budgets(frame)})",
            )
        )
    return notes


def floor_note(number: int, word: str) -> Note:
    """Too few sizes for a floor."""
    return FLOOR_NOT_IDENTIFIED.note(
        f"a floor cannot be identified from {number} {word}, which takes {SIZES_FOR_A_FLOOR:g}: "
        "the pure power law was fitted, and it is too low far beyond the largest run if there is "
        "a floor"
    )


def words(name: str, number: int) -> str:
    return _WORDS.get(name, (f"value of {name}", f"values of {name}"))[number != 1]


def _numbers(frame: pd.DataFrame, name: str) -> Array:
    column = frame[name]
    numbers = column if column.dtype.kind in "fiu" else pd.to_numeric(column, errors="coerce")
    return np.asarray(numbers.to_numpy(dtype=float))


def _one_constant(frame: pd.DataFrame, sizes: int, budgets: int) -> str:
    """Which terms melt into one."""
    if sizes == 1:
        return (
            f": at N = {format_count(_numbers(frame, 'params')[0])} alone the floor and the "
            "term in N are one constant"
        )
    if budgets == 1:
        return (
            f": at D = {format_count(_numbers(frame, 'tokens')[0])} alone the floor and the "
            "term in D are one constant"
        )
    return ""


def _on_one_line(columns: dict[str, Array]) -> tuple[str, str, float] | None:
    """Two inputs whose logarithms lie on one line, and its slope, or None."""
    logs = {name: np.log(values) for name, values in columns.items() if (values > 0).all()}
    for one, other in itertools.combinations(logs, 2):
        x, y = logs[one] - logs[one].mean(), logs[other] - logs[other].mean()
        slope = float(x @ y / (x @ x))
        if np.abs(y - slope * x).max() <= np.log1p(_SAME) / 2:
            return one, other, slope
    return None


def _law_of_one(frame: pd.DataFrame, name: str) -> str:
    """The options that fit a law in one column which these runs can tell."""
    law = "power-floor" if count_levels(_numbers(frame, name)) >= SIZES_FOR_A_FLOOR else "power"
    return f"--law {law}" + (f" --variable {name}" if name != "params" else "")


def _law_of_both(frame: pd.DataFrame) -> str:
    """Advice to fit Chinchilla's law, or nothing if these runs cannot tell it."""
    return "" if _no_chinchilla(frame) else "fit --law chinchilla, or "


def _no_chinchilla(frame: pd.DataFrame) -> InputError | None:
    law = LAWS.find("chinchilla")
    inputs = inputs_of(law)
    return unusable(law, frame, inputs) or why_not(law, frame, inputs)


def _too_few_sizes(
    law: type[Law], frame: pd.DataFrame, column: str, coefficients: int
) -> InputError | None:
    number = count_levels(frame[column].to_numpy())
    needed = coefficients + 1 if law.floor else coefficients
    if number >= needed:
        return None
    if column == "params":
        more = more_sizes(frame, needed)
    else:
        more = more_budgets(frame, number=needed)
    return InputError(
        f"{law.name} needs runs of at least {needed} {words(column, 2)}, and the table has "
        f"{number}",
        f"measure more: {more}",
    )

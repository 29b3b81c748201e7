"""What a table of runs cannot tell a law, and the runs that would settle it."""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from llmscale.errors import InputError, listed
from llmscale.errors.command_lines import where_option
from llmscale.explain.estimation.advice import more_budgets, more_sizes
from llmscale.explain.estimation.constraints import NONE, Constraints
from llmscale.explain.estimation.levels import (
    SAME,
    count_levels,
    describe_levels,
    distinct,
    has_steps,
    levels,
    numbers,
    words,
)
from llmscale.explain.laws import Array, Law
from llmscale.notes.fitting import FLOOR_NOT_IDENTIFIED
from llmscale.quantity import format_count
from llmscale.runs.title import run_titles

SIZES_FOR_A_FLOOR = FLOOR_NOT_IDENTIFIED.limit
_MORE_MIXTURES = "tables [data.mixtures.NAME] with other weights, in the TOML file of the sweep"
_ROUNDED = 1e-9
_CHANCE = 1.64
"""A rank correlation of this over the root of the runs is chance in one of twenty tables."""
_LEAST_LEVELS = 3
"""Sizes, and budgets, that a floor and two terms take."""


class OnlyALadderError(InputError):
    """Runs that tell no law in N and D, but one in a single variable: `measure` says what would
    tell both, and `options` fit the one."""

    def __init__(self, problem: str, measure: str, instead: str, options: str) -> None:
        super().__init__(problem, f"{measure}; or {instead} {options}")
        self.measure = measure


def unusable(law: type[Law], frame: pd.DataFrame, inputs: tuple[str, ...]) -> InputError | None:
    """What keeps the columns of a table from being this law's inputs at all, or None."""
    columns = {name: numbers(frame, name) for name in inputs if name in frame}
    there = [name for name, values in columns.items() if np.isfinite(values).any()]
    missing = [name for name in inputs if name not in there]
    if missing:
        return _missing(law, inputs, missing)
    loss = numbers(frame, "loss") if "loss" in frame else np.ones(1)
    if (same := same_everywhere(loss)) is not None:
        return same
    if not law.plain and not (loss > 0).all():
        return InputError(
            f"{law.name} is a law of a loss that is above zero, and it is none in "
            f"{int((~(loss > 0)).sum())} of {len(frame)} runs",
            "fit a law of scores (llmscale laws), or leave these runs out: --where 'loss > 0'",
        )
    if law.most is not None and loss.max() > law.most + _ROUNDED:
        return InputError(
            f"{law.name} is a law of shares, from 0 to {law.most:g}, and the scores go from "
            f"{loss.min():.4g} to {loss.max():.4g}",
            "if they are in percent, say so: --units loss=hundredths; or fit a law of any score: "
            "--law score",
        )
    if law.rises and (falls := _falls(law, frame, columns)) is not None:
        return falls
    for name, values in columns.items():
        least = "positive numbers"
        good = np.isfinite(values) & (values > 0)
        if name in law.may_be_zero:
            least = "numbers that are not negative"
            good = np.isfinite(values) & (values >= 0)
        if not good.all():
            rows = listed(run_titles(frame, np.flatnonzero(~good)))
            return InputError(
                f"{law.name} needs {name} as {least}, and it is none in {int((~good).sum())} of "
                f"{len(frame)} runs: {rows}",
                f"fix these rows, or leave them out: {where_option(name, '>', 0)}",
            )
    return None


def same_everywhere(loss: Array) -> InputError | None:
    """Why a loss that is the same in every run tells no law, or None if it is not."""
    if len(loss) < 2 or np.ptp(loss) > _ROUNDED * np.abs(loss).max():
        return None
    return InputError(
        f"the loss is {loss[0]:.6g} in each of {len(loss)} runs, which tells nothing of what it "
        "depends on",
        "name the column that holds the loss of the runs: --columns loss=NAME",
    )


def _falls(law: type[Law], frame: pd.DataFrame, columns: Mapping[str, Array]) -> InputError | None:
    """Why a law of scores cannot be one of this column, or None: it falls as models grow."""
    ranks = frame["loss"].rank()
    chance = _CHANCE / np.sqrt(max(len(frame) - 1, 1))
    for name, values in columns.items():
        if ranks.corr(pd.Series(values, index=frame.index).rank()) < -chance:
            return InputError(
                f"{law.name} is a law of a score, which rises with {name}, and this one falls",
                "name the column of the score, --columns loss=NAME, or fit a law of the loss "
                "(llmscale laws)",
            )
    return None


def _missing(law: type[Law], inputs: tuple[str, ...], missing: list[str]) -> InputError:
    fix = f"say which column it is: --columns {missing[0]}=NAME; or fit another law (llmscale laws)"
    if "lr_area" in missing:
        fix = "name a sweep's results folder: its curves give them"
    return InputError(
        f"{law.name} needs {' and '.join(inputs)}, and the table has no {' or '.join(missing)}", fix
    )


_Check = Callable[[type[Law], pd.DataFrame, dict[str, Array], Constraints], InputError | None]


def why_not(
    law: type[Law],
    frame: pd.DataFrame,
    inputs: tuple[str, ...],
    constraints: Constraints = NONE,
) -> InputError | None:
    """What these runs cannot tell apart, which the law needs, and what would; or None."""
    columns = {name: numbers(frame, name) for name in inputs}
    checks = _OF_ONE if len(inputs) == 1 else _OF_SEVERAL
    found = (check(law, frame, columns, constraints) for check in checks)
    return next((error for error in found if error is not None), None)


def law_of_one(frame: pd.DataFrame, name: str) -> str:
    """The options that fit a law in one column which these runs can tell."""
    enough = count_levels(numbers(frame, name)) >= SIZES_FOR_A_FLOOR
    law = "power-floor" if enough else "power"
    return f"--law {law}" + (f" --variable {name}" if name != "params" else "")


def _too_few_of_one(
    law: type[Law], frame: pd.DataFrame, columns: dict[str, Array], constraints: Constraints
) -> InputError | None:
    """A law in one variable: fewer sizes or budgets than coefficients."""
    (column,) = columns
    number = count_levels(frame[column].to_numpy())
    is_tied_down = law.floor is None or constraints.value(law.floor) is not None
    needed = constraints.free(law.coefficient_names()) + (0 if is_tied_down else 1)
    if number >= needed:
        return None
    more = more_budgets(frame, number=needed)
    if column == "params":
        more = more_sizes(frame, needed)
    elif column.startswith("share"):
        more = _MORE_MIXTURES
    return InputError(
        f"{law.name} needs runs of at least {needed} {words(column, 2)}, and the table has "
        f"{number}",
        f"measure more: {more}",
    )


def _few_levels(
    law: type[Law], frame: pd.DataFrame, columns: dict[str, Array], constraints: Constraints
) -> InputError | None:
    """A law in N and D: too few sizes or budgets."""
    if not {"params", "tokens"} <= set(columns):
        return None
    sizes, budgets = (int(levels(columns[name]).max()) + 1 for name in ("params", "tokens"))
    if min(sizes, budgets) >= _LEAST_LEVELS:
        return None
    varying = "tokens" if sizes < budgets else "params"
    return OnlyALadderError(
        f"{law.name} needs at least {_LEAST_LEVELS} sizes and {_LEAST_LEVELS} token budgets to "
        f"tell its terms apart, and the table has {describe_levels(frame, 'params')} and "
        f"{describe_levels(frame, 'tokens')}{_one_constant(columns, sizes, budgets)}",
        f"measure several budgets at each size: {more_budgets(frame)}",
        "fit",
        law_of_one(frame, varying),
    )


def _one_constant(columns: dict[str, Array], sizes: int, budgets: int) -> str:
    """Which terms melt into one."""
    for name, letter, number in (("params", "N", sizes), ("tokens", "D", budgets)):
        if number == 1:
            only = format_count(columns[name][0])
            return f": with only {letter} = {only}, the floor and its term are one constant"
    return ""


def _one_ratio(
    law: type[Law], frame: pd.DataFrame, columns: dict[str, Array], constraints: Constraints
) -> InputError | None:
    """A law in N and D: tokens in proportion to parameters."""
    if not {"params", "tokens"} <= set(columns):
        return None
    if count_levels(columns["tokens"] / columns["params"]) > 1:
        return None
    ratio = float(columns["tokens"][0] / columns["params"][0])
    return OnlyALadderError(
        f"every run has {ratio:.3g} tokens a parameter, so {law.name} cannot tell the effect of "
        "size from that of tokens",
        f"measure several budgets at each size: {more_budgets(frame)}",
        "fit the law along this ratio:",
        law_of_one(frame, "flops"),
    )


def _constant_input(
    law: type[Law], frame: pd.DataFrame, columns: dict[str, Array], constraints: Constraints
) -> InputError | None:
    for name, values in columns.items():
        if int(levels(values).max()) == 0:
            return InputError(
                f"every run has {name} = {values[0]:.4g}, so the terms of {law.name} that hang on "
                "it are one constant",
                f"measure runs with other {name}, or fit a law without it (llmscale laws)",
            )
    return None


def _bound_inputs(
    law: type[Law], frame: pd.DataFrame, columns: dict[str, Array], constraints: Constraints
) -> InputError | None:
    """Two inputs whose logarithms lie on one line."""
    logs = {name: np.log(values) for name, values in columns.items() if (values > 0).all()}
    for one, other in itertools.combinations(logs, 2):
        x, y = logs[one] - logs[one].mean(), logs[other] - logs[other].mean()
        power = float(x @ y / (x @ x))
        if np.abs(y - power * x).max() > np.log1p(SAME) / 2:
            continue
        raised = one if abs(power - 1) < 0.005 else f"{one}^{power:.3g}"
        return InputError(
            f"{other} is {raised} times a constant in every run, so {law.name} cannot tell the "
            f"effect of {one} from that of {other}",
            f"measure runs that differ in {other} at equal {one}, or fit a law in one of them",
        )
    return None


def _too_few_points(
    law: type[Law], frame: pd.DataFrame, columns: dict[str, Array], constraints: Constraints
) -> InputError | None:
    coefficients = constraints.unknowns(law)
    number = len(frame)
    if not has_steps(frame):
        number = int(distinct([levels(values) for values in columns.values()]).max()) + 1
    if number > coefficients:
        return None
    more = more_budgets(frame)
    if all(name.startswith("share") for name in columns):
        more = _MORE_MIXTURES
    return InputError(
        f"{law.name} has {coefficients} coefficients and needs at least {coefficients + 1} runs "
        f"that differ in {' or '.join(columns)}, but there are {number}",
        f"measure more: {more}",
    )


_OF_ONE: tuple[_Check, ...] = (_too_few_of_one,)
_OF_SEVERAL: tuple[_Check, ...] = (
    _few_levels,
    _one_ratio,
    _constant_input,
    _bound_inputs,
    _too_few_points,
)

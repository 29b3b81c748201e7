"""Which laws suit a table of runs."""

import pandas as pd

from llmscale.errors import InputError
from llmscale.explain.estimation.constraints import NONE, Constraints
from llmscale.explain.estimation.identifiability import (
    SIZES_FOR_A_FLOOR,
    OnlyALadderError,
    law_of_one,
    unusable,
    why_not,
)
from llmscale.explain.estimation.levels import count_levels, numbers
from llmscale.explain.laws import LAWS, LETTERS, Law, OneVariableLaw
from llmscale.explain.table import RunTable

_DEFAULT_LAWS_OF_ONE = ("power-floor", "power")


def default_laws(
    table: RunTable, variable: str = "params", constraints: Constraints = NONE
) -> tuple[str, ...]:
    """The laws to fit if none is named: Chinchilla if N and D vary, else L(N) or L(`variable`). If
    something is said of coefficients, only those that have them, or the first if none has."""
    laws = _suited(table, variable)
    having = [law for law in laws if not constraints.lacking(LAWS.find(law).coefficient_names())]
    return tuple(having) or laws[:1]


def _suited(table: RunTable, variable: str) -> tuple[str, ...]:
    if variable == "params" and no_chinchilla(table.frame) is None:
        return ("chinchilla",)
    enough = (
        variable in table.frame
        and count_levels(table.frame[variable].to_numpy()) >= SIZES_FOR_A_FLOOR
    )
    return _DEFAULT_LAWS_OF_ONE if enough else _DEFAULT_LAWS_OF_ONE[1:]


def default_variable(table: RunTable, asked: str) -> str:
    """What laws in one variable are fitted in: as asked for, or what varies if sizes do not."""
    if asked != "params" or count_levels(numbers(table.frame, "params")) > 1:
        return asked
    for name in ("tokens", "flops"):
        if count_levels(numbers(table.frame, name)) > 1:
            return name
    return asked


def inputs_of(law: type[Law], variable: str = "params") -> tuple[str, ...]:
    """The columns that a law takes, for laws in one variable that one."""
    if issubclass(law, OneVariableLaw):
        return (variable,)
    return tuple(law(*[1.0] * len(law.coefficient_names())).inputs)


def needs_of(law: type[Law], *, own: bool) -> tuple[str, ...]:
    """The columns to look for by their own names: all of a law of one's own, or of one of the menu
    that takes no N, D or C; of others the counts of a mixture of experts."""
    inputs = inputs_of(law)
    if own or not set(inputs) & set(LETTERS):
        return inputs
    return tuple(name for name in inputs if name in ("params_total", "params_active"))


def law_in_both(runs: RunTable | None, flops: float | None = None) -> str:
    """How to get a law in N and D from these runs: fit it, or measure what it takes. If `flops` are
    asked for, and the runs are a ladder, also the command that forecasts a loss along it."""
    if runs is None:
        return "name a fit of one that is, such as fit-chinchilla.json, or the table"
    reason = no_chinchilla(runs.frame)
    if reason is None:
        return "take one that is: --law chinchilla"
    return f"a law in N and D takes more than these runs: {more_or_along(reason, runs, flops)}"


def more_or_along(reason: InputError, runs: RunTable, flops: float | None) -> str:
    """What tells a law in N and D if these runs do not, for this reason; or the command that
    forecasts the loss of `flops` along the ladder that they are."""
    if not isinstance(reason, OnlyALadderError):
        return str(reason.fix)
    if flops is None or not _is_ladder(runs.frame):
        return reason.measure
    law = law_of_one(runs.frame, "flops").split()
    command = runs.command("predict", *law, "--flops", f"{flops:.4g}")
    return f"{reason.measure}; or forecast the loss along this ladder: {command}"


def _is_ladder(frame: pd.DataFrame) -> bool:
    """Whether the runs are of several budgets with one size, one number of tokens or one ratio of
    both."""
    params, tokens, flops = (numbers(frame, name) for name in ("params", "tokens", "flops"))
    fixed = min(map(count_levels, (params, tokens, tokens / params)))
    return fixed == 1 and count_levels(flops) > 1


def no_chinchilla(frame: pd.DataFrame) -> InputError | None:
    """Why Chinchilla's law cannot be fitted to these runs, or None."""
    law = LAWS.find("chinchilla")
    inputs = inputs_of(law)
    return unusable(law, frame, inputs) or why_not(law, frame, inputs)

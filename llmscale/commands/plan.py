"""`llmscale plan`: plan a training run: size, tokens, time and money."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmscale.commands import output
from llmscale.commands._options import FitArgument, JsonOption, takes_settings
from llmscale.explain import digits
from llmscale.explain.api.plan_settings import PlanSpec
from llmscale.explain.planning.said import amount, energy, three_digits
from llmscale.quantity import format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.explain.planning.choice import Choice
    from llmscale.explain.planning.training_plan import TrainingPlan

_COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "GPU hours": ("gpu_hours", amount),
    "time": ("wall_seconds", format_seconds),
    "money": ("money", amount),
    "energy": ("kwh", energy),
}
"""Columns of costs, the values they show, and how these are written."""
_LEAST = ("D/N", "energy", "time", "C", "C to train", "money", "GPU hours")
"""Columns without which a plan can be read: each is a factor times C, or N and D."""


@takes_settings(PlanSpec, leave_out=("holdout", "intervals", "diagnostics", "variable"))
def plan(
    table: FitArgument = None,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Plan a training run by the law of a table: size and tokens of a budget with intervals, the
    loss to expect, time, money and energy, and what may be chosen instead.

    Example: llmscale plan runs.csv --gpu-hours 1000 --gpu h100 --price-per-hour 2
    """
    import llmscale

    found = llmscale.plan(table, **settings)
    if json:
        output.print_json(found.to_json())
    else:
        _show(found)
    output.warn_all(found.all_notes, every=notes)


def _show(found: "TrainingPlan") -> None:
    from llmscale.commands._fit_output import show_reading

    output.results.say("plan:", "bold", found.verdict, "bold")
    if found.disputed:
        output.results.say("disputed:", "bold", found.disputed)
    _show_choices(found)
    show_reading(found.judge.fit.origin, found.judge.fit.law.inputs)
    for name, text in found.said():
        output.results.say(f"{name}:", "bold", text)
    if found.drawn is not None:
        output.results.say("figure:", "bold", str(found.drawn))


def _show_choices(found: "TrainingPlan") -> None:
    """A row a choice; the costs that are known."""
    interval = f"{100 * found.level:g}% interval"
    costs = [name for name in _COSTS if any(_cost(one, name) for one in found.choices)]
    columns = ("run", "N", "D", found.forecast.metric, interval, *costs, found.flops_heading, "D/N")
    table = output.make_table("", *columns, left=1, least=_LEAST)
    for one in found.choices:
        loss = one.loss
        table.add_row(
            one.name,
            format_count(one.params),
            format_count(one.tokens),
            digits.number(loss.value, loss.low, loss.high),
            digits.ends(loss.low, loss.high, loss.value),
            *(_cost(one, name) for name in costs),
            f"{one.flops:.3g}",
            three_digits(one.tokens_per_param),
        )
    output.results.print(table)


def _cost(one: "Choice", heading: str) -> str:
    """A cost as text; empty if it is not known."""
    name, write = _COSTS[heading]
    value = None if one.cost is None else getattr(one.cost, name)
    return "" if value is None else write(value)

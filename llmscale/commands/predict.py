"""`llmscale predict`: forecast the loss of runs that nobody has made yet."""

import math
from typing import TYPE_CHECKING, Any

from llmscale.commands import output
from llmscale.commands._options import FitArgument, JsonOption, takes_settings
from llmscale.explain import digits
from llmscale.explain.api.settings import PredictSpec
from llmscale.quantity import format_count

if TYPE_CHECKING:
    from rich.text import Text

    from llmscale.explain.fit.two_steps import TaskForecast
    from llmscale.explain.forecast.chosen import Chosen
    from llmscale.explain.forecast.curve_end import EndForecast
    from llmscale.explain.forecast.forecast import Forecast


@takes_settings(PredictSpec, leave_out=("holdout", "intervals", "diagnostics"))
def predict(
    table: FitArgument = None,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Forecast the loss at a size and tokens, or at the best ones of a budget, with what such
    forecasts have held.

    Example: llmscale predict runs.csv --params 70B --tokens 1.4T
    """
    import llmscale

    found: Any = llmscale.predict(table, **settings)
    every = settings["law"] == "all"
    if json:
        output.print_json(found.to_json())
    elif settings["from_curve"]:
        _show_end(found)
    elif settings["task"]:
        _show_task(found, every=every)
    else:
        _show(found, every=every)
    output.warn_all(found.all_notes, every=notes)


def _show_end(found: "EndForecast") -> None:
    """The end of a run under way."""
    ends = ", without an interval"
    if math.isfinite(found.low):
        ends = f" ({100 * found.level:g}%)"
    loss = digits.with_ends(found.loss, found.low, found.high)
    said = f"{found.run} will end at loss {loss}{ends}"
    output.results.say("forecast:", "bold", said, "bold")
    at = f"N = {format_count(found.params)}, {found.share:.0%} of D = {format_count(found.tokens)}"
    now = f"training loss {digits.number(found.now)} now"
    output.results.print(output.styled(f"{at}; {now}; judged by {found.finished} finished runs"))
    if found.law_loss is not None:
        output.results.say(
            f"{found.law}:", "", f"{digits.number(found.law_loss)} for its size and tokens"
        )
    if found.coverage:
        output.results.say("coverage:", "", found.coverage)


def _show_task(found: "TaskForecast", *, every: bool) -> None:
    """The score of a task, by way of the loss."""
    output.results.say("forecast:", "bold", found.verdict, "bold")
    for name, said in found.steps.said():
        output.results.say(f"{name}:", "bold", said)
    _show_choice(found.loss, f"score = {found.steps.score.read}", every=every)
    interval = f"{100 * found.level:g}% interval"
    columns: list[str | Text] = [
        *_letters(found.loss),
        output.stacked("loss", interval),
        output.stacked(found.metric, interval),
        output.stacked("beyond", "the runs"),
    ]
    table = output.make_table(_heading(found.loss), *columns, left=0)
    for place, row in enumerate(found.rows()):
        loss = _with_ends(row["loss"], row["low"], row["high"])
        score = _with_ends(row["score"], row["score_low"], row["score_high"])
        table.add_row(*_asked(found.loss, place), loss, score, found.loss.how_far(place))
    output.results.print(table)
    for name, said in found.covered():
        output.results.say(f"{name}:", "", said)


def _show(found: "Forecast", *, every: bool) -> None:
    assert found.fit is not None
    fit = found.fit
    output.results.say("forecast:", "bold", found.verdict, "bold")
    fitted = f": {fit.formula}, fitted to {fit.origin.size}"
    output.results.print(output.styled((fit.law.name, "bold"), fitted))
    _show_choice(found, every=every)
    columns: list[str | Text] = [
        *_letters(found),
        found.metric,
        output.stacked(f"{100 * found.level:g}% interval", "(by noise alone)"),
        output.stacked("beyond", "the runs"),
    ]
    table = output.make_table(_heading(found), *columns, left=0)
    for place in range(len(found.rows())):
        table.add_row(*_cells(found, place))
    output.results.print(table)
    if found.widening:
        output.results.say("widened:", "", found.widening)
    if found.best_size:
        output.results.say("N*:", "", found.best_size)
    if found.coverage:
        output.results.say("coverage:", "", found.coverage)


def _show_choice(found: "Forecast", *read: str, every: bool) -> None:
    """Why this law, of `every` law what it erred and says, and which column became what; `read` are
    others."""
    from llmscale.commands._fit_output import show_reading

    assert found.fit is not None
    if found.chosen:
        output.results.say("law:", "", found.chosen.reason)
        if found.chosen.spread_text:
            output.results.print(output.styled(found.chosen.spread_text))
        if every:
            _show_contenders(found.chosen)
        for law, reason in found.chosen.left_out:
            output.results.say("left out:", "", f"{law} ({reason})")
    show_reading(found.fit.origin, found.fit.law.inputs, read)


def _show_contenders(chosen: "Chosen") -> None:
    """The laws that were asked, the one that is taken first."""
    points = len(chosen.contenders[0].loss)
    asked = "forecast" if points == 1 else "last forecast"
    table = output.make_table(
        "lower budgets asked for higher ones",
        "law",
        "error",
        "budgets",
        asked,
        "as good as the best",
    )
    for one in chosen.contenders:
        good = "yes" if one.as_good else "no"
        loss = digits.number(float(one.loss[-1]))
        table.add_row(one.law, one.error_text, str(one.budgets), loss, good)
    output.results.print(table)


def _heading(found: "Forecast") -> str:
    if found.optima:
        return "best of the budget"
    follows = {"flops", "params", "tokens"} <= set(found.at)
    return "forecast, with C = 6ND" if follows else "forecast"


def _letters(found: "Forecast") -> list[str]:
    from llmscale.explain.laws import LETTERS

    return [LETTERS.get(name, name) for name in found.at]


def _cells(found: "Forecast", place: int) -> "list[str | Text]":
    """One point: what was asked for, the loss, both intervals, and how far it lies beyond."""
    row = found.rows()[place]
    loss, low, high = row["loss"], row["low"], row["high"]
    wide = digits.ends(low, high, loss)
    plain = digits.ends(row["plain_low"], row["plain_high"], loss)
    below = f"({plain})" if math.isfinite(row["plain_low"]) else plain
    ends = output.stacked(wide, below)
    shown = digits.number(loss, low, high)
    return [*_asked(found, place), shown, ends, found.how_far(place)]


def _asked(found: "Forecast", place: int) -> "list[str | Text]":
    """What was asked for at one point; of a budget, with the intervals of its best."""
    return [output.stacked(cell, ends) if ends else cell for _, cell, ends in found.asked(place)]


def _with_ends(value: float, low: float, high: float) -> "Text":
    """A value above its interval."""
    return output.stacked(digits.number(value, low, high), digits.ends(low, high, value))

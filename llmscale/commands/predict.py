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
    if json:
        output.print_json(found.to_json())
    elif settings["from_curve"]:
        _show_end(found)
    else:
        _show(found)
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


def _show(found: "Forecast") -> None:
    from llmscale.commands._fit_output import show_reading
    from llmscale.explain.laws import LETTERS

    assert found.fit is not None
    fit = found.fit
    output.results.say("forecast:", "bold", found.verdict, "bold")
    fitted = f": {fit.formula}, fitted to {fit.origin.size}"
    output.results.print(output.styled((fit.law.name, "bold"), fitted))
    if found.chosen:
        output.results.say("law:", "", found.chosen.reason)
        if found.chosen.spread_text:
            output.results.say("", "", found.chosen.spread_text)
        for law, reason in found.chosen.left_out:
            output.results.say("left out:", "", f"{law} ({reason})")
    show_reading(fit.origin, fit.law.inputs)
    columns: list[str | Text] = [
        *(LETTERS.get(name, name) for name in found.at),
        found.metric,
        output.stacked(f"{100 * found.level:g}% interval", "by noise alone"),
        output.stacked("beyond", "the runs"),
    ]
    heading = "best of the budget" if found.optima else "forecast"
    table = output.make_table(heading, *columns, left=0)
    for place in range(len(found.rows())):
        table.add_row(*_cells(found, place))
    output.results.print(table)
    if found.widening:
        output.results.say("widened:", "", found.widening)
    if found.coverage:
        output.results.say("coverage:", "", found.coverage)


def _cells(found: "Forecast", place: int) -> "list[str | Text]":
    """One point: what was asked for, the loss, both intervals, and how far it lies beyond."""
    row = found.rows()[place]
    cells: list[str | Text] = [
        output.stacked(cell, ends) if ends else cell for _, cell, ends in found.asked(place)
    ]
    loss, low, high = row["loss"], row["low"], row["high"]
    wide = digits.ends(low, high, loss)
    plain = digits.ends(row["plain_low"], row["plain_high"], loss)
    beyond = digits.times(math.exp(row["horizon"])) if row["horizon"] > 0 else "inside"
    return [*cells, digits.number(loss, low, high), output.stacked(wide, plain), beyond]

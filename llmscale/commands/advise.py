"""`llmscale advise`: say what to train within limits of compute, text and serving."""

import math
from typing import TYPE_CHECKING, Any

from llmscale.commands import output
from llmscale.commands._options import FitArgument, JsonOption, takes_settings
from llmscale.explain import digits
from llmscale.explain.api.advise_settings import AdviseSpec
from llmscale.explain.planning.advice_said import ABOVE, above
from llmscale.explain.planning.said import three_digits
from llmscale.quantity import format_count, format_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmscale.explain.planning.advice import Advice
    from llmscale.explain.planning.deployment import Served
    from llmscale.explain.planning.estimate import Estimate


@takes_settings(AdviseSpec, leave_out=("holdout", "intervals", "diagnostics", "variable"))
def advise(
    table: FitArgument = None,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Say what to train within limits of compute, text, and memory and speed of serving: the shape,
    its tokens, the loss to expect, which limit binds, and what the alternatives cost.

    Example: llmscale advise runs.csv --flops 1e22 --serve-on l4 --tokens-per-second 20
    """
    import llmscale

    found = llmscale.advise(table, **settings)
    if json:
        output.print_json(found.to_json())
    else:
        _show(found)
    output.warn_all(found.all_notes, every=notes)


def _show(found: "Advice") -> None:
    from llmscale.commands._fit_output import show_reading

    output.results.say("advice:", "bold", found.verdict, "bold")
    if found.disputed:
        output.results.say("disputed:", "bold", found.disputed)
    fit = found.judge.fit
    fitted = f": {fit.formula}, fitted to {fit.origin.size}"
    output.results.print(output.styled((fit.law.name, "bold"), fitted))
    _show_options(found)
    score = [f"score = {found.steps.score.read}"] if found.steps is not None else []
    show_reading(fit.origin, fit.law.inputs, score)
    for name, text in found.said():
        output.results.say(f"{name}:", "", text)


def _show_options(found: "Advice") -> None:
    """A row a model: the advised one and the alternatives."""
    columns = {
        "model": [one.name for one in found.options],
        "shape": [one.model.shape.full_name for one in found.options],
        "N": [format_count(one.model.params) for one in found.options],
        "D": [format_count(one.model.tokens) for one in found.options],
        found.metric: [_value(one.choice.loss) for one in found.options],
    }
    interval = f"{100 * found.level:g}% interval"
    if found.advised.choice.loss.has_interval:
        columns[interval] = [_ends(one.choice.loss) for one in found.options]
    columns[ABOVE] = [above(one) for one in found.options]
    if found.steps is not None:
        columns[found.steps.score.column] = [_value(one.score) for one in found.options]
    columns |= _of_serving([one.served for one in found.options])
    table = output.make_table("", *columns, left=2, least=_least(found, interval))
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    output.results.print(table)


def _least(found: "Advice", interval: str) -> tuple[str, ...]:
    """Columns that can be left out, the first one first. Whoever asks for a score or for limits of
    serving wants these; the interval of the advised loss stands in the first sentence, too."""
    deployment = found.advised.model.limits.deployment
    if deployment is None:
        return (interval, "D") if found.steps is not None else ("D",)
    is_timed = deployment.tokens_per_second is not None
    memory_and_speed = ("memory", "tokens/s") if is_timed else ("tokens/s", "memory")
    return (interval, "D", *memory_and_speed)


def _of_serving(served: "Sequence[Served | None]") -> dict[str, list[str]]:
    """Memory and speed, as far as they are known."""
    known = [one for one in served if one is not None]
    if not known:
        return {}
    columns = {"memory": [format_memory(one.memory_bytes) for one in known]}
    if math.isfinite(known[0].tokens_per_second):
        columns["tokens/s"] = [three_digits(one.tokens_per_second) for one in known]
    return columns


def _value(one: "Estimate | None") -> str:
    return "" if one is None else digits.number(one.value, one.low, one.high)


def _ends(one: "Estimate") -> str:
    return digits.ends(one.low, one.high, one.value)

"""That the runs of a table put the best size elsewhere than its law does: said next to the size,
since who reads one line reads that."""

from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.notes.predicting import OPTIMUM_DISPUTED
from llmscale.quantity import format_count


def disputed(judge: Judge, best: Forecast) -> str:
    """What the lowest points of the table's budgets say of the best size, and what that costs by
    the law; empty if they do not contradict it, or nothing is known of them."""
    if not best.optima:
        return ""
    one = best.optima[0]
    is_disputed = any(note.code == OPTIMUM_DISPUTED.code for note in one.notes)
    if one.isoflop is None or not is_disputed:
        return ""
    said = one.isoflop
    size = Estimate(said.params, *said.interval).written(format_count)
    loss = float(judge.surface.loss(said.params, one.flops / (6.0 * said.params)))
    more = loss / one.loss - 1.0
    return (
        f"the lowest points of {said.budgets} budgets of the table put the best size at {size}; "
        f"by {judge.fit.law.name} its loss is {more:.1%} higher (optimum-disputed)"
    )

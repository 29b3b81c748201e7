"""Where a run lies on the laws that were fitted to its table, in words: for a model's card."""

from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.explain import digits
from llmscale.explain.estimation.result import Fit
from llmscale.explain.fit.kept import read_kept
from llmscale.explain.forecast.forecast import forecast
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run


def on_law(results: Path, run_id: str) -> str | None:
    """What every fit that is kept in `results` says of the run, a line each, and how far off its
    loss is; None if there is no fit, or the run has no loss."""
    folder = ResultsFolder(results)
    row = folder.run_folder(run_id).known_row()
    if row is None or row.loss is None:
        return None
    lines = []
    for path in sorted(results.glob("fit-*.json")):
        try:
            line = _line(read_kept(path), row, row.loss)
        except InputError:  # of a user's own law, or damaged: the card does without it
            continue
        if line:
            lines.append(line)
    return "\n".join(lines) or None


def _line(fit: Fit, row: Run, loss: float) -> str | None:
    """Of a law in another loss, or another N, nothing."""
    known = {"params": row.params, "tokens": row.tokens, "flops": row.flops}
    takes = {*fit.law.inputs, "loss"}
    is_of_run = all(fit.origin.columns.get(name) == name for name in takes)
    if not is_of_run or not set(fit.law.inputs) <= set(known):
        return None
    inputs: dict[str, Any] = {name: float(known[name]) for name in fit.law.inputs}
    found = forecast(fit, **inputs)
    low, high = float(found.low), float(found.high)
    off = loss / float(found.loss) - 1
    side = "above" if off > 0 else "below"
    return (
        f"- `{fit.law.name}`, {fit.formula}, fitted to {fit.origin.runs} runs, gives "
        f"{digits.with_ends(float(found.loss), low, high)} for its size and tokens; the run's loss "
        f"is {abs(off):.2%} {side} that."
    )

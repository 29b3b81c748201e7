"""A sweep as people see it: one table of runs, while they are trained and from their folder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmscale.commands import output
from llmscale.measure.sweep.run_status import UNDER_WAY
from llmscale.measure.train.finetuning import FINETUNED
from llmscale.quantity import format_count, format_seconds
from llmscale.runs.title import short_name, short_title

if TYPE_CHECKING:
    from rich.table import Table

    from llmscale.measure.sweep.run_status import RunStatus

ROWS_SHOWN = 40
"""Runs that are listed one by one; of more, those that have ended or wait are summed up by size."""
_STYLES = {
    "done": "green",
    "running": "cyan",
    "evaluating": "cyan",
    "failed": "red",
    "diverged": "red",
    "stalled": "yellow",
}
_BEGUN = ("running", "stalled", "evaluating", "stopped")
_BAR_FROM_WIDTH = 100


def runs_table(
    title: str,
    runs: "Sequence[RunStatus]",
    width: int,
    everything: bool = False,
    rates: bool = False,
) -> "Table":
    """A row a run, or if they are many, one for those of a size that are equally far. It says
    learning rates and batches if asked to, or if these tell runs apart."""
    wide = width >= _BAR_FROM_WIDTH
    rates = rates or has_rates(runs)
    headings = ["size", "tokens", "status", "loss", "tokens/s", "MFU", "spent", "left"]
    if wide:
        headings.insert(3, "")
    if rates:
        headings[2:2] = ["lr", "batch"]
    table = output.make_table(title, *headings, least=("MFU", "tokens/s", "spent"))
    for group in _groups(runs, everything):
        cells = _cells(group)
        if wide:
            cells.insert(3, _bar(group))
        if rates:
            cells[2:2] = _rates(group)
        table.add_row(*cells)
    return table


def run_title(run: "RunStatus", rates: bool = False) -> str:
    """How a run is called next to others: its size, its tokens, and what differs from the usual.
    With `rates` its learning rate and batch, too."""
    title = short_title(run)
    if rates and run.lr and run.batch_tokens:
        title += f", lr {run.lr:.3g}, batch {format_count(run.batch_tokens)}"
    return title


def has_rates(runs: "Sequence[RunStatus]") -> bool:
    """Whether learning rates or batches tell runs apart that are called alike, as in a tuning."""
    found: dict[tuple[object, ...], tuple[float | None, int | None]] = {}
    for run in runs:
        name = (run.size, run.recipe, run.tokens, run.seed)
        rate = (run.lr, run.batch_tokens)
        if found.setdefault(name, rate) != rate:
            return True
    return False


def run_state(run: "RunStatus") -> str:
    """Its state, and of a run that has begun, how far it has got."""
    has_begun = run.state in _BEGUN or (run.state != "done" and run.tokens_done)
    return f"{run.state} {run.share_done:4.0%}" if has_begun else run.state


def run_loss(run: "RunStatus") -> str:
    """Its validation loss, or else the training loss."""
    if run.loss is not None:
        return f"{run.loss:.4f}"
    return f"train {run.train_loss:.3f}" if run.train_loss is not None else ""


def mfu_text(mfu: float | None) -> str:
    """A share of the peak; a dash if it is above 1, and nothing if it is not known. Nothing trains
    faster than the peak: that was measured while other programs were at work."""
    if not mfu:
        return ""
    return f"{mfu:.0%}" if mfu <= 1 else "-"


def time_text(seconds: float | None) -> str:
    """A time, if one is known and not 0."""
    return format_seconds(seconds) if seconds else ""


def _groups(runs: "Sequence[RunStatus]", everything: bool) -> "list[list[RunStatus]]":
    if everything or len(runs) <= ROWS_SHOWN:
        return [[run] for run in runs]
    groups: dict[tuple[str, ...], list[RunStatus]] = {}
    for run in runs:
        apart = run.run_id if run.state in UNDER_WAY else ""
        groups.setdefault((run.size, run.recipe, run.state, apart), []).append(run)
    return list(groups.values())


def _cells(group: "list[RunStatus]") -> list[Any]:
    run = group[0]
    style = _STYLES.get(run.state, "")
    if len(group) == 1:
        return [
            _name(run),
            format_count(run.tokens),
            output.styled((run_state(run), style)),
            run_loss(run),
            format_count(run.tokens_per_second) if run.tokens_per_second else "",
            mfu_text(run.mfu),
            time_text(run.seconds_spent),
            time_text(run.seconds_left),
        ]
    losses = [one.loss for one in group if one.loss is not None]
    budgets = [one.tokens for one in group]
    return [
        run.size if run.recipe == "default" else f"{run.size} {run.recipe}",
        f"{format_count(min(budgets))}–{format_count(max(budgets))}",
        output.styled((f"{len(group)} {run.state}", style)),
        f"{min(losses):.3f}–{max(losses):.3f}" if losses else "",
        "",
        "",
        time_text(sum(one.seconds_spent for one in group)),
        time_text(sum(one.seconds_left or 0.0 for one in group)),
    ]


def _name(run: "RunStatus") -> str:
    is_branch = run.parent is not None and run.recipe not in FINETUNED
    return f"{short_name(run)} branch" if is_branch else short_name(run)


def _bar(group: "list[RunStatus]") -> Any:
    from rich.progress_bar import ProgressBar

    run = group[0]
    if len(group) > 1 or not run.tokens_done:
        return ""
    return ProgressBar(total=1.0, completed=run.share_done, width=16)


def _rates(group: "list[RunStatus]") -> list[str]:
    """The learning rate and the batch of a trial; of several, which of them they have in common."""
    rates, batches = {run.lr for run in group}, {run.batch_tokens for run in group}
    lr, batch = group[0].lr, group[0].batch_tokens
    shown_lr = f"{lr:.3g}" if lr and len(rates) == 1 else ""
    shown_batch = format_count(batch) if batch and len(batches) == 1 else ""
    return [shown_lr, shown_batch]

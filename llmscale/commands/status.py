"""`llmscale status`: how a sweep stands, while it runs and afterwards."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.errors import InputError
from llmscale.errors.printable import one_line
from llmscale.notes import MOST_SHOWN
from llmscale.quantity import format_count, format_seconds
from llmscale.runs.title import short_name, short_title
from llmscale.settings import Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from llmscale.measure.sweep.run_status import RunStatus
    from llmscale.measure.sweep.status import SweepStatus
    from llmscale.runs.results_folder import ResultsFolder

SECONDS_BETWEEN_LOOKS = 2.0
ROWS_SHOWN = 40
"""Runs that are listed one by one; of more, those that have ended or wait are summed up by size."""
CURVES_A_SIZE = 6
_STYLES = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "diverged": "red",
    "stalled": "yellow",
}
_BAR_FROM_WIDTH = 100
_LONGEST_LABEL = 20


def status(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER", help="A results folder or URL; default the newest under results/."
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Stay, and show what changes until the sweep ends."),
    ] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Draw the loss curves, too.")] = False,
    price: Annotated[
        float | None,
        typer.Option(min=0.0, help="Price of an hour of a GPU (or core): shows the cost in it."),
    ] = None,
    all: Annotated[
        bool, typer.Option("--all", help=f"List all runs, also more than {ROWS_SHOWN}.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the runs of a sweep, what each has reached, and what is left: while it runs, stopped or
    finished.

    Example: llmscale status results/cpu --curves
    """
    if watch and json:
        raise InputError("--watch and --json were both given", "ask for --json again and again")
    Range(0, 1e9).check("--price", price)
    from llmscale.measure.sweep.status import find_results
    from llmscale.measure.sweep.status import status as look
    from llmscale.runs.remote import is_url

    found = find_results(folder)
    where = folder if folder is not None and is_url(folder) else str(found.path)
    if watch:
        _watch(found, where, curves, price, all)
    elif json:
        now = look(where)
        cost = {} if price is None else {"price": price, "cost": now.device_hours * price}
        output.print_json({**now.to_json(), **cost, **_curves_json(found, now, curves)})
    else:
        now = look(where)
        for part in _parts(found, now, curves, price, all):
            output.results.print(part)
        output.show_next(now.next_command)


def _watch(
    folder: "ResultsFolder", where: str, curves: bool, price: float | None, everything: bool
) -> None:
    """Show the sweep until nobody carries it out any more."""
    from rich.live import Live

    from llmscale.measure.sweep.status import status as look

    now = look(where)
    if not output.results.is_terminal:
        _watch_by_lines(where, now)
        return
    try:
        with Live(console=output.results, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(_drawn(folder, now, curves, price, everything), refresh=True)
                if now.holder is None:
                    break
                time.sleep(SECONDS_BETWEEN_LOOKS)
                now = look(where)
    except KeyboardInterrupt:
        output.tell("left; the sweep goes on")
        raise typer.Exit(output.EXIT_INTERRUPTED) from None


def _watch_by_lines(where: str, now: "SweepStatus") -> None:
    """One line for every run that has changed its state or reached another tenth."""
    from llmscale.measure.sweep.status import status as look

    before: dict[str, tuple[str, int]] = {}
    while True:
        for run in now.runs:
            place = run.state, int(10 * run.share_done) if run.state == "running" else 0
            if before.get(run.run_id) != place:
                before[run.run_id] = place
                output.print_text("  ".join(part for part in _line(run) if part))
        if now.holder is None:
            output.print_text(now.summary)
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)
        now = look(where)


def _line(run: "RunStatus") -> tuple[str, ...]:
    left = f"{format_seconds(run.seconds_left)} left" if run.seconds_left is not None else ""
    return (
        short_title(run),
        _state(run),
        _loss(run),
        left,
        run.note or "",
    )


def _drawn(
    folder: "ResultsFolder", now: "SweepStatus", curves: bool, price: float | None, everything: bool
) -> "RenderableType":
    from rich.console import Group

    next_step = output.styled(("next: ", "dim"), now.next_command)
    return Group(*_parts(folder, now, curves, price, everything), next_step)


def _parts(
    folder: "ResultsFolder", now: "SweepStatus", curves: bool, price: float | None, everything: bool
) -> "list[RenderableType]":
    parts: list[Any] = [_table(now, everything), output.styled(now.summary)]
    shown, more = now.notes[:MOST_SHOWN], len(now.notes) - MOST_SHOWN
    parts += [output.styled((f"warning: {note}", "yellow")) for note in shown]
    if more > 0:
        parts.append(output.styled(f"and {more} more: --json"))
    for run in _noted(now):
        parts.append(output.styled((f"{short_title(run)}: {run.note}", "yellow")))
    if curves:
        parts += [output.styled(""), _curves(folder, now)]
    parts.append(output.styled(_spent(now, price)))
    if now.holder:
        parts.append(output.styled(f"carried out by {now.holder}"))
    return parts


def _noted(now: "SweepStatus") -> "Sequence[RunStatus]":
    return [run for run in now.runs if run.note][:10]


def _table(now: "SweepStatus", everything: bool) -> "Table":
    wide = output.results.width >= _BAR_FROM_WIDTH
    tuning = ("lr", "batch") if now.tuned is not None else ()
    headings = (
        "size",
        "tokens",
        *tuning,
        "status",
        *(("",) if wide else ()),
        "loss",
        "tokens/s",
        "MFU",
        "spent",
        "left",
    )
    runs = "run" if len(now.runs) == 1 else "runs"
    least = ("MFU", "tokens/s", "spent")
    table = output.make_table(f"{now.folder}: {len(now.runs)} {runs}", *headings, least=least)
    for group in _groups(now.runs, everything):
        size, tokens, *others = _cells(group, wide)
        table.add_row(size, tokens, *(_settings(group) if tuning else ()), *others)
    return table


def _groups(runs: "Sequence[RunStatus]", everything: bool) -> "list[list[RunStatus]]":
    """The rows of the table: each a run, or where they are many, those of one size that are equally
    far.
    """
    if everything or len(runs) <= ROWS_SHOWN:
        return [[run] for run in runs]
    groups: dict[tuple[str, ...], list[RunStatus]] = {}
    for run in runs:
        apart = run.run_id if run.state in ("running", "stalled") else ""
        groups.setdefault((run.size, run.recipe, run.state, apart), []).append(run)
    return list(groups.values())


def _cells(group: "list[RunStatus]", wide: bool) -> list[Any]:
    from rich.progress_bar import ProgressBar

    run = group[0]
    bar = (
        [ProgressBar(total=1.0, completed=run.share_done, width=16) if run.tokens_done else ""]
        if wide
        else []
    )
    if len(group) == 1:
        return [
            short_name(run),
            format_count(run.tokens),
            output.styled((_state(run), _STYLES.get(run.state, ""))),
            *bar,
            _loss(run),
            format_count(run.tokens_per_second) if run.tokens_per_second else "",
            f"{run.mfu:.0%}" if run.mfu else "",
            format_seconds(run.seconds_spent) if run.seconds_spent else "",
            format_seconds(run.seconds_left) if run.seconds_left is not None else "",
        ]
    losses = [one.loss for one in group if one.loss is not None]
    left = [one.seconds_left for one in group if one.seconds_left is not None]
    budgets = [one.tokens for one in group]
    spent = sum(one.seconds_spent for one in group)
    return [
        run.size if run.recipe == "default" else f"{run.size} {run.recipe}",
        f"{format_count(min(budgets))}–{format_count(max(budgets))}",
        output.styled((f"{len(group)} {run.state}", _STYLES.get(run.state, ""))),
        *([""] if wide else []),
        f"{min(losses):.3f}–{max(losses):.3f}" if losses else "",
        "",
        "",
        format_seconds(spent) if spent else "",
        format_seconds(sum(left)) if left else "",
    ]


def _settings(group: "list[RunStatus]") -> tuple[str, str]:
    """The learning rate and the batch of a trial; of several, which of them they have in common."""
    rates, batches = {run.lr for run in group}, {run.batch_tokens for run in group}
    lr = f"{group[0].lr:.3g}" if len(rates) == 1 and group[0].lr else ""
    return lr, format_count(group[0].batch_tokens) if len(batches) == 1 and group[
        0
    ].batch_tokens else ""


def _state(run: "RunStatus") -> str:
    begun = run.state in ("running", "stalled", "stopped") or (
        run.state != "done" and run.tokens_done
    )
    return f"{run.state} {run.share_done:4.0%}" if begun else run.state


def _loss(run: "RunStatus") -> str:
    if run.loss is not None:
        return f"{run.loss:.4f}"
    return f"train {run.train_loss:.3f}" if run.train_loss is not None else ""


def _spent(now: "SweepStatus", price: float | None) -> str:
    cost = f", {now.device_hours * price:,.2f} at {price:g} an hour" if price is not None else ""
    return f"spent so far: {now.device_hours:.3g} {now.unit} hours{cost}"


def _chosen(now: "SweepStatus") -> "list[RunStatus]":
    """The runs whose curves are drawn: at most so many a size, evenly from all that have begun."""
    by_size: dict[tuple[str, str], list[RunStatus]] = {}
    for run in now.runs:
        if run.tokens_done or run.state == "diverged":
            by_size.setdefault((run.size, run.recipe), []).append(run)
    chosen = []
    for of_size in by_size.values():
        step = max(1.0, len(of_size) / CURVES_A_SIZE)
        chosen += [
            of_size[int(number * step)] for number in range(min(CURVES_A_SIZE, len(of_size)))
        ]
    return chosen


def _curves(folder: "ResultsFolder", now: "SweepStatus") -> Any:
    from llmscale.commands._terminal_curves import Line, draw_curves
    from llmscale.measure.sweep.loss_curves import loss_curves

    lines = [
        Line(one_line(curve.size)[:_LONGEST_LABEL], curve.tokens, curve.train_loss)
        for curve in loss_curves(folder, _chosen(now))
    ]
    width = min(output.results.width, 120)
    return draw_curves(lines, width, 18, "training tokens", "train loss")


def _curves_json(folder: "ResultsFolder", now: "SweepStatus", wanted: bool) -> dict[str, Any]:
    from llmscale.measure.sweep.loss_curves import loss_curves

    if not wanted:
        return {}
    return {"curves": [curve.to_json() for curve in loss_curves(folder, now.runs)]}

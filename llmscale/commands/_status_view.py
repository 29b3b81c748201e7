"""What `llmscale status` looks at and shows: once, or until the sweep ends."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from llmscale.commands import output
from llmscale.commands._sweep_view import (
    has_rates,
    run_loss,
    run_state,
    run_title,
    runs_table,
    time_text,
)
from llmscale.errors import counted
from llmscale.errors.printable import one_line
from llmscale.notes import MOST_SHOWN

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmscale.explain.forecast.curve_end import EndForecast
    from llmscale.measure.sweep.run_status import RunStatus
    from llmscale.measure.sweep.status import SweepStatus
    from llmscale.runs.results_folder import ResultsFolder

SECONDS_BETWEEN_LOOKS = 2.0
CURVES_A_SIZE = 6
_LONGEST_LABEL = 20
_MOST_NOTES = 10


def watch(
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
        rates = now.tuned is not None or has_rates(now.runs)
        for run in now.runs:
            place = run.state, int(10 * run.share_done) if run.state == "running" else 0
            if before.get(run.run_id) != place:
                before[run.run_id] = place
                output.print_text("  ".join(part for part in _line(run, rates) if part))
        if now.holder is None:
            output.print_text(now.summary)
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)
        now = look(where)


def _line(run: "RunStatus", rates: bool) -> tuple[str, ...]:
    time_left = time_text(run.seconds_left)
    left = f"{time_left} left" if time_left else ""
    return run_title(run, rates), run_state(run), run_loss(run), left, run.note or ""


def _drawn(
    folder: "ResultsFolder", now: "SweepStatus", curves: bool, price: float | None, everything: bool
) -> "RenderableType":
    from rich.console import Group

    next_step = output.styled(("next: ", "dim"), now.next_command)
    return Group(*parts_of(folder, now, curves, price, everything), next_step)


def ends_of(folder: "ResultsFolder", now: "SweepStatus") -> "list[EndForecast]":
    """Where the runs that are being trained will end, as far as finished ones tell."""
    if not any(run.is_under_way for run in now.runs):
        return []
    from llmscale.explain.forecast.folder_curves import ends_under_way

    return ends_under_way(folder, now.runs)


def parts_of(
    folder: "ResultsFolder",
    now: "SweepStatus",
    curves: bool,
    price: float | None,
    everything: bool,
    ends: "Sequence[EndForecast]" = (),
) -> "list[RenderableType]":
    count = counted(len(now.runs), "run")
    rates = now.tuned is not None or has_rates(now.runs)
    title = f"{now.folder}: {count}"
    table = runs_table(title, now.runs, output.results.width, everything, rates)
    parts: list[Any] = [table, output.styled(now.summary)]
    shown, more = now.notes[:MOST_SHOWN], len(now.notes) - MOST_SHOWN
    parts += [output.styled((f"warning: {note}", "yellow")) for note in shown]
    if more > 0:
        parts.append(output.styled(f"and {more} more: --json"))
    for run in [run for run in now.runs if run.note][:_MOST_NOTES]:
        parts.append(output.styled((f"{run_title(run, rates)}: {run.note}", "yellow")))
    if curves:
        parts += [output.styled(""), _curves(folder, now)]
    for end in ends:
        parts.append(output.styled(end.sentence))
        parts += [output.styled((f"warning: {note}", "yellow")) for note in end.notes]
    parts.append(output.styled(_spent(now, price)))
    if now.holder:
        parts.append(output.styled(f"carried out by {now.holder}"))
    return parts


def _spent(now: "SweepStatus", price: float | None) -> str:
    cost = f", {now.device_hours * price:,.2f} at {price:g} an hour" if price is not None else ""
    return f"spent so far: {now.device_hours:.3g} {now.unit} hours{cost}"


def _chosen(now: "SweepStatus") -> "list[RunStatus]":
    """The runs with a curve drawn: at most this many a size, evenly from all that have begun."""
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


def as_json(
    folder: "ResultsFolder", now: "SweepStatus", curves: bool, price: float | None
) -> dict[str, Any]:
    """What `status --json` prints, with the loss `curves` and the cost if they are asked for."""
    from llmscale.measure.sweep.loss_curves import loss_curves

    said = now.to_json()
    if price is not None:
        said |= {"price": price, "cost": now.device_hours * price}
    if curves:
        said["curves"] = [curve.to_json() for curve in loss_curves(folder, now.runs)]
    said["forecasts"] = [end.to_json() for end in ends_of(folder, now)]
    return said

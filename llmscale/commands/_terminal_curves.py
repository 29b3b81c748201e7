"""Curves in a terminal: braille dots on logarithmic axes, one colour a size, each size named where
its curves end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from llmscale.quantity import format_count

COLOURS = ("blue", "cyan", "green", "yellow", "magenta", "red", "bright_blue", "bright_cyan",
    "bright_green",
           "bright_yellow", "bright_magenta", "bright_red")  # fmt: skip
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character, by row and column of its 4 x 2 dots."""
_LEFT = 7
"""Columns before the frame, for the labels of the vertical axis."""
_DECADES = 3.0
"""Decades of the horizontal axis, at most: what is before them is the first few steps."""


@dataclass(frozen=True)
class Line:
    """One curve. Lines of one `name` share colour and label."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def draw_curves(lines: Sequence[Line], width: int, height: int, x_title: str, y_title: str) -> Text:
    """The `lines` in a frame of `height` rows, all in `width` columns; x and y are above zero. What
    is not finite is left out."""
    usable = [_usable(line) for line in lines]
    usable = [line for line in usable if line.x]
    if not usable:
        return Text("nothing has been logged so far")
    names = list(dict.fromkeys(line.name for line in usable))
    right = max(len(name) for name in names) + 1
    columns = max(10, width - _LEFT - 2 - right)
    x_high = math.log(max(max(line.x) for line in usable))
    x_low = max(math.log(min(min(line.x) for line in usable)), x_high - _DECADES * math.log(10))
    seen = [
        y for line in usable for x, y in zip(line.x, line.y, strict=True) if math.log(x) >= x_low
    ]
    y_low, y_high = math.log(min(seen)), math.log(max(seen))
    x_span, y_span = max(x_high - x_low, 1e-9), max(y_high - y_low, 1e-3)
    dots = _Dots(columns, height)
    ends: dict[str, list[float]] = {name: [] for name in names}
    for line in usable:
        track: dict[int, list[float]] = {}
        for x, y in zip(line.x, line.y, strict=True):
            if (at := math.log(x)) >= x_low:
                place = round((at - x_low) / x_span * (2 * columns - 1))
                track.setdefault(place, []).append(
                    (y_high - math.log(y)) / y_span * (4 * height - 1)
                )
        path = [(place, sum(rows) / len(rows)) for place, rows in sorted(track.items())]
        dots.draw(path, names.index(line.name))
        if path:
            ends[line.name].append(path[-1][1] / 4)
    labels = _labels({name: sum(rows) / len(rows) for name, rows in ends.items() if rows}, height)
    ticks = {
        round((y_high - math.log(value)) / y_span * (height - 1)): value
        for value in _ticks(y_low, y_high)
    }
    drawn = Text(f"{y_title:>{_LEFT}}\n", style="dim", no_wrap=True)
    for row in range(height):
        tick = f"{ticks[row]:>{_LEFT - 1}.3g} ┤" if row in ticks else " " * _LEFT + "│"
        drawn.append(tick, style="dim")
        for column in range(columns):
            drawn.append(*dots.cell(row, column))
        if row in labels:
            drawn.append(f" {labels[row]}", style=_colour(names.index(labels[row])))
        drawn.append("\n")
    drawn.append(_bottom(x_low, x_span, columns, x_title), style="dim")
    return drawn


class _Dots:
    """A canvas of 2 x 4 dots a character; a character has the colour of what was drawn there
    last."""

    def __init__(self, columns: int, rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._bits: dict[tuple[int, int], int] = {}
        self._owner: dict[tuple[int, int], int] = {}

    def draw(self, path: Sequence[tuple[int, float]], owner: int) -> None:
        """Join the dots of `path`, from left to right."""
        for (x, y), (next_x, next_y) in zip(
            path, [*path[1:], path[-1]] if path else [], strict=True
        ):
            steps = max(1, next_x - x, math.ceil(abs(next_y - y)))
            for step in range(steps + 1):
                self._set(
                    round(x + (next_x - x) * step / steps),
                    round(y + (next_y - y) * step / steps),
                    owner,
                )

    def _set(self, x: int, y: int, owner: int) -> None:
        if 0 <= x < 2 * self._columns and 0 <= y < 4 * self._rows:
            cell = y // 4, x // 2
            self._bits[cell] = self._bits.get(cell, 0) | _DOTS[y % 4][x % 2]
            self._owner[cell] = owner

    def cell(self, row: int, column: int) -> tuple[str, str]:
        """The character and its colour."""
        bits = self._bits.get((row, column), 0)
        return (chr(0x2800 + bits), _colour(self._owner[row, column])) if bits else (" ", "")


def _usable(line: Line) -> Line:
    pairs = [
        (x, y) for x, y in zip(line.x, line.y, strict=True) if x > 0 and y > 0 and math.isfinite(y)
    ]
    return Line(line.name, [x for x, _ in pairs], [y for _, y in pairs])


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _labels(ends: dict[str, float], height: int) -> dict[int, str]:
    """Which name stands in which row: as near to the end of its curves as those above it allow."""
    placed: dict[int, str] = {}
    names = sorted(ends, key=lambda name: ends[name])
    row = -1
    for number, name in enumerate(names):
        row = max(row + 1, min(int(ends[name]), height - (len(names) - number)))
        if row < height:
            placed[row] = name
    return placed


def _ticks(low: float, high: float) -> list[float]:
    """At most six round values between exp(low) and exp(high)."""
    bottom, top = math.exp(low), math.exp(high)
    least = (top - bottom) / 5
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)
    return [step * number for number in range(math.ceil(bottom / step), math.floor(top / step) + 1)]


def _bottom(low: float, span: float, columns: int, title: str) -> str:
    """The horizontal axis: its line with ticks at 1, 2, 5 x 10^n as far as their labels have room,
    and their labels."""
    line, labels = ["─"] * columns, [" "] * (columns + 2)
    free = 0
    first = math.floor(low / math.log(10))
    values = [factor * 10.0**power for power in range(first, first + 6) for factor in (1, 2, 5)]
    for value in values:
        place = round((math.log(value) - low) / span * (columns - 1))
        label = format_count(value)
        start = max(0, place - len(label) // 2)
        if 0 <= place < columns and start >= free and start + len(label) <= len(labels):
            line[place] = "┬"
            labels[start : start + len(label)] = label
            free = start + len(label) + 2
    margin = " " * _LEFT
    return (
        f"{margin}└{''.join(line)}\n{margin} {''.join(labels).rstrip()}\n{margin} "
        f"{title.center(columns).rstrip()}"
    )

"""What benchmarks/train.py found out, as tables."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import rich.console
import rich.table

from llmscale.quantity import format_bytes, format_count, format_seconds
from llmscale.runs.shape import Shape
from training import nanogpt
from training.ladder import Ladder, seconds_to

OURS = "llmscale"

console = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 130)


@dataclass(frozen=True)
class Measured:
    """All rounds of a contender. Tokens/s and memory are those of its processes together."""

    size: str
    name: str
    dtype: str
    batch: int
    at_a_time: int
    tokens_per_second: tuple[float, ...]
    first_step_seconds: tuple[float, ...]
    """The first round's includes what a compiler keeps for the later ones."""
    peak_memory_bytes: int
    flops_per_token: int

    @property
    def is_ours(self) -> bool:
        return self.name == OURS

    @property
    def speed(self) -> float:
        """Tokens/s, the median of the rounds."""
        return statistics.median(self.tokens_per_second)

    def mfu(self, peaks: Mapping[str, float]) -> float:
        """Share that its own FLOPs come to of the best of `peaks`, the FLOP/s of matrix products by
        dtype.
        """
        return self.speed * self.flops_per_token / max(peaks.values())


def show_speeds(
    size: str, shape: Shape, rows: Sequence[Measured], peaks: Mapping[str, float]
) -> None:
    """The table of one size, and how many times as fast ours is as nanoGPT at its best and by its
    defaults.
    """
    counts = (
        f"N {format_count(shape.params)}, {format_count(shape.params_non_embedding)} of it "
        "non-embedding"
    )
    theirs = f"nanoGPT's {format_count(nanogpt.params(shape))}"
    where = f"context {shape.context}, vocabulary {shape.vocab_size}"
    console.print(f"{size}: {shape.name} {shape.arch}, {counts}; {theirs}; {where}")
    table = rich.table.Table(box=None, pad_edge=False)
    headings = (
        "",
        "dtype",
        "batch",
        "processes",
        "tokens/s",
        "least - most",
        "MFU",
        "memory",
        "first step",
        "later",
    )
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < 2 else "right", no_wrap=True)
    for row in rows:
        least, most = min(row.tokens_per_second), max(row.tokens_per_second)
        later = row.first_step_seconds[1:]
        table.add_row(
            row.name,
            row.dtype,
            str(row.batch),
            str(row.at_a_time),
            f"{row.speed:,.0f}",
            f"{least:,.0f} - {most:,.0f}",
            f"{row.mfu(peaks):.0%}",
            format_bytes(row.peak_memory_bytes),
            format_seconds(row.first_step_seconds[0]),
            format_seconds(statistics.median(later)) if later else "",
        )
    console.print(table)
    console.print(
        "matrix products on all cores: "
        f"{', '.join(f'{dtype} {peak:.3g} FLOP/s' for dtype, peak in peaks.items())}"
    )
    ours = max((row for row in rows if row.is_ours), key=lambda row: row.speed)
    others = [row for row in rows if not row.is_ours]
    if others:
        best = max(others, key=lambda row: row.speed)
        plain = max(
            (row for row in others if row.name == others[0].name and row.batch == others[0].batch),
            key=lambda row: row.speed,
        )
        console.print(
            f"{size}: llmscale / nanoGPT in tokens/s: {ours.speed / best.speed:.2f} (both at "
            f"their best), {ours.speed / plain.speed:.2f} (nanoGPT by its defaults)\n"
        )


def show_ladders(rounds: Sequence[Sequence[Ladder]], sizes: Sequence[str], what: str) -> None:
    """The table of all ways, the last of which is ours, and when ours reached the losses of the
    others.
    """
    ours = rounds[-1][0]
    our_seconds = statistics.median(one.seconds for one in rounds[-1])
    console.print(f"Ladder: {what}")
    table = rich.table.Table(box=None, pad_edge=False)
    for place, heading in enumerate(
        ("", "at a time", "wall clock", "least - most", "/ llmscale", *sizes)
    ):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for passes in rounds:
        seconds = [one.seconds for one in passes]
        middle = statistics.median(seconds)
        losses = [f"{passes[0].losses[size]:.4f}" for size in sizes]
        spread = f"{min(seconds):.1f} - {max(seconds):.1f}"
        table.add_row(
            passes[0].name,
            str(passes[0].at_a_time),
            f"{middle:.1f} s",
            spread,
            f"{middle / our_seconds:.2f}",
            *losses,
        )
    console.print(table)
    console.print("under each size: final validation loss, nats per token, of the same tokens")
    for name in dict.fromkeys(passes[0].name for passes in rounds[:-1]):
        theirs = next(passes[0] for passes in rounds if passes[0].name == name)
        for size in sizes:
            reached, whole = (
                seconds_to(theirs.losses[size], ours.reached[size]),
                max(ours.reached[size]),
            )
            when = (
                f"after {reached:.1f} s of its {whole:.1f} s of training"
                if reached is not None
                else "never"
            )
            console.print(
                f"apart from that: llmscale's {size} reached the loss of {name}, "
                f"{theirs.losses[size]:.4f}, {when}"
            )

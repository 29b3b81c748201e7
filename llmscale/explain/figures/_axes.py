"""Axes that read well in a narrow column: counts as 10k, several labels a decade; perplexity."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullFormatter, NullLocator

from llmscale.quantity import format_count

LABELS = {
    "params": "Parameters N (non-embedding + output)",
    "params_non_embedding": "Non-embedding parameters N",
    "params_total": "Parameters N (all)",
    "tokens": "Training tokens D",
    "flops": "Training compute C (FLOPs)",
    "loss": "Loss (nats per token)",
    "perplexity": "Perplexity",
}
_MANTISSAS = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7))


def spaced_ticks(
    low: float, high: float, place: Callable[[float], float] = math.log, most: int = 6
) -> list[float]:
    """At most about `most` round numbers in [low, high], none crowded where `place` puts it.

    Of every scale of round numbers the one with most ticks wins, so that a log axis from 2.9 to 4.2
    gets 3, 3.2, 3.4 … and one from 10 to 10 000 gets decades."""
    steps = [step * 10.0**power for power in range(-8, 7) for step in (1, 2, 5)]
    candidates = [_multiples(low, high, step) for step in steps if step <= high]
    candidates += [decades(low, high, mantissas) for mantissas in _MANTISSAS]
    gap = (place(high) - place(low)) / (most + 0.5)
    spaced = [ticks for ticks in candidates if _gap(ticks, place) >= gap]
    if low > 0 and high / low > 4:  # no single step suits both ends: thin a dense list from the top
        spaced.append(_thinned(decades(low, high, _MANTISSAS[-1]), place, gap))
    return max(spaced, key=len, default=[])


def log_count_axis(axis: Axis, limits: tuple[float, float], *, powers: bool = False) -> None:
    """Log ticks labelled 10k, 100k, 1M or, with `powers`, as powers of ten; 3 or 2 and 5 too."""
    low, high = limits
    width = math.log10(high / low)
    mantissas = next((m for m in _MANTISSAS if len(decades(low, high, m)) >= 3), _MANTISSAS[-1])
    if powers:
        mantissas = (1,) if len(decades(low, high, (1,))) >= 2 else mantissas
    ticks = decades(low, high, mantissas)
    if len(ticks) < 2:  # of a short axis
        ticks = spaced_ticks(low, high)
    most = 4 if powers else 6
    while len(ticks) > most:
        ticks = ticks[::2] if len(ticks) % 2 else ticks[1::2]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(
        FixedFormatter([_power(tick) if powers else format_count(tick) for tick in ticks])
    )
    axis.set_minor_locator(LogLocator(subs=tuple(range(1, 10))) if width < 6 else NullLocator())
    axis.set_minor_formatter(NullFormatter())


def log_axis(axis: Axis, limits: tuple[float, float], *, powers: bool = False) -> None:
    """A log axis over `limits`, labelled as `log_count_axis` does."""
    set_axis(axis, "log", limits)
    log_count_axis(axis, limits, powers=powers)


def set_axis(axis: Axis, scale: str, limits: tuple[float, float]) -> None:
    """Scale and limits of an axis."""
    ax = axis.axes
    if axis is ax.xaxis:
        ax.set_xscale(scale)
        ax.set_xlim(*limits)
    else:
        ax.set_yscale(scale)
        ax.set_ylim(*limits)


def log_loss_axis(
    ax: Axes, limits: tuple[float, float], *, most: int = 8, perplexity: bool = True
) -> None:
    """A log axis of loss over `limits` and, on the right, the perplexity exp(loss)."""
    set_axis(ax.yaxis, "log", limits)
    fixed_ticks(ax.yaxis, spaced_ticks(*limits, most=most))
    if not perplexity or limits[1] > 20:
        return
    right = ax.secondary_yaxis("right", functions=(_perplexity, _loss))
    right.set_ylabel(LABELS["perplexity"])
    ticks = spaced_ticks(
        math.exp(limits[0]), math.exp(limits[1]), place=lambda p: math.log(math.log(p)), most=most
    )
    fixed_ticks(right.yaxis, ticks)


def padded(low: float, high: float, share: float = 0.05) -> tuple[float, float]:
    """Limits of a log axis around [low, high], with `share` of its length added at both ends."""
    factor = max(high / low, 1.02) ** share
    return low / factor, high * factor


def fixed_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    """Labels at these values and nowhere else."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(
        FixedFormatter([f"{tick:g}" if tick < 1e4 else format_count(tick) for tick in ticks])
    )
    axis.set_minor_locator(NullLocator())


def _perplexity(loss: Any) -> Any:
    """exp(loss), within what a float holds: matplotlib asks far outside the axis."""
    return np.exp(np.clip(loss, -700, 700))


def _loss(perplexity: Any) -> Any:
    return np.log(np.maximum(perplexity, 1e-300))


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)] if last - first < 50 else []


def decades(low: float, high: float, mantissas: Sequence[int]) -> list[float]:
    """The numbers in [low, high] that are these times a power of ten."""
    if low <= 0:
        return []
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = (mantissa * 10.0**exponent for exponent in exponents for mantissa in mantissas)
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def _thinned(ticks: Sequence[float], place: Callable[[float], float], gap: float) -> list[float]:
    kept: list[float] = []
    for tick in ticks:
        if not kept or place(tick) - place(kept[-1]) >= gap:
            kept.append(tick)
    return kept


def _gap(ticks: Sequence[float], place: Callable[[float], float]) -> float:
    places = [place(tick) for tick in ticks]
    return min((b - a for a, b in itertools.pairwise(places)), default=math.inf if ticks else -1.0)


def _power(value: float) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = round(value / 10.0**exponent)
    return rf"$10^{{{exponent}}}$" if mantissa == 1 else rf"${mantissa}\!\cdot\!10^{{{exponent}}}$"

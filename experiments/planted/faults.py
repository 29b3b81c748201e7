"""Faults that people's tables have, planted: each takes a clean table and gives one with the fault,
or None if the table has no room for it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from planted.tables import Array, Base

Rows = NDArray[np.bool_]
Plant = Callable[[Base, np.random.Generator], pd.DataFrame | None]
REFUSED = "refused"
UNITS = {REFUSED, "units-doubtful", "rows-in-other-units", "tokens-a-parameter"}
KINDS = {"two-kinds-of-runs", "repeats-differ"}
GROUP = {"group-off-law"}
FEW = {"outliers"}
FLOPS = {REFUSED, "flops-off", "flops-rows-off", "flops-scattered", "embeddings-counted"}


@dataclass(frozen=True)
class Fault:
    """A fault: `leads` are the codes of notes that would lead people to it."""

    name: str
    group: str
    leads: frozenset[str]
    plant: Plant


FAULTS: dict[str, Fault] = {}


def fault(name: str, group: str, *leads: set[str]) -> Callable[[Plant], Plant]:
    def kept(plant: Plant) -> Plant:
        FAULTS[name] = Fault(name, group, frozenset().union(*leads), plant)
        return plant

    return kept


def _some(frame: pd.DataFrame, share: float, rng: np.random.Generator) -> Rows:
    """A share of the rows at random, two at least."""
    count = max(round(share * len(frame)), 2)
    chosen = np.zeros(len(frame), dtype=bool)
    chosen[rng.permutation(len(frame))[:count]] = True
    return chosen


def _scaled(
    frame: pd.DataFrame, name: str, by: float | Array, rows: Rows | None = None
) -> pd.DataFrame:
    rows = np.ones(len(frame), dtype=bool) if rows is None else rows
    values = frame[name].to_numpy(dtype=float)
    return frame.assign(**{name: np.where(rows, values * by, values)})


def _end(frame: pd.DataFrame, name: str, share: float, *, largest: bool) -> Rows:
    """The rows of the largest (or smallest) sizes, of about this share of the range of ln."""
    logs = np.log(frame[name].to_numpy(dtype=float))
    low, high = logs.min(), logs.max()
    if largest:
        return logs > high - share * (high - low) - 1e-9
    return logs < low + share * (high - low) + 1e-9


# Units.


def _unit(name: str, by: float, share: float = 1.0) -> Plant:
    def plant(base: Base, rng: np.random.Generator) -> pd.DataFrame:
        rows = None if share == 1 else _some(base.frame, share, rng)
        return _scaled(base.frame, name, by, rows)

    return plant


for quantity, unit, factor in (
    ("params", "thousands", 1e-3),
    ("params", "millions", 1e-6),
    ("tokens", "thousands", 1e-3),
    ("tokens", "millions", 1e-6),
    ("tokens", "billions", 1e-9),
):
    fault(f"{quantity} in {unit}", "units", UNITS)(_unit(quantity, factor))
    fault(f"{quantity} in {unit}, a third of the rows", "units", UNITS)(
        _unit(quantity, factor, 1 / 3)
    )
LOSS_UNITS = UNITS | KINDS | FEW | {"loss-too-high", "loss-too-low"}
fault("loss in bits, a third of the rows", "units", LOSS_UNITS)(_unit("loss", 1 / np.log(2), 1 / 3))
fault("loss in log10", "units", LOSS_UNITS)(_unit("loss", 1 / np.log(10)))


@fault("perplexity as loss", "units", LOSS_UNITS)
def _perplexity(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    return base.frame.assign(loss=np.exp(base.frame["loss"]))


@fault("perplexity in a fifth of the rows", "units", LOSS_UNITS)
def _perplexities(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    rows, loss = _some(base.frame, 0.2, rng), base.frame["loss"]
    return base.frame.assign(loss=np.where(rows, np.exp(loss), loss))


@fault("N and D swapped", "columns", UNITS | {"tokens-below-params"})
def _swapped(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    return base.frame.assign(params=base.frame["tokens"], tokens=base.frame["params"])


@fault("accuracy as loss", "columns", {REFUSED})
def _accuracy(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    return base.frame.assign(loss=1 / base.frame["loss"])


# Checkpoints taken for runs.

CHECKPOINTS = {"mid-schedule", "run-id-repeated"}
_HOT = 0.04
"""How much higher ln loss is at the peak of the learning rate than at its end."""


def _checkpoints(base: Base, rng: np.random.Generator, at: Array, hot: Array) -> pd.DataFrame:
    """Rows of runs at shares `at` of their length, `hot` above what is reached at their end."""
    sizes = np.unique(base.frame["params"])
    if len(sizes) > 12:
        sizes = sizes[np.linspace(0, len(sizes) - 1, 12).round().astype(int)]
    ratio = float(np.quantile(base.frame["tokens"] / base.frame["params"], 0.75))
    N, share = (grid.ravel() for grid in np.meshgrid(sizes, at, indexing="ij"))
    made = base.at(N, N * ratio * share, rng)
    return made.assign(loss=made["loss"] * np.exp(_HOT * np.tile(hot, len(sizes))))


@fault("checkpoints of a cosine, four a run", "checkpoints", CHECKPOINTS)
def _cosine(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    at = np.array([0.25, 0.5, 0.75, 1.0])
    return _checkpoints(base, rng, at, 0.5 * (1 + np.cos(np.pi * at)))


@fault("checkpoints of a cosine, at powers of two", "checkpoints", CHECKPOINTS)
def _cosine_powers(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    at = 0.5 ** np.arange(4.0, -1.0, -1.0)
    return _checkpoints(base, rng, at, 0.5 * (1 + np.cos(np.pi * at)))


@fault("checkpoints before a cooldown, ten a run", "checkpoints", CHECKPOINTS)
def _stable(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    at = np.linspace(0.1, 1.0, 10)
    return _checkpoints(base, rng, at, np.where(at < 0.85, 1.0, 0.0))


@fault("mid-cosine checkpoints as some of the points", "checkpoints", KINDS | GROUP | FEW)
def _mid_cosine(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    rows = _some(base.frame, 0.3, rng)
    return _scaled(base.frame, "loss", np.exp(rng.uniform(0.02, _HOT, len(rows))), rows)


# Mixed data.


def _mixed(change: Callable[[Base], Array], share: float = 0.5) -> Plant:
    def plant(base: Base, rng: np.random.Generator) -> pd.DataFrame:
        return base.frame.assign(
            loss=np.where(_some(base.frame, share, rng), change(base), base.frame["loss"])
        )

    return plant


fault("two corpora, half each", "mixed", KINDS)(
    _mixed(lambda base: base.frame["loss"].to_numpy(dtype=float) + 0.15)
)
fault("two corpora, one in five runs", "mixed", KINDS | FEW)(
    _mixed(lambda base: 0.94 * base.frame["loss"].to_numpy(dtype=float), 0.2)
)
fault("two tokenizers, half each", "mixed", KINDS)(
    _mixed(lambda base: 1.1 * base.frame["loss"].to_numpy(dtype=float))
)
fault("training loss for a third of the runs", "mixed", KINDS | FEW)(
    _mixed(lambda base: 0.97 * base.frame["loss"].to_numpy(dtype=float), 1 / 3)
)


@fault("another corpus for the larger half of the sizes", "mixed", GROUP | KINDS)
def _corpus_by_size(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    return _scaled(base.frame, "loss", 1.05, _end(base.frame, "params", 0.5, largest=True))


# Care.


def _untuned(share: float, by: float, *, largest: bool) -> Plant:
    def plant(base: Base, rng: np.random.Generator) -> pd.DataFrame:
        rows = _end(base.frame, "params", share, largest=largest)
        return _scaled(base.frame, "loss", by, rows)

    return plant


for by in (1.02, 1.03, 1.05):
    for largest in (True, False):
        which = "largest" if largest else "smallest"
        fault(f"{which} sizes {by - 1:.0%} too high", "tuning", GROUP | FEW | KINDS)(
            _untuned(0.15, by, largest=largest)
        )


@fault("one size 3% too high", "tuning", GROUP | FEW | KINDS)
def _one_size(base: Base, rng: np.random.Generator) -> pd.DataFrame | None:
    sizes, counts = np.unique(base.frame["params"], return_counts=True)
    inside = sizes[1:-1][counts[1:-1] >= 2]
    if not len(inside):
        return None
    return _scaled(base.frame, "loss", 1.03, (base.frame["params"] == rng.choice(inside)).values)


@fault("best of a sweep for the smaller sizes only, 3%", "tuning", GROUP | KINDS)
def _best_of_sweep(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    rows = _end(base.frame, "params", 0.4, largest=False)
    return _scaled(base.frame, "loss", 0.97, rows)


@fault("a diverged run", "tuning", FEW | {"loss-too-high"})
def _diverged(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    row = np.arange(len(base.frame)) == rng.integers(len(base.frame))
    return _scaled(base.frame, "loss", rng.uniform(1.2, 2.5), row)


# Compute.


def _with_flops(base: Base) -> pd.DataFrame:
    return base.frame.assign(flops=6 * base.frame["params"] * base.frame["tokens"])


def _flops_off(by: float) -> Plant:
    return lambda base, _: _scaled(_with_flops(base), "flops", by)


for by in (2.0, 3.0, 0.5):
    fault(f"C off by {by:g}", "flops", FLOPS)(_flops_off(by))


@fault("C off by 2 at the larger sizes", "flops", FLOPS)
def _flops_by_size(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    return _scaled(_with_flops(base), "flops", 2.0, _end(base.frame, "params", 0.4, largest=True))


@fault("D off by 2 at one size, from a wrong batch", "flops", FLOPS | GROUP | FEW | KINDS)
def _batch(base: Base, rng: np.random.Generator) -> pd.DataFrame | None:
    sizes, counts = np.unique(base.frame["params"], return_counts=True)
    if not (counts >= 2).any():
        return None
    rows = (base.frame["params"] == rng.choice(sizes[counts >= 2])).to_numpy()
    return _scaled(base.frame, "tokens", 2.0, rows)


# What N counts.


def _embeddings(params: Array) -> Array:
    """Of a vocabulary of 50,000, tied: nearly N itself at 10M, 20% of it at 100M, 4% at 1B."""
    width = np.maximum((params / 12 / 8) ** (1 / 3) * 4, 64)
    return 50_257 * width


@fault("N with embeddings", "count", GROUP | FLOPS | {"count-sensitive"})
def _with_embeddings(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    """C is what the trainer counted, without embeddings."""
    params = base.frame["params"].to_numpy(dtype=float)
    return _with_flops(base).assign(params=params + _embeddings(params))


@fault("N with embeddings, a third of the rows", "count", GROUP | FLOPS | KINDS | FEW)
def _some_embeddings(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    params = base.frame["params"].to_numpy(dtype=float)
    rows = _some(base.frame, 1 / 3, rng)
    return _with_flops(base).assign(params=np.where(rows, params + _embeddings(params), params))


# Schedules and data.


@fault("one run in five stopped before its decay", "schedule", KINDS | FEW)
def _no_decay(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    rows = _some(base.frame, 0.2, rng)
    return _scaled(base.frame, "loss", rng.uniform(1.02, 1.04, len(rows)), rows)


@fault("planned tokens of runs that stopped early", "schedule", KINDS | FEW | FLOPS)
def _planned(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    rows = _some(base.frame, 0.2, rng)
    return _scaled(base.frame, "tokens", 1 / rng.uniform(0.3, 0.6, len(rows)), rows)


@fault("constant D/N", "schedule", {"collinear-design", REFUSED})
def _constant_ratio(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    sizes = np.geomspace(base.frame["params"].min(), base.frame["params"].max(), len(base.frame))
    return base.at(sizes, 20 * sizes, rng)


@fault("many passes over one text", "data", GROUP | {"repeated-data"})
def _passes(base: Base, rng: np.random.Generator) -> pd.DataFrame | None:
    """Losses of Muennighoff et al. 2023: passes beyond the first count less and less."""
    N, D = (base.frame[name].to_numpy(dtype=float) for name in ("params", "tokens"))
    unique = float(D.max()) / 30
    passes = np.maximum(D / unique - 1, 0)
    worth = np.minimum(D, unique) + unique * 15.4 * (1 - np.exp(-passes / 15.4))
    loss = base.frame["loss"] * base.surface(N, worth) / base.surface(N, D)
    # Large models over-fit on top of it.
    return base.frame.assign(loss=loss * np.exp(0.01 * np.maximum(passes - 4, 0) / 10))


@fault("rows twice", "rows", {"duplicate-runs"})
def _twice(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    again = base.frame[_some(base.frame, 0.15, rng)]
    return pd.concat([base.frame, again], ignore_index=True)


@fault("rows twice, once rounded", "rows", {"duplicate-runs"})
def _twice_rounded(base: Base, rng: np.random.Generator) -> pd.DataFrame:
    again = base.frame[_some(base.frame, 0.15, rng)]
    again = again.assign(loss=again["loss"].round(3))
    return pd.concat([base.frame, again], ignore_index=True)

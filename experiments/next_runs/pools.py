"""Pools of runs that a chooser buys from, seeing only what it bought: public tables, and runs of
known laws.

Of a public table the pool holds the runs of up to a tenth of its largest budget, and the targets
are the runs near the best of their budget in the largest third of its budgets (in ln C): what a
forecast is made for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale import LlmscaleError, read_runs
from llmscale.explain.estimation.options import Options
from llmscale.explain.fit.backtest import budgets
from llmscale.explain.fit.parametric import bare_fit
from llmscale.explain.laws import Law
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.laws.skaling import Skaling
from llmscale.explain.table import RunTable

SHARE = 0.1
"""The pool ends at this share of the largest budget."""
NEAR = 0.02
"""Targets lie at most this share of the loss above the best of their budget."""
TOP = 1 / 3
FEWEST = 16
"""Of fewer runs there is nothing to choose."""
START = 8
"""Runs that every chooser has at the outset: the cheapest, and more until a law can be fitted."""
SEEN = ("chinchilla", "marin", "gadre", "step", "porian-rw", "repeated")
"""Families that the chooser was made with; no setting was chosen on the others."""


@dataclass(frozen=True)
class Pool:
    """Runs with params, tokens, flops, loss; those to forecast; and which are there at the
    outset."""

    name: str
    family: str
    runs: pd.DataFrame
    targets: pd.DataFrame
    start: tuple[int, ...]

    @property
    def seen(self) -> bool:
        return self.family in SEEN

    @property
    def cost(self) -> np.ndarray:
        return self.runs["flops"].to_numpy()

    @property
    def budget(self) -> np.ndarray:
        """For each run the index of its budget, lowest first."""
        return budgets(self.runs.assign(run_id=self.runs.index.astype(str)), ("params", "tokens"))

    @property
    def target(self) -> dict[str, float]:
        """The one run that a batch is chosen for: the geometric mean of the targets."""
        return {name: float(np.exp(np.log(self.targets[name]).mean())) for name in _POINT}

    def table(self, bought: list[int]) -> RunTable:
        return table_of(self.runs.iloc[bought])


_POINT = ("params", "tokens")


def table_of(frame: pd.DataFrame) -> RunTable:
    """Runs as they stand: nothing about them is doubted."""
    return read_runs(frame[[*_POINT, "loss"]], units=dict.fromkeys(_POINT, "1"))


def public_pools(folder: Path) -> Iterator[Pool]:
    """A pool of every table that has enough runs."""
    for path in sorted(folder.glob("*.csv")):
        frame = pd.read_csv(path)
        frame[[*_POINT]] = frame[[*_POINT]].astype(float)
        if "run" in frame:  # checkpoints of one run are not bought one by one
            last = frame.groupby("run")["tokens"].idxmax()
            frame = frame.loc[last]
        frame = frame[[*_POINT, "loss"]].reset_index(drop=True)
        frame["flops"] = 6.0 * frame["params"] * frame["tokens"]
        most = frame["flops"].max()
        of = budgets(frame.assign(run_id=frame.index.astype(str)), _POINT)
        near = np.log(frame["loss"] / frame.groupby(of)["loss"].transform("min")) < NEAR
        targets = frame[(frame["flops"] >= TOP * most) & near]
        runs = frame[frame["flops"] <= SHARE * most].reset_index(drop=True)
        if len(runs) >= FEWEST:
            yield Pool(path.stem, path.stem.split("_")[0], runs, targets, _start(runs))


def _start(runs: pd.DataFrame) -> tuple[int, ...]:
    order = np.argsort(runs["flops"].to_numpy(), kind="stable").tolist()
    for number in range(START, len(order) + 1):
        try:
            bare_fit(table_of(runs.iloc[order[:number]]), "anchored", Options(bootstrap=0))
        except LlmscaleError:
            continue
        return tuple(order[:number])
    raise AssertionError("no law can be fitted to the whole pool")


CHINCHILLA = Chinchilla(E=1.82, A=482.0, B=2085.0, alpha=0.348, beta=0.366)
SKALING = Skaling(E=1.8172, A=4800.0, B=12000.0, alpha=0.53, beta=0.51, k=0.65)
Errors = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""By how much of ln L runs of these N and D differ from a law."""


def _none(N: np.ndarray, D: np.ndarray) -> np.ndarray:
    return np.zeros_like(N)


def _bent(N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """A frontier that bends: 0.1% for each square of a decade from 1e19 FLOPs."""
    return 0.001 * np.log10(6 * N * D / 1e19) ** 2


def _small_are_poor(N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Small sizes whose learning rate is wrong: 4% at 10M, a third of it at 30M."""
    return 0.04 * (1e7 / N)


def _large_are_poor(N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """A learning rate that fits less and less: 0.5% for each decade above 30M."""
    return 0.005 * np.maximum(np.log10(N / 3e7), 0.0)


WORLDS: dict[str, tuple[Law, Errors, float]] = {
    "chinchilla 0.2%": (CHINCHILLA, _none, 0.002),
    "chinchilla 1%": (CHINCHILLA, _none, 0.01),
    "skaling 0.2%": (SKALING, _none, 0.002),
    "skaling 0.5%": (SKALING, _none, 0.005),
    "bent frontier": (SKALING, _bent, 0.003),
    "poor small runs": (SKALING, _small_are_poor, 0.003),
    "poor large runs": (CHINCHILLA, _large_are_poor, 0.003),
}
"""A law, what runs differ from it, and the noise of a seed."""


def simulated_pools(seeds: int) -> Iterator[Pool]:
    """An IsoFLOP grid of nine budgets from 1e17 to 1e20 FLOPs, nine sizes each; forecast are the
    best runs of 1e21 and 3e21."""
    for place, (name, (law, errors, noise)) in enumerate(WORLDS.items()):
        for seed in range(seeds):
            rng = np.random.default_rng([place, seed])  # worlds that share noise count as one
            C = np.repeat(np.geomspace(1e17, 1e20, 9), 9)
            best = np.asarray(law.optimal(C)[0])  # type: ignore[index]
            N = best * np.tile(np.geomspace(0.2, 5.0, 9), 9)
            runs = _measured(law, errors, noise, N, C / 6 / N, rng)
            far = np.array([1e21, 3e21])
            params, tokens = law.optimal(far)  # type: ignore[misc]
            targets = _measured(law, errors, 0.0, params, tokens, rng)
            yield Pool(f"{name}, seed {seed}", name, runs, targets, _start(runs))


def _measured(
    law: Law, errors: Errors, noise: float, N: np.ndarray, D: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    off = errors(N, D) + noise * rng.standard_normal(len(N))
    loss = np.asarray(law.loss(N, D)) * np.exp(off)
    return pd.DataFrame({"params": N, "tokens": D, "flops": 6 * N * D, "loss": loss})

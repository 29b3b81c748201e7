"""Tables that faults are planted in: simulated ones that are clean by construction, and public ones
as they were published."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.explain.fit import fit_law

Array = NDArray[np.float64]
Surface = Callable[[Array, Array], Array]
COLUMNS = ["params", "tokens", "flops", "loss"]


@dataclass(frozen=True)
class Base:
    """A table, the loss that a run of any size and budget would have in it, and the standard
    deviation of ln loss between runs alike. What is `seen` was looked at when limits were chosen.
    """

    name: str
    family: str
    real: bool
    seen: bool
    frame: pd.DataFrame
    surface: Surface
    noise: float

    def at(self, params: Array, tokens: Array, rng: np.random.Generator) -> pd.DataFrame:
        """New runs of the same recipe, with noise."""
        loss = self.surface(params, tokens) * np.exp(self.noise * rng.standard_normal(len(params)))
        flops = 6.0 * params * tokens
        return pd.DataFrame({"params": params, "tokens": tokens, "flops": flops, "loss": loss})


def chinchilla(N: Array, D: Array) -> Array:
    """Besiroglu et al. 2024."""
    return np.asarray(1.817 + 482.0 / N**0.348 + 2085.0 / D**0.366)


def hoffmann(N: Array, D: Array) -> Array:
    """Hoffmann et al. 2022."""
    return np.asarray(1.69 + 406.4 / N**0.34 + 410.7 / D**0.28)


def skaling(N: Array, D: Array) -> Array:
    """A sum of powers, itself to a power (arXiv 2608.07222)."""
    return np.asarray(1.6 + (9000.0 / N**0.52 + 40000.0 / D**0.53) ** 0.65)


def falling_floor(N: Array, D: Array) -> Array:
    """A small misfit: Chinchilla with a floor that falls by 1.1% a decade of FLOPs."""
    return np.asarray(chinchilla(N, D) - 1.817 + 1.817 * (6 * N * D / 1e19) ** -0.005)


TRUTHS: dict[str, Surface] = {
    "chinchilla": chinchilla,
    "hoffmann": hoffmann,
    "skaling": skaling,
    "falling-floor": falling_floor,
}
DESIGNS = ("isoflop", "grid", "random")
RUNS = (12, 20, 36, 60, 120, 250)


def simulated(tables: int, seed: int) -> Iterator[Base]:
    """Clean tables: truths and designs in turn, sizes, ranges and noise at random."""
    for number in range(tables):
        rng = np.random.default_rng([seed, number])
        truth = list(TRUTHS)[number % len(TRUTHS)]
        design = DESIGNS[(number // len(TRUTHS)) % len(DESIGNS)]
        runs, noise = int(rng.choice(RUNS)), float(np.exp(rng.uniform(*np.log([0.001, 0.01]))))
        N, D = _design(design, runs, rng)
        base = Base("", truth, False, seed % 2 == 0, pd.DataFrame(), TRUTHS[truth], noise)
        frame = base.at(N, D, rng)
        if rng.random() < 0.5:
            frame = frame.drop(columns="flops")
        name = f"{truth}, {design}, {len(frame)} runs, noise {noise:.2%}"
        yield Base(name, truth, False, base.seen, frame, base.surface, noise)


def _design(design: str, runs: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sizes and tokens of about so many runs."""
    smallest = 10 ** rng.uniform(7.0, 8.0)
    if design == "random":
        N = smallest * np.exp(rng.uniform(0, np.log(100), runs))
        return N, N * np.exp(rng.uniform(np.log(5), np.log(200), runs))
    if design == "grid":
        sizes = int(np.clip(round(runs**0.5 * 1.2), 4, 12))
        each = max(round(runs / sizes), 3)
        N, ratio = np.meshgrid(
            np.geomspace(smallest, 100 * smallest, sizes), np.geomspace(5, 160, each)
        )
        return N.ravel(), (N * ratio).ravel()
    budgets = int(np.clip(round(runs / 6), 3, 9))
    each = runs // budgets
    C = np.repeat(np.geomspace(1, 3.0 ** (budgets - 1), budgets) * 120 * smallest**2, each)
    spread = np.tile(np.geomspace(0.25, 4.0, each), budgets)
    N = np.sqrt(C / 120) * spread
    return N, C / (6 * N)


SEEN = ("massivetext", "marin", "gadre")
"""Families of public tables that limits were chosen on."""


def public(folder: Path, more: Path | None = None) -> Iterator[Base]:
    """Published tables, their rows that are known to be off left out. `more` is a folder of tables
    that were collected by others."""

    def read(name: str, place: Path = folder) -> pd.DataFrame:
        found = pd.read_csv(place / f"{name}.csv")
        return found.rename(columns={"n_params": "params", "budget": "flops"})

    epoch = read("chinchilla_epoch")
    yield _public("chinchilla_epoch", "massivetext", epoch[~epoch["outlier"]])
    yield _public("chinchilla_scalefit", "massivetext", read("chinchilla_scalefit"))
    yield _public("llama3_isoflop", "llama3", read("llama3_isoflop"))
    yield _public("farseer", "farseer", read("farseer"))
    step_law = read("step_law").sort_values("loss").drop_duplicates(["params", "tokens"])
    yield _public("step_law, best of each point", "step_law", step_law)
    repeated = read("muennighoff_repeated")
    once = repeated[(repeated["epochs"] <= 1) & ~repeated["dedup"]]
    once = once[once["dataset"] == "c4"].drop_duplicates(["params", "tokens"])
    yield _public("muennighoff, one pass", "muennighoff", once)
    for dataset, part in read("gadre_overtrain").groupby("dataset"):
        # Some of its FLOPs are negative.
        yield _public(f"gadre_overtrain, {dataset}", "gadre", part.drop(columns="flops"))
    if more is None:
        return
    rows = read("isoflops_transform", more)
    for name, part in rows[~rows["outlier"]].groupby("experiment"):
        family = str(name).split("_")[0]
        if family in ("marin", "misfitting"):
            yield _public(str(name), family, part)


def _public(name: str, family: str, rows: pd.DataFrame) -> Base:
    names = [column for column in COLUMNS if column in rows]
    frame = rows[names].astype(float).reset_index(drop=True)
    fit = fit_law(frame, "chinchilla", bootstrap=0, holdout="none", diagnostics=False)
    noise = float(1.4826 * np.median(np.abs(fit.residuals)))
    return Base(name, family, True, family in SEEN, frame, fit.law.loss, noise)

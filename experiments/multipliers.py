"""Do intervals of compute multipliers hold what they promise, where the multiplier is known?

    .venv/bin/python experiments/multipliers.py [PAIRS [SECONDS]]      by default 25 pairs a cell

Simulated pairs of recipes on a ladder of 4 to 8 sizes, or on a grid of sizes and tokens; 1 to 3
seeds; Gaussian noise in ln L of 0.1% to 1% (it differs from pair to pair), of which runs of one
size and seed share none, half or nine tenths; the floor told or not. The multiplier is
- `constant`: recipes share exponents and floor;
- `changing`: exponents differ by 3% to 20%;
- `crossing`: they differ so that the laws cross between the middle of the runs and 30 times beyond;
- `floors`: floors differ by 0.2% to 1.5% of the loss;
- `bent`: constant, but the law of both is another one (the floor falls by 2% a decade).
Coverage of nominal 90% intervals at the largest compute of the runs, and 10 and 100 times beyond,
next to those of two usual ways: one law with all shared but the multiplier (of ladders only), and a
law for each recipe, both with a bootstrap. Pairs that are there are not simulated again, and after
SECONDS no more are begun. Writes results/multipliers/pairs.csv and README.md."""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import llmscale
from llmscale.errors import LlmscaleError
from llmscale.explain.fit import Options, fit_law
from llmscale.explain.laws import Law

Array = NDArray[np.float64]
RESULTS = Path(__file__).resolve().parents[1] / "results" / "multipliers"
LEVEL = 0.9
KINDS = ("constant", "changing", "crossing", "floors", "bent")
DESIGNS = ("ladder", "grid")
AHEAD = (1.0, 10.0, 100.0)
TOP = 1e20
"""The largest budget of the runs."""
REFITS = 200


@dataclass(frozen=True)
class Truth:
    """L = E + A N^-alpha + B D^-beta of a recipe, or with D = 20 N along the ladder, N in units of
    the best of TOP; `falls` is how fast the floor falls with compute."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    falls: float = 0.0

    def loss(self, N: Array, D: Array) -> Array:
        floor = self.E * (N * D) ** -self.falls
        return np.asarray(floor + self.A * N**-self.alpha + self.B * D**-self.beta)

    def reached(self, C: Array, design: str) -> Array:
        """The loss of a budget, in units of TOP: along the ladder, or at the best split."""
        if design == "ladder":
            return self.loss(np.sqrt(C), np.sqrt(C))
        split = np.geomspace(1e-3, 1e3, 6001)
        return np.array([self.loss(math.sqrt(c) * split, math.sqrt(c) / split).min() for c in C])


@dataclass(frozen=True)
class Pair:
    """Two recipes, how they are measured, and the runs."""

    kind: str
    design: str
    sizes: int
    seeds: int
    noise: float
    common: float
    floor_told: bool
    span: float
    truths: tuple[Truth, Truth]

    def multiplier(self, ahead: float) -> float:
        """The second recipe's, by bisection on its own law."""
        goal = self.truths[0].reached(np.array([ahead]), self.design)[0]
        budgets = np.geomspace(1e-4, 1e6, 4001) * ahead
        reached = self.truths[1].reached(budgets, self.design)
        if reached[-1] > goal:
            return math.inf
        log_C = np.interp(-goal, -reached, np.log(budgets))
        return math.exp(log_C) / ahead

    def runs(self, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
        N = np.geomspace(self.span**-0.5, 1.0, self.sizes)
        D = N
        if self.design == "grid":
            ratio = np.array([0.25, 1.0, 4.0])
            N, D = np.repeat(N, 3), (N[:, None] * ratio).ravel()
            scale = math.sqrt((N * D).max())
            N, D = N / scale, D / scale
        N, D = np.repeat(N, self.seeds), np.repeat(D, self.seeds)
        seed = np.arange(len(N)) % self.seeds
        shared = math.sqrt(self.common) * rng.standard_normal(len(N))
        tables = []
        for truth in self.truths:
            own = math.sqrt(1.0 - self.common) * rng.standard_normal(len(N))
            loss = truth.loss(N, D) * np.exp(self.noise * (shared + own))
            params, tokens = N * math.sqrt(TOP / 120.0), D * math.sqrt(TOP / 120.0) * 20.0
            columns = {"params": params, "tokens": tokens, "flops": 6.0 * params * tokens}
            tables.append(pd.DataFrame({**columns, "seed": seed, "loss": loss}))
        return tables[0], tables[1]


def drawn(kind: str, design: str, rng: np.random.Generator) -> Pair:
    """A pair of one kind, measured in one way, the rest by chance."""
    loss = 2.5
    E = loss * rng.uniform(0.45, 0.8)
    gamma = rng.uniform(0.08, 0.2)  # of compute
    alpha = beta = 2.0 * gamma
    if design == "grid":
        alpha, beta = alpha * math.exp(rng.uniform(-0.2, 0.2)), beta
    share = rng.uniform(0.35, 0.65) if design == "grid" else 0.5
    first = Truth(E, (loss - E) * share, (loss - E) * (1 - share), alpha, beta)
    log_k = rng.uniform(math.log(0.5), math.log(1.3))
    if kind == "bent":
        first = Truth(first.E, first.A, first.B, alpha, beta, falls=0.5 * 0.02 / math.log(10) * 2)
    differ = 0.0
    if kind == "changing":
        differ = float(rng.choice([-1, 1])) * rng.uniform(0.03, 0.2)
    span = float(math.exp(rng.uniform(math.log(20), math.log(1000))))
    if kind == "crossing":
        at = rng.uniform(-0.5 * math.log(span), math.log(30.0))
        differ = float(rng.choice([-1, 1])) * rng.uniform(0.05, 0.2)
        log_k = differ * at
    second = _second(first, log_k, differ)
    if kind == "floors":
        moved = float(rng.choice([-1, 1])) * rng.uniform(0.002, 0.015) * loss
        second = Truth(second.E + moved, second.A, second.B, second.alpha, second.beta)
    return Pair(
        kind,
        design,
        sizes=int(rng.integers(4, 9)) if design == "ladder" else int(rng.integers(4, 7)),
        seeds=int(rng.integers(1, 4)),
        noise=math.exp(rng.uniform(math.log(0.001), math.log(0.01))),
        common=float(rng.choice([0.0, 0.5, 0.9])),
        floor_told=kind not in ("floors", "bent") and rng.random() < 0.2,
        span=span,
        truths=(first, second),
    )


def _second(first: Truth, log_k: float, differ: float) -> Truth:
    """The recipe that takes k C at TOP, and exponents of a ratio exp(-differ)."""
    alpha, beta = first.alpha * math.exp(-differ), first.beta * math.exp(-differ)
    k = math.exp(log_k)
    if first.falls:
        # A floor that falls with compute falls k times as late, too.
        E = first.E * k**first.falls
    else:
        E = first.E
    A, B = first.A * k ** (0.5 * alpha), first.B * k ** (0.5 * beta)
    return Truth(E, A, B, alpha, beta, first.falls)


Interval = tuple[float, float]
NO_INTERVAL: Interval = (math.nan, math.nan)


def by_compare(pair: Pair, one: pd.DataFrame, other: pd.DataFrame) -> list[Interval]:
    """What `llmscale compare` says."""
    floor = pair.truths[0].E if pair.floor_told else None
    at = [TOP * ahead for ahead in AHEAD[1:]]
    found = llmscale.compare({"a": one, "b": other}, at=at, floor=floor, level=LEVEL)
    return [(found.at(flops)[0].low, found.at(flops)[0].high) for flops in found.scales]


def all_shared(pair: Pair, one: pd.DataFrame, other: pd.DataFrame) -> list[Interval]:
    """One law of compute with k: its interval is the same at all scales."""
    if pair.design == "grid":
        return [NO_INTERVAL] * len(AHEAD)
    runs = pd.concat([one, other], ignore_index=True)
    runs["second"] = np.repeat([0.0, 1.0], [len(one), len(other)])
    fit = fit_law(runs, Multiplied, _options("none"))
    low, high = fit.intervals["k"]
    return [(1.0 / high, 1.0 / low)] * len(AHEAD)


def apart(pair: Pair, one: pd.DataFrame, other: pd.DataFrame) -> list[Interval]:
    """A law for each recipe, the refits of one with those of the other."""
    name = "power-floor" if pair.design == "ladder" else "chinchilla"
    fits = [fit_law(table, name, _options("none")) for table in (one, other)]
    if any(fit.law.name == "power" for fit in fits):
        return [NO_INTERVAL] * len(AHEAD)  # too few sizes for a floor
    (E_a, K_a, g_a), (E_b, K_b, g_b) = (_curves(fit.replicates, pair.design) for fit in fits)
    found = []
    for ahead in AHEAD:
        log_C = math.log(TOP * ahead)
        above = np.exp(K_a - g_a * log_C) + E_a - E_b
        with np.errstate(all="ignore"):
            log_k = np.where(above > 0, (K_b - np.log(above)) / g_b - log_C, np.inf)
        ends = np.sort(log_k)[[round(0.05 * (REFITS - 1)), round(0.95 * (REFITS - 1))]]
        found.append((math.exp(max(ends[0], -700.0)), math.exp(min(ends[1], 700.0))))
    return found


WAYS: dict[str, Callable[[Pair, pd.DataFrame, pd.DataFrame], list[Interval]]] = {
    "compare": by_compare,
    "all shared": all_shared,
    "apart": apart,
}


@dataclass(frozen=True)
class Multiplied(Law):
    """Two recipes on one law of compute, of which the second is worth k times its compute."""

    E: float
    A: float
    alpha: float
    k: float

    equation = "L = E + A/(k^second C)^alpha"
    source = "after Volkova et al. 2026"
    inputs = ("flops", "second")
    may_be_zero = ("second",)
    floor = "E"
    exponents = ("alpha",)

    def loss(self, *inputs: Any) -> Any:
        C, second = inputs
        return self.E + self.A / (self.k**second * C) ** self.alpha


def _options(holdout: str) -> Options:
    return Options(
        variable="flops", level=LEVEL, holdout=holdout, bootstrap=REFITS, diagnostics=False
    )


def _curves(values: Array, design: str) -> tuple[Array, Array, Array]:
    """E, ln K and gamma of L = E + K/C^gamma."""
    if design == "ladder":
        E, A, alpha = values.T
        return E, np.log(A), alpha
    E, A, B, alpha, beta = values.T
    gamma = alpha * beta / (alpha + beta)
    log_G = np.log(alpha * A / (beta * B)) / (alpha + beta)
    log_K = np.log(A) - alpha * log_G + np.log1p(alpha / beta) + gamma * math.log(6.0)
    return E, log_K, gamma


def main(pairs: str = "25", seconds: str = "inf") -> None:
    until = time.monotonic() + float(seconds)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "pairs.csv"
    known = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["pair", "cell", "way"])
    done = set(zip(known["pair"], known["cell"], known["way"], strict=True))
    for way, number, (kind, design) in itertools.product(WAYS, range(int(pairs)), CELLS):
        cell = f"{design}, {kind}"
        if (number, cell, way) in done or time.monotonic() > until:
            continue
        rows = pd.DataFrame(list(measured(number, kind, design, way)))
        rows.insert(0, "cell", cell)
        rows.insert(0, "pair", number)
        known = pd.concat([known, rows], ignore_index=True)
        known.to_csv(path, index=False, float_format="%.5g")
    text = describe(pd.read_csv(path))
    (RESULTS / "README.md").write_text(text, encoding="utf-8")
    print(text)


CELLS = [(kind, design) for design in DESIGNS for kind in KINDS]


def measured(number: int, kind: str, design: str, way: str) -> Iterator[dict[str, object]]:
    """The truth and the interval of one pair by one way, at each scale."""
    rng = np.random.default_rng([number, KINDS.index(kind), DESIGNS.index(design)])
    pair = drawn(kind, design, rng)
    one, other = pair.runs(rng)
    about = {
        "kind": kind, "design": design, "sizes": pair.sizes, "seeds": pair.seeds,
        "noise": pair.noise, "common": pair.common, "floor_told": pair.floor_told,
    }  # fmt: skip
    try:
        intervals = WAYS[way](pair, one, other)
    except LlmscaleError as error:
        print(f"{way}, {design}, {kind}: {error.problem}", file=sys.stderr)
        intervals = [NO_INTERVAL] * len(AHEAD)
    for ahead, (low, high) in zip(AHEAD, intervals, strict=True):
        truth = pair.multiplier(ahead)
        yield {**about, "way": way, "ahead": ahead, "truth": truth, "low": low, "high": high}


def describe(rows: pd.DataFrame) -> str:
    """The report: coverage and median width by cell, and by what else differs."""
    rows = rows[rows["low"].notna()].copy()
    rows["held"] = (rows["low"] <= rows["truth"]) & (rows["truth"] <= rows["high"])
    rows["width"] = np.sqrt(rows["high"] / rows["low"])
    rows["noise"] = pd.cut(rows["noise"], [0, 0.002, 0.005, 1.0], labels=NOISES)
    number = rows[rows["way"] == "compare"].groupby("ahead").size().iloc[0]
    lines = [
        "# Compute multipliers where the truth is known",
        "",
        "    python experiments/multipliers.py",
        "",
        f"Shares of nominal {LEVEL:.0%} intervals of the multiplier that held the truth, over "
        f"{number} simulated pairs of recipes: at the largest compute of the runs, and 10 and 100 "
        "times beyond. In brackets how wide they are: the median factor from the middle to either "
        "end. `compare` is `llmscale compare`; `all shared` one law with k, for ladders; `apart` a "
        "law for each recipe (for ladders of five sizes or more, which tell a floor).",
        "",
        f"| pairs | {' | '.join(f'{way}: {_said(ahead)}' for way in WAYS for ahead in AHEAD)} |",
        f"| --- |{' --- |' * (len(WAYS) * len(AHEAD))}",
        _line("all", rows),
    ]
    for column in ("design", "kind"):
        lines += [_line(str(name), part) for name, part in rows.groupby(column, sort=False)]
    lines += ["", "Of `compare` only, by what else differs from pair to pair:", ""]
    lines += [f"| pairs | {' | '.join(map(_said, AHEAD))} |", f"| --- |{' --- |' * len(AHEAD)}"]
    own = rows[rows["way"] == "compare"]
    for column, said in BY.items():
        for name, part in own.groupby(column, observed=True):
            lines.append(_line(said.format(name), part, ways=("compare",)))
    return "\n".join(lines) + "\n"


NOISES = ("0.1% to 0.2%", "0.2% to 0.5%", "0.5% to 1%")
BY = {
    "sizes": "{} sizes",
    "seeds": "seeds: {}",
    "noise": "noise {}",
    "common": "noise in common: {}",
    "floor_told": "floor told: {}",
}


def _said(ahead: float) -> str:
    return "today" if ahead == 1 else f"{ahead:g}x"


def _line(name: str, rows: pd.DataFrame, ways: tuple[str, ...] = tuple(WAYS)) -> str:
    """Coverage and width of some pairs, of each way and scale."""
    cells = []
    for way, ahead in itertools.product(ways, AHEAD):
        part = rows[(rows["way"] == way) & (rows["ahead"] == ahead)]
        if part.empty:
            cells.append("")
            continue
        width = part["width"].median()
        cells.append(f"{part['held'].mean():.2f} ({min(width, 99):.2f}x)")
    count = len(rows[(rows["way"] == ways[0]) & (rows["ahead"] == 1)])
    return f"| {name} ({count}) | {' | '.join(cells)} |"


if __name__ == "__main__":
    main(*sys.argv[1:])

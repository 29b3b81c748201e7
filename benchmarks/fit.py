"""How long fits of L = E + A/N^alpha + B/D^beta take, and how far from the best optimum they end,
against peers.

On one thread, in alternating rounds, in seconds of CPU time, which what else the machine does
disturbs least. Peers are optional: `pip install vpnls chinchilla`, or --peers with a folder that
holds them; what is missing is listed as not installed. Without a table, 240 runs are simulated on
IsoFLOP budgets."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # these are read when numpy is imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "agg"

import argparse
import contextlib
import importlib.metadata
import itertools
import json
import platform
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import rich.console
import rich.table
from scipy import optimize

from llmscale.explain.estimation import newton
from llmscale.explain.fit import Fit, as_table, fit_law
from llmscale.explain.table import RunTable

DELTA = 1e-3
NAMES = ("E", "A", "B", "alpha", "beta")
BUDGETS, SIZES_A_BUDGET = np.geomspace(6e18, 3e21, 10), 24
NOISE = 0.004
"""Scale of the simulated ln L, as Student's t on three degrees of freedom: what the Chinchilla
figure shows.
"""
GRID = 1.02
"""Simulated sizes and token budgets are powers of this."""
STARTS_A_ROUND = 6
"""Of the grids of thousands of starts: a random few every round, their time scaled up."""
CHECKED_REFITS, CHECKING_STARTS = 25, 16
ROWS, ROWS_FOR_PEERS = (240, 1_000, 10_000, 100_000), 10_000


@dataclass(frozen=True)
class Contender:
    """A way to fit: `fit` takes the round's number, does `share` of the whole work, and gives
    coefficients.
    """

    name: str
    fit: Callable[[int], Sequence[float]]
    share: float = 1.0


@dataclass(frozen=True)
class Measured:
    """Seconds of the whole work, and the lowest objective found; None where the contender is not
    installed.
    """

    name: str
    seconds: float | None = None
    fastest: float | None = None
    slowest: float | None = None
    objective: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "table",
        nargs="?",
        type=Path,
        help="CSV with params, tokens, loss; rows with outlier are left out",
    )
    parser.add_argument(
        "--peers",
        type=Path,
        help="folder with vpnls and chinchilla, as pip install --target makes it",
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument(
        "--full", action="store_true", help="every start of the large grids, once: minutes"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    chosen = parser.parse_args()
    if chosen.peers:
        sys.path.append(str(chosen.peers))
    frame = _read(chosen.table) if chosen.table else simulate(len(BUDGETS) * SIZES_A_BUDGET)
    print(f"{len(frame)} rows, {chosen.table or 'simulated'}; {_machine()}; {_versions()}")
    with tempfile.TemporaryDirectory() as folder:
        fits = compare(frame, Path(folder), chosen.rounds, chosen.full)
    _show_fits(fits)
    refits = compare_refits(frame)
    print("\n".join(f"{name}: {value:.4g}" for name, value in refits.items()))
    growth = grow()
    _show_growth(growth)
    if chosen.json:
        report = {
            "machine": _machine(),
            "versions": _versions(),
            "rows": len(frame),
            "fits": [asdict(m) for m in fits],
        }
        chosen.json.write_text(
            json.dumps(report | {"refits": refits, "growth": growth}, indent=2) + "\n",
            encoding="utf-8",
        )


def simulate(rows: int) -> pd.DataFrame:
    """Runs around the sizes that are best for each budget, with heavy-tailed noise (coefficients:
    Besiroglu et al.).
    """
    rng = np.random.default_rng(0)
    C = np.repeat(BUDGETS, -(-rows // len(BUDGETS)))
    N = np.sqrt(C / 6 / 20) * np.exp(
        np.tile(np.linspace(-1.6, 1.6, len(C) // len(BUDGETS)), len(BUDGETS))
    )
    N, D = (
        GRID ** np.round(np.log(x) / np.log(GRID)) for x in (N, C / (6 * N))
    )  # the more rows, the more are seeds
    loss = (1.8172 + 482.01 / N**0.3478 + 2085.43 / D**0.3658) * np.exp(
        NOISE * rng.standard_t(3, len(C))
    )
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss})


def objective(coefficients: Sequence[float], frame: pd.DataFrame) -> float:
    """sum of Huber(ln L̂ - ln L) with delta 1e-3, the same for every contender."""
    E, A, B, alpha, beta = coefficients
    predicted = E + A / frame["params"].to_numpy() ** alpha + B / frame["tokens"].to_numpy() ** beta
    distance = np.abs(np.log(np.maximum(predicted, 1e-300)) - np.log(frame["loss"].to_numpy()))
    huber = np.where(distance <= DELTA, 0.5 * distance**2, DELTA * (distance - 0.5 * DELTA))
    return float(huber.sum())


def compare(frame: pd.DataFrame, folder: Path, rounds: int, full: bool) -> list[Measured]:
    """Every contender in turn, round after round."""
    contenders, missing = _contenders(frame, folder, full)
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    lowest = dict.fromkeys(seconds, np.inf)
    for number in range(rounds + 1):
        for contender in contenders:
            if full and contender.name.startswith("grid") and number != 1:
                continue
            start = time.process_time()
            coefficients = contender.fit(number)
            passed = time.process_time() - start
            lowest[contender.name] = min(lowest[contender.name], objective(coefficients, frame))
            if number:  # the first round fills the caches
                seconds[contender.name].append(passed / contender.share)
    return [
        Measured(name, statistics.median(times), min(times), max(times), lowest[name])
        for name, times in seconds.items()
    ] + [Measured(name) for name in missing]


def compare_refits(frame: pd.DataFrame) -> dict[str, float]:
    """1000 bootstrap refits: their time in starts of least_squares, and how near their own optima a
    sample ends.
    """
    table, peer = as_table(frame), LeastSquares(frame)
    ours, starts = [], []
    for _ in range(5):
        without = _seconds(lambda: _fit(table, 0), 1)
        ours.append(_seconds(lambda: _fit(table, 1000), 1) - without)
        starts.append(_seconds(lambda: peer.best(50), 1))
    result = {
        "seconds for 1000 refits": statistics.median(ours),
        "seconds for least_squares from 50 starts": statistics.median(starts),
        "starts of least_squares in that time": 50
        * statistics.median(ours)
        / statistics.median(starts),
    }
    with mock.patch.object(newton, "resolve", wraps=newton.resolve) as spy:
        fit = _fit(table, 1000)
    drawn = spy.call_args.args[2].astype(int)  # how often each refit counts each run
    gaps = []
    for index in range(0, 1000, 1000 // CHECKED_REFITS):
        rows = frame.loc[np.repeat(frame.index, drawn[index])].reset_index(drop=True)
        found = [fit.replicates[index], LeastSquares(rows).best(CHECKING_STARTS)]
        found.append(LeastSquares(rows).best(1, fit.replicates[index]))
        gaps.append(objective(found[0], rows) / min(objective(one, rows) for one in found) - 1)
    return result | {
        f"largest gap of {len(gaps)} refits to the best of {CHECKING_STARTS + 1} starts": max(gaps)
    }


def grow() -> list[dict[str, float | int | None]]:
    """Seconds of a fit, of 100 refits, and of least_squares from 8 starts, as rows grow."""
    lines = []
    for rows in ROWS:
        frame = simulate(rows)
        table, peer = as_table(frame), LeastSquares(frame)
        fit = _seconds(partial(_fit, table, 0))
        more = _seconds(partial(_fit, table, 100))
        starts = _seconds(partial(peer.best, 8), 1) if rows <= ROWS_FOR_PEERS else None
        lines.append({"rows": rows, "fit": fit, "100 refits": more - fit, "least_squares": starts})
    return lines


class LeastSquares:
    """scipy's least_squares at its best here: centred logarithms, exact Jacobian, starts by
    variable projection.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        logs = [np.log(frame[name].to_numpy()) for name in ("params", "tokens")]
        self.means = [float(values.mean()) for values in logs]
        self.n, self.d = (values - mean for values, mean in zip(logs, self.means, strict=True))
        self.loss = frame["loss"].to_numpy()
        self.log_loss = np.log(self.loss)

    def best(self, starts: int, coefficients: Sequence[float] | None = None) -> list[float]:
        """E, A, B, alpha, beta: the best of the starts, or from the coefficients given."""
        begin = self.starts(starts) if coefficients is None else [self._inside(coefficients)]
        tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-10)
        ends = [
            optimize.least_squares(
                self._residual,
                x,
                jac=self._jacobian,
                loss="huber",
                f_scale=DELTA,
                x_scale="jac",
                **tolerances,
            )
            for x in begin
        ]
        e, a, alpha, b, beta = min(ends, key=lambda end: end.cost).x
        return [
            np.exp(e),
            np.exp(a + alpha * self.means[0]),
            np.exp(b + beta * self.means[1]),
            alpha,
            beta,
        ]

    def starts(self, count: int) -> list[np.ndarray]:
        found = []
        for alpha, beta in itertools.product(np.geomspace(0.05, 2.0, 12), repeat=2):
            terms = np.stack(
                [np.ones_like(self.n), np.exp(-alpha * self.n), np.exp(-beta * self.d)], axis=1
            )
            amplitude, misfit = optimize.nnls(terms / self.loss[:, None], np.ones_like(self.n))
            e, a, b = np.log(np.maximum(amplitude, 1e-9))
            found.append((misfit, np.array([e, a, alpha, b, beta])))
        return [x for _, x in sorted(found, key=lambda pair: pair[0])[:count]]

    def _inside(self, coefficients: Sequence[float]) -> np.ndarray:
        E, A, B, alpha, beta = coefficients
        logs = np.log(np.maximum([E, A, B], 1e-300))
        return np.array(
            [logs[0], logs[1] - alpha * self.means[0], alpha, logs[2] - beta * self.means[1], beta]
        )

    def _residual(self, x: np.ndarray) -> np.ndarray:
        terms = np.stack([np.full_like(self.n, x[0]), x[1] - x[2] * self.n, x[3] - x[4] * self.d])
        top = terms.max(axis=0)
        self.share = np.exp(terms - top)  # _jacobian is called next, with the same x
        total = self.share.sum(axis=0)
        self.share /= total
        return top + np.log(total) - self.log_loss

    def _jacobian(self, x: np.ndarray) -> np.ndarray:
        E, A, B = self.share
        return np.stack([E, A, -A * self.n, B, -B * self.d], axis=1)


def _contenders(frame: pd.DataFrame, folder: Path, full: bool) -> tuple[list[Contender], list[str]]:
    table = as_table(frame)
    N, D, L = (frame[name].to_numpy().copy() for name in ("params", "tokens", "loss"))
    peer = LeastSquares(frame)

    def ours(number: int, **changes: Any) -> list[float]:
        fit = fit_law(table, "chinchilla", bootstrap=0, holdout="none", **changes)
        return list(fit.law.coefficients().values())

    found, missing = [Contender("llmscale", partial(ours, diagnostics=False))], []
    found.append(Contender("llmscale, with diagnostics", ours))
    found.append(Contender("least_squares, 8 starts", lambda number: peer.best(8)))
    try:
        peers = importlib.import_module("vpnls.api")
    except ImportError:
        missing.append("vpnls")
    else:

        def vpnls(number: int, **settings: Any) -> list[float]:
            # in millions and billions, as its README does
            fit = peers.fit_vpnls(N / 1e6, D / 1e9, L, loss=peers.huber(DELTA), **settings)
            return [fit.E, fit.A * 1e6**fit.alpha, fit.B * 1e9**fit.beta, fit.alpha, fit.beta]

        found.append(Contender("vpnls, grid at 0.01", partial(vpnls, resolution=0.01)))
        found.append(
            Contender(
                "vpnls, scipy from that grid", partial(vpnls, resolution=0.01, method="scipy")
            )
        )
        found.append(
            Contender(
                "vpnls, scipy from grid at 0.05", partial(vpnls, resolution=0.05, method="scipy")
            )
        )
    starts = np.array(
        list(itertools.product(np.arange(0, 30, 5), np.arange(0, 30, 5), *_BESIROGLU))
    )
    few = len(starts) if full else STARTS_A_ROUND
    found.append(
        Contender(
            f"grid of {len(starts)} × BFGS",
            partial(_besiroglu, frame, starts, few),
            share=few / len(starts),
        )
    )
    try:
        core = importlib.import_module("chinchilla.core")
    except ImportError:
        missing.append("chinchilla")
    else:
        few = 5**5 if full else STARTS_A_ROUND
        path = folder / "chinchilla"
        path.mkdir(exist_ok=True)
        renamed = frame.rename(columns={"params": "N", "tokens": "D"}).assign(C=6 * N * D)
        renamed[["C", "N", "D", "loss"]].to_csv(path / "df.csv", index=False)
        found.append(
            Contender(
                "grid of chinchilla's README",
                partial(_chinchilla, core, path, few),
                share=few / 5**5,
            )
        )
    return found, missing


_BESIROGLU = (np.arange(-1, 1.5, 0.5), np.arange(0, 2.5, 0.5), np.arange(0, 2.5, 0.5))
"""Starts of ln E, alpha and beta in Besiroglu et al. 2024; ln A and ln B run over 0, 5 ... 25."""


def _besiroglu(frame: pd.DataFrame, starts: np.ndarray, few: int, number: int) -> list[float]:
    """Their objective and starts with scipy's BFGS on differences, as they publish it."""
    log_n, log_d, log_loss = (
        np.log(frame[name].to_numpy()) for name in ("params", "tokens", "loss")
    )

    def value(x: np.ndarray) -> float:
        a, b, e, alpha, beta = x
        residual = (
            np.log(np.exp(a - alpha * log_n) + np.exp(b - beta * log_d) + np.exp(e)) - log_loss
        )
        distance = np.abs(residual)
        return float(
            np.where(distance <= DELTA, 0.5 * residual**2, DELTA * (distance - 0.5 * DELTA)).sum()
        )

    with np.errstate(all="ignore"):
        rng = np.random.default_rng(number)
        ends = [optimize.minimize(value, x, method="BFGS") for x in rng.permutation(starts)[:few]]
        best = min(ends, key=lambda end: end.fun if np.isfinite(end.fun) else np.inf).x
        return [*np.exp([best[2], best[0], best[1]]), best[3], best[4]]


def _chinchilla(core: types.ModuleType, path: Path, few: int, number: int) -> list[float]:
    """Its own `fit` on starts of its README's grid, without its processes and its figure, with the
    log-Huber loss.
    """
    grid = {"E": np.linspace(1, 2, 5)}
    grid |= {name: np.linspace(1, 10, 5) for name in ("a", "b")}
    grid |= {name: np.linspace(0.1, 0.7, 5) for name in ("alpha", "beta")}
    starts = np.random.default_rng(number).permutation(list(itertools.product(*grid.values())))[
        :few
    ]
    log_huber = partial(importlib.import_module("chinchilla._metrics").log_huber, delta=DELTA)
    with (
        mock.patch.object(
            core, "itertools", types.SimpleNamespace(product=lambda *axes: list(starts))
        ),
        mock.patch.object(core.multiprocessing, "Pool"),
        mock.patch.object(core.Visualizer, "optim"),
        np.errstate(all="ignore"),
    ):
        fitted = core.Chinchilla(str(path), param_grid=grid, loss_fn=log_huber, log_level=50)
        fitted.fit(parallel=False)
    return [fitted.params[name] for name in NAMES]


def _fit(table: RunTable, refits: int) -> Fit:
    return fit_law(table, "chinchilla", bootstrap=refits, holdout="none", diagnostics=False)


def _read(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path)
    if "outlier" in frame:
        frame = frame[~frame["outlier"].astype(bool)]
    return frame[["params", "tokens", "loss"]].reset_index(drop=True)


def _seconds(work: Callable[[], object], times: int = 3) -> float:
    passed = []
    for _ in range(times):
        start = time.process_time()
        work()
        passed.append(time.process_time() - start)
    return statistics.median(passed)


def _show_fits(measured: list[Measured]) -> None:
    ours = measured[0].seconds or np.nan
    best = min(one.objective for one in measured if one.objective is not None)
    shown = rich.table.Table(
        "fit", "seconds", "fastest - slowest", "× llmscale", "objective", "above the best"
    )
    for one in measured:
        if one.seconds is None or one.objective is None:
            shown.add_row(one.name, "not installed")
            continue
        shown.add_row(
            one.name,
            f"{one.seconds:.4g}",
            f"{one.fastest:.4g} - {one.slowest:.4g}",
            f"{one.seconds / ours:.1f}",
            f"{one.objective:.10g}",
            f"{one.objective / best - 1:.1e}",
        )
    rich.console.Console(width=120).print(shown)


def _show_growth(lines: list[dict[str, float | int | None]]) -> None:
    shown = rich.table.Table("rows", "fit (s)", "100 refits (s)", "least_squares, 8 starts (s)")
    for line in lines:
        peer = line["least_squares"]
        shown.add_row(
            f"{line['rows']:,}",
            f"{line['fit']:.3g}",
            f"{line['100 refits']:.3g}",
            "-" if peer is None else f"{peer:.3g}",
        )
    rich.console.Console(width=120).print(shown)


def _machine() -> str:
    return f"one thread of {os.cpu_count()} {platform.machine()} CPU cores"


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("numpy", "scipy", "vpnls", "chinchilla"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


if __name__ == "__main__":
    main()

"""The league of forecasts: every law is fitted to the lower budgets of every table, and asked for
the runs of the higher ones, from one origin after another.

    python experiments/league/league.py TABLE.csv ... [--law FILE.py:NAME] [--constants]

Tables are CSVs as experiments/league/collect.py writes them; a law of your own takes part with
--law. Laws in N and D are all of --laws, `curve_fit` (Chinchilla's law by
scipy.optimize.curve_fit from its usual start, on the raw loss, with intervals from its covariance
and residuals), and `auto`, what `llmscale predict` does if no law is named. One variable: a power
law with a floor, on slices of the tables.

Widened intervals are made from what forecasts of the other families of tables needed and from
earlier origins of the same table. Writes results/league/README.md, league.json and error.png.
--constants prints what llmscale/explain holds, from all tables: the quantiles of forecast/widths.py
and the errors of fit/choice.py."""

import argparse
import json
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from report import NEAR_OPTIMAL, REFERENCE, write
from scipy.optimize import curve_fit
from tables import Series, read, slices

from llmscale.explain.estimation.anchor import nearness
from llmscale.explain.fit.backtest import Backtest, backtest, budgets, needs_up_to
from llmscale.explain.fit.choice import CANDIDATES, judged
from llmscale.explain.forecast import widths
from llmscale.explain.forecast.widths import PROBABILITIES, PublicNeeds, growth
from llmscale.explain.laws import LAWS, Law
from llmscale.machine import available_cores

RESULTS = Path(__file__).resolve().parents[2] / "results" / "league"
LAWS_OF_TWO = ("anchored", "chinchilla", "skaling", "over-training", "kaplan")
ORIGINS_OF_TWO, ORIGINS_OF_ONE = 8, 4
LEVEL = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--law", action="append", default=[], help="FILE.py:NAME")
    parser.add_argument("--constants", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder for predictions: what is there stays")
    given = parser.parse_args()
    laws = (*LAWS_OF_TWO, *given.law)
    wholes = [read(path) for path in given.tables]
    parts = [part for table in wholes for part in slices(table)]
    names = [LAWS.find(law).name for law in laws]
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    asked = [(table, law) for law in (*laws, "curve_fit") for table in wholes]
    asked += [(part, "power-floor") for part in parts]
    with ProcessPoolExecutor(available_cores()) as pool:
        found = list(pool.map(partial(predictions, keep=given.keep), *zip(*asked, strict=True)))
    held = pd.concat([one for one in found if len(one)], ignore_index=True)
    held = held[held["horizon"] > 0]
    held = rewidened(held)
    held = pd.concat([held, *(chosen(runs) for _, runs in _whole(held).groupby("series"))])
    RESULTS.mkdir(parents=True, exist_ok=True)
    write(RESULTS, held, [*names, "curve_fit", "auto"])
    print((RESULTS / "README.md").read_text(encoding="utf-8"))
    if given.constants:
        print(json.dumps(constants(held), indent=1))


def predictions(item: Series, law: str, *, keep: Path | None) -> pd.DataFrame:
    """Every held-out prediction of a table by a law; read from `keep` if it is there."""
    warnings.simplefilter("ignore")
    path = keep and keep / f"{item.name}, {Path(law).name}.parquet".replace(":", "-")
    if path and path.exists():
        return pd.read_parquet(path)
    if law == "curve_fit":
        frame = plain_curve_fit(item)
    elif item.variable is None:
        frame = backtest(item.runs, law, origins=ORIGINS_OF_TWO, level=LEVEL).frame
    else:
        few, of = ORIGINS_OF_ONE, item.variable
        frame = backtest(item.runs, law, origins=few, level=LEVEL, variable=of).frame
    name = law if law == "curve_fit" else LAWS.find(law).name
    about = {"series": item.name, "family": item.family, "seen": item.seen, "broken": item.broken}
    about |= {"variables": 1 if item.variable else 2, "runs": len(item.frame)}
    frame = frame.assign(law=name, **about)
    if path:
        frame.to_parquet(path)
    return frame


def plain_curve_fit(item: Series) -> pd.DataFrame:
    """What most people do, at the same origins."""

    def loss(at, E, A, B, alpha, beta):  # type: ignore[no-untyped-def]
        N, D = at
        return E + A / N**alpha + B / D**beta

    asked = backtest(item.runs, REFERENCE, origins=ORIGINS_OF_TWO, bootstrap=0).frame
    frame = item.runs.frame
    budget = budgets(frame, ("params", "tokens"))
    parts = []
    for origin, rows in asked.groupby("origin"):
        known, ahead = frame[budget <= origin], frame[budget > origin]
        at = known["params"].to_numpy(), known["tokens"].to_numpy()
        to = ahead["params"].to_numpy(), ahead["tokens"].to_numpy()
        try:
            best, covariance = curve_fit(
                loss, at, known["loss"].to_numpy(), p0=(1.7, 400.0, 400.0, 0.34, 0.28), maxfev=20000
            )
        except RuntimeError:
            continue
        left = known["loss"].to_numpy() - loss(at, *best)
        rng = np.random.default_rng(0)
        covariance = np.where(np.isfinite(covariance), covariance, 0.0)
        draws = rng.multivariate_normal(best, covariance, 200, method="svd")
        ends = np.stack([loss(to, *draw) for draw in draws]) + rng.choice(left, (200, 1))
        low, high = np.maximum(np.nanquantile(ends, [0.05, 0.95], axis=0), 1e-3)
        told = {"predicted": np.maximum(loss(to, *best), 1e-3), "plain_low": low}
        parts.append(rows.assign(**told, plain_high=high, low=low, high=high))
    return pd.concat(parts, ignore_index=True) if parts else asked.iloc[:0]


def rewidened(held: pd.DataFrame) -> pd.DataFrame:
    """The intervals with what other families needed in the place of what widths.py holds."""
    parts = []
    for (law, variables), runs in held.groupby(["law", "variables"]):
        if law == "curve_fit":
            parts.append(runs)
            continue
        kind = LAWS.find(str(law)) if law in LAWS.names else Law
        public = widths.SEVERAL_VARIABLES if variables == 2 else widths.ONE_VARIABLE
        if kind.estimator == "anchor":
            public = widths.ANCHORED
        for family, own in runs.groupby("family"):
            others = runs[runs["family"] != family]
            needs = public
            if len(others):
                low, high = needs_of(others)
                needs = replace(public, low=low, high=high)
            for _, table in own.groupby("series"):
                origins = table.groupby("origin")
                parts += [_judged_by(kind, needs, some, table) for _, some in origins]
    return pd.concat(parts, ignore_index=True)


def _judged_by(
    law: type[Law], public: PublicNeeds, runs: pd.DataFrame, every: pd.DataFrame
) -> pd.DataFrame:
    """The runs ahead of one origin, with the m that the backtest took exchanged."""
    needs = needs_up_to(every, int(runs["origin"].iloc[0]))
    h = runs["horizon"].to_numpy(dtype=float)
    unit = runs["scale"].to_numpy(dtype=float) * growth(h)
    below, above = (m * unit for m in widths.multipliers(public, needs, h, LEVEL))
    off = runs["off"].to_numpy(dtype=float)
    middle, low, high = (
        runs[name].to_numpy(dtype=float) for name in ("predicted", "plain_low", "plain_high")
    )
    ends = widths.widened(
        law, middle, low, high, (np.hypot(below, off), np.hypot(above, off)), public.most
    )
    return runs.assign(low=ends[0], high=ends[1])


def needs_of(runs: pd.DataFrame) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Quantiles of what these runs needed below and above: families, their tables, and next budget
    or further each count the same, near-optimal runs more than others."""
    near = (runs["steps"] == 1).rename("near")
    weight = nearness(runs["excess"])
    weight /= weight.groupby([runs["series"], runs["origin"], runs["budget"]]).transform("sum")
    weight /= weight.groupby([runs["series"], near]).transform("sum")
    weight /= runs.groupby("family")["series"].transform("nunique")
    found = []
    for side in ("low", "high"):
        values = runs[f"needed_{side}"].to_numpy(dtype=float)
        order = np.argsort(values)
        reached = np.cumsum(weight.to_numpy()[order]) / weight.sum()
        places = np.minimum(np.searchsorted(reached, PROBABILITIES), len(values) - 1)
        found.append(tuple(float(f"{value:.4g}") for value in values[order][places]))
    return found[0], found[1]


def constants(held: pd.DataFrame) -> dict[str, Any]:
    of_two = _whole(held)
    errors = {law: public_error(runs) for law, runs in of_two.groupby("law") if law in LAWS.names}
    return {
        "PUBLIC_ERRORS": errors,
        "ANCHORED": needs_of(of_two[of_two["law"] == "anchored"]),
        "SEVERAL_VARIABLES": needs_of(of_two[of_two["law"] == "chinchilla"]),
        "ONE_VARIABLE": needs_of(held[held["variables"] == 1]),
    }


def public_error(runs: pd.DataFrame) -> float:
    """Typical |error| of ln L per unit of growth: of near-optimal runs, the mean of every table,
    and of these the geometric mean."""
    near = runs[runs["excess"] <= NEAR_OPTIMAL]
    error = np.abs(np.log(near["predicted"] / near["loss"])) / growth(near["horizon"])
    by_table = error.groupby(near["series"]).mean()
    return float(f"{np.exp(np.log(by_table).mean()):.3g}")


def chosen(runs: pd.DataFrame) -> pd.DataFrame:
    """What the law that erred least at earlier origins says, at every origin of one table."""
    parts = []
    # Laws with fewer coefficients have earlier origins, at which there is nothing to choose.
    of_first = runs.loc[runs["law"] == CANDIDATES[0], "origin"]
    for origin in sorted(of_first.unique()):
        tests = {}
        for law in CANDIDATES:
            past = runs[(runs["law"] == law) & (runs["origin"] < origin)]
            past = past[past["budget"] <= origin]
            tests[law] = Backtest(law, LEVEL, 0, past)
        order = [one.law for one in judged(tests)]
        now = runs[runs["origin"] == origin]
        first = next(law for law in order if (now["law"] == law).any())
        parts.append(now[now["law"] == first].assign(law="auto"))
    return pd.concat(parts)


def _whole(held: pd.DataFrame) -> pd.DataFrame:
    return held[held["variables"] == 2]


if __name__ == "__main__":
    main()

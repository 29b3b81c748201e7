"""How well is the end of a run known before it ends? Every finished run of our own sweeps, cut off
at 25, 50 and 75% of its training, and forecast from the runs that take less compute.

    .venv/bin/python experiments/curve_ends.py

Next to the forecast (llmscale/explain/forecast/curve_end.py) stand the training loss of that moment
and the law that suits the table, fitted to the same runs. Branches of a run's trunk never judge it.
Writes results/curve-ends/curve_ends.json, README.md and figures/errors.png.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from llmscale.errors import LlmscaleError
from llmscale.explain.estimation.suitability import default_laws
from llmscale.explain.fit import fit_law
from llmscale.explain.forecast.curve import Curve
from llmscale.explain.forecast.curve_end import forecast_end
from llmscale.explain.forecast.folder_curves import folder_curves
from llmscale.explain.table import RunTable, read_table
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.rows import read_rows
from llmscale.runs.run import Run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "curve-ends"
SHARES = (0.25, 0.5, 0.75)
LEVEL = 0.9
WHY = (
    "Runs of one size and budget miss together: on learning-rate the places of the table, seven of "
    "them, are off by up to 4.6% as wholes, and the runs of one place by 0.2% to 0.9% among "
    "themselves. So these counts rest on fewer independent forecasts than there are runs."
)
WAYS = {"forecast": "curve and ladder", "law": "law only", "now": "loss of the moment"}


def main() -> None:
    frame = pd.DataFrame([row for path in folders() for row in asked(path)])
    named = frame.groupby(["folder", "share"])
    errors = named[list(WAYS)].mean()
    errors["width"], errors["inside"] = named["width"].mean(), named["inside"].mean()
    errors["runs"], errors["untold"] = named.size(), named["width"].agg(lambda of: of.isna().sum())
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "curve_ends.json").write_text(
        json.dumps(errors.reset_index().to_dict("records"), indent=2) + "\n"
    )
    (RESULTS / "README.md").write_text(page(errors))
    (RESULTS / "figures").mkdir(exist_ok=True)
    draw(errors).savefig(RESULTS / "figures" / "errors.png", dpi=150)
    print(page(errors))


def folders() -> list[Path]:
    """Our sweeps that are in this repository with their curves."""
    return sorted(path.parent for path in (ROOT / "results").glob("*/curves.parquet"))


def asked(path: Path) -> Iterator[dict[str, object]]:
    """One row a run and share: the errors of each way."""
    folder, table = ResultsFolder(path), read_table(path)
    rows = [row for row in read_rows(folder.runs_path)[0].values() if row.status == "done"]
    curves = {curve.run_id: curve for curve in folder_curves(folder, rows)}
    for row in rows:
        smaller = [one for one in rows if one.recipe == row.recipe and one.flops < 0.99 * row.flops]
        others = [curves[one.run_id] for one in smaller]
        others = [one for one in others if one.family != curves[row.run_id].family]
        law = by_law(table, row, {one.run_id for one in others})
        for share in SHARES:
            cut = until(curves[row.run_id], share)
            try:
                told = forecast_end(cut, others, title=row.run_id, level=LEVEL)
            except LlmscaleError:
                continue
            assert row.loss is not None
            has_ends = np.isfinite(told.low)
            is_inside = told.low <= row.loss <= told.high
            yield {
                "folder": path.name,
                "share": share,
                "forecast": abs(told.loss / row.loss - 1),
                "law": abs(law / row.loss - 1),
                "now": abs(told.now / row.loss - 1),
                "width": 0.5 * (told.high - told.low) / told.loss,
                "inside": float(is_inside) if has_ends else np.nan,
            }


def until(curve: Curve, share: float) -> Curve:
    """The curve as it was at that share of its training."""
    seen = curve.tokens_S <= share * curve.planned
    return replace(
        curve,
        tokens_S=curve.tokens_S[seen],
        train_loss_S=curve.train_loss_S[seen],
        loss=float("nan"),
    )


def by_law(table: RunTable, row: Run, used: set[str]) -> float:
    """What the law that suits these runs says of another; NaN if none can be fitted."""
    part = table.select(table.frame["run_id"].isin(used).to_numpy())
    try:
        law = default_laws(part)[0]
        fit = fit_law(part, law, bootstrap=0, holdout="none", diagnostics=False)
    except (LlmscaleError, ValueError):
        return float("nan")
    return float(fit.law.loss(*(float(getattr(row, name)) for name in fit.law.inputs)))


def page(errors: pd.DataFrame) -> str:
    """The README of the results."""
    lines = [
        "# The end of a run, before it ends",
        "",
        "Mean relative error of the final validation loss of finished runs, each forecast at a "
        "share of its training from the runs of its sweep and recipe that take less compute "
        f"(`llmscale predict --from-curve`); half the width of its {LEVEL:.0%} interval, and how "
        "many losses fell inside. The last column counts runs that got no interval: there were too "
        "few smaller ones to test a forecast, or they did not differ in what the run differs from "
        "them in, or the run was unlike them. Made by `experiments/curve_ends.py`.",
        "",
        f"| sweep | trained | runs | {' | '.join(WAYS.values())} | half-width | inside | untold |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (folder, share), row in errors.iterrows():
        cells = [f"{row[name]:.2%}" if np.isfinite(row[name]) else "-" for name in (*WAYS, "width")]
        inside = f"{row['inside']:.0%}" if np.isfinite(row["inside"]) else "-"
        lines.append(
            f"| {folder} | {share:.0%} | {row['runs']:.0f} | {' | '.join(cells)} | {inside} | "
            f"{row['untold']:.0f} |"
        )
    return "\n".join([*lines, "", held(errors), "", WHY, "", "![errors](figures/errors.png)", ""])


def held(errors: pd.DataFrame) -> str:
    """A sentence on what the intervals held in each sweep, at all shares together."""
    counted = errors.assign(told=errors["runs"] - errors["untold"])
    counted["inside"] *= counted["told"]
    sums = counted.groupby("folder")[["inside", "told"]].sum().round().astype(int)
    parts = [
        f"{row['inside']} of {row['told']} on {folder} ({row['inside'] / row['told']:.0%})"
        for folder, row in sums.iterrows()
    ]
    return f"At all three shares together {LEVEL:.0%} intervals held {', '.join(parts)}."


def draw(errors: pd.DataFrame) -> Figure:
    """A panel a sweep: error by share, a line a way."""
    names = list(dict.fromkeys(errors.index.get_level_values("folder")))
    figure = Figure(figsize=(2.0 * len(names), 2.6), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, name in zip(panels, names, strict=True):
        of_one = 100 * errors.loc[name][list(WAYS)]
        for way, label in WAYS.items():
            ax.plot(100 * of_one.index, of_one[way], "o-", ms=3, lw=1.2, label=label)
        ax.set(title=name, xlabel="% trained", xticks=[25, 50, 75], yscale="log")
        ax.title.set_fontsize(8)
    panels[0].set_ylabel("mean error of the end, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    main()

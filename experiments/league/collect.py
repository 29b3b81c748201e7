"""Tables of the league, as CSVs with params, tokens and loss, from the repositories that publish
them.

    git clone https://github.com/Open-Athena/scaling-law-analysis
    git clone https://github.com/formll/resolving-scaling-law-discrepancies
    python experiments/league/collect.py --published FOLDER --isoflops scaling-law-analysis \\
        --porian resolving-scaling-law-discrepancies --out TABLES

FOLDER holds the tables that the README of results/league names; each of the three may be left out.
Porian et al. publish pickles, of which only frames and arrays are read."""

import argparse
import lzma
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

FOLDER_TABLES = ("chinchilla_epoch", "chinchilla_scalefit", "llama3_isoflop", "farseer")
HOW = ("dataset", "hparams", "warmup", "decay", "param_count", "val")
"""What a table of Porian et al. is told by."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("published", "isoflops", "porian"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pd.DataFrame] = {}
    if given.published:
        tables |= published(given.published)
    if given.isoflops:
        tables |= isoflops(given.isoflops / "data" / "isoflops" / "transform" / "isoflops.csv")
    if given.porian:
        tables |= porian(given.porian / "data")
    for name, frame in tables.items():
        good = frame.dropna(subset=["params", "tokens", "loss"])
        good.to_csv(given.out / f"{name}.csv", index=False)
        print(f"{name}: {len(good)} runs")


def published(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of Hoffmann, Llama 3, Farseer, Step Law, Gadre, Muennighoff and Gemstones."""
    frames = {path.stem: _params(pd.read_csv(path)) for path in sorted(folder.glob("*.csv"))}
    found = {name: _plain(frames[name]) for name in FOLDER_TABLES}
    step = frames["step_law"].groupby(["params", "tokens"], as_index=False)["loss"].min()
    found["step_best"] = step
    for name, runs in frames["gadre_overtrain"].groupby("dataset"):
        found[f"gadre_{name}"] = _plain(runs)
    for name in ("data_constrained", "muennighoff_repeated"):
        frame = frames[name]
        fresh = frame["tokens"] <= 2 * frame["unique_tokens"]
        if "dedup" in frame:
            fresh &= ~frame["dedup"].astype(bool)
        found[f"repeated_{name.removesuffix('_repeated').replace('_', '-')}"] = _plain(frame[fresh])
    gemstones = frames["gemstones_hot"]
    found["gemstones_hot"] = _plain(gemstones).assign(run=gemstones["run"])
    return found


def isoflops(path: Path) -> dict[str, pd.DataFrame]:
    """Marin's runs on three texts, and those of (Mis)Fitting."""
    frame = pd.read_csv(path)
    found = {}
    for (source, text), runs in frame.groupby(["source", "dataset"]):
        if source == "marin_202603":
            found[f"marin_{text}"] = _plain(runs)
        elif source == "misfitting":
            found["misfitting_c4"] = _plain(runs)
    return found


def porian(folder: Path) -> dict[str, pd.DataFrame]:
    """Every sweep of Porian et al. (2024): sizes by budgets, by text and recipe."""
    found = {}
    for name in ("summary_df", "summary_df_owt2", "summary_df_kaplan_tuned_hparams"):
        with lzma.open(folder / f"{name}.pickle.xz") as stream:
            sweeps = _OnlyFrames(stream).load()
        for _, sweep in sweeps.iterrows():
            rows = []
            for _, budget in sweep["data"].iterrows():
                columns = (np.atleast_1d(budget[key]) for key in ("orig_n", "orig_t", "orig_loss"))
                rows += list(zip(*columns, strict=True))
            text, *how = (str(sweep[key]) for key in HOW)
            frame = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
            found[f"porian-{text}_{'-'.join(how)}"] = frame.drop_duplicates()
    return found


class _OnlyFrames(pickle.Unpickler):
    """Reads frames and arrays, and refuses all else that a pickle could make."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] in ("pandas", "numpy", "datetime") or (module, name) == (
            "builtins",
            "slice",
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is neither a frame nor an array")


def _params(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"n_params": "params"})


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    if "outlier" in frame and frame["outlier"].dtype == bool:
        frame = frame[~frame["outlier"]] if "reason" not in frame else frame
    return frame[["params", "tokens", "loss"]]


if __name__ == "__main__":
    main()

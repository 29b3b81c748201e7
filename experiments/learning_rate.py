"""Does the learning-rate rule hold? Trains sizes of the CPU ladder at several multiples of it and compares losses.

    .venv/bin/python experiments/learning_rate.py [SIZES [SCALES]]      by default 10k,60k,330k and 0.5,1,2

Each run is a sweep of its own on one core, as many at a time as there are cores; run again, it goes on where it was
stopped. Writes results/learning-rate/runs.parquet and prints the table.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
LADDER = ROOT / "experiments" / "cpu.toml"
RESULTS = ROOT / "results" / "learning-rate"


def main(sizes: str = "10k,60k,330k", scales: str = "0.5,1,2") -> None:
    pairs = [(size, float(scale)) for size in reversed(sizes.split(",")) for scale in scales.split(",")]
    frames = dict(zip(pairs, train_all(pairs), strict=True))
    table = pd.concat([frame.assign(lr_scale=scale) for (_, scale), frame in frames.items()])
    table = table.sort_values(["params", "lr"], ignore_index=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    table.to_parquet(RESULTS / "runs.parquet", compression="zstd")
    print(describe(table))


def train_all(pairs: list[tuple[str, float]]) -> list[pd.DataFrame]:
    """The table of runs of each (size, scale), trained one a core, in the order given."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(len(pairs)):
        waiting.put(place)
    frames: dict[int, pd.DataFrame] = {}

    def work(core: int) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                place = waiting.get_nowait()
                frames[place] = train(*pairs[place], core)

    threads = [threading.Thread(target=work, args=(core,)) for core in sorted(os.sched_getaffinity(0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [frames[place] for place in range(len(pairs))]


def train(size: str, scale: float, core: int) -> pd.DataFrame:
    """The table of runs of one size at one multiple of the rule's learning rate."""
    out = RESULTS / "runs" / f"{size}-x{scale:g}"
    command = [sys.executable, "-m", "llmscale", "sweep", str(LADDER), "--sizes", size]
    command += ["--lr-scale", str(scale), "--out", str(out), "--json"]
    command = ["taskset", "--cpu-list", str(core), *command]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return pd.DataFrame(json.loads(finished.stdout)["runs"])


def describe(table: pd.DataFrame) -> str:
    lines = [f"{'size':>6} {'N':>9} {'lr':>9} {'x rule':>7} {'loss':>8}  against the rule"]
    for _, runs in table.groupby("params"):
        ruled = runs.loc[runs["lr_scale"] == 1, "loss"].iloc[0]
        for run in runs.to_dict("records"):
            change = f"{run['loss'] / ruled - 1:+.2%}"
            counts = f"{run['size']:>6} {run['params']:>9,} {run['lr']:>9.5f} {run['lr_scale']:>7g}"
            lines.append(f"{counts} {run['loss']:>8.4f}  {change}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Tables of the league: what runs they hold, which family they are of, and their slices in one
variable.

A table is a CSV with params, tokens, loss and perhaps a column `run`; its family is what its name
begins with. Families share data or a laboratory's recipe, and never judge each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from llmscale import read_runs
from llmscale.explain.table import RunTable

SHORTEST_SLICE = 6
SEEN = ("chinchilla", "marin", "gadre", "step", "porian-rw", "repeated")
"""Families with which weights and priors of `anchored` were chosen. The others were only looked at
afterwards."""
BROKEN = ("porian-rw", "porian-owt2")
"""Families with recipes that were found wanting: warm-up longer than small runs, no decay, one
learning rate for all sizes (Porian et al. 2024)."""


@dataclass(frozen=True)
class Series:
    """Runs that one law is fitted to; `variable` is that of laws in one, or None."""

    name: str
    family: str
    variable: str | None
    frame: pd.DataFrame

    @property
    def runs(self) -> RunTable:
        """The table as it stands: nothing about it is doubted."""
        columns = [name for name in ("params", "tokens", "flops") if name in self.frame]
        return read_runs(self.frame, units=dict.fromkeys(columns, "1"))

    @property
    def seen(self) -> bool:
        return self.family.split()[0] in SEEN

    @property
    def broken(self) -> bool:
        return self.family.split()[0] in BROKEN


def read(path: Path) -> Series:
    """A table in N and D."""
    frame = pd.read_csv(path)
    frame[["params", "tokens"]] = frame[["params", "tokens"]].astype(float)
    columns = ["params", "tokens", "loss"]
    if "run" in frame:
        frame["run_id"] = frame["run"].astype(str)
        columns.append("run_id")
    return Series(path.stem, path.stem.split("_")[0], None, frame[columns])


def slices(table: Series) -> Iterator[Series]:
    """Its runs at one budget of tokens, or at one size, and the best of every budget of FLOPs."""
    frame = table.frame[["params", "tokens", "loss"]]
    flops = 6.0 * frame["params"] * frame["tokens"]
    budget = flops.map(_two_digits)
    best = frame.loc[frame.groupby(budget)["loss"].idxmin()].assign(flops=flops)
    if 7 <= len(best) < 20:
        yield Series(f"{table.name}, best", f"{table.family} C", "flops", best)
    for fixed, variable in (("tokens", "params"), ("params", "tokens")):
        for value, some in frame.groupby(frame[fixed].map(_two_digits)):
            if some[variable].map(_two_digits).nunique() >= SHORTEST_SLICE:
                name = f"{table.name}, {fixed} {value:.2g}"
                yield Series(name, f"{table.family} {variable}", variable, some)


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")

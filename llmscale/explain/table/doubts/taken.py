"""What was taken for N, D, C and loss, for the checks of whether it can be that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import Note

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Taken:
    """What was taken for what: base-unit columns of usable rows, their names in the source, units.
    `names` are the rows' names."""

    frame: pd.DataFrame
    columns: Mapping[str, str]
    units: Mapping[str, str]
    named: Mapping[str, str]
    names: list[str]
    path: Path
    by_hand: bool
    read: Sequence[Note] = ()
    """What was said of how the numbers of the file were read."""

    def has(self, *quantities: str) -> bool:
        return all(name in self.columns for name in quantities)

    def sure(self, *quantities: str) -> bool:
        """Whether the user gave the unit of any of these by hand."""
        return any(name in self.units for name in quantities)

    def insists(self, name: str) -> bool:
        """Whether the user said that a quantity is as it stands."""
        return self.units.get(name) == "1"

    def values(self, name: str) -> Array:
        return self.frame[name].to_numpy(dtype=float)

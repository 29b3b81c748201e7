"""What the answers of the checklist are read from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from llmscale.errors import listed
from llmscale.explain.estimation.result import Fit

Items = list[tuple[str, str | None]]
"""Questions, each with its answer or None."""


@dataclass(frozen=True)
class Sheet:
    """A fit, every row of its source, and what its sweep says."""

    fit: Fit
    runs: pd.DataFrame
    """Every run, finished or not."""
    sweep: Mapping[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """The rows that were fitted."""
        return self.fit.table.frame

    def values(self, *names: str) -> str | None:
        """The values of the first of these columns that the table has, or their range where they
        are many."""
        for name in names:
            if name not in self.frame or self.frame[name].isna().all():
                continue
            values = self.frame[name].dropna()
            if pd.api.types.is_numeric_dtype(values) and values.nunique() > 5:
                return f"{values.min():.4g} to {values.max():.4g}"
            ordered = sorted(values.unique(), key=lambda value: (str(type(value)), value))
            return listed(map(_shown, ordered))
        return None

    def setting(self, *keys: str) -> Any:
        """A value of sweep.json, or None."""
        found: Any = self.sweep
        for key in keys:
            if not isinstance(found, Mapping):
                return None
            found = found.get(key)
        return found


def text_of(value: object) -> str | None:
    """A setting as text, a sequence as a list in words."""
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        return listed(value)
    return str(value)


def _shown(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value

"""Tables in memory: of pandas, polars, pyarrow and all that speak Arrow, and dicts of columns."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from llmscale.errors import InputError

_HOW = "give a path, a pandas, polars or pyarrow table, or a dict of columns"


def is_frame(source: object) -> bool:
    """Whether `source` holds rows, and does not name a place where some are."""
    if isinstance(source, (pd.DataFrame, Mapping)):
        return True
    if isinstance(source, type):
        return False
    return hasattr(source, "__arrow_c_stream__") or hasattr(source, "to_pandas")


def to_frame(source: Any) -> pd.DataFrame:
    """A copy of the rows as a frame of pandas. Raises InputError."""
    if isinstance(source, pd.DataFrame):
        return source.copy()
    name = type(source).__name__
    try:
        if isinstance(source, Mapping):
            return pd.DataFrame({str(key): _column(values) for key, values in source.items()})
        if hasattr(source, "__arrow_c_stream__"):
            return _from_arrow(source)
        frame = source.to_pandas()
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(f"no table can be made of the {name}: {reason[0][:120]}", _HOW) from error
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"to_pandas() of the {name} gives a {type(frame).__name__}", _HOW)
    return frame.copy()


def _column(values: Any) -> Any:
    """The values of a column, in a list."""
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise ValueError(f"a column is a {type(values).__name__}, not a list of values")
    return list(values)


def _from_arrow(source: Any) -> pd.DataFrame:
    import pyarrow as pa

    table = pa.table(source)
    # Views of strings are how polars sends text, and not every pyarrow makes frames of them.
    view = getattr(pa.types, "is_string_view", lambda kind: False)
    fields = [
        field.with_type(pa.large_string()) if view(field.type) else field for field in table.schema
    ]
    return table.cast(pa.schema(fields)).to_pandas()

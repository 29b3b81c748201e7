"""Columns of any kind as numbers, truths and text, to be compared, grouped and printed."""

import decimal
import json
from typing import Any

import numpy as np
import pandas as pd

_PLAIN = (str, bool, int, float, np.bool_, np.integer, np.floating)


def plain(frame: pd.DataFrame, *, objects: bool = False) -> pd.DataFrame:
    """The frame with lists, dates, categories and the like as text, and decimals as numbers.
    Objects stay if `objects` says so, to become columns of their own, and are text otherwise."""
    if frame.columns.has_duplicates:
        return frame
    return pd.DataFrame(
        {name: _plain_column(frame[name], objects) for name in frame.columns}, index=frame.index
    )


def flat_names(frame: pd.DataFrame) -> list[str]:
    """One name a column: ("loss", "mean") is loss, ("loss", "std") is loss_std."""
    names = []
    for column in frame.columns:
        if isinstance(column, tuple):
            texts = [str(part).strip() for part in column if not _unnamed(part)]
            parts = [text for text in texts if text]
            means = ("mean", "average", "avg")
            names.append("_".join(parts[:1] + [x for x in parts[1:] if x.lower() not in means]))
        else:
            names.append(str(column).strip())
    return names


def with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a plain index; levels that have a name, as after a groupby, become columns."""
    levels = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if not levels:
        return frame.reset_index(drop=True)
    names = enumerate(frame.index.names)
    return frame.droplevel([level for level, name in names if name not in levels]).reset_index()


def _unnamed(part: object) -> bool:
    return str(part).startswith("Unnamed: ")


def _plain_column(column: pd.Series, objects: bool) -> pd.Series:
    kind = column.dtype
    if isinstance(kind, np.dtype) and kind.kind in "biuf":
        return column
    types = pd.api.types
    if isinstance(kind, (pd.CategoricalDtype, pd.SparseDtype)):
        return _plain_column(
            pd.Series(column.to_numpy(), index=column.index).infer_objects(), objects
        )
    if types.is_bool_dtype(kind) and not types.is_object_dtype(kind):
        missing = column.isna()
        return column.astype(object).where(~missing, None) if missing.any() else column.astype(bool)
    if types.is_numeric_dtype(kind) and not types.is_complex_dtype(kind):
        if column.isna().any() or not types.is_integer_dtype(kind):
            return pd.Series(column.to_numpy(dtype="float64", na_value=np.nan), index=column.index)
        return pd.Series(column.to_numpy(), index=column.index)
    if isinstance(kind, pd.StringDtype) and kind == pd.Series(["text"]).dtype:
        return column
    values = [_plain_value(value, objects) for value in column]
    if all(type(value) is float or value is None for value in values) and any(values):
        return pd.Series(values, index=column.index, dtype="float64")
    result = pd.Series(values, index=column.index, dtype=object)
    return result.infer_objects() if types.is_object_dtype(kind) else result


def _plain_value(value: Any, objects: bool) -> Any:
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, _PLAIN) or (objects and isinstance(value, dict)):
        return value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return json.dumps(list(value), default=_spelt)
    if isinstance(value, dict):
        return json.dumps({str(key): item for key, item in value.items()}, default=_spelt)
    return str(value) if isinstance(value, np.datetime64) else _spelt(value)


def _spelt(value: Any) -> Any:
    """The value as text, or as lists for JSON."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return bytes(value).hex()
    return str(value)

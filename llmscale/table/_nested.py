"""Objects within objects, as JSON and Weights & Biases hold runs, made flat: `config.lr`, `summary.loss`."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from llmscale.errors import InputError
from llmscale.table._not_a_table import refuse_answer

STATES = ("finished", "running", "crashed", "failed", "killed", "preempting", "preempted", "pending")
"""The states of a run in Weights & Biases; only a finished one has its last loss."""

_OBJECTS = ("config", "summary", "summary_metrics")


def frame_from_json(text: str, file: Path) -> pd.DataFrame:
    """The rows of JSON lines, of an array of objects, or of an object of columns. Raises InputError or ValueError."""
    rows: Any
    try:
        rows = json.loads(text, object_pairs_hook=_each_key_once)
    except json.JSONDecodeError as error:
        if "Extra data" not in error.msg:
            raise
        rows = _lines(text, file)
    except _KeyTwiceError as error:
        raise InputError(f"{file} has {error}", "give each value its own name") from None
    refuse_answer(rows, file)
    if isinstance(rows, dict) and set(rows) in ({"columns", "data"}, {"columns", "index", "data"}):
        return pd.DataFrame(rows["data"], columns=rows["columns"])  # as pandas writes orient="split"
    if isinstance(rows, dict) and isinstance(rows.get("log_history"), list):
        return _trainer_state(rows)
    if isinstance(rows, dict) and not any(name in rows for name in _OBJECTS):
        lists = [value for value in rows.values() if isinstance(value, list)]
        parts = [value for value in rows.values() if isinstance(value, dict) and value]
        if len(lists) == len(rows) > 1 or (len(parts) == len(rows) and len({tuple(part) for part in parts}) == 1):
            return pd.DataFrame(rows)
        if len(lists) == 1 and all(isinstance(row, dict) for row in lists[0]):
            rows = lists[0]
    rows = [rows] if isinstance(rows, dict) else rows
    if isinstance(rows, list) and rows and all(_is_scalar_of_tensorboard(row) for row in rows):
        return pd.DataFrame(rows, columns=["Wall time", "Step", "Value"])
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise InputError(f"{file} holds JSON, but not one object a run", 'write a run as {"params": 1e6, "loss": 3.2}')
    return pd.DataFrame([_flat(row) for row in rows])


class _KeyTwiceError(ValueError):
    """An object that gives two values for one key, of which Python would take the last in silence."""


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen and seen[key] != value:
                raise _KeyTwiceError(f"an object that gives {key!r} twice: {seen[key]!r:.40} and {value!r:.40}")
            seen[key] = value
    return found


def _trainer_state(state: dict[str, Any]) -> pd.DataFrame:
    """The log of Hugging Face's Trainer, with what it counted in the end."""
    rows = [_flat(row) for row in state["log_history"] if isinstance(row, dict)]
    frame = pd.DataFrame(rows or [{"step": state.get("global_step"), "epoch": state.get("epoch")}])
    for name in ("total_flos", "num_input_tokens_seen", "max_steps"):
        value = state.get(name)
        if isinstance(value, (int, float)) and value > 0 and len(frame):
            frame[name] = [*frame[name][:-1], value] if name in frame.columns else [None] * (len(frame) - 1) + [value]
            frame[name] = frame[name].astype(float)
    if "learning_rate" not in frame.columns:
        frame["learning_rate"] = None
    return frame


def _is_scalar_of_tensorboard(row: Any) -> bool:
    numbers = (int, float)
    return isinstance(row, list) and len(row) == 3 and all(isinstance(value, numbers) for value in row) and row[0] > 1e8


def unfold(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every column of objects (`config`, `summary`) replaced by columns of their values."""
    if frame.columns.has_duplicates:
        return frame
    objects = {name: _objects(frame[name], name) for name in frame.columns}
    if all(items is None for items in objects.values()):
        return frame
    parts = [
        frame[[name]] if items is None else pd.DataFrame([_flat({name: item or {}}) for item in items], frame.index)
        for name, items in objects.items()
    ]
    return pd.concat(parts, axis=1)


def state_column(frame: pd.DataFrame) -> str | None:
    """The column with the states of Weights & Biases, in a table that has no `status`."""
    for name in frame.columns:
        if name.lower() == "state":
            states = frame[name].dropna()
            if len(states) and states.astype(str).str.lower().isin(STATES).all():
                return name
    return None


def run_name_column(frame: pd.DataFrame) -> str | None:
    """The column that names the runs of an export: `name` where every name is another, else `id`, else `name`."""
    there = [name for wanted in ("name", "id") for name in frame.columns if name.lower() == wanted]
    unique = [name for name in there if not frame[name].duplicated().any()]
    return next(iter([*unique, *there]), None)


def refuse_chart(frame: pd.DataFrame, source: Path) -> None:
    """Raise InputError for the export of a chart, which has a row a step and three columns a run."""
    names = set(frame.columns)
    runs = [name for name in frame.columns if f"{name}__MIN" in names and f"{name}__MAX" in names]
    if runs:
        raise InputError(
            f"{source} is a chart exported from Weights & Biases, with a row a step and a column a run"
            f" ({runs[0]!r}), not a table of runs",
            "export the table of runs instead (the Table tab of the project, Download, CSV), with columns for"
            " parameters, tokens and the final loss",
        )


def _lines(text: str, file: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_each_key_once)
        except _KeyTwiceError as error:
            raise InputError(f"line {number} of {file} has {error}", "give each value its own name") from None
        except json.JSONDecodeError as error:
            raise InputError(
                f"line {number} of {file} is not JSON: {error.msg} at column {error.colno}", "write one object a line"
            ) from error
        if not isinstance(row, dict):
            raise InputError(f"line {number} of {file} is not a JSON object", "write one object a line")
        rows.append(row)
    return rows


def _flat(item: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in item.items():
        name = f"{prefix}{key}".strip()
        if isinstance(value, dict) and "value" in value and set(value) <= {"value", "desc"}:
            value = value["value"]  # a configuration file of Weights & Biases gives each entry a description
        parts = {name: value}
        if isinstance(value, dict):
            parts = _flat(value, f"{name}.")
        elif isinstance(value, (list, tuple, set)):
            parts = {name: json.dumps(value, default=str)}
        for part, given in parts.items():
            if part in flat and flat[part] != given:
                raise InputError(
                    f"an object gives {part!r} twice: {flat[part]!r:.40} and {given!r:.40}",
                    "give each value its own name",
                )
            flat[part] = given
    return flat


def _objects(column: pd.Series, name: str) -> list[dict[Any, Any] | None] | None:
    """The column's objects, or those its texts spell, None for a missing one; None for any other column."""
    if not (pd.api.types.is_object_dtype(column.dtype) or name in _OBJECTS):
        return None
    objects: list[dict[Any, Any] | None] = []
    for value in column:
        if isinstance(value, str) and name in _OBJECTS and value.lstrip().startswith("{"):
            value = _spelt(value)
        if isinstance(value, dict):
            objects.append(value)
        elif value is None or value is pd.NA or value != value:
            objects.append(None)
        else:
            return None
    return objects if any(objects) else None


def _spelt(text: str) -> Any:
    """The object that a text spells, in JSON or as Python prints it; the text itself where it spells none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(re.sub(r"(?<=[:\[, ])(nan|-?inf)(?=[,}\] ])", "None", text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text

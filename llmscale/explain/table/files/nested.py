"""Nested objects, as JSON and Weights & Biases hold runs, made flat: `config.lr`."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, listed
from llmscale.explain.table.columns.names import ALIASES, is_loss, last_part, quantity_of, spellings
from llmscale.explain.table.files.not_a_table import refuse_answer
from llmscale.notes.reading import RUNS_BY_KEY

STATES = spellings("finished running crashed failed killed preempting preempted pending")
"""The states of a run in Weights & Biases; only a finished one has its last loss."""

_OBJECTS = ("config", "summary", "summary_metrics")


def frame_from_json(text: str, file: Path) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """The rows of JSON lines, of an array of objects, or of an object of columns or runs; notes.
    Raises InputError or ValueError."""
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
    if isinstance(rows, dict) and isinstance(rows.get("columns"), list):
        values = next(
            (rows[name] for name in ("data", "rows", "values") if isinstance(rows.get(name), list)),
            None,
        )
        if values is not None and all(isinstance(row, list) for row in values):
            return _split(rows, values, file), ()
    if isinstance(rows, dict) and isinstance(rows.get("log_history"), list):
        return _trainer_state(rows), ()
    if isinstance(rows, dict) and _is_keyed(rows):
        return _keyed(rows, file)
    if isinstance(rows, dict) and not any(name in rows for name in _OBJECTS):
        lists = [value for value in rows.values() if isinstance(value, list)]
        parts = [value for value in rows.values() if isinstance(value, dict) and value]
        same_rows = len(parts) == len(rows) and len(set(map(tuple, parts))) == 1
        if len(lists) == len(rows) > 1 or same_rows:
            return _columns(rows, file), ()
        if len(lists) == 1 and all(isinstance(row, dict) for row in lists[0]):
            rows = lists[0]
    if isinstance(rows, dict):
        rows = [rows]
    if isinstance(rows, list) and rows and all(_is_scalar_of_tensorboard(row) for row in rows):
        return pd.DataFrame(rows, columns=["Wall time", "Step", "Value"]), ()
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise InputError(
            f"{file} holds JSON, but not one object a run",
            'write a run as {"params": 1e6, "loss": 3.2}',
        )
    return pd.DataFrame([_flat(row) for row in rows]), ()


def _split(given: dict[str, Any], rows: list[list[Any]], file: Path) -> pd.DataFrame:
    """A table with its column names given once, as pandas writes orient="split"."""
    columns = [str(name) for name in given["columns"]]
    wrong = [number for number, row in enumerate(rows, start=1) if len(row) != len(columns)]
    if wrong:
        raise InputError(
            f"row {wrong[0]} of {file} has {len(rows[wrong[0] - 1])} values, and there are "
            f"{len(columns)} columns",
            "give each row one value a column (null for none)",
        )
    frame = pd.DataFrame(rows, columns=columns)
    index = given.get("index")
    if isinstance(index, list) and len(index) == len(rows):
        frame = _named_rows(frame, index)
    return frame


def _columns(given: dict[str, Any], file: Path) -> pd.DataFrame:
    """A table of columns, each a list, or an object by row as pandas writes orient="columns"."""
    lengths = {name: len(values) for name, values in given.items()}
    if len(set(lengths.values())) > 1:
        one = next(iter(lengths))
        other = next(name for name in lengths if lengths[name] != lengths[one])
        raise InputError(
            f"{file} has {lengths[one]} values of {one!r} and {lengths[other]} of {other!r}",
            "give every column one value a run (null for none)",
        )
    frame = pd.DataFrame(given)
    first = next(iter(given.values()))
    if isinstance(first, dict):
        return _named_rows(frame.reset_index(drop=True), list(first))
    return frame


def _is_keyed(given: dict[str, Any]) -> bool:
    """Whether an object holds a run a key: its parts share a quantity, and no key is one."""
    parts = list(given.values())
    if len(parts) < 2 or not all(isinstance(part, dict) and part for part in parts):
        return False
    shared = set.intersection(*(set(_flat(part)) for part in parts))
    return any(map(_is_quantity, shared)) and not any(map(_is_quantity, map(str, given)))


def _is_quantity(name: str) -> bool:
    return is_loss(last_part(name)) or quantity_of(last_part(name)) in ALIASES


def _keyed(given: dict[str, Any], file: Path) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """A table of an object of runs, as orient="index"; keys that are names become run ids."""
    frame = pd.DataFrame([_flat(run) for run in given.values()])
    named = _named_rows(frame, list(given))
    what = ", which is its run id" if len(named.columns) > len(frame.columns) else ""
    shown = listed([repr(name)[:40] for name in given], 2)
    return named, (
        RUNS_BY_KEY.note(
            f"each of the {len(given)} keys of {file} ({shown}) was read as a run{what}"
        ),
    )


def _named_rows(frame: pd.DataFrame, names: list[Any]) -> pd.DataFrame:
    """The frame with `run_id` from the names of its rows, if they are more than numbers."""
    if "run_id" in frame.columns or all(str(name).isdigit() for name in names):
        return frame
    frame = frame.copy()
    frame.insert(0, "run_id", [str(name) for name in names])
    return frame


class _KeyTwiceError(ValueError):
    """Two values for one key of an object, of which Python would take the last in silence."""


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen and seen[key] != value:
                raise _KeyTwiceError(
                    f"an object that gives {key!r} twice: {seen[key]!r:.40} and {value!r:.40}"
                )
            seen[key] = value
    return found


def _trainer_state(state: dict[str, Any]) -> pd.DataFrame:
    """The log of Hugging Face's Trainer, with what it counted in the end."""
    rows = [_flat(row) for row in state["log_history"] if isinstance(row, dict)]
    frame = pd.DataFrame(rows or [{"step": state.get("global_step"), "epoch": state.get("epoch")}])
    for name in ("total_flos", "num_input_tokens_seen", "max_steps"):
        value = state.get(name)
        if isinstance(value, (int, float)) and value > 0 and len(frame):
            before = frame.get(name, pd.Series(np.nan, frame.index))
            frame[name] = [*before[:-1], value]
            frame[name] = frame[name].astype(float)
    if "learning_rate" not in frame.columns:
        frame["learning_rate"] = None
    return frame


def _is_scalar_of_tensorboard(row: Any) -> bool:
    if not (isinstance(row, list) and len(row) == 3):
        return False
    return all(isinstance(value, (int, float)) for value in row) and row[0] > 1e8


def unfold(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns of objects (`config`, `summary`) replaced by their values."""
    if frame.columns.has_duplicates:
        return frame
    objects = {name: _objects(frame[name], name) for name in frame.columns}
    if all(items is None for items in objects.values()):
        return frame
    parts = []
    for name, items in objects.items():
        part = frame[[name]]
        if items is not None:
            part = pd.DataFrame([_flat({name: item or {}}) for item in items], frame.index)
        parts.append(part)
    return pd.concat(parts, axis=1)


def state_column(frame: pd.DataFrame) -> str | None:
    """The column with the states of Weights & Biases, in a table that has no `status`."""
    for name in frame.columns:
        if name.lower() == "state":
            states = frame[name].dropna()
            if len(states) and states.astype(str).str.lower().isin(STATES).all():
                return name
    return None


def refuse_chart(frame: pd.DataFrame, source: Path) -> None:
    """Raise InputError for the export of a chart, with a row a step and three columns a run."""
    names = set(frame.columns)
    runs = [name for name in frame.columns if f"{name}__MIN" in names and f"{name}__MAX" in names]
    if runs:
        raise InputError(
            f"{source} is a chart exported from Weights & Biases, with a row a step and a column "
            f"a run ({runs[0]!r}), not a table of runs",
            "export the table of runs instead (the Table tab of the project, Download, CSV), "
            "with columns for parameters, tokens and the final loss",
        )


def _lines(text: str, file: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_each_key_once)
        except _KeyTwiceError as error:
            raise InputError(
                f"line {number} of {file} has {error}", "give each value its own name"
            ) from None
        except json.JSONDecodeError as error:
            raise InputError(
                f"line {number} of {file} is not JSON: {error.msg} at column {error.colno}",
                "write one object a line",
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"line {number} of {file} is not a JSON object", "write one object a line"
            )
        rows.append(row)
    return rows


def _flat(item: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in item.items():
        name = f"{prefix}{key}".strip()
        if isinstance(value, dict) and "value" in value and set(value) <= {"value", "desc"}:
            value = value["value"]  # in configuration files of Weights & Biases
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
    """The column's objects or those its texts spell (None: missing); None for another column."""
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
    """The object that a text spells, in JSON or as Python prints it; the text itself if none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(re.sub(r"(?<=[:\[, ])(nan|-?inf)(?=[,}\] ])", "None", text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text

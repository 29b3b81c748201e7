"""Logs of one run, a row a step: known by their columns, never fitted; several make a table."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, counted, listed
from llmscale.errors.command_lines import command_line
from llmscale.explain.table.columns.names import ALIASES, last_part, plain, quantity_of, spellings
from llmscale.notes.reading import (
    EARLIER_STATES,
    PARAMS_FROM_FLOPS,
    RESUMED,
    TABLE_OF_LOGS,
    TRAINING_LOSS,
)

_STEPS = spellings(
    """
    step _step global_step training_step train_step iter iter_num iteration update num_updates epoch
    _runtime _timestamp
    """
)
"""Names of what counts on while one run is trained, best first. `steps` is a property of a run."""
_RUNS = spellings(
    """
    run_id run run_name name id model model_name trial trial_id experiment exp seed size model_size
    config
    """
)
"""Names of columns that tell runs apart."""
_SIZES = spellings(
    "n_params num_params parameters num_parameters model_params params_non_embedding params_total"
)
_STAGE = re.compile(
    r"train|val|eval|test|dev\b|smooth|ema|perplex|ppl|acc|lr|learning|grad|norm|time|sec",
    re.IGNORECASE,
)
_EVALUATED = re.compile(r"(^|[^a-z])(val|valid|validation|eval|test|dev|heldout)", re.IGNORECASE)
_TOKENS = re.compile(
    r"(^|[_/. ])(tokens|tokens_seen|token_count|seen_tokens|train_tokens|consumed_tokens)$",
    re.IGNORECASE,
)
_TOKENS_SEEN = ("d", "n_tokens", "num_tokens", "total_tokens", "num_input_tokens_seen")
_LOSS = re.compile(r"loss$|^l$|cross_?entropy|(^|[_/. -])nll$", re.IGNORECASE)
_LOGS = spellings(
    "trainer_state.json */trainer_state.json */metrics.csv */*/metrics.csv */history.csv"
)
_HUGGING_FACE = {"eval_loss", "learning_rate", "train_runtime", "grad_norm"}
_TENSORBOARD = {"step", "value"}
_OF_TENSORBOARD = {*_TENSORBOARD, "wall_time", "run", "tag"}
"""What else stands next to them, in files that it saves and in those of its readers."""


@dataclass(frozen=True)
class Log:
    """The logged steps of one run in order, each once, and the columns of its loss and tokens."""

    frame: pd.DataFrame
    step: str
    loss: str | None
    tokens: str | None
    again: int
    """How many rows a later row of the same step has replaced, as after a run was resumed."""

    def last(self) -> tuple[float, float, float]:
        """The last loss, and the step and tokens where it was measured; NaN for what is missing."""
        if self.loss is None:
            return np.nan, float(self.frame[self.step].iloc[-1]), np.nan
        at = int(np.flatnonzero(self.frame[self.loss].notna())[-1])
        tokens = np.nan
        if self.tokens is not None:
            before = self.frame[self.tokens].iloc[: at + 1].dropna()
            tokens = float(before.iloc[-1]) if len(before) else np.nan
        return float(self.frame[self.loss].iloc[at]), float(self.frame[self.step].iloc[at]), tokens


def log_of(frame: pd.DataFrame) -> Log | None:
    """The frame as the log of one run, or None if its rows may be runs."""
    names = set(map(str.lower, frame.columns))
    numbers = [name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name].dtype)]
    if frame.empty or column_of_runs(frame) or {"lr_area", "annealing_area"} & names:
        return None
    tensorboard = _is_tensorboard(frame)
    hugging_face = {"epoch", "step"} <= names and bool(_HUGGING_FACE & names)
    step = _step_of(frame, numbers)
    if step is None or (len(frame) < 3 and not (tensorboard or hugging_face)):
        return None
    losses = [name for name in numbers if _LOSS.search(name) and frame[name].notna().any()]
    if tensorboard:
        losses = [name for name in numbers if name.lower() == "value"]
    if not (losses or hugging_face):
        return None
    ordered = frame.sort_values(step, kind="stable")
    # Training and validation may have a row each at one step; a row of the same kind again is a run
    # that went on.
    kinds = ordered.notna().assign(**{step: ordered[step]})
    again = kinds.duplicated(keep="last").to_numpy()
    ordered = ordered[~again].reset_index(drop=True)
    evaluated = [name for name in losses if _EVALUATED.search(name)]
    others = losses
    if hugging_face:
        others = [name for name in losses if not name.lower().startswith("train_loss")]
    loss = next(iter([*evaluated, *others, *losses]), None)
    tokens = next((name for name in numbers if _is_tokens(frame, name)), None)
    return Log(ordered, step, loss, tokens, int(again.sum()))


def refuse_log(frame: pd.DataFrame, file: Path) -> None:
    """Raise InputError if the rows are steps of one run, or steps with a column a run."""
    runs = _wide_runs(frame)
    if runs:
        ends = [f"{name} ends at {frame[name].dropna().iloc[-1]:.4g}" for name in runs]
        raise InputError(
            f"{file} is a wide table of curves, with a row a step and a column a run "
            f"({listed(runs)}), and a law needs a row a run",
            "write one row a run, with its parameters, tokens and last loss: "
            f"run_id,params,tokens,loss ({listed(ends, 3)})",
        )
    _refuse_scalars(frame, file)
    log = log_of(frame)
    if log is None:
        return
    steps = log.frame[log.step].dropna()
    what, loss = "the log of one run", log.loss
    if log.loss is not None and log.loss.lower() == "value":
        what, loss = "one curve of one run, as TensorBoard saves it", "loss"
    last, _, tokens = log.last()
    ends = [f"tokens {tokens:.0f}"] if np.isfinite(tokens) else []
    if np.isfinite(last):
        ends.append(f"{loss} {last:.5g}")
    of_this = f" (this one ends at {' and '.join(ends)})" if ends else ""
    number = counted(max(len(steps), 1), "logged step")
    if log.again:
        number += f", {log.again} of them twice, as after it was resumed"
    fix = f"write a table with one row a run: run_id,params,tokens,loss{of_this}"
    if np.isfinite(tokens) and np.isfinite(_params_of(log)) and file.suffix:
        command = command_line("llmscale", "fit", _pattern(file))
        fix = f"name the logs of several runs together: {command}{of_this}"
    span = f"{log.step} {steps.min():.9g} to {steps.max():.9g}"
    raise InputError(
        f"{file} is {what} ({number}, {span}), and a law needs a row a run",
        f"{fix}; if its rows are runs, name them in a column run_id",
    )


def _is_tensorboard(frame: pd.DataFrame) -> bool:
    """Whether the columns are those of scalars of TensorBoard, as it or a reader of it saves
    them."""
    names = set(map(plain, frame.columns))
    return _TENSORBOARD <= names <= _OF_TENSORBOARD


def _refuse_scalars(frame: pd.DataFrame, file: Path) -> None:
    """Raise InputError for scalars of TensorBoard of several runs or tags, one under another."""
    columns = {plain(name): name for name in frame.columns}
    keys = [columns[name] for name in ("run", "tag") if name in columns]
    if not (keys and _is_tensorboard(frame)) or len(frame[keys].drop_duplicates()) < 2:
        return
    curves = frame[keys].astype(str).agg(" ".join, axis=1)
    values = pd.to_numeric(frame[columns["value"]], errors="coerce")
    last = values.groupby(curves, sort=False).last()
    names = list(last.index)
    ends = [f"{name} ends at {value:.5g}" for name, value in zip(names, last, strict=True)]
    raise InputError(
        f"{file} holds {len(names)} curves as TensorBoard saves them, one under another "
        f"({listed(names, 3)}), and a law needs a row a run",
        "write one row a run, with its parameters, tokens and last loss: "
        f"run_id,params,tokens,loss ({listed(ends, 3)})",
    )


def runs_of(logs: dict[Path, pd.DataFrame], pattern: str) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """A row for every log: run_id, params, tokens, loss, steps, and status. Raises InputError."""
    found: dict[Path, Log] = {}
    for path, frame in logs.items():
        log = log_of(frame)
        if log is None or log.loss is None:
            raise InputError(
                f"{pattern} names {len(logs)} files, and {path} is not the log of one run, with a "
                "loss",
                "name one table, or only logs: 'logs/*/trainer_state.json'",
            )
        found[path] = log
    found, earlier = _latest(found)
    names = dict(zip(found, _short_names(list(found)), strict=True))
    rows, missing = [], []
    for path, log in found.items():
        loss, step, tokens = log.last()
        params = _params_of(log)
        sizes = {"params": params, "tokens": tokens}
        missing += [name for name, size in sizes.items() if not np.isfinite(size)]
        rows.append(
            {"run_id": names[path], "params": params, "tokens": tokens, "loss": loss, "steps": step}
            | {"status": _status(log)}
        )
    if missing:
        ends = [f"{row['run_id']}: {_ends(row)}" for row in rows]
        raise InputError(
            f"the {len(rows)} logs of {pattern} do not all say their "
            f"{' and '.join(dict.fromkeys(missing))}",
            "write a table with one row a run, run_id,params,tokens,loss, of what they end with: "
            f"{listed(ends, separator='; ')}",
        )
    return pd.DataFrame(rows), _notes(found, names, earlier)


def _ends(row: dict[str, Any]) -> str:
    sizes = [(name, row[name]) for name in ("params", "tokens", "loss")]
    return ", ".join(f"{name} {size:.6g}" for name, size in sizes if np.isfinite(size))


def _notes(found: dict[Path, Log], names: dict[Path, str], earlier: list[Path]) -> tuple[Note, ...]:
    losses = listed(dict.fromkeys(str(log.loss) for log in found.values()))
    notes = [
        TABLE_OF_LOGS.note(
            f"{len(found)} logs were read as runs: loss is the last {losses} of each"
        )
    ]
    trained = [names[path] for path, log in found.items() if not _EVALUATED.search(str(log.loss))]
    if trained:
        message = f"the loss of {listed(trained)} is the training loss, of one logged step"
        notes.append(TRAINING_LOSS.note(message))
    if any("total_flos" in log.frame.columns for log in found.values()):
        message = "parameters were computed as total_flos/(6 tokens), which leaves out embeddings"
        notes.append(PARAMS_FROM_FLOPS.note(message))
    if earlier:
        message = f"{listed(earlier)} are earlier states of runs that are read from another file"
        notes.append(EARLIER_STATES.note(message))
    again = [names[path] for path, log in found.items() if log.again]
    if again:
        message = f"steps stand twice in the logs of {listed(again)}: the later values were taken"
        notes.append(RESUMED.note(message))
    return tuple(notes)


def _latest(found: dict[Path, Log]) -> tuple[dict[Path, Log], list[Path]]:
    """The logs that are no earlier state of another, and those that are."""
    kept: dict[object, dict[Path, Log]] = {}
    by_length = sorted(found, key=lambda path: -float(found[path].frame[found[path].step].max()))
    for path in by_length:
        log = found[path]
        first = log.frame[[log.step, *losses_of(log)]].bfill().fillna(-1).iloc[0]
        alike = kept.setdefault(tuple(first), {})
        if not any(_is_earlier(log, later) for later in alike.values()):
            alike[path] = log
    latest = set(chain.from_iterable(kept.values()))
    earlier = [path for path in found if path not in latest]
    return {path: log for path, log in found.items() if path in latest}, earlier


def _is_earlier(log: Log, later: Log) -> bool:
    """Whether a log has the losses of another at the same steps, as an earlier state has."""
    if log.step != later.step or losses_of(log) != losses_of(later):
        return False
    columns = [log.step, *losses_of(log)]
    both = log.frame[columns].merge(later.frame[columns], on=log.step, suffixes=("", "_later"))
    there = [both[[name, f"{name}_later"]].dropna() for name in losses_of(log)]
    equal = sum(int((pair.iloc[:, 0] == pair.iloc[:, 1]).sum()) for pair in there)
    return equal >= 2 and equal >= 0.9 * sum(map(len, there))


def losses_of(log: Log) -> list[str]:
    return list(filter(is_loss, log.frame.columns))


def _params_of(log: Log) -> float:
    """The parameters that a log states, or that Hugging Face's FLOPs give with the tokens."""
    for name in filter(_is_size, log.frame.columns):
        given = pd.to_numeric(log.frame[name], errors="coerce").dropna()
        if len(given):
            return float(given.iloc[-1])
    if "total_flos" in log.frame.columns and log.tokens is not None:
        flops, tokens = log.frame["total_flos"].dropna(), log.frame[log.tokens].dropna()
        if len(flops) and len(tokens) and flops.iloc[-1] > 0 and tokens.iloc[-1] > 0:
            return float(flops.iloc[-1] / (6 * tokens.iloc[-1]))
    return np.nan


def _status(log: Log) -> str:
    if "max_steps" in log.frame.columns:
        most, last = log.frame["max_steps"].dropna(), log.frame[log.step].max()
        if len(most) and last < most.iloc[-1]:
            return f"stopped at step {last:g} of {most.iloc[-1]:g}"
    return "done"


def _step_of(frame: pd.DataFrame, numbers: list[str]) -> str | None:
    """The column that counts on from row to row: mostly rising, and mostly another number."""
    for wanted in _STEPS:
        for name in numbers:
            if last_part(name) != wanted:
                continue
            steps = frame[name].dropna().to_numpy(dtype=float)
            if len(steps) < 1 or len(steps) < 0.5 * len(frame):
                continue
            distinct = len(np.unique(steps))
            rising = distinct > 1 and (np.diff(steps) >= 0).mean() >= 0.8
            if distinct >= 0.3 * len(steps) and (rising or len(steps) == 1):
                return name
    return None


def column_of_runs(frame: pd.DataFrame) -> str | None:
    """The column that names runs, or counts their parameters, and is not the same everywhere."""
    for name in frame.columns:
        apart = last_part(name) in _RUNS or _is_size(name)
        if apart and frame[name].dropna().astype(str).nunique() > 1:
            return str(name)
    return None


def counts_on(name: str) -> bool:
    """Whether a column of that name may count the steps, or the tokens seen."""
    is_tokens = _TOKENS.search(name) or last_part(name) in _TOKENS_SEEN
    return last_part(name) in _STEPS or bool(is_tokens)


def is_loss(name: str) -> bool:
    return bool(_LOSS.search(name))


def _is_size(name: str) -> bool:
    known = {alias.lower() for alias in (*ALIASES["params"], *_SIZES)}
    return name.lower() in known or (len(last_part(name)) > 1 and last_part(name) in known)


def _is_tokens(frame: pd.DataFrame, name: str) -> bool:
    if not (_TOKENS.search(name) or last_part(name) in _TOKENS_SEEN):
        return False
    values = frame[name].dropna().to_numpy(dtype=float)
    return len(values) > 0 and values[-1] > 0


def _wide_runs(frame: pd.DataFrame) -> list[str]:
    """The columns of a wide table of curves: falling losses, next to a step or tokens."""
    # Weights & Biases writes a chart so, and next to each run's curve what a point of it ranged
    # over.
    curves = [name for name in frame.columns if not name.endswith(("__MIN", "__MAX"))]
    charted = [name for name in curves if " - " in name]
    metrics = {name.rpartition(" - ")[2] for name in charted}
    if len(charted) > 1 and len(metrics) == 1 and _step_of(frame, list(frame.columns[:1])):
        return charted
    if len(frame) < 3 or len(frame.columns) < 3:
        return []
    first, others = frame.columns[0], list(frame.columns[1:])
    axes = (*_STEPS, "tokens", "flops", "d", "c")
    has_axis = last_part(first) in axes or first.lower().startswith("relative time")
    numeric = all(map(pd.api.types.is_numeric_dtype, frame.dtypes))
    of_one_run = any(_STAGE.search(name) or _is_known(name) for name in others)
    if of_one_run or not (has_axis and numeric):
        return []
    steps = frame[first].to_numpy(dtype=float)
    if not (np.diff(steps[np.isfinite(steps)]) > 0).all():
        return []
    losses = frame[others].dropna(axis=1, how="all")
    starts, ends = losses.bfill().iloc[0], losses.ffill().iloc[-1]
    if len(starts) < 2 or not ((ends > 0) & (ends <= starts)).all():
        return []
    return others if starts.max() < 20 * ends.min() else []


def _is_known(name: str) -> bool:
    return len(name) > 1 and quantity_of(name) in ALIASES


def _short_names(paths: list[Path]) -> list[str]:
    """The paths without the parts that all of them share at either end."""
    parts = [path.parts for path in paths]
    shortest = min(map(len, parts))
    start = 0
    while start < shortest - 1 and len({part[start] for part in parts}) == 1:
        start += 1
    end = 0
    while end < shortest - 1 - start and len({part[-1 - end] for part in parts}) == 1:
        end += 1
    return ["/".join(part[start : len(part) - end]) for part in parts]


def _pattern(file: Path) -> str:
    """A pattern for logs like this one: in the folders next to its own, or in its own."""
    if file.name in ("trainer_state.json", "metrics.csv", "history.csv", "log.csv"):
        return str(file.parent.parent / "*" / file.name) if file.parent.name else f"*/{file.name}"
    return str(file.with_name(f"*{file.suffix}"))


def logs_in(folder: Path) -> Iterable[str]:
    """Patterns of logs that a folder holds, for advice."""
    for pattern in _LOGS:
        if next(folder.glob(pattern), None) is not None:
            yield str(folder / pattern)

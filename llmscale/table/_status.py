"""Which rows are finished runs: the status words of Slurm, Ray, Optuna, Weights & Biases, MLflow and llmscale."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from llmscale.errors import InputError, Note, listed
from llmscale.table._names import last_part, plain

DONE = frozenset(
    {"done", "finished", "finish", "complete", "completed", "success", "succeeded", "successful", "ok", "terminated",
     "true", "yes", "passed"}
)  # fmt: skip
"""Words of a finished run, small; `terminated` is Ray's."""

NOT_DONE = frozenset(
    {"running", "run", "r", "crashed", "crash", "failed", "fail", "failure", "killed", "preempted", "preempting",
     "pending", "queued", "waiting", "scheduled", "paused", "suspended", "stopped", "stopped_early", "early_stopped",
     "error", "errored", "pruned", "cancelled", "canceled", "timeout", "timed_out", "time_out", "out_of_memory", "oom",
     "node_fail", "boot_fail", "deadline", "revoked", "requeued", "resizing", "completing", "configuring", "stopping",
     "interrupted", "aborted", "diverged", "nan", "incomplete", "unfinished", "not_finished", "in_progress", "active",
     "started", "starting", "created", "new", "skipped", "lost", "stalled", "evicted", "missing", "no_status", "false",
     "no", "none", "unknown"}
)  # fmt: skip
"""Words of a run that is not finished, small."""

_COLUMNS = (
    "status", "state", "job_state", "job_status", "trial_status", "trial_state", "run_status", "run_state",
    "exit_state", "exit_status", "slurm_state", "slurm_status", "wandb_state", "final_status", "final_state",
)  # fmt: skip
_TRUTHS = ("done", "finished", "completed", "complete", "is_done", "is_finished", "success", "succeeded")
_UNTRUTHS = ("pruned", "diverged", "crashed", "failed", "is_pruned", "has_diverged", "killed", "early_stopped")
_EXIT_CODES = ("exit_code", "exitcode", "returncode", "return_code")
_NO_STATUS = "no status"


@dataclass(frozen=True)
class Statuses:
    """Which rows are done, the word that says so of each, the columns that were read, and what to note."""

    usable: np.ndarray
    reasons: np.ndarray
    columns: tuple[str, ...]
    notes: tuple[Note, ...] = ()


def parse_status(text: str | Sequence[str] | None) -> frozenset[str] | None:
    """`done=finished,crashed` as words, small; None for nothing. Raises InputError."""
    if text is None:
        return None
    items = text.split(",") if isinstance(text, str) else [str(item) for item in text]
    if items:
        head, sign, rest = items[0].partition("=")
        if sign and head.strip().lower() != "done":
            raise InputError(
                f"--status {text!r} does not say which words count as done", "write it like --status done=finished"
            )
        items[0] = rest if sign else head
    words = frozenset(_word(item) for item in items if item.strip())
    if not words:
        raise InputError(f"--status {text!r} names no word", "write it like --status done=finished,crashed")
    return words


def statuses(raw: pd.DataFrame, path: Path, done: frozenset[str] | None = None) -> Statuses:
    """Which rows are finished runs, by every column of statuses. Raises InputError.

    `done` are the only words that count as done, if given. Words of neither kind count as not done, and are said.
    """
    if done is not None:
        return _as_told(raw, path, done)
    usable = np.ones(len(raw), dtype=bool)
    reasons = np.full(len(raw), "done", dtype=object)
    read: list[str] = []
    notes: list[Note] = []
    for column, kind in _columns(raw):
        if kind == "words":
            words = _words(raw[column])
            unknown = [word for word in dict.fromkeys(words) if _word(word) not in DONE | NOT_DONE]
            known = len(set(words)) > len(unknown)
            if not known and plain(column) in ("state", "final_state"):
                # A state of the model or of a country, perhaps, and not of the run.
                notes.append(_not_read(column, unknown))
                continue
            if not known and len(raw):
                raise InputError(
                    f"column {column!r} of {path} says of no run that it is done: its words are {listed(unknown)}",
                    f"say which of them count as done: --status done={unknown[0]}",
                )
            if unknown:
                notes.append(_unknown(column, unknown))
            good = np.isin(words, [word for word in set(words) if _word(word) in DONE])
        else:
            truths = _truths(raw[column])
            wanted = {"truth": True, "untruth": False}[kind]
            good = np.array([truth is wanted for truth in truths], dtype=bool)
            words = np.array([f"{column} is {_shown(value)}" for value in raw[column]], dtype=object)
        fresh = usable & ~good
        reasons[fresh] = words[fresh]
        usable &= good
        read.append(column)
    if len(read) == 1:
        words = _words(raw[read[0]])
        reasons = np.where(usable, words, reasons)
    return Statuses(usable, reasons, tuple(read), tuple(notes))


def _as_told(raw: pd.DataFrame, path: Path, done: frozenset[str]) -> Statuses:
    columns = [column for column, _ in _columns(raw)]
    for column in columns:
        words = _words(raw[column])
        word_of = {word: _word(word) for word in set(words)}
        small = np.array([word_of[word] for word in words], dtype=object)
        good = np.isin(small, list(done))
        if good.any():
            strange = done - set(small)
            if strange:
                break
            return Statuses(good, words, (column,))
    if not columns:
        raise InputError(f"{path} has no column of statuses", "leave --status out")
    there = listed(dict.fromkeys(word for column in columns for word in _words(raw[column])), 10)
    lacking = sorted(done - {_word(word) for column in columns for word in _words(raw[column])})
    raise InputError(
        f"no column of statuses of {path} ({', '.join(columns)}) has the word {listed(lacking or sorted(done))}",
        f"its words are {there}: --status done=WORD,WORD",
    )


def _columns(raw: pd.DataFrame) -> list[tuple[str, str]]:
    """The columns of statuses and what they hold: words, or a truth that says that a run is (or is not) done."""
    found = []
    for column in raw.columns:
        name, last = plain(column), plain(last_part(column))
        if name in _COLUMNS or last in ("status", "state"):
            if pd.api.types.is_numeric_dtype(raw[column].dtype) and not pd.api.types.is_bool_dtype(raw[column].dtype):
                if not name.startswith("exit"):
                    continue  # numbers say nothing
                found.append((column, "words"))
            else:
                found.append((column, "truth" if _truths(raw[column]) else "words"))
        elif name in _TRUTHS and _truths(raw[column]):
            found.append((column, "truth"))
        elif name in _UNTRUTHS and _truths(raw[column]):
            found.append((column, "untruth"))
        elif name in _EXIT_CODES:
            found.append((column, "words"))
    return found


def _truths(given: pd.Series) -> list[bool | None]:
    """True or False of each row, None for a missing one; empty for a column that holds anything else."""
    texts = {"true": True, "false": False, "yes": True, "no": False}
    truths: list[bool | None] = []
    for value in given:
        if value is None or value is pd.NA or value != value:
            truths.append(None)
        elif isinstance(value, (bool, np.bool_)):
            truths.append(bool(value))
        elif isinstance(value, str) and value.strip().lower() in texts:
            truths.append(texts[value.strip().lower()])
        elif isinstance(value, (int, float, np.integer, np.floating)) and value in (0, 1):
            truths.append(bool(value))
        else:
            return []
    return truths if any(truth is not None for truth in truths) else []


def _words(given: pd.Series) -> np.ndarray:
    """The text of each row, `no status` for a missing one."""
    return given.astype(object).where(given.notna(), _NO_STATUS).astype(str).to_numpy(dtype=object)


def _word(text: str) -> str:
    """`cancelled` of `CANCELLED by 1000`, `complete` of `TrialState.COMPLETE`, `done` of 0:0, an exit code."""
    small = text.strip().lower()
    if re.fullmatch(r"0(\.0)?(:0)?", small):
        return "done"
    if re.fullmatch(r"-?\d+(\.0)?(:\d+)?", small):
        return "failed"
    small = re.sub(r"\s+by\s+\S+$", "", small.split(".")[-1])
    word = re.sub(r"[\s-]+", "_", small)
    if word.endswith("+"):  # sacct cuts long words
        cut = word.rstrip("+")
        return next((known for known in sorted(DONE | NOT_DONE) if known.startswith(cut)), cut)
    return word


def _unknown(column: str, unknown: Sequence[str]) -> Note:
    are = "is a word" if len(unknown) == 1 else "are words"
    return Note(
        "status-unknown",
        f"{listed(unknown)} {are} of column {column!r} that may mean anything, and such runs are left out: say which"
        f" words count as done, --status done={unknown[0]}",
    )


def _not_read(column: str, unknown: Sequence[str]) -> Note:
    return Note(
        "status-unknown",
        f"column {column!r} ({listed(unknown)}) is not read as the status of runs, and every row counts: if it is, say"
        f" which words count as done, --status done={unknown[0]}",
    )


def _shown(value: object) -> str:
    return "missing" if value is None or value is pd.NA or value != value else str(value)

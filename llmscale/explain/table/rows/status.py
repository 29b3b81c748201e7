"""Which rows are finished runs, in the words of Slurm, Ray, Optuna, W&B, MLflow and llmscale."""

import csv
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, listed
from llmscale.errors.printable import one_line
from llmscale.explain.table.columns.names import last_part, plain, spellings
from llmscale.explain.table.rows.status_codes import (
    MOST_WORDS,
    NO_STATUS,
    are_codes,
    are_numerals,
    numerals,
)
from llmscale.notes.reading import STATUS_UNKNOWN

DONE = spellings(
    """
    done finished finish complete completed success succeeded successful ok terminated true yes
    passed pass cd
    """
)
"""Words of a finished run, small; `terminated` is Ray's, `cd` Slurm's."""

NOT_DONE = spellings(
    """
    running run r crashed crash failed fail failure killed preempted preempting pending queued
    waiting scheduled paused suspended stopped stopped_early early_stopped error errored pruned
    cancelled canceled timeout timed_out time_out out_of_memory oom node_fail boot_fail deadline
    revoked requeued resizing completing configuring stopping interrupted aborted diverged nan
    incomplete unfinished not_finished in_progress active started starting created new skipped lost
    stalled evicted missing no_status false no none unknown
    bf ca cg dl f nf pd pr rq rs s se si so st to
    """
)
"""Words of a run that is not finished, small; those of two letters are Slurm's."""
_KNOWN = sorted({*DONE, *NOT_DONE})

_COLUMNS = spellings(
    """
    status state job_state job_status trial_status trial_state run_status run_state exit_state
    exit_status slurm_state slurm_status wandb_state final_status final_state completion_status st
    """
)
_OF_PLACES = ("state", "final_state", "st")
"""Columns that may hold the states of a country or of a model, and not of runs."""
_MAYBE = spellings("outcome result run_outcome run_result final_outcome exit exit_reason")
"""Columns of statuses only if each of their words is one."""
_TRUTHS = spellings("done finished completed complete is_done is_finished success succeeded")
_UNTRUTHS = spellings(
    """
    pruned diverged crashed failed is_pruned has_diverged killed early_stopped nan_loss loss_nan
    is_nan has_nan had_nan nan nans oom timeout timed_out aborted cancelled canceled preempted
    interrupted incomplete unfinished is_failed has_failed is_crashed has_crashed unstable blew_up
    exploded terminated_early early_terminated stopped_early is_diverged errored
    """
)
_UNSAID = spellings("terminated stopped ended excluded exclude ignore skip bad invalid flagged")
"""Columns of truths that may say that a run is finished, or that it is not to be used."""
_SHARES = spellings(
    """
    completion progress pct_done done_pct percent_done percent_complete pct_complete
    completed_fraction fraction_done fraction_complete fraction_completed frac_done completion_pct
    complete_pct progress_pct progress_percent percent_completed completion_percent completion_rate
    completion_fraction pct_completed progress_fraction
    """
)
"""Columns of how much of a run is done, from 0 to 1 or to 100."""
_SAID = {
    **dict.fromkeys(spellings("true t yes y x * ✓ ✔ ✅ 1"), True),
    **dict.fromkeys(spellings("false f no n ✗ ✘ ❌ 0"), False),
    "": None,
}
_OPTUNA = frozenset("01234")
"""Optuna's states by number: 0 RUNNING, 1 COMPLETE, 2 PRUNED, 3 FAIL, 4 WAITING."""
_EXIT_CODES = ("exit_code", "exitcode", "returncode", "return_code")
_FULL = 0.985
"""From this share on, a run is done: rounding, and a last batch that is left out."""
_PLACES = frozenset(
    re.split(
        r",\s+",
        """california, texas, oregon, washington, virginia, iowa, new york, nevada, ohio, arizona,
        utah, georgia, illinois, florida, massachusetts, north carolina, south carolina, oklahoma,
        tennessee, pennsylvania, new jersey, colorado, michigan, wyoming, nebraska, bavaria, bayern,
        quebec, ontario""",
    )
)
_PLACE_CODES = spellings(
    """
    AL AK AZ AR CA CO CT DC DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM
    NY NC ND OH OK OR PA PR RI SC SD TN TX UT VT VA WA WV WI WY
    """
)
"""States of countries in which machines stand; CA and PR are also words of Slurm."""


@dataclass(frozen=True)
class Statuses:
    """Which rows are done, the word for each, the columns that were read, and notes."""

    usable: np.ndarray
    reasons: np.ndarray
    columns: tuple[str, ...]
    notes: tuple[Note, ...] = ()


def parse_status(text: str | Sequence[str] | None) -> frozenset[str] | None:
    """`done=finished,crashed` as words, as they are written; None for nothing. Raises
    InputError."""
    if text is None:
        return None
    if isinstance(text, str):
        head, sign, rest = one_line(text).partition("=")
        # A word with a comma stands in double quotes.
        items = next(csv.reader([rest if sign else head], skipinitialspace=True), [])
        if sign:
            items[:1] = [head + sign + "".join(items[:1])]
    else:
        items = [str(item) for item in text]
    if items:
        head, sign, rest = items[0].partition("=")
        if sign and head.strip().lower() != "done":
            raise InputError(
                f"--status {text!r} does not say which words count as done",
                "write it like --status done=finished",
            )
        items[0] = rest if sign else head
    words = frozenset(item.strip() for item in items if item.strip())
    if not words:
        raise InputError(
            f"--status {text!r} names no word", "write it like --status done=finished,crashed"
        )
    return words


def statuses(raw: pd.DataFrame, path: Path, done: frozenset[str] | None = None) -> Statuses:
    """Which rows are finished runs, by every column of statuses. Raises InputError.
    `done` are the only words that count as done, if given; unknown words count as not done."""
    if done is not None:
        return _as_told(raw, path, done)
    usable = np.ones(len(raw), dtype=bool)
    reasons = np.full(len(raw), "done", dtype=object)
    read: list[str] = []
    notes: list[Note] = []
    unread: list[Note] = []
    for column, kind in _columns(raw):
        if kind == "unsaid":
            unread.append(_not_read(column, map(_shown, raw[column])))
            continue
        if kind == "numbers":
            unread.append(_numbers_not_read(column, numerals(raw[column])))
            continue
        if kind == "words":
            words = _words(raw[column])
            unknown = [word for word in dict.fromkeys(words) if _word(word) not in _KNOWN]
            known = len(set(words)) > len(unknown)
            if plain(column) in _OF_PLACES and _is_no_status(words, unknown, known=known):
                continue
            if plain(column) in _MAYBE and unknown:
                several = 1 < len(unknown) <= MOST_WORDS and all(len(word) > 1 for word in unknown)
                if known or several:
                    unread.append(_not_read(column, words))
                continue
            if not known and len(raw):
                raise InputError(
                    f"column {column!r} of {path} says of no run that it is done: its words are "
                    f"{listed(unknown)}",
                    f"say which of them count as done: {status_option(unknown[0])}",
                )
            if unknown:
                notes.append(_unknown(column, unknown))
            good = np.isin(words, [word for word in set(words) if _word(word) in DONE])
        elif kind == "share":
            share = _share(raw[column])
            assert share is not None
            good = share >= _FULL
            words = _sentences(raw[column])
            if 2 * good.sum() < len(raw):
                # Checkpoints of runs, perhaps, or runs of which none is done.
                if len(set(share)) < 5:
                    unread.append(_not_read(column, map(_shown, raw[column])))
                continue
        else:
            truths = _truths(raw[column])
            if kind == "untruth" and False not in truths:
                # A mark for the few, and nothing for the rest.
                truths = [truth or False for truth in truths]
            good = np.array([truth is (kind == "truth") for truth in truths], dtype=bool)
            words = _sentences(raw[column])
        fresh = usable & ~good
        reasons[fresh] = words[fresh]
        usable &= good
        read.append(column)
    if len(read) == 1:
        reasons = np.where(usable, _words(raw[read[0]]), reasons)
    if not any(plain(column) in _COLUMNS for column in read):
        notes += unread
    return Statuses(usable, reasons, tuple(read), tuple(notes))


def _as_told(raw: pd.DataFrame, path: Path, done: frozenset[str]) -> Statuses:
    columns = [column for column, _ in _columns(raw)]
    wanted: dict[str, str] = {}
    there: list[str] = []
    known: set[str] = set()
    for column, kind in _columns(raw):
        words = reasons = _words(raw[column])
        wanted = {_word(word): word for word in done}
        word_of = {word: _word(word) for word in set(words)}
        if kind == "numbers":  # 1 and 2 are both `failed` as exit codes
            words, reasons = numerals(raw[column]), _sentences(raw[column])
            word_of, wanted = {word: word for word in words}, {word: word for word in done}
        there += dict.fromkeys(words)
        known |= set(word_of.values())
        small = np.array([word_of[word] for word in words], dtype=object)
        good = np.isin(small, list(wanted))
        if good.any():
            if wanted.keys() - set(small):
                break
            return Statuses(good, reasons, (column,))
    if not columns:
        raise InputError(f"{path} has no column of statuses", "leave --status out")
    lacking = wanted.keys() - known or wanted
    said = sorted(repr(wanted[word]) for word in lacking)
    shown = listed(map(repr, dict.fromkeys(there)), 10)
    raise InputError(
        f"no column of statuses of {path} ({', '.join(columns)}) has the word {listed(said)}",
        f"its words are {shown}; written like {status_option(*there[:2])}",
    )


def _columns(raw: pd.DataFrame) -> list[tuple[str, str]]:
    """The columns of statuses, and whether they hold words, shares, or truths of which kind."""
    found = []
    for column in raw.columns:
        kind = _kind(column, raw[column])
        if kind is not None:
            found.append((column, kind))
    return found


def _kind(column: str, given: pd.Series) -> str | None:
    """What a column of statuses holds; None for another column."""
    name, last = plain(column), plain(last_part(column))
    numeric = pd.api.types.is_numeric_dtype(given.dtype) or are_numerals(given)
    if name in _COLUMNS or last in ("status", "state"):
        if numeric and not pd.api.types.is_bool_dtype(given.dtype):
            if name.startswith("exit"):
                return "words"
            return "numbers" if are_codes(given) else None  # other numbers say nothing
        return "truth" if _truths(given) else "words"
    if name in _MAYBE and not numeric:
        return "words"
    shares = name in _SHARES or ("%" in column and name in _TRUTHS)
    if shares and _share(given) is not None:
        return "share"
    if name in _UNSAID and len(set(_truths(given))) > 1:
        return "unsaid"
    if name in _TRUTHS and _truths(given):
        return "truth"
    if name in _UNTRUTHS and _truths(given):
        return "untruth"
    return "words" if name in _EXIT_CODES else None


def _numbers_not_read(column: str, numerals: Iterable[str]) -> Note:
    codes = sorted(set(numerals) - {NO_STATUS})
    if "1" not in codes or not _OPTUNA.issuperset(codes):
        return _not_read(column, codes)
    return STATUS_UNKNOWN.note(
        f"column {column!r} ({listed(codes)}) is not read as the status of runs, and every row "
        f"counts: if 1 says complete, as Optuna's does, {status_option('1')}"
    )


def _sentences(given: pd.Series) -> NDArray[Any]:
    return np.array([f"{given.name} is {_shown(value)}" for value in given], dtype=object)


def _truths(given: pd.Series) -> list[bool | None]:
    """True or False of each row, None for a missing one; empty for another column."""
    truths: list[bool | None] = []
    for value in given:
        if value is None or value is pd.NA or value != value:
            truths.append(None)
        elif isinstance(value, str):
            word = value.strip().lower()
            if word not in _SAID:
                return []
            truths.append(_SAID[word])
        elif isinstance(value, (bool, np.bool_, int, float, np.number)) and value in (0, 1):
            truths.append(bool(value))
        else:
            return []
    return truths if {True, False} & set(truths) else []


def _share(given: pd.Series) -> np.ndarray | None:
    """The share of each run that is done, up to 1; None for columns of anything else."""
    cells = given.astype(object).map(_without_percent)
    share = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float)
    if not len(share) or not np.isfinite(share).all() or pd.api.types.is_bool_dtype(given.dtype):
        return None
    most = share.max()
    full = 100.0 if 1.5 < most <= 101 else 1.0
    if share.min() < 0 or most > 1.01 * full or share.min() == most >= _FULL * full:
        return None
    return np.asarray(share / full)


def _without_percent(value: object) -> object:
    if isinstance(value, str):
        return value.strip().rstrip("%")
    return value


def _is_no_status(words: np.ndarray, unknown: Sequence[str], *, known: bool) -> bool:
    """Whether the words are those of places, or tell no runs apart, or are too many."""
    there = {word for word in words if word != NO_STATUS}
    if there and all(map(_is_place, there)):
        return True
    return not known and (len(unknown) == 1 or len(unknown) > MOST_WORDS)


def _is_place(word: str) -> bool:
    """Whether a word is the code of a state of the United States, or the name of a state."""
    return word in _PLACE_CODES or word.lower() in _PLACES


def _words(given: pd.Series) -> np.ndarray:
    """The text of each row, `no status` for a missing one."""
    return given.astype(object).where(given.notna(), NO_STATUS).astype(str).to_numpy(dtype=object)


def _word(text: str) -> str:
    """`cancelled` of `CANCELLED by 1000`, `complete` of `TrialState.COMPLETE`, `done` of 0:0."""
    small = one_line(text).strip().lower()
    if re.fullmatch(r"0(\.0)?(:0)?", small):
        return "done"
    if re.fullmatch(r"-?\d+(\.0)?(:\d+)?", small):
        return "failed"
    small = re.sub(r"\s+by\s+\S+$", "", small.split(".")[-1])
    word = re.sub(r"[\s-]+", "_", small)
    if word.endswith("+"):  # sacct cuts long words
        cut = word.rstrip("+")
        return next((known for known in _KNOWN if known.startswith(cut)), cut)
    return word


def status_option(*words: str) -> str:
    """`--status done=WORD,WORD` for the shell; words with commas or quotes are quoted."""
    said = []
    for word in map(one_line, words):
        doubled = word.replace('"', '""')
        said.append(f'"{doubled}"' if set(word) & set(',"') or word != word.strip() else word)
    return f"--status {_for_shell('done=' + ','.join(said))}"


def _for_shell(text: str) -> str:
    if re.fullmatch(r"[\w=,.:@%+/-]+", text):
        return text
    return shlex.quote(text)


def _unknown(column: str, unknown: Sequence[str]) -> Note:
    are = "is a word" if len(unknown) == 1 else "are words"
    return STATUS_UNKNOWN.note(
        f"{listed(unknown)} {are} of column {column!r} that may mean anything, and such runs are "
        f"left out: say which words count as done, {status_option(unknown[0])}"
    )


def _not_read(column: str, words: Iterable[str]) -> Note:
    unknown = list(dict.fromkeys(words))
    return STATUS_UNKNOWN.note(
        f"column {column!r} ({listed(unknown)}) is not read as the status of runs, and every row "
        f"counts: if it is, say which words count as done, {status_option(unknown[0])}"
    )


def _shown(value: Any) -> str:
    return "missing" if pd.isna(value) else str(value)

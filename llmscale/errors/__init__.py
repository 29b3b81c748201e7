"""Mistakes a user can fix, and warnings that travel with a result."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from llmscale.errors.keywords import as_keywords


class LlmscaleError(Exception):
    """A mistake that its reader can fix: what happened, and what to do about it.

    `problem` is one sentence with the actual numbers; `fix` says what would be right, if possible
    as a command to paste. Commands print both and exit with `exit_code`; nothing else shows a
    traceback. Both speak of options; the error as text, which Python shows, of keywords."""

    exit_code = 1

    def __init__(self, problem: str, fix: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.problem, f"  fix: {self.fix}"] if self.fix else [self.problem]
        return as_keywords("\n".join(lines))


class InputError(LlmscaleError):
    """Wrong input, found before any work is done. Exit code 2."""

    exit_code = 2


class WorkError(LlmscaleError):
    """Something failed while working: a fit that did not settle, a full disk, a lost worker. Exit
    code 1."""


class WriteError(WorkError):
    """Nothing can be written where results go any more: it is full, read-only, or not ours."""


@dataclass(frozen=True)
class Note:
    """A warning about a result: `code` for programs (`floor-not-identified`), `message` for
    people."""

    code: str
    message: str
    weight: int | None = None
    """A `notes.Weight`, if it matters more or less than its kind usually does."""

    def __str__(self) -> str:
        return self.message

    def to_json(self) -> dict[str, str | int]:
        """As kept and printed: with its weight only if that is its own."""
        shown: dict[str, str | int] = {"code": self.code, "message": self.message}
        return shown if self.weight is None else {**shown, "weight": int(self.weight)}

    def of(self, whom: Iterable[str]) -> "Note":
        """The note with the names of what it holds for in front."""
        return replace(self, message=f"{', '.join(whom)}: {self.message}")


_NAMED = 5


def listed(items: Iterable[object], most: int = _NAMED, separator: str = ", ") -> str:
    """For a sentence: at most this many items, then how many more."""
    names = [str(item) for item in items]
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """For a sentence: `1 run`, `3 runs`, `12,000 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def both(names: Sequence[str]) -> str:
    """For a sentence: `a`, `a and b`, `a, b and c`."""
    return " and ".join([part for part in (", ".join(names[:-1]), *names[-1:]) if part])


def with_article(word: str) -> str:
    """`a schedule`, `an optimizer`."""
    return f"{'an' if word[0] in 'aeio' else 'a'} {word}"


MOST_LINES = 30


def first_lines(text: str, most: int = MOST_LINES) -> str:
    """For a `repr`: at most this many lines, then how many more."""
    lines = text.splitlines()
    if len(lines) <= most:
        return text
    return "\n".join(
        [*lines[: most - 1], f"... and {len(lines) - most + 1} more lines: print it with str()"]
    )

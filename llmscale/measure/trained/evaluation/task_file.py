"""Tasks in JSON lines: an example a line, with a `prompt` and a `target` that a model is to write,
or a `prompt`, its `choices`, and which of them is the `answer`, by number from 0 or by its text."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llmscale.errors import InputError, listed
from llmscale.errors.printable import begun
from llmscale.measure.text.sources import digest_of
from llmscale.runs.safe_paths import refuse_unusable

_LONGEST_LINE: Final = 16_000_000
"""Bytes of an example."""
_FORMS: Final = (
    'write a line as {"prompt": "...", "target": "..."} or {"prompt": "...", "choices": ["...", '
    '"..."], "answer": 0}'
)


@dataclass(frozen=True)
class Example:
    """A prompt, and what should follow: one of the choices if there are several."""

    prompt: str
    choices: tuple[str, ...]
    answer: int = 0

    @property
    def target(self) -> str:
        """What should follow."""
        return self.choices[self.answer]


@dataclass(frozen=True)
class TaskFile:
    """The examples of a task, which are all of one kind."""

    path: Path
    examples: tuple[Example, ...]

    @property
    def is_choice(self) -> bool:
        """Whether a model chooses; else it writes."""
        return len(self.examples[0].choices) > 1

    @property
    def fingerprint(self) -> str:
        """Changes with any example."""
        words = [(one.prompt, str(one.answer), *one.choices) for one in self.examples]
        return digest_of(json.dumps(one) for one in words)


def read_task(place: str, limit: int | None = None) -> TaskFile:
    """The examples of the file `place`, at most `limit` of them. Raises InputError naming the line
    for what is no example, or of another kind than the first one."""
    path = refuse_unusable(Path(place).expanduser(), _FORMS)
    found: list[Example] = []
    for number, line in _lines(path):
        example = _example(path, number, line)
        if found and (len(example.choices) > 1) != (len(found[0].choices) > 1):
            raise InputError(
                f"line {number} of {path} is of another kind than those before: it must have a "
                f"{'target' if len(example.choices) > 1 else 'list of choices'}",
                "make two files of it",
            )
        found.append(example)
        if limit is not None and len(found) == limit:
            break
    if not found:
        raise InputError(f"{path} has no examples", _FORMS)
    return TaskFile(path, tuple(found))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers from 1."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
                if len(line) == _LONGEST_LINE:
                    size = f"{_LONGEST_LINE // 1_000_000} MB"
                    raise InputError(f"line {number} of {path} is longer than {size}", _FORMS)
                text = _decoded(path, number, line)
                if text.strip():
                    yield number, text
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", _FORMS) from error


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"line {number} of {path} is not UTF-8 at its byte {error.start + 1}",
            "write the file in UTF-8",
        ) from None


def _example(path: Path, number: int, line: str) -> Example:
    where = f"line {number} of {path}"
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON: {error}", _FORMS) from None
    if not isinstance(row, dict):
        raise InputError(f"{where} is no JSON object", _FORMS)
    prompt = row.get("prompt")
    if not isinstance(prompt, str):
        raise _lacks(where, "prompt", row)
    if "choices" in row:
        choices = _choices(where, row["choices"])
        return Example(prompt, choices, _answer(where, row.get("answer"), choices))
    target = row.get("target")
    if not isinstance(target, str):
        raise _lacks(where, "target", row)
    return Example(prompt, (target,))


def _choices(where: str, given: Any) -> tuple[str, ...]:
    is_list = isinstance(given, list) and all(isinstance(choice, str) for choice in given)
    if not is_list or len(given) < 2 or not all(given):
        raise InputError(f"{where} has no list of two or more texts named choices", _FORMS)
    return tuple(given)


def _answer(where: str, given: Any, choices: tuple[str, ...]) -> int:
    if isinstance(given, str) and choices.count(given) == 1:
        return choices.index(given)
    is_number = isinstance(given, int) and not isinstance(given, bool)
    if is_number and 0 <= given < len(choices):
        return int(given)
    raise InputError(
        f"{where} has the answer {begun(repr(given))}, which is none of its {len(choices)} choices",
        f"give its number, from 0 to {len(choices) - 1}, or its text",
    )


def _lacks(where: str, name: str, row: dict[str, Any]) -> InputError:
    there = listed(map(begun, row)) or "nothing"
    return InputError(f"{where} has no text named {name}, but {there}", _FORMS)

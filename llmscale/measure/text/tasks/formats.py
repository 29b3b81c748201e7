"""From a row to an example: the parts of its text, and which of them are learnt."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.measure.text.tasks.chat_template import ASSISTANT, SYSTEM, USER, Turn, pieces
from llmscale.measure.text.tasks.spec import TaskSpec
from llmscale.measure.text.text_column import text_of, value_of

USUAL: Final[dict[str, tuple[str, ...]]] = {
    "messages": ("messages", "conversations", "conversation", "turns", "dialogue", "dialog"),
    "prompt": ("prompt", "instruction", "question", "input", "source", "context"),
    "target": ("target", "completion", "response", "output", "answer", "summary", "translation"),
    "text": ("text", "content", "document"),
}
"""What published data calls its columns, likeliest first."""
COLUMNS_OF: Final = {"chat": ("messages",), "pairs": ("prompt", "target"), "text": ("text",)}
"""What each format needs, in the order in which they are looked for."""


_TURNS: Final = 'a turn is like {"role": "user", "content": "..."}, of system, user or assistant'
_ROLE_KEYS: Final = ("role", "from", "speaker")
_CONTENT_KEYS: Final = ("content", "value", "text")
_ROLES: Final = {
    SYSTEM: SYSTEM,
    USER: USER,
    ASSISTANT: ASSISTANT,
    "human": USER,
    "gpt": ASSISTANT,
    "model": ASSISTANT,
    "bot": ASSISTANT,
}


@dataclass(frozen=True)
class Part:
    """Text that is encoded by itself; if it is learnt an end of text follows, which is, too."""

    text: str
    learnt: bool


@dataclass(frozen=True)
class Example:
    """The parts of an example, one after the other."""

    parts: tuple[Part, ...]
    is_chat: bool = False
    """Whether it is written by chat_template.py."""

    @property
    def given(self) -> str:
        """What is there before the first part that is learnt: two examples of which this is equal
        are never on both sides of a split."""
        before = []
        for part in self.parts:
            if part.learnt:
                break
            before.append(part.text)
        return "".join(before)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(part.text for part in self.parts)


@dataclass(frozen=True)
class Reader:
    """How the rows of a file become examples."""

    format: str
    columns: dict[str, str]
    """The file's own names, by ours."""
    read: Callable[[Mapping[str, Any], str], Example]
    """The example of a row, whose place is the second argument. Raises InputError."""
    remark: str | None = None
    """Which columns were taken for which, if they have other names than ours."""


def reader_of(spec: TaskSpec, row: Mapping[str, Any], where: str) -> Reader:
    """How rows like `row`, the first one, are read. Raises InputError if it has not what `spec`
    asks for."""
    wanted = [spec.format]
    if spec.format == "auto":
        wanted = _asked_formats(spec) or list(COLUMNS_OF)
    for name in wanted:
        columns = {of: _column(spec, of, row) for of in COLUMNS_OF[name]}
        if all(columns.values()):
            known = {of: column for of, column in columns.items() if column}
            read = partial(_READ[name], **known)
            renamed = [f"{of} is {own!r}" for of, own in known.items() if own != of]
            remark = f"{where}: {', '.join(renamed)}" if renamed else None
            return Reader(name, known, read, remark)
    raise _no_columns(spec, wanted, row, where)


def _asked_formats(spec: TaskSpec) -> list[str]:
    """The formats that the columns which were named belong to."""
    asked = {of for of in USUAL if getattr(spec, f"{of}_column") is not None}
    return [name for name, needed in COLUMNS_OF.items() if asked & set(needed)]


def _column(spec: TaskSpec, of: str, row: Mapping[str, Any]) -> str | None:
    asked: str | None = getattr(spec, f"{of}_column")
    if asked is None:
        small = {str(name).lower(): str(name) for name in row}
        return next((small[name] for name in USUAL[of] if name in small), None)
    try:
        value_of(row, asked)
    except KeyError:
        return None
    return asked


def _no_columns(
    spec: TaskSpec, wanted: list[str], row: Mapping[str, Any], where: str
) -> InputError:
    there = ", ".join(map(str, list(row)[:20])) or "none"
    needed = [of for name in wanted for of in COLUMNS_OF[name]]
    missing = [of for of in needed if _column(spec, of, row) is None]
    if _column(spec, "prompt", row) is not None and "target" in missing:
        missing = ["target"]
    name = getattr(spec, f"{missing[0]}_column") or missing[0]
    has = f"{where} has no column {name!r}"
    if missing == ["target"]:
        has = f"{where} has prompts and no targets: it has no column {name!r}"
    return InputError(
        f"{has}; its columns are {there}",
        f"name it with --{missing[0]}-column, or train on all of a text with --format text",
    )


def _pair(row: Mapping[str, Any], where: str, *, prompt: str, target: str) -> Example:
    given = text_of(_value(row, prompt), where, prompt)
    learnt = text_of(_value(row, target), where, target)
    if not learnt.strip():
        raise InputError(f"{where} has an empty {target!r}", "leave rows without a target out")
    return Example((Part(given, False), Part(learnt, True)))


def _text(row: Mapping[str, Any], where: str, *, text: str) -> Example:
    found = text_of(_value(row, text), where, text)
    if not found.strip():
        raise InputError(f"{where} has an empty {text!r}", "leave empty rows out")
    return Example((Part(found, True),))


def _chat(row: Mapping[str, Any], where: str, *, messages: str) -> Example:
    turns = [_turn(one, where, messages) for one in _list(_value(row, messages), where, messages)]
    parts = tuple(Part(piece.text, piece.is_answer) for piece in pieces(turns))
    if not any(part.learnt for part in parts):
        raise InputError(
            f"{where} has no turn of the assistant in {messages!r}, and so nothing to learn",
            'give turns like {"role": "assistant", "content": "..."}',
        )
    return Example(parts, is_chat=True)


def _list(value: Any, where: str, column: str) -> list[Any]:
    if isinstance(value, str):  # of CSV
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, list):
        raise InputError(f"{column!r} at {where} is no list of turns", _TURNS)
    return value


def _turn(value: Any, where: str, column: str) -> Turn:
    known = value if isinstance(value, dict) else {}
    role = next((known[name] for name in _ROLE_KEYS if name in known), None)
    content = next((known[name] for name in _CONTENT_KEYS if name in known), None)
    role = _ROLES.get(str(role).lower())
    if role is None or not isinstance(content, str) or not content.strip():
        turn = begun(json.dumps(value, default=str))
        raise InputError(f"a turn in {column!r} at {where} is {turn}", _TURNS)
    return Turn(role, content)


def _value(row: Mapping[str, Any], column: str) -> Any:
    try:
        return value_of(row, column)
    except KeyError:
        return None


_READ: Final[dict[str, Callable[..., Example]]] = {"pairs": _pair, "text": _text, "chat": _chat}

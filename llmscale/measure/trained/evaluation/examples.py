"""The examples of a task, from anything that fine-tuning takes: of a prompt and a target the target
is to be written, of a chat the assistant's last turn. A row with `choices` and an `answer`, its
number from 0 or its text, is one to choose in."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.measure.text.contents import look
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.file_formats import first_row, read_rows
from llmscale.measure.text.sources import digest_of
from llmscale.measure.text.tasks.formats import Part
from llmscale.measure.text.tasks.rows import Task, open_task
from llmscale.measure.text.tasks.spec import TaskSpec

_CHOICES: Final = 'write a row as {"prompt": "...", "choices": ["...", "..."], "answer": 0}'


@dataclass(frozen=True)
class Example:
    """What is there before, and what should follow: one of the choices if there are several."""

    before: tuple[Part, ...]
    choices: tuple[str, ...]
    answer: int = 0

    @property
    def target(self) -> str:
        """What should follow."""
        return self.choices[self.answer]

    def prompt(self, encoder: Encoder) -> list[int]:
        """The tokens before, each part by itself as in fine-tuning; an end of text if there is
        nothing before, as in front of every document."""
        encoded = encoder.encode([part.text for part in self.before])
        tokens: list[int] = []
        for part, numbers in zip(self.before, encoded, strict=True):
            tokens += numbers.tolist() if part.learnt else numbers[:-1].tolist()
        return tokens or encoder.encode([""])[0].tolist()


@dataclass(frozen=True)
class Examples:
    """The examples of a task, which are all of one kind."""

    source: str
    examples: tuple[Example, ...]
    remarks: tuple[str, ...] = ()

    @property
    def is_choice(self) -> bool:
        """Whether a model chooses; else it writes."""
        return len(self.examples[0].choices) > 1

    @property
    def fingerprint(self) -> str:
        """Changes with any example."""
        words = [(one.answer, *one.choices, *map(repr, one.before)) for one in self.examples]
        return digest_of(json.dumps(one) for one in words)


def read_examples(source: str, limit: int | None = None) -> Examples:
    """The examples of the task `source`, at most `limit` of them. Raises InputError naming the row
    for what is no example."""
    task = open_task(TaskSpec(source))
    remarks: list[str] = []
    rows = _choices_of(task) or _targets_of(task, remarks)
    found: list[Example] = []
    for example in rows:
        found.append(example)
        if limit is not None and len(found) == limit:
            break
    if not found:
        raise InputError(f"{source} has no examples", "name a task that has")
    return Examples(source, tuple(found), tuple(remarks))


def _targets_of(task: Task, remarks: list[str]) -> Iterator[Example]:
    for where, example in task.examples(remarks.append):
        learnt = [place for place, part in enumerate(example.parts) if part.learnt]
        if not learnt or learnt[-1] == 0:
            raise InputError(
                f"{where} has a text, and neither a prompt nor a target",
                f"measure the loss on it: --data {task.spec.source}",
            )
        last = learnt[-1]
        yield Example(example.parts[:last], (example.parts[last].text,))


def _choices_of(task: Task) -> Iterator[Example] | None:
    """The examples of files whose rows have choices; None for other tasks."""
    for path in task.paths:
        content = look(path)
        row = first_row(path, content) if content.tabular else None
        if not row or "choices" not in row:
            return None
    if not task.paths:
        return None
    return (_choice(where, row) for path in task.paths for where, row in read_rows(path))


def _choice(where: str, row: Mapping[str, Any]) -> Example:
    prompt, answer = row.get("prompt"), row.get("answer")
    choices: Any = row.get("choices")
    number: Any = answer
    if not isinstance(prompt, str):
        raise InputError(f"{where} has no text named prompt", _CHOICES)
    is_list = isinstance(choices, list) and all(isinstance(one, str) for one in choices)
    if not is_list or not choices or len(choices) < 2 or not all(choices):
        raise InputError(f"{where} has no list of two or more texts named choices", _CHOICES)
    if isinstance(answer, str) and choices.count(answer) == 1:
        number = choices.index(answer)
    is_number = isinstance(number, int) and not isinstance(number, bool)
    if not is_number or number not in range(len(choices)):
        raise InputError(
            f"{where} has the answer {begun(repr(answer))}, which is none of its {len(choices)} "
            "choices",
            f"give its number, from 0 to {len(choices) - 1}, or its text",
        )
    return Example((Part(prompt, False),) if prompt else (), tuple(choices), int(number))

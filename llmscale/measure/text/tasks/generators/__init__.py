"""Tasks that are made, so that what is right is known: a menu. `--data task:translation` is
translation.py, and `--data ./mine.py:MyTask` one's own.

A member is a class that inherits `Generator`. It draws examples, as rows of a task file have them,
and solves them: a small program that gives the target of every prompt, which shows that the task
can be learnt to its end. `task:translation,examples=20000,seed=0,split=test` says how many, which,
and of which side."""

import hashlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from llmscale.errors import InputError
from llmscale.menu import Menu, is_own
from llmscale.quantity import parse_count

T = TypeVar("T")
SPLITS = ("train", "test")
TEST_SHARE = 0.1
"""Of all examples that can be drawn, which are for tests."""
_PREFIX = "task:"
_EXAMPLES, _MOST_EXAMPLES = 20_000, 10_000_000
_MOST_REPEATED = 1000
"""Draws in a row that are all known already, at which a task has no more to give."""


class Generator(ABC):
    """One task. It keeps no state: equal generators draw equal examples."""

    about: ClassVar[str] = ""
    """What is learnt, in a line."""

    @abstractmethod
    def draw(self, random: np.random.Generator) -> dict[str, Any]:
        """An example, as a row: `prompt` and `target`, or `messages` of a chat."""

    @abstractmethod
    def solve(self, given: Mapping[str, Any]) -> str:
        """The target of an example without it, or the last turn of a chat without it; blanks at its
        ends do not matter."""


@dataclass(frozen=True)
class Made:
    """Examples that a generator draws: different ones, always the same."""

    generator: Generator
    name: str
    examples: int = _EXAMPLES
    seed: int = 0
    split: str = "train"

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each example with its place. Raises InputError if there are not so many.

        On which side an example is follows from its prompt only, so that no seed and no number
        brings one of the tests' into training."""
        seeds = np.random.default_rng([self.seed, SPLITS.index(self.split)])
        seen: set[str] = set()
        repeated = 0
        while len(seen) < self.examples:
            row = self.generator.draw(seeds)
            prompt = json.dumps(given_of(row))
            if side_of(prompt) != self.split or prompt in seen:
                repeated += prompt in seen
                if repeated > _MOST_REPEATED:
                    raise InputError(
                        f"task {self.name} has only about {len(seen):,} examples to {self.split}",
                        f"ask for fewer: task:{self.name},examples={len(seen)}",
                    )
                continue
            seen.add(prompt)
            repeated = 0
            yield f"example {len(seen)} of task:{self.name}", row

    def fingerprint(self) -> str:
        """Equal ones give equal examples."""
        import sys

        module = sys.modules[type(self.generator).__module__]
        code = inspect.getsource(module) if not is_own(self.name) else self.name
        told = json.dumps([code, self.examples, self.seed, self.split])
        return hashlib.sha256(told.encode()).hexdigest()


def pick(random: np.random.Generator, items: Sequence[T]) -> T:
    """One of `items`, each as likely; `random.choice` would make an array of them first."""
    return items[int(random.integers(len(items)))]


def given_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """An example without what is to be found: its target, or the last turn of a chat."""
    if "prompt" in row:
        return {"prompt": row["prompt"]}
    return {"messages": row["messages"][:-1]}


def target_of(row: Mapping[str, Any]) -> str:
    """What is to be found."""
    found: str = row["target"] if "prompt" in row else row["messages"][-1]["content"]
    return found


def side_of(prompt: str) -> str:
    """The side that examples of this prompt are on, by the prompt's hash."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "little") < TEST_SHARE * 2**64 else "train"


def is_made(source: str) -> bool:
    """Whether `source` names a task that is made."""
    return source.startswith(_PREFIX) or is_own(source.partition(",")[0])


def made(source: str) -> Made:
    """The examples that `task:NAME,examples=N,seed=S,split=train|test` names. Raises InputError."""
    name, *settings = source.removeprefix(_PREFIX).split(",")
    values: dict[str, Any] = {}
    for one in settings:
        key, _, text = one.partition("=")
        if key == "examples":
            values[key] = _count(text, _MOST_EXAMPLES)
        elif key == "seed":
            values[key] = 0 if text == "0" else _count(text, 2**32)
        elif key == "split" and text in SPLITS:
            values[key] = text
        else:
            raise InputError(
                f"{one!r} in {source!r} is not known",
                f"write it like task:{name},examples=20000,seed=0,split=train",
            )
    return Made(GENERATORS.find(name.strip()), name.strip(), **values)


def _count(text: str, most: int) -> int:
    found = parse_count(text)
    if found > most:
        raise InputError(f"{text} is more than {most:,}", "ask for fewer")
    return found


def _tried(found: Any, title: str) -> Generator:
    generator: Generator = found()
    row = generator.draw(np.random.default_rng(0))
    if not isinstance(row, dict) or not ({"prompt", "target"} <= set(row) or "messages" in row):
        raise InputError(f"{title} draws no example", 'give {"prompt": ..., "target": ...}')
    return generator


GENERATORS: Menu[Generator] = Menu(
    __name__,
    "task",
    "--data",
    is_member=lambda value: isinstance(value, type) and issubclass(value, Generator),
    ready=lambda found: found(),
    tried=_tried,
    own="MyTask",
)

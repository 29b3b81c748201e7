"""Steps of cleaning: a menu. `--clean gopher-quality` is `gopher_quality.py`.

A member is a class of `Rewrite`, `Judge` or `Compare`. All rewriting comes first, then what judges
a document by itself, then what compares it with those before it; within each kind in the order of
names, so that the same steps always do the same. What follows a name and a colon, as in
`language:en`, is the step's `argument`.

A step of one's own, `--clean ./mine.py:my_step`, is such a class, or a function of a document's
text that returns the text to keep, changed or not, or None to drop the document."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from llmscale.errors import InputError
from llmscale.machine.needs import need
from llmscale.menu import Menu, errors_named, file_of, is_own

if TYPE_CHECKING:
    from llmscale.measure.text.words import Hashes, Words


@dataclass(frozen=True)
class Reason:
    """Why a document is dropped: the rule, and what it found."""

    rule: str
    found: str = ""


@dataclass(frozen=True)
class Step(ABC):
    """One step; made anew for every text, with the argument that was given."""

    NEEDS: ClassVar[str | None] = None
    """A package that it takes and llmscale itself does not."""
    ARGUMENT: ClassVar[str | None] = None
    """An example of its argument; without one it takes none."""
    name: str
    argument: str | None = None

    def __post_init__(self) -> None:
        if self.argument is not None and self.ARGUMENT is None:
            raise InputError(
                f"the cleaning step {self.name} takes no argument, and got {self.argument!r}",
                f"write it like --clean {self.name}",
            )
        if self.NEEDS is not None:
            need(self.NEEDS, f"--clean {self.name}", "'llmscale[clean]'")

    @property
    def version(self) -> str:
        """Changes with what else than its name decides what it does, such as a package's model."""
        return ""


class Rewrite(Step):
    """Changes the text of a document."""

    @abstractmethod
    def rewritten(self, text: str) -> str | None:
        """The text to keep; None drops the document."""


class Judge(Step):
    """Drops documents for what they are."""

    @abstractmethod
    def dropped(self, words: "Words") -> Mapping[int, Reason]:
        """Of the documents of `words`, by number, those that are dropped."""


class Compare(Step):
    """Drops documents for their likeness to one before. It gives each document WIDTH marks; one
    that shares a mark with a document that was kept before is dropped."""

    WIDTH: ClassVar[int]

    @abstractmethod
    def marks(self, words: "Words") -> "Hashes":
        """The marks of each document: (T, WIDTH)."""


KINDS: tuple[type[Step], ...] = (Rewrite, Judge, Compare)
"""In the order in which they are taken."""


def open_steps(asked: Iterable[str]) -> tuple[Step, ...]:
    """The steps in the order in which they are taken. Raises InputError."""
    steps = [_open(name) for name in asked]
    return tuple(sorted(steps, key=lambda step: (_place(step), step.name)))


def pin_steps(text: str) -> tuple[str, ...]:
    """The steps that `text` names with commas between, each as results name it, in order of name.
    Raises InputError."""
    names: dict[str, str] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        name, argument = _parts(item)
        pinned = STEPS.pin(name)
        stated = pinned if argument is None else f"{pinned}:{argument}"
        if pinned in names:
            ways = "" if names[pinned] == stated else f", as {names[pinned]} and {stated}"
            raise InputError(
                f"the cleaning step {name} is asked for twice{ways}", "ask for it once"
            )
        names[pinned] = stated
    return tuple(sorted(names.values()))


def check_steps(asked: Iterable[str]) -> None:
    """Raise InputError unless results may hold these names of steps. No file is read."""
    for item in asked:
        STEPS.check(_parts(item)[0])


def _parts(item: str) -> tuple[str, str | None]:
    """The name of a step, and its argument if it has one."""
    if is_own(item):
        return item, None
    name, colon, argument = item.partition(":")
    return name.strip(), argument.strip() if colon else None


def _open(item: str) -> Step:
    name, argument = _parts(item)
    step: Step = STEPS.find(name)(name, argument)
    return step


def _place(step: Step) -> int:
    return next(place for place, kind in enumerate(KINDS) if isinstance(step, kind))


def _is_step(value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, Step)
    return callable(value)


def _tried(found: Any, title: str) -> type[Step]:
    """A step of the user's own, tried on a document."""
    if isinstance(found, type):
        kind: type[Step] = found
        if not issubclass(kind, KINDS):
            raise InputError(f"{title} is no Rewrite, Judge or Compare", "inherit one of them")
        return kind
    kind = _of_function(found, title)
    assert issubclass(kind, Rewrite)
    step, document = kind(title), "A short document.\n\nIt has two paragraphs.\n"
    if len({step.rewritten(document) for _ in range(_TRIES)}) > 1:
        raise InputError(
            f"{title} makes different texts of the same document",
            "make what it returns depend on the document only: text is read in several processes, "
            "and again",
        )
    return kind


def _of_function(function: Callable[[str], Any], title: str) -> type[Rewrite]:
    path = file_of(function)

    @dataclass(frozen=True)
    class OfFunction(Rewrite):
        def rewritten(self, text: str) -> str | None:
            with errors_named(path, f"fails on a document of {len(text):,} characters", _FIX):
                given = function(text)
            if given is None or isinstance(given, str):
                return given
            raise InputError(f"{title} returns {type(given).__name__}, and not text", _FIX)

    return OfFunction


_TRIES = 8
_FIX = "return the text to keep, or None to drop the document"

STEPS: Menu[Any] = Menu(
    __name__, "cleaning step", "--clean", is_member=_is_step, tried=_tried, own="my_step"
)

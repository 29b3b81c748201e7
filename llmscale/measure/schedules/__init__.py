"""Learning-rate schedules: `--schedule cosine` is schedules/cosine.py.

A member is a frozen dataclass that inherits `Schedule` and gives `after_warmup(step)`, the share of
the peak learning rate at a step if there were no warm-up: a pure function with values from 0 to 1,
not 0 all the time. One of your own, `--schedule ./mine.py:my_schedule`, is that, or a function
`my_schedule(progress)` of the share of the steps after the warm-up that are done, from 0 to below
1. It may return any number, also numpy's or torch's of no dimension."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.menu import Menu, errors_named, path_of

TRIED = 50
"""Steps at which a schedule of the user's own is asked before anything is trained."""


@dataclass(frozen=True)
class Schedule(ABC):
    """The learning rate of a run of `steps`, after a linear warm-up over `warmup` of them."""

    branches: ClassVar[bool] = False
    """Whether a shorter and a longer run are the same run up to the shorter's `cooldown_start`."""
    title: ClassVar[str] = ""
    """What errors call it, if it is of the user's own: `schedule 'f' of ./s.py`."""

    steps: int
    warmup: int
    cooldown: float = 0.2
    """Share of the steps over which a schedule that cools down does so."""

    @abstractmethod
    def after_warmup(self, step: int) -> float:
        """Share of the peak at `step`, counted from 0, as it is without a warm-up."""

    @property
    def cooldown_start(self) -> int:
        """First step of the cooldown."""
        return self.steps - round(self.cooldown * self.steps)

    def progress(self, step: int) -> float:
        """Share of the steps after the warm-up that are done before `step`; 0 during it."""
        return max(0.0, (step - self.warmup) / max(1, self.steps - self.warmup))

    def fraction(self, step: int) -> float:
        """Share of the peak learning rate at `step`, counted from 0.

        Raises InputError if the user's own schedule gives no number from 0 to 1."""
        share = self._share(step) if self.title else self.after_warmup(step)
        return min(1.0, (step + 1) / (self.warmup + 1)) * share

    def _share(self, step: int) -> float:
        """What the user's own schedule gives, as a number."""
        progress = f"at progress {self.progress(step):.4g}"
        with errors_named(path_of(type(self).__module__) or "", f"fails {progress}", _FIX):
            given = self.after_warmup(step)
        share = _number(given)
        if share is None or not 0 <= share <= 1:
            raise InputError(f"{self.title} gave {begun(repr(given))} {progress}", _FIX)
        return share

    def check(self) -> None:
        """Raise InputError if the user's own schedule fails at some of its steps."""
        if self.title:
            last = self.steps - 1
            steps = [round(last * part / TRIED) for part in range(TRIED + 1)]
            shares = [self._share(step) for step in steps]
            for step, share in zip(steps, shares, strict=True):
                if self._share(step) != share:
                    raise InputError(
                        f"{self.title} gives two answers at progress {self.progress(step):.4g}",
                        "let it hang on the progress only: a run that is resumed asks again",
                    )
            if not any(shares):
                raise InputError(f"{self.title} is 0 at every step", _FIX)


_FIX = "return a number from 0 to 1, the share of the peak learning rate"


def _number(given: Any) -> float | None:
    """A number, or what holds one and no more, as a float; None for anything else."""
    if isinstance(given, str | bytes | bool) or getattr(given, "shape", ()) != ():
        return None
    try:
        return float(given)
    except (TypeError, ValueError):
        return None


def _tried(found: Any, title: str) -> type[Schedule]:
    """A schedule of the user's own, which has been asked at steps of a usual run."""
    kind: type[Schedule] = found if isinstance(found, type) else _of_function(found)
    kind.title = title
    run = kind(1000, 100)
    run.check()
    if kind.branches:
        longer = replace(run, steps=2000)
        if any(run.fraction(step) != longer.fraction(step) for step in range(run.cooldown_start)):
            raise InputError(
                f"{title} says that it branches, and runs of 1,000 and 2,000 steps do not begin "
                "alike",
                "leave out `branches = True`, or let after_warmup(step) depend on `steps` only "
                "from cooldown_start on",
            )
    return kind


def _of_function(function: Any) -> type[Schedule]:
    @dataclass(frozen=True)
    class OfFunction(Schedule):
        def after_warmup(self, step: int) -> float:
            share: float = function(self.progress(step))
            return share

    OfFunction.__module__ = function.__module__  # whose file errors name
    return OfFunction


def _is_schedule(value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, Schedule)
    return callable(value)


SCHEDULES: Menu[type[Schedule]] = Menu(
    __name__, "schedule", "--schedule", is_member=_is_schedule, tried=_tried, own="my_schedule"
)

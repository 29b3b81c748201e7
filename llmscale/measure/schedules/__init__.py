"""Learning-rate schedules: `--schedule cosine` is schedules/cosine.py.

A member is a frozen dataclass that inherits `Schedule` and gives `after_warmup(step)`, the share of
the peak learning rate at a step if there were no warm-up, a pure function above 0. One of your own,
`--schedule ./mine.py:my_schedule`, is that, or a function `my_schedule(progress)` of the share of
the steps after the warm-up that are done, from 0 to below 1."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from llmscale.errors import InputError
from llmscale.menu import Menu


@dataclass(frozen=True)
class Schedule(ABC):
    """The learning rate of a run of `steps`, after a linear warm-up over `warmup` of them."""

    branches: ClassVar[bool] = False
    """Whether a shorter and a longer run are the same run up to the shorter's `cooldown_start`."""

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
        """Share of the peak learning rate at `step`, counted from 0; above 0 at every step."""
        return min(1.0, (step + 1) / (self.warmup + 1)) * self.after_warmup(step)


def _ready(found: Any) -> type[Schedule]:
    if isinstance(found, type):
        return found
    if not found(0.0) > 0:
        raise InputError(
            f"the schedule {found.__name__} is {found(0.0)!r} at the peak",
            "let it return a share of the peak learning rate, above 0",
        )

    @dataclass(frozen=True)
    class OfFunction(Schedule):
        def after_warmup(self, step: int) -> float:
            share: float = found(self.progress(step))
            return share

    return OfFunction


def _is_schedule(value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, Schedule)
    return callable(value)


SCHEDULES: Menu[type[Schedule]] = Menu(
    __name__, "schedule", "--schedule", is_member=_is_schedule, ready=_ready, own="my_schedule"
)

"""adaptive.json: what a loop was asked, which runs it chose in each round, and what came of them.

It is written before a round is trained and after: a command that is given again goes on in the
middle of a round, with the runs that were chosen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from llmscale.errors import InputError
from llmscale.explain import digits
from llmscale.explain.forecast.forecast import Forecast
from llmscale.quantity import format_count
from llmscale.runs.checked import (
    DamagedFile,
    WrongValue,
    check_list,
    check_table,
    read_object,
    typed,
)
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.safe_write import write_json

_OPTIONS = {"flops": "target"}
"""What the command calls what is asked of `predict`."""
_FIX = "move it away to begin a new loop on the runs that are there"


@dataclass(frozen=True)
class ChosenRun:
    """A run of a round, what it is expected to cost, and why it was chosen."""

    size: str
    tokens: float
    seed: int
    flops: float
    reason: str = ""

    @property
    def title(self) -> str:
        return f"{self.size} at {format_count(self.tokens)} tokens"


@dataclass(frozen=True)
class Outcome:
    """A forecast of the target: by which law, the loss, and its interval."""

    law: str
    loss: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """From low to high, in nats or what else the loss is in."""
        return self.high - self.low

    def __str__(self) -> str:
        return digits.with_ends(self.loss, self.low, self.high)


@dataclass(frozen=True)
class Round:
    """Runs that are trained together. `flops` is what they cost, once they have ended."""

    number: int
    """0 of the start design, from which nothing could be forecast before."""
    of_budget: float
    """The budget of the whole loop when it was chosen."""
    runs: tuple[ChosenRun, ...]
    before: Outcome | None = None
    expected: tuple[float, float] | None = None
    """The interval that was expected of it."""
    flops: float | None = None
    after: Outcome | None = None
    lost: tuple[str, ...] = ()
    """Its runs that diverged or failed."""

    @property
    def has_ended(self) -> bool:
        return self.flops is not None

    @property
    def planned_flops(self) -> float:
        return sum(run.flops for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class State:
    """A loop so far. `asked` decides what is forecast, and from what; `spent_before` is what each
    run that was there at its beginning had cost by then, by id."""

    asked: Mapping[str, Any]
    spent_before: Mapping[str, float]
    rounds: tuple[Round, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else the last command said: its budget, its width, its limits."""
    stop: str = ""
    """Why the loop has ended, in words; empty while it has not."""

    @property
    def under_way(self) -> Round | None:
        """The round that was begun and has not ended."""
        return self.rounds[-1] if self.rounds and not self.rounds[-1].has_ended else None

    @property
    def chosen_rounds(self) -> tuple[Round, ...]:
        """All but the start design."""
        return tuple(one for one in self.rounds if one.number > 0)

    def said(self, settings: Mapping[str, Any]) -> "State":
        """With what a new command says of how far to go."""
        return replace(self, settings=settings)

    def begun(self, one: Round) -> "State":
        """With a new round, in place of one that was never begun."""
        rounds = [known for known in self.rounds if known.number != one.number]
        return replace(self, rounds=(*rounds, one), stop="")

    def ended(self, flops: float, lost: tuple[str, ...]) -> "State":
        """With the last round ended."""
        last = replace(self.rounds[-1], flops=flops, lost=lost)
        return replace(self, rounds=(*self.rounds[:-1], last))

    def judged(self, after: Outcome) -> "State":
        """With what the last round made of the forecast."""
        if not self.rounds:
            return self
        return replace(self, rounds=(*self.rounds[:-1], replace(self.rounds[-1], after=after)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def outcome_of(forecast: Forecast) -> Outcome:
    """What a forecast of one run says."""
    assert forecast.fit is not None
    ends = float(forecast.loss), float(forecast.low), float(forecast.high)
    return Outcome(forecast.fit.law.name, *ends)


def write_state(folder: ResultsFolder, state: State) -> None:
    write_json(folder.adaptive_path, state.to_json())


def read_state(folder: ResultsFolder) -> State | None:
    """The loop of `folder`; None if there is none. Raises DamagedFile."""
    path = folder.adaptive_path
    try:
        return _state(read_object(path))
    except FileNotFoundError:
        return None
    except WrongValue as error:
        raise DamagedFile(path, str(error), _FIX) from error


def check_same(folder: ResultsFolder, state: State, asked: Mapping[str, Any]) -> None:
    """Raise InputError if the loop in `folder` forecasts something else than what is `asked`."""
    for name in sorted({*state.asked, *asked}):
        there, here = state.asked.get(name), asked.get(name)
        if there != here:
            raise InputError(
                f"the loop in {folder.path} was begun with {_said(name, there)}, and this command "
                f"says {_said(name, here)}",
                f"give it as before; or, to begin another on the same runs, move "
                f"{folder.adaptive_path} away",
            )


def _said(name: str, value: Any) -> str:
    option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
    return f"no {option}" if value is None else f"{option} {value}"


def _state(payload: dict[str, Any]) -> State:
    check_list(payload.get("rounds"), dict, "rounds")
    check_table(payload.get("spent_before"), float, "spent_before")
    rounds = tuple(map(_round, payload["rounds"]))
    state: State = typed(State, {**payload, "rounds": rounds})
    return state


def _round(payload: dict[str, Any]) -> Round:
    check_list(payload.get("runs"), dict, "runs of a round")
    check_list(payload.get("lost"), str, "lost")
    read: dict[str, Any] = {
        name: typed(Outcome, payload[name], name)
        for name in ("before", "after")
        if payload.get(name) is not None
    }
    if payload.get("expected") is not None:
        check_list(payload["expected"], float, "expected")
        read["expected"] = tuple(payload["expected"])
    runs = tuple(typed(ChosenRun, run) for run in payload["runs"])
    lost = tuple(payload["lost"])
    found: Round = typed(Round, {**payload, **read, "runs": runs, "lost": lost}, "a round")
    return found

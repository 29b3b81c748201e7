"""How a law is fitted: the objective, the intervals, and which runs are held out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.laws import Array
from llmscale.settings import Range, check_settings, setting, settings_of

OBJECTIVES = ("huber", "squared", "log-cosh")
INTERVALS = ("bootstrap", "profile", "jacobian")
FIRST_DELTA = 0.1
_DELTA_FACTOR = 10.0


@dataclass(frozen=True)
class Objective:
    """What is summed over runs, as a function of r = ln L̂ - ln L.

    `huber` is r²/2 up to delta and linear beyond (Huber 1964; with delta 1e-3 as in Hoffmann et al.
    2022), `squared` is r²/2, and `log-cosh` is delta² ln cosh(r/delta), a Huber without a kink.
    `squares` times r²/2 is added, to tell apart what the objective itself holds equal."""

    name: str = "huber"
    delta: float = 1e-3
    squares: float = 0.0

    def expand(self, residual: Array) -> tuple[Array, Array, Array]:
        """Value, first and second derivative at every residual."""
        value, first, second = self._expand(residual)
        if self.squares:
            value += 0.5 * self.squares * residual * residual
            first += self.squares * residual
            second += self.squares
        return value, first, second

    def _expand(self, residual: Array) -> tuple[Array, Array, Array]:
        if self.name == "squared":
            return 0.5 * residual * residual, residual.copy(), np.ones_like(residual)
        if self.name == "huber":
            clipped = np.minimum(np.maximum(residual, -self.delta), self.delta)
            rho = -0.5 * clipped
            rho += residual
            rho *= clipped
            return rho, clipped, (clipped == residual).astype(float)
        scaled = np.abs(residual) / self.delta
        value = self.delta**2 * (scaled + np.log1p(np.exp(-2.0 * scaled)) - np.log(2.0))
        slope = np.tanh(residual / self.delta)
        return value, self.delta * slope, 1.0 - slope * slope

    def total(self, residual: Array, weight: Array) -> Array:
        """sum over the last axis of weight times value."""
        return np.asarray((weight * self.expand(residual)[0]).sum(axis=-1))

    def graduated(self) -> "list[Objective]":
        """The same with delta from 0.1 down to its own, by factors of about 10: far starts see a
        smooth valley.
        """
        if self.name == "squared":
            return [self]
        stages = max(int(np.ceil(np.log(FIRST_DELTA / self.delta) / np.log(_DELTA_FACTOR))), 0)
        deltas = [
            self.delta * (FIRST_DELTA / self.delta) ** (1 - i / stages) for i in range(stages)
        ]
        return [Objective(self.name, delta) for delta in deltas] + [self]


@dataclass(frozen=True)
class Options:
    """Settings of a fit. Raises InputError for values that make no sense.

    `variable` is the column that laws in one variable are fitted in. `level` is the share of
    intervals that should hold the truth, `bootstrap` the number of refits behind them; `intervals`
    says where those of the coefficients come from: `bootstrap`, `profile` (likelihood) or
    `jacobian` (covariance at the optimum). `holdout` leaves out `largest`, `none`, or the runs of a
    rule like `flops>1e19`. `objective` and `delta` say what is minimised (see Objective).
    `diagnostics` are the notes on what the runs cannot tell and on runs that mislead; without them
    a fit is a little faster."""

    variable: str = "params"
    level: float = setting(
        0.9, help="Share of intervals that hold the truth.", within=Range(0.01, 0.9999)
    )
    bootstrap: int = setting(1000, help="Refits behind the intervals.", within=Range(0, 100_000))
    holdout: str = "largest"
    seed: int = setting(0, help="Of what is drawn at random.", within=Range(0, 2**63 - 1))
    objective: str = "huber"
    delta: float = setting(
        1e-3, help="Where the Huber loss turns linear.", within=Range(1e-9, 1000.0)
    )
    intervals: str = "bootstrap"
    diagnostics: bool = True

    def __post_init__(self) -> None:
        if self.variable not in ("params", "tokens", "flops"):
            raise InputError(
                f"there is no variable {self.variable!r}", "use params, tokens or flops"
            )
        for one in settings_of(Options):
            if one.within is not None and getattr(self, one.name) is None:
                raise InputError(
                    f"{one.name} is None", f"give a number that is {one.within}, or leave it out"
                )
        check_settings(self)
        for name in ("bootstrap", "seed"):
            if getattr(self, name) != int(getattr(self, name)):
                raise InputError(f"{name} is {getattr(self, name)}", "give a whole number")
            object.__setattr__(self, name, int(getattr(self, name)))
        if self.objective not in OBJECTIVES:
            raise InputError(
                f"there is no objective {self.objective!r}", f"use {', '.join(OBJECTIVES)}"
            )
        if self.intervals not in INTERVALS:
            raise InputError(
                f"there are no intervals by {self.intervals!r}", f"use {', '.join(INTERVALS)}"
            )

    @property
    def loss_function(self) -> Objective:
        return Objective(self.objective, self.delta)


class OptionsGiven(TypedDict, total=False):
    """The fields of Options by name; one that is None was not given."""

    variable: str | None
    level: float | None
    bootstrap: int | None
    holdout: str | None
    seed: int | None
    objective: str | None
    delta: float | None
    intervals: str | None
    diagnostics: bool | None


def those_given(options: OptionsGiven) -> dict[str, Any]:
    """The options that were given. Raises InputError for one that there is not, or that does
    nothing next to another."""
    unknown = [name for name in options if name not in OptionsGiven.__annotations__]
    if unknown:
        known = ", ".join(OptionsGiven.__annotations__)
        raise InputError(f"there is no option {unknown[0]!r} of a fit", f"options are {known}")
    given = {name: value for name, value in options.items() if value is not None}
    if "delta" in given and given.get("objective") == "squared":
        raise InputError(
            "the squared objective has no delta", "leave --delta out, or take --objective huber"
        )
    return given


def disagreement(options: Options, given: Mapping[str, Any]) -> str | None:
    """The first of the options given that a fit was not made with."""
    return next((name for name, value in given.items() if getattr(options, name) != value), None)

"""How a law is fitted: the objective, the intervals, and which runs are held out. Light: `--help`
reads the declarations."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypedDict

from llmscale.errors import InputError
from llmscale.explain.estimation.constraints import (
    Bounds,
    Constraints,
    Fixes,
    Ties,
    as_texts,
    constraints_of,
)
from llmscale.settings import Range, check_settings, setting

if TYPE_CHECKING:
    from llmscale.explain.estimation.objective import Objective

HOW: Final = "How to fit"
"""The group of these settings."""
VARIABLES = ("params", "tokens", "flops")
OBJECTIVES = ("huber", "squared", "log-cosh")
INTERVALS = ("bootstrap", "profile", "jacobian")
CONSTRAINTS = ("fix", "tie", "bound")


@dataclass(frozen=True)
class Options:
    """How a law is fitted. Raises InputError for values that make no sense."""

    variable: str = setting(
        "params",
        help="The column that laws in one variable are fitted in.",
        group=HOW,
        choices=lambda: VARIABLES,
    )
    objective: str = setting(
        "huber",
        help="What is minimised, of the difference of log losses (Huber 1964, as Hoffmann et al. "
        "2022 do; squares; or ln cosh).",
        group=HOW,
        choices=lambda: OBJECTIVES,
    )
    delta: float = setting(
        1e-3,
        help="Where huber and log-cosh turn from squares to lines.",
        group=HOW,
        within=Range(1e-9, 1000.0),
    )
    level: float = setting(
        0.9,
        help="Share of intervals that should hold the truth.",
        group=HOW,
        within=Range(0.01, 0.9999),
    )
    bootstrap: int = setting(
        1000,
        help="Bootstrap refits, 2 / (1 - level) of them or more; 0 gives no intervals.",
        group=HOW,
        within=Range(0, 100_000),
    )
    intervals: str = setting(
        "bootstrap",
        help="Where those of coefficients come from: the bootstrap, the profile of the "
        "likelihood, or the Jacobian's covariance.",
        group=HOW,
        choices=lambda: INTERVALS,
    )
    holdout: str = setting(
        "largest",
        help="Runs to leave out and predict: largest, none, or those of a rule, as `flops>1e19`.",
        group=HOW,
        metavar="RULE",
    )
    seed: int = setting(0, help="Seed of the bootstrap.", group=HOW, within=Range(0, 2**63 - 1))
    fix: Fixes = setting(
        (),
        help="Coefficients that are known: E=1.69.",
        usual="all are fitted",
        group=HOW,
        repeats=True,
        metavar="NAME=VALUE",
    )
    tie: Ties = setting(
        (),
        help="Coefficients that are equal: alpha=beta.",
        usual="none",
        group=HOW,
        repeats=True,
        metavar="NAME=NAME",
    )
    bound: Bounds = setting(
        (),
        help="Where coefficients lie: alpha=0.2:0.5; an end may be left out.",
        usual="where the law allows",
        group=HOW,
        repeats=True,
        metavar="NAME=LOW:HIGH",
    )
    diagnostics: bool = setting(
        True,
        help="Whether to look for what the runs cannot tell and for runs that mislead; without, "
        "a fit is a little faster.",
        group=HOW,
    )

    def __post_init__(self) -> None:
        for one in fields(Options):
            if getattr(self, one.name) is None:
                raise InputError(f"{one.name} is None", "give a value, or leave it out")
        if isinstance(self.level, int | float) and 1 < self.level <= 100:
            raise InputError(
                f"level is {self.level:g}, which is out of range: it is a share, below 1",
                f"write it like --level {self.level / 100:g}",
            )
        check_settings(self)
        for name in ("bootstrap", "seed"):
            if getattr(self, name) != int(getattr(self, name)):
                raise InputError(f"{name} is {getattr(self, name)}", "give a whole number")
            object.__setattr__(self, name, int(getattr(self, name)))
        _ = self.constraints  # raises if they cannot be read
        texts = as_texts(self.fix, self.tie, self.bound)
        for name, given in zip(CONSTRAINTS, texts, strict=True):
            object.__setattr__(self, name, given)

    @cached_property
    def constraints(self) -> Constraints:
        """What is said of coefficients."""
        return constraints_of(self.fix, self.tie, self.bound)

    @property
    def constraint_words(self) -> list[str]:
        """The options that say the same of coefficients on a command line."""
        given = {f"--{name}": ",".join(getattr(self, name)) for name in CONSTRAINTS}
        return [word for option, value in given.items() if value for word in (option, value)]

    @property
    def loss_function(self) -> "Objective":
        """What is summed over runs."""
        from llmscale.explain.estimation.objective import Objective

        return Objective(self.objective, self.delta)


class OptionsGiven(TypedDict, total=False):
    """The fields of Options as keywords; one that is None was not given."""

    variable: str | None
    objective: str | None
    delta: float | None
    level: float | None
    bootstrap: int | None
    intervals: str | None
    holdout: str | None
    seed: int | None
    fix: Fixes | None
    tie: Ties | None
    bound: Bounds | None
    diagnostics: bool | None


def disagreement(options: Options, given: Mapping[str, Any]) -> str | None:
    """The first of the options given that a fit was not made with."""
    return next((name for name, value in given.items() if getattr(options, name) != value), None)


def without_constraints(options: Options) -> Options:
    """The same with all coefficients free."""
    nothing: dict[str, Any] = dict.fromkeys(CONSTRAINTS, ())
    return replace(options, **nothing)


def said(options: Options, name: str) -> str:
    """An option with its value, for a sentence."""
    return f"{name} {asked_for(getattr(options, name))}"


def asked_for(value: object) -> object:
    """What an option is given, for a sentence."""
    return (",".join(value) or "nothing") if isinstance(value, tuple) else value

"""The menu of laws: `--law power-floor` is `power_floor.py`. Adding a law means adding one file here.

A member is a file with one frozen dataclass that inherits `Law` (or `SumOfPowers`, which brings the solver's
half along) and gives:

- its coefficients as fields, in the paper's letters and order (`E`, `A`, `alpha`);
- `equation` and `source`: the formula as people write it, and where it was published;
- `inputs`: the columns of the table that `loss` takes, in that order;
- `loss(*inputs)`: nats per token, for numbers and arrays alike;
- `surface(inputs, loss)`: ln L of many coefficient sets at once, with derivatives, for the solver.

Files whose name starts with an underscore are not choices.
"""

import difflib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import InputError

Array = NDArray[np.float64]

LETTERS: Mapping[str, str] = {"params": "N", "tokens": "D", "flops": "C"}
"""The letter of each quantity in published formulas."""


class Surface(ABC):
    """ln L of a law at fixed runs (R), for a batch (B) of internal coefficient vectors theta (P).

    theta is whatever suits the solver: logs of amplitudes, exponents, on centred and scaled ln N and ln D.
    """

    lower: Array
    upper: Array
    """Bounds on theta. A fit that ends on one says so."""
    vanishing: NDArray[np.bool_]
    """Which of theta are logs of amplitudes that may go to zero: at their lower bound they read 0."""

    @abstractmethod
    def starts(self, count: int) -> Array:
        """At most `count` promising starting points, theta_BP."""

    @abstractmethod
    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        """ln L (B, R), and whatever `derivatives` needs to go on from there."""

    @abstractmethod
    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        """sum_r first ∇f, and sum_r second ∇f ∇fᵀ + first ∇²f, for f = ln L at run r: (B, P) and (B, P, P)."""

    @abstractmethod
    def jacobian(self, theta_P: Array) -> Array:
        """∇ ln L at every run for one theta: (R, P)."""

    @abstractmethod
    def coefficients(self, theta_BP: Array) -> Array:
        """The law's coefficients in raw units, in the order of its fields: (B, n_coefficients)."""

    @abstractmethod
    def theta(self, coefficients_BK: Array) -> Array:
        """The inverse of `coefficients`."""


@dataclass(frozen=True)
class Law(ABC):
    """A formula for the loss with its coefficients filled in. Keyword-only fields are settings, not coefficients."""

    equation: ClassVar[str]
    source: ClassVar[str]
    name: ClassVar[str]
    floor: ClassVar[str | None] = None
    """The coefficient that is the irreducible loss, if the law has one."""
    exponents: ClassVar[tuple[str, ...]] = ()
    without_floor: ClassVar[str | None] = None
    """The name of the law to fit where a floor cannot be identified."""

    def __init_subclass__(cls) -> None:
        cls.name = cls.__module__.rpartition(".")[2].replace("_", "-")

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that `loss` takes, in order."""

    @abstractmethod
    def loss(self, *inputs: Any) -> Any:
        """The loss in nats per token."""

    @classmethod
    @abstractmethod
    def surface(cls, inputs: Sequence[Array], loss: Array) -> Surface:
        """ln L at these runs for the solver; `inputs` as in `loss`, raw units; `loss` sets the scale of bounds."""

    def compute_optimal(self) -> dict[str, Any] | None:
        """The exponents of N* ∝ C^a and D* ∝ C^b, or None where the law has no optimum."""
        return None

    @property
    def formula(self) -> str:
        """The equation, with the letter of the variable it is fitted in."""
        return self.equation.format(x=LETTERS[self.inputs[0]])

    @classmethod
    def coefficient_names(cls) -> tuple[str, ...]:
        """The coefficients in the paper's letters and order."""
        return tuple(item.name for item in fields(cls) if not item.kw_only)

    def coefficients(self) -> dict[str, Any]:
        """Every coefficient by name, in raw units."""
        return {name: getattr(self, name) for name in self.coefficient_names()}

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {value:.6g}" for name, value in self.coefficients().items())
        return f"{self.formula}  with {values}"


@dataclass(frozen=True)
class OneVariableLaw(Law):
    """A law in one of N, D and C: `variable` is the column."""

    variable: str = field(default="params", kw_only=True)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.variable,)


@cache
def names() -> tuple[str, ...]:
    """The names of all laws, as `--law` takes them."""
    return tuple(
        sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.name[0] != "_")
    )


@cache
def find(name: str) -> type[Law]:
    """The law of that name. Raises InputError that names the nearest one."""
    known = names()
    if name not in known:
        close = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1, cutoff=0.5)
        raise InputError(
            f"there is no law {name!r}",
            (f"did you mean {close[0]}? " if close else "") + f"Laws are {', '.join(known)}",
        )
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    members = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Law) and value.__module__ == module.__name__
    ]
    if len(members) != 1:
        raise TypeError(f"{module.__name__} must define one Law, and defines {len(members)}")
    return members[0]

"""The menu of laws: `--law power-floor` is `power_floor.py`. Adding a law means adding one file
here.

A member is a file with one frozen dataclass that inherits `Law` (or `SumOfPowers`, whose solver's
half is faster) and gives:

- its coefficients as fields, in the paper's letters and order (`E`, `A`, `alpha`);
- `equation` and `source`: the formula as people write it, and where it was published;
- `inputs`: the columns of the table that `loss` takes, in that order;
- `published`: coefficients as its paper gives them, with which tests simulate its `example_runs`;
- `loss(*inputs)`: nats per token, written once for numbers and arrays with operators and numpy's
  functions. Exact derivatives, starting points and the solver's coordinates follow from it
  (`laws/_formula.py`).

A law of one's own is the same dataclass in a file anywhere: `--law ./mine.py:MyLaw`.

>>> from llmscale.explain.laws import LAWS
>>> law = LAWS.find("chinchilla")(E=1.82, A=478.0, B=2143.0, alpha=0.347, beta=0.367)
>>> round(law.loss(70e9, 1.4e12), 3)
1.977
>>> {name: round(value, 3) for name, value in law.compute_optimal().items()}
{'a': 0.514, 'b': 0.486}

Files whose name starts with an underscore are not choices.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llmscale.explain.search import lowest
from llmscale.menu import Menu, path_of

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

LETTERS: Mapping[str, str] = {"params": "N", "tokens": "D", "flops": "C"}
"""The letter of each quantity in published formulas."""


class Surface(ABC):
    """ln L of a law at fixed runs (R), for a batch (B) of internal coefficient vectors theta (P).

    theta is whatever suits the solver: logs of amplitudes, exponents, on centred and scaled ln N
    and ln D."""

    lower: Array
    upper: Array
    """Bounds on theta. A fit that ends on one says so."""
    vanishing: NDArray[np.bool_]
    """Which of theta are logs of amplitudes that may go to zero: at the lower bound they read 0."""
    plain: bool = False
    """Whether what is fitted is L itself, here and below, and not ln L."""
    bounded: NDArray[np.bool_] | bool = False
    """Which of theta have bounds that a user gave, where a fit may well end."""
    centred: ClassVar[bool] = True
    """Whether theta is on centred inputs; if not, steps are measured by how they move ln L."""

    def level_of(self, loss: Any) -> Any:
        """What residuals are differences of: ln L, or L itself if `plain`."""
        return loss if self.plain else np.log(loss)

    @abstractmethod
    def starts(self, count: int) -> Array:
        """At most `count` promising starting points, theta_BP."""

    @abstractmethod
    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        """ln L (B, R), and whatever `derivatives` needs to go on from there."""

    @abstractmethod
    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        """sum_r first ∇f, and sum_r second ∇f ∇fᵀ + first ∇²f, f = ln L: (B, P), (B, P, P)."""

    def with_metric(
        self, parts: Any, first_BR: Array, second_BR: Array, weight_BR: Array
    ) -> tuple[Array, Array, Array]:
        """`derivatives`, and sum_r weight ∇f ∇fᵀ: how far a step moves ln L."""
        metric = self.derivatives(parts, np.zeros_like(first_BR), weight_BR + 0.0)[1]
        return *self.derivatives(parts, first_BR, second_BR), metric

    @abstractmethod
    def jacobian(self, theta_P: Array) -> Array:
        """∇ ln L at every run for one theta: (R, P)."""

    @abstractmethod
    def coefficients(self, theta_BP: Array) -> Array:
        """The law's coefficients in raw units, in the order of its fields: (B, n_coefficients)."""

    @abstractmethod
    def theta(self, coefficients_BK: Array) -> Array:
        """The inverse of `coefficients`."""

    @abstractmethod
    def of_rows(self, rows_S: NDArray[np.int_]) -> "Surface":
        """The same surface, in the same coordinates and bounds, at some of its runs."""

    @property
    def points(self) -> NDArray[np.int_] | None:
        """For each run the index of its point, that of all runs with the same inputs; None if that
        is not known."""
        return None

    def with_fixed(self, values: Mapping[int, float]) -> "Surface | None":
        """The surface with coefficients, by index, fixed at values: in the same coordinates, of
        which those with these indices are not read. None if it has no such."""
        return None

    def special_cases(self) -> "Sequence[tuple[Surface, Callable[[Array], Array]]]":
        """Surfaces of laws that this one holds, each with their theta (P) as one of its own (P): a
        fit starts from the best of them, too, and so is never worse."""
        return ()


@dataclass(frozen=True)
class Law(ABC):
    """A formula for the loss with its coefficients filled in. Keyword-only fields are settings."""

    equation: ClassVar[str] = ""
    source: ClassVar[str] = "the user's own law"
    name: ClassVar[str]
    """As `--law` takes it; of a user's own law the class's."""
    place: ClassVar[str | None] = None
    """FILE.py:CLASS of a user's own law that was read from a file, as `--law` takes it."""
    floor: ClassVar[str | None] = None
    """The coefficient that is the irreducible loss, if the law has one."""
    exponents: ClassVar[tuple[str, ...]] = ()
    without_floor: ClassVar[str | None] = None
    """The name of the law to fit if a floor cannot be identified."""
    signed: ClassVar[tuple[str, ...]] = ()
    """Coefficients that may be negative; all others are positive."""
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    """Columns of `inputs` that may hold zeros."""
    explained: ClassVar[tuple[str, ...]] = ()
    """Columns in which runs may differ, since `inputs` say how."""
    stand_ins: ClassVar[Mapping[str, str]] = {}
    """By input, the column that is taken for it if the table has it."""
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Where to look for a coefficient that the loss is not linear in, if not from 0.02 to 4 (-2 to
    2 if signed).
    """

    estimator: ClassVar[str | None] = None
    """What finds the coefficients, if not the lowest objective over all runs: see
    estimation/NAME.py."""
    told_by_runs: ClassVar[int | None] = None
    """How many coefficients the runs have to tell, if what is known beforehand tells the rest."""
    plain: ClassVar[bool] = False
    """Whether residuals are differences of losses, not of their logarithms: for scores, and for
    losses that may be negative."""
    rises: ClassVar[bool] = False
    """Whether it is a law of a score, which grows as models do."""
    most: ClassVar[float | None] = None
    """What the score cannot be above, if it is a share: 1."""
    metric: ClassVar[str] = "loss"
    """What it is a law of, in a word; the column of a score or an error may have a better one."""
    published: ClassVar[tuple[float, ...]] = ()
    """Coefficients in the order of the fields, from its paper if that gives all of them, or else of
    their kind."""

    def __init_subclass__(cls) -> None:
        module = cls.__module__.rpartition(".")
        cls.name = module[2].replace("_", "-") if module[0] == __name__ else cls.__name__
        if cls.rises and cls.metric == "loss":
            cls.metric = "score"

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that `loss` takes, in order."""

    @abstractmethod
    def loss(self, *inputs: Any) -> Any:
        """The loss in nats per token."""

    @classmethod
    def level_of(cls, loss: Any) -> Any:
        """What residuals are differences of: ln L, or L itself if `plain`."""
        return loss if cls.plain else np.log(loss)

    @classmethod
    def moved(cls, loss: Any, by: Any) -> Any:
        """The loss whose level differs by so much."""
        return loss + by if cls.plain else loss * np.exp(by)

    @classmethod
    def surface(cls, inputs: Sequence[Array], loss: Array, **settings: Any) -> Surface:
        """ln L at runs for the solver; `inputs` as in `loss`; `loss` sets the scale of bounds."""
        from llmscale.explain.laws._formula import Formula

        return Formula(cls, settings, inputs, loss)

    @classmethod
    def suited_to(cls, frame: "pd.DataFrame") -> "type[Law]":
        """The law to fit to a table: this one, unless it has a coefficient for each of a table's
        columns of a kind. Raises InputError."""
        return cls

    @classmethod
    def with_coefficients(cls, names: Iterable[str]) -> "type[Law]":
        """The law that `suited_to` gave, by the names of its coefficients."""
        return cls

    @classmethod
    def guesses(cls, unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        """Plausible coefficients (S, K) for points of the unit cube (S, K), to start from."""
        raw_SK = np.empty_like(unit_SK)
        for k, name in enumerate(cls.coefficient_names()):
            low, high = cls.ranges.get(name, (-2.0, 2.0) if name in cls.signed else (0.02, 4.0))
            if name in cls.signed:
                raw_SK[:, k] = low + (high - low) * unit_SK[:, k]
            else:
                raw_SK[:, k] = low * (high / low) ** unit_SK[:, k]
        return raw_SK

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        """Columns of runs that tell the published coefficients apart."""
        return crossed(params=np.geomspace(1e7, 1e10, 7), tokens=np.geomspace(1e8, 1e12, 7))

    def compute_optimal(self) -> dict[str, Any] | None:
        """The exponents of N* ∝ C^a and D* ∝ C^b, or None if the law has no such power laws."""
        return None

    def optimal(self, C: Any) -> tuple[Any, Any] | None:
        """N and D of the lowest loss at C = 6ND FLOPs; None if the law is not one in N and D.
        By golden-section search in ln N from 1 parameter to 1 token; arrays as in `loss`."""
        if self.inputs != ("params", "tokens"):
            return None
        total = np.log(np.asarray(C, dtype=float) / 6.0)

        def loss(log_N: Array) -> Array:
            return np.asarray(self.loss(np.exp(log_N), np.exp(total - log_N)))

        low = np.zeros(np.shape(loss(0.5 * total)))
        log_N = lowest(loss, low, total)
        return np.exp(log_N), np.exp(total - log_N)

    @property
    def formula(self) -> str:
        """The equation, with the letter of the variable it is fitted in."""
        own = type(self)
        letters = [LETTERS.get(name, name) for name in self.inputs]
        if self.equation:
            return self.equation.replace("{x}", letters[0])
        said = (own.__doc__ or "").strip()
        if not said or said.startswith(f"{own.__name__}("):  # as dataclasses write it
            return f"L({', '.join(letters)}), with {', '.join(self.coefficient_names())}"
        return said.splitlines()[0].replace("{x}", letters[0])

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

    @classmethod
    def example_runs(cls) -> dict[str, Array]:
        """36 sizes on one budget."""
        return crossed(params=np.geomspace(1e5, 1e10, 36), tokens=(1e10,))

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.variable,)


def crossed(**axes: Sequence[float] | Array) -> dict[str, Array]:
    """Columns of every combination of the values along several axes."""
    values = np.meshgrid(*(np.asarray(axis, dtype=float) for axis in axes.values()), indexing="ij")
    return {name: value.ravel() for name, value in zip(axes, values, strict=True)}


def points_of(inputs: Sequence[Array]) -> NDArray[np.int_]:
    """For each run the index of its combination of inputs (R,)."""
    point_R = np.zeros(len(inputs[0]), dtype=np.int64)
    for values in inputs:
        level_R = np.unique(values, return_inverse=True)[1]
        key_R = point_R * (int(level_R.max()) + 1) + level_R
        point_R = np.unique(key_R, return_inverse=True)[1]
    return point_R


def _is_law(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Law)


def _checked(law: type[Law]) -> type[Law]:
    path = path_of(law.__module__)
    if path is not None:
        from llmscale.explain.laws._own import check

        law.place = f"{path}:{law.__name__}"
        check(law, path)
    return law


LAWS: Menu[type[Law]] = Menu(
    __name__, "law", "--law", is_member=_is_law, ready=_checked, own="MyLaw"
)


def law_named(law: str | type[Law]) -> type[Law]:
    """The law of a name, or `law` itself if it is one. Raises InputError for an unknown name, and
    for a class of the user's own with the name of a law of the menu."""
    if isinstance(law, str):
        return LAWS.find(law)
    if law.__module__.rpartition(".")[0] != __name__:
        from llmscale.explain.laws._own import check_name

        check_name(law, f"the class {law.__name__}")
    return law

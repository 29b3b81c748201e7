"""The solver's view of a law of which some coefficients are fixed, tied or bounded.

A fixed or tied coefficient is a coordinate that is held, so that all else stays as it is: as many
coordinates as coefficients, in the same order. On the logarithms of amplitudes, and on exponents,
every tie is a straight line, and the map to the law's own coordinates is linear."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import make_dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import InputError
from llmscale.explain.estimation.constraints import Constraints
from llmscale.explain.laws import Array, Law, Surface
from llmscale.explain.laws._formula import Formula
from llmscale.explain.laws._sum_of_powers import LogSumExp

_CANDIDATES = 512
_LARGEST_LOG = 600.0


def surface_of(
    law: type[Law],
    settings: dict[str, Any],
    inputs: Sequence[Array],
    loss: Array,
    constraints: Constraints,
) -> Surface:
    """ln L at runs for the solver, with what is said of the coefficients. Raises InputError if that
    cannot hold for these losses."""
    if not constraints:
        return law.surface(inputs, loss, **settings)
    _check_floor(law, loss, constraints)
    return Constrained(law, settings, inputs, loss, constraints)


def raw_row(surface: Surface, index: int) -> Array:
    """The logarithm of an amplitude in a surface's coordinates, if it is not one of them; else that
    coordinate alone: (P,)."""
    inner = surface.inner if isinstance(surface, Constrained) else surface
    row = np.eye(len(surface.lower))[index]
    if isinstance(inner, LogSumExp) and index in inner.amplitudes:
        row = raw_rows(inner)[index]
        if isinstance(surface, Constrained):
            row = row @ surface.to_own
    return row


def raw_rows(surface: Surface) -> Array:
    """How what ties are straight in, ln A and exponents, follows from the coordinates: (P, P)."""
    rows = np.eye(len(surface.lower))
    if isinstance(surface, LogSumExp):
        for amplitude, powers in zip(surface.amplitudes, surface.exponents, strict=True):
            for index, i in powers:
                rows[amplitude, index] = surface.means[i] / surface.stds[i]
                rows[index, index] = 1.0 / surface.stds[i]
    return rows


class Constrained(Surface):
    """A law's surface in coordinates of which some are held. With `raw` they are the logarithms of
    the coefficients, whatever the law's own are."""

    def __init__(
        self,
        law: type[Law],
        settings: dict[str, Any],
        inputs: Sequence[Array],
        loss: Array,
        constraints: Constraints,
        *,
        raw: bool = False,
    ) -> None:
        self.constraints, self.names = constraints, law.coefficient_names()
        self.plain = law.plain
        self.formula = Formula(law, settings, inputs, loss)
        self.own = law.surface(inputs, loss, **settings)
        self.plain = self.own.plain
        is_own = isinstance(self.own, LogSumExp) or self._are_coordinates(constraints.names)
        following = None if is_own or raw else self._following()
        self.follows = following is not None
        self.inner: Surface = following or (self.own if is_own and not raw else self.formula)
        self.held = np.array([name in constraints.held for name in self.names])
        self._place(law)

    def _are_coordinates(self, names: Iterable[str]) -> bool:
        """Whether coefficients are coordinates of the law's own as they are: of Farseer's only the
        powers of N."""
        theta = np.linspace(0.1, 0.5, len(self.names))[None]
        raw = self.own.coefficients(theta)
        spoken = [self.names.index(name) for name in names]
        return bool(self.formula.signed[spoken].all() and (raw == theta)[:, spoken].all())

    def _following(self) -> Surface | None:
        """The law's own surface with what is fixed, if nothing else is said that it cannot hold."""
        fixed = {self.names.index(name): value for name, value in self.constraints.fixed.items()}
        if self.constraints.tied or not self._are_coordinates(self.constraints.bounds):
            return None
        return self.own.with_fixed(fixed)

    def _place(self, law: type[Law]) -> None:
        """Which coordinates there are, and where each may go."""
        rows, place = raw_rows(self.inner), {name: k for k, name in enumerate(self.names)}
        self.from_own = np.eye(len(self.names))
        self.lower, self.upper = self.inner.lower.copy(), self.inner.upper.copy()
        self.vanishing = self.inner.vanishing & ~self.held
        for name, value in self.constraints.fixed.items():
            k = place[name]
            self.from_own[k] = rows[k]
            self.lower[k] = self.upper[k] = self._coordinate(law, k, value)
        for name, leader in self.constraints.tied.items():
            k = place[name]
            self.from_own[k] = rows[k] - rows[place[leader]]
            self.lower[k] = self.upper[k] = 0.0
        self.bounded = np.isin(self.names, list(self.constraints.bounds))
        self.centred = self.inner.centred  # type: ignore[misc]
        for name, ends in self.constraints.bounds.items():
            k = place[name]
            if np.count_nonzero(rows[k]) > 1:
                # An amplitude: its logarithm becomes a coordinate, which is no centred one.
                self.centred = False  # type: ignore[misc]
                self.from_own[k] = rows[k]
                self.lower[k], self.upper[k] = -_LARGEST_LOG, _LARGEST_LOG
                self.vanishing[k] = False
            scale = self.from_own[k, k] / rows[k, k]
            low, high = (self._coordinate(law, k, end) * scale for end in ends)
            self.vanishing[k] &= low <= self.lower[k]
            self.lower[k], self.upper[k] = max(low, self.lower[k]), min(high, self.upper[k])
        self.to_own = np.linalg.inv(self.from_own)

    def _coordinate(self, law: type[Law], k: int, value: float) -> float:
        """Of a coefficient with this value, in what ties are straight in."""
        is_plain = isinstance(self.inner, LogSumExp) and self.names[k] in law.exponents
        if self.names[k] in law.signed or is_plain or value == math.inf:
            return value
        return math.log(value) if value > 0 else float(self.inner.lower[k])

    def in_coefficients(self) -> "Constrained":
        """The surface in coordinates of which each belongs to one coefficient."""
        if isinstance(self.inner, LogSumExp | Formula):
            return self
        law, settings, inputs = self.formula.law, self.formula.settings, self.formula.inputs
        return Constrained(law, settings, inputs, self.loss, self.constraints, raw=True)

    @property
    def loss(self) -> Array:
        """The runs' losses."""
        return self.formula.loss

    def with_best_linear(self, raw_BK: Array, kept: Sequence[int]) -> Array:
        """As of `Formula`, for places to start from."""
        held = np.flatnonzero(self.held).tolist()
        return self.formula.with_best_linear(raw_BK, [*kept, *held])

    def starts(self, count: int) -> Array:
        """The law's own starts, moved to where the constraints hold, and those of the law that has
        only the free coefficients."""
        free = np.flatnonzero(~self.held)
        reduced = Formula(_reduced(self), {}, self.formula.inputs, self.loss)
        found = reduced.coefficients(reduced.starts(count, candidates=_CANDIDATES))
        raw_SK = np.ones((len(found), len(self.names)))
        raw_SK[:, free] = found
        with np.errstate(all="ignore"):
            own_SP = np.array([self._moved(own_P) for own_P in self.own.starts(count)])
            ways = [self.theta(self._completed(raw_SK)), own_SP]
        ways = [start[np.isfinite(start).all(axis=1)] for start in ways]
        fewer = min(map(len, ways))
        turns = np.stack([start[:fewer] for start in ways], axis=1).reshape(-1, len(self.names))
        return np.concatenate([turns, *(start[fewer:] for start in ways)])[:count]

    def special_cases(self) -> Sequence[tuple[Surface, Callable[[Array], Array]]]:
        """For a law with coordinates in which it is found better: itself without constraints, its
        optimum moved to where they hold, and itself with each bound as a value."""
        if self.inner is self.own or isinstance(self.own, Formula):
            return ()
        cases: list[tuple[Surface, Callable[[Array], Array]]] = [(self.own, self._moved)]
        if self.follows:
            return cases
        for name, ends in self.constraints.bounds.items():
            for end in filter(math.isfinite, ends):
                held = self._with_fixed(name, end)
                if held is not None:
                    cases.append((held, partial(self._moved_from, held)))
        return cases

    def _moved_from(self, other: Surface, theta_P: Array) -> Array:
        """Coordinates of the law by another surface, where the constraints hold."""
        return self.theta(self._completed(other.coefficients(theta_P[None])))[0]

    def _moved(self, own_P: Array) -> Array:
        """Coordinates of the law itself, where the constraints hold."""
        if self.follows:
            return np.clip(own_P, self.lower, self.upper)
        return self._moved_from(self.own, own_P)

    def starts_at(self, index: int, value: float, count: int) -> Array:
        """At most `count` promising places with one more coefficient fixed: its law's coefficients
        (S, K); none if no other is free."""
        held = self._with_fixed(self.names[index], value)
        if held is None:
            return np.empty((0, len(self.names)))
        return held.coefficients(held.starts(count))

    def _with_fixed(self, name: str, value: float) -> "Constrained | None":
        """The surface with one more coefficient fixed; None if no other is free."""
        said = self.constraints
        bounds = {other: ends for other, ends in said.bounds.items() if other != name}
        more = Constraints({**said.fixed, name: value}, said.tied, bounds)
        if not more.free(self.names):
            return None
        law, settings, inputs = self.formula.law, self.formula.settings, self.formula.inputs
        return Constrained(law, settings, inputs, self.loss, more)

    @property
    def points(self) -> NDArray[np.int_]:
        return self.formula.points

    def of_rows(self, rows_S: NDArray[np.int_]) -> "Constrained":
        part = copy.copy(self)
        part.inner, part.own = self.inner.of_rows(rows_S), self.own.of_rows(rows_S)
        part.formula = self.formula.of_rows(rows_S)
        return part

    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        return self.inner.evaluate(theta_BP @ self.to_own.T)

    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        gradient, hessian = self.inner.derivatives(parts, first_BR, second_BR)
        with np.errstate(invalid="ignore"):  # beyond floats a problem stays where it is
            gradient = gradient @ self.to_own
            hessian = self.to_own.T @ hessian @ self.to_own
        return with_held(gradient, hessian, self.held)

    def jacobian(self, theta_P: Array) -> Array:
        return np.where(self.held, 0.0, self.inner.jacobian(self.to_own @ theta_P) @ self.to_own)

    def coefficients(self, theta_BP: Array) -> Array:
        raw_BK = self.inner.coefficients(theta_BP @ self.to_own.T)
        for name, ends in self.constraints.bounds.items():
            k = self.names.index(name)
            for side, end in zip((self.lower[k], self.upper[k]), ends, strict=True):
                if math.isfinite(end) and end > 0:
                    raw_BK[:, k] = np.where(theta_BP[:, k] == side, end, raw_BK[:, k])
        return self._completed(raw_BK)

    def theta(self, coefficients_BK: Array) -> Array:
        theta_BP = self.inner.theta(coefficients_BK) @ self.from_own.T
        return np.clip(theta_BP, self.lower, self.upper)

    def _completed(self, raw_BK: Array) -> Array:
        """The coefficients, with those that are held as they are to be."""
        raw_BK = raw_BK.copy()
        for name, value in self.constraints.fixed.items():
            raw_BK[:, self.names.index(name)] = value
        for name, leader in self.constraints.tied.items():
            raw_BK[:, self.names.index(name)] = raw_BK[:, self.names.index(leader)]
        return raw_BK


def _check_floor(law: type[Law], loss: Array, constraints: Constraints) -> None:
    """Raise InputError for a floor that no run lies above."""
    floor = law.floor
    if floor is None or floor in law.signed or law.plain:
        return
    least = constraints.value(floor)
    if least is None:
        least = constraints.bounds.get(constraints.tied.get(floor, floor), (0.0, 0.0))[0]
    if least >= loss.min():
        raise InputError(
            f"the floor {floor} of {law.name} is not to be below {least:g}, and the lowest loss of "
            f"the runs is {loss.min():.4g}",
            "give a floor below that",
        )


def with_held(
    gradient_BP: Array, hessian_BPP: Array, held_P: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """A slope and curvature that move nothing that is held."""
    gradient_BP = np.where(held_P, 0.0, gradient_BP)
    hessian_BPP = np.where(held_P[:, None] | held_P, 0.0, hessian_BPP)
    # Some curvature without a slope: no step, and no division by nothing.
    most_B = np.abs(np.einsum("bpp->bp", hessian_BPP)).max(axis=1)
    for k in np.flatnonzero(held_P):
        hessian_BPP[:, k, k] = most_B
    return gradient_BP, hessian_BPP


def _reduced(surface: Constrained) -> type[Law]:
    """The law with its free coefficients only, in which those that are linear can be solved for."""
    law, settings, names = surface.formula.law, surface.formula.settings, surface.names
    constraints = surface.constraints
    free = [name for name in names if name not in constraints.held]

    def loss(self: Law, *inputs: Any) -> Any:
        values = {**constraints.fixed, **self.coefficients()}
        full = [values[constraints.tied.get(name, name)] for name in names]
        return law(*full, **settings).loss(*inputs)

    def guesses(cls: type[Law], unit_SK: Array, inputs: Sequence[Array], loss: Array) -> Array:
        unit = np.full((len(unit_SK), len(names)), 0.5)
        unit[:, [names.index(name) for name in free]] = unit_SK
        raw_SK = np.asarray(law.guesses(unit, inputs, loss), dtype=float)
        for name, (low, high) in constraints.bounds.items():
            k = names.index(name)
            raw_SK[:, k] = np.clip(raw_SK[:, k], low, high)
            if math.isfinite(high - low):
                raw_SK[:, k] = low + (high - low) * unit[:, k]
        return raw_SK[:, [names.index(name) for name in free]]

    own = {
        "loss": loss,
        "plain": law.plain,
        "guesses": classmethod(guesses),
        "inputs": law(*[1.0] * len(names), **settings).inputs,
        "floor": law.floor if law.floor in free else None,
        "exponents": tuple(name for name in law.exponents if name in free),
        "signed": tuple(name for name in law.signed if name in free),
    }
    fields = [(name, float) for name in free]
    return make_dataclass("Reduced", fields, bases=(Law,), frozen=True, namespace=own)

"""What a fit is told of its coefficients: some fixed, some tied to be equal, some kept within
bounds. Light: `--help` reads it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from llmscale.errors import InputError, both

if TYPE_CHECKING:
    from llmscale.explain.laws import Law

Fixes: TypeAlias = str | Mapping[str, float] | Sequence[str]
Ties: TypeAlias = str | Sequence[str]
Bounds: TypeAlias = str | Mapping[str, tuple[float, float]] | Sequence[str]

LARGEST_EXPONENT = 10.0


@dataclass(frozen=True)
class Constraints:
    """Fixed coefficients with their values; those tied, each with the one that it follows; and
    bounds, low and high, which may be infinite. A coefficient that follows is in neither of the
    others: what was said of it holds for the one that it follows."""

    fixed: Mapping[str, float] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.fixed or self.tied or self.bounds)

    @property
    def held(self) -> frozenset[str]:
        """The coefficients that are not fitted by themselves."""
        return frozenset(self.fixed) | frozenset(self.tied)

    @property
    def names(self) -> tuple[str, ...]:
        """Every coefficient that is spoken of, once."""
        spoken = (*self.fixed, *self.tied, *self.tied.values(), *self.bounds)
        return tuple(dict.fromkeys(spoken))

    def free(self, names: Iterable[str]) -> int:
        """How many of a law's coefficients are fitted."""
        return len([name for name in names if name not in self.held])

    def unknowns(self, law: "Law | type[Law]") -> int:
        """How many coefficients of a law the runs have to tell."""
        return law.told_by_runs or self.free(law.coefficient_names())

    def value(self, name: str) -> float | None:
        """The value that a coefficient is fixed at, by itself or by the one that it follows."""
        return self.fixed.get(self.tied.get(name, name))

    def lacking(self, names: Sequence[str]) -> str | None:
        """The first coefficient that is spoken of and is none of `names`."""
        return next((name for name in self.names if name not in names), None)

    def at_bound(self, values: Mapping[str, float]) -> dict[str, float]:
        """The coefficients that ended on one of their bounds, and which."""
        return {
            name: end
            for name, ends in self.bounds.items()
            for end in ends
            if values.get(name) == end
        }

    def within(self, name: str, ends: tuple[float, float]) -> tuple[float, float]:
        """An interval, cut to what the coefficient may be."""
        low, high = self.bounds.get(self.tied.get(name, name), (-math.inf, math.inf))
        return max(ends[0], low), min(ends[1], high)

    def __str__(self) -> str:
        """`E = 1.69 fixed, beta = alpha, alpha from 0.2 to 0.5`."""
        said = [f"{name} = {value:.6g} fixed" for name, value in self.fixed.items()]
        said += [f"{name} = {leader}" for name, leader in self.tied.items()]
        return ", ".join([*said, *(_from_to(name, *ends) for name, ends in self.bounds.items())])

    @property
    def claims(self) -> list[str]:
        """What a table may object to: `E = 1.69`, `beta = alpha`, `alpha from 0.2 to 0.5`."""
        return [part.removesuffix(" fixed") for part in str(self).split(", ") if part]

    def check(self, law: "type[Law]") -> None:
        """Raise InputError unless all of this can be said of the coefficients of this law."""
        names = law.coefficient_names()
        if self and law.estimator is not None:
            raise InputError(
                f"{law.name} is made of several fits, and nothing can be said of its coefficients",
                "name another law: --law chinchilla",
            )
        unknown = self.lacking(names)
        if unknown is not None:
            raise InputError(
                f"{law.name} has no coefficient {unknown!r}", f"it has {both(list(names))}"
            )
        for name, value in self.fixed.items():
            _check_value(law, name, value, "is fixed at")
        for name, ends in self.bounds.items():
            _check_bounds(law, name, *ends)
        for name, leader in self.tied.items():
            _check_kinds(law, name, leader)
        if not self.free(names):
            raise InputError(
                f"all coefficients of {law.name} are given, and nothing is left to fit",
                "leave one of --fix and --tie out",
            )


NONE = Constraints()


def constraints_of(fix: Fixes, tie: Ties, bound: Bounds) -> Constraints:
    """What these say together. Raises InputError if one of them cannot be read, or if they do not
    go together."""
    leaders = _leaders(tie)
    fixed: dict[str, float] = {}
    for name, value in _pairs(fix, "fix"):
        leader = leaders.get(name, name)
        if leader in fixed:
            raise InputError(
                f"{name} is fixed twice{_through(leader, name)}", "fix it once, at one value"
            )
        fixed[leader] = _number(value, f"fix {name}={value}", _example("fix", fix))
    bounds: dict[str, tuple[float, float]] = {}
    for name, ends in _pairs(bound, "bound"):
        leader = leaders.get(name, name)
        if leader in bounds or leader in fixed:
            again = "bounded twice" if leader in bounds else "fixed and bounded"
            raise InputError(f"{name} is {again}{_through(leader, name)}", "say one of these")
        bounds[leader] = _ends(name, ends, _example("bound", bound))
    return Constraints(fixed, leaders, bounds)


def as_texts(fix: Fixes, tie: Ties, bound: Bounds) -> tuple[tuple[str, ...], ...]:
    """The three as texts, one a coefficient or tie, so that equal ones compare equal."""
    limits = [
        (name, _ends(name, ends, _example("bound", bound))) for name, ends in _pairs(bound, "bound")
    ]
    known = {
        name: _number(value, f"fix {name}={value}", _example("fix", fix))
        for name, value in _pairs(fix, "fix")
    }
    return (
        tuple(f"{name}={value!r}" for name, value in known.items()),
        tuple("=".join(pair) for pair in _tied_pairs(tie)),
        tuple(f"{name}={_end(low)}:{_end(high)}" for name, (low, high) in limits),
    )


def _end(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""


def _from_to(name: str, low: float, high: float) -> str:
    if math.isinf(low):
        return f"{name} at most {high:.6g}"
    if math.isinf(high):
        return f"{name} at least {low:.6g}"
    return f"{name} from {low:.6g} to {high:.6g}"


def _through(leader: str, name: str) -> str:
    return "" if leader == name else f", since it is tied to {leader}"


_EXAMPLES = {
    "fix": ("--fix E=1.69", 'fix={"E": 1.69}'),
    "tie": ("--tie alpha=beta", 'tie="alpha=beta"'),
    "bound": ("--bound alpha=0.2:0.5", 'bound={"alpha": (0.2, 0.5)}'),
}
"""How each is written as text, and in Python by whoever gave another value than text."""


def _example(option: str, given: object) -> str:
    as_text, in_python = _EXAMPLES[option]
    is_text = isinstance(given, str) or (
        isinstance(given, Sequence) and all(isinstance(one, str) for one in given)
    )
    return as_text if is_text else in_python


def _items(given: object, option: str) -> list[str]:
    """The texts between commas of one text, or of several."""
    parts = [given] if isinstance(given, str) else given
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise InputError(f"{option} is {given!r}", f"write it like {_example(option, given)}")
    return [item.strip() for part in parts for item in part.split(",") if item.strip()]


def _pairs(given: object, option: str) -> list[tuple[str, object]]:
    """Every coefficient with what stands behind its sign of equality."""
    if isinstance(given, Mapping):
        return [(str(name), value) for name, value in given.items()]
    found: list[tuple[str, object]] = []
    for item in _items(given, option):
        name, equals, value = item.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise InputError(
                f"{option} {item!r} is no coefficient with a value",
                f"write it like {_example(option, given)}",
            )
        found.append((name.strip(), value.strip()))
    return found


def _number(value: object, what: str, example: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise InputError(f"{what} is no number", f"write it like {example}")
    return number


def _ends(name: str, ends: object, example: str) -> tuple[float, float]:
    """Low and high; one that is left out is no limit. Raises InputError."""
    parts = ends.split(":") if isinstance(ends, str) else ends
    if not isinstance(parts, Sequence) or len(parts) != 2:
        raise InputError(f"bound {name}={ends} is no low and high", f"write it like {example}")
    limits = []
    for part, none in zip(parts, (-math.inf, math.inf), strict=True):
        is_open = part in ("", None, none)
        limits.append(none if is_open else _number(part, f"bound {name}={ends}", example))
    low, high = limits
    if math.isinf(low) and math.isinf(high):
        raise InputError(
            f"the bound of {name} has no end, and keeps it from nothing",
            f"give one end or both, as {example}",
        )
    if low >= high:
        raise InputError(
            f"the bounds of {name}, {low:g} and {high:g}, leave nothing between them",
            f"give the lower one first, as {example}",
        )
    return low, high


def _tied_pairs(tie: Ties) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for item in _items(tie, "tie"):
        names = [name.strip() for name in item.split("=")]
        if len(names) < 2 or not all(names):
            raise InputError(
                f"tie {item!r} names no two coefficients", f"write it like {_example('tie', tie)}"
            )
        pairs += [(names[0], name) for name in names[1:]]
    return pairs


def _leaders(tie: Ties) -> dict[str, str]:
    """Each coefficient that follows another, and the one it follows. Raises InputError for a tie
    that says again what others say."""
    group: dict[str, list[str]] = {}
    for one, other in _tied_pairs(tie):
        mine, theirs = group.get(one, [one]), group.get(other, [other])
        if mine is theirs or one == other:
            raise InputError(
                f"the ties come back to {other}: it is {one} already",
                "leave the tie of a circle out that says nothing new",
            )
        joined = [*mine, *theirs]
        group |= dict.fromkeys(joined, joined)
    return {name: members[0] for name, members in group.items() if name != members[0]}


def _check_value(law: "type[Law]", name: str, value: float, said: str) -> None:
    """Raise InputError for a value that the coefficient of this law cannot have."""
    if name in law.signed:
        return
    is_floor = name == law.floor
    if value < 0 or (value == 0 and not is_floor):
        least = "not negative" if is_floor else "positive"
        raise InputError(
            f"{name} {said} {value:g}, and in {law.name} it is {least}",
            "give another value, or fit another law (llmscale laws)",
        )
    if name in law.exponents and value > LARGEST_EXPONENT:
        raise InputError(
            f"{name} {said} {value:g}, and exponents are at most {LARGEST_EXPONENT:g}",
            "give a smaller one",
        )


def _check_bounds(law: "type[Law]", name: str, low: float, high: float) -> None:
    for end in (low, high):
        # A bound of 0 is where the coefficient ends by itself.
        if math.isfinite(end) and (end != 0 or end == high):
            _check_value(law, name, end, "has a bound of")


def _check_kinds(law: "type[Law]", name: str, leader: str) -> None:
    """Raise InputError for a tie between coefficients that mean different things."""
    for kind, members in (("an exponent", law.exponents), ("of either sign", law.signed)):
        if (name in members) != (leader in members):
            which, other = (name, leader) if name in members else (leader, name)
            raise InputError(
                f"{which} of {law.name} is {kind} and {other} is not: they cannot be tied",
                "tie coefficients of one kind, as --tie alpha=beta",
            )

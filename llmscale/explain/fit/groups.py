"""One law for each group of runs, and a joint fit in which the groups share their exponents.

Recipes that differ in data or optimiser often share exponents and differ in amplitudes and floor;
fitted apart, each exponent is known badly. Whether they may be shared is tested: tables are
simulated from the joint fit, both fits are made of each, and the gain of separate exponents, as a
share of what they leave, is compared with that on the real table (a parametric bootstrap of the
likelihood ratio: Efron & Tibshirani 1993, chapter 16). The share, as in an F test, does not hang on
how large the noise is, which few runs hardly tell."""

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, both, first_lines, listed
from llmscale.errors.command_lines import where_option
from llmscale.explain import digits, html
from llmscale.explain.estimation import newton
from llmscale.explain.estimation.constrained import Constrained
from llmscale.explain.estimation.levels import in_order
from llmscale.explain.estimation.noise import least_squares_residual
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit, percentiles, reads, run_weights, settings_of
from llmscale.explain.estimation.variances import bounded
from llmscale.explain.fit.parametric import fit_law
from llmscale.explain.laws import Array, Law, Surface, law_named
from llmscale.explain.laws._formula import Formula
from llmscale.explain.table import NO_VALUE, RunTable
from llmscale.notes import with_codes
from llmscale.notes.fitting import (
    EXPONENTS_DIFFER,
    EXPONENTS_SHARED,
    NO_INTERVAL,
    NO_JOINT_FIT,
)

SIMULATIONS = 199
"""Tables behind the test: p-values in steps of 1/200."""
SIGNIFICANT = EXPONENTS_SHARED.limit
_RUNS_TO_RESAMPLE = 30
_NOTHING = 1e-300
"""In place of an objective of zero, to divide by."""
_ROUNDING = 1e-9
"""Of ln L: a misfit below this is none."""


@dataclass(frozen=True)
class Groups:
    """A fit for each group (all of one law), the joint law of each with shared exponents, and the
    test.

    `p_value` is how often separate exponents gain as much by chance when the shared ones are right;
    None if the test was not made. `shared_intervals` are percentile intervals of the shared
    exponents at the fits' level."""

    column: str
    fits: Mapping[str, Fit]
    joint: Mapping[str, Law]
    shared: tuple[str, ...]
    objective: float
    shared_intervals: Mapping[str, tuple[float, float]]
    p_value: float | None
    notes: tuple[Note, ...] = field(default=())

    def __getitem__(self, group: str) -> Fit:
        return self.fits[group]

    def __len__(self) -> int:
        return len(self.fits)

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.fits.values())

    @property
    def shareable(self) -> bool | None:
        """Whether the test lets the groups share exponents."""
        return None if self.p_value is None else self.p_value >= SIGNIFICANT

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [f"{len(self.fits)} groups by {self.column}"]
        lines += [f"  {name}: {fit.law}" for name, fit in self.fits.items()]
        lines += [f"  {name}, exponents shared: {law}" for name, law in self.joint.items()]
        return "\n".join(lines + [f"  note: {line}" for line in with_codes(self.notes)])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        names = next(iter(self)).law.coefficient_names()
        rows = []
        for group, fit in self.fits.items():
            cells = [f"{fit.shown(name, 4)} {fit.ends(name)}" for name in names]
            rows.append((group, len(fit.table.frame), *cells))
        for group, law in self.joint.items():
            shared = [f"{reads(law, name):.4g}" for name in names]
            rows.append((f"{group}, exponents shared", "", *shared))
        table = html.table((self.column, "runs", *names), rows)
        return table + html.notes(self.notes)

    def to_json(self) -> dict[str, Any]:
        """The object that `fit --by COLUMN --json` prints."""
        joint = None
        if self.joint:
            joint = {
                "shared": list(self.shared),
                "coefficients": {
                    name: {key: float(value) for key, value in law.coefficients().items()}
                    for name, law in self.joint.items()
                },
                "intervals": {name: list(ends) for name, ends in self.shared_intervals.items()},
                "objective": self.objective,
                "objective_apart": sum(fit.objective for fit in self.fits.values()),
                "p_value": self.p_value,
                "shareable": self.shareable,
            }
        return {
            "by": self.column,
            "groups": [{"group": name, **fit.to_json()} for name, fit in self.fits.items()],
            "joint": joint,
            "warnings": [{"code": note.code, "message": note.message} for note in self.notes],
        }


def fit_groups(
    tables: Mapping[str, RunTable],
    column: str,
    law: str | type[Law],
    options: Options | None = None,
) -> Groups:
    """The law fitted to each table, and jointly. Raises InputError if one of them cannot be
    fitted."""
    options = options or Options()
    if law_named(law).estimator is not None:
        raise InputError(
            f"{law_named(law).name} is not fitted by an objective over all runs, which groups "
            "could share",
            "name another law: --law chinchilla",
        )
    fits: dict[str, Fit] = {}
    for name, table in tables.items():
        try:
            fits[name] = fit_law(table, law, options)
        except InputError as error:
            raise InputError(
                f"group {name!r} of {column}: {error.problem}",
                _without(tables, column, name),
            ) from error
    laws = {type(fit.law) for fit in fits.values()}
    first = next(iter(fits.values()))
    held = options.constraints.held
    shared = tuple(name for name in type(first.law).exponents if name not in held)
    if len(fits) < 2 or len(laws) > 1 or not shared:
        reason = f"{first.law.name} names no exponents"
        if type(first.law).exponents:
            reason = f"no exponent of {first.law.name} is left to share"
        if len(fits) < 2:
            reason = "there is one group only"
        elif len(laws) > 1:
            reason = "the groups are too different in size for one law"
        note = NO_JOINT_FIT.note(f"no joint fit with shared exponents: {reason}")
        return Groups(column, fits, {}, shared, float("nan"), {}, None, (note,))
    return _joint(column, fits, shared, options)


def _without(tables: Mapping[str, RunTable], column: str, name: str) -> str:
    """What to do about a group that cannot be fitted."""
    if all(len(table.frame) == 1 for table in tables.values()):
        return (
            f"every group is one run: name a column whose values several runs share, not {column}"
        )
    if name != NO_VALUE:
        return f"leave it out: {where_option(column, '!=', name)}; or measure more of it"
    others = [other for other in tables if other != name]
    if not 0 < len(others) <= 10:
        return f"fill {column} in, or leave out the rows without it"
    return f"leave out the runs without {column}: {where_option(column, 'in', *others)}"


class _Joined(Surface):
    """Surfaces of several groups one after another; theta is the shared coefficients, then each
    group's own."""

    centred = False

    def __init__(self, surfaces: "list[Formula | Constrained]", shared: list[int]) -> None:
        self.surfaces = surfaces
        size = len(surfaces[0].lower)
        own = [k for k in range(size) if k not in shared]
        self.places = []  # where each group's coefficients stand in theta
        for g in range(len(surfaces)):
            place = np.empty(size, dtype=int)
            place[shared] = np.arange(len(shared))
            place[own] = len(shared) + g * len(own) + np.arange(len(own))
            self.places.append(place)
        total = len(shared) + len(surfaces) * len(own)
        self.lower, self.upper = np.empty(total), np.empty(total)
        for surface, place in zip(surfaces, self.places, strict=True):
            self.lower[place], self.upper[place] = surface.lower, surface.upper
        self.vanishing = np.zeros(total, dtype=bool)
        ends = np.cumsum([0, *(len(surface.loss) for surface in surfaces)])
        self.rows = [slice(a, b) for a, b in itertools.pairwise(ends)]

    def starts(self, count: int) -> Array:
        """Each group's best starts, side by side."""
        each = [surface.starts(count) for surface in self.surfaces]
        count = min(len(starts) for starts in each)
        raw = [
            surface.coefficients(starts[:count])
            for surface, starts in zip(self.surfaces, each, strict=True)
        ]
        return self.theta(np.concatenate(raw, axis=1))

    def of_rows(self, rows_S: NDArray[np.int_]) -> "_Joined":
        part = copy.copy(self)
        inside = [
            rows_S[(rows_S >= rows.start) & (rows_S < rows.stop)] - rows.start for rows in self.rows
        ]
        part.surfaces = [
            surface.of_rows(own) for surface, own in zip(self.surfaces, inside, strict=True)
        ]
        ends = np.cumsum([0, *map(len, inside)])
        part.rows = [slice(a, b) for a, b in itertools.pairwise(ends)]
        return part

    def evaluate(self, theta_BP: Array) -> tuple[Array, Any]:
        found = [
            surface.evaluate(theta_BP[:, place])
            for surface, place in zip(self.surfaces, self.places, strict=True)
        ]
        return np.concatenate([value for value, _ in found], axis=1), [parts for _, parts in found]

    def derivatives(self, parts: Any, first_BR: Array, second_BR: Array) -> tuple[Array, Array]:
        batch, size = len(first_BR), len(self.lower)
        gradient, hessian = np.zeros((batch, size)), np.zeros((batch, size, size))
        for surface, place, rows, part in zip(
            self.surfaces, self.places, self.rows, parts, strict=True
        ):
            slope, bend = surface.derivatives(part, first_BR[:, rows], second_BR[:, rows])
            gradient[:, place] += slope
            hessian[:, place[:, None], place] += bend
        return gradient, hessian

    def jacobian(self, theta_P: Array) -> Array:
        jacobian = np.zeros((self.rows[-1].stop, len(theta_P)))
        for surface, place, rows in zip(self.surfaces, self.places, self.rows, strict=True):
            jacobian[rows, place] = surface.jacobian(theta_P[place])
        return jacobian

    def coefficients(self, theta_BP: Array) -> Array:
        """Of every group, one group after another: (B, groups * K)."""
        return np.concatenate(
            [
                surface.coefficients(theta_BP[:, place])
                for surface, place in zip(self.surfaces, self.places, strict=True)
            ],
            axis=1,
        )

    def theta(self, coefficients_BK: Array) -> Array:
        """From coefficients of every group; shared ones are averaged over groups."""
        each = np.split(coefficients_BK, len(self.surfaces), axis=1)
        theta, counts = np.zeros((len(coefficients_BK), len(self.lower))), np.zeros(len(self.lower))
        for surface, place, raw in zip(self.surfaces, self.places, each, strict=True):
            theta[:, place] += surface.theta(raw)
            counts[place] += 1
        return theta / counts


def _joint(
    column: str, fits: Mapping[str, Fit], shared: tuple[str, ...], options: Options
) -> Groups:
    # Draws go by the order of groups and rows: the answer must not hang on the file's.
    sorted_names = sorted(fits)
    groups = [_in_order(fits[name]) for name in sorted_names]
    law, names = type(groups[0].law), groups[0].law.coefficient_names()
    places = [names.index(name) for name in shared]
    settings = settings_of(groups[0].law)
    surfaces = [_raw_surface(fit) for fit in groups]
    joined = _Joined(surfaces, places)
    level = np.concatenate([surface.level_of(surface.loss) for surface in surfaces])
    weight = np.concatenate([run_weights(fit.table) for fit in groups])
    objective = options.loss_function

    each = np.array([list(fit.law.coefficients().values()) for fit in groups], dtype=float)
    starts = [joined.theta(each.reshape(1, -1))[0]]
    for g in range(len(groups)):
        raw = each.copy()
        raw[:, places] = each[g, places]
        projected = [
            surface.with_best_linear(raw[[i]], places)[0] for i, surface in enumerate(surfaces)
        ]
        starts.append(joined.theta(np.concatenate(projected)[None])[0])
    ends = newton.resolve_each(joined, level, weight, np.array(starts), objective.graduated())
    theta = ends.theta[int(np.argmin(ends.objective))]
    best = float(ends.objective.min())
    raw = joined.coefficients(theta[None])[0].reshape(len(groups), -1)
    together_of = dict(zip(sorted_names, raw.tolist(), strict=True))
    joint = {name: law(*together_of[name], **settings) for name in fits}

    apart_theta = [surface.theta(row[None])[0] for surface, row in zip(surfaces, each, strict=True)]
    left = [
        least_squares_residual(fit.residuals, surface.jacobian(start))
        for fit, surface, start in zip(groups, surfaces, apart_theta, strict=True)
    ]
    exact = [
        name for name, (rest, rank) in zip(sorted_names, left, strict=True) if len(rest) <= rank
    ]
    if exact:
        untested = NO_INTERVAL.note(
            f"the runs of {listed(exact)} fix the coefficients exactly, and nothing is left to "
            f"tell how far to believe them: whether the groups share {both(shared)} is not tested"
        )
        return Groups(column, fits, joint, shared, best, {}, None, (untested,))
    fitted, _ = joined.evaluate(theta[None])
    rng = np.random.default_rng(options.seed)
    noise = [_noise(rest, rank, rng) for rest, rank in left]
    simulated = fitted + np.concatenate(noise, axis=1)
    together = newton.resolve(joined, simulated, weight[None], theta, objective.graduated())
    apart = np.zeros(SIMULATIONS)
    for surface, start, rows in zip(surfaces, apart_theta, joined.rows, strict=True):
        apart += newton.resolve(
            surface, simulated[:, rows], weight[None, rows], start, objective.graduated()
        ).objective
    left_apart = sum(fit.objective for fit in groups)
    share = best / max(left_apart, _NOTHING)
    shares = together.objective / np.maximum(apart, _NOTHING)
    p_value = float((1 + np.sum(shares >= share)) / (1 + SIMULATIONS))
    if best <= weight.sum() * _ROUNDING**2:
        p_value = 1.0  # runs without noise, all on the joint law

    low, high = percentiles(together.theta[:, : len(shared)], options.level)
    intervals = {}
    for position, name in enumerate(shared):
        ends_of = np.array([low[position], high[position]])
        if name not in law.signed:
            ends_of = np.exp(ends_of)
        intervals[name] = (float(ends_of[0]), float(ends_of[1]))
    what = f"share {' and '.join(shared)} (p {digits.chance(p_value, SIMULATIONS)})"
    verdict = f"the groups do not {what}: fit them apart"
    if p_value >= SIGNIFICANT:
        verdict = f"the groups may {what}: the joint fit is the one to use"
    kind = EXPONENTS_SHARED if p_value >= SIGNIFICANT else EXPONENTS_DIFFER
    note = kind.note(verdict)
    return Groups(column, fits, joint, shared, best, intervals, p_value, (note,))


def _raw_surface(fit: Fit) -> Formula | Constrained:
    """A group's surface in the logarithms of the coefficients, which groups can share."""
    loss = fit.table.frame["loss"].to_numpy(dtype=float)
    place = (type(fit.law), settings_of(fit.law), fit.inputs, loss)
    if fit.constraints:
        return Constrained(*place, fit.constraints, raw=True)
    return Formula(*place)


def _in_order(fit: Fit) -> Fit:
    table = fit.table
    frame = in_order(table.frame, [*fit.law.inputs, "loss"])
    return replace(fit, runs=replace(table, frame=frame))


def _noise(left_R: Array, rank: int, rng: np.random.Generator) -> Array:
    """Noise like a group's own for every simulated table (SIMULATIONS, R), from what least squares
    leave of its residuals and the rank of its Jacobian."""
    runs = len(left_R)
    left = left_R * np.sqrt(runs / (runs - rank))
    if runs >= _RUNS_TO_RESAMPLE:
        return np.asarray(rng.choice(left - left.mean(), size=(SIMULATIONS, runs)))
    # Its size is redrawn for each table: few degrees of freedom hardly tell it, as in Student's t.
    free = runs - rank
    size = np.sqrt(np.mean(left**2) * free / np.maximum(rng.chisquare(free, SIMULATIONS), 1e-12))
    noise = size[:, None] * rng.standard_normal((SIMULATIONS, runs))
    return bounded(noise)

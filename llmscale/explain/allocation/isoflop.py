"""Approach 2: at each compute budget a parabola of loss in ln N, and a power law through the lowest
points.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, listed
from llmscale.explain.allocation import _budgets, _frontier
from llmscale.explain.allocation._allocation import Allocation, bias_note, interval, measure_bias
from llmscale.explain.allocation._frontier import Frontier
from llmscale.explain.estimation.levels import levels
from llmscale.explain.fit import Options
from llmscale.explain.laws import Array, Law
from llmscale.explain.table import RunTable
from llmscale.notes import Weight
from llmscale.notes.fitting import FEW_SIZES, NO_INTERVAL, OPTIMUM_NOT_BRACKETED
from llmscale.notes.predicting import (
    BUDGETS_UNEVEN,
    FEW_BUDGETS,
    ISOFLOP_WIDE,
    OPTIMUM_UNCERTAIN,
    RUNS_WITHOUT_BUDGET,
)

SOURCE = "Hoffmann et al. 2022, approach 2"
_SIZES_TO_RESAMPLE = 8
"""Budgets with fewer sizes get noise from pooled residuals: resampled, many hold under 3 sizes."""
_SHAKY = OPTIMUM_UNCERTAIN.limit
"""A budget whose optimum leaves its range of sizes in more than 10% of the refits is named."""
_ROUNDING = 1e-12
_UNEVEN = BUDGETS_UNEVEN.limit
_MOVED_FAR = float(np.log(1.2))
"""In ln C: to move losses so far changes them by about as much as a size next to it does."""
_WIDE = ISOFLOP_WIDE.limit
"""Sizes more than 8 times from the optimum are where a parabola is no longer a good picture."""


def allocate(
    table: RunTable,
    options: Options,
    *,
    law: str | type[Law] | Law | None = "chinchilla",
    curves: pd.DataFrame | None = None,
) -> Allocation:
    """N*(C) from the lowest points of parabolas in ln N of the loss.

    Budgets whose optimum is not bracketed by their sizes are left out of the power law and named.
    Raises InputError if runs do not share budgets, or fewer than two budgets have an optimum."""
    frame = table.frame
    factor, notes = _frontier.flops_factor(frame)
    index = _budgets.group(frame)
    profiles = _profiles(frame, index)
    loss = frame["loss"].to_numpy()
    fitted = _fit(profiles, loss)
    used = np.array([bool(one.bracketed[0]) for one in fitted])
    if used.sum() < 2:
        raise InputError(
            f"of {len(profiles)} budgets {int(used.sum())} {'has' if used.sum() == 1 else 'have'} "
            f"an optimum between the smallest and the largest size ({_where(profiles, fitted)})",
            "train sizes on both sides of the optimum at each budget",
        )
    log_flops = np.array([one.log_flops for one in profiles])
    coefficients = _power_law(log_flops, fitted, used)[0]
    frontier = Frontier(float(coefficients[0]), float(coefficients[1]), factor)

    rng = np.random.default_rng(options.seed)
    refitted = _refits(profiles, fitted, options.bootstrap, rng)
    refits = np.empty((0, 2))
    if refitted:
        every = _power_law(log_flops, refitted, used)
        refits = every[np.isfinite(every).all(axis=1)]
    elif options.bootstrap:
        message = "every budget has 3 sizes, which a parabola meets exactly: no interval is given"
        notes += (NO_INTERVAL.note(message),)

    def again(surface_loss: Array, _: Law) -> Frontier:
        on_surface = _fit(profiles, surface_loss)
        a, log_params = _power_law(log_flops, on_surface, used)[0]
        return Frontier(float(a), float(log_params), factor)

    bias, bias_notes = measure_bias(table, law, options, factor, again)
    if bias:
        bias_notes = (bias_note("isoflop", frontier, bias, float(frame["flops"].max())),)
    budgets = _frame_of(profiles, fitted, refitted, factor, options.level)
    return Allocation(
        method="isoflop",
        source=SOURCE,
        table=table,
        frontier=frontier,
        refits=refits,
        level=options.level,
        budgets=budgets,
        notes=(*bias_notes, *table.notes, *notes, *_notes(frame, index, budgets)),
        bias=bias,
        membership=index,
    )


@dataclass(frozen=True)
class _Profile:
    """The runs of one budget: x in [-1, 1] with ln N = centre + scale x, ln C next to its own."""

    rows: NDArray[np.int_]
    log_flops: float
    x_R: Array
    centre: float
    scale: float
    excess_R: Array
    size_R: NDArray[np.int_]

    @property
    def sizes(self) -> int:
        return int(self.size_R.max()) + 1


@dataclass(frozen=True)
class _Parabola:
    """Parabolas of one budget: lowest point, curvature in (ln N)^2, all (B,), and the losses."""

    log_params: Array
    loss: Array
    curvature: Array
    bracketed: NDArray[np.bool_]
    measured_R: Array
    fitted_R: Array


def _profiles(frame: pd.DataFrame, index: NDArray[np.int_]) -> list[_Profile]:
    log_params, log_flops = np.log(frame["params"].to_numpy()), np.log(frame["flops"].to_numpy())
    loss = frame["loss"].to_numpy()
    profiles = []
    for budget in range(int(index.max()) + 1):
        rows = np.flatnonzero(index == budget)
        # Draws go by the order of rows: the answer must not hang on the file's.
        rows = rows[np.lexsort((loss[rows], log_flops[rows], log_params[rows]))]
        x, middle = log_params[rows], float(np.median(log_flops[rows]))
        centre, scale = (x.min() + x.max()) / 2, (x.max() - x.min()) / 2
        size = levels(frame["params"].to_numpy()[rows])
        place, excess = (x - centre) / scale, log_flops[rows] - middle
        profiles.append(_Profile(rows, middle, place, centre, scale, excess, size))
    return profiles


def _fit(profiles: list[_Profile], loss: Array) -> list[_Parabola]:
    """The parabola of every budget, with losses moved to the budget's FLOPs if they differ.

    At the optimum the slope of loss in ln C at fixed N is that of the lowest losses (envelope
    theorem): it is taken from a first round of parabolas."""
    log_flops = np.array([one.log_flops for one in profiles])
    slope = np.zeros(len(profiles))
    uneven = max(float(np.abs(one.excess_R).max()) for one in profiles) > 1e-3
    fitted: list[_Parabola] = []
    for _ in range(3 if uneven else 1):
        fitted = [
            _parabola(one, (loss[one.rows] - at * one.excess_R)[None], np.ones((1, len(one.rows))))
            for one, at in zip(profiles, slope, strict=True)
        ]
        lowest = np.array([one.loss[0] if one.bracketed[0] else np.nan for one in fitted])
        known = np.isfinite(lowest)
        if not uneven or known.sum() < 3:
            break
        degree = min(2, int(known.sum()) - 2)
        curve = np.polynomial.Polynomial.fit(log_flops[known], lowest[known], degree)
        slope = np.minimum(curve.deriv()(log_flops), 0.0)
    return fitted


def _parabola(profile: _Profile, loss_BR: Array, weight_BR: Array) -> _Parabola:
    """Weighted least squares for B sets of losses or weights at once."""
    x = profile.x_R
    powers = np.stack([np.ones_like(x), x, x * x])
    products = (powers[:, None, :] * powers[None, :, :]).reshape(9, -1)
    gram = (weight_BR @ products.T).reshape(-1, 3, 3) + 1e-12 * np.eye(3)
    target = (weight_BR * loss_BR) @ powers.T
    c0, c1, c2 = np.linalg.solve(gram, target[..., None])[..., 0].T
    of_size = [weight_BR[:, profile.size_R == size] for size in range(profile.sizes)]
    drawn = np.stack([weight.sum(axis=1) > 0 for weight in of_size])
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = -c1 / (2 * c2)
        loss = c0 - c1 * c1 / (4 * c2)
    bracketed = (drawn.sum(axis=0) >= 3) & (c2 > _ROUNDING * np.abs(c0)) & (np.abs(lowest) < 1)
    fitted = c0[0] + c1[0] * x + c2[0] * x * x
    log_params, curvature = profile.centre + profile.scale * lowest, c2 / profile.scale**2
    return _Parabola(log_params, loss, curvature, bracketed, loss_BR[0], fitted)


def _refits(
    profiles: list[_Profile], fitted: list[_Parabola], count: int, rng: np.random.Generator
) -> list[_Parabola]:
    """`count` parabolas a budget: runs drawn again or, in small budgets, residuals of all."""
    relative = []
    for one in fitted:
        runs, residual = len(one.fitted_R), one.measured_R - one.fitted_R
        if runs > 3:
            relative.append(residual / np.abs(one.fitted_R) * np.sqrt(runs / (runs - 3)))
    if not relative or count == 0:
        return []
    pool = np.concatenate(relative)
    pool = pool - pool.mean()
    refitted = []
    for profile, one in zip(profiles, fitted, strict=True):
        runs = len(profile.rows)
        if profile.sizes >= _SIZES_TO_RESAMPLE:
            weight = rng.multinomial(runs, np.full(runs, 1 / runs), size=count).astype(float)
            refitted.append(_parabola(profile, one.measured_R[None], weight))
        else:
            noise = rng.choice(pool, size=(count, runs))
            refitted.append(_parabola(profile, one.fitted_R * (1 + noise), np.ones((count, runs))))
    return refitted


def _power_law(log_flops: Array, fitted: list[_Parabola], used: NDArray[np.bool_]) -> Array:
    """a and ln N* at one FLOP through the bracketed optima of the budgets in use: (B, 2)."""
    log_params = np.stack([one.log_params for one in fitted], axis=1)
    weight = np.stack([one.bracketed for one in fitted], axis=1) & used
    log_flops = np.broadcast_to(log_flops, log_params.shape)
    return _frontier.regress(log_flops, log_params, weight.astype(float))


def _frame_of(
    profiles: list[_Profile],
    fitted: list[_Parabola],
    refitted: list[_Parabola],
    factor: float,
    level: float,
) -> pd.DataFrame:
    """One row a budget: loss(N) = loss + curvature (ln N - ln params)^2."""
    rows = []
    for number, (profile, one) in enumerate(zip(profiles, fitted, strict=True)):
        bracketed = bool(one.bracketed[0])
        ends, inside = (np.nan, np.nan), np.nan
        if refitted:
            refits = refitted[number]
            inside = float(refits.bracketed.mean())
            if bracketed and inside > 0:
                ends = interval(np.exp(refits.log_params[refits.bracketed]), level)
        params = float(np.exp(one.log_params[0])) if bracketed else np.nan
        loss = float(one.loss[0]) if bracketed else np.nan
        rows.append(
            {
                "flops": float(np.exp(profile.log_flops)),
                "params": params,
                "tokens": float(np.exp(profile.log_flops)) / (factor * params),
                "loss": loss,
                "low": ends[0],
                "high": ends[1],
                "n_runs": len(profile.rows),
                "n_sizes": profile.sizes,
                "used": bracketed,
                "reason": None if bracketed else _reason(one),
                "bracketed": bracketed,
                "bracketed_share": inside,
                "curvature": float(one.curvature[0]),
                "smallest": float(np.exp(profile.centre - profile.scale)),
                "largest": float(np.exp(profile.centre + profile.scale)),
            }
        )
    return pd.DataFrame(rows)


def _reason(one: _Parabola) -> str:
    if not one.curvature[0] > 0:
        return "the parabola has no lowest point"
    return "the lowest point lies outside the sizes"


def _where(profiles: list[_Profile], fitted: list[_Parabola]) -> str:
    reasons = [
        f"C = {np.exp(profile.log_flops):.3g}: {_reason(one)}"
        for profile, one in zip(profiles, fitted, strict=True)
        if not one.bracketed[0]
    ]
    return listed(reasons, separator="; ")


def _notes(frame: pd.DataFrame, index: NDArray[np.int_], budgets: pd.DataFrame) -> list[Note]:
    notes = []
    alone = frame["run_id"].to_numpy()[index < 0]
    if len(alone):
        message = (
            f"{len(alone)} runs share no budget with other sizes: "
            f"{listed([str(run) for run in alone])}"
        )
        notes.append(RUNS_WITHOUT_BUDGET.note(message))
    log_flops = np.log(frame["flops"].to_numpy())
    spread = max(float(np.ptp(log_flops[index == budget])) for budget in range(len(budgets)))
    if spread > _UNEVEN:
        message = (
            f"FLOPs within a budget differ by up to {np.expm1(spread):.0%}: losses were moved to "
            "the budget's middle along the slope of the lowest losses"
        )
        notes.append(BUDGETS_UNEVEN.note(message, Weight.DOUBT if spread > _MOVED_FAR else None))
    outside = budgets[~budgets["used"]]
    if len(outside):
        why = [f"C = {row.flops:.3g}, {row.reason}" for row in outside.itertuples()]
        message = f"left out of the power law: {listed(why, separator='; ')} (train sizes beyond)"
        few = len(outside) < OPTIMUM_NOT_BRACKETED.limit * len(budgets)
        notes.append(OPTIMUM_NOT_BRACKETED.note(message, Weight.DOUBT if few else None))
    shaky = budgets[budgets["used"] & (budgets["bracketed_share"] < 1 - _SHAKY)]
    if len(shaky):
        shares = zip(shaky["flops"], 1 - shaky["bracketed_share"], strict=True)
        named = listed(f"{flops:.3g} ({share:.0%})" for flops, share in shares)
        message = f"in some refits the optimum leaves the sizes tried, at C = {named}"
        notes.append(OPTIMUM_UNCERTAIN.note(message))
    exact = budgets[budgets["used"] & (budgets["n_runs"] == 3)]
    if len(exact):
        named = listed([f"{flops:.3g}" for flops in exact["flops"]])
        message = f"3 runs fix a parabola exactly, whatever their noise, at C = {named}"
        notes.append(FEW_SIZES.note(message))
    above, below = budgets["largest"] / budgets["params"], budgets["params"] / budgets["smallest"]
    reach = np.maximum(above, below)
    wide = budgets[budgets["used"] & (reach > _WIDE)]
    if len(wide):
        message = (
            f"{len(wide)} of {len(budgets)} budgets reach sizes up to "
            f"{reach[wide.index].max():.0f} times away from the optimum; beyond {_WIDE:g} "
            "times the loss is not a parabola in ln N"
        )
        notes.append(ISOFLOP_WIDE.note(message))
    if budgets["used"].sum() == 2:
        message = "the power law goes through two optima exactly: a third would test it"
        notes.append(FEW_BUDGETS.note(message))
    return notes

"""What the residuals say: trends that the law misses, runs far off, and noise between seeds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from llmscale.errors import LlmscaleError, Note, listed
from llmscale.errors.command_lines import command_line, condition
from llmscale.explain.diagnostics.evidence import Evidence, basis, counted, groups
from llmscale.explain.diagnostics.smooth import robust_scale
from llmscale.explain.estimation.advice import sweep_with
from llmscale.explain.estimation.levels import levels
from llmscale.explain.estimation.result import Fit
from llmscale.explain.laws import LETTERS, Array
from llmscale.notes.fitting import MISFIT_EXCEEDS_NOISE, OUTLIERS, RESIDUAL_TREND, SEED_NOISE
from llmscale.notes.kind import Weight
from llmscale.runs.title import run_titles

_TREND_SIZE, _LARGE_TREND = 0.002, 0.01
"""0.2% of the loss, about what seeds do: smaller trends are certain in large tables, and harmless.
Most public tables have one of up to 1%, as a law of another form makes, and their intervals are
wide enough for it: it is a doubt only beyond that."""
_OUTLIER_SIZE = 0.005
"""0.5% of the loss."""
_OUTLIER_P = 0.01
"""Chance of naming any run of a right table with Gaussian noise, for few runs, where 5 is not far.
"""
_BROKEN, _BROKEN_SCALES = 0.1, 10.0
"""10% of the loss, and ten standard deviations: a run so far off went wrong, whatever hangs on
it."""
_AHEAD, _MOVED = 3.0, 0.01
"""Times the largest N and D, which is 9 times the FLOPs, and 1% of the loss there."""
_SPARE_FOR_SCALE = 5
_SEEDS_FOR_NOISE = 3


def residual_trend(evidence: Evidence) -> Note | None:
    """A trend in N, D or D/N that no choice of the law's coefficients removes. F test of a line and
    a parabola beside the law's own Jacobian: what the coefficients could take up is not counted."""
    # Steps of one run are not independent, and would make any trend look certain.
    if evidence.spare < 4 or evidence.frame["run_id"].duplicated().any():
        return None
    # Outliers are another matter, with a note of their own.
    near = ~_far(evidence)[0]
    residual, own = evidence.residual[near], basis(evidence.jacobian[near])
    found = []
    for name, values in evidence.axes.items():
        p = _trend(values[near], residual, own)
        ties = [other[near] for key, other in evidence.axes.items() if key != name]
        parts = _thirds(values[near], *ties, residual)
        thirds = [float(np.median(residual[part])) for part in parts]
        if p < RESIDUAL_TREND.limit and max(thirds) - min(thirds) > _TREND_SIZE:
            found.append((p, name, thirds))
    if not found:
        return None
    (p, name, thirds), *others = sorted(found)
    first, second, third = (_beside(evidence, value) for value in thirds)
    also = f" (and in {' and '.join(other for _, other, _ in others)})" if others else ""
    large = max(max(thirds) - min(thirds) for _, _, thirds in found) > _LARGE_TREND
    ahead = "the law will miss beyond them" if large else "other forms may fit as well"
    return RESIDUAL_TREND.note(
        f"residuals have a trend in {name}{also}, p = {p:.0e}: the typical {evidence.fit.metric} "
        f"is {first} the law at low {name}, {second} it in the middle and {third} it at high, so "
        f"{ahead}. Compare forms: {evidence.other_laws}{_largest_half(evidence, name)}",
        Weight.DOUBT if large else Weight.NEWS,
    )


def _trend(values: Array, residual: Array, own: Array) -> float:
    """The p-value of a line and a parabola in `values` beside what the columns `own` span."""
    if np.ptp(values) == 0:
        return 1.0
    scale, centre = robust_scale(residual, own.shape[1]), float(np.median(residual))
    calm = np.clip(residual, centre - 3 * scale, centre + 3 * scale)
    left = calm - own @ (own.T @ calm)
    z = (values - values.mean()) / values.std()
    shapes = np.stack([z, z * z, np.ones_like(z)], axis=1)
    extra = shapes - own @ (own.T @ shapes)
    # A shape that the coefficients have already is nothing but rounding here.
    extra = extra[:, np.linalg.norm(extra, axis=0) > 1e-3 * np.linalg.norm(shapes, axis=0)]
    directions = basis(extra, 1e-3)
    count = directions.shape[1]
    spare = len(left) - own.shape[1] - count
    if not count or spare < 2:
        return 1.0
    explained = float(((directions.T @ left) ** 2).sum())
    rest = float((left**2).sum()) - explained
    return float(special.fdtrc(count, spare, (explained / count) / max(rest / spare, 1e-300)))


def outliers(evidence: Evidence) -> Note | None:
    """Runs far off the law, named, and what the exponents are without them."""
    far, off, scale, limit = _far(evidence)
    if not far.any():
        return None
    order = np.flatnonzero(far)[np.argsort(-np.abs(off[far]), kind="stable")]
    titles = run_titles(evidence.frame, order)
    named = listed(
        f"{title} ({evidence.relative(evidence.residual[row])})"
        for title, row in zip(titles, order, strict=True)
    )
    row = "row" if evidence.frame["run_id"].duplicated().any() else "run"
    rest = _refit_without(evidence, far)
    broken = bool((np.abs(off[far]) > max(_BROKEN, _BROKEN_SCALES * scale)).any())
    matters = broken or _moves_forecast(evidence, rest)
    return OUTLIERS.note(
        f"{counted(len(order), row)} {'lies' if len(order) == 1 else 'lie'} off the law by more "
        f"than {limit:.2g} times its scatter ({evidence.size(scale)}): "
        f"{named}{_without(evidence, far, rest)}; look at each before leaving it out",
        Weight.DOUBT if matters else Weight.NEWS,
    )


def misfit_exceeds_noise(evidence: Evidence) -> Note | None:
    """The classical lack-of-fit test: points against the law, measured by what seeds do at one
    point."""
    point, noise, spare = _seeds(evidence)
    if spare < _SEEDS_FOR_NOISE or noise <= 0:
        return None
    count = np.bincount(point)
    mean = np.bincount(point, weights=evidence.residual) / count
    between = len(count) - basis(evidence.jacobian).shape[1]
    if between < 1:
        return None
    lack = float((count * mean**2).sum() / between)
    p = float(special.fdtrc(between, spare, lack / noise**2))
    if p > MISFIT_EXCEEDS_NOISE.limit or lack < 4 * noise**2:
        return None
    missed = evidence.size(np.sqrt(lack / count.mean()))
    return MISFIT_EXCEEDS_NOISE.note(
        f"the law misses its points by {missed} while seeds differ by {evidence.size(noise)} "
        f"(lack of fit, p = {p:.0e}): its form or the care taken at some sizes is off, and more "
        f"seeds will not help. Tune each size, or compare forms: "
        f"{evidence.other_laws}",
    )


def seed_noise(evidence: Evidence) -> Note | None:
    """Seeds that differ by as much as neighbouring sizes do."""
    _, noise, spare = _seeds(evidence)
    if spare < _SEEDS_FOR_NOISE or "params" not in evidence.fit.law.inputs:
        return None
    step = _step_between_sizes(evidence)
    if noise < SEED_NOISE.limit * step:
        return None
    return SEED_NOISE.note(
        f"seeds differ by {evidence.size(noise)} of the loss, neighbouring sizes by "
        f"{evidence.size(step)}: the ladder is hardly above its noise. Space the sizes wider, "
        "evaluate on more tokens, or "
        f"add seeds{sweep_with(evidence.frame, '--seeds 5')}"
    )


def _step_between_sizes(evidence: Evidence) -> float:
    """The median step of ln loss from one size to the next. By the law, so that sizes with budgets
    of their own compare, too: all else at the middle of the table."""
    law, params = evidence.fit.law, evidence.frame["params"].to_numpy(dtype=float)
    _, first_of_each = np.unique(levels(params), return_index=True)
    if len(first_of_each) < 2:
        return 0.0
    at: dict[str, Array | float] = {
        name: float(np.median(values))
        for name, values in zip(law.inputs, evidence.inputs, strict=True)
    }
    at["params"] = np.unique(params[first_of_each])
    losses = law.loss(*(at[name] for name in law.inputs))
    return float(np.median(np.abs(np.diff(law.level_of(losses)))))


def _seeds(evidence: Evidence) -> tuple[NDArray[np.int_], float, int]:
    """The point of each run (what seeds share), the standard deviation of ln loss within points,
    and its freedom."""
    frame = evidence.frame
    point = groups(frame, evidence.own_settings)
    if "seed" not in frame:
        return point, 0.0, 0
    count = np.bincount(point)
    level = evidence.level
    off = level - (np.bincount(point, weights=level) / count)[point]
    # Rows of one seed at one point are copies or checkpoints, which say nothing of noise.
    if frame.assign(point=point).duplicated(["point", "seed"]).any():
        return point, 0.0, 0
    spare = int((count - 1).sum())
    return point, float(np.sqrt((off**2).sum() / spare)) if spare else 0.0, spare


def _far(evidence: Evidence) -> tuple[NDArray[np.bool_], Array, float, float]:
    """Which runs are outliers, how far each is off the median, the robust scale, and the limit in
    its units."""
    residual = evidence.residual
    off = residual - float(np.median(residual))
    if evidence.spare < _SPARE_FOR_SCALE:
        return np.zeros(len(off), dtype=bool), off, np.inf, np.inf
    scale = robust_scale(residual, evidence.jacobian.shape[1])
    # With few runs Gaussian noise over its own scale has Student's tails.
    limit = max(
        OUTLIERS.limit,
        float(special.stdtrit(evidence.spare / 2, 1 - _OUTLIER_P / (2 * len(residual)))),
    )
    return (np.abs(off) > limit * scale) & (np.abs(off) > _OUTLIER_SIZE), off, scale, limit


def _refit_without(evidence: Evidence, far: NDArray[np.bool_]) -> Fit | None:
    """The fit without these runs, if there is one."""
    if evidence.refit is None:
        return None
    try:
        return evidence.refit(evidence.fit.table.select(~far))
    except LlmscaleError:
        return None


def _without(evidence: Evidence, far: NDArray[np.bool_], rest: Fit | None) -> str:
    """`; without them alpha from 0.35 to 0.37`, if the rest can be fitted."""
    if rest is None:
        return ""
    law, other = evidence.fit.law, rest.law
    moved = [
        f"{name} from {getattr(law, name):.3g} to {getattr(other, name):.3g}"
        for name in (*law.exponents, *((law.floor,) if law.floor else ()))
        if hasattr(other, name) and f"{getattr(law, name):.3g}" != f"{getattr(other, name):.3g}"
    ]
    them = "it" if far.sum() == 1 else "them"
    return (
        f"; without {them} {', '.join(moved)}" if moved else f"; without {them} the exponents stay"
    )


def _moves_forecast(evidence: Evidence, rest: Fit | None) -> bool:
    """Whether the fit without some runs forecasts, ahead of the largest in every input, a loss
    outside the interval of the fit to all; without an interval, one that differs by 1%."""
    fit = evidence.fit
    if rest is None or rest.law.inputs != fit.law.inputs:
        return True
    at: dict[str, Any] = {
        name: np.array([float(values.max()) * _AHEAD]) if name in LETTERS else values[:1]
        for name, values in zip(fit.law.inputs, evidence.inputs, strict=True)
    }
    level = fit.law.level_of
    before, after = (float(level(one.loss(**at))[0]) for one in (fit, rest))
    low, high = (float(level(end)[0]) for end in fit.band(**at))
    if not np.isfinite(low + high):
        return not abs(after - before) < _MOVED
    return not low <= after <= high


def _thirds(values: Array, *ties: Array) -> list[NDArray[np.int_]]:
    """The rows of the lowest, middle and highest values; equal ones go by `ties`."""
    order = np.lexsort((*reversed(ties), values))
    return [
        order[: len(order) // 3],
        order[len(order) // 3 : -(len(order) // 3)],
        order[-(len(order) // 3) :],
    ]


def _beside(evidence: Evidence, value: float) -> str:
    if abs(value) < 0.0005:
        return "close to"
    share = evidence.relative(value)
    if share.startswith("x"):
        return f"{share[1:]} times"
    return f"{share[1:]} {'above' if value > 0 else 'below'}"


def _largest_half(evidence: Evidence, name: str) -> str:
    """If the trend is in one column, the filter that fits only the larger half."""
    column = {"N": "params", "D": "tokens", "C": "flops"}.get(name)
    if column is None:
        return ""
    middle = float(evidence.frame[column].median())
    larger = condition(column, ">", f"{middle:.2g}")
    return f"; or fit the larger half: {command_line('--where', larger)}"

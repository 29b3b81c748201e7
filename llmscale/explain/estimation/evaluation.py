"""Noise of evaluation and noise of runs, told apart by the standard error of the loss.

A run's noise in ln L has the variance tau² + se²: se is what its evaluation is known to err by,
tau² what seeds, data and the law's misfit add, for which the weighted squares of the residuals come
out as their degrees of freedom (Paule & Mandel 1982). Runs then weigh 1/(tau² + se²). If residuals
scatter by less than se says, runs err together: they were evaluated on one text, whose difficulty
they share, and such errors are no noise between runs."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtr

from llmscale.errors import Note
from llmscale.explain.estimation.levels import distinct, has_steps, levels
from llmscale.explain.estimation.noise import least_squares_residual
from llmscale.explain.estimation.relative import size
from llmscale.explain.estimation.repeats import differing
from llmscale.explain.estimation.result import run_weights
from llmscale.explain.laws import Array, Surface
from llmscale.explain.table import RunTable
from llmscale.explain.table.columns.loss_error import LOSS_SE
from llmscale.notes.fitting import EVALUATION_NOISE

_VISIBLE = EVALUATION_NOISE.limit
_DIFFER = 1.5
"""Variances of runs that differ by less than this factor, the lowest and highest tenth aside, are
weighed alike: weights would gain a few percent of precision at most."""
_RARE = 0.05
_POINT = ("params", "tokens")
_WEIGHED = "1/(tau² + loss_se²)"
"""What stands for the column of weights that come from errors of the loss."""


@dataclass(frozen=True)
class EvaluationNoise:
    """Mean variances of ln L: `evaluation` by the standard errors, `total` about the law on
    `degrees` of freedom, `seeds` between runs of one point on `free_seeds`; and tau², what is added
    to the evaluation's. `shared` says that runs scatter by less than their errors."""

    column: str
    evaluation: float
    total: float
    degrees: int
    seeds: float
    free_seeds: int
    tau_squared: float
    shared: bool
    weighs: bool

    def weighed(self, table: RunTable) -> RunTable:
        """The table with its runs weighed by their noise, if that is worth it; a run of the mean
        variance counts one."""
        if not self.weighs:
            return table
        error = relative_error(table)
        typical = self.tau_squared + self.evaluation
        frame = table.frame.assign(weight=typical / (self.tau_squared + error**2))
        return replace(table, frame=frame, columns={**table.columns, "weight": _WEIGHED})

    def note(self, law: str = "the law") -> Note:
        """How much of the noise about `law` is of evaluation, and what would lower it."""
        degrees = f"{self.degrees} degree{'s' if self.degrees != 1 else ''} of freedom"
        start = (
            f"single runs are off {law} by {_root(self.total)} of the loss (root mean square on "
            f"{degrees})"
        )
        seeds = f"seeds differ by {_root(self.seeds)} (on {self.free_seeds})"
        evaluation = f"{_root(self.evaluation)} by evaluation (column {self.column!r})"
        if self.shared:
            less = f"; {seeds}" if self.free_seeds else ""
            return EVALUATION_NOISE.note(
                f"{start}{less}, less than the {evaluation} would make them: on one text runs err "
                "together, which is no noise between them, and their errors weigh nothing"
            )
        rest = _root(self.total - self.evaluation)
        text = f"{start}: {evaluation}, {rest} by seeds and misfit"
        if self.free_seeds:
            text += f"; {seeds}, {_root(self.seeds - self.evaluation)} without evaluation"
        weights = ". Runs are weighed by both (--columns loss_se=none: alike)"
        return EVALUATION_NOISE.note(f"{text}; {self._advice}{weights if self.weighs else ''}")

    @property
    def _advice(self) -> str:
        """What would lower the noise."""
        share = self.evaluation / max(self.total, 1e-300)
        if share > 0.5:
            return "more text for evaluation would help most"
        text = "a little" if share >= _VISIBLE else "nothing"
        if not self.free_seeds:
            return f"several seeds would tell the two apart, more text for evaluation adds {text}"
        if self.seeds - self.evaluation > 0.5 * self.total:
            return f"more seeds would help most, more text for evaluation {text}"
        return f"most is the law's misfit: more seeds would help little, and more text {text}"


def _root(variance: float) -> str:
    """A standard deviation of ln L as a share of the loss."""
    return size(np.sqrt(max(variance, 0.0)), 2)


def has_errors(table: RunTable) -> bool:
    """Whether the table has standard errors of the loss."""
    return LOSS_SE in table.columns and LOSS_SE in table.frame


def weighed_by_noise(
    surface: Surface, theta_P: Array, *tables: RunTable, law: str = "the law"
) -> tuple[list[RunTable], list[Note]]:
    """Tables of the same runs, the first with its rows as the surface has them, weighed by the
    noise about a fit of `law` that ended at theta, and what to say of it; as they are if none is
    known."""
    errors = evaluation_noise(tables[0], surface, theta_P)
    if errors is None:
        return list(tables), []
    return [errors.weighed(table) for table in tables], [errors.note(law)]


def evaluation_noise(table: RunTable, surface: Surface, theta_P: Array) -> EvaluationNoise | None:
    """What the errors of the loss say of a fit that ended at theta, for rows as the surface has
    them; None if the table has none, or nothing is left to tell the noise by."""
    if not has_errors(table):
        return None
    error_R = relative_error(table)
    free = (theta_P > surface.lower) & (theta_P < surface.upper)
    jacobian = surface.jacobian(theta_P)[:, free]
    log_loss = np.log(table.frame["loss"].to_numpy(dtype=float))
    residual = log_loss - surface.evaluate(theta_P[None])[0][0]
    left, rank = least_squares_residual(residual, jacobian)
    degrees = len(left) - rank
    if degrees <= 0 or not np.isfinite(left).all():
        return None
    total, evaluation = float((left**2).sum()) / degrees, float((error_R**2).mean())
    tau_squared = _paule_mandel(residual, jacobian, error_R)
    variance = tau_squared + error_R**2
    low, high = np.quantile(variance, [0.1, 0.9])
    known = "weight" in table.columns or "weight" in table.frame
    seeds, free_seeds = _between_seeds(table, left)
    chances = [
        float(chdtr(free, mean * free / evaluation))
        for mean, free in ((total, degrees), (seeds, free_seeds))
        if free
    ]
    shared = min(chances) < _RARE
    return EvaluationNoise(
        table.columns[LOSS_SE],
        evaluation,
        total,
        degrees,
        seeds,
        free_seeds,
        tau_squared,
        shared,
        not (shared or known) and evaluation >= _VISIBLE * total and bool(high > _DIFFER * low),
    )


def noise_spread(table: RunTable) -> Array:
    """How large the noise of each run is next to that of the mean run: ones, unless runs are
    weighed by the errors of their loss."""
    if table.columns.get("weight") != _WEIGHED:
        return np.ones(len(table.frame))
    return 1.0 / np.sqrt(run_weights(table))


def relative_error(table: RunTable) -> Array:
    """The standard error of ln L of each run."""
    error = table.frame[LOSS_SE].to_numpy(dtype=float)
    return np.asarray(error / table.frame["loss"].to_numpy(dtype=float))


def _paule_mandel(residual_R: Array, jacobian_RP: Array, error_R: Array) -> float:
    """tau²: what makes the weighted squares of the residuals as large as their degrees of
    freedom."""

    def beyond(tau_squared: float) -> float:
        scale = np.sqrt(np.maximum(tau_squared + error_R**2, 1e-300))
        left, rank = least_squares_residual(residual_R / scale, jacobian_RP / scale[:, None])
        return float((left**2).sum()) - (len(left) - rank)

    if (error_R > 0).all() and beyond(0.0) <= 0:
        return 0.0
    highest = 2.0 * float((residual_R**2).sum()) + 1e-30
    lowest = 1e-9 * highest
    if beyond(lowest) <= 0:
        return lowest
    return float(brentq(beyond, lowest, highest, xtol=1e-6 * highest))


def _between_seeds(table: RunTable, left_R: Array) -> tuple[float, int]:
    """The mean square between seeds of one point, and its degrees of freedom; none if runs of a
    point differ in more."""
    point_R = distinct([levels(table.frame[name].to_numpy(dtype=float)) for name in _POINT])
    rows_P = np.bincount(point_R)
    free = len(left_R) - len(rows_P)
    if free <= 0 or has_steps(table.frame) or differing(table.frame, point_R):
        return 0.0, 0
    mean_P = np.bincount(point_R, left_R) / rows_P
    return float(((left_R - mean_P[point_R]) ** 2).sum()) / free, free

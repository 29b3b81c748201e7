"""The best mixture of sources: the law of mixtures on the loss of every source, and the shares at
which their mean is lowest (Ye et al. 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError, listed
from llmscale.explain import digits
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.fit.parametric import fit_law
from llmscale.explain.fit.sources import Source, as_table
from llmscale.explain.laws import Array
from llmscale.explain.laws._mixture import SHARE, sources_of
from llmscale.explain.table import RunTable
from llmscale.quantity import format_count

_STEPS, _STILL = 3000, 1e-7
"""Of the descent: how many at most, and by how much a share moves in the last one."""


@dataclass(frozen=True)
class BestMixture:
    """The shares of the lowest mean loss, at one size and one budget."""

    params: float
    tokens: float
    targets: dict[str, float]
    """What each source's loss counts in the mean."""
    shares: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """Of the shares; empty without a bootstrap."""
    loss: float
    """The mean loss there, in nats per token."""
    loss_interval: tuple[float, float] | None
    measured: float
    """The lowest mean loss of a run."""
    measured_shares: dict[str, float]
    """The shares of that run."""
    fits: dict[str, Fit]
    """By source, the law of its loss."""

    @property
    def title(self) -> str:
        return f"N = {format_count(self.params)}, D = {format_count(self.tokens)}"

    @property
    def table(self) -> str:
        """The weights as a line of a sweep's TOML file."""
        weights = ", ".join(f"{name} = {share:.3f}" for name, share in self.shares.items())
        return f"best = {{{weights}}}"

    def __str__(self) -> str:
        said = [f"{share:.3f} {name}" for name, share in self.shares.items()]
        return f"{self.title}: {' + '.join(said)}, loss {digits.number(self.loss)}"

    def to_json(self) -> dict[str, Any]:
        laws = {name: fit.to_json() for name, fit in self.fits.items()}
        own = {name: value for name, value in vars(self).items() if name != "fits"}
        return {**own, "laws": laws}


def best_mixtures(
    source: Source,
    targets: Mapping[str, float] | None = None,
    options: Options | None = None,
    **changes: Any,
) -> tuple[BestMixture, ...]:
    """The best mixture at each size and budget of a table with the columns `share_NAME` and
    `loss_NAME` of several sources, by growing compute. `targets` weigh the losses; None weighs all
    alike. Raises InputError, and WorkError as `fit_law` does.

    Each loss is c + k exp(sum t r) with k > 0, so that the mean is convex in the shares r, and its
    minimum over the simplex is found by descent with multiplied steps (exponentiated gradient)."""
    table = as_table(source)
    frame = table.frame
    names = [name for name in sources_of(frame) if f"loss_{name}" in frame]
    if len(names) < 2:
        raise InputError(
            f"{table.path} has not the columns share_NAME and loss_NAME of two sources or more",
            "measure them: llmscale sweep with a table [data.mixture.NAME] for each source",
        )
    weights = _weights(names, targets)
    options = replace(options or Options(), holdout="none", diagnostics=False, **changes)
    found = []
    for (params, tokens), rows in frame.groupby(["params", "tokens"]):
        part = table.select(frame.index.isin(rows.index))
        fits = {name: _fit(part, name, options) for name in names}
        found.append(_best(part.frame, fits, weights, params, tokens))
    return tuple(sorted(found, key=lambda one: one.params * one.tokens))


def _weights(names: list[str], targets: Mapping[str, float] | None) -> dict[str, float]:
    """What each loss counts, adding up to 1."""
    given = dict.fromkeys(names, 1.0) if targets is None else dict(targets)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is no source of the table", f"its sources are {listed(names)}"
        )
    total = sum(given.values())
    if not total > 0 or min(given.values()) < 0:
        raise InputError(
            f"the targets {listed(list(map(str, given.values())))} cannot weigh losses",
            "give numbers that are not negative, one of them above zero",
        )
    return {name: given.get(name, 0.0) / total for name in names}


def _fit(part: RunTable, name: str, options: Options) -> Fit:
    """The law of the loss of one source."""
    loss = pd.to_numeric(part.frame[f"loss_{name}"], errors="coerce")
    if not (loss > 0).all():
        raise InputError(
            f"loss_{name} is no positive number in {int((~(loss > 0)).sum())} of "
            f"{len(part.frame)} runs",
            "train these runs again, or leave them out with --where",
        )
    return fit_law(replace(part, frame=part.frame.assign(loss=loss)), "mixture", options)


def _best(
    frame: pd.DataFrame,
    fits: dict[str, Fit],
    weights: dict[str, float],
    params: float,
    tokens: float,
) -> BestMixture:
    sources = sources_of(frame)
    shares_RM = frame[[SHARE + name for name in sources]].to_numpy(dtype=float)
    measured_R = sum(weights[name] * frame[f"loss_{name}"].to_numpy(float) for name in fits)
    lowest = int(np.argmin(measured_R))
    target_I = np.array([weights[name] for name in fits])
    point_IK = np.array([list(fit.law.coefficients().values()) for fit in fits.values()])
    best_M, loss = _lowest(point_IK[None], target_I)
    intervals: dict[str, tuple[float, float]] = {}
    loss_interval = None
    refits = [fit.replicates for fit in fits.values()]
    if all(len(one) for one in refits):
        count = min(len(one) for one in refits)
        drawn_BIK = np.stack([one[:count] for one in refits], axis=1)
        drawn_BM, losses_B = _lowest(drawn_BIK, target_I)
        level = next(iter(fits.values())).level
        ends = [(1 - level) / 2, (1 + level) / 2]
        for number, name in enumerate(sources):
            low, high = np.quantile(drawn_BM[:, number], ends)
            intervals[name] = (float(low), float(high))
        low, high = np.quantile(losses_B, ends)
        loss_interval = (float(low), float(high))
    return BestMixture(
        float(params),
        float(tokens),
        weights,
        dict(zip(sources, best_M[0].tolist(), strict=True)),
        intervals,
        float(loss[0]),
        loss_interval,
        float(measured_R[lowest]),
        dict(zip(sources, shares_RM[lowest].tolist(), strict=True)),
        fits,
    )


def _lowest(coefficients_BIK: Array, target_I: Array) -> tuple[Array, Array]:
    """The shares (B, M) of the lowest mean loss, and that loss (B,), for B draws of the
    coefficients c, k and t of the laws of I losses."""
    c_BI, k_BI = coefficients_BIK[:, :, 0], coefficients_BIK[:, :, 1]
    slopes_BIM = coefficients_BIK[:, :, 2:]
    last = np.zeros((*slopes_BIM.shape[:2], 1))
    slopes_BIM = np.concatenate([slopes_BIM, last], axis=2)
    # By how much the gradient can change: the curvature at the vertex where it is largest.
    top_BI = k_BI * np.exp(slopes_BIM.max(axis=2)) * np.square(slopes_BIM).max(axis=2)
    rate_B = 1.0 / np.maximum((target_I * top_BI).sum(axis=1), 1e-9)
    shares_BM = np.full((len(c_BI), slopes_BIM.shape[2]), 1.0 / slopes_BIM.shape[2])
    for _ in range(_STEPS):
        pull_BI = target_I * k_BI * np.exp((slopes_BIM * shares_BM[:, None]).sum(axis=2))
        gradient_BM = (pull_BI[:, :, None] * slopes_BIM).sum(axis=1)
        gradient_BM -= gradient_BM.min(axis=1, keepdims=True)
        next_BM = shares_BM * np.exp(-rate_B[:, None] * gradient_BM)
        next_BM /= next_BM.sum(axis=1, keepdims=True)
        moved, shares_BM = np.abs(next_BM - shares_BM).max(), next_BM
        if moved < _STILL:
            break
    exponent_BI = (slopes_BIM * shares_BM[:, None]).sum(axis=2)
    return shares_BM, (target_I * (c_BI + k_BI * np.exp(exponent_BI))).sum(axis=1)

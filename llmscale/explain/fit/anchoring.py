"""`anchored` for a table of runs: found by its own estimator, not as the lowest objective over all
runs."""

from dataclasses import replace

import numpy as np

from llmscale.errors import InputError, Note, both
from llmscale.explain.estimation.anchor import fit_anchor
from llmscale.explain.estimation.anchor_prior import PUBLISHED
from llmscale.explain.estimation.design_notes import design_notes
from llmscale.explain.estimation.evaluation import weighed_by_noise
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.reach import reach_of
from llmscale.explain.estimation.result import (
    Fit,
    origin_of,
    percentiles,
    run_weights,
    untold,
)
from llmscale.explain.laws import Array
from llmscale.explain.laws.anchored import Anchored
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.table import RunTable
from llmscale.notes.fitting import FLAT_DIRECTION

_NOT_NARROWED = 0.8
"""Of a prior's standard deviation: exponents that vary by more from refit to refit are not told."""
_OWN, _TIE = PUBLISHED.exponent_spread**-2, PUBLISHED.apart**-2
_OF_ONE_EXPONENT = ((_OWN + _TIE) / (_OWN * (_OWN + 2.0 * _TIE))) ** 0.5
"""What is known of either exponent, by itself and by how far it may be from the other."""
_PRIOR_SPREAD = {
    "gamma": PUBLISHED.frontier_spread,
    "alpha": _OF_ONE_EXPONENT,
    "beta": _OF_ONE_EXPONENT,
    "k": PUBLISHED.power_spread,
}
"""Standard deviations of logarithms."""


def anchored(table: RunTable, options: Options, notes: tuple[Note, ...]) -> Fit:
    """The fit of `anchored` to runs whose rows are in order. Raises InputError for options that it
    has no use for."""
    check_options(options)
    N, D, loss = (table.frame[name].to_numpy(dtype=float) for name in ("params", "tokens", "loss"))
    start = Chinchilla.surface([N, D], loss)
    theta = start.starts(1)
    (table,), said = weighed_by_noise(start, theta[0], table, law="Chinchilla's law")
    found = fit_anchor(
        N,
        D,
        loss,
        run_weights(table),
        start.coefficients(theta)[0],
        runs=int(table.frame["run_id"].nunique()),
        draws=options.bootstrap,
        seed=options.seed,
    )
    notes += _untold(found.law, found.replicates, options.level)
    notes += _as_published(found.law, found.replicates)
    notes += tuple(design_notes(found.law, table, options))
    miss = np.log(found.law.loss(N, D)) - np.log(loss)
    return Fit(
        law=found.law,
        options=options,
        origin=origin_of(table),
        reach=replace(
            reach_of(found.law, table, options.constraints.unknowns(found.law)),
            misfit=found.scale,
            off=found.off,
        ),
        objective=float(options.loss_function.total(miss, run_weights(table))),
        replicates=found.replicates,
        noise=found.noise,
        bootstrap_method="posterior" if options.bootstrap else "none",
        notes=(*table.notes, *notes, *said),
        runs=table,
    )


def _untold(law: Anchored, replicates: Array, level: float) -> tuple[Note, ...]:
    """What to say of coefficients that neither the runs tell nor published laws."""
    if not len(replicates):
        return ()
    lows, highs = percentiles(replicates, level)
    ends = zip(lows.tolist(), highs.tolist(), strict=True)
    names = untold(law, dict(zip(law.coefficient_names(), ends, strict=True)))
    if not names:
        return ()
    message = (
        f"these runs do not tell {both(names)}, nor do published laws: the values shown are among "
        "many that fit alike. Only their joint effect on the loss is known"
    )
    return (FLAT_DIRECTION.note(message),)


def _as_published(law: Anchored, replicates: Array) -> tuple[Note, ...]:
    """What to say of exponents that these runs hardly narrow, whose values are the prior's."""
    if not len(replicates):
        return ()
    with np.errstate(all="ignore"):
        spread = np.log(replicates).std(axis=0)
    names = [
        name
        for name, value in zip(law.coefficient_names(), spread.tolist(), strict=True)
        if value > _NOT_NARROWED * _PRIOR_SPREAD.get(name, np.inf)
    ]
    if not names:
        return ()
    message = (
        f"{both(names)} {'is' if len(names) == 1 else 'are'} about what published laws have: these "
        "runs hardly narrow them. Add sizes and budgets around the best of each"
    )
    return (FLAT_DIRECTION.note(message),)


def check_options(options: Options) -> None:
    """Raise InputError for an objective or intervals that `anchored` is not fitted with."""
    usual = Options()
    for name in ("objective", "delta", "intervals"):
        if getattr(options, name) != getattr(usual, name):
            raise InputError(
                f"anchored has an objective and intervals of its own, and makes no use of --{name}",
                f"leave --{name} out, or name another law: --law chinchilla",
            )

"""`anchored` for a table of runs: found by its own estimator, not as the lowest objective over all
runs."""

from dataclasses import replace

import numpy as np

from llmscale.errors import InputError, Note
from llmscale.explain.estimation.anchor import fit_anchor
from llmscale.explain.estimation.evaluation import weighed_by_noise
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.reach import reach_of
from llmscale.explain.estimation.result import Fit, origin_of, run_weights
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.table import RunTable


def anchored(table: RunTable, options: Options, notes: tuple[Note, ...]) -> Fit:
    """The fit of `anchored` to runs whose rows are in order. Raises InputError for options that it
    has no use for."""
    check_options(options)
    N, D, loss = (table.frame[name].to_numpy(dtype=float) for name in ("params", "tokens", "loss"))
    start = Chinchilla.surface([N, D], loss)
    theta = start.starts(1)
    (table,), said = weighed_by_noise(start, theta[0], table)
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


def check_options(options: Options) -> None:
    """Raise InputError for an objective or intervals that `anchored` is not fitted with."""
    usual = Options()
    for name in ("objective", "delta", "intervals"):
        if getattr(options, name) != getattr(usual, name):
            raise InputError(
                f"anchored has an objective and intervals of its own, and makes no use of --{name}",
                f"leave --{name} out, or name another law: --law chinchilla",
            )

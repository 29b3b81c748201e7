"""What the budgets of a table say of the best size by themselves, next to the law of a fit."""

import numpy as np

from llmscale.errors import InputError
from llmscale.explain.allocation import Allocation, allocate
from llmscale.explain.estimation.lowest_points import LowestPoints, errors_in_half
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit

_LEAST_BUDGETS = 3
"""A power law goes through two lowest points exactly."""
_REFITS = 200
_ANY_FLOPS = 1e20
"""Laws have an optimum at every budget, or at none."""


def lowest_points(fit: Fit) -> LowestPoints | None:
    """The lowest points of the budgets of the fit's table, or None if fewer than 3 bracket theirs;
    of a kept fit without its runs those that were kept with it."""
    if fit.runs is None or fit.law.optimal(_ANY_FLOPS) is None:
        return fit.lowest_points
    options = Options(bootstrap=min(fit.options.bootstrap, _REFITS), seed=fit.options.seed)
    try:
        found = allocate(fit.runs, "isoflop", options, law=fit.law)
    except InputError:
        return None
    if int(found.budgets["used"].sum()) < _LEAST_BUDGETS or not 0 < found.a < 1:
        return None
    return _less_bias(found)


def _less_bias(found: Allocation) -> LowestPoints:
    """The lowest points and the power laws through them, by C = 6ND, less the method's bias."""
    used = found.budgets[found.budgets["used"]]
    flops = used["flops"].to_numpy()
    bias_K, bias_a, bias_log_params = np.zeros(len(used)), 0.0, 0.0
    if found.bias is not None:
        off, truth = found.bias.found, found.bias.truth
        bias_K = np.log(off.params(flops) / truth.params(flops))
        bias_a, bias_log_params = off.a - truth.a, off.log_params - truth.log_params
    lines = np.vstack([[found.frontier.a, found.frontier.log_params], found.refits])
    a_B = lines[:, 0] - bias_a
    # The table's own C = k N D is k/6 times 6ND.
    times = np.log(found.frontier.flops_factor / 6.0)
    halves = 2.0 * errors_in_half(found.level)
    return LowestPoints(
        log_flops_K=np.log(flops) - times,
        log_params_K=np.log(used["params"].to_numpy()) - bias_K,
        error_K=np.log((used["high"] / used["low"]).to_numpy(dtype=float)) / halves,
        a_B=a_B,
        log_params_B=lines[:, 1] - bias_log_params + a_B * times,
    )

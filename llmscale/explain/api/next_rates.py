"""The learning rate of the runs that `llmscale.next_runs` proposes: whether it was ever tried at
such a size, and runs that try it, within the budget."""

from dataclasses import replace

from llmscale.explain.design.learning_rates import Trials, rates_of, trials_of
from llmscale.explain.design.proposal import NextRuns
from llmscale.explain.design.propose import Choice
from llmscale.explain.design.stops import NothingToBuy

_TRIES = 6
"""How often the part of the budget that is for runs is halved in."""


def with_rates(choice: Choice, found: NextRuns, *, try_them: bool) -> NextRuns:
    """What `choice` has `found`, with what is not known of its learning rate; to `try_them` with
    trials of the largest size, and runs for what these leave of the budget."""
    rates = rates_of(choice.runs.frame)
    trials = _trials(choice, found)
    if trials is None or (rates is None and not try_them):
        return found
    if not try_them:
        said = f"{trials.rates.said(trials.size)}: --learning-rates tries it"
        return replace(found, rate=said)
    both = _within_budget(choice)
    if both is None:
        said = (
            f"{trials.rates.said(trials.size)}. To try it takes {trials.flops:.2g} FLOPs, which "
            "leave too little for runs: give a larger --budget, or smaller --sizes"
        )
        return replace(found, rate=said)
    assert both.trials is not None
    return replace(both, rate=both.trials.said(both.budget))


def _trials(choice: Choice, found: NextRuns) -> Trials | None:
    cooldown = choice.sweep.cooldown if choice.sweep else None
    return trials_of(found.runs, choice.wanted.ratios[0], rates_of(choice.runs.frame), cooldown)


def _within_budget(choice: Choice) -> NextRuns | None:
    """Runs and the trials of their largest size that the budget pays together, with as much for the
    runs as there can be; None if none are found. The fewer FLOPs runs may cost, the smaller they
    are, and the cheaper their trials."""
    budget = choice.wanted.budget
    best, low, high = None, 0.0, budget
    for _ in range(_TRIES):
        middle = 0.5 * (low + high)
        found = _with_trials(choice, middle)
        if found is None:
            high = middle
        else:
            best, low = found, middle
    return best


def _with_trials(choice: Choice, budget: float) -> NextRuns | None:
    """Runs for this much and their trials; None if both cost more than there is, or are none."""
    part = replace(choice, wanted=replace(choice.wanted, budget=budget))
    try:
        found = part.propose()
    except NothingToBuy:
        return None
    trials = _trials(part, found)
    total = choice.wanted.budget
    if trials is None or found.flops + trials.flops > total * (1 + 1e-9):
        return None
    return replace(part, trials=trials, together=total).propose()

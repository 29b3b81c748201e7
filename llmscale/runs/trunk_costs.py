"""What runs cost that begin alike: a trunk once, and of the others only their cooldowns.

`measure/sweep/trunks.py` arranges real runs so; this is the same arithmetic in tokens, for plans of
runs that are not asked for yet."""

from collections.abc import Iterable


def tokens_trained(budgets: Iterable[float], cooldown: float, saved: float = 0.0) -> float:
    """Tokens that are trained for runs of one size and seed of these budgets.

    Each is trained at a constant rate and cools down over its last share `cooldown`. The longest is
    the trunk, of which the first `saved` tokens are there already; the others branch off it, and
    those that would do so within these tokens have a trunk of their own."""
    constant, total, waiting = 1.0 - cooldown, 0.0, sorted(set(budgets))
    while waiting:
        *others, trunk = waiting
        first = saved if saved <= constant * trunk else 0.0
        # Before the first token that is trained now, no state is there to branch off.
        branches = [one for one in others if constant * one >= first]
        total += trunk - first + cooldown * sum(branches)
        waiting, saved = [one for one in others if constant * one < first], 0.0
    return total

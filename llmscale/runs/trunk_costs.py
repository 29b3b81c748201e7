"""What runs cost that begin alike: a trunk once, and of the others only their cooldowns.

`measure/sweep/trunks.py` arranges real runs so; this is the same arithmetic in tokens, for plans of
runs that are not asked for yet."""

from collections.abc import Iterable


def tokens_trained(budgets: Iterable[float], cooldown: float, saved: float = 0.0) -> float:
    """Tokens that are trained for runs of one size and seed of these budgets.

    Each is trained at a constant rate and cools down over its last share `cooldown`. The longest is
    the trunk, of which the first `saved` tokens are there already; the others branch off it, if
    they do so after those."""
    lengths = sorted(set(budgets))
    if not lengths:
        return 0.0
    constant = 1.0 - cooldown
    *others, trunk = lengths
    first = saved if saved <= constant * trunk else 0.0
    branches = (
        cooldown * one if constant * one >= first else one  # before that no state is kept
        for one in others
    )
    return trunk - first + sum(branches)

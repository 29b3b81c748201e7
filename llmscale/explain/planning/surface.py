"""The loss in N and D that plans are made on: a law, or all refits of it at once, with as much
text as there is."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from llmscale.explain.laws import Array, Law
from llmscale.explain.search import crossing, first_crossing, lowest_of_valleys
from llmscale.quantity import MOST

R_D_STAR, R_N_STAR = 15.39, 5.31
"""After how many repetitions new passes over text, and parameters beyond what it asks for, are
worth 1/e of new ones (Muennighoff et al. 2023: R_D* and R_N*)."""
UNIQUE = "unique_tokens"
IN_TWO = ("params", "tokens")
OF_TEXT = (*IN_TWO, UNIQUE)
"""What a law takes that knows what repeated text is worth."""
MOST_TIMES = 1e4
"""A size is not asked for the tokens that reach a loss beyond so many times those that its share of
the compute pays for."""
_STEPS = 96
"""Points at which more and more tokens are tried first."""


@dataclass(frozen=True, eq=False)
class LossSurface:
    """L(N, D) by a law in both, or by its refits, whose coefficients are columns (B, 1).

    With `unique` tokens, more are passes over the same text: by a law that takes unique_tokens as
    its own term has it, and by any other as Muennighoff et al. (2023) measured it."""

    law: Law
    unique: float | None = None

    @property
    def knows_text(self) -> bool:
        """Whether the law says itself what repeated text is worth."""
        return self.law.inputs == OF_TEXT

    def loss(self, N: Any, D: Any) -> Any:
        """Nats per token of N parameters trained on D tokens."""
        return self.law.loss(*self.inputs(N, D).values())

    def inputs(self, N: Any, D: Any) -> dict[str, Any]:
        """What the law is asked for, by column: N and D, or what they are worth, N' and D', if text
        is repeated and the law does not know what that is."""
        if self.knows_text:
            unique = D if self.unique is None else np.minimum(D, self.unique)
            return {"params": N, "tokens": D, UNIQUE: unique}
        if self.unique is None:
            return {"params": N, "tokens": D}
        # U_D + U_D R_D* (1 - exp(-R_D/R_D*)), R_D = D/U_D - 1, and N' alike from U_N.
        worth_N = _worth(N, self.size_of_text, R_N_STAR)
        return {"params": worth_N, "tokens": _worth(D, self.unique, R_D_STAR)}

    @cached_property
    def size_of_text(self) -> Any:
        """U_N: the size for which the unique tokens, once, are the compute-optimal number."""
        assert self.unique is not None
        once = replace(self, unique=None)
        unique = self.unique

        def too_few(log_C: Array) -> Array:
            return np.log(unique) - np.log(once.best(np.exp(log_C))[1])

        low = np.log(6.0 * unique)
        shape = np.shape(once.best(6.0 * unique)[1])
        high = max(low, np.log(float(MOST)))
        log_C = crossing(too_few, np.full(shape, low), np.full(shape, high))
        return np.exp(log_C) / (6.0 * unique)

    def best(self, C: Any) -> tuple[Any, Any]:
        """N and D of the lowest loss at C = 6ND."""
        if self.unique is None and not self.knows_text:
            best = self.law.optimal(C)
            assert best is not None
            return best
        total = np.log(np.asarray(C, dtype=float) / 6.0)
        middle = np.exp(0.5 * total)
        shape = np.shape(self.loss(middle, middle))

        def loss(log_N: Array) -> Any:
            return self.loss(np.exp(log_N), np.exp(total - log_N))

        # Where nothing is left to gain of the text, the loss is flat on both sides of its valley.
        log_N = lowest_of_valleys(loss, np.zeros(shape), total)
        return np.exp(log_N), np.exp(total - log_N)

    def lowest_loss(self, C: Any) -> Any:
        """The loss of the best size and tokens at C = 6ND."""
        return self.loss(*self.best(C))

    def tokens_for(self, N: Any, loss: Any, at_least: Any) -> Array:
        """The fewest tokens with which N parameters reach a loss, `at_least` so many: (B, 1), with
        infinity if none do."""
        first_B1 = np.atleast_2d(np.log(np.asarray(at_least, dtype=float)))
        log_D_BX = first_B1 + np.linspace(0.0, np.log(MOST_TIMES), _STEPS)
        log_D_BX = np.minimum(log_D_BX, np.log(float(MOST)))
        found = first_crossing(lambda log_D: self.loss(N, np.exp(log_D)) - loss, log_D_BX)
        return np.exp(found)

    def rises_by_tokens(self, N: float, D: float, times: float) -> bool:
        """Whether more tokens, up to so many times D, give N parameters a higher loss: then the law
        does not hold there."""
        log_D = np.log(D) + np.linspace(0.0, np.log(times), _STEPS)
        losses = np.ravel(self.loss(N, np.exp(log_D)))
        return bool((np.diff(losses) > 0).any())


def _worth(amount: Any, unique: Any, star: float) -> Any:
    """How much new text, or how many parameters that it asks for, an amount beyond is worth."""
    repeats = np.maximum(amount / unique - 1.0, 0.0)
    return np.minimum(amount, unique) - unique * star * np.expm1(-repeats / star)

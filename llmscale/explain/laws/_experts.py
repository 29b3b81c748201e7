"""What laws of mixtures of experts share: how many experts a number of them is worth."""

from typing import Any


def effective_experts(experts: Any, start: Any, most: Any) -> Any:
    """E_hat of Clark et al. 2022, eq. 5: E between about `start`, for one expert, and `most`.

    1/E_hat = 1/(E - 1 + 1/(1/start - 1/most)) + 1/most."""
    return 1.0 / (1.0 / (experts - 1.0 + 1.0 / (1.0 / start - 1.0 / most)) + 1.0 / most)

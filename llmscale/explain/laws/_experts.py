"""What laws of mixtures of experts share: how many experts a number of them is worth."""

from typing import Any

import numpy as np


def effective_experts(experts: Any, start: Any, most: Any) -> Any:
    """E_hat of Clark et al. 2022: E between about `start`, for one expert, and `most`.

    1/E_hat = 1/(E - 1 + 1/(1/start - 1/most)) + 1/most."""
    # By numpy, for which start = most is no error but infinity.
    of_one = np.divide(1.0, 1.0 / start - 1.0 / most)
    return 1.0 / (1.0 / (experts - 1.0 + of_one) + 1.0 / most)

"""What published laws say of the coefficients of `anchored`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prior:
    """Where published laws lie: means and standard deviations, exponents in logarithms.

    Of alpha and beta: Hoffmann et al. 2022 (refitted by Besiroglu et al. 2024), Gadre et al. 2024,
    Muennighoff et al. 2023 and Llama 3 give 0.29 to 0.38. A frontier of C has about half the
    exponent, alpha beta/(alpha + beta), and is flatter where it was followed over many decades."""

    exponent: float = 0.33
    exponent_spread: float = 0.35
    apart: float = 0.3
    """Of ln alpha - ln beta."""
    share: float = 0.72
    share_spread: float = 0.4
    """Of the shape's floor in the lowest loss."""
    power_spread: float = 0.7
    """Of ln k."""
    balance_spread: float = 2.0
    """Of the logarithm of either term over the other at the middle of the runs: near the optimum
    they are of one size."""
    frontier: float = 0.12
    frontier_spread: float = 0.35
    """Of gamma."""
    floor: float = 0.6
    floor_spread: float = 0.2
    """Of the frontier's floor in the loss at the largest budget."""


PUBLISHED = Prior()

"""The shape of the loss around the best runs of each budget, of which `anchored` is made."""

import numpy as np
from scipy.optimize import least_squares

from llmscale.explain.estimation.anchor_noise import Noise, counting, improbable
from llmscale.explain.estimation.anchor_prior import Prior
from llmscale.explain.laws import Array
from llmscale.explain.laws.anchored import best_size


class Shape:
    """ln of E + (A/N^alpha + B/D^beta)^k at R rows, theta = (ln E, ln of either term at the middle
    of the table, ln alpha, ln beta, ln k)."""

    def __init__(self, log_N: Array, log_D: Array, log_loss: Array, prior: Prior) -> None:
        self.log_N, self.log_D, self.log_loss, self.prior = log_N, log_D, log_loss, prior
        self.middle = float(log_N.mean()), float(log_D.mean())
        self.lowest = float(log_loss.min())

    def theta(self, start: Array) -> Array:
        """From E, A, B, alpha and beta of Chinchilla's law, kept off its bounds."""
        E, A, B, alpha, beta = np.maximum(start, 1e-12).tolist()
        E = max(E, 0.05 * float(np.exp(self.lowest)))
        at_middle = (np.log(A) - alpha * self.middle[0], np.log(B) - beta * self.middle[1])
        exponents = np.log(np.clip([alpha, beta], 0.02, 2.0))
        return np.array([np.log(E), *np.maximum(at_middle, -30.0), *exponents, 0.0])

    def value(self, theta: Array) -> Array:
        return self._parts(theta, self.log_N, self.log_D)[0]

    def at_best(self, theta: Array, log_C: Array) -> Array:
        """ln of the lowest value at each C = 6ND."""
        alpha, beta = np.exp(theta[3]), np.exp(theta[4])
        log_A, log_B = theta[1] + alpha * self.middle[0], theta[2] + beta * self.middle[1]
        log_ND = log_C - np.log(6.0)
        log_N = best_size(log_A, log_B, alpha, beta, log_ND)
        return self._parts(theta, log_N, log_ND - log_N)[0]

    def most_probable(
        self, theta: Array, weight: Array, scale: float, *, free_power: bool
    ) -> Array:
        free = 6 if free_power else 5
        root = np.sqrt(weight)

        def whole(part: Array) -> Array:
            return np.concatenate([part, theta[free:]])

        def residuals(part: Array) -> Array:
            miss = (self.value(whole(part)) - self.log_loss) / scale
            off = np.sign(miss) * np.sqrt(2.0 * improbable(miss))
            return np.concatenate([root * off, self._misses(whole(part))])

        def jacobian(part: Array) -> Array:
            value, slope = self._slope(whole(part))
            miss = (value - self.log_loss) / scale
            # d sqrt(2 rho)/dr = r counting(r)/sqrt(2 rho), 1 at r = 0.
            off = np.sqrt(2.0 * improbable(miss))
            rate = np.abs(miss) * counting(miss)
            steep = root * np.divide(rate, off, out=np.ones_like(off), where=off > 1e-8) / scale
            return np.vstack([steep[:, None] * slope, self._prior_slope(whole(part))])[:, :free]

        with np.errstate(all="ignore"):
            found = least_squares(residuals, theta[:free], jacobian, max_nfev=200)
        if not np.isfinite(found.x).all():
            return theta
        return whole(found.x)

    def draws(
        self, theta: Array, weight: Array, noise: Noise, count: int, rng: np.random.Generator
    ) -> Array:
        """About theta, as the curvature of the posterior and what is known of the noise have it:
        (count, 6)."""
        by_runs, by_prior = self._precision(theta, weight, noise.scale)
        drawn = rng.standard_normal((count, len(theta)))
        values, vectors = np.linalg.eigh(by_runs + by_prior)
        spread = vectors / np.sqrt(np.maximum(values, 1e-6 * values.max()))
        return np.asarray(theta + noise.factors(count, rng)[:, None] * (drawn @ spread.T))

    def told(self, theta: Array, weight: Array, scale: float) -> float:
        """How many coefficients the runs tell, and not the prior."""
        by_runs, by_prior = self._precision(theta, weight, scale)
        return float(np.trace(np.linalg.solve(by_runs + by_prior, by_runs)))

    def brought(self, theta: Array, log_C: Array) -> Array:
        """ln of the loss that each run would have had at the best of its budget."""
        return self.log_loss - self.value(theta) + self.at_best(theta, log_C)

    def _precision(self, theta: Array, weight: Array, scale: float) -> tuple[Array, Array]:
        """What the runs know of theta, and what the prior knows."""
        value, slope = self._slope(theta)
        inside = weight * counting((value - self.log_loss) / scale)
        prior = self._prior_slope(theta)
        return (inside[:, None] * slope).T @ slope / scale**2, prior.T @ prior

    def coefficients(self, theta_B6: Array) -> Array:
        """N_S, D_S, alpha, beta and k, with the floor as the unit: (B, 5)."""
        alpha, beta, k = np.exp(theta_B6[:, 3:]).T
        log_a = theta_B6[:, 1] + alpha * self.middle[0] - theta_B6[:, 0] / k
        log_b = theta_B6[:, 2] + beta * self.middle[1] - theta_B6[:, 0] / k
        with np.errstate(over="ignore"):
            N_S, D_S = np.exp(log_a / alpha), np.exp(log_b / beta)
        return np.stack([N_S, D_S, alpha, beta, k], axis=1)

    def _parts(self, theta: Array, log_N: Array, log_D: Array) -> tuple[Array, ...]:
        """ln of the value, the shares of the floor and the power in it, of either term in the
        power, and ln of both terms' sum."""
        alpha, beta, k = np.exp(theta[3]), np.exp(theta[4]), np.exp(theta[5])
        one = theta[1] - alpha * (log_N - self.middle[0])
        other = theta[2] - beta * (log_D - self.middle[1])
        both = np.logaddexp(one, other)
        value = np.logaddexp(theta[0], k * both)
        power = np.exp(k * both - value)
        return value, power, np.exp(one - both), both

    def _slope(self, theta: Array) -> tuple[Array, Array]:
        """ln of the value (R,), and its gradient in theta (R, 6)."""
        value, power, one, both = self._parts(theta, self.log_N, self.log_D)
        alpha, beta, k = np.exp(theta[3]), np.exp(theta[4]), np.exp(theta[5])
        first, second = power * k * one, power * k * (1.0 - one)
        slope = [
            1.0 - power,
            first,
            second,
            -first * alpha * (self.log_N - self.middle[0]),
            -second * beta * (self.log_D - self.middle[1]),
            power * k * both,
        ]
        return value, np.stack(slope, axis=1)

    def _misses(self, theta: Array) -> Array:
        """How far theta is from the prior's means, in its standard deviations."""
        prior, usual = self.prior, np.log(self.prior.exponent)
        share = np.exp(np.minimum(theta[0] - self.lowest, 5.0))
        misses = [
            (theta[3] - usual) / prior.exponent_spread,
            (theta[4] - usual) / prior.exponent_spread,
            (theta[3] - theta[4]) / prior.apart,
            (share - prior.share) / prior.share_spread,
            theta[5] / prior.power_spread,
            (theta[1] - theta[2]) / prior.balance_spread,
        ]
        return np.array(misses)

    def _prior_slope(self, theta: Array) -> Array:
        prior, slope = self.prior, np.zeros((6, 6))
        slope[0, 3] = slope[1, 4] = 1.0 / prior.exponent_spread
        slope[2, 3], slope[2, 4] = 1.0 / prior.apart, -1.0 / prior.apart
        slope[3, 0] = np.exp(np.minimum(theta[0] - self.lowest, 5.0)) / prior.share_spread
        slope[4, 5] = 1.0 / prior.power_spread
        slope[5, 1], slope[5, 2] = 1.0 / prior.balance_spread, -1.0 / prior.balance_spread
        return slope

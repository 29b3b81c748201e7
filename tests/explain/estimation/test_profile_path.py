"""Profiles against an independent minimiser: scipy, from many places, with coordinates and code of
its own.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from llmscale.explain.estimation.profile import Profile, profile
from llmscale.explain.fit import fit_law

DELTA = 1e-3
LAWS = {"chinchilla": ("E", "A", "B", "alpha", "beta"), "power-floor": ("E", "A", "alpha")}


def ladder(seed: int, law: str, runs: int, noise: float, lowest: float = 1e5) -> pd.DataFrame:
    """Sizes a factor of about three apart; for Chinchilla each at several tokens a parameter."""
    rng = np.random.default_rng(seed)
    if law == "power-floor":
        N = np.geomspace(lowest, 100 * lowest, runs)
        loss = 1.8 + 60 / N**0.3
        D = np.full(runs, 1e9)
    else:
        ratios = np.array([5.0, 10.0, 20.0, 40.0, 80.0])[: 3 if runs < 20 else 5]
        sizes = np.geomspace(lowest, 30 * lowest, runs // len(ratios))
        N, ratio = (values.ravel() for values in np.meshgrid(sizes, ratios))
        D = N * ratio
        loss = 1.8 + 120 / N**0.36 + 300 / D**0.31
    return pd.DataFrame(
        {"params": N, "tokens": D, "loss": loss * np.exp(noise * rng.standard_normal(len(N)))}
    )


@dataclass(frozen=True)
class Independent:
    """The lowest sum of Huber's rho with one coefficient held, by BFGS in logarithms of
    everything.
    """

    table: pd.DataFrame
    law: str

    def lowest(self, name: str, value: float, starts: int, *near: dict[str, float]) -> float:
        names = LAWS[self.law]
        held = names.index(name)
        free = [k for k in range(len(names)) if k != held]
        log_x = [np.log(self.table[column].to_numpy()) for column in ("params", "tokens")][
            : len(names) // 2
        ]
        means = [x.mean() for x in log_x]
        log_loss = np.log(self.table["loss"].to_numpy())
        terms = len(log_x)

        def objective(u: np.ndarray, delta: float) -> tuple[float, np.ndarray]:
            # Amplitudes stand for their terms at the middle of the runs, but for the one that is
            # held.
            full = np.zeros(len(names))
            full[free] = np.clip(u, -80, 80)
            full[held] = np.log(max(value, 1e-300))
            exponent = np.exp(full[1 + terms :])
            rows = [np.full(len(log_loss), full[0])]
            slopes = []
            for k in range(terms):
                centre = 0.0 if held == 1 + k else means[k]
                slopes.append(-exponent[k] * (log_x[k] - centre))
                rows.append(full[1 + k] + slopes[k])
            stack = np.stack(rows)
            top = stack.max(axis=0)
            parts = np.exp(stack - top)
            residual = top + np.log(parts.sum(axis=0)) - log_loss
            share = parts / parts.sum(axis=0)
            clipped = np.clip(residual, -delta, delta)
            gradient = np.concatenate(
                [share @ clipped, [(share[1 + k] * slopes[k]) @ clipped for k in range(terms)]]
            )
            return float((clipped * (residual - 0.5 * clipped)).sum()), gradient[free]

        rng = np.random.default_rng(0)
        places = []
        for _ in range(starts):
            exponents = np.exp(rng.uniform(np.log(0.03), np.log(1.5), terms))
            floor = rng.uniform(0.02, 0.98) * self.table["loss"].min()
            left = (
                self.table["loss"].mean() - min(floor, 0.95 * self.table["loss"].mean())
            ) / terms
            places.append(
                np.array(
                    [
                        np.log(floor),
                        *np.log(left * rng.uniform(0.3, 1.7, terms)),
                        *np.log(exponents),
                    ]
                )
            )
        for coefficients in near:
            own = np.array([np.log(max(coefficients[key], 1e-12)) for key in names])
            own[1 : 1 + terms] -= np.exp(own[1 + terms :]) * means
            places.append(own)
        best = np.inf
        loose, close = (0.03, DELTA, DELTA), (DELTA, DELTA, DELTA)
        paths = [(place, loose) for place in places]
        paths += [(place, close) for place in places[starts:]]
        for place, deltas in paths:
            u = place[free]
            for delta in deltas:
                if not np.isfinite(u).all():
                    break
                u = minimize(
                    objective, u, (delta,), jac=True, method="BFGS", options={"gtol": 1e-11}
                ).x
            best = min(best, objective(u, DELTA)[0])
        return best


def check(
    seed: int, law: str, runs: int, noise: float, names: tuple[str, ...], values: int, starts: int
) -> None:
    """A profile is nowhere above what the independent minimiser reaches, and its interval ends
    where that says.
    """
    table = ladder(seed, law, runs, noise)
    fit = fit_law(table, law, bootstrap=0, holdout="none", diagnostics=False)
    other = Independent(table, law)
    near = fit.law.coefficients()
    for name in names:
        found = profile(fit, name)
        assert found.settled
        drawn = np.flatnonzero(
            (found.cost > 0) & (found.cost < 3 * found.threshold) & (found.values > 0)
        )
        for row in drawn[np.linspace(0, len(drawn) - 1, values).round().astype(int)]:
            reached = other.lowest(name, float(found.values[row]), starts, near)
            assert found.objective[row] <= reached * (1 + 1e-6) + 1e-12, (name, found.values[row])
        scale = 2 * (found.objective.max() - fit.objective) / found.cost.max()
        for end in (found.low, found.high):
            if not np.isfinite(end):
                continue
            # What a fit with the coefficient fixed found is a witness that BFGS may not find.
            there = fit_law(
                table, law, bootstrap=0, holdout="none", diagnostics=False, fix={name: end}
            ).law.coefficients()
            reached = other.lowest(name, max(end, 1e-9), starts, near, there)
            cost = 2 * (reached - fit.objective) / scale
            if end > 0:
                assert cost == pytest.approx(found.threshold, rel=0.02), (name, end)
            else:
                assert cost < found.threshold, (name, end)


@pytest.mark.parametrize(
    ("seed", "law", "runs", "noise", "name"),
    [
        (11, "chinchilla", 12, 0.01, "E"),
        (3, "chinchilla", 20, 0.004, "alpha"),
        (1, "power-floor", 14, 0.01, "A"),
    ],
)
def test_a_profile_is_nowhere_above_an_independent_minimiser(
    seed: int, law: str, runs: int, noise: float, name: str
) -> None:
    check(seed, law, runs, noise, (name,), values=3, starts=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_profiles_of_fifty_tables_are_nowhere_above_an_independent_minimiser(seed: int) -> None:
    law = "power-floor" if seed % 3 == 2 else "chinchilla"
    runs = (12, 15, 20, 30, 40)[seed % 5]
    noise = (0.002, 0.005, 0.01, 0.03)[seed % 4]
    check(seed, law, runs, noise, LAWS[law], values=6, starts=24)


def test_the_profile_of_a_floor_that_may_be_zero_is_smooth_and_reaches_it() -> None:
    """A ladder of twelve runs whose profile had a spike, and an interval that ended at 0.011, from
    bad valleys.
    """
    table = ladder(11, "chinchilla", 12, 0.01)
    fit = fit_law(table, "chinchilla", bootstrap=0, holdout="none", diagnostics=False)
    found = profile(fit, "E")
    assert found.settled
    assert found.low == found.values[0] == 0
    assert 0 < found.cost[0] < found.threshold
    assert spikes(found) == 0


def spikes(found: Profile) -> int:
    """Values that cost clearly more than both their neighbours."""
    least = 1.02 * found.cost + 0.02
    middle = found.cost[1:-1]
    return int(((middle > least[:-2]) & (middle > least[2:])).sum())

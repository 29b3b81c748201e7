"""The chooser of runs against designs whose answer is known in closed form."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscale.explain.design.batch import Prices, best_batch
from llmscale.explain.design.belief import Belief, from_draws
from llmscale.explain.design.prospects import Prospects
from llmscale.explain.laws import Array

RUNS, TARGETS, COEFFICIENTS = 7, 3, 4


@dataclass(frozen=True)
class Variance:
    """Of the targets: what an optimal design makes small."""

    belief: Belief

    @property
    def width(self) -> float:
        return self.belief.variance

    @cached_property
    def widths_with(self) -> Array:
        return self.belief.variance - self.belief.gains()

    def after(self, one: int) -> "Variance":
        return Variance(self.belief.after(one))


def linear_law(seed: int, noise: float = 0.3) -> Belief:
    generator = np.random.default_rng(seed)
    return Belief(
        generator.standard_normal((RUNS, COEFFICIENTS)),
        generator.standard_normal((TARGETS, COEFFICIENTS)),
        np.full(RUNS, noise),
    )


def posterior_variance(law: Belief, bought: list[int]) -> float:
    """Mean variance of the targets by the normal equations of Bayesian regression."""
    design = law.runs_spread[bought] / law.noise[bought, None]
    precision = np.eye(law.runs_spread.shape[1]) + design.T @ design
    return float(
        np.mean(np.diag(law.targets_spread @ np.linalg.solve(precision, law.targets_spread.T)))
    )


def each(price: float = 1.0) -> Prices:
    return lambda bought: np.full(RUNS, price)


def test_with_one_linear_law_each_purchase_is_the_v_optimal_one_and_its_variance_exact() -> None:
    law = linear_law(0)
    batch = best_batch(Variance(law), each(), 6.0, 99, worth=0.0)
    bought: list[int] = []
    for purchase in batch:
        assert purchase.before.width == pytest.approx(posterior_variance(law, bought))
        options = [posterior_variance(law, [*bought, run]) for run in range(RUNS)]
        assert purchase.run == int(np.argmin(options))
        bought.append(purchase.run)
        assert purchase.after.width == pytest.approx(min(options))
    assert len(bought) == 6


def test_draws_of_a_linear_law_choose_as_its_covariance_does() -> None:
    law = linear_law(1)
    z = np.random.default_rng(2).standard_normal((4000, COEFFICIENTS))
    drawn = from_draws(z @ law.runs_spread.T, z @ law.targets_spread.T, law.noise)
    exact, by_draws = (best_batch(Variance(one), each(), 3.0, 3) for one in (law, drawn))
    assert [one.run for one in by_draws] == [one.run for one in exact]
    assert by_draws[-1].after.width == pytest.approx(exact[-1].after.width, rel=0.1)


def test_few_draws_that_correlate_by_chance_promise_little() -> None:
    generator = np.random.default_rng(0)
    law = from_draws(generator.normal(size=(20, 200)), generator.normal(size=(20, 1)), 0.0)
    assert law.gains().max() < 0.05 * law.variance


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, RUNS - 1))
def test_a_run_takes_away_what_it_was_said_to_and_a_replicate_no_more(seed: int, run: int) -> None:
    law = linear_law(seed)
    told = law.gains()
    assert (told >= 0).all()
    left = law.after(run)
    assert left.variance == pytest.approx(law.variance - told[run])
    assert left.gains()[run] <= told[run] * (1 + 1e-9)


def test_the_order_of_the_runs_changes_nothing() -> None:
    law = linear_law(3)
    order = np.random.default_rng(0).permutation(RUNS)
    turned = Belief(law.runs_spread[order], law.targets_spread, law.noise[order])
    cost = np.linspace(1, 3, RUNS)
    expected = best_batch(Variance(law), lambda bought: cost, 8.0, 99)
    found = best_batch(Variance(turned), lambda bought: cost[order], 8.0, 99)
    assert [order[one.run] for one in found] == [one.run for one in expected]


def test_of_two_laws_the_batch_narrows_both_in_the_mean_of_what_is_left() -> None:
    """Each law asks for a run of its own; the one with the larger share comes first."""
    noise = np.full(2, 0.1)
    first = Belief(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0]]), noise)
    second = Belief(first.runs_spread, np.array([[0.0, 100.0]]), noise)
    both = Prospects.of([(0.3, Variance(first)), (0.7, Variance(second))])
    assert both.width == pytest.approx(1.0)
    batch = best_batch(both, lambda bought: np.ones(2), 2.0, 2)
    assert [one.run for one in batch] == [1, 0]
    left = 0.01 / 1.01
    assert [one.after.width for one in batch] == pytest.approx([0.3 + 0.7 * left, left])


def test_a_branch_is_cheap_once_its_trunk_is_bought() -> None:
    def prices(bought: tuple[int, ...]) -> Array:
        return np.full(RUNS, 0.2 if bought else 1.0)

    batch = best_batch(Variance(linear_law(5)), prices, 2.0, 99, worth=0.0)
    assert [one.cost for one in batch] == [1.0, 0.2, 0.2, 0.2, 0.2, 0.2]

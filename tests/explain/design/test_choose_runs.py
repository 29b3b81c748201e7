"""The chooser of runs against designs whose answer is known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscale.explain.design.belief import after, belief_of, gains
from llmscale.explain.design.choose import choose_runs
from llmscale.explain.design.plausible import Plausible, from_coefficients, from_draws

RUNS, TARGETS, COEFFICIENTS = 7, 3, 4


def linear_law(seed: int, shift: float = 0.0, noise: float = 0.3) -> Plausible:
    generator = np.random.default_rng(seed)
    root = generator.standard_normal((COEFFICIENTS, COEFFICIENTS))
    return from_coefficients(
        generator.standard_normal(RUNS) + shift,
        generator.standard_normal(TARGETS) + shift,
        generator.standard_normal((RUNS, COEFFICIENTS)),
        generator.standard_normal((TARGETS, COEFFICIENTS)),
        root @ root.T,
        noise,
    )


def posterior_variance(law: Plausible, bought: list[int]) -> float:
    """Mean variance of the targets by the normal equations of Bayesian regression."""
    design = law.runs_spread[bought] / law.noise[bought, None]
    precision = np.eye(law.runs_spread.shape[1]) + design.T @ design
    return float(
        np.mean(np.diag(law.targets_spread @ np.linalg.solve(precision, law.targets_spread.T)))
    )


def test_with_one_linear_law_each_purchase_is_the_v_optimal_one_and_its_variance_exact() -> None:
    law = linear_law(0)
    batch = choose_runs([law], np.ones(RUNS), budget=6)
    bought: list[int] = []
    for purchase in batch:
        assert purchase.before == pytest.approx(posterior_variance(law, bought))
        options = [posterior_variance(law, [*bought, run]) for run in range(RUNS)]
        assert purchase.run == int(np.argmin(options))
        bought.append(purchase.run)
        assert purchase.after == pytest.approx(min(options))
    assert len(bought) == 6


def test_draws_of_a_linear_law_choose_as_its_covariance_does() -> None:
    law = linear_law(1)
    z = np.random.default_rng(2).standard_normal((4000, COEFFICIENTS))
    drawn = from_draws(
        law.runs + z @ law.runs_spread.T, law.targets + z @ law.targets_spread.T, law.noise
    )
    exact, by_draws = (
        choose_runs([one], np.ones(RUNS), budget=3, exponent=1.0) for one in (law, drawn)
    )
    assert [one.run for one in by_draws] == [one.run for one in exact]
    assert by_draws[-1].after == pytest.approx(exact[-1].after, rel=0.1)


def test_few_draws_that_correlate_by_chance_promise_little() -> None:
    generator = np.random.default_rng(0)
    law = from_draws(generator.normal(size=(20, 200)), generator.normal(size=(20, 1)), 0.0)
    best = gains(belief_of([law])).total.max()
    assert best < 0.05 * belief_of([law]).variance


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.floats(0, 5), st.integers(0, RUNS - 1))
def test_no_run_is_expected_to_raise_the_variance_nor_to_take_more_than_there_is(
    seed: int, laws: int, shift: float, bought: int
) -> None:
    belief = belief_of([linear_law(seed + index, index * shift) for index in range(laws)])
    generator = np.random.default_rng(seed)
    for _ in range(2):
        told = gains(belief)
        assert (told.total >= 0).all()
        assert (told.total <= belief.variance * 1.05).all()
        belief = after(belief, bought, generator)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, RUNS - 1))
def test_a_replicate_never_gains_more_than_the_run_did(seed: int, run: int) -> None:
    belief = belief_of([linear_law(seed)])
    first = gains(belief).total[run]
    second = gains(after(belief, run, np.random.default_rng(0))).total[run]
    assert second <= first * (1 + 1e-9)


def test_the_order_of_the_runs_and_of_the_laws_changes_nothing() -> None:
    laws = [linear_law(3), linear_law(4, 0.5)]
    order = np.random.default_rng(0).permutation(RUNS)
    turned = [
        Plausible(law.runs[order], law.targets, law.runs_spread[order], law.targets_spread,
                  law.noise[order])
        for law in laws
    ]  # fmt: skip
    cost = np.linspace(1, 3, RUNS)
    expected = [one.run for one in choose_runs(laws, cost, budget=8)]
    found = choose_runs(turned, cost[order], budget=8)
    assert [order[one.run] for one in found] == expected
    assert gains(belief_of(laws)).total == pytest.approx(gains(belief_of(laws[::-1])).total)


def two_floors() -> list[Plausible]:
    """Two laws that agree on the first run and on nothing else, and know their coefficients."""
    nothing = np.zeros((2, 1))
    noise = np.full(2, 0.1)
    return [
        Plausible(np.array([1.0, height]), np.array([height]), nothing, nothing[:1], noise)
        for height in (2.0, 3.0)
    ]


def test_what_tells_two_laws_apart_is_bought_for_that() -> None:
    batch = choose_runs(two_floors(), np.ones(2), budget=1)
    assert [(one.run, one.why) for one in batch] == [(1, "between")]
    assert batch[0].before == pytest.approx(0.25)
    assert batch[0].share > 0.99


def test_a_branch_is_cheap_once_its_trunk_is_bought() -> None:
    def cost(batch: tuple[int, ...], run: int) -> float:
        return 0.2 if batch else 1.0

    batch = choose_runs([linear_law(5)], cost, budget=2.0)
    assert [one.cost for one in batch] == [1.0, 0.2, 0.2, 0.2, 0.2, 0.2]


def test_runs_in_the_table_are_replicates_and_can_be_left_out() -> None:
    law = linear_law(6)
    best = choose_runs([law], np.ones(RUNS), budget=1)[0].run
    again = choose_runs([law], np.ones(RUNS), budget=1, measured=[best])[0]
    assert (again.run, again.why) == (best, "replicate")
    others = choose_runs([law], np.ones(RUNS), budget=99, measured=[best], replicates=False)
    assert best not in {one.run for one in others}
    assert len({one.run for one in others}) == len(others)

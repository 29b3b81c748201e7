"""The loss that plans are made on, against closed forms of Chinchilla's law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscale.explain.laws.anchored import Anchored
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.planning.surface import R_D_STAR, R_N_STAR, LossSurface
from llmscale.explain.search import first_crossing, lowest, lowest_above_wall

laws = st.builds(
    Chinchilla,
    E=st.floats(0.5, 3.0),
    A=st.floats(50.0, 2000.0),
    B=st.floats(50.0, 4000.0),
    alpha=st.floats(0.2, 0.6),
    beta=st.floats(0.2, 0.6),
)
budgets = st.floats(18.0, 26.0).map(lambda power: 10.0**power)


@given(laws, budgets, st.floats(0.3, 0.95))
def test_the_tokens_that_reach_a_loss_are_those_of_the_closed_form(
    law: Chinchilla, flops: float, share: float
) -> None:
    surface = LossSurface(law)
    N, D = surface.best(flops)
    loss = surface.loss(N, D)
    found = float(surface.tokens_for(share * N, loss, D / share)[0, 0])
    left = loss - law.E - law.A / (share * N) ** law.alpha
    exact = (law.B / left) ** (1 / law.beta) if left > 0 else np.inf
    if exact < 1e4 * D / share:
        assert found == pytest.approx(exact, rel=1e-6)
    else:
        assert np.isinf(found)


@given(laws, budgets, st.floats(0.01, 50.0))
def test_repeated_text_is_worth_no_more_than_new_text_and_new_text_is_worth_itself(
    law: Chinchilla, flops: float, passes: float
) -> None:
    N, D = LossSurface(law).best(flops)
    limited = LossSurface(law, unique=D / passes)
    worth = limited.inputs(N, D)
    size = float(limited.size_of_text)
    assert worth["tokens"] <= min(D, D / passes * (1 + R_D_STAR)) * (1 + 1e-9)
    assert worth["params"] <= min(N, size * (1 + R_N_STAR)) * (1 + 1e-9)
    assert limited.loss(N, D) >= LossSurface(law).loss(N, D) * (1 - 1e-12)
    if passes <= 1:
        assert worth["tokens"] == D
    best_D = LossSurface(law).best(6 * size * D / passes)[1]
    assert best_D == pytest.approx(D / passes, rel=1e-5)


def test_searches_find_what_is_there_in_every_row() -> None:
    points_BX = np.tile(np.linspace(0.0, 10.0, 21), (3, 1))
    root_B1 = np.array([[2.2], [-1.0], [30.0]])
    found_B1 = first_crossing(lambda x: root_B1 - x, points_BX)
    assert found_B1.tolist() == [[pytest.approx(2.2)], [0.0], [np.inf]]
    least = lowest(lambda x: (x - root_B1) ** 2, np.zeros((3, 1)), np.full((3, 1), 10.0))
    assert least.ravel() == pytest.approx([2.2, 0.0, 10.0], abs=1e-6)
    walled = lowest_above_wall(lambda x: np.where(x < 3.0, 99.0 - x, x), 0.0, 10.0)
    assert 3.0 <= float(walled) < 3.0 + 1e-9


def test_more_compute_on_used_up_text_never_raises_the_loss() -> None:
    # Flat in N and in D on either side of its valley, and by this law on two levels.
    law = Anchored(0.890759, 64.61, 0.115875, 6.00235e55, 1.58474e53, 0.551528, 0.597513, 0.271789)
    surface = LossSurface(law, unique=1e10)
    losses = [float(surface.lowest_loss(flops)) for flops in np.geomspace(1e16, 1e32, 17)]
    assert np.diff(losses).max() < 1e-12

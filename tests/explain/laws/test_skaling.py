"""Skaling's law holds Chinchilla's and Kaplan's, and is never fitted worse."""

import numpy as np
import pandas as pd
import pytest

from llmscale.explain.fit import fit_law
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.laws.kaplan import Kaplan
from llmscale.explain.laws.skaling import Skaling


def test_it_is_chinchilla_at_one_and_kaplan_without_a_floor() -> None:
    assert Skaling(1.8, 400.0, 900.0, 0.34, 0.29, 1.0).loss(1e8, 1e10) == pytest.approx(
        Chinchilla(1.8, 400.0, 900.0, 0.34, 0.29).loss(1e8, 1e10)
    )
    kaplan = Kaplan(6.4e13, 1.8e13, 0.076, 0.103)
    inner = (6.4e13 ** (0.076 / 0.103), 1.8e13, 0.076 / 0.103, 1.0)
    assert Skaling(0.0, *inner, 0.103).loss(1e8, 1e10) == pytest.approx(kaplan.loss(1e8, 1e10))


def test_its_optimum_is_where_its_loss_is_lowest() -> None:
    law = Skaling(*Skaling.published)
    optimal = law.compute_optimal()
    assert optimal is not None
    found = [law.optimal(budget) for budget in (1e20, 1e22)]
    assert found[0] is not None
    assert found[1] is not None
    steps = np.log(found[1][0] / found[0][0]) / np.log(100.0)
    assert steps == pytest.approx(optimal["a"], abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_no_table_is_fitted_worse_than_by_chinchilla(seed: int) -> None:
    rng = np.random.default_rng(seed)
    N, D = 10 ** rng.uniform(6, 9, 20), 10 ** rng.uniform(8, 11, 20)
    loss = Chinchilla(1.7, 400.0, 900.0, 0.34, 0.29).loss(N, D)
    runs = pd.DataFrame(
        {"params": N, "tokens": D, "loss": loss * np.exp(0.02 * rng.standard_t(3, 20))}
    )
    chinchilla, skaling = (
        fit_law(runs, law, bootstrap=0, holdout="none", diagnostics=False)
        for law in ("chinchilla", "skaling")
    )
    assert skaling.objective <= chinchilla.objective * (1 + 1e-8)

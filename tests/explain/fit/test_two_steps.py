"""From size and tokens to a task: both steps come back, and what either does not know counts."""

import numpy as np
import pandas as pd
import pytest

from llmscale.errors import InputError
from llmscale.explain.fit.two_steps import two_steps
from llmscale.explain.laws import LAWS
from llmscale.explain.laws.task_accuracy import TaskAccuracy

CHINCHILLA = LAWS.find("chinchilla")(0.3, 90.0, 300.0, 0.3, 0.28)  # type: ignore[call-arg]
SECOND = TaskAccuracy(0.7, 0.25, 5.0, 0.9)


def runs(noise: float, seed: int = 0) -> pd.DataFrame:
    N, D = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e8, 3e9, 6), np.geomspace(2e9, 2e11, 6))
    )
    rng = np.random.default_rng(seed)
    loss = CHINCHILLA.loss(N, D) * np.exp(0.2 * noise * rng.standard_normal(36))
    accuracy = SECOND.loss(loss) + noise * rng.standard_normal(36)
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss, "accuracy": accuracy})


def test_both_steps_come_back_and_lead_to_the_score() -> None:
    found = two_steps(runs(0.0), "accuracy", bootstrap=0, holdout="none", diagnostics=False)
    assert found.second.law.coefficients() == pytest.approx(SECOND.coefficients(), rel=1e-4)
    told = found.forecast(N=7e9, D=1e12)
    assert told.score == pytest.approx(SECOND.loss(CHINCHILLA.loss(7e9, 1e12)), abs=1e-5)


def test_the_interval_holds_what_either_step_does_not_know() -> None:
    found = two_steps(runs(0.01), "accuracy", bootstrap=200, holdout="none", diagnostics=False)
    told = found.forecast(N=1e9, D=5e10)
    alone = found.second.band(task_loss=told.task_loss, single_run=True)
    assert told.low < told.score < told.high
    assert told.high - told.low > 0.99 * (alone[1] - alone[0])
    further = found.forecast(N=7e9, D=1e12)
    assert further.task_loss_low < further.task_loss < further.task_loss_high
    assert further.low < SECOND.loss(CHINCHILLA.loss(7e9, 1e12)) < further.high


def test_a_score_that_is_no_column_is_named() -> None:
    with pytest.raises(InputError, match="no column 'acc'"):
        two_steps(runs(0.0), "acc")

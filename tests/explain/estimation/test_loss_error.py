"""The standard error of the loss: found by its name, checked, and told apart from other noise."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmscale.errors import InputError
from llmscale.explain.fit import Fit, fit_law
from llmscale.explain.table import read_table


def table(errors: Any, other: float, seed: int = 0, column: str = "loss_se") -> pd.DataFrame:
    """36 runs whose loss errs by evaluation, as the column says, and by `other` besides."""
    rng = np.random.default_rng(seed)
    N, D = (
        values.ravel()
        for values in np.meshgrid(np.geomspace(1e8, 1e10, 6), np.geomspace(2e9, 2e11, 6))
    )
    low, high = errors if isinstance(errors, tuple) else (errors, errors)
    error = rng.uniform(low, high, len(N))
    off = other * rng.standard_normal(36) + error * rng.standard_normal(36)
    loss = (1.82 + 478 / N**0.347 + 2143 / D**0.367) * np.exp(off)
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss, column: error * loss})


def fitted(frame: pd.DataFrame, **columns: str) -> Fit:
    runs = read_table(frame, columns=columns)
    return fit_law(runs, "chinchilla", bootstrap=0, holdout="none", diagnostics=False)


def said(fit: Fit) -> str:
    return " ".join(note.message for note in fit.notes if note.code == "evaluation-noise")


@pytest.mark.parametrize(
    ("column", "loss"),
    [
        ("loss_se", "loss"),
        ("loss_stderr", "loss"),
        ("Loss Std Err", "loss"),
        ("se_loss", "loss"),
        ("val_loss_se", "val_loss"),
        ("loss_se", "val_loss"),
        ("val/loss_standard_error", "val/loss"),
        ("val_loss_sem", "loss"),
    ],
)
def test_the_error_of_the_loss_is_found_by_its_name(column: str, loss: str) -> None:
    frame = table(0.003, 0.003, column=column).rename(columns={"loss": loss})
    assert read_table(frame).columns["loss_se"] == column


@pytest.mark.parametrize("column", ["loss_std", "train_loss_se", "accuracy_stderr", "se"])
def test_what_is_no_error_of_the_loss_is_not_taken_for_one(column: str) -> None:
    assert "loss_se" not in read_table(table(0.003, 0.003, column=column)).columns


def test_an_error_belongs_to_the_column_that_its_name_is_made_of() -> None:
    frame = table(0.003, 0.003, column="mmlu_stderr").rename(columns={"loss": "mmlu_loss"})
    frame["mmlu"] = 0.5
    of_accuracy = read_table(frame, columns={"loss": "mmlu_loss"})
    assert "loss_se" not in of_accuracy.columns
    assert "stderr" not in of_accuracy.reading
    frame["mmlu_loss_stderr"] = 0.01
    of_loss = read_table(frame, columns={"loss": "mmlu_loss"})
    assert "loss_se = mmlu_loss_stderr" in of_loss.reading
    frame = table(0.003, 0.003).assign(val_loss=lambda runs: runs["loss"] - 0.1)
    assert "loss_se" not in read_table(frame, columns={"loss": "val_loss"}).columns


def test_runs_are_weighed_if_their_errors_differ_and_can_be_seen() -> None:
    seen = fitted(table((0.001, 0.012), 0.001))
    assert "Runs are weighed by both" in said(seen)
    weight, error = seen.table.frame["weight"], seen.table.frame["loss_se"]
    assert weight[error.idxmin()] > 3 * weight[error.idxmax()]
    for frame in (table(0.003, 0.003), table((0.0001, 0.0012), 0.01)):
        assert "weight" not in fitted(frame).table.columns
        assert "single runs are off the law by" in said(fitted(frame))
        assert "by evaluation (column 'loss_se')" in said(fitted(frame))
    left = fitted(table((0.001, 0.012), 0.001), loss_se="none")
    assert "weight" not in left.table.columns
    assert not said(left)


def test_text_in_place_of_errors_is_said_or_refused() -> None:
    frame = table(0.003, 0.003).assign(loss_se="0.01 nats")
    found = read_table(frame)
    assert "loss_se" not in found.columns
    (note,) = [note for note in found.notes if note.code == "loss-error-ignored"]
    assert "holds no numbers, such as '0.01 nats'" in note.message
    with pytest.raises(InputError, match="no number in 36 of 36 runs"):
        read_table(frame, columns={"loss_se": "loss_se"})
    empty = read_table(frame.assign(loss_se=None))
    assert "loss-error-ignored" not in [note.code for note in empty.notes]


@pytest.mark.slow
def test_weights_make_coefficients_more_precise() -> None:
    off: dict[str, list[float]] = {"weighed": [], "alike": []}
    for seed in range(40):
        frame = table((0.0005, 0.015), 0.0005, seed)
        off["weighed"].append(fitted(frame).law.alpha - 0.347)  # type: ignore[attr-defined]
        plain = fitted(frame, loss_se="none")
        off["alike"].append(plain.law.alpha - 0.347)  # type: ignore[attr-defined]
    assert np.std(off["weighed"]) < 0.8 * np.std(off["alike"])


def test_errors_that_runs_share_are_no_noise_between_them() -> None:
    """One text for every run moves all losses alike: the runs scatter by less than their errors."""
    frame = table(0.0, 0.001)
    frame["loss_se"] = 0.005 * frame["loss"]
    fit = fitted(frame)
    assert "on one text runs err together" in said(fit)
    assert "weight" not in fit.table.columns


def test_seeds_tell_their_noise_from_evaluation_and_misfit() -> None:
    parts = [table(0.002, 0.004, seed).assign(seed=seed) for seed in range(3)]
    message = said(fitted(pd.concat(parts)))
    assert "seeds differ by 0.43%" in message
    assert "(on 72)" in message
    assert "more seeds would help most" in message


@pytest.mark.parametrize(
    ("error", "problem"), [(-0.1, "negative"), (9.0, "is 9 for a loss"), (0.0, "0 in every run")]
)
def test_an_error_that_cannot_be_one_is_said_or_refused(error: float, problem: str) -> None:
    frame = table(0.003, 0.003).assign(loss_se=error)
    found = read_table(frame)
    assert "loss_se" not in found.columns
    (note,) = [note for note in found.notes if note.code == "loss-error-ignored"]
    assert problem in note.message
    with pytest.raises(InputError, match=problem):
        read_table(frame, columns={"loss_se": "loss_se"})


def test_errors_are_in_the_unit_of_the_loss() -> None:
    nats = table(0.003, 0.003)
    bits = nats.assign(loss=nats["loss"] / np.log(2), loss_se=nats["loss_se"] / np.log(2))
    ppl = nats.assign(loss=np.exp(nats["loss"]), loss_se=nats["loss_se"] * np.exp(nats["loss"]))
    for frame, unit in ((bits, "bits"), (ppl, "perplexity")):
        found = read_table(frame, units={"loss": unit}).frame["loss_se"]
        assert found.to_numpy() == pytest.approx(nats["loss_se"].to_numpy(), rel=1e-4)

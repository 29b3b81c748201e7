"""The law of mixtures finds planted coefficients, and the best mixture is the planted one."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.api.mixture import best_mixtures
from llmscale.explain.fit.kept import keep, read_kept
from llmscale.explain.fit.parametric import fit_law

SOURCES = ("code", "math", "prose")
PLANTED = {
    "code": (1.2, 1.5, (-2.5, 0.1, -0.4)),
    "math": (1.5, 1.1, (-0.8, -3.0, 0.2)),
    "prose": (2.1, 0.9, (-0.3, 0.0, -1.8)),
}
"""c, k and a slope for the share of each source, of the loss on each."""


def simplex(steps: int) -> np.ndarray:
    """Every mixture of the three sources in steps, (R, 3)."""
    points = np.array(
        [point for point in product(range(steps + 1), repeat=3) if sum(point) == steps]
    )
    return points / steps


def planted(shares_RM: np.ndarray, noise: float = 0.0) -> pd.DataFrame:
    """Runs at one size and budget, with the losses that the planted laws give them."""
    frame = pd.DataFrame({f"share_{name}": shares_RM[:, i] for i, name in enumerate(SOURCES)})
    frame = frame.assign(params=1e6, tokens=1e8, data=[f"mixture {i}" for i in range(len(frame))])
    rng = np.random.default_rng(0)
    for name, (c, k, slopes) in PLANTED.items():
        loss = c + k * np.exp(shares_RM @ np.array(slopes))
        frame[f"loss_{name}"] = loss * np.exp(noise * rng.standard_normal(len(frame)))
    return frame.assign(loss=frame[[f"loss_{name}" for name in SOURCES]].mean(axis=1))


def test_the_law_recovers_planted_coefficients_of_several_sources(tmp_path: Path) -> None:
    frame = planted(simplex(4)).assign(loss=lambda runs: runs["loss_code"])
    fit = fit_law(frame, "mixture", bootstrap=0)
    c, k, (of_code, of_math, of_prose) = PLANTED["code"]
    # Shares add up to 1: slopes are differences from that of the last source.
    assert fit.law.coefficients() == pytest.approx(
        {
            "c": c,
            "k": k * np.exp(of_prose),
            "t_code": of_code - of_prose,
            "t_math": of_math - of_prose,
        },
        rel=1e-5,
    )
    assert fit.law.name == "mixture"
    assert fit.law.inputs == ("share_code", "share_math")
    assert "mixed-data" not in {note.code for note in fit.notes}
    assert fit.law.loss(0.2, 0.3) == pytest.approx(c + k * np.exp(0.2 * -2.5 + 0.3 * 0.1 - 0.2))
    kept = keep(fit, tmp_path / "fit-mixture.json")
    again = read_kept(tmp_path / "fit-mixture.json")
    assert again.law == kept.law
    assert again.law.inputs == fit.law.inputs


def test_the_best_mixture_is_the_planted_one_and_its_interval_holds_it() -> None:
    fine = simplex(200)
    mean = sum(c + k * np.exp(fine @ np.array(slopes)) for c, k, slopes in PLANTED.values()) / 3
    (exact,) = best_mixtures(planted(simplex(4)), bootstrap=0)
    assert list(exact.shares.values()) == pytest.approx(fine[mean.argmin()], abs=0.006)
    assert exact.loss == pytest.approx(mean.min(), abs=1e-4)
    (noisy,) = best_mixtures(planted(simplex(4), noise=0.003), bootstrap=40)
    for name, share in exact.shares.items():
        low, high = noisy.intervals[name]
        assert low - 0.01 < share < high + 0.01
        assert 0 < high - low < 0.2
    # If only one source counts, and helps itself most, the best is to read nothing else.
    (only,) = best_mixtures(planted(simplex(4)), targets={"math": 2.0}, bootstrap=0)
    assert only.shares["math"] == pytest.approx(1.0, abs=1e-3)


def test_each_size_and_budget_has_a_best_mixture_of_its_own(tmp_path: Path) -> None:
    small = planted(simplex(4))
    runs = pd.concat([small, small.assign(params=4e6)], ignore_index=True)
    runs.to_csv(tmp_path / "runs.csv", index=False)
    command = ["mixture", str(tmp_path / "runs.csv"), "--bootstrap", "0"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    assert "N = 1M, D = 100M: the mean loss is lowest at" in shown.stdout
    assert "N = 4M, D = 100M" in shown.stdout
    narrow = CliRunner().invoke(app, command, env={"COLUMNS": "60"}).stdout
    heading = next(line for line in narrow.splitlines() if line.startswith("source"))
    assert heading.split() == ["source", "best", "share", "interval", "law"]
    told = CliRunner().invoke(app, [*command, "--targets", "code=2,prose=1", "--json"])
    found = [one.to_json() for one in best_mixtures(runs, targets="code=2,prose=1", bootstrap=0)]
    assert f'"params": {found[1]["params"]}' in told.stdout
    assert found[0]["targets"] == {"code": 2 / 3, "math": 0.0, "prose": 1 / 3}


@pytest.mark.parametrize(
    ("change", "targets", "said"),
    [
        ({"share_prose": 0.9}, None, "add up to"),
        ({}, "latin=1", "'latin' is no source"),
        ({}, "code", "'code', which is no source with a weight"),
        ({}, "code=0", "cannot weigh losses"),
        ({"loss_code": -1.0}, None, "loss_code is no positive number"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    change: dict[str, float], targets: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        best_mixtures(planted(simplex(4)).assign(**change), targets=targets, bootstrap=0)


def test_too_few_mixtures_are_told_of_with_how_to_measure_more() -> None:
    with pytest.raises(InputError, match="needs at least 5 runs that differ in share_code") as few:
        best_mixtures(planted(simplex(1)), bootstrap=0)
    assert "[data.mixtures.NAME]" in str(few.value.fix)
    with pytest.raises(InputError, match="share_NAME and loss_NAME"):
        best_mixtures(planted(simplex(2))[["params", "tokens", "loss"]])

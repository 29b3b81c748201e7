"""Runs that are not independent: what they share is found, and intervals count on it."""

from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import pytest

from llmscale.explain.estimation.dependence import dependence, trunks
from llmscale.explain.estimation.intervals import covariance_of
from llmscale.explain.estimation.profile import profile
from llmscale.explain.fit import Fit, fit_law
from llmscale.explain.table import read_table


def grid(seed: int, off: float = 0.0, sizes: int = 6, budgets: int = 6) -> pd.DataFrame:
    """Runs of 0.3% noise; the runs of a size are `off` by as much together."""
    rng = np.random.default_rng(seed)
    N, D = (
        values.ravel()
        for values in np.meshgrid(
            np.geomspace(1e8, 1e10, sizes), np.geomspace(2e9, 2e11, budgets), indexing="ij"
        )
    )
    noise = 0.003 * rng.standard_normal(len(N))
    noise += off * np.repeat(rng.standard_normal(sizes), budgets)
    return pd.DataFrame({"params": N, "tokens": D, "loss": chinchilla(N, D) * np.exp(noise)})


def chinchilla(N: np.ndarray, D: np.ndarray) -> np.ndarray:
    return np.asarray(1.82 + 478 / N**0.347 + 2143 / D**0.367)


def fitted(frame: pd.DataFrame, refits: int = 60) -> Fit:
    return fit_law(frame, "chinchilla", bootstrap=refits, holdout="none", diagnostics=False)


def codes(fit: Fit) -> set[str]:
    return {note.code for note in fit.notes}


def width(fit: Fit, name: str = "alpha") -> float:
    low, high = fit.intervals[name]
    return high - low


def test_sizes_that_are_off_the_law_as_wholes_widen_intervals() -> None:
    """That of independent runs is a third as wide; experiments/dependence.py measures coverage."""
    fit = fitted(grid(1, off=0.005))
    low, high = fit.intervals["alpha"]
    assert low < 0.347 < high
    (note,) = [note.message for note in fit.notes if note.code == "size-effect"]
    assert "over 6 sizes" in note
    apart = fitted(grid(1))
    assert "size-effect" not in codes(apart)
    assert width(fit) > 2 * width(apart)


@pytest.mark.slow
def test_intervals_hold_if_sizes_are_off_and_independent_runs_are_left_alone() -> None:
    """At 90%, 40 of 50 or fewer happens once in 50 times; as if independent 49% hold."""
    held = []
    for seed in range(50):
        low, high = fitted(grid(seed, off=0.005)).intervals["alpha"]
        held.append(low <= 0.347 <= high)
    assert sum(held) > 40
    found = [("size-effect" in codes(fitted(grid(seed), refits=9))) for seed in range(50)]
    assert sum(found) <= 8  # 5% are expected


def test_checkpoints_of_a_published_table_are_drawn_as_runs_whatever_their_run_is_called(
    shared: Path,
) -> None:
    """The interval of alpha from clusters of the 22 runs is [.138, .453]."""
    table = pd.read_csv(shared / "published" / "gemstones_hot.csv")
    opaque = table.assign(run_id=[f"x{crc32(name.encode()):08x}" for name in table["run_id"]])
    for column in ("run", "trunk"):
        fit = fitted(opaque.rename(columns={"run": column}), refits=100)
        assert 0.315 / 1.3 < width(fit) < 0.315 * 1.3, column
    fit = fitted(table)
    assert any("220 rows are of 22 runs" in note.message for note in fit.notes)


def test_trunks_are_found_through_their_parents_if_they_join_runs_of_one_size() -> None:
    frame = grid(0).assign(run_id=[f"r{row}" for row in range(36)])
    # The first run of each size is a trunk; each other run branched from the one before it.
    first = np.arange(36) // 6 * 6
    parent = [f"r{row - 1}" if row != first[row] else None for row in range(36)]
    found = trunks(frame.assign(branched_from=parent))
    assert found is not None
    assert found[0] == "branched_from"
    assert found[1].tolist() == np.repeat(np.arange(6), 6).tolist()
    # A teacher of every size, or a parent of each run of its own, joins nothing.
    assert trunks(frame.assign(parent="teacher")) is None
    assert trunks(frame.assign(parent=[f"p{row}" for row in range(36)])) is None
    assert trunks(frame) is None


@pytest.mark.parametrize(
    ("parent", "why"),
    [
        ([f"r{row ^ 1}" for row in range(36)], "r0, r1, r2 and 33 more came from each other"),
        ([f"t{row % 6}" for row in range(36)], "those of one trunk differ in size"),
    ],
)
def test_parents_in_a_circle_or_of_several_sizes_are_said_to_be_unused(
    parent: list[str], why: str
) -> None:
    frame = grid(0).assign(run_id=[f"r{row}" for row in range(36)])
    fit = fitted(frame.assign(parent=parent))
    (note,) = [note for note in fit.notes if note.code == "trunks-ignored"]
    assert why in note.message
    assert fit.intervals == fitted(frame).intervals
    assert "trunks-ignored" not in codes(fitted(frame.assign(parent="teacher")))


def test_branches_share_what_their_trunk_is_off_by() -> None:
    frame = pd.concat([grid(seed, off=0.006, sizes=8, budgets=4) for seed in (0, 1)])
    frame["parent"] = [f"{size:.0f} {seed}" for seed in (0, 1) for size in frame["params"][:32]]
    fit = fitted(frame)
    assert {"dependent-runs", "size-effect"} <= codes(fit)
    related = dependence(fit.table.frame, fit.law.inputs)
    assert [one.groups for one in related.shared] == [8, 16]
    apart = fitted(frame.drop(columns="parent"))
    assert "dependent-runs" not in codes(apart)


def test_profile_and_covariance_count_on_what_runs_share() -> None:
    fit = fitted(grid(3, off=0.005), refits=0)
    apart = fitted(grid(3), refits=0)
    assert "size-effect" not in codes(apart)
    wide, narrow = profile(fit, "alpha", 9), profile(apart, "alpha", 9)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert np.diag(covariance_of(fit))[3] > 2 * np.diag(covariance_of(apart))[3]


def test_a_table_of_runs_alike_in_their_parent_reads_as_one(tmp_path: Path) -> None:
    frame = grid(0).assign(parent="")
    frame.to_csv(tmp_path / "runs.csv", index=False)
    assert trunks(read_table(tmp_path / "runs.csv").frame) is None

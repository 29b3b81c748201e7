"""Recipes of which one was run along a ladder: what of the other compares with it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale import InputError

SIZES = np.geomspace(1e7, 1e9, 7)
RATIOS = 5.0 * 2.0 ** np.arange(7)
LADDER_SIZES = np.repeat(1.4 * SIZES, 2)


def runs(N: Any, ratio: Any, seed: int = 0) -> pd.DataFrame:
    """Runs of one recipe, with a law in N and D."""
    N, ratio = np.broadcast_arrays(np.asarray(N, dtype=float), ratio)
    loss = 1.82 + 482.0 * N**-0.35 + 2085.0 * (N * ratio) ** -0.37
    noise = 0.003 * np.random.default_rng(seed).standard_normal(len(N))
    return pd.DataFrame({"params": N, "tokens": N * ratio, "loss": loss * np.exp(noise)})


def grid(seed: int = 100, ratios: Any = RATIOS) -> pd.DataFrame:
    N, ratio = (axis.ravel() for axis in np.meshgrid(SIZES, ratios))
    return runs(N, ratio, seed)


@pytest.mark.parametrize(("seed", "ratio"), [(0, 25), (1, 42)])
def test_a_ladder_saves_nothing_over_a_grid_of_the_same_recipe(seed: int, ratio: float) -> None:
    tables = {"grid": grid(100 + seed), "ladder": runs(LADDER_SIZES, ratio, seed)}
    found = llmscale.compare(tables, fail_below=1.0)
    assert found.at()[0].low < 1 < found.at()[0].high
    assert not found.passed
    (counted,) = found.joined.counted
    nearest = RATIOS[np.argmin(np.abs(np.log(RATIOS / ratio)))]
    assert str(counted) == (
        f"of grid 7 runs of 49 count, which have {nearest:g} tokens per parameter, as ladder"
    )
    assert f"runs: {counted}" in str(found)
    is_off = max(ratio / nearest, nearest / ratio) > 1.1
    assert ("ladders-differ" in {note.code for note in found.notes}) == is_off
    assert [one["runs_counted"] for one in found.to_json()["recipes"]] == [7, 14]


def test_a_ladder_that_is_not_quite_straight_is_one_and_a_run_beside_it_does_not_count() -> None:
    """Seven runs of about 20 tokens per parameter and one of 300 tell no law in N and D, even if
    there are as many runs as it takes."""
    around = 20.0 * np.array([1.2, 0.85, 1.0, 1.25, 0.8, 1.1, 0.9])
    straight = runs(1.4 * SIZES, around)
    tables = {"grid": grid(), "ladder": pd.concat([straight, runs(1.4 * SIZES[[2]], 300, 1)])}
    found = llmscale.compare(tables, fail_below=1.0)
    assert found.joined.law == "power-floor"
    assert found.at()[0].low < 1 < found.at()[0].high
    assert [(one.recipe, one.runs, one.of) for one in found.joined.counted] == [
        ("grid", 7, 49),
        ("ladder", 7, 8),
    ]
    with pytest.raises(InputError, match="about one number of tokens at each size"):
        llmscale.compare(tables, law="chinchilla")


def test_along_one_number_of_tokens_runs_of_that_many_tokens_count() -> None:
    N, D = (axis.ravel() for axis in np.meshgrid(SIZES, 1e9 * 4.0 ** np.arange(5)))
    tables = {"grid": runs(N, D / N, 1), "fixed": runs(SIZES[1:6], 4e9 / SIZES[1:6])}
    found = llmscale.compare(tables)
    of_grid = found.joined.frame.query("`recipe compared` == 'grid'")
    assert np.allclose(of_grid["tokens"], 4e9)
    assert len(of_grid) == 7


def test_of_one_size_with_more_tokens_the_runs_of_that_size_count() -> None:
    one_size = runs(np.full(5, SIZES[3]), 5.0 * 3.0 ** np.arange(5))
    found = llmscale.compare({"grid": grid(), "one": one_size})
    of_grid = found.joined.frame.query("`recipe compared` == 'grid'")
    assert np.allclose(of_grid["params"], SIZES[3])
    assert len(of_grid) == 7


def test_a_grid_without_runs_near_the_ladder_does_not_compare_with_it() -> None:
    far = grid(ratios=RATIOS[[0, 4, 5, 6]])
    with pytest.raises(InputError, match="grid has runs near that at 0 sizes") as caught:
        llmscale.compare({"grid": far, "ladder": runs(LADDER_SIZES, 20)})
    assert "with about 20 tokens per parameter, or ladder on several numbers" in str(
        caught.value.fix
    )
    runs_of_C = runs(LADDER_SIZES, 20).eval("flops = 6 * params * tokens")[["flops", "loss"]]
    with pytest.raises(InputError, match="ladder does not say how many tokens"):
        llmscale.compare({"grid": grid(), "ladder": runs_of_C})

"""experiments/effects.toml pairs its runs, and results/effects says what `compare` does."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from llmscale.measure.sweep.spec import SweepSpec, read_spec
from llmscale.runs.shape import shape_for


def params(spec: SweepSpec) -> list[int]:
    """N of each size."""
    context = spec.recipe.context
    shapes = [shape_for(size, vocab_size=1024, context=context) for size in spec.sizes]
    return [shape.params for shape in shapes]


def test_deep_and_wide_models_pair_with_the_usual_ones(repository: Path) -> None:
    usual = read_spec(repository / "experiments" / "effects.toml")
    shapes = read_spec(repository / "experiments" / "effects-shapes.toml")
    for name in ("recipe", "data", "seeds"):
        assert getattr(usual, name) == getattr(shapes, name)
    assert set(shapes.tokens) < set(usual.tokens)
    assert params(shapes) == pytest.approx(2 * params(usual)[1:], rel=0.003)


def test_every_recipe_of_the_effects_changes_one_setting(repository: Path) -> None:
    spec = read_spec(repository / "experiments" / "effects.toml")
    assert {len(changes) for changes in spec.recipes.values()} == {1}
    assert not spec.recipe.trunk, "trunks give budgets batches and rates that a cosine cannot share"


@pytest.mark.parametrize("name", ["effects", "optimizers"])
def test_what_is_said_of_muon_is_what_compare_says(
    repository: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repository / "experiments"))
    import effects
    import optimizers

    folder = repository / "results" / name
    runs = pd.read_parquet(folder / "runs.parquet")
    if name == "effects":
        found = effects.compared(effects.along_ladder(runs), effects.EFFECTS[0], "power-floor")
    else:
        found = optimizers.compared(runs)
    said = (folder / "README.md").read_text(encoding="utf-8")
    numbers = re.search(r"muon needs ([\d.]+) \[([\d.]+), ([\d.]+)\] of adamw", said)
    assert numbers is not None
    one = found.multipliers[0]
    # Draws follow the last bit of sums, which machines differ in: ends move by a few per cent of
    # the interval, more if that is wide.
    measured = np.log([one.value, one.low, one.high])
    told = np.log([float(number) for number in numbers.groups()])
    assert np.abs(measured - told).max() < 0.1 * (told[2] - told[1])

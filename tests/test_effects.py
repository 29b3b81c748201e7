"""experiments/effects.toml and what results/effects says of it."""

from pathlib import Path

from llmscale.measure.sweep.spec import SweepSpec, read_spec
from llmscale.runs.shape import shape_for


def params(spec: SweepSpec, vocab_size: int = 1024) -> list[int]:
    """N of each size."""
    context = spec.recipe.context
    shapes = [shape_for(size, vocab_size=vocab_size, context=context) for size in spec.sizes]
    return [shape.params for shape in shapes]


def test_deep_and_wide_models_pair_with_the_usual_ones(repository: Path) -> None:
    usual = read_spec(repository / "experiments" / "effects.toml")
    shapes = read_spec(repository / "experiments" / "effects-shapes.toml")
    assert usual.recipe == shapes.recipe
    assert usual.data == shapes.data
    assert (usual.tokens, usual.seeds) == (shapes.tokens, shapes.seeds)
    *deep, w1, w2, w3 = params(shapes)
    for three in (deep, [w1, w2, w3]):
        for N, other in zip(params(usual)[1:], three, strict=True):
            assert abs(other / N - 1) < 0.003


def test_each_recipe_of_the_effects_changes_one_setting() -> None:
    ...

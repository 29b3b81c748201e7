"""Numbers of settings: each has limits, and none is taken that is outside them or not finite."""

import dataclasses
import math
import typing
from typing import Any

import pytest

from llmscale.errors import InputError
from llmscale.measure.executors.ray import Options as RayOptions
from llmscale.measure.executors.slurm import Options as SlurmOptions
from llmscale.measure.sweep.spec import Hardware, SweepSpec
from llmscale.measure.text.cleaning import Cleaning
from llmscale.measure.text.prepare import TextSpec
from llmscale.measure.train.recipe import Recipe
from llmscale.runs.shape import Shape
from llmscale.settings import Range

USUAL: dict[type, dict[str, Any]] = {
    Shape: {"n_layer": 2, "d_model": 16, "n_head": 1, "d_ff": 32, "vocab_size": 300, "context": 32}
}
KINDS: tuple[Any, ...] = (
    Recipe,
    Hardware,
    SweepSpec,
    TextSpec,
    Cleaning,
    RayOptions,
    SlurmOptions,
    Shape,
)
SETTINGS = [(kind, name) for kind in KINDS for name in kind.ranges()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_that_can_be_set_has_a_range(kind: Any) -> None:
    hints = typing.get_type_hints(kind)
    numbers = {
        name for name, hint in hints.items() if {int, float} & {hint, *typing.get_args(hint)}
    }
    lists = {name for name, hint in hints.items() if typing.get_origin(hint) is tuple}
    assert numbers - lists == set(kind.ranges())


@pytest.mark.parametrize(("kind", "name"), SETTINGS)
def test_a_number_outside_its_range_is_named_with_what_it_may_be(kind: Any, name: str) -> None:
    allowed, usual = kind.ranges()[name], USUAL.get(kind, {})
    below = allowed.least if allowed.above else math.nextafter(allowed.least, -math.inf)
    for value in (
        below,
        math.nextafter(allowed.most, math.inf),
        math.nan,
        math.inf,
        -math.inf,
        10**400,
    ):
        with pytest.raises(InputError) as caught:
            kind(**{**usual, name: value})
        assert name in caught.value.problem
        assert caught.value.fix == f"give a number that is {allowed}"
    kind(**usual)
    for field in dataclasses.fields(kind):
        if field.name == name and isinstance(field.default, int | float):
            assert field.default in allowed


def test_a_range_holds_its_ends_and_says_them() -> None:
    assert 1 in Range(1, 10)
    assert 10 in Range(1, 10)
    assert 0 not in Range(0, 1, above=True)
    assert str(Range(0, 1e12, above=True)) == "above 0 and at most 1e+12"
    assert str(Range(1, 10_000)) == "at least 1 and at most 10,000"

"""Settings: each is declared once; options, keys, keywords, schema and reference follow from it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.commands._reference import reference
from llmscale.errors import InputError
from llmscale.explain.api.compare_settings import CompareSpec
from llmscale.explain.api.explore_settings import ExploreSpec
from llmscale.explain.api.plan_settings import PlanSpec
from llmscale.explain.api.settings import FitSpec, MixtureSpec, PlotSpec, PredictSpec, Reading
from llmscale.explain.estimation.options import Options
from llmscale.measure.executors._ray_cluster import Options as RayOptions
from llmscale.measure.executors._slurm_queue import Options as SlurmOptions
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.spec import SweepSpec, asked_spec, parse_budgets, read_spec
from llmscale.measure.text.augmentation import Augmentation
from llmscale.measure.text.mixture_spec import MixedSource
from llmscale.measure.text.spec import Cleaning, TextSpec
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.trained.generation.spec import Sampling
from llmscale.measure.tune.spec import SearchSpec
from llmscale.runs.shape import Shape
from llmscale.settings import Range, Setting, keys_of, options_of, settings_of, stated_options
from llmscale.settings.tables import with_keywords

KINDS: tuple[Any, ...] = (
    Recipe,
    Hardware,
    SweepSpec,
    SearchSpec,
    TextSpec,
    Cleaning,
    Augmentation,
    MixedSource,
    RayOptions,
    SlurmOptions,
    Reading,
    Options,
    FitSpec,
    MixtureSpec,
    PlotSpec,
    PredictSpec,
    PlanSpec,
    ExploreSpec,
    CompareSpec,
    Sampling,
)
NUMBERS = [(kind, one) for kind in (*KINDS, Shape) for one in settings_of(kind) if one.within]
USUAL: dict[type, dict[str, Any]] = {
    MixedSource: {"source": "stdlib"},
    Shape: {"n_layer": 2, "d_model": 16, "n_head": 1, "d_ff": 32, "vocab_size": 300, "context": 32},
}
OPTIONS = options_of(SweepSpec)
GIVEN: dict[str, tuple[str, str]] = {
    "sizes": ("1M,3M", '["1M", "3M"]'),
    "tokens": ("4M,20x", '["4M", "20x"]'),
    "flops": ("1e15", '["1e15"]'),
    "track": ("mlflow", '["mlflow"]'),
    "clean": ("gopher-quality,boilerplate", '["boilerplate", "gopher-quality"]'),
    "validation_tokens": ("200k", '"200k"'),
    "unique_tokens": ("1M,5x", '["1M", "5x"]'),
    "epochs": ("1,4", "[1, 4]"),
}
"""How lists and counts are given, as an option and in a file."""

_GRID = ('flops = ["1e15"]', SweepSpec(flops=(1e15,)))
_BUDGET = ('sizes = ["1M"]\ntokens = "4M"', SweepSpec(sizes=("1M",), tokens=parse_budgets("4M")))
STARTS = {
    "sizes": ("", SweepSpec()),
    "flops": ("", SweepSpec()),
    **dict.fromkeys(("per_budget", "optimum", "spread"), _GRID),
    **dict.fromkeys(("unique_tokens", "epochs"), _BUDGET),
}
"""What a file and a specification begin with, if not with a size."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_that_can_be_set_has_a_range_and_every_setting_says_what_it_is(
    kind: Any,
) -> None:
    for one in settings_of(kind):
        assert one.help
        assert one.help == one.help.strip()
        if {int, float} & set(one.kinds):
            assert one.within is not None, one.name


@pytest.mark.parametrize(("kind", "one"), NUMBERS)
def test_a_number_outside_its_range_is_named_with_what_it_may_be(kind: Any, one: Setting) -> None:
    name, allowed, usual = one.name, one.within, USUAL.get(kind, {})
    assert allowed is not None
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
    if isinstance(one.default, int | float):
        assert one.default in allowed


def test_a_range_holds_its_ends_and_says_them() -> None:
    assert 1 in Range(1, 10)
    assert 10 in Range(1, 10)
    assert 0 not in Range(0, 1, above=True)
    assert str(Range(0, 1e12, above=True)) == "above 0 and at most 1e+12"
    assert str(Range(1, 10_000)) == "at least 1 and at most 10,000"


NOT_ALONE = ("rule", "distill_weight", "distill_temperature")
"""What is refused without a file, or without a teacher next to it."""


@pytest.mark.parametrize("keyword", [name for name in OPTIONS if name not in NOT_ALONE])
def test_a_setting_means_the_same_as_an_option_a_key_and_a_keyword(
    keyword: str, tmp_path: Path
) -> None:
    option, one = OPTIONS[keyword], OPTIONS[keyword].setting
    value: Any = {str: "x", int: 6, float: 6.0, bool: not one.default}.get(one.kinds[0])
    if one.choices:
        value = next(name for name in one.choices() if name != one.default)
    if one.within and value not in one.within:
        value = one.within.most
    toml = f'"{value}"' if isinstance(value, str) else str(value).lower()
    value, toml = GIVEN.get(keyword, (value, toml))
    table = f"[{'.'.join(option.tables)}]\n" if option.tables else ""
    first, base = STARTS.get(keyword, ('sizes = ["1M"]', SweepSpec(sizes=("1M",))))
    path = tmp_path / "sweep.toml"
    path.write_text(f"{first}\n{table}{one.name} = {toml}\n")
    by_keyword = asked_spec(base, {keyword: value})
    assert by_keyword == read_spec(path)
    assert by_keyword != base
    words = stated_options(by_keyword, leave_out={"sizes", "tokens", "flops"} - {keyword})
    assert one.flag.lstrip("-") in words[0]


def test_unknown_keywords_name_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        asked_spec(None, {"token": "4M"})
    assert "did you mean 'tokens'?" in str(caught.value.fix)
    with pytest.raises(InputError, match="context in the call is 'long'"):
        asked_spec(None, {"context": "long"})


@pytest.mark.parametrize("command", ["sweep", "tune"])
def test_help_shows_options_in_groups_with_choices_and_defaults(command: str) -> None:
    said = " ".join(CliRunner().invoke(app, [command, "--help"]).output.split())
    places = [said.index(f"{name}: -") for name in ("What to train", "Text", "Recipe", "Hardware")]
    assert places == sorted(places)
    assert "--arch gpt2|llama" in said
    assert "[default: wsd]" in said
    assert "[default: one epoch of the text]" in said


@pytest.mark.parametrize("command", ["fit", "plot", "predict"])
def test_help_of_what_explains_shows_menus_and_plain_defaults(command: str) -> None:
    said = " ".join(CliRunner().invoke(app, [command, "--help"]).output.split())
    places = [said.index(f"{name}: -") for name in ("What to read", "What to fit", "How to fit")]
    assert places == sorted(places)
    assert "chinchilla, curve, curve-size" in said
    assert "--objective huber|squared|log-cosh" in said
    assert "[default: 0.9]" in said
    assert "[default: what suits the table]" in said or command == "predict"


def test_numbers_and_truths_of_numpy_are_taken_as_those_of_python() -> None:
    given = {"refit": np.True_, "level": np.float64(0.5), "seed": np.int64(3)}
    spec = with_keywords(PredictSpec(), given, "the call")
    found = (spec.refit, spec.options.level, spec.options.seed)
    assert found == (True, 0.5, 3)
    assert [type(value) for value in found] == [bool, float, int]


def test_the_reference_of_settings_is_what_the_declarations_say(repository: Path) -> None:
    text = reference()
    for kind in KINDS:
        for one in keys_of(kind).values():
            assert f"`{one.name}`" in text or one.table, one
    committed = repository / "docs" / "settings.md"
    assert committed.read_text(encoding="utf-8") == text, "write it anew: make docs"

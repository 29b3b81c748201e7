"""FLOPs of recipes that are counted in two ways are no difference of the recipes."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipes import SIZES, ladder

import llmscale
from llmscale import InputError

_DRIFT = np.geomspace(2.5, 0.4, len(SIZES)).repeat(2)
_SCATTER = 10.0 ** np.random.default_rng(1).uniform(-0.5, 0.5, 2 * len(SIZES))


def counted(*factors: Any) -> dict[str, pd.DataFrame]:
    """One recipe twice, its FLOPs counted as these times 6ND; None gives no FLOPs."""
    tables = {}
    for place, factor in enumerate(factors):
        table = ladder(seed=place)
        if factor is None:
            table = table.drop(columns="flops")
        else:
            table["flops"] *= factor
        tables["ab"[place]] = table
    return tables


@pytest.mark.parametrize(
    ("factors", "reading", "codes"),
    [
        ((1.33, None), {}, {"compared-by-6nd"}),
        ((None, 1.33), {}, {"compared-by-6nd"}),
        ((1.33, 1), {"columns": "flops=none"}, set()),
        ((1, _DRIFT), {"columns": "flops=none"}, set()),
        ((1.33, 1.33), {}, set()),
        ((1, None), {}, set()),
    ],
)
def test_by_one_count_a_recipe_needs_its_own_compute(
    factors: tuple[Any, Any], reading: dict[str, Any], codes: set[str]
) -> None:
    found = llmscale.compare(counted(*factors), **reading)
    assert found.multipliers[0].low < 1 < found.multipliers[0].high
    assert {note.code for note in found.notes} & {"compared-by-6nd", "flops-differ"} == codes


def test_recipes_that_have_other_flops_at_one_size_are_told() -> None:
    notes = llmscale.compare(counted(1.33, 1)).notes
    (note,) = (note for note in notes if note.code == "flops-differ")
    assert "(C/(6ND): a 1.33, b 1)" in note.message


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ((1, _DRIFT), "a from 1 to 1, b from 2.5 to 0.4"),
        ((1, _SCATTER), "the FLOPs of b are .* in runs of like sizes"),
        ((0.2, None), "two counts, which do not compare"),
    ],
)
def test_flops_that_would_decide_a_comparison_are_refused(
    factors: tuple[Any, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as error:
        llmscale.compare(counted(*factors))
    assert "--columns flops=none" in str(error.value.fix)


def test_flops_that_are_said_to_be_right_are_taken_as_they_stand() -> None:
    assert llmscale.compare(counted(1, _DRIFT), units="flops=1").multipliers[0].value < 0.9


def with_attention(context: int, *, seed: int = 0, counted: bool = True) -> pd.DataFrame:
    """One recipe, with C = 6ND + 12 L d T D (Kaplan et al. 2020, table 1, forward and backward) of
    models of six depths and widths."""
    depth, width = np.array([6, 8, 12, 16, 20, 24]), np.array([384, 512, 640, 768, 1024, 1280])
    table = ladder(seed=seed, sizes=12 * depth * width**2, context=context)
    attention = np.repeat(12 * depth * width, 2) * context * table["tokens"]
    return table.assign(flops=table["flops"] + counted * attention)


def test_flops_of_attention_over_a_longer_context_are_only_noted() -> None:
    found = llmscale.compare({"a": with_attention(1024), "b": with_attention(8192, seed=1)})
    (note,) = (note for note in found.notes if note.code == "flops-differ")
    assert "a from 1.4 to 1.1, b from 4.5 to 2.1), as their contexts explain" in note.message
    uncounted = with_attention(1024, counted=False)
    for first, column in [(uncounted, "context"), (with_attention(1024), "other")]:
        tables = {"a": first, "b": with_attention(8192, seed=1)}
        tables = {name: table.rename(columns={"context": column}) for name, table in tables.items()}
        with pytest.raises(InputError) as error:
            llmscale.compare(tables)
        assert "if a longer context is the cause" in str(error.value.fix)

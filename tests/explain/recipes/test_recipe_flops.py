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

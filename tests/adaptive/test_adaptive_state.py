"""adaptive.json is read as it was written, and what is damaged in it is said; a budget is spread
over rounds."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from llmscale import InputError
from llmscale.adaptive.spending import round_budget
from llmscale.adaptive.state import (
    ChosenRun,
    Outcome,
    Round,
    State,
    check_same,
    read_state,
    write_state,
)
from llmscale.runs.checked import DamagedFile
from llmscale.runs.results_folder import ResultsFolder

NUMBERS = some.floats(0.1, 1e25)
OUTCOMES = some.builds(Outcome, some.just("chinchilla"), NUMBERS, NUMBERS, NUMBERS)
RUNS = some.builds(
    ChosenRun, some.sampled_from(["1M", "2x24x2"]), NUMBERS, some.integers(0, 9), NUMBERS
)
ROUNDS = some.builds(
    Round,
    some.integers(0, 9),
    NUMBERS,
    some.lists(RUNS, max_size=3).map(tuple),
    before=some.none() | OUTCOMES,
    expected=some.none() | some.tuples(NUMBERS, NUMBERS),
    flops=some.none() | NUMBERS,
    after=some.none() | OUTCOMES,
    lost=some.lists(some.text(max_size=9), max_size=2).map(tuple),
)
STATES = some.builds(
    State,
    some.just({"flops": "1e22", "level": 0.9}),
    some.dictionaries(some.just("3fa9"), NUMBERS),
    some.lists(ROUNDS, max_size=3).map(tuple),
    some.just({"budget": 1e19, "sizes": "1M,2M"}),
    some.sampled_from(["", "the budget is spent"]),
)


@settings(max_examples=30)
@given(STATES)
def test_a_state_is_read_as_it_was_written(state: State) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        folder = ResultsFolder(Path(name))
        assert read_state(folder) is None
        write_state(folder, state)
        assert read_state(folder) == state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": None}, "rounds is null, not a list"),
        ({"rounds": [3]}, "an item of rounds is 3, not a table"),
        ({"rounds": [{"number": 0}]}, "runs of a round is null"),
        ({"spent_before": {"3fa9": "much"}}, 'spent_before.3fa9 is "much", not a number'),
        ({"stop": 3}, "stop is 3, not text"),
    ],
)
def test_a_damaged_state_is_told_and_not_guessed(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = ResultsFolder(tmp_path)
    write_state(folder, State({"flops": "1e22"}, {}))
    written = json.loads(folder.adaptive_path.read_text())
    folder.adaptive_path.write_text(json.dumps({**written, **change}))
    with pytest.raises(DamagedFile) as error:
        read_state(folder)
    assert message in error.value.problem


@given(some.floats(1e3, 1e25), some.integers(1, 20), some.lists(some.floats(0, 1), min_size=20))
def test_rounds_that_spend_what_they_may_never_exceed_the_budget(
    budget: float, rounds: int, shares: list[float]
) -> None:
    left = budget
    for number in range(rounds):
        may = round_budget(left, number, rounds - number)
        assert 0 <= may <= left
        left -= shares[number] * may
    spent = 0.0
    for number in range(rounds):
        spent += round_budget(budget - spent, number, rounds - number)
    assert spent == pytest.approx(budget)


def test_a_target_in_flops_is_named_as_the_command_has_it(tmp_path: Path) -> None:
    state = State({"flops": 1e22}, {})
    with pytest.raises(InputError, match=r"with target=1e\+22, and .* says target=1e\+23"):
        check_same(ResultsFolder(tmp_path), state, {"flops": 1e23})

"""What `fit`, `predict` and `plot` take in Python, and how they say what is wrong with it."""

import inspect
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale.errors import Note
from llmscale.errors.keywords import as_keywords
from llmscale.explain.api.explore_settings import ExploreSpec
from llmscale.explain.api.plan_settings import PlanSpec
from llmscale.explain.api.settings import FitSpec, PlotSpec, PredictSpec, Reading, ReadingGiven
from llmscale.explain.estimation.options import Options, OptionsGiven
from llmscale.notes import with_codes
from llmscale.settings import options_of, settings_of

RUNS = {"params": [1e6, 3e6, 1e7, 3e7, 1e8, 3e8], "loss": [4.1, 3.8, 3.53, 3.32, 3.14, 3.0]}


@pytest.fixture(scope="module")
def fit() -> llmscale.Fit:
    return llmscale.fit(RUNS, "power", bootstrap=0, diagnostics=False)


def test_keywords_are_typed_and_shown_as_they_are_declared() -> None:
    for kind, given in ((Reading, ReadingGiven), (Options, OptionsGiven)):
        assert [one.name for one in settings_of(kind)] == list(get_type_hints(given))
    calls: dict[Any, Any] = {
        llmscale.fit: FitSpec,
        llmscale.plot: PlotSpec,
        llmscale.predict: PredictSpec,
        llmscale.plan: PlanSpec,
        llmscale.explore: ExploreSpec,
    }
    for call, spec in calls.items():
        shown = inspect.signature(call).parameters
        for name, option in options_of(spec).items():
            assert shown[name].default == option.setting.default, name


WRONG: tuple[tuple[str, dict[str, Any]], ...] = (
    ("fit", {"law": 5}),
    ("fit", {"law": [5]}),
    ("fit", {"law": llmscale.Law}),
    ("fit", {"law": int}),
    ("fit", {"by": ["tokens"]}),
    ("fit", {"method": 5}),
    ("fit", {"holdout": 3}),
    ("fit", {"level": "0.9"}),
    ("fit", {"seed": 1.5}),
    ("fit", {"diagnostics": "no"}),
    ("fit", {"columns": 5}),
    ("fit", {"where": [1]}),
    ("fit", {"keep": 5}),
    ("fit", {"keep": True}),
    ("fit", {"keep": "fit.json", "by": "params"}),
    ("fit", {"keep": "fit.json", "law": "all"}),
    ("fit", {"keep": "fit.json", "law": ["power", "power-floor"]}),
    ("fit", {"bootsrap": 5}),
    ("fit", {"options": {}}),
    ("plot", {"kind": 5}),
    ("plot", {"width": "3"}),
    ("plot", {"output": 5}),
    ("plot", {"title": 5}),
    ("plot", {"law": "all"}),
    ("predict", {"params": []}),
    ("predict", {"params": np.array([])}),
    ("predict", {"inputs": [1]}),
    ("predict", {"params": 1e9, "inputs": {"params": 1e8}}),
    ("predict", {"params": 1e9, "law": ["power"]}),
    ("predict", {"params": 1e9, "law": "all"}),
    ("predict", {"params": 1e9, "refit": "no"}),
    ("predict", {"params": 1e9, "count": "params_total"}),
)


@pytest.mark.parametrize(("call", "keywords"), WRONG)
def test_a_wrong_argument_is_named_before_anything_is_done(
    call: str,
    keywords: dict[str, Any],
    fit: llmscale.Fit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = RUNS if call == "fit" else fit
    with pytest.raises(llmscale.InputError) as caught:
        getattr(llmscale, call)(source, **keywords)
    assert caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_none_is_as_if_left_out_and_numbers_of_numpy_are_numbers(fit: llmscale.Fit) -> None:
    given: dict[str, Any] = {"level": np.float32(0.5), "bootstrap": 0.0, "seed": np.int64(3)}
    found = llmscale.fit(RUNS, "power", **given, diagnostics=False, holdout=None, count=None)
    assert found.law == fit.law
    assert (found.options.bootstrap, found.options.seed, found.options.holdout) == (0, 3, "largest")
    assert llmscale.predict(found, params="1B,2B").loss.shape == (2,)


def test_an_error_says_in_python_what_to_write_in_python() -> None:
    with pytest.raises(llmscale.InputError) as caught:
        llmscale.fit(RUNS, objective="squared", delta=0.1)
    assert str(caught.value).endswith('fix: leave delta= out, or take objective="huber"')
    assert "--objective huber" in str(caught.value.fix)
    in_params = llmscale.fit(RUNS, "power", bootstrap=0, diagnostics=False, holdout="none")
    with pytest.raises(llmscale.InputError, match=r"fix: give params=$"):
        llmscale.predict(in_params)


def test_a_fit_next_to_a_table_is_that_of_another_table_or_of_this_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    runs = pd.DataFrame(RUNS)
    runs.to_csv(one, index=False)
    runs.assign(loss=runs["loss"] - 0.1).to_csv(other, index=False)
    llmscale.fit(one, "power", bootstrap=0, keep=str(tmp_path / "fit-power.json"))
    with caplog.at_level("INFO", logger="llmscale.explain"):
        llmscale.predict(other, law="power", params=1e9, bootstrap=0)
        assert f"is of {one}, not of {other}: fitted again" in caplog.text
        runs.head(5).to_csv(one, index=False)
        llmscale.predict(one, law="power", params=1e9, bootstrap=0)
        assert "is of the table before it changed: fitted again" in caplog.text


def test_notes_say_options_in_a_shell_and_keywords_in_python() -> None:
    read = llmscale.read_runs(RUNS)
    note = Note("flops-off", "--units flops=3 counts both passes")
    table = replace(read, notes=(note,))
    assert str(table.notes[0]) == note.message
    for shown in (with_codes(table.notes)[0], unescape(table._repr_html_())):
        assert 'units="flops=3" counts both passes' in shown


@pytest.mark.parametrize(
    ("said", "in_python"),
    [
        ("name one --law to keep", "name one law= to keep"),
        ("give --params and --tokens", "give params= and tokens="),
        ("(--units flops=1 takes them)", '(units="flops=1" takes them)'),
        ("--columns loss='a b', or", """columns="loss='a b'", or"""),
        ("--width 3.4", "width=3.4"),
        ("did you mean --unique-tokens 1B?", 'did you mean unique_tokens="1B"?'),
        ("--where 'tokens == 3'", "where='tokens == 3'"),
        ("try --dry-run.", "try dry_run=."),
        ("fit again: llmscale fit X --law power", "fit again: llmscale fit X --law power"),
    ],
)
def test_options_are_said_as_keywords(said: str, in_python: str) -> None:
    assert as_keywords(said) == in_python

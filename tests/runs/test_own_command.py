"""A printed next step is the command that made the folder, with only what is needed changed."""

import json
from pathlib import Path

import pandas as pd
import pytest

from llmscale.explain.estimation.advice import more_budgets, more_sizes
from llmscale.explain.table import read_table
from llmscale.runs.own_command import on_more_validation, resumed, sweep_by_rule, sweep_of

TEXT = "--data 'my text.txt' --tokenizer bpe:300 --context 64 --schedule cosine"
SWEEP = f"llmscale sweep --sizes 10k,30k --tokens 400k --seeds 2 {TEXT} --json --out results/before"


def test_a_stopped_sweep_goes_on_as_it_was_asked_for() -> None:
    assert resumed(SWEEP, "here") == (
        f"llmscale sweep --sizes 10k,30k --tokens 400k --seeds 2 {TEXT} --out here"
    )
    assert (
        resumed("llmscale sweep mine.toml --out=x", "here") == "llmscale sweep mine.toml --out here"
    )
    assert resumed("llmscale.sweep(...) in Python", "here") is None
    assert resumed("llmscale sweep x; rm -r /", "here") is None


def test_the_sweep_by_a_rule_is_of_the_text_and_recipe_that_were_tuned() -> None:
    tuned = f"llmscale tune --sizes 30k --tokens 1M {TEXT} --no-batch --doublings 3 --lr-scale=2"
    assert sweep_by_rule(f"{tuned} --out a", ["10k", "30k"], Path("a")) == (
        f"llmscale sweep --sizes 10k,30k --tokens 1M {TEXT} --rule a"
    )
    assert sweep_by_rule(None, ["10k"], Path("a")) == "llmscale sweep --sizes 10k --rule a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a sweep of two sizes on one budget."""
    runs = pd.DataFrame(
        {
            "run_id": ["aaaa1111", "bbbb2222"],
            "size": ["10k", "30k"],
            "status": "done",
            "params": [35_000, 60_000],
            "params_non_embedding": [10_000, 30_000],
            "params_total": [60_000, 90_000],
            "tokens": 400_000,
            "batch_tokens": 1024,
            "loss": [3.0, 2.8],
            "schedule": "cosine",
            "dtype": "float32",
            "vocab_size": 300,
        }
    )
    runs.to_parquet(tmp_path / "runs.parquet")
    (tmp_path / "sweep.json").write_text(json.dumps({"command": SWEEP, "spec": {"flops": []}}))
    return tmp_path


def test_more_runs_are_asked_for_with_the_sweeps_own_options(folder: Path) -> None:
    own = f"--seeds 2 {TEXT} --out {folder}"
    frame = read_table(folder).frame
    assert more_sizes(frame, 3) == f"llmscale sweep --sizes 100k --tokens 400k {own}"
    budgets = more_budgets(frame, sizes=2, number=3)
    assert budgets == f"llmscale sweep --sizes 10k,30k --tokens 1.7M,9.2M {own}"
    assert sweep_of(folder, "1M", "") == f"llmscale sweep --sizes 1M --tokens 400k {own}"


def test_losses_are_measured_again_on_more_text_next_to_the_folder(folder: Path) -> None:
    again = f"llmscale sweep --sizes 10k,30k --tokens 400k --seeds 2 {TEXT}"
    assert on_more_validation(folder, "a", "2M") == f"{again} --validation-tokens 2M --out a-2M"


def test_a_folder_that_does_not_say_how_it_was_made_is_answered_in_words(folder: Path) -> None:
    (folder / "sweep.json").write_text(json.dumps({"command": "llmscale.sweep(...) in Python"}))
    assert more_sizes(read_table(folder).frame, 3).startswith("runs at non-embedding N = ")
    (folder / "sweep.json").write_text(json.dumps({"command": SWEEP, "spec": {"flops": [1e15]}}))
    assert sweep_of(folder, "1M", "") is None
    (folder / "sweep.json").write_text(json.dumps({"command": "llmscale sweep gone.toml"}))
    assert sweep_of(folder, "1M", "") is None
    assert on_more_validation(folder, "a", "2M") is None

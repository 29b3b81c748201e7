"""Sweeps over mixtures and over epochs: what their runs read, and the columns that they have."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeps import llmscale, write_counting

from llmscale.errors import InputError
from llmscale.measure.sweep.budgets import Budget, budgets_of
from llmscale.measure.sweep.records import find_damage, write_tables
from llmscale.measure.sweep.spec import SweepSpec, parse_budgets
from llmscale.measure.text.store import TokenStore
from llmscale.measure.train.run_spec import read_spec
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.scores import write_scores
from llmscale.runs.shape import shape_for

SETTINGS = ["--context", "32", "--device", "cpu", "--dtype", "float32", "--workers", "1"]
MIXTURE = """
sizes = ["1x16x1"]
tokens = ["3k"]

[data]
tokenizer = "bpe:300"

[data.mixture.counted]
source = "{counting}"
weight = 3

[data.mixture.varied]
source = "{other}"

[data.mixtures]
even = {{ counted = 1, varied = 1 }}
"""


def write_other(folder: Path) -> Path:
    lines = [" ".join(chr(97 + (n * m) % 26) for m in range(n, n + 150)) for n in range(1, 120)]
    path = folder / "other.jsonl"
    path.write_text("\n".join(json.dumps({"text": line}) for line in lines) + "\n")
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over two mixtures, with its TOML file next to it."""
    folder = tmp_path_factory.mktemp("mixed")
    texts = {"counting": write_counting(folder), "other": write_other(folder)}
    (folder / "mix.toml").write_text(MIXTURE.format(**texts))
    done = llmscale("sweep", str(folder / "mix.toml"), "--out", str(folder / "out"), *SETTINGS)
    assert done.exit_code == 0, done.stderr
    return folder / "out"


def test_what_training_measured_stays_if_later_scores_are_removed_or_damaged(
    mixed: Path, tmp_path: Path
) -> None:
    folder = ResultsFolder(Path(shutil.copytree(mixed, tmp_path / "out")))
    trained = folder.read_runs()
    first, second = folder.run_folders
    write_scores(first, {"loss_books": 3.0})
    write_tables(folder, final=True)
    assert folder.read_runs()["loss_books"].notna().sum() == 1
    first.scores_path.unlink()
    second.measured_path.write_text("{")
    write_tables(folder, final=True)
    pd.testing.assert_frame_equal(folder.read_runs(), trained)
    assert [damage.path for damage in find_damage(folder)] == [second.measured_path]
    first.measured_path.rename(first.scores_path)  # as old folders have it
    write_tables(folder, final=True)
    pd.testing.assert_frame_equal(folder.read_runs(), trained)


def test_runs_on_mixtures_have_the_loss_on_every_source(mixed: Path) -> None:
    runs = pd.read_parquet(mixed / "runs.parquet").set_index("recipe")
    assert runs["share_counted"].to_dict() == {"default": 0.75, "even": 0.5}
    assert runs["share_varied"].to_dict() == {"default": 0.25, "even": 0.5}
    assert runs["data"].to_dict() == {
        "default": "0.75 counted + 0.25 varied",
        "even": "0.5 counted + 0.5 varied",
    }
    assert runs["data_fingerprint"].nunique() == 2
    folder = ResultsFolder(mixed)
    for run in runs.itertuples():
        spec = read_spec(folder.run_folder(str(run.run_id)))
        store = TokenStore.open(Path(spec.store))
        assert store.fingerprint == run.data_fingerprint
        parts = store.validation_parts
        windows = {name: len(part.windows(32)) for name, part in parts.items()}
        mean = sum(getattr(run, f"loss_{name}") * count for name, count in windows.items())
        # All windows but the one that begins in one source and ends in the next.
        assert run.loss == pytest.approx(mean / sum(windows.values()), rel=0.01)
        for name, part in parts.items():
            loss, bits = getattr(run, f"loss_{name}"), getattr(run, f"bits_per_byte_{name}")
            assert bits == pytest.approx(loss * part.tokens / part.bytes / math.log(2))
            assert 0 < getattr(run, f"loss_stderr_{name}") < loss
    assert runs["loss_varied"]["even"] < runs["loss_varied"]["default"]
    assert runs["loss_counted"]["even"] > runs["loss_counted"]["default"]


def test_a_mixture_added_later_is_all_that_is_trained(mixed: Path) -> None:
    toml = mixed.with_name("mix.toml")
    more = mixed.with_name("more.toml")
    more.write_text(f"{toml.read_text()}less = {{ counted = 1, varied = 9 }}\n")
    planned = llmscale("sweep", str(more), "--out", str(mixed), *SETTINGS, "--dry-run", "--json")
    runs = {run["recipe"]: run for run in json.loads(planned.stdout)["runs"]}
    assert {name: run["finished"] for name, run in runs.items()} == {
        "default": True,
        "even": True,
        "less": False,
    }
    changed = mixed.with_name("changed.toml")
    changed.write_text(toml.read_text().replace("varied = 1 }", "varied = 2 }"))
    refused = llmscale("sweep", str(changed), "--out", str(mixed), *SETTINGS, "--dry-run")
    assert refused.exit_code == 2
    assert "holds a sweep of another specification: recipes.even.mixture" in refused.stderr


def test_a_law_of_one_text_is_warned_of_mixtures(mixed: Path) -> None:
    fitted = llmscale("fit", str(mixed), "--law", "mixture", "--columns", "loss=loss_varied")
    assert fitted.exit_code == 2
    assert "share_counted" in fitted.stderr
    shown = llmscale("mixture", str(mixed))
    assert shown.exit_code == 2
    assert "and the table has 2" in shown.stderr


SHAPE = shape_for("1x16x1", vocab_size=300, context=32)


def asked(**settings: Any) -> SweepSpec:
    read: dict[str, Any] = {
        name: parse_budgets(value) if isinstance(value, str) else value
        for name, value in settings.items()
    }
    return SweepSpec(sizes=("1x16x1",), **read)


@pytest.mark.parametrize(
    ("settings", "budgets"),
    [
        ({"tokens": "6400"}, [(6400, None)]),
        ({"unique_tokens": "640", "epochs": (1.0, 4.0)}, [(640, 640), (2560, 640)]),
        ({"tokens": "6400", "epochs": (1.0, 4.0)}, [(6400, 6400), (6400, 1600)]),
        ({"tokens": "6400", "unique_tokens": "640,1M"}, [(6400, 640), (6400, 6400)]),
        # Whole sequences, so that epochs are what was asked for.
        ({"tokens": "1000", "epochs": (3.0,)}, [(960, 320)]),
        ({"unique_tokens": "1000", "epochs": (1.5,)}, [(1472, 992)]),
    ],
)
def test_epochs_and_unique_tokens_say_what_is_read(
    settings: dict[str, Any], budgets: list[tuple[int, int | None]]
) -> None:
    spec = asked(**settings)
    tokens = [budget.tokens(SHAPE.params) for budget in spec.tokens]
    assert budgets_of(spec, SHAPE, tokens) == [Budget(*pair) for pair in budgets]


def test_repeated_runs_read_the_first_tokens_so_many_times(text: Path, tmp_path: Path) -> None:
    command = ["sweep", "--sizes", "1x16x1,2x16x1", "--data", str(text), "--tokenizer", "bpe:300"]
    repeated = ["--unique-tokens", "2k,4k", "--epochs", "1,2,8", *SETTINGS, "--dry-run", "--json"]
    planned = llmscale(*command, *repeated, "--out", str(tmp_path / "out"))
    plan = json.loads(planned.stdout)
    found = [(run["unique_tokens"], run["epochs"], run["tokens"]) for run in plan["runs"]]
    one_size = {(1984, 1, 1984), (1984, 2, 3968), (1984, 8, 15872)}
    one_size |= {(4000, 1, 4000), (4000, 2, 8000), (4000, 8, 32000)}
    assert len(found) == 12
    assert set(found) == one_size
    # The longest run of a text is the trunk of the others.
    parents = {run["run_id"]: run["parent"] for run in plan["runs"]}
    assert sum(parent is None for parent in parents.values()) == 4
    codes = [warning["code"] for warning in plan["warnings"]]
    assert "repeated-data" in codes
    too_many = llmscale(*command, "--unique-tokens", "9M", "--epochs", "2", *SETTINGS, "--dry-run")
    assert too_many.exit_code == 2
    assert "runs are to read 9M different tokens, and the training text" in too_many.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": (2.0,)}, "epochs was given without a budget"),
        ({"unique_tokens": "1M"}, "unique_tokens was given without a budget"),
        ({"tokens": "2M", "unique_tokens": "1M", "epochs": (2.0,)}, "two of them say the third"),
    ],
)
def test_epochs_that_say_too_little_or_too_much_are_refused(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        asked(**settings)
    refused = llmscale("sweep", "--sizes", "10k", "--tokens", "1M", "--epochs", "0.5")
    assert refused.exit_code == 2
    assert "epochs has '0.5', and a text is read 1 to 10,000 times" in refused.stderr

"""Checkpoints of one run are one run, whatever its column is called; what only looks like a name
makes no groups.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.table import RunTable, read_table

SIZES = np.array([5e6, 2e7, 8e7, 3e8, 1e9, 3e9])
NAMES = np.repeat(list("abcdef"), 6)


def measured(params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(params))
    return (1.8 + 420 / params**0.34 + 1800 / tokens**0.36) * np.exp(0.003 * noise)


def checkpoints() -> pd.DataFrame:
    """Six checkpoints of six runs, every 500 steps."""
    step = np.tile(np.arange(1, 7) * 500, 6)
    params, tokens = np.repeat(SIZES, 6), step * 2.4e5
    return pd.DataFrame(
        {"step": step, "params": params, "tokens": tokens, "loss": measured(params, tokens)}
    )


def grid() -> pd.DataFrame:
    """Runs of their own: six sizes at four ratios of tokens to parameters."""
    params = np.repeat(SIZES, 4)
    tokens = params * np.tile([5.0, 20.0, 80.0, 200.0], 6)
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": measured(params, tokens)})


def codes(table: RunTable) -> list[str]:
    return [note.code for note in table.notes]


@pytest.mark.parametrize(
    "column",
    ["run_id", "name", "Name", "run", "run_name", "model", "model_name", "trial_id", "id",
     "experiment", "exp_name",
     "config.name", "Model Name"],
)  # fmt: skip
def test_a_run_is_known_by_any_name_of_its_column(column: str) -> None:
    for frame in (checkpoints(), checkpoints().drop(columns="step")):
        table = read_table(frame.assign(**{column: NAMES}))
        assert (table.runs, len(table.frame), table.columns["run_id"]) == (6, 36, column)
        assert table.frame["run_id"].tolist() == NAMES.tolist()
        (note,) = (note for note in table.notes if note.code == "run-id-repeated")
        assert "36 rows are of 6 runs" in note.message


@pytest.mark.parametrize(
    "form",
    ["{}@{}", "{}-step{}", "{}_step_{}", "{}/checkpoint-{}", "{}/step{}-unsharded",
     "{}/ckpt_{}.pt", "{}-{}", "{}/{}",
     "{}:global_step{}", "{}-{}steps", "{}/epoch=1-step={}.ckpt", "{}@{}k"],
)  # fmt: skip
def test_the_step_in_an_id_is_no_part_of_the_run(form: str) -> None:
    frame = checkpoints()
    ids = [form.format(name, step) for name, step in zip(NAMES, frame["step"], strict=True)]
    table = read_table(frame.drop(columns="step").assign(run_id=ids))
    assert table.frame["run_id"].tolist() == NAMES.tolist()


def test_without_names_rows_alike_in_all_but_tokens_are_one_run() -> None:
    shapes = checkpoints().assign(width=np.repeat([64, 128, 256, 512, 1024, 2048], 6))
    for frame in (
        shapes,
        shapes.drop(columns="step"),
        shapes.assign(ckpt=[f"step{n}" for n in shapes["step"]]),
    ):
        assert read_table(frame).runs == 6


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"model": "llama"},
        {"experiment": "c4"},
        {"name": [f"run {n}" for n in range(24)]},
        {"model": [f"{n:g}" for n in np.repeat(SIZES, 4)]},
        {"run_id": [f"llama-{n:g}-{r}" for n in SIZES for r in (5, 20, 80, 200)]},
        {
            "name": [f"run {n}" for n in range(24)],
            "_step": list(grid()["tokens"] / 1e6),
            "model": list("abcdef") * 4,
        },
    ],
)
def test_names_that_are_no_identity_make_no_groups(names: dict[str, object]) -> None:
    table = read_table(grid().assign(**names))
    assert (table.runs, codes(table)) == (24, [])


@pytest.mark.parametrize("column", ["model", "size", "run_id"])
def test_checkpoints_under_a_name_are_known_by_their_steps_however_few_they_are(
    column: str,
) -> None:
    """Two to four steps of each: as many rows as a grid of runs may have."""
    named = checkpoints().assign(**{column: NAMES})
    for steps in ([500, 3000], [500, 1000, 2000], [500, 1000, 1500, 2000]):
        table = read_table(named[named["step"].isin(steps)])
        assert (table.runs, table.columns["run_id"], codes(table)) == (
            6, column, ["run-id-repeated"],
        )  # fmt: skip
    # Runs of equal tokens a parameter end at steps of their own.
    runs = grid().assign(**{column: np.repeat(list("abcdef"), 4)})
    if column != "run_id":
        assert read_table(runs.assign(step=runs["tokens"] / 2.4e5)).runs == 24


def test_a_grid_of_runs_is_no_set_of_checkpoints_even_with_their_last_steps() -> None:
    for tokens in (
        np.tile([1e9, 3e9, 1e10, 3e10, 1e11], 6),
        np.repeat(SIZES, 5) * np.tile([5, 10, 20, 40, 80], 6),
    ):
        params = np.repeat(SIZES, 5)
        frame = pd.DataFrame({"params": params, "tokens": tokens, "loss": measured(params, tokens)})
        steps = frame.assign(step=tokens / 2.5e5, max_steps=1000)
        for some in (steps, steps.drop(index=[3, 9, 22]).sample(frac=1, random_state=0)):
            table = read_table(some)
            assert (table.runs, codes(table)) == (len(some), [])
            assert "checkpoints of one run: --columns run_id=params" in table.reading
        assert read_table(steps, columns={"run_id": "params"}).runs == 6
        assert "checkpoints" not in read_table(frame).reading
        # One number of steps with other batches is no resumed run.
        assert len(read_table(frame.assign(step=np.repeat([400, 1000], 15))).frame) == 30


def test_checkpoints_named_by_their_tokens_or_by_their_place_are_known() -> None:
    frame = checkpoints().drop(columns="step").assign(tokens=np.tile(np.arange(1, 7) * 5e9, 6))
    by_tokens = [
        f"{name}_{tokens / 1e9:.0f}B" for name, tokens in zip(NAMES, frame["tokens"], strict=True)
    ]
    assert read_table(frame.assign(run=by_tokens)).frame["run_id"].tolist() == NAMES.tolist()
    assert read_table(frame.assign(run=[f"run{n}" for n in range(36)])).runs == 6


@pytest.mark.parametrize(
    "form",
    [
        "{}000000000000000000{:02}",
        "{}1e12{:03}",
        "1e{}{:02}",
        "0{}{:02}",
        "1000000000000000{}{:02}.0",
    ],
)
def test_ids_that_look_like_numbers_stay_as_they_stand(tmp_path: Path, form: str) -> None:
    ids = [form.format(1, n) for n in range(24)]
    for column in ("run_id", "trial"):
        grid().assign(**{column: ids}).to_csv(tmp_path / "runs.csv", index=False)
        assert read_table(tmp_path / "runs.csv").frame["run_id"].tolist() == ids
    assert read_table(grid().assign(run_id=np.arange(24) * 1e300)).runs == 24


def test_an_id_in_rows_of_several_sizes_is_no_run() -> None:
    table = read_table(grid().assign(run_id=["c4", "pile"] * 12))
    assert (table.runs, codes(table)) == (24, ["run-id-repeated"])
    assert "each row counts as a run of its own, since their sizes differ" in str(table.notes[0])
    seeds = pd.concat([grid().assign(seed=seed, name=np.arange(24).astype(str)) for seed in (0, 1)])
    assert read_table(seeds).runs == 48


def test_run_id_none_takes_rows_for_runs() -> None:
    frame = checkpoints().assign(run_id=NAMES)
    assert read_table(frame, columns={"run_id": "none"}).runs == 36
    with pytest.raises(InputError, match="no column 'nothing' for run_id"):
        read_table(frame, columns={"run_id": "nothing"})


def test_of_a_step_that_stands_twice_the_later_row_is_kept() -> None:
    frame = checkpoints().assign(name=NAMES)
    resumed = pd.concat([frame.iloc[:9].assign(loss=9.0), frame.iloc[4:]], ignore_index=True)
    table = read_table(resumed)
    assert (table.runs, len(table.frame)) == (6, 36)
    assert [(run.run_id, run.reason[:8]) for run in table.excluded] == [
        ("a (row 5)", "its step"),
        ("a (row 6)", "its step"),
        ("b (row 7)", "its step"),
        ("b (row 8)", "its step"),
        ("b (row 9)", "its step"),
    ]
    assert (table.frame["loss"] == 9.0).sum() == 4
    (note,) = (note for note in table.notes if note.code == "steps-repeated")
    assert "5 steps of a, b stand twice" in note.message


def interval(folder: Path, frame: pd.DataFrame) -> dict[str, object]:
    path = folder / "runs.csv"
    frame.to_csv(path, index=False)
    options = ["--law", "chinchilla", "--bootstrap", "50", "--holdout", "none", "--json"]
    result = CliRunner().invoke(app, ["fit", str(path), *options])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    return {key: printed[key] for key in ("coefficients", "intervals", "n_runs", "n_rows")}


def test_intervals_rest_on_whole_runs_under_every_name(tmp_path: Path) -> None:
    frame = checkpoints()
    by_run = interval(tmp_path, frame.assign(run_id=NAMES))
    assert (by_run["n_runs"], by_run["n_rows"]) == (6, 36)
    ids = [f"{name}@{step}" for name, step in zip(NAMES, frame["step"], strict=True)]
    assert interval(tmp_path, frame.assign(model=NAMES)) == by_run
    assert interval(tmp_path, frame.assign(id=ids)) == by_run


@settings(max_examples=5, deadline=None)
@given(st.permutations(range(36)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    frame = checkpoints().assign(model=NAMES)
    table, shuffled = read_table(frame), read_table(frame.iloc[order])
    assert (
        shuffled.frame.sort_values(["run_id", "tokens"])["loss"].tolist()
        == table.frame["loss"].tolist()
    )
    assert (shuffled.runs, codes(shuffled), shuffled.columns) == (6, codes(table), table.columns)


def test_checkpoints_of_a_published_table_are_not_called_runs(shared: Path) -> None:
    table = read_table(shared / "published" / "gemstones_hot.csv")
    assert (len(table.frame), table.runs) == (220, 22)
    assert table.frame["run_id"].tolist() == table.frame["run"].tolist()
    for name in (
        "chinchilla_epoch",
        "data_constrained",
        "farseer",
        "gadre_overtrain",
        "muennighoff_repeated",
    ):
        every = read_table(shared / "published" / f"{name}.csv")
        codes = [note.code for note in every.notes if note.code != "loss-too-low"]  # farseer's are
        assert (every.runs, codes) == (len(every.frame), [])

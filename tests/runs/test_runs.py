"""The waist: rows and their columns, the two folders, and what is read from them."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.measure.train import job as jobs
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_spec import RunSpec, known_spec, read_spec
from llmscale.runs import results_folder, rows
from llmscale.runs.checked import DamagedFile
from llmscale.runs.columns import markdown_table, optional
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.rows import read_rows
from llmscale.runs.run import Run
from llmscale.runs.shape import shape_for
from llmscale.runs.unchanged import once_while_unchanged


@pytest.fixture
def job() -> jobs.Job:
    shape = shape_for("1x16x1", vocab_size=300, context=32)
    text = jobs.JobText(data="x", fingerprint="y", train_tokens=10_000, validation_tokens=1000)
    return jobs.make_job("1x16x1", shape, 6400, Recipe(), text, seed=1, dtype="float32")


@dataclass(frozen=True, kw_only=True)
class Longer(Run):
    """A table of runs with one column more."""

    weight_decay: float | None = optional("decoupled weight decay", "a step")


def test_a_column_more_is_one_field(
    job: jobs.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ResultsFolder(tmp_path)
    folder.write_runs([jobs.run_row(job, "done", "cpu", loss=3.0)])
    for module in (jobs, rows, results_folder):
        monkeypatch.setattr(module, "Run", Longer)
    older = rows.read_rows.__wrapped__(folder.runs_path)[0]  # type: ignore[attr-defined]
    assert older[job.run_id].weight_decay is None
    row = jobs.run_row(job, "done", "cpu", loss=3.0)
    run = folder.run_folder(job.run_id)
    run.write_row(row)
    assert run.read_row() == row
    folder.write_runs([row])
    assert pd.read_parquet(folder.runs_path)["weight_decay"].tolist() == [job.weight_decay]
    meaning = "| `weight_decay` | number, a step, or empty | decoupled weight decay |"
    assert meaning in markdown_table(Longer)


def test_the_page_of_columns_is_that_of_the_tables(repository: Path) -> None:
    shown = CliRunner().invoke(app, ["schema", "--columns"])
    page = (repository / "docs" / "columns.md").read_text(encoding="utf-8")
    assert shown.stdout == page, "llmscale schema --columns > docs/columns.md"


def test_a_specification_comes_back_as_it_was_written(job: jobs.Job, tmp_path: Path) -> None:
    run = ResultsFolder(tmp_path).run_folder(job.run_id)
    assert known_spec(run) is None
    spec = RunSpec(
        job,
        Conditions("cpu", micro_batch=4, shard="never"),
        threads=2,
        store="/tokens",
        start="../0123456789ab/trunk-5.pt",
        branch_points={10: "trunk-10.pt"},
    )
    spec.write(run)
    assert read_spec(run) == spec
    other = replace(spec, threads=0)
    other.write(run)
    with pytest.raises(DamagedFile, match="threads is 0"):
        read_spec(run)
    assert known_spec(run) is None


def test_what_is_remembered_of_a_file_is_dropped_when_it_is_replaced(tmp_path: Path) -> None:
    seen: list[Path] = []
    read = once_while_unchanged()(lambda path: seen.append(path) or path.read_text())  # type: ignore[func-returns-value]
    path = tmp_path / "a"
    path.write_text("one")
    assert [read(path), read(path)] == ["one", "one"]
    assert len(seen) == 1
    (tmp_path / "b").write_text("two")
    (tmp_path / "b").replace(path)
    assert read(path) == "two"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read(path)
    with pytest.raises(FileNotFoundError):
        read_rows(tmp_path / "runs.parquet")

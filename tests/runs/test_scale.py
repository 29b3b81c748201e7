"""Folders of many runs: only what is new is read, little is in memory at a time, and the tables are
the same.
"""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmscale.explain.allocation import _training_curves
from llmscale.explain.curve_table import curve_table
from llmscale.explain.diagnostics.curves import seen_curves
from llmscale.explain.fit import fit_laws, sources
from llmscale.measure.sweep import records
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import Job, JobText, make_job, run_row
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_spec import RunSpec
from llmscale.runs.columns import rows_table
from llmscale.runs.curve_file import CurveFile, each_curve, parents_of
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.shape import shape_for

SCHEMA = rows_table(CurvePoint, []).schema
WRITE_AND_READ = """
import sys, pathlib, pyarrow
from llmscale.runs import curve_file
from llmscale.runs.results_folder import ResultsFolder
from llmscale.measure.sweep import curves_table, records
curve_file.GROUP_ROWS = curves_table.GROUP_ROWS = 10_000
folder = ResultsFolder(pathlib.Path(sys.argv[1]))
records.write_tables(folder, final=True)
rows = sum(len(part) for _, part in curve_file.CurveFile(folder.curves_path).each(["step", "loss"]))
print([rows, pyarrow.default_memory_pool().max_memory()])
"""


def job(width: int, seed: int = 0) -> Job:
    size = f"1x{width}x1"
    return make_job(
        size,
        shape_for(size, vocab_size=60, context=32),
        20_000,
        Recipe(context=32),
        JobText("chain", "f", 60_000, 2_000),
        seed=seed,
        dtype="float32",
    )


def curve(one: Job, rows: int, noise: int = 0) -> pa.Table:
    step = np.arange(1, rows + 1)
    rng = np.random.default_rng([one.shape.d_model, one.seed, noise])
    loss = 3 + step**-0.3 + 0.01 * rng.standard_normal(rows)
    numbers = dict.fromkeys(SCHEMA.names, loss) | {"step": step, "tokens": 64 * step}
    columns = [
        pa.array([one.run_id] * rows),
        *(pa.array(numbers[name]) for name in SCHEMA.names[1:]),
    ]
    return pa.table(columns, names=SCHEMA.names).cast(SCHEMA)


def finish(folder: ResultsFolder, one: Job, rows: int = 50, noise: int = 0) -> None:
    """What a worker leaves of a run."""
    run = folder.run_folder(one.run_id)
    RunSpec(one, Conditions("cpu", 1), device_name="cpu").write(run)
    pq.write_table(curve(one, rows, noise), run.curve_path)
    row = run_row(one, "done", "cpu", loss=3.0 + noise + 1 / one.shape.d_model, seconds=1.0 + noise)
    run.write_row(row)


def tables(folder: ResultsFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_parquet(folder.runs_path), pd.read_parquet(folder.curves_path)


def anew(folder: ResultsFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables made from the folders of the runs alone."""
    for path in (folder.runs_path, folder.curves_path):
        path.unlink()
    records.write_tables(folder, final=True)
    return tables(folder)


def assert_same(one: tuple[pd.DataFrame, ...], other: tuple[pd.DataFrame, ...]) -> None:
    for frame, wanted in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(frame, wanted)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many run.json, spec.json and curve.parquet have been read."""
    counted: Counter[str] = Counter()
    read_text, read_curve = Path.read_text, RunFolder.read_curve

    def text(path: Path, *arguments: Any, **named: Any) -> str:
        counted[path.name] += 1
        return read_text(path, *arguments, **named)

    def table(run: RunFolder) -> pa.Table:
        counted[run.curve_path.name] += 1
        return read_curve(run)

    monkeypatch.setattr(Path, "read_text", text)
    monkeypatch.setattr(RunFolder, "read_curve", table)
    return counted


def test_each_file_of_a_run_is_read_once_however_often_the_tables_are_written(
    tmp_path: Path, reads: Counter[str]
) -> None:
    folder = ResultsFolder(tmp_path)
    jobs = [job(width) for width in range(8, 48, 2)]
    for one in jobs:
        finish(folder, one)
        records.write_tables(folder, final=True)
        assert len(records.finished_runs(folder)) == len(tables(folder)[0])
    assert reads == {"run.json": len(jobs), "curve.parquet": 2 * len(jobs)}, (
        "a curve once to see that it is whole"
    )
    before, written = folder.curves_path.stat(), tables(folder)
    records.write_tables(folder, final=True)
    assert folder.curves_path.stat().st_ino == before.st_ino, (
        "nothing was new, and the curves were written again"
    )
    assert_same(written, anew(folder))


def test_the_tables_follow_runs_that_are_trained_again_begun_removed_or_retold(
    tmp_path: Path,
) -> None:
    folder = ResultsFolder(tmp_path)
    first, again, removed, told = jobs = [job(width) for width in (8, 16, 24, 32)]
    for one in jobs:
        finish(folder, one)
    records.write_tables(folder, final=True)
    folder.run_folder(again.run_id).row_path.unlink()
    assert set(records.finished_runs(folder)) == {first.run_id, removed.run_id, told.run_id}
    records.write_tables(folder, final=True)
    assert (
        dict(zip(*tables(folder)[0][["run_id", "status"]].to_numpy().T, strict=True))[again.run_id]
        == "running"
    )
    finish(folder, again, rows=70, noise=1)
    row = records.read_run(folder, told.run_id)
    assert row is not None
    folder.run_folder(told.run_id).write_row(replace(row, status="diverged", error="told later"))
    kept = tables(folder)[1].query("run_id == @removed.run_id").reset_index(drop=True)
    for path in folder.run_folder(removed.run_id).path.iterdir():
        path.unlink()
    folder.run_folder(removed.run_id).path.rmdir()
    records.write_tables(folder, final=True)
    runs, curves = tables(folder)
    assert (
        list(runs["run_id"])
        == list(dict.fromkeys(curves["run_id"]))
        == [one.run_id for one in jobs]
    )
    assert list(runs["status"]) == ["done", "done", "done", "diverged"]
    by_id = {run_id: rows.reset_index(drop=True) for run_id, rows in curves.groupby("run_id")}
    pd.testing.assert_frame_equal(by_id[again.run_id], curve(again, 70, noise=1).to_pandas())
    pd.testing.assert_frame_equal(by_id[removed.run_id], kept)


def test_a_table_that_took_long_to_write_waits_but_not_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ResultsFolder(tmp_path)
    finish(folder, job(8))
    assert records.write_tables(folder)
    monkeypatch.setitem(records._took, folder.runs_path, 60.0)
    finish(folder, job(16))
    assert not records.write_tables(folder)
    assert len(tables(folder)[0]) == 1
    assert len(records.finished_runs(folder)) == 2, "the folders of the runs have it"
    assert records.write_tables(folder, final=True)
    assert [len(frame) for frame in tables(folder)] == [2, 100]


def test_writing_and_reading_long_curves_takes_little_memory(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    for one in (job(8 + 2 * width, seed) for width in range(10) for seed in range(3)):
        finish(folder, one, rows=10_000)
    command = [sys.executable, "-c", WRITE_AND_READ, str(tmp_path)]
    for number in (30, 31):
        rows, peak = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        assert rows == 10_000 * number
        assert peak < pq.read_table(folder.curves_path).nbytes / 3, (
            "of many row groups a few are in memory"
        )
        finish(folder, job(100), rows=10_000)


@pytest.mark.parametrize("group_rows", [7, 64, 10_000])
@pytest.mark.parametrize("together", [True, False])
def test_a_file_gives_each_run_the_rows_that_a_frame_gives(
    group_rows: int, together: bool, tmp_path: Path
) -> None:
    jobs = [job(width) for width in range(8, 32, 2)]
    whole = pa.concat_tables([curve(one, 1 + 9 * number) for number, one in enumerate(jobs)])
    if not together:
        whole = whole.take(np.random.default_rng(0).permutation(len(whole)))
    pq.write_table(whole, path := tmp_path / "curves.parquet", row_group_size=group_rows)
    file, frame = CurveFile(path), whole.to_pandas()
    chosen = {one.run_id for one in jobs[3:9]}
    for run_ids in (None, chosen):
        found = dict(each_curve(file, ["step", "loss"], run_ids))
        wanted = dict(each_curve(frame, ["step", "loss"], run_ids))
        assert list(found) == list(wanted)
        for run_id, rows in wanted.items():
            pd.testing.assert_frame_equal(found[run_id], rows, check_dtype=False)
            pd.testing.assert_frame_equal(
                file.of(run_id, ["step", "loss"]), rows, check_dtype=False
            )


def trunks(sizes: int = 4) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A trunk and two branches a size, as a sweep writes them: the curve of a branch begins with
    its trunk's rows.
    """
    runs, curves = [], []
    for size in range(sizes):
        params = 1e6 * 3**size
        step = np.arange(1, 101)
        trunk = pd.DataFrame(
            {"step": step, "tokens": 1e6 * step, "lr": np.where(step < 5, step / 5, 1.0) * 1e-3}
        )
        trunk["loss"] = trunk["train_loss"] = (
            1.8 + (params / 1e4) ** -0.3 + 100 * trunk["tokens"] ** -0.3
        )
        trunk["flops"] = 6 * params * trunk["tokens"]
        runs.append({"run_id": f"trunk{size}", "params": params, "tokens": 100e6, "parent": None})
        curves.append(trunk.assign(run_id=f"trunk{size}"))
        for number, end in enumerate((40, 70)):
            branch = trunk[:end].copy()
            own = branch["step"] > 0.8 * end
            branch.loc[own, ["loss", "train_loss", "lr"]] *= 0.9
            runs.append({"run_id": f"branch{size}-{number}", "params": params, "tokens": end * 1e6})
            runs[-1]["parent"] = f"trunk{size}"
            curves.append(branch.assign(run_id=f"branch{size}-{number}"))
    frame = pd.DataFrame(runs).assign(status="done", loss=2.0)
    frame["flops"] = 6 * frame["params"] * frame["tokens"]
    return frame, pd.concat(curves, ignore_index=True)


def test_the_rows_that_a_branch_has_from_its_trunk_count_once() -> None:
    runs, curves = trunks()
    table = curve_table(runs, curves, "here").frame
    own = 100 + 8 + 14
    assert len(table) == 4 * own
    assert not table.duplicated(["params", "tokens", "loss"]).any()
    whole = table.groupby("run_id")["lr_area"].max()
    assert whole["branch0-1"] == pytest.approx(curves[curves["run_id"] == "branch0-1"]["lr"].sum())
    without = runs[~runs["run_id"].str.startswith("trunk")]
    assert parents_of(without) == {f"branch{size}-0": f"branch{size}-1" for size in range(4)}
    left = curve_table(without, curves, "here").frame
    assert len(left) == 4 * (70 + 8), "where the trunk is left out, the longest branch has its rows"


def test_a_trunk_that_a_resample_leaves_out_is_not_on_the_envelope_through_its_branches() -> None:
    runs, curves = trunks()
    found = _training_curves.from_frame(runs, curves, 6.0)
    per_size = np.isfinite(found.loss).reshape(4, 3, -1)
    ids = sorted(runs["run_id"][:3])
    for number, one in enumerate(ids):
        first = found.grid_G[per_size[0, number]][0]
        if one.startswith("branch"):
            end = {"branch0-0": 40, "branch0-1": 70}[one]
            assert first > np.log(6 * 1e6 * 0.78 * end * 1e6), (
                f"{one} begins before its branch point"
            )
    drawn = np.ones(12)
    drawn[0:12:5] = 0
    slow, fast = (found.optima(loss, drawn) for loss in (found.loss.copy(), found.loss))
    for one, other in zip(slow, fast, strict=True):
        assert list(one) == list(other)  # type: ignore[call-overload]


def test_the_curves_of_a_folder_are_gone_through_once_for_all_laws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ResultsFolder(tmp_path)
    for width in (8, 16, 24, 32, 48):
        finish(folder, job(width))
    records.write_tables(folder, final=True)
    looked: list[Any] = []

    def seen(curves: Any) -> Any:
        looked.append(curves)
        return seen_curves(curves)

    monkeypatch.setattr(sources, "seen_curves", seen)
    fits = fit_laws(tmp_path, ["power", "power-floor"], bootstrap=0)
    assert len(fits) == 2
    assert len(looked) == 1

"""Damaged and foreign records of a sweep: each is named, and made anew from what is whole."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeps import assert_same_results, llmscale, options
from trained import CPU, TRAIN, VALIDATION, job, run, train_one, without_times

from llmscale.measure.sweep.status import sweep_status
from llmscale.measure.text.prepare import TextSpec, prepare
from llmscale.measure.train.checkpoint import read_checkpoint, save_checkpoint
from llmscale.measure.train.loop import TrainingInterrupted
from llmscale.measure.train.run_folders import Audience, train_runs
from llmscale.runs.log import (
    append_progress,
    begin_progress,
    damaged_lines,
    last_progress,
    read_progress,
)
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import CHECKPOINT

SHORT = job(tokens=6_000)
TIMED = ["seconds", "tokens_per_second"]
TORN: dict[str, bytes] = {
    "list": b"[]",
    "text": b'"x"',
    "brace": b"{",
    "empty": b"",
    "null": b"null",
    "bytes": b"\xff\xfe\0",
    "nuls": bytes(99),
    "deep": b"[" * 100_000,
}
WRONG_INSIDE = [
    {"runs": 5},
    {"runs": None},
    {"runs": ["../../x"]},
    {"hardware": []},
    {"hardware": {"workers": "x"}},
    {"hardware": {"workers": 10**12}},
    {"hardware": {"workers": 1e12}},
    {"hardware": {"peak_flops": "x"}},
    {"basis": 5},
    {"basis": {"recipe": 5}},
    {"recipes": {"x": 5}},
    {"command": [1]},
    {"data": []},
    {"planned": {"x": 5}},
]


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results") / "swept"
    result = llmscale(*options(text, out, sizes="1x16x1", tokens="8k"))
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def folder(swept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(swept, tmp_path / "out")


def flip_data(path: Path) -> None:
    """Change a byte of a table's last page of losses, which its length and its footer do not
    show.
    """
    import pyarrow.parquet as pq

    column = pq.ParquetFile(path).metadata.row_group(0).column(4)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 3] ^= 0x55
    path.write_bytes(content)


def the_run(folder: Path) -> Path:
    (found,) = (folder / "runs").iterdir()
    return found


def test_no_damaged_sweep_json_stops_status(folder: Path) -> None:
    path = folder / "sweep.json"
    for content in (*TORN.values(), *(json.dumps(wrong).encode() for wrong in WRONG_INSIDE)):
        path.write_bytes(content)
        status = sweep_status(ResultsFolder(folder))
        assert status.counts == {"done": 1}, content
        assert status.notes[0].startswith(f"{path} is damaged: "), content
    shown = llmscale("status", str(folder))
    assert shown.exit_code == 0
    assert "is damaged: planned.x is 5, not a table" in shown.stdout.replace("\n", " ")


def test_what_is_damaged_is_mended_by_the_same_command_without_training(
    folder: Path, swept: Path, text: Path
) -> None:
    row = the_run(folder) / "run.json"
    row.write_bytes(b"{")
    flip_data(folder / "curves.parquet")
    (folder / "sweep.json").write_bytes(bytes(40))
    again = llmscale(*options(text, folder, sizes="1x16x1", tokens="8k"))
    assert again.exit_code == 0, again.output
    said = again.stderr.replace("\n", " ")
    for name in ("sweep.json", "curves.parquet", f"runs/{row.parent.name}/run.json"):
        assert f"{folder / name} is damaged" in said
    assert " to train, " not in said
    assert sweep_status(ResultsFolder(folder)).notes == ()
    assert json.loads(row.read_text()) == json.loads((the_run(swept) / "run.json").read_text())
    assert_same_results(folder, swept)


def test_a_lost_table_and_a_torn_specification_are_made_anew_by_training_what_is_not_whole(
    folder: Path, swept: Path, text: Path
) -> None:
    path = the_run(folder)
    (path / "run.json").write_bytes(b"")
    (path / "spec.json").write_bytes(b'{"job": 5}')
    content = (folder / "runs.parquet").read_bytes()
    (folder / "runs.parquet").write_bytes(content[: len(content) // 2])
    shown = json.loads(llmscale("status", str(folder), "--json").stdout)
    assert {
        warning.split(" is damaged")[0].rpartition("/")[2] for warning in shown["warnings"]
    } == {"runs.parquet", "run.json", "spec.json"}
    assert shown["counts"] == {"waiting": 1}
    refused = llmscale("fit", str(folder))
    assert refused.exit_code == 2
    assert "runs.parquet" in refused.stderr
    again = llmscale(*options(text, folder, sizes="1x16x1", tokens="8k"))
    assert again.exit_code == 0, again.output
    assert_same_results(folder, swept)
    assert (folder / "runs.parquet.damaged").read_bytes() == content[: len(content) // 2]


def test_without_its_sweep_json_a_folder_is_not_taken_for_another_sweeps(
    folder: Path, text: Path
) -> None:
    (folder / "sweep.json").unlink()
    other = llmscale(*options(text, folder, sizes="1x32x1", tokens="8k"))
    assert other.exit_code == 2
    assert "none of the 1 run in" in other.stderr
    assert not (folder / "sweep.json").exists()


def test_a_row_or_specification_of_another_run_is_not_taken_for_its_own(folder: Path) -> None:
    path = the_run(folder)
    (folder / "runs.parquet").unlink()
    for name in ("run.json", "spec.json"):
        content = json.loads((path / name).read_text())
        (content["job"] if name == "spec.json" else content).update(
            {"seed": 7} if name == "spec.json" else {"run_id": "x"}
        )
        (path / name).write_text(json.dumps(content))
    status = sweep_status(ResultsFolder(folder))
    assert [run.state for run in status.runs] == ["waiting"]
    assert "run.json is damaged: it is of run x" in status.notes[0]
    assert "spec.json is damaged: it is of run " in status.notes[1]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "one bad byte": lambda content: content.replace(b'"step"', b'"st\xffp"', 1),
    "a block of NULs": lambda content: content[:300] + bytes(512) + content[812:],
    "NULs at the end": lambda content: content + bytes(4096),
    "a torn end": lambda content: content[:-70],
    "a foreign line": lambda content: content.replace(b"\n", b'\n{"level": "info"}\n', 2),
    "a wrong type": lambda content: content.replace(b'"tokens": ', b'"tokens": null, "was": ', 1),
    "another run's row": lambda content: (
        content.partition(b"\n")[0].replace(b'_id": "', b'_id": "f') + b"\n" + content
    ),
    "nothing left": lambda content: b"",
}


def test_a_run_with_any_damage_in_its_progress_goes_on_and_ends_as_an_undisturbed_one(
    text: Path, tmp_path: Path
) -> None:
    store = prepare(TextSpec(source=str(text), tokenizer="bpe:300"))
    asked = replace(
        job(tokens=6_000),
        shape=replace(job().shape, vocab_size=store.vocab_size),
        text_tokens=store.train_tokens,
        data_fingerprint=store.fingerprint,
    )
    spec = {
        "job": asked.to_json(),
        "conditions": asdict(CPU),
        "threads": 1,
        "store": str(store.path),
    }
    begun = tmp_path / "begun" / asked.run_id
    begun.mkdir(parents=True)
    (begun / "spec.json").write_text(json.dumps(spec))
    whole = shutil.copytree(begun, tmp_path / "whole" / asked.run_id)
    silent: Callable[[Path, Any], None] = lambda path, news: None  # noqa: E731
    assert list(train_runs([whole], Audience(silent, lambda path: False))) == [(whole, 0)]
    left = iter(range(12))
    assert list(train_runs([begun], Audience(silent, lambda path: next(left, None) is None))) == [
        (begun, 130)
    ]
    content, rows = (begun / "progress.jsonl").read_bytes(), read_progress(begun)[0]
    saved = read_checkpoint(begun / CHECKPOINT)
    assert saved is not None
    curve = [CurvePoint(**row) for row in saved.curve]
    for name, damage in DAMAGES.items():
        (folder := tmp_path / name / asked.run_id).mkdir(parents=True)
        path = folder / "progress.jsonl"
        path.write_bytes(damage(content))
        damaged = damaged_lines(folder)
        assert all(row in rows for row in read_progress(folder)[0]), name
        said = begin_progress(folder, curve)
        assert read_progress(folder)[0] == rows, name
        assert not damaged_lines(folder), name
        assert (said is None) == (name == "nothing left")
        assert said is None or said.startswith(f"{path}: line"), name
        assert said is None or str(damaged[0]) in said, name

    (begun / "progress.jsonl").write_bytes(DAMAGES["one bad byte"](content))
    warnings: list[str] = []
    assert list(
        train_runs(
            [begun], Audience(silent, lambda path: False, lambda path, said: warnings.append(said))
        )
    ) == [(begun, 0)]
    assert warnings[0].startswith(f"{begun / 'progress.jsonl'}: line 1 is damaged; ")
    found, wanted = (
        pd.read_parquet(folder / "curve.parquet").drop(columns=TIMED) for folder in (begun, whole)
    )
    pd.testing.assert_frame_equal(found, wanted)


def test_the_last_whole_row_is_found_however_long_the_damage_after_it(tmp_path: Path) -> None:
    (folder := tmp_path / "a").mkdir()
    append_progress(
        folder, CurvePoint("a", 1, 32, 1.0, 5.0, 148.4, None, None, 0.01, None, None, 0.5)
    )
    with (folder / "progress.jsonl").open("ab") as file:
        file.write((bytes(99) + b"\n") * 100)
    assert (last_progress(folder) or {})["step"] == 1


def test_a_checkpoint_of_another_run_or_shape_is_named_and_not_gone_on_from(tmp_path: Path) -> None:
    def begun(name: str, **changes: Any) -> Path:
        (folder := tmp_path / name).mkdir()
        left = iter(range(9))
        with pytest.raises(TrainingInterrupted):
            train_one(
                replace(SHORT, **changes),
                CPU,
                TRAIN,
                VALIDATION,
                folder,
                stop=lambda: next(left, None) is None,
            )
        return folder / CHECKPOINT

    wanted = without_times(run(SHORT, tmp_path / "whole"))
    wider = replace(SHORT.shape, d_model=32, d_ff=2 * SHORT.shape.d_ff)
    unnamed = begun("older", shape=wider)
    older = read_checkpoint(unnamed)
    assert older is not None
    save_checkpoint(unnamed, replace(older, run_id=None))
    for path, reason in (
        (
            begun("seed", seed=1),
            f"is of run {replace(SHORT, seed=1).run_id}, not of {SHORT.run_id}",
        ),
        (unnamed, f"is of a model of another shape than {SHORT.shape.name}"),
    ):
        said: list[str] = []
        found = train_one(SHORT, CPU, TRAIN, VALIDATION, path.parent, warn=said.append)
        assert without_times(found) == wanted
        assert reason in said[0]
        assert said[0].endswith("the run starts from its beginning")


def test_a_branch_point_of_a_run_that_begins_otherwise_is_not_gone_on_from(tmp_path: Path) -> None:
    point, said = tmp_path / "trunk-9.pt", list[str]()
    (other := tmp_path / "other").mkdir()
    train_one(replace(SHORT, seed=1), CPU, TRAIN, VALIDATION, other, branch_points={9: point})
    found = train_one(SHORT, CPU, TRAIN, VALIDATION, tmp_path, warn=said.append, start=point)
    assert (found.parent, found.parent_step) == (None, 0)
    assert "does not begin like" in said[0]

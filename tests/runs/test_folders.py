"""Folders and files that are no place for results: links that lead out, names that cannot be, locks
of others.
"""

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.runs.lock import only_writer
from llmscale.runs.results_folder import ResultsFolder, newest_results, results_folder
from llmscale.runs.safe_paths import refuse_links
from llmscale.runs.safe_write import write_text

LONG = "n" * 300
NOWHERE = ("", " ", "file", "file/x", LONG, f"new/{LONG}", "circle", "circle/x", "gone", "gone/x",
    "\udcff",
           "zip://none.zip", "nosuch://x")  # fmt: skip
PLAN = ("--sizes", "1x16x1", "--tokens", "20k", "--dry-run")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder with a table of runs, beside a file of somebody else's."""
    path = tmp_path / "results"
    path.mkdir()
    rows = [(n, 1e7, 1.7 + 40 / n**0.34) for n in np.geomspace(1e5, 1e7, 6)]
    frame = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    frame.assign(run_id=[f"r{place}" for place in range(6)], status="done").to_parquet(
        path / "runs.parquet"
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    return path


@pytest.mark.parametrize(
    "name", ["fit-power.json", "figures", "figures/scaling.png", "runs.parquet", "tune.json"]
)
@pytest.mark.parametrize("command", ["fit", "plot", "tune"])
def test_a_link_that_leads_out_of_a_results_folder_is_refused(
    folder: Path, name: str, command: str
) -> None:
    target = folder.parent / "mine" / ("" if name == "figures" else "letter.txt")
    place = folder / name
    place.parent.mkdir(exist_ok=True)
    if name == "runs.parquet":
        target = target.with_name("runs.parquet")
        place.rename(target)
    if name == "tune.json":
        target.write_text('{"basis": {}, "rungs": [], "trials": []}')
    place.symlink_to(target)
    before = {path: path.read_bytes() for path in target.parent.glob("*.*")}
    arguments = {
        "fit": ["fit", str(folder), "--law", "power", "--bootstrap", "0"],
        "plot": ["plot", str(folder), "--law", "power", "--bootstrap", "0"],
        "tune": ["tune", *PLAN, "--out", str(folder)],
    }[command]
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert command == "tune" or f"{place} is a link to {target}" in result.stderr
    assert {path: path.read_bytes() for path in target.parent.glob("*.*")} == before
    assert place.is_symlink()


def test_what_is_written_follows_no_link_laid_beside_it(folder: Path) -> None:
    letter = folder.parent / "mine" / "letter.txt"
    for pid in range(os.getpid() - 50, os.getpid() + 50):
        (folder / f".a.json.{pid}.part").symlink_to(letter)
    (folder / "a.json").symlink_to(letter)
    write_text(folder / "a.json", "{}")
    assert letter.read_text() == "dear"
    assert (folder / "a.json").read_text() == "{}"
    assert not (folder / "a.json").is_symlink()


def test_what_is_written_has_the_mode_that_the_user_wants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.json", "{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_a_lock_that_is_another_file_is_not_written(folder: Path, kind: str) -> None:
    letter = folder.parent / "mine" / "letter.txt"
    lock = folder / ".lock"
    if kind == "link":
        lock.symlink_to(letter)
    elif kind == "hard link":
        lock.hardlink_to(letter)
    else:
        os.mkfifo(lock)
    with pytest.raises(InputError, match=r"a link|a hard link|no plain file"), only_writer(folder):
        pass
    assert letter.read_text() == "dear"


def test_links_in_a_circle_are_refused(folder: Path) -> None:
    (folder / "a").symlink_to("a")
    with pytest.raises(InputError, match="leads in a circle"):
        refuse_links(folder)


@pytest.mark.parametrize("name", NOWHERE)
def test_results_have_no_place_in_what_is_no_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("circle").symlink_to("circle")
    Path("gone").symlink_to("nowhere")
    for command in ("sweep", "tune"):
        result = run(command, *PLAN, "--out", name)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("error: ") == 1
    assert sorted(os.listdir()) == ["circle", "file", "gone"]


@pytest.mark.parametrize("name", [".", "x/..", "../here"])
def test_results_go_into_the_current_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    results_folder(name).write_runs([])
    assert os.listdir() == ["runs.parquet"]


def test_the_newest_results_are_a_file_and_no_link_to_nothing(folder: Path) -> None:
    (folder / "sweep.json").write_text("{}")
    gone = folder.parent / "gone"
    gone.mkdir()
    (gone / "runs.parquet").symlink_to("nowhere")
    (gone / "sweep.json").write_text("{}")
    assert newest_results(folder.parent) == ResultsFolder(folder)


@pytest.mark.parametrize(
    ("name", "code"), [("folder.png", 2), (f"{LONG}.png", 2), ("circle/x.png", 2), ("", 2)]
)
def test_a_figure_has_no_place_in_what_is_no_file(
    name: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("circle").symlink_to("circle")
    result = run("plot", "none.csv", "-o", name)
    assert result.exit_code == code
    assert "none.csv" not in result.stderr
    assert "fix: name a file" in result.stderr


@pytest.mark.parametrize("arguments", [("fit", LONG), ("status", LONG), ("data", "inspect", LONG),
                                       ("sweep", *PLAN, "--tokenizer", f"{LONG}.json"),
                                       ("fit", "circle")])  # fmt: skip
def test_a_name_that_no_file_can_have_is_one_sentence(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "File name too long" in result.stderr or "symbolic links" in result.stderr


def test_a_table_in_the_place_of_another_is_damaged(repository: Path, tmp_path: Path) -> None:
    for name, lacks in (("runs", "params"), ("curves", "step")):
        path = shutil.copytree(repository / "results" / "cpu", tmp_path / name)
        other = {"runs": "curves", "curves": "runs"}[name]
        shutil.copyfile(path / f"{other}.parquet", path / f"{name}.parquet")
        said = f"{name}.parquet is damaged: it has no column {lacks}\n.*own command"
        with pytest.raises(InputError, match=said):
            llmscale.plot(path, kind="curves", output=False)


def test_a_folder_in_the_place_of_a_fit_is_refused_before_the_fit(folder: Path) -> None:
    (folder / "fit-power.json").mkdir()
    refused = run("fit", str(folder), "--law", "power")
    assert refused.exit_code == 2
    assert "fit-power.json is a folder" in " ".join(refused.stderr.split())

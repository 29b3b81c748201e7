"""`llmscale status`, on real sweeps that run, are killed and go on, and the progress file that it
reads.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sweeps import wait_for, worker_pids
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.commands._sweep_view import runs_table
from llmscale.commands._terminal_curves import Line, draw_curves
from llmscale.errors import InputError
from llmscale.explain.table import read_table
from llmscale.measure.sweep.status import status, sweep_status
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import JobText, make_job, run_row
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_spec import RunSpec, read_spec
from llmscale.runs.lock import only_writer
from llmscale.runs.log import append_progress, last_progress, read_progress
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.shape import shape_for

SMALL, LARGE = "1x16x1", "2x32x2"


def show(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["status", *arguments])


def states(folder: Path) -> dict[str, str]:
    return {run.size: run.state for run in sweep_status(ResultsFolder(folder)).runs}


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts a sweep of a small and a large run, one at a time, in tmp_path/out; called again it
    goes on.
    """
    rng = np.random.default_rng(7)
    words = ["".join(rng.choice(list("abcdefgh"), size=4)) for _ in range(80)]
    (tmp_path / "text.txt").write_text(
        "\n".join(" ".join(rng.choice(words, size=30)) for _ in range(3000))
    )
    (tmp_path / "s.toml").write_text(
        f'sizes = ["{SMALL}", "{LARGE}"]\ntokens = "150k"\n'
        f'[data]\nsource = "{tmp_path / "text.txt"}"\ntokenizer = "bpe:300"\nvalidation_tokens = '
        "2000\n"
        "[recipe]\ncontext = 32\n"
        '[hardware]\ndevice = "cpu"\ndtype = "float32"\nworkers = 1\ncheckpoint_seconds = 0.2\n'
    )
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-m",
            "llmscale",
            "sweep",
            str(tmp_path / "s.toml"),
            "--out",
            str(tmp_path / "out"),
        ]
        started.append(
            subprocess.Popen(
                command, text=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    for pid in worker_pids(tmp_path / "out"):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_status_follows_a_sweep_that_is_killed_and_goes_on(
    sweep: Callable[[], "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = sweep()
    wait_for(lambda: (out / "sweep.json").exists(), 240)
    runs = json.loads((out / "sweep.json").read_text())["runs"]
    large = out / "runs" / runs[1]
    wait_for(lambda: (large / "checkpoint.pt").exists() and last_progress(large), 240)
    pids = worker_pids(out)
    for pid in pids:  # so that the run does not end while its state is looked at
        os.kill(pid, signal.SIGSTOP)
    running = json.loads(show(str(out), "--json", "--curves").stdout)
    assert str(first.pid) in running["holder"]
    assert {run["size"]: run["state"] for run in running["runs"]}[LARGE] == "running"
    watched = next(run for run in running["runs"] if run["size"] == LARGE)
    assert 0 < watched["tokens_done"] < watched["tokens"]
    assert watched["seconds_left"] > 0
    assert watched["train_loss"] < 7
    curve = next(curve for curve in running["curves"] if curve["run_id"] == runs[1])
    assert curve["tokens"][-1] >= watched["tokens_done"]

    # Steps after the checkpoint were logged, and are lost.
    first.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    first.wait()
    reached = last_progress(large)
    assert reached is not None
    killed = show(str(out))
    assert killed.exit_code == 0
    assert "stopped" in killed.stdout
    assert f"next: llmscale sweep {tmp_path / 's.toml'}" in killed.stdout.replace("\n", "")
    assert json.loads(show(str(out), "--json").stdout)["holder"] is None

    second = sweep()
    wait_for(lambda: (now := last_progress(large)) and now["step"] > reached["step"], 240)
    job = read_spec(RunFolder(large)).job
    steps = [row["step"] for row in read_progress(large)[0]]
    logged = [
        step
        for step in range(1, job.steps + 1)
        if step % job.log_every == 0 or step in job.evaluated_steps
    ]
    assert steps == logged[: len(steps)]
    assert steps[-1] > reached["step"]

    lines = subprocess.run(
        [sys.executable, "-m", "llmscale", "status", str(out), "--watch"],
        capture_output=True,
        text=True,
        timeout=240,
    ).stdout.splitlines()
    assert second.wait(timeout=60) == 0
    assert lines[-1] == "2 done; nothing is left to train"
    assert any(line.startswith(f"{LARGE} on 150k  done") for line in lines)
    assert states(out) == {SMALL: "done", LARGE: "done"}
    assert not (large / "progress.jsonl").exists()


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    """A folder with one run done, one half trained and one not begun; the first two took a second
    for 1e9 FLOPs.
    """
    results = ResultsFolder(tmp_path / "made")
    jobs = []
    for size in ("1x16x1", "1x32x1", "2x32x2"):
        shape = shape_for(size, vocab_size=300, context=32, arch="llama")
        text, recipe = JobText("text", "0", 200_000, 2000), Recipe(context=32)
        jobs.append(make_job(size, shape, 96_000, recipe, text, seed=0, dtype="float32"))
    hardware = {"device": "cuda", "workers": 2, "cores": 8}
    results.path.mkdir()
    results.write_sweep(
        {"runs": [job.run_id for job in jobs], "hardware": hardware, "command": "llmscale sweep x"}
    )
    rate = 1e9 / jobs[0].shape.flops_per_token
    measured = {"loss": 4.5, "seconds": jobs[0].flops / 1e9, "tokens_per_second": rate, "mfu": 0.5}
    results.write_runs([run_row(jobs[0], "done", "x", **measured)])
    for job in jobs[1:]:
        conditions = Conditions("cuda", micro_batch=1, peak_flops=2e9)
        RunSpec(job, conditions).write(results.run_folder(job.run_id))
    half = jobs[1].steps // 2 * jobs[1].batch_tokens
    flops = float(half) * jobs[1].shape.flops_per_token
    speed = 1e9 / jobs[1].shape.flops_per_token
    point = CurvePoint(
        jobs[1].run_id,
        jobs[1].steps // 2,
        half,
        flops,
        5.0,
        148.4,
        None,
        None,
        0.01,
        1.0,
        speed,
        flops / 1e9,
    )
    append_progress(results.run_folder(jobs[1].run_id).path, point)
    return results


def test_time_left_and_cost_follow_from_measured_speeds(folder: ResultsFolder) -> None:
    stopped = sweep_status(folder)
    done, half, waiting = stopped.runs
    assert (done.state, half.state, waiting.state) == ("done", "stopped", "waiting")
    assert half.flops_left == pytest.approx(half.flops / 2, rel=0.01)
    assert half.seconds_left == pytest.approx(half.flops_left / 1e9)
    assert half.mfu == pytest.approx(0.5)
    assert waiting.seconds_left == pytest.approx(waiting.flops / 1e9)
    assert stopped.seconds_left == pytest.approx(max(half.flops_left, waiting.flops) / 1e9)
    assert stopped.device_hours == pytest.approx(
        (done.flops + half.flops - half.flops_left) / 1e9 / 3600
    )
    shown = json.loads(show(str(folder.path), "--json", "--price", "3600").stdout)
    assert shown["cost"] == pytest.approx(stopped.device_hours * 3600)
    assert shown["next"] == f"llmscale sweep x --out {folder.path}"


@pytest.mark.parametrize("name", ["runs.parquet", "sweep.json", ".lock", "curves.parquet"])
def test_a_pipe_in_a_folder_is_not_waited_for(folder: ResultsFolder, name: str) -> None:
    (folder.path / name).unlink(missing_ok=True)
    os.mkfifo(folder.path / name)
    shown = show(str(folder.path), "--json")
    assert shown.exit_code == 0
    told = [warning for warning in json.loads(shown.stdout)["warnings"] if "is a pipe" in warning]
    assert len(told) == (name in ("runs.parquet", "sweep.json"))


def test_status_of_a_copy_names_the_copy_and_of_a_file_says_so(
    folder: ResultsFolder, tmp_path: Path
) -> None:
    sweep = folder.read_sweep()
    folder.write_sweep({**sweep, "command": "llmscale sweep x --json --out elsewhere --seeds 2"})
    assert sweep_status(folder).next_command == f"llmscale sweep x --seeds 2 --out {folder.path}"
    (tmp_path / "runs.csv").write_text("params,loss\n")
    shown = show(str(tmp_path / "runs.csv"))
    assert shown.exit_code == 2
    assert "is a file, not a results folder" in " ".join(shown.stderr.split())


def test_the_next_step_is_one_that_can_be_taken_here(folder: ResultsFolder) -> None:
    sweep = folder.read_sweep()
    (done,) = folder.read_runs()["run_id"]
    folder.write_sweep({**sweep, "runs": [done], "command": "llmscale sweep x.toml --out a"})
    for run in folder.run_folders:
        shutil.rmtree(run.path)
    assert sweep_status(folder).next_command == f"llmscale fit {folder.path}"
    folder.runs_path.write_bytes(b"")
    assert sweep_status(folder).next_command == (
        f"from the folder that holds x.toml: llmscale sweep x.toml --out {folder.path}"
    )
    with pytest.raises(InputError, match=r"runs.parquet is damaged: it is empty\n.*own command"):
        read_table(folder.path)
    folder.runs_path.unlink()
    with pytest.raises(InputError, match=r"there is no .*runs.parquet\n.*own command"):
        read_table(folder.path)


def test_a_run_that_logs_nothing_any_more_is_stalled(folder: ResultsFolder) -> None:
    run_id = sweep_status(folder).runs[1].run_id
    with only_writer(folder.path):
        lock, progress = folder.path / ".lock", folder.run_folder(run_id).progress_path
        now = time.time()
        os.utime(lock, (now - 900, now - 900))
        assert sweep_status(folder).runs[1].state == "running"
        os.utime(progress, (now - 600, now - 600))
        stalled = sweep_status(folder).runs[1]
        assert stalled.state == "stalled"
        assert stalled.note is not None
        assert "nothing logged for 600 s" in stalled.note
        # Of an earlier command: the run waits to go on.
        os.utime(progress, (now - 1800, now - 1800))
        assert sweep_status(folder).runs[1].state == "waiting"


@pytest.mark.parametrize(("encoding", "line"), [("utf-8", "│"), ("ascii", "|")])
def test_committed_results_are_shown_without_torch_or_pandas_in_any_encoding(
    encoding: str, line: str, repository: Path
) -> None:
    program = (
        "import sys; from llmscale.commands import app\ntry: app(['status', 'results/cpu', "
        "'--curves'])\nexcept SystemExit as end: assert not end.code\nprint({'torch', 'pandas', "
        "'matplotlib', 'datasets', 'scipy'} & set(sys.modules))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        cwd=repository,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": encoding},
        check=False,
    )
    lines = shown.stdout.splitlines()
    assert lines[-1] == "set()", shown.stderr
    assert "5 done; nothing is left to train" in lines
    assert any("330k" in row and line in row for row in lines)


def test_branches_of_trunks_and_rows_that_stand_twice_are_told(repository: Path) -> None:
    found = status(repository / "results" / "trunks")
    assert len(found.runs) == 27
    (note,) = found.notes
    assert "968d6cbe063e, e65d93bce1f7, 4b8f75b9de8b stand in more than one row" in note
    of_two = replace(found, runs=(found.runs[0], replace(found.runs[1], recipe="muon")))
    assert of_two.next_command.endswith(" --by recipe")
    shown = CliRunner().invoke(app, ["status", str(repository / "results" / "trunks")]).stdout
    branches = [run for run in found.runs if run.parent is not None]
    assert len(re.findall(r"^(?:10|25|60)k branch ", shown, re.MULTILINE)) == len(branches) > 0


def test_nothing_is_shown_that_is_not_known_or_cannot_be(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = status(repository / "results" / "trunks").runs[0]
    empty = ("loss", "train_loss", "tokens_per_second", "mfu")
    unknown: dict[str, Any] = dict.fromkeys(empty) | {"tokens_done": 0}
    new = replace(done, state="starting", seconds_left=0.0, seconds_spent=0.0, **unknown)
    Console(width=80).print(runs_table("", [new, replace(done, mfu=3.0)], 80))
    started, ended = capsys.readouterr().out.splitlines()[-2:]
    assert started.split()[-1] == "starting"
    assert ended.split()[-3] == "-"


def test_where_there_is_no_sweep_it_says_so(tmp_path: Path) -> None:
    missing = show(str(tmp_path / "none"))
    assert missing.exit_code == 2
    assert "fix:" in missing.stderr


def test_a_half_written_line_is_left_for_later(tmp_path: Path) -> None:
    point = CurvePoint("a", 1, 32, 1.0, 5.0, 148.4, None, None, 0.01, None, None, 0.5)
    (run := tmp_path / "a").mkdir()
    append_progress(run, point)
    rows, offset = read_progress(run)
    assert [row["step"] for row in rows] == [1]
    with (run / "progress.jsonl").open("a") as file:
        file.write('{"step": 2')
    assert read_progress(run, offset) == ([], offset)
    assert last_progress(run) == rows[0]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_curves_fit_the_width_and_name_each_size_where_it_ends(width: int) -> None:
    x = np.geomspace(1e4, 1e7, 300)
    lines = [
        Line(name, x.tolist(), (floor + 900 * x**-0.5).tolist())
        for name, floor in (("big", 1.0), ("small", 3.0))
    ]
    lines.append(Line("broken", [1e4, 1e5], [float("nan"), float("inf")]))
    drawn = draw_curves(lines, width, 16, "tokens", "loss")
    rows = drawn.plain.splitlines()
    assert max(map(len, rows)) <= width
    small, big = (
        next(row for row, text in enumerate(rows) if text.endswith(name))
        for name in (" small", " big")
    )
    assert small < big == 16
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", width=width, no_color=True
    )
    console.print(drawn)
    assert "\x1b[3" not in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_ten_thousand_runs_are_shown_in_few_lines_and_take_no_more_time_each_than_a_thousand(
    folder: ResultsFolder,
) -> None:
    row = run_row(
        read_spec(folder.run_folders[0]).job,
        "done",
        "x",
        loss=4.0,
        seconds=1.0,
        tokens_per_second=1e5,
    )
    seconds = []
    for count in (1_000, 10_000):
        folder.write_runs(
            [replace(row, run_id=f"{number:012x}", seed=number) for number in range(count)]
        )
        began = time.process_time()
        shown = show(str(folder.path))
        seconds.append(time.process_time() - began)
        assert len(shown.stdout.splitlines()) < 20
        assert f"{count} done" in shown.stdout
    assert (
        seconds[1] < 30 * seconds[0]
    )  # ten times as much, or a hundred times if runs were compared with each other

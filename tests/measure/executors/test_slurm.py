"""Sweeps on Slurm: a real controller and node on this machine, real jobs, real kills."""

import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slurm_cluster import slurm_cluster, why_not
from sweeps import assert_same_results, loop_words, options, read_loop, tables

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'llmscale[slurm]'")
pytestmark = [pytest.mark.cluster, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

SIZES, TOKENS = "1x16x1,1x24x1", "20k,60k"
LONG = "2M"
"""Tokens that take the smallest size half a minute."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of a machine that hands jobs in to a node of two CPUs."""
    with (
        tempfile.TemporaryDirectory(
            prefix="llmscale-slurm-"
        ) as folder,  # short: a socket's path has 107 bytes
        slurm_cluster(Path(folder), cpus=2) as conf,
    ):
        yield {**os.environ, "SLURM_CONF": str(conf)}


def command(
    text: Path, out: Path, executor: str, *more: str, sizes: str = SIZES, tokens: str = TOKENS
) -> list[str]:
    words = options(text, out, sizes, tokens, workers=None)
    chosen = ["--lr", "0.02", "--yes", "--executor", executor, *more]
    return [sys.executable, "-m", "llmscale", *words, *chosen]


def sweep(words: list[str], environment: dict[str, str], timeout: float = 300) -> str:
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def begin(words: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    # Background jobs of a shell ignore SIGINT, and so would what they start.
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        words, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=listens
    )


def wait_for(true: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def jobs(environment: dict[str, str], states: str = "all") -> dict[str, str]:
    """State by id of the jobs that Slurm remembers."""
    asked = ["squeue", "--noheader", f"--states={states}", "--format=%i %T"]
    answer = subprocess.run(
        asked, env=environment, capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split() for line in answer.splitlines())


def last_step(out: Path) -> int:
    """The last step that the only run of `out` has logged."""
    rows = "".join(path.read_text() for path in out.glob("runs/*/progress.jsonl"))
    return max([int(step) for step in re.findall(r'"step": (\d+)', rows)], default=0)


@pytest.fixture(scope="module")
def long(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one run that was trained on this machine without interruption."""
    out = tmp_path_factory.mktemp("results") / "long"
    sweep(command(text, out, "local", sizes="1x16x1", tokens=LONG), dict(os.environ))
    return out


def test_trunks_and_branches_end_in_the_same_tables_as_on_this_machine(
    cluster: dict[str, str], text: Path, tmp_path: Path
) -> None:
    sweep(command(text, tmp_path / "local", "local"), dict(os.environ))
    sweep(
        command(text, tmp_path / "slurm", "slurm", "--executor-option", "partition=test"), cluster
    )
    assert set(tables(tmp_path / "slurm")[0]["status"]) == {"done"}
    assert_same_results(tmp_path / "local", tmp_path / "slurm")
    assert not list(tmp_path.rglob("*.pkl")), "nothing is pickled"


def test_a_requeued_job_goes_on_from_its_checkpoint(
    cluster: dict[str, str], text: Path, long: Path, tmp_path: Path
) -> None:
    out, before = tmp_path / "out", set(jobs(cluster))
    with begin(command(text, out, "slurm", sizes="1x16x1", tokens=LONG), cluster) as head:
        wait_for(lambda: last_step(out) > 20)
        (job,) = set(jobs(cluster)) - before
        subprocess.run(["scontrol", "requeue", job], env=cluster, check=True)
        wait_for(lambda: list(out.glob("runs/*/checkpoint.pt")))
        assert head.wait(timeout=200) == 0
    assert set(jobs(cluster)) - before == {job}
    assert_same_results(out, long)


def test_ctrl_c_lets_jobs_save_and_the_same_command_goes_on(
    cluster: dict[str, str], text: Path, long: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = command(text, out, "slurm", sizes="1x16x1", tokens=LONG)
    with begin(words, cluster) as head:
        wait_for(lambda: last_step(out) > 20)
        head.send_signal(signal.SIGINT)
        said = head.communicate(timeout=60)[1]
    assert head.returncode == 130
    assert "Ctrl-C again ends them at once" in said
    assert not jobs(cluster, "pending,running")
    assert list(out.glob("runs/*/checkpoint.pt"))
    sweep(words, cluster)
    assert_same_results(out, long)


def test_a_killed_head_takes_up_its_jobs_again(
    cluster: dict[str, str], text: Path, long: Path, tmp_path: Path
) -> None:
    out, before = tmp_path / "out", set(jobs(cluster))
    words = command(text, out, "slurm", sizes="1x16x1", tokens=LONG)
    with begin(words, cluster) as head:
        wait_for(lambda: last_step(out) > 5)
        head.kill()
    said = sweep(words, cluster)
    assert re.search(r"goes on as job \d+", said)
    assert len(set(jobs(cluster)) - before) == 1
    assert_same_results(out, long)


@pytest.mark.slow
def test_a_run_longer_than_its_time_limit_ends_in_the_same_table(
    cluster: dict[str, str], text: Path, tmp_path: Path
) -> None:
    words = ["--executor-option", "time_minutes=1"]
    out, before = tmp_path / "slurm", set(jobs(cluster))
    sweep(command(text, out, "slurm", *words, sizes="1x16x1", tokens="14M"), cluster, timeout=580)
    sweep(
        command(text, tmp_path / "local", "local", sizes="1x16x1", tokens="14M"), dict(os.environ)
    )
    (job,) = set(jobs(cluster)) - before
    shown = subprocess.run(
        ["scontrol", "show", "job", job], env=cluster, capture_output=True, text=True
    ).stdout
    assert int(re.search(r"Restarts=(\d+)", shown)[1]) >= 1  # type: ignore[index]
    assert_same_results(out, tmp_path / "local")


def test_a_job_that_slurm_refuses_is_an_error_that_says_why(
    cluster: dict[str, str], text: Path, tmp_path: Path
) -> None:
    words = command(text, tmp_path / "out", "slurm", "--executor-option", "partition=nowhere")
    ended = subprocess.run(words, env=cluster, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "invalid partition" in ended.stderr
    assert "[hardware.slurm]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_loop_of_next_trains_its_rounds_as_on_this_machine(
    cluster: dict[str, str], text: Path, tmp_path: Path
) -> None:
    on_slurm = 'executor = "slurm"\n[hardware.slurm]\npartition = "test"'
    for name, hardware in (("local", "workers = 1"), ("slurm", on_slurm)):
        words = loop_words(tmp_path / f"{name}.toml", text, tmp_path / name, hardware)
        environment = cluster if name == "slurm" else dict(os.environ)
        sweep([sys.executable, "-m", "llmscale", *words], environment, timeout=600)
    assert_same_results(tmp_path / "local", tmp_path / "slurm")
    assert len(read_loop(tmp_path / "slurm")["rounds"]) == 2
    assert read_loop(tmp_path / "slurm")["rounds"] == read_loop(tmp_path / "local")["rounds"]

"""experiments/gpu_check.py on a CPU, from a checkout that is not installed, without `datasets`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from caches import empty_cache

UNHURRIED = 600.0
"""Seconds in which any machine that runs these tests gets through."""
TOO_LONG = "long"
"""A step that is not expected to fit into the budget."""
NEVER = ("speed:2x32x2:4x64:nanogpt", "ladder", TOO_LONG)
HURRIED = "hardware"
"""A step that is given too little time."""
GPU_CORES, GPU_BYTES = 16, 80 * 10**9
TIMED = ("4x64:llmscale", "4x64:nanogpt", "16x32:eager", "4x64:stack-of-2", "4x64:muon")
STEPS = {
    *(
        "hardware",
        "peaks",
        "data",
        "sweep",
        "law",
        "peaks:again",
        "ladder",
        "long",
        "profile:2x32x2",
    ),
    *(f"correctness:{name}" for name in ("llama", "gpt2", "training", "resumed", "killed")),
    *(f"speed:2x32x2:{name}" for name in TIMED),
}


@pytest.fixture(scope="module")
def checkout(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the check needs, beside a `datasets` that cannot be imported."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("llmscale", "experiments", "benchmarks"):
        shutil.copytree(repository / name, folder / name)
    empty_cache(folder / "cache")
    (folder / "blocked").mkdir()
    (folder / "blocked" / "datasets.py").write_text(
        "raise ImportError('blocked')\n", encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def out(checkout: Path) -> Path:
    """The folder of a check that was interrupted while its second step ran; the first one got too
    little time.
    """
    folder = checkout / "out"
    options = ("--only", f"{HURRIED},correctness", "--limit", f"{HURRIED}=0.01")
    with subprocess.Popen(
        command(checkout, folder, *options),
        cwd=checkout.parent,
        env=environment(checkout),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: lines(folder) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=UNHURRIED)
    assert (process.returncode, errors) == (130, "")
    return folder


@pytest.fixture(scope="module")
def interrupted(out: Path) -> list[dict[str, Any]]:
    """The journal of that check, which has packed what it found."""
    with tarfile.open(out / "results.tgz") as archive:
        packed = archive.extractfile("check.jsonl")
        assert packed is not None
        assert packed.read() == (out / "check.jsonl").read_bytes()
    return lines(out)


@pytest.fixture(scope="module")
def whole(
    checkout: Path, out: Path, interrupted: list[dict[str, Any]]
) -> "subprocess.CompletedProcess[str]":
    """A whole check on a CPU, into the same folder: how it ended."""
    return check(checkout, out, "--budget", "60")


def command(checkout: Path, out: Path, *options: str) -> list[str]:
    script = checkout / "experiments" / "gpu_check.py"
    return [sys.executable, "-P", str(script), "--device", "cpu", "--out", str(out), *options]


def environment(checkout: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(checkout / "blocked"),
        "LLMSCALE_CACHE": str(checkout / "cache"),
    }


def check(checkout: Path, out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(checkout, out, *options),
        cwd=checkout.parent,
        env=environment(checkout),
        capture_output=True,
        text=True,
        timeout=UNHURRIED,
        check=False,
    )


def lines(out: Path) -> list[dict[str, Any]]:
    path = out / "check.jsonl"
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if path.exists()
        else []
    )


def latest(out: Path) -> dict[str, dict[str, Any]]:
    return {line["step"]: line for line in lines(out)}


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + UNHURRIED
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_step_over_its_limit_is_ended_and_a_check_that_is_interrupted_keeps_what_it_found(
    interrupted: list[dict[str, Any]],
) -> None:
    first, *others = interrupted
    assert (first["step"], first["status"]) == (HURRIED, "timed out")
    assert first["reason"] == "took more than its 0.01 s"
    assert {line["status"] for line in others} <= {"done", "interrupted"}


@pytest.mark.slow
def test_a_whole_check_adds_a_line_for_every_step(
    checkout: Path,
    out: Path,
    interrupted: list[dict[str, Any]],
    whole: "subprocess.CompletedProcess[str]",
) -> None:
    assert whole.stderr == ""
    assert lines(out)[: len(interrupted)] == interrupted
    added = lines(out)[len(interrupted) :]
    assert sorted(line["step"] for line in added) == sorted(STEPS)
    for line in added:
        assert line["status"] in ("done", "skipped", "timed out"), line
        assert (line["status"] == "done") == ("reason" not in line)
    reasons = {line["step"]: line.get("reason", "") for line in added}
    assert reasons["ladder"] == reasons["speed:2x32x2:4x64:nanogpt"] == "no --peer"
    assert "s are left" in reasons[TOO_LONG]

    # A slow machine has not got through all in this time.
    missing = [
        line["step"] for line in added if line["status"] != "done" and line["step"] not in NEVER
    ]
    if missing:
        again = check(checkout, out, "--budget", str(UNHURRIED), "--only", ",".join(missing))
        assert {line["step"] for line in lines(out)[len(interrupted) + len(added) :]} == set(
            missing
        )
        assert (again.returncode, again.stderr) == (0, "")
    else:
        assert whole.returncode == 0
    assert all(line["status"] == "done" for name, line in latest(out).items() if name not in NEVER)


@pytest.mark.slow
def test_a_check_finds_what_it_is_for_and_packs_it(
    checkout: Path, out: Path, whole: "subprocess.CompletedProcess[str]"
) -> None:
    steps = latest(out)
    (machine, *_) = steps["hardware"]["rows"]
    assert Path(machine["llmscale_file"]) == checkout / "llmscale" / "__init__.py"
    correctness = [
        row
        for name, line in steps.items()
        if name.startswith("correctness")
        for row in line["rows"]
    ]
    assert len(correctness) > 15
    assert all(row["passed"] for row in correctness if "not_here" not in row)
    assert [row for row in correctness if "killed" in row["check"]]
    speeds = [
        row
        for name, line in steps.items()
        if name.startswith("speed")
        for row in line.get("rows", [])
    ]
    assert {(row["seeds"], row["optimizer"]) for row in speeds} == {
        (1, "adamw"),
        (2, "adamw"),
        (1, "muon"),
    }
    assert all(row["tokens_per_second"] > 0 for row in speeds)
    (profile,) = steps["profile:2x32x2"]["rows"]
    shares = [kernel["share"] for kernel in profile["kernels"]]
    assert shares == sorted(shares, reverse=True)
    assert 0.5 < sum(shares) < 1 + 1e-9  # those with the largest shares

    assert len(pd.read_parquet(out / "runs.parquet")) == 4
    readme = (out / "README.md").read_text(encoding="utf-8")
    for title in ("Machine", "Correctness", "Peaks", "Speed", "Kernels", "Sweep", "Steps"):
        assert f"## {title}\n" in readme
    with tarfile.open(out / "results.tgz") as archive:
        names = archive.getnames()
    wanted = {"README.md", "runs.parquet", "curves.parquet", "sweep.json", "fit-power-floor.json"}
    assert wanted | {"figures/scaling.png", "figures/curves.png", "profile-2x32x2.txt"} <= set(
        names
    )
    assert not [name for name in names if name.endswith((".pt", ".bin"))]


@pytest.mark.parametrize("options", [["--only", "hardware,sped"], ["--limit", "sped=3"]])
def test_an_unknown_step_is_an_error_that_names_those_there_are(
    checkout: Path, options: list[str]
) -> None:
    done = check(checkout, checkout / "unknown", *options)
    assert done.returncode == 2
    assert "there is no step 'sped'; there are hardware, peaks, data, correctness" in done.stderr
    assert lines(checkout / "unknown") == []


@pytest.fixture
def on_gpu(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The steps for a GPU of 80 GB in a machine of 16 cores, with nanoGPT."""
    monkeypatch.syspath_prepend(str(repository / "experiments"))
    from gpu.settings import add_options, settings_for
    from gpu.steps import list_steps

    parser = ArgumentParser()
    add_options(parser)
    options = parser.parse_args([])
    options.out, options.peer = tmp_path, tmp_path
    return list_steps(settings_for("cuda", "bfloat16", options), GPU_CORES, GPU_BYTES)


def test_on_a_gpu_nanogpt_is_timed_right_after_ours_on_as_many_tokens(on_gpu: list[Any]) -> None:
    timed = [step for step in on_gpu if step.kind == "speed"]
    compared = [step for step in timed if step.name.endswith(("llmscale", "nanogpt"))]
    assert len(compared) == 2 * 4 * 2
    for ours, theirs in zip(compared[::2], compared[1::2], strict=True):
        assert (ours.name.rpartition(":")[0], ours.priority) == (
            theirs.name.rpartition(":")[0],
            theirs.priority,
        )
        assert theirs.arguments == {**ours.arguments, "peer": theirs.arguments["peer"]}


def test_what_is_timed_compiled_is_compiled_before_in_the_same_sizes(on_gpu: list[Any]) -> None:
    timed = {step.name.partition(":")[2]: step for step in on_gpu if step.kind == "speed"}
    warmed = {step.name.partition(":")[2]: step for step in on_gpu if step.kind == "warm"}
    assert set(warmed) == {name for name, step in timed.items() if step.arguments["compile"]}
    for name, step in warmed.items():
        assert {**step.arguments, "seconds": 4.0} == {**timed[name].arguments, "steps_a_point": 1}
        assert on_gpu.index(step) < on_gpu.index(timed[name])


def test_what_matters_most_on_a_gpu_fits_into_ten_minutes(on_gpu: list[Any]) -> None:
    important = [step for step in on_gpu if step.priority <= 3]
    seconds = sum(step.seconds / (GPU_CORES // 4 if step.shares else 1) for step in important)
    assert seconds < 530
    kinds = {"hardware", "peaks", "data", "correctness", "warm", "speed", "profile", "sweep", "law"}
    assert {step.kind for step in important} == kinds

"""What every executor does alike; those of clusters with `make test-cluster`."""

import importlib
import json
import os
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hostile import hostile_modules
from slurm_cluster import slurm_cluster, why_not
from sweeps import lengthened
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.measure import executors
from llmscale.measure.executors import (
    EXECUTORS,
    Event,
    Place,
    Task,
    _ray_cluster,
)
from llmscale.measure.lead import train_tasks
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.text import sources
from llmscale.measure.trackers import TRACKERS

SIZES, TOKENS = "1x16x1,1x24x1,2x16x1,2x24x1", "20k"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of four runs."""
    folder = tmp_path_factory.mktemp("swept")
    lines = (
        json.dumps({"text": " ".join(str(number) for number in range(i * 37, i * 37 + 90))})
        for i in range(150)
    )
    (folder / "counting.jsonl").write_text("\n".join(lines) + "\n")
    words = ["sweep", "--sizes", SIZES, "--tokens", TOKENS, "--data",
    str(folder / "counting.jsonl"), "--tokenizer",
             "bpe:300", "--context", "32", "--device", "cpu", "--dtype", "float32", "--lr", "0.02",
             "--workers", "1", "--batch-tokens", "512", "--out", str(folder / "out")]  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return folder / "out"


@pytest.fixture(
    scope="module",
    params=[
        name if name == "local" else pytest.param(name, marks=pytest.mark.cluster)
        for name in EXECUTORS
    ],
)
def executor(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every member, with a cluster of its own where it takes one."""
    name: str = request.param
    if name == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'llmscale[ray]'")
    if name != "slurm":
        yield name
        return
    pytest.importorskip(
        "submitit", reason="submitit is not installed: pip install 'llmscale[slurm]'"
    )
    if why_not():
        pytest.skip(str(why_not()))
    with (
        tempfile.TemporaryDirectory(
            prefix="llmscale-slurm-"
        ) as folder,  # short: a socket's path has 107 bytes
        slurm_cluster(Path(folder), cpus=2) as conf,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setitem(os.environ, "SLURM_CONF", str(conf))
        yield name


def test_events_come_in_order_and_stopped_failed_and_finished_runs_end_as_they_should(
    executor: str, swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = hostile_modules(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    shutil.copytree(swept / "runs", tmp_path / "runs")
    folders = sorted((tmp_path / "runs").iterdir())
    finished, trained, stopped, failing = folders
    for folder in (trained, stopped, failing):
        (folder / "run.json").unlink()
        (folder / "curve.parquet").unlink()
    stopped = lengthened(stopped, 2000)  # many minutes, if it were not stopped
    folders[2] = stopped
    spec = json.loads((failing / "spec.json").read_text())
    (failing / "spec.json").write_text(json.dumps({**spec, "store": str(tmp_path / "nowhere")}))
    events: list[Event] = []

    def report(event: Event) -> bool:
        events.append(event)
        return event.kind == "logged" and event.folder == stopped

    options = Hardware(executor=executor).executor_options
    tasks = [Task((folder,)) for folder in (stopped, failing, trained, finished)]
    train_tasks(executor, tasks, [Place(threads=1)], report, options)

    def of(folder: Path, kind: str) -> list[Event]:
        return [event for event in events if event.folder == folder and event.kind == kind]

    codes = {folder: [event.exit_code for event in of(folder, "ended")] for folder in folders}
    assert codes == {finished: [0], trained: [0], stopped: [130], failing: [1]}
    for folder in folders:
        kinds = [event.kind for event in events if event.folder == folder]
        assert kinds[0] == "started"
        assert kinds[-1] == "ended"
        assert kinds.count("started") == 1
    steps = [event.point["step"] for event in of(trained, "logged")]
    assert steps == pq.read_table(trained / "curve.parquet")["step"].to_pylist()
    assert not of(finished, "logged")
    assert not of(failing, "logged")
    assert (stopped / "checkpoint.pt").exists()
    assert not (stopped / "run.json").exists()
    assert json.loads((failing / "run.json").read_text())["status"] == "failed"
    assert not ran.exists(), "a worker imported from the current folder"


def test_a_machine_without_a_gpu_plans_for_those_of_a_cluster(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    words = [
        "sweep",
        "--sizes",
        SIZES,
        "--tokens",
        TOKENS,
        "--data",
        str(swept.parent / "counting.jsonl"),
        "--tokenizer",
        "bpe:300",
        "--context",
        "32",
        "--device",
        "cuda",
        "--out",
        str(tmp_path / "out"),
        "--dry-run",
        "--json",
    ]
    alone = CliRunner().invoke(app, words)
    assert alone.exit_code == 2
    monkeypatch.setattr(
        executors, "need", lambda *_: None
    )  # to plan for a cluster takes none of its packages
    plan = json.loads(CliRunner().invoke(app, [*words, "--executor", "slurm"]).stdout)
    assert (plan["device"], plan["dtype"], plan["workers"]) == ("cuda", "bfloat16", 4)
    assert plan["estimated_seconds"] == 0
    assert plan["flops"] > 0


def choices() -> Iterator[tuple[str, list[str], str]]:
    """Of every menu the members that take a package: its name, the options that choose it, and what
    installs it.
    """
    for name in EXECUTORS:
        if needs := EXECUTORS.find(name).NEEDS:
            yield needs, ["--executor", name], f"pip install 'llmscale[{name}]'"
    for name in TRACKERS:
        needs = importlib.import_module(f"llmscale.measure.trackers.{name}").NEEDS
        yield needs, ["--track", name], "pip install 'llmscale[trackers]'"
    for name in sources.SOURCES:
        needs = getattr(
            importlib.import_module(f"llmscale.measure.text.sources.{name}"), "NEEDS", None
        )
        if needs:
            yield needs, ["--data", "some/dataset"], f"pip install {needs}"
    for scheme, package in (("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")):
        yield package, ["--out", f"{scheme}://bucket/x"], f"pip install {package}"


@pytest.mark.parametrize(("package", "chosen", "install"), list(choices()))
@pytest.mark.parametrize("command", ["sweep", "tune"])
def test_what_needs_a_package_that_is_missing_is_refused_before_anything_is_done(
    command: str,
    package: str,
    chosen: list[str],
    install: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if (command, chosen[0]) == ("tune", "--track"):
        pytest.skip("tune has no trackers")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("one two three")
    words = {
        "--sizes": "1x16x1",
        "--tokens": "20k",
        "--data": str(text),
        "--out": str(tmp_path / "out"),
    }
    words |= {chosen[0]: chosen[1]}
    result = CliRunner().invoke(app, [command, *(word for pair in words.items() for word in pair)])
    assert result.exit_code == 2, result.output
    said = " ".join(result.stderr.split())
    assert f"needs the package {package}" in said
    assert install in said
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_a_ray_that_a_sweep_starts_is_reached_from_this_machine_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def init(**options: object) -> None:
        seen.update(
            options,
            folder=os.getcwd(),
            mode=os.environ["RAY_AUTH_MODE"],
            token=os.environ["RAY_AUTH_TOKEN"],
        )

    fake = types.SimpleNamespace(
        init=init, shutdown=lambda: None, exceptions=types.SimpleNamespace(RayError=RuntimeError)
    )
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.chdir(tmp_path)
    with _ray_cluster.connected(None):
        pass
    assert (seen["address"], seen["_node_ip_address"], seen["include_dashboard"]) == (
        "local",
        "127.0.0.1",
        False,
    )
    assert seen["mode"] == "token"
    assert len(str(seen["token"])) == 64
    assert seen["folder"] == os.sep, "Ray's workers import from there"
    assert os.getcwd() == str(tmp_path)

"""Trackers, read back by their own readers after a sweep that was killed and went on."""

import importlib
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sweeps import wait_for, worker_pids
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.measure.executors import Event
from llmscale.measure.sweep.tracking import tracked
from llmscale.measure.trackers import TRACKERS, find_trackers
from llmscale.measure.train.job import Job
from llmscale.runs.log import last_progress
from llmscale.runs.results_folder import ResultsFolder

SIZE = "1x32x1"


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


needs_all = pytest.mark.skipif(
    not all(map(installed, TRACKERS)), reason="the extra `trackers` is not installed"
)


def spec_file(path: Path, tokens: str) -> Path:
    rng = np.random.default_rng(7)
    words = ["".join(rng.choice(list("abcdefgh"), size=4)) for _ in range(80)]
    (path / "text.txt").write_text(
        "\n".join(" ".join(rng.choice(words, size=30)) for _ in range(3000))
    )
    spec = path / "s.toml"
    spec.write_text(
        f'sizes = ["{SIZE}"]\ntokens = "{tokens}"\ntrack = ["tensorboard", "wandb", "mlflow"]\n'
        f'[data]\nsource = "{path / "text.txt"}"\ntokenizer = "bpe:300"\nvalidation_tokens = 2000\n'
        "[recipe]\ncontext = 32\n"
        '[hardware]\ndevice = "cpu"\ndtype = "float32"\nworkers = 1\ncheckpoint_seconds = 0.2\n'
    )
    return spec


@pytest.mark.cluster
@needs_all
def test_trackers_hold_each_step_of_a_killed_and_resumed_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, spec = tmp_path / "out", spec_file(tmp_path, "100k")
    environment = {**os.environ, "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "llmscale", "sweep", str(spec), "--out", str(out)]
    first = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: list(out.glob("runs/*/checkpoint.pt")), 240)
    run = next(out.glob("runs/*"))
    reached = last_progress(run)
    assert reached is not None
    wait_for(lambda: (last_progress(run) or {})["step"] > reached["step"], 240)
    first.kill()
    for pid in worker_pids(out):
        os.kill(pid, signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    curve = {
        row["step"]: row["train_loss"] for row in pq.read_table(out / "curves.parquet").to_pylist()
    }
    loss = pq.read_table(out / "runs.parquet")["loss"][0].as_py()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(
        str(next(out.glob("tensorboard/*"))), size_guidance={"scalars": 0}
    ).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train_loss")]
    assert [step for step, _ in shown] == list(curve)
    assert [value for _, value in shown] == pytest.approx(list(curve.values()), rel=1e-6)
    assert events.Scalars("final/loss")[-1].value == pytest.approx(loss, rel=1e-6)

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient((out / "mlruns").resolve().as_uri())
    experiment = client.get_experiment_by_name("out")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["n_layer"] == "1"
    history = client.get_metric_history(found.info.run_id, "train_loss")
    assert {metric.step: metric.value for metric in history} == curve
    assert len(history) == len(curve)

    logged = [row for path in sorted(tmp_path.rglob("run-*.wandb")) for row in wandb_rows(path)]
    assert {row["step"]: row["train_loss"] for row in logged} == curve
    assert len(logged) == len(curve)


def wandb_rows(path: Path) -> list[dict[str, Any]]:
    """The history of an offline run: Record messages in the log format of LevelDB, 32 KiB blocks of
    chunks.
    """
    Record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record

    content, position, data, rows = path.read_bytes(), 7, b"", []
    while position + 7 <= len(content):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        data += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record, data = Record.FromString(data), b""
            items = {
                item.key or item.nested_key[0]: json.loads(item.value_json)
                for item in record.history.item
            }
            if "train_loss" in items:
                rows.append({**items, "step": record.history.step.num})
    return rows


def test_a_tracker_that_fails_is_told_of_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="the extra `trackers` is not installed")
    import llmscale.measure.trackers.tensorboard as member

    taken: list[int] = []

    class Full:
        def log(self, step: int, metrics: dict[str, float]) -> None:
            taken.append(step)
            raise OSError("No space left on device")

        def end(self, summary: dict[str, Any] | None) -> None: ...

    monkeypatch.setattr(member, "begin", lambda run: Full())
    warnings: list[str] = []
    heard: list[Event] = []
    job = a_job()
    folder = tmp_path / job.run_id
    with tracked(
        ["tensorboard"], [job], ResultsFolder(tmp_path), heard.append, warnings.append
    ) as report:
        for step in (1, 2, 3):
            report(Event("logged", folder, point={"step": step, "train_loss": 5.0}))
    assert [event.point["step"] for event in heard] == [1, 2, 3]
    assert taken == [1]
    (warning,) = warnings
    assert (
        "tensorboard is not told of this sweep any more: OSError: No space left on device"
        in warning
    )


def a_job() -> Job:
    from llmscale.measure.train.job import JobText, make_job
    from llmscale.measure.train.recipe import Recipe
    from llmscale.runs.shape import shape_for

    shape = shape_for(SIZE, vocab_size=300, context=32, arch="llama")
    return make_job(
        SIZE,
        shape,
        96_000,
        Recipe(context=32),
        JobText("text", "0", 200_000, 2000),
        seed=0,
        dtype="float32",
    )


def test_a_missing_package_or_tracker_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in TRACKERS else found(name)
    )
    out = tmp_path / "out"
    asked = [
        "sweep",
        "--sizes",
        SIZE,
        "--data",
        str(tmp_path / "no.txt"),
        "--out",
        str(out),
        "--track",
    ]
    for name in TRACKERS:
        missing = CliRunner().invoke(app, [*asked, name])
        assert missing.exit_code == 2
        assert f"--track {name} needs the package {name}" in missing.stderr
        assert "pip install 'llmscale[trackers]'" in missing.stderr
    unknown = CliRunner().invoke(app, [*asked, "tensorbord"])
    assert unknown.exit_code == 2
    assert "there is no tracker 'tensorbord'" in unknown.stderr
    assert not out.exists()


def test_every_tracker_names_its_package_and_begins_runs() -> None:
    assert set(TRACKERS) == {"mlflow", "tensorboard", "wandb"}
    for name, member in find_trackers([name for name in TRACKERS if installed(name)]).items():
        assert name == member.NEEDS
        assert callable(member.begin)

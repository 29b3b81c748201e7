"""Results at a URL: file systems of fsspec, real processes, real kills."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
import torch
from caches import empty_cache
from fsspec.implementations.local import LocalFileSystem
from sweeps import options
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.runs.remote import Remote, is_results, lock, pull_table, results_at, uploads
from llmscale.runs.remote.lock import RemoteLock
from llmscale.runs.safe_write import write_text


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(uploads, "SECONDS_BETWEEN_PUSHES", 0.2)
    monkeypatch.setattr(uploads, "SECONDS_AFTER_AN_END", 0.05)
    monkeypatch.setattr(uploads, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(uploads, "LAST_TRIES_SECONDS", 0.3)
    results_at.cache_clear()
    yield
    results_at.cache_clear()


def llmscale(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def on_another_machine(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """From here on with a cache folder of its own, and nothing remembered."""
    tokens = Path(os.environ["LLMSCALE_CACHE"]) / "tokens"
    monkeypatch.setenv("LLMSCALE_CACHE", str(empty_cache(cache)))
    (cache / "tokens").symlink_to(tokens)
    results_at.cache_clear()


@pytest.mark.slow
def test_a_second_machine_goes_on_with_what_the_first_has_left_at_the_url(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "memory://bucket/x"
    first = llmscale(*options(text, url, sizes="1x16x1"))
    assert first.exit_code == 0, first.output
    assert f"llmscale fit {url}" in first.stdout.replace("\n", "")
    fs, root = fsspec.core.url_to_fs(url)
    names = {name.removeprefix(root + "/") for name in fs.find(root)}
    run_id = next(name.split("/")[1] for name in names if name.startswith("runs/"))
    assert {f"runs/{run_id}/{name}" for name in ("spec.json", "run.json", "curve.parquet")} <= names
    assert not [name for name in names if name.endswith((".part", ".sweep-lock.json", ".pt"))]

    on_another_machine(monkeypatch, tmp_path / "cache")
    second = llmscale(*options(text, url, sizes="1x16x1,2x16x1"))
    assert second.exit_code == 0, second.output
    assert "[1/1]" in second.stderr
    runs = pd.read_parquet(pull_table(url) / "runs.parquet")
    assert list(runs["status"]) == ["done", "done"]


def test_tables_at_a_url_are_read_and_nothing_is_written_there(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pd.DataFrame({"N": [1e6, 3e6, 1e7, 3e7, 1e8], "D": [1e9] * 5})
    source["loss"] = 2 + 50 * source["N"] ** -0.3
    there = tmp_path / "there"
    there.mkdir()
    source.to_csv(there / "runs.csv", index=False)
    source.assign(status="done").to_parquet(there / "runs.parquet")
    (there / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    losses = []
    for url in (f"file://{there}/runs.csv", f"file://{there}"):
        fit = llmscale("fit", url, "--law", "power-floor", "--bootstrap", "20", "--json")
        assert fit.exit_code == 0, fit.output
        assert json.loads(fit.stdout)["coefficients"]["E"] == pytest.approx(2, abs=0.01)
        predicted = llmscale(
            "predict", url, "--params", "1B", "--law", "power-floor", "--bootstrap", "0", "--json"
        )
        assert predicted.exit_code == 0, predicted.output
        losses.append(json.loads(predicted.stdout)["predictions"][0]["loss"])
    assert losses[0] == losses[1] == pytest.approx(2 + 50 * 1e9**-0.3, rel=1e-3)
    drawn = llmscale("plot", f"file://{there}", "--bootstrap", "0")
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "scaling.png").exists()
    assert sorted(path.name for path in there.iterdir()) == ["runs", "runs.csv", "runs.parquet"]


def test_a_sweep_killed_on_one_machine_resumes_from_its_checkpoint_on_another(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    spec, saving = (
        tmp_path / "sweep.toml",
        "sizes = ['1x16x1']\n[hardware]\ncheckpoint_seconds = {}\n",
    )
    spec.write_text(saving.format(0.02))
    arguments = options(text, f"file://{there}", sizes="1x16x1", tokens="150k", batch_tokens="256")
    arguments[1:1] = [str(spec)]
    impatient = (
        "import sys; from llmscale.runs.remote import uploads; from llmscale.commands import app;"
        "uploads.SECONDS_BETWEEN_PUSHES = uploads.SECONDS_AFTER_AN_END = 0.02; app(sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", impatient, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        deadline = time.monotonic() + 240
        while not list(there.glob("runs/*/checkpoint.pt")):
            assert time.monotonic() < deadline, "waited in vain"
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert (there / ".sweep-lock.json").exists()
    (run,) = there.glob("runs/*")
    assert not (run / "run.json").exists()

    before = torch.load(run / "checkpoint.pt", weights_only=True)
    on_another_machine(monkeypatch, tmp_path / "cache")
    spec.write_text(saving.format(60))
    result = llmscale(*arguments)
    assert result.exit_code == 0, result.output
    runs, curves = (pd.read_parquet(there / name) for name in ("runs.parquet", "curves.parquet"))
    assert list(runs["status"]) == ["done"]
    assert not list(there.rglob("checkpoint*"))
    assert not (there / ".sweep-lock.json").exists()
    # The steps of the first machine are the first of the curve, at the seconds at which they were
    # trained there.
    first = [point["seconds"] for point in before["curve"]]
    assert list(curves["seconds"][: len(first)]) == first
    assert curves["step"].is_monotonic_increasing
    assert curves["step"].iloc[-1] == runs["steps"][0] > before["step"] > 0


def test_a_lost_network_is_told_and_what_could_not_be_sent_is_sent_by_the_same_command(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/there"
    put = LocalFileSystem.put_file

    def unplugged(self: Any, path: str, *more: Any, **options: Any) -> None:
        if not path.endswith(("spec.json", "sweep.json")):
            raise ConnectionError("no route to host")
        put(self, path, *more, **options)

    monkeypatch.setattr(LocalFileSystem, "put_file", unplugged)
    lost = llmscale(*options(text, url, sizes="1x16x1"))
    assert lost.exit_code == 1, lost.output
    # Not at all, if the run ends before anything is sent.
    assert lost.stderr.count("the sweep goes on here") <= 1
    assert "[1/1]" in lost.stderr
    assert "could not be sent" in lost.stderr
    assert "the same command sends them" in lost.stderr
    assert "no route to host" in lost.stderr
    assert "Traceback" not in lost.output
    assert not list(tmp_path.glob("there/runs/*/run.json"))

    monkeypatch.setattr(LocalFileSystem, "put_file", put)
    again = llmscale(*options(text, url, sizes="1x16x1"))
    assert again.exit_code == 0, again.output
    assert "[1/" not in again.stderr
    assert list(pd.read_parquet(tmp_path / "there" / "runs.parquet")["status"]) == ["done"]


def test_a_network_that_comes_back_is_told_and_nothing_is_missing(tmp_path: Path) -> None:
    remote = Remote(f"file://{tmp_path}/there", tmp_path / "here")
    said: list[str] = []
    fails = threading.Event()
    fails.set()
    put = remote.files.put

    def sometimes(path: Path, name: str) -> str:
        if fails.is_set():
            raise TimeoutError("timed out")
        return put(path, name)

    remote.files.put = sometimes  # type: ignore[method-assign]
    with RemoteLock(remote.files) as held, uploads.Uploads(remote, held, said.append):
        write_text(remote.folder / "runs/a/run.json", "{}")
        wait_for(lambda: said)
        fails.clear()
        wait_for(lambda: len(said) == 2)
    assert "timed out" in said[0]
    assert "again" in said[1]
    assert (tmp_path / "there/runs/a/run.json").read_text() == "{}"


def wait_for(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_names_from_the_url_never_become_paths_outside_the_mirror(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    names = [
        "runs/../../evil",
        "../evil",
        "runs/a/../../../evil",
        "/evil",
        "runs//evil",
        "runs/.ssh/evil",
        "runs/a/b\\c",
    ]
    fs.store.clear()
    for name in [*names, "runs/a/curve.parquet"]:
        fs.pipe_file(f"/evil-bucket/{name}", b"x")
        assert is_results(name) == (name == "runs/a/curve.parquet")
    for name in names:  # as an object store gives them: nothing is resolved
        fs.store[f"/evil-bucket/{name}"] = fs.store["/evil-bucket/runs/a/curve.parquet"]
    remote = Remote("memory://evil-bucket", tmp_path / "in" / "mirror")
    assert remote.pull() == ["runs/a/curve.parquet"]
    found = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert found == {"in/mirror/runs/a/curve.parquet", "in/mirror/.remote.json"}

    for spec in (
        {"branch_points": {"5": "../../evil"}},
        {"start": "/etc/passwd"},
        {"start": "../../a/trunk-5.pt"},
    ):
        fs.pipe_file("/evil-bucket/runs/b/spec.json", json.dumps(spec).encode())
        with pytest.raises(InputError, match="outside the results"):
            remote.pull()
    fs.pipe_file("/evil-bucket/runs/b/spec.json", json.dumps({"start": "../a/trunk-5.pt"}).encode())
    assert remote.pull() == ["runs/b/spec.json"]


def test_neither_side_undoes_what_the_other_has_done(tmp_path: Path) -> None:
    one, other = (Remote(f"file://{tmp_path}/there", tmp_path / name) for name in ("one", "other"))
    passing = ["runs/a/checkpoint.pt", "runs/a/initial.safetensors"]
    for name in ("sweep.json", "runs/a/spec.json", *passing, "runs/b/spec.json"):
        write_text(one.folder / name, "{}")
    assert len(one.push()) == 5
    assert one.push() == []
    assert len(other.pull()) == 5
    write_text(other.folder / "runs/a/run.json", '{"by": "other"}')
    for name in passing:
        (other.folder / name).unlink()
    assert sorted(other.push()) == [*passing, "runs/a/run.json"]
    write_text(one.folder / "runs/b/checkpoint.pt", "further here")
    assert one.pull() == ["runs/a/run.json"]
    assert not any((one.folder / name).exists() for name in passing)
    assert one.push() == ["runs/b/checkpoint.pt"]
    (one.folder / "runs/b/spec.json").unlink()  # by hand: the next pull brings it back
    assert one.pull() == ["runs/b/spec.json"]

    for path in sorted((tmp_path / "there").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(InputError, match=r"nothing at .* any more"):
        one.pull()
    assert (one.folder / "runs/a/run.json").exists()


def test_one_sweep_at_a_time_holds_a_url_and_a_dead_one_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Remote(f"file://{tmp_path}/there", tmp_path / "here").files
    monkeypatch.setattr(lock, "REFRESH_SECONDS", 0.1)
    monkeypatch.setattr(lock, "EXPIRY_SECONDS", 2.0)
    with RemoteLock(files) as held:
        with pytest.raises(InputError, match=f"process {os.getpid()}"):
            RemoteLock(files).__enter__()
        assert held.lost is None
        # Somebody has taken it over while this machine was away.
        files.write_json(
            lock.NAME,
            {"holder": "x", "machine": "else", "host": "else", "pid": 7, "refreshed": "1"},
        )
        wait_for(lambda: held.lost)
        assert "process 7 on else" in str(held.lost)
    assert files.read_json(lock.NAME)["pid"] == 7  # type: ignore[index]
    said: list[str] = []
    began = time.monotonic()
    with RemoteLock(files, said.append):
        assert time.monotonic() - began >= 2.0
        assert "process 7 on else" in said[0]
    assert files.read_json(lock.NAME) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://bucket/x", "pip install s3fs"),
        ("nonsense://x/y", "nonsense"),
        ("file:///proc/nowhere/x", "/proc/nowhere"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_sentence(
    url: str, words: str, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmscale.measure.sweep import remote_results as at_url

    monkeypatch.setattr(at_url, "START_SECONDS", 0.2)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    result = llmscale(*options(text, url, sizes="1x16x1"))
    assert result.exit_code in (1, 2), result.output
    assert words in result.stderr
    assert result.stderr.count("error:") == 1
    assert "Traceback" not in result.output

"""Sweeps on Ray: real clusters on this machine, real kills."""

import functools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sweeps import assert_same_results, loop_words, read_loop
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.machine import available_cores

pytest.importorskip("ray", reason="Ray is not installed: pip install 'llmscale[ray]'")
pytestmark = pytest.mark.cluster

CORES = max(1, available_cores() // 2)


class Cluster:
    """Two nodes on loopback, each with half of the cores, until the end of the block."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.temp = folder
        port = self.address.partition(":")[2]
        self.nodes = [
            self._start(
                "--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"
            )
        ]
        self.wait_for_nodes(1)

    def add_node(self, *before: str) -> None:
        self.nodes.append(self._start(f"--address={self.address}", before=before))
        self.wait_for_nodes(2)

    def _start(self, *options: str, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        command = [
            *before,
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            *options,
            f"--num-cpus={CORES}",
            "--node-ip-address=127.0.0.1",
            "--disable-usage-stats",
            "--block",
        ]
        nowhere = subprocess.DEVNULL
        return subprocess.Popen(
            command, stdout=nowhere, stderr=nowhere, text=True, start_new_session=True
        )

    def wait_for_nodes(self, count: int) -> None:
        wait_for(lambda: len(self.raylets()) == count, 60)
        time.sleep(2)  # until the head knows it

    def raylets(self) -> list[int]:
        """Of every node the process that manages it, the head's first."""
        found = []
        for pid, words in processes():
            if words[0].endswith("raylet") and any(str(self.temp) in word for word in words):
                found.append(pid)
        return sorted(found)

    def end(self) -> None:
        for raylet in self.raylets():
            kill_all(raylet)
        for node in self.nodes:
            kill_all(node.pid)
            node.wait()
        for pid, words in processes():
            if any(str(self.temp) in word for word in words):
                kill(pid)
        shutil.rmtree(self.temp, ignore_errors=True)


def processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[0]:
            yield int(entry.parent.name), words


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def kill_all(pid: int) -> None:
    """As when a machine loses its power: nothing of it gets to say a word."""
    for one in [pid, *descendants(pid)]:
        kill(one)


def wait_for(condition: Any, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    # Ray's sockets lie below it, and their paths may have 107 letters.
    folder = Path(tempfile.mkdtemp(prefix="llmscale-ray-", dir="/tmp"))
    # Only who has this token may run anything on the cluster.
    (folder / "token").write_text(secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.end()


def specification(
    path: Path, text: Path, address: str | None, tokens: list[str], seeds: int = 1
) -> Path:
    path.write_text(
        f'sizes = ["1x16x1", "2x16x1", "2x24x2"]\ntokens = {json.dumps(tokens)}\nseeds = {seeds}\n'
        f'[data]\nsource = "{text}"\ntokenizer = "bpe:300"\n[recipe]\ncontext = 32\n'
        f'[hardware]\ndevice = "cpu"\ndtype = "float32"\nworkers = 2\ncheckpoint_seconds = 0.3\n'
        + (f'[hardware.ray]\naddress = "{address}"\n' if address else "")
    )
    return path


def training(pid: int) -> list[Path]:
    """The folders of the runs that processes below `pid` train."""
    below = set(descendants(pid))
    return [
        Path(word)
        for one, words in processes()
        if one in below and "llmscale.measure.train.worker" in words
        for word in words[words.index("llmscale.measure.train.worker") + 1 :]
        if word.startswith("/")
    ]


def swept(spec: Path, out: str, *more: str) -> Any:
    result = CliRunner().invoke(app, ["sweep", str(spec), "--out", out, *more])
    assert result.exit_code == 0, result.output
    return result


def test_a_sweep_goes_on_when_a_node_of_its_cluster_dies_and_ends_as_on_one_machine(
    cluster: Cluster, text: Path, tmp_path: Path
) -> None:
    cluster.add_node()
    out, alone = tmp_path / "out", tmp_path / "alone"
    spec = specification(tmp_path / "sweep.toml", text, cluster.address, ["400k"], seeds=2)
    swept(spec, str(alone), "--executor", "local")
    command = [
        sys.executable,
        "-m",
        "llmscale",
        "sweep",
        str(spec),
        "--executor",
        "ray",
        "--out",
        str(out),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        _, second = cluster.raylets()
        (lost,) = wait_for(
            lambda: [run for run in training(second) if (run / "checkpoint.pt").exists()][:1], 120
        )
        killed, said, noticed = time.monotonic(), "", 0.0
        kill_all(second)
        for line in process.stderr:
            if "lost at step" in line:
                noticed = time.monotonic() - killed
            said += line
    assert process.returncode == 0, said
    assert "[6/6]" in said
    assert_same_results(out, alone)
    at, goes_on = (
        int(found[1]) for found in re.finditer(r"(?:lost|checkpoint) at step (\d+)", said)
    )
    sys.stdout.write(
        f"noticed after {noticed:.1f} s; run {lost.name} lost at step {at}, goes on at step "
        f"{goes_on}\n"
    )
    assert 1 < goes_on <= at + 2 * max(1, at // 100)
    assert not list(out.glob("runs/*/checkpoint*"))


def test_a_node_that_shares_no_folder_trains_by_way_of_the_url(
    cluster: Cluster, text: Path, tmp_path: Path
) -> None:
    there, alone, cache = tmp_path / "there", tmp_path / "alone", os.environ["LLMSCALE_CACHE"]
    hide = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs none {cache} && exec "$0" "$@"',
    ]
    if subprocess.run([*hide, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let a process have mounts of its own")
    cluster.add_node(*hide)
    spec = specification(tmp_path / "sweep.toml", text, cluster.address, ["40k", "100k"])
    swept(spec, str(alone), "--executor", "local")
    command = [
        sys.executable,
        "-m",
        "llmscale",
        "sweep",
        str(spec),
        "--executor",
        "ray",
        "--out",
        f"file://{there}",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        _, second = cluster.raylets()
        trained = wait_for(lambda: training(second), 120)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert all(str(run).startswith(f"{cache}/nodes") for run in trained)
    assert not Path(cache, "nodes").exists()
    assert "[6/6]" in said
    assert "started again" not in said
    assert list(there.glob("tokens/*/train.bin"))
    assert_same_results(there, alone)

    command[-1] = f"{cache}/out"
    hidden = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert hidden.returncode == 1, hidden.stderr
    assert "does not see" in hidden.stderr


def test_a_sweep_stopped_on_ray_of_this_machine_saves_its_runs_and_goes_on(
    text: Path, tmp_path: Path
) -> None:
    out, alone = tmp_path / "out", tmp_path / "alone"
    spec = specification(tmp_path / "sweep.toml", text, None, ["300k"])
    command = [
        sys.executable,
        "-m",
        "llmscale",
        "sweep",
        str(spec),
        "--executor",
        "ray",
        "--out",
        str(out),
    ]
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listens,
    ) as process:
        wait_for(lambda: list(out.glob("runs/*/progress.jsonl")), 120)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "raylet" not in said
    assert list(out.glob("runs/*/checkpoint.pt"))
    assert not training(os.getpid())
    swept(spec, str(out), "--executor", "ray")
    swept(spec, str(alone), "--executor", "local")
    assert_same_results(out, alone)


def test_a_cluster_that_is_not_there_is_one_sentence(text: Path, tmp_path: Path) -> None:
    spec = specification(tmp_path / "sweep.toml", text, "127.0.0.1:1", ["20k"])
    result = CliRunner().invoke(
        app, ["sweep", str(spec), "--executor", "ray", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 2, result.output
    assert "no Ray cluster at 127.0.0.1:1" in result.stderr


def test_a_loop_of_next_trains_its_rounds_as_on_this_machine(
    cluster: Cluster, text: Path, tmp_path: Path
) -> None:
    on_ray = f'executor = "ray"\n[hardware.ray]\naddress = "{cluster.address}"'
    for name, hardware in (("local", "workers = 1"), ("ray", on_ray)):
        words = loop_words(tmp_path / f"{name}.toml", text, tmp_path / name, hardware)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert_same_results(tmp_path / "local", tmp_path / "ray")
    assert len(read_loop(tmp_path / "ray")["rounds"]) == 2
    assert read_loop(tmp_path / "ray")["rounds"] == read_loop(tmp_path / "local")["rounds"]

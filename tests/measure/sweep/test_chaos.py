"""Sweeps whose processes are killed at random moments: the same command ends in the same tables,
value for value.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from sweeps import assert_same_results, llmscale, wait_for, worker_pids

SPEC = """
sizes = {sizes}
tokens = {tokens}
[data]
source = "{text}"
tokenizer = "bpe:300"
[recipe]
context = 32
lr = 0.02
[hardware]
device = "cpu"
dtype = "float32"
workers = 2
checkpoint_seconds = 0.05
"""

KILLED_WHILE_WRITING = """
import os, signal, sys
from llmscale.commands import app

left, sync = int(sys.argv.pop(1)), os.fsync

def killed(file):
    global left
    name = os.readlink(f"/proc/self/fd/{file}")
    left -= ".parquet." in name
    if left == 0:
        os.truncate(name, os.path.getsize(name) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)

os.fsync = killed
app()
"""
"""The program, killed when it has half written its so-manieth table."""


class Chaos:
    """Starts one sweep after another in folders of their own, and kills their processes, until
    there were `kills`.
    """

    def __init__(self, spec: Path, wanted: Path, kills: int, seed: int) -> None:
        self.spec, self.wanted, self.left = spec, wanted, kills
        self.random = random.Random(seed)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.sweeps = 0

    def run(self, folder: Path) -> None:
        while self.left > 0:
            self.sweeps += 1
            out = folder / f"sweep-{self.sweeps}"
            for _ in range(100):
                if self.started_once(out) == 0:
                    break
            else:
                raise AssertionError("the sweep does not come to its end")
            assert_same_results(out, self.wanted)
            wait_for(partial(_no_workers, out), 60)
            assert not list(out.rglob("*.part")), "what was half written is gone"
            assert not list(out.rglob("checkpoint*")), "and so are checkpoints"

    def started_once(self, out: Path) -> int:
        """Give the command, and kill something of it while there are kills left; its exit code."""
        command = ["sweep", str(self.spec), "--out", str(out)]
        if self.left > 0 and self.random.random() < 0.3:
            number = self.random.randint(1, 8)
            program = [sys.executable, "-c", KILLED_WHILE_WRITING, str(number)]
        else:
            program = [sys.executable, "-m", "llmscale"]
        with subprocess.Popen(
            [*program, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            if program[1] == "-m" and self.left > 0:
                self.kill_some(process, out)
            _, errors = process.communicate(timeout=600)
            code = process.returncode
        assert "Traceback" not in errors, errors
        if code == -signal.SIGKILL and program[1] == "-c":
            self.note("writer", f"table {number}")
        assert code in (0, 1, -signal.SIGKILL), errors
        if code != 1:
            return code
        assert (
            "was killed by signal 9" in errors
        )  # one run's worker, again and again: the other runs have gone on
        return code

    def kill_some(self, process: "subprocess.Popen[str]", out: Path) -> None:
        for _ in range(self.random.randint(1, 3)):
            deadline = (
                time.monotonic() + self.random.choice((0.0, 1.0, 3.0, 6.0)) * self.random.random()
            )
            wait_for(lambda: worker_pids(out) or process.poll() is not None, 300)
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.01)
            victims, stage = worker_pids(out), self.stage(out)
            if process.poll() is not None or not victims or self.left <= 0:
                return
            if self.random.random() < 0.4:
                os.kill(process.pid, signal.SIGKILL)
                self.note("sweep", stage)
                if (
                    self.random.random() < 0.5
                ):  # else the command is given again at once, while workers still save
                    wait_for(lambda: not worker_pids(out), 120)
                return
            try:
                os.kill(self.random.choice(victims), signal.SIGKILL)
            except ProcessLookupError:
                return
            self.note("worker", stage)
            time.sleep(0.3)

    def note(self, what: str, stage: str) -> None:
        self.counts[what, stage] += 1
        self.left -= 1

    @staticmethod
    def stage(out: Path) -> str:
        if list(out.rglob("runs/*/.checkpoint.pt*.part")):
            return "saving a checkpoint"
        if list(out.rglob("runs/*/checkpoint*.pt")):
            return "training, with checkpoints"
        if list(out.rglob("runs/*/progress.jsonl")):
            return "training, no checkpoint yet"
        return "loading or between runs"

    def __str__(self) -> str:
        lines = [
            f"{count:4} {what:<7} {stage}" for (what, stage), count in sorted(self.counts.items())
        ]
        return "\n".join([f"{self.counts.total()} kills in {self.sweeps} sweeps:", *lines])


def _no_workers(out: Path) -> bool:
    return not worker_pids(out)


def swept(folder: Path, text: Path, sizes: str, tokens: str) -> tuple[Path, Path]:
    """A specification with a trunk and branches, and the results of an uninterrupted sweep."""
    spec, out = folder / "chaos.toml", folder / "uninterrupted"
    spec.write_text(SPEC.format(sizes=sizes, tokens=tokens, text=text))
    result = llmscale("sweep", str(spec), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "branch of" in result.stderr
    return spec, out


@pytest.mark.slow
def test_sweeps_that_are_killed_fifty_times_end_in_the_same_tables(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chaos = Chaos(
        *swept(tmp_path, text, '["1x16x1", "2x16x1"]', '["20k", "30k", "90k"]'), kills=50, seed=7
    )
    chaos.run(tmp_path)
    with capsys.disabled():
        sys.stdout.write(f"\n{chaos}\n")
    assert {what for what, _ in chaos.counts} == {"sweep", "worker", "writer"}

"""A worker's process on this machine: starting it, telling it what to do, and letting it end."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmscale.errors import WriteError
from llmscale.machine import GPU_SHARE_VARIABLE
from llmscale.machine.child import child_environment, python
from llmscale.measure.executors import Event, Place
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import cannot_write

Process = subprocess.Popen[str]
WORKER = "llmscale.measure.train.worker"
SAVE_SECONDS = 600.0
EXIT_INTERRUPTED = 130
"""Of a worker that was told to end, and has saved; of a run that it was told to end."""


def start_worker(folders: Sequence[str], place: Place) -> Process:
    """Start a worker on the runs of `folders`, which sees only the GPUs of its place; if they are
    several, torchrun with a worker for each, of which the first one talks.

    It has a session of its own, so that Ctrl-C reaches it once, and ends with a checkpoint when its
    standard input does, and so with this process, however that ends. Raises WriteError if its log
    cannot be written."""
    environment = {"OMP_NUM_THREADS": str(place.threads), "TOKENIZERS_PARALLELISM": "false"}
    if place.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(_visible, place.gpus or (place.gpu,)))
    if place.memory_share < 1:
        environment[GPU_SHARE_VARIABLE] = str(place.memory_share)
    words = ["-m", WORKER, *folders, "--more"]
    if place.gpus:
        each = ("--nproc-per-node", str(len(place.gpus)))
        words = ["-m", "torch.distributed.run", "--standalone", *each, "-m", WORKER, *folders]
    path = RunFolder(Path(folders[0])).log_path
    try:
        log = path.open("a", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with log:
        return subprocess.Popen(
            python(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env=child_environment(**environment),
            start_new_session=True,
        )


def _visible(gpu: int) -> str:
    """The name of the `gpu`-th of the GPUs that this process may see."""
    allowed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return allowed[gpu] if allowed else str(gpu)


def why_lost(code: int) -> str:
    """What became of a process that ended with `code` while nobody here had told it to; empty if
    its run has failed.

    SIGTERM and SIGINT are sent by others too: by what watches over memory, by a system that shuts
    down, by people."""
    if code == -signal.SIGKILL:
        return f"its process was killed by signal {-code}, as the system does when memory runs out"
    if code < 0:
        return f"its process was killed by signal {-code}"
    if code == EXIT_INTERRUPTED:
        return "its process was told to end, by a signal from elsewhere"
    if code > 128:
        return f"its process was killed by signal {code - 128}"
    return "" if code else "its process ended without a word"


def event_of(said: Mapping[str, Any], folder: Path) -> Event | None:
    """What a worker says of the run in `folder`, if it is news. Raises WriteError."""
    if "cannot_write" in said:
        raise WriteError(*said["cannot_write"])
    if "warning" in said:
        return Event("warned", folder, message=said["warning"])
    if "point" in said:
        return Event("logged", folder, point=said["point"])
    if "exit_code" in said:
        return Event("ended", folder, exit_code=said["exit_code"])
    return None


def tell(process: Process, **message: Any) -> None:
    """Raises BrokenPipeError if the process has ended."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def close(process: Process) -> None:
    """Say that nothing more is to come."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


def kill(process: Process) -> None:
    """End the process, and those that it has started, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def wait_for(process: Process) -> None:
    """Wait for a process that has been told to end, for as long as a large checkpoint may take."""
    try:
        process.wait(SAVE_SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        process.wait()

"""A worker's process on this machine: starting it, telling it what to do, and letting it end."""

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmscale.machine.child import child_environment, python
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import cannot_write

WORKER = ("llmscale.measure.train.worker",)
EXIT_INTERRUPTED = 130
"""Of a worker that was told to end, and has saved a checkpoint; of a run that it was told to end.
"""


def start_worker(
    folders: Sequence[str],
    threads: int,
    program: Sequence[str] = WORKER,
    environment: Mapping[str, str] | None = None,
    more: bool = True,
) -> "subprocess.Popen[str]":
    """Start `python -m program` on the runs of `folders`, in a session of its own so that Ctrl-C
    reaches it once.

    It ends with a checkpoint when its standard input does, and so with this process, however that
    ends. Raises WriteError where its log cannot be written."""
    own = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        **(environment or {}),
    }
    path = RunFolder(Path(folders[0])).log_path
    try:
        log = path.open("a", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
    with log:
        return subprocess.Popen(
            python("-m", *program, *folders, *(["--more"] if more else [])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env=child_environment(**own),
            start_new_session=True,
        )


def why_lost(code: int, hung: str = "") -> str:
    """What became of a process that ended with `code` while nobody here had told it to; empty if
    its run has failed.

    SIGTERM and SIGINT are sent by others too: by what watches over memory, by a system that shuts
    down, by people."""
    if hung:
        return hung
    if code == -signal.SIGKILL:
        return f"was killed by signal {-code}, as the system does when memory runs out"
    if code < 0:
        return f"was killed by signal {-code}"
    if code == EXIT_INTERRUPTED:
        return "was told to end, by a signal from elsewhere"
    if code > 128:
        return f"was killed by signal {code - 128}"
    return "" if code else "ended without a word"


def tell(process: "subprocess.Popen[str]", **message: Any) -> None:
    """Raises BrokenPipeError where the process has ended."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def close(process: "subprocess.Popen[str]") -> None:
    """Say that nothing more is to come."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()

"""The process that trains runs: `python -m llmscale.measure.train.worker results/NAME/runs/RUN_ID`.

It reads `spec.json`, writes `curve.parquet` and then `run.json` into the same folder. On standard
output it says, one JSON object a line, `{"folder": F, "point": {...}}` for each logged step and
`{"folder": F, "exit_code": 0}` at the end; `{"folder": F, "warning": "..."}` for what people should
know, and `{"folder": F, "step": true}` now and then while it trains. If nothing can be written any
more it says `{"folder": F, "cannot_write": [PROBLEM, FIX]}` and ends with 74. SIGINT and SIGTERM
save a checkpoint and end it with exit code 130; so does a reader that has gone away.

With `--more` it then trains what standard input names, one JSON object a line, `{"folders": [F,
...]}`, until that ends or a run has failed. There `{"stop": F}` ends the run of F only, with a
checkpoint.

Several processes train a run together if torchrun starts them (`python -m torch.distributed.run
--nproc-per-node 8 -m llmscale.measure.train.worker FOLDER`): the first one talks and writes, and
holds the run's lock."""

import json
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmscale.errors import WriteError
from llmscale.measure.train.backend import keep_compiled_code, set_up_device
from llmscale.measure.train.processes import Processes, join_processes, leave_processes
from llmscale.measure.train.run_folders import EXIT_INTERRUPTED, Audience, train_runs
from llmscale.measure.train.run_spec import known_spec
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder

EXIT_CANNOT_WRITE = 74
"""sysexits.h: EX_IOERR."""
SECONDS_BETWEEN_BEATS = 5.0
"""How often, at most, to say that a step has been trained."""


def main(folders: list[str], more: bool = False) -> int:
    """Train `folders`, then what standard input names; the exit code is that of the last run."""
    spec = known_spec(RunFolder(Path(folders[0])))
    device = spec.conditions.device if spec else "cpu"  # that the file is damaged is said below
    processes = join_processes(device)
    set_up_device(device)
    keep_compiled_code()
    leader = _Leader(processes, folders)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, leader.ask_to_stop)
    if more:
        threading.Thread(target=leader.listen, daemon=True).start()
    audience = Audience(leader.report, leader.wants_to_stop, leader.warn)
    code, failed = 0, False
    while not (leader.stopping or failed) and (task := leader.tasks.get()):
        leader.unwanted.difference_update(task)
        if more:
            _write_errors_to(RunFolder(Path(task[0])).log_path)
        try:
            for path, code in train_runs([Path(folder) for folder in task], audience, processes):
                leader.say(path, exit_code=code)
                failed = failed or code not in (0, EXIT_INTERRUPTED)
        except WriteError as error:
            leader.say(Path(task[0]), cannot_write=[error.problem, error.fix])
            return EXIT_CANNOT_WRITE
        if not more:
            break
    leave_processes()
    return code


class _Leader:
    """Who has started this process: it names runs, is told of them, and may end them."""

    def __init__(self, processes: Processes, folders: list[str]) -> None:
        self.tasks: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        """Folders to train together; an empty list ends the process."""
        self.tasks.put(folders)
        self.stopping = False
        self.unwanted: set[str] = set()
        """Folders whose runs are to end with a checkpoint."""
        self._processes = processes
        # Whatever else prints, such as a file of the user's own, does so into worker.log.
        self._answers, sys.stdout = sys.stdout, sys.stderr
        self._last_beat = time.monotonic()

    def listen(self) -> None:
        """Take what standard input says, until it ends."""
        for line in sys.stdin:
            message = json.loads(line)
            if "stop" in message:
                self.unwanted.add(message["stop"])
            else:
                self.tasks.put(message["folders"])
        self.ask_to_stop()

    def ask_to_stop(self, *_: Any) -> None:
        """End all runs; also the handler of signals."""
        self.stopping = True
        self.tasks.put([])

    def say(self, folder: Path, **news: Any) -> None:
        if not self._processes.first:
            return
        try:
            self._answers.write(json.dumps({"folder": str(folder), **news}) + "\n")
            self._answers.flush()
        except BrokenPipeError:
            self.ask_to_stop()

    def report(self, folder: Path, point: CurvePoint) -> None:
        self.say(folder, point=asdict(point))

    def warn(self, folder: Path, text: str) -> None:
        if not self._processes.first:
            return
        with suppress(OSError):  # a full disk
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - into worker.log
        self.say(folder, warning=text)

    def wants_to_stop(self, folder: Path) -> bool:
        if time.monotonic() - self._last_beat > SECONDS_BETWEEN_BEATS:
            self._last_beat = time.monotonic()
            self.say(folder, step=True)
        return self.stopping or str(folder) in self.unwanted


def _write_errors_to(path: Path) -> None:
    """Send standard error, also of what this process calls in C, to the end of `path`."""
    with suppress(OSError):  # a full disk
        sys.stderr.flush()
        with path.open("a", encoding="utf-8") as log:
            os.dup2(log.fileno(), sys.stderr.fileno())


if __name__ == "__main__":
    arguments = sys.argv[1:]
    code = main([word for word in arguments if word != "--more"], "--more" in arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written; to take torch apart would keep who waits for this process half a second.
    os._exit(code)

"""Work on texts in a process of its own, for only one thread of a process can run Python at a time.

concurrent.futures.ProcessPoolExecutor would not do: its children import whatever the folder that
they happen to run in has (machine/child.py), run a script's main module again, and outlive a parent
that is killed, for each holds both ends of the queue that it waits at."""

import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Self

from llmscale.errors import InputError, WorkError
from llmscale.machine.child import child_environment, python


class WorkProcess:
    """`python -m MODULE ARGUMENTS`, which calls `serve`, until the end of the `with` or of its
    parent. `does` says what, in an error."""

    def __init__(self, does: str, module: str, *arguments: str) -> None:
        self._does = does
        environment = child_environment(TOKENIZERS_PARALLELISM="false")  # one process a core
        self._process = subprocess.Popen(
            python("-m", module, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def ask(self, question: Any) -> Any:
        """What the process makes of `question`. Raises InputError as it does, and WorkError."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            pickle.dump(question, stdin, pickle.HIGHEST_PROTOCOL)
            stdin.flush()
            answer, problem = pickle.load(stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise WorkError(
                f"a process that {self._does} ended with exit code {self._process.wait()}",
                "the same command goes on; if memory is short, with fewer of them: --workers 1",
            ) from None
        if problem is not None:
            raise InputError(*problem)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class WorkProcesses:
    """Several alike, each asked by one thread at a time."""

    def __init__(self, count: int, start: Callable[[], WorkProcess]) -> None:
        self._idle: queue.SimpleQueue[WorkProcess] = queue.SimpleQueue()
        with ExitStack() as stack:
            for _ in range(count):
                self._idle.put(stack.enter_context(start()))
            self._pool = stack.enter_context(ThreadPoolExecutor(count))
            self._taken = stack.pop_all()

    def submit(self, question: Any) -> Future[Any]:
        """Have one of them asked."""
        return self._pool.submit(self._ask, question)

    def _ask(self, question: Any) -> Any:
        process = self._idle.get()
        try:
            return process.ask(question)
        finally:
            self._idle.put(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._taken.close()


def serve(work: Callable[[Any], Any]) -> None:
    """Answer what the parent asks, until it asks no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    asks, hears = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # of what prints, nothing gets between answers
    while True:
        try:
            question = pickle.load(asks)
        except (EOFError, pickle.UnpicklingError):  # the parent is gone
            return
        answer: tuple[Any, tuple[str, str | None] | None]
        try:
            answer = work(question), None
        except InputError as error:
            answer = None, (error.problem, error.fix)
        pickle.dump(answer, hears, pickle.HIGHEST_PROTOCOL)
        hears.flush()

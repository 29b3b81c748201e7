"""Cleaning on several cores: documents are examined in processes, a batch each, and compared with
those before them here, in their order. So what is kept does not depend on how many there are."""

import json
import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict
from typing import Final, TypeVar

from llmscale.measure.text.cleaner import Cleaned, Cleaner, Examined, Examiner
from llmscale.measure.text.spec import Cleaning
from llmscale.measure.text.work_process import WorkProcess, WorkProcesses, serve
from llmscale.menu import is_own

_ALONE_CHARACTERS: Final = 8_000_000
"""Text that is cleaned within this process: starting others takes about a second's work."""
End = TypeVar("End")


def clean_in_order(
    parts: Iterator[tuple[list[str], End]], cleaner: Cleaner, workers: int
) -> Generator[tuple[Cleaned, End], None, None]:
    """What is kept of each part, documents that follow those before, with what stands behind them.

    Steps of the user's own are taken in this process: they may keep something from document to
    document. And so is all of a small text, and what costs little, as it does without steps."""
    is_shared = workers > 1 and _can_be_shared(cleaner.cleaning)
    pending: deque[tuple[Future[Examined], End]] = deque()
    characters = 0
    with ExitStack() as started:
        processes = None
        for texts, end in parts:
            if is_shared and processes is None and characters > _ALONE_CHARACTERS:
                processes = started.enter_context(cleaning_processes(cleaner.cleaning, workers))
            if processes is None:
                characters += sum(map(len, texts))
                yield cleaner.clean(texts), end
                continue
            pending.append((processes.submit(texts), end))
            if len(pending) > workers + 1:
                examined, done = pending.popleft()
                yield cleaner.keep(examined.result()), done
        for examined, done in pending:
            yield cleaner.keep(examined.result()), done


def cleaning_processes(cleaning: Cleaning, count: int) -> WorkProcesses:
    """Processes that examine lists of texts, for a `with`."""
    asked = json.dumps(asdict(cleaning))
    return WorkProcesses(count, lambda: WorkProcess("cleans text", __name__, asked))


def _can_be_shared(cleaning: Cleaning) -> bool:
    return bool(cleaning.steps) and not any(map(is_own, cleaning.steps))


def main(asked: str) -> None:
    """Examine the lists of texts that come in until no more come."""
    known = json.loads(asked)
    serve(Examiner(Cleaning(**{**known, "steps": tuple(known["steps"])})).examine)


if __name__ == "__main__":
    main(sys.argv[1])

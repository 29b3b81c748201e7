"""What a node of a cluster does for the machine that leads a sweep: it keeps a worker process, and
says what that says.

If the node sees the results folder, runs are trained there. Else it fetches a run's folder, the
branch point it starts from and the tokens from the URL of the results, trains in a mirror of its
own, and sends what changes."""

import hashlib
import json
import posixpath
import shutil
import signal
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, WorkError, WriteError
from llmscale.machine.cache import cache_folder
from llmscale.measure.executors import Place
from llmscale.measure.executors._worker_process import (
    EXIT_INTERRUPTED,
    Process,
    close,
    start_worker,
    tell,
)
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.run_spec import read_spec
from llmscale.runs.remote import Remote, is_needed, is_results
from llmscale.runs.remote.uploads import LAST_TRIES_SECONDS, Uploads, try_often
from llmscale.runs.run_folder import RunFolder

STORE_FILES = ("train.bin", "validation.bin", "tokenizer.json", "meta.json")
"""The last one says that the others are there."""


class Node:
    """Trains runs here, one task after another; another thread may `stop` and `stop_all`."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._process: Process | None = None
        self._folders: tuple[str, ...] = ()

    def sees(self, marker: str) -> bool:
        """Whether this machine sees a file of the machine that leads."""
        return Path(marker).exists()

    def train(self, folders: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Train the runs of `folders`: what the worker says, and an `exit_code` for each."""
        self._folders = tuple(folders)
        self._begin(folders)
        process, left, failed = self._process, list(folders), False
        assert process is not None
        assert process.stdout is not None
        for line in process.stdout:
            if not line.startswith("{"):
                continue
            said = json.loads(line)
            if "cannot_write" in said:
                self._process = None
                self._end(process)
                raise WriteError(*said["cannot_write"])
            if "step" in said:
                continue
            yield said
            if "exit_code" in said:
                left.remove(said["folder"])
                failed = failed or said["exit_code"] != 0
            if not left:
                break
        if left or failed:
            # After a failure the worker ends: its process may hold what the run has left of the
            # device. A process that ends well has left nothing: this one was told to end before it
            # began.
            code, self._process = self._end(process) or EXIT_INTERRUPTED, None
            yield from ({"folder": folder, "exit_code": code} for folder in left)

    def train_at(self, url: str, run_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The same for runs of results that this machine reaches only at their `url`."""
        place = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
        folder = cache_folder() / "nodes" / place / run_ids[0]
        shutil.rmtree(folder, ignore_errors=True)
        remote = Remote(url, folder)
        homes = tuple(f"runs/{run_id}/" for run_id in run_ids)

        def fetched(name: str) -> bool:
            return is_needed(name) and name.startswith(homes)

        def sent(name: str) -> bool:
            return is_results(name) and name.startswith(homes) and not name.endswith("/spec.json")

        try_often(partial(remote.pull, fetched), LAST_TRIES_SECONDS)
        for home in homes:
            try_often(partial(_make_at_home, remote, home), LAST_TRIES_SECONDS)

        ended = []
        with Uploads(remote, None, lambda text: None, sent):
            for said in self.train([str(folder / home) for home in homes]):
                said = {**said, "folder": Path(said["folder"]).name}
                if "exit_code" in said:
                    ended.append(said)
                else:
                    yield said
        shutil.rmtree(folder, ignore_errors=True)
        yield from ended

    def stop(self, folder: str) -> None:
        """End only the run of `folder`, with a checkpoint."""
        here = [own for own in self._folders if Path(own).name == Path(folder).name]
        if self._process is not None and here:
            with suppress(BrokenPipeError):
                tell(self._process, stop=here[0])

    def stop_all(self) -> None:
        """Let the runs save their checkpoints and end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def _begin(self, folders: Sequence[str]) -> None:
        if self._process is not None:
            try:
                tell(self._process, folders=list(folders))
                return
            except BrokenPipeError:
                self._process = None
        self._process = start_worker(folders, Place(self._threads))

    @staticmethod
    def _end(process: Process) -> int:
        close(process)
        return process.wait()


def send_store(remote: Remote, store: Path) -> None:
    """Put the token store at the URL, once, for nodes that do not have it."""
    name = f"tokens/{store.name}"
    mine = json.loads((store / "meta.json").read_text(encoding="utf-8"))
    there = remote.files.read_json(f"{name}/meta.json")
    if there is None or any(there.get(key) != mine.get(key) for key in ("train", "checksums")):
        for file in STORE_FILES:
            remote.files.put(store / file, f"{name}/{file}")


def _make_at_home(remote: Remote, home: str) -> None:
    """Fetch what a run needs besides its folder, and say where it is in its specification."""
    run = RunFolder(remote.folder / home)
    spec = read_spec(run)
    if spec.start:
        start = posixpath.normpath(home + spec.start)
        remote.pull(lambda name: is_needed(name) and name == start)
    store = _store(remote, Path(spec.store), spec.job.text_tokens)
    replace(spec, store=str(store)).write(run)


def _store(remote: Remote, asked: Path, tokens: int) -> Path:
    """A folder with the tokens: the leader's, one of this machine's cache, or fetched into it."""
    fetched = cache_folder() / "nodes" / "tokens" / asked.name
    for path in (asked, cache_folder() / "tokens" / asked.name, fetched):
        meta = path / "meta.json"
        if meta.exists() and _holds(path, tokens, meta.stat().st_mtime_ns):
            return path
    beside = fetched.with_name(f".{asked.name}.{uuid.uuid4().hex}")
    beside.mkdir(parents=True)
    try:
        for file in STORE_FILES:
            remote.files.get(f"tokens/{asked.name}/{file}", beside / file)
        TokenStore.open(beside).check()
        shutil.rmtree(fetched, ignore_errors=True)
        with suppress(OSError):  # another run of this node was first
            beside.rename(fetched)
    except FileNotFoundError as error:
        problem = f"the tokens {asked.name} are neither here nor at {remote.url}"
        raise WorkError(problem, "send them") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return fetched


@cache
def _holds(path: Path, tokens: int, written: int) -> bool:
    """Whether a store here, of the time `written`, is whole and has the tokens: read once."""
    with suppress(InputError):  # one that is damaged is fetched again
        store = TokenStore.open(path)
        if store.train_tokens >= tokens:
            store.check()
            return True
    return False

"""Saving checkpoints during training: copied without waiting, written by a thread."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscale.errors import WriteError
from llmscale.measure.train.checkpoint import Checkpoint, save_checkpoint
from llmscale.measure.train.curves import Member
from llmscale.measure.train.processes import ALONE, Processes
from llmscale.measure.train.resumable import branch_point_of
from llmscale.measure.train.sharded_checkpoint import gathered, save_sharded
from llmscale.runs.log import sync_progress
from llmscale.runs.run_folder import CHECKPOINT

INTERVAL_FACTOR = 50.0
"""Between two saves of a run under way pass at least this many times the seconds that one takes:
then saves take 2% of its time at most, even if they were waited for."""


class Saver:
    """Writes checkpoints one after another. Used as a context, it ends when the last one is
    written.

    On the device nothing is copied: tensors go into memory of the host, pinned if they come from a
    GPU. The copies are in the device's queue before whatever changes the tensors next, and only the
    thread that writes waits for them."""

    def __init__(self, seconds: float, processes: Processes = ALONE) -> None:
        self._seconds, self._processes = seconds, processes
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[float] | None = None
        self._took = 0.0
        self._last = time.perf_counter()

    @property
    def due(self) -> bool:
        """Whether it is time to save a run under way."""
        return time.perf_counter() - self._last > max(self._seconds, INTERVAL_FACTOR * self._took)

    def save(self, checkpoints: Sequence[tuple[Path, Checkpoint]]) -> None:
        """Have each checkpoint written to its path. Raises WriteError if the last could not be."""
        self.wait()
        self._last = time.perf_counter()
        copies = [(path, _on_host(checkpoint)) for path, checkpoint in checkpoints]
        arrived = None
        if torch.cuda.is_initialized():
            arrived = torch.cuda.Event()
            arrived.record()
        self._writing = self._pool.submit(_write, copies, arrived, self._last)

    def save_runs(self, members: Sequence[Member], states: Sequence[Checkpoint]) -> None:
        """Have the state of each run saved in its folder; several processes do so together."""
        if self._processes.size == 1:
            pairs = zip(members, states, strict=True)
            self.save([(member.folder / CHECKPOINT, state) for member, state in pairs])
            return
        started = time.perf_counter()
        save_sharded(members[0].folder, states[0], self._processes)
        self.saved(time.perf_counter() - started)

    def save_branch_points(self, members: Sequence[Member], states: Sequence[Checkpoint]) -> None:
        """Have the first process write the states of those that save a branch point here."""
        points = []
        for member, state in zip(members, states, strict=True):
            if state.step in member.branch_points:
                whole = gathered(branch_point_of(state, member.job))
                points.append((member.branch_points[state.step], whole))
        if self._processes.first:
            self.save(points)

    def check(self) -> None:
        """Raises WriteError if the last checkpoints could not be written; does not wait."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when the last checkpoints are written. Raises WriteError if they could not be."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._took = writing.result()

    def saved(self, seconds: float) -> None:
        """Note that somebody else has saved the run, and how many seconds it took."""
        self._last, self._took = time.perf_counter(), seconds

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.wait()
        except WriteError:
            if error is None:  # else what ends the run is what matters
                raise
        finally:
            self._pool.shutdown()


def _write(
    copies: Sequence[tuple[Path, Checkpoint]], arrived: "torch.cuda.Event | None", started: float
) -> float:
    """Write what has arrived on the host; seconds since `started`."""
    if arrived is not None:
        arrived.synchronize()
    for path, checkpoint in copies:
        sync_progress(path.parent)
        save_checkpoint(path, replace(checkpoint, loss_sum=float(checkpoint.loss_sum)))
    return time.perf_counter() - started


def _on_host(value: Any) -> Any:
    """A copy in memory of the host. Tensors that come from a GPU may still be on their way."""
    if isinstance(value, Checkpoint):
        return replace(value, **{name: _on_host(part) for name, part in value.to_dict().items()})
    if isinstance(value, Tensor):
        return _empty_on_host(value).copy_(value.detach(), non_blocking=True)
    if isinstance(value, dict):
        return {key: _on_host(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_on_host(part) for part in value]
    return value


def _empty_on_host(like: Tensor) -> Tensor:
    if like.is_cuda:
        with suppress(RuntimeError):  # no more memory to pin: then the copy is waited for
            return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
    return torch.empty(like.shape, dtype=like.dtype)

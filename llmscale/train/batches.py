"""Which tokens a run reads, in which order: a pure function of the seed, so that a resumed run goes on unchanged."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


class Batches:
    """Windows of `context` + 1 tokens from a token store, in a random order without replacement, epoch by epoch.

    Runs with equal seeds read the same windows in the same order, whatever their size and batch. The order of an epoch
    takes 4 bytes a window (400 MB for 100B tokens at context 1024), twice that where one epoch goes over into the next.
    With `part`, the order is random within successive parts of that many windows: then a longer text begins alike.
    """

    def __init__(
        self, tokens: np.ndarray, context: int, seed: int, device: str = "cpu", part: int | None = None
    ) -> None:
        self.tokens, self.context, self.seed, self.device = tokens, context, seed, device
        self.windows = (len(tokens) - 1) // context
        self.part = part or self.windows
        self._epoch_order = lru_cache(maxsize=2)(self._shuffle)

    def read(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, context), int64, of the `count` sequences from sequence `first` of the run on."""
        places: list[np.ndarray] = []
        end = first + count
        while first < end:
            epoch, place = divmod(first, self.windows)
            places.append(self._epoch_order(epoch)[place : place + end - first])
            first += len(places[-1])
        starts = np.concatenate(places or [np.zeros(0)]).astype(np.int64) * self.context
        return read_windows(self.tokens, starts, self.context, self.device)

    def _shuffle(self, epoch: int) -> np.ndarray:
        # Generator.permutation(n) shuffles arange(n) of int64; the order does not depend on the type.
        order = np.arange(self.windows, dtype=np.uint32 if self.windows <= 1 << 32 else np.int64)
        generator = np.random.default_rng([self.seed, epoch])
        for start in range(0, self.windows, self.part):
            generator.shuffle(order[start : start + self.part])
        return order


def read_windows(
    tokens: np.ndarray, starts: np.ndarray | list[int], context: int, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Inputs tokens[s : s + context] and targets one further, for each start s; (len(starts), context), int64.

    Both are views of one tensor on `device`. The copy to a GPU starts from pinned memory and is not waited for.
    """
    on_gpu = torch.device(device).type == "cuda"
    windows = torch.empty(len(starts), context + 1, dtype=torch.int64, pin_memory=on_gpu)
    windows.numpy()[:] = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[starts]
    windows = windows.to(device, non_blocking=True)
    return windows[:, :-1], windows[:, 1:]

"""Which tokens a run reads, in which order: a pure function of the seed, so that a resumed run goes on unchanged."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


class Batches:
    """Windows of `context` + 1 tokens from a token store, in a random order without replacement, epoch by epoch.

    Runs with equal seeds read the same windows in the same order, whatever their size and batch.
    """

    def __init__(self, tokens: np.ndarray, context: int, seed: int) -> None:
        self.tokens, self.context, self.seed = tokens, context, seed
        self.windows = (len(tokens) - 1) // context
        self._epoch_order = lru_cache(maxsize=2)(self._shuffle)

    def read(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, context), int64, of the `count` sequences from sequence `first` of the run on."""
        epochs, places = np.divmod(np.arange(first, first + count), self.windows)
        starts = [int(self._epoch_order(int(e))[p]) * self.context for e, p in zip(epochs, places, strict=True)]
        return read_windows(self.tokens, starts, self.context)

    def _shuffle(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.windows)


def read_windows(tokens: np.ndarray, starts: list[int], context: int) -> tuple[Tensor, Tensor]:
    """Inputs tokens[s : s + context] and targets one further, for each start s; (len(starts), context), int64."""
    windows = np.stack([tokens[start : start + context + 1] for start in starts]).astype(np.int64)
    both = torch.from_numpy(windows)
    return both[:, :-1], both[:, 1:]

"""Which tokens a run reads, in which order: a pure function of the seed, so that it can resume."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llmscale.measure.ops import beyond_vocabulary
from llmscale.measure.train.backend import gpu_share

if TYPE_CHECKING:
    from llmscale.measure.train.examples import Examples

RESIDENT_SHARE = 0.05
"""Share of a GPU's free memory that a text may take to lie there, at no cost to the host."""


class Windows:
    """Successive windows of `context` + 1 tokens of a text, by number; the last token of each
    begins the next.

    On a GPU the text lies in its memory if that is `resident`, by default if it takes at most
    RESIDENT_SHARE of what is free. Otherwise the host cuts the windows and sends them from pinned
    memory, without waiting for their arrival. A token number that is not below `vocab_size`, of
    those that are read, is a WorkError: kernels do not look."""

    def __init__(
        self,
        tokens: np.ndarray,
        context: int,
        device: str = "cpu",
        resident: bool | None = None,
        vocab_size: int | None = None,
    ) -> None:
        self.context, self.device = context, device
        self._on_gpu = torch.device(device).type == "cuda"
        self._tokens = tokens
        self._count = max(0, (len(tokens) - 1) // context)
        self._vocab_size = vocab_size
        if resident is None and self._on_gpu:
            free_bytes = gpu_share() * torch.cuda.mem_get_info()[0]
            resident = tokens.nbytes <= RESIDENT_SHARE * free_bytes
        self.resident = bool(resident) and self._count > 0
        if self.resident:
            # torch has no unsigned types of two and four bytes to index by: the same bits, made
            # positive when read.
            self._check(tokens)
            signed = np.array(tokens).view(f"i{tokens.itemsize}")
            self._mask = (1 << 8 * tokens.itemsize) - 1
            try:
                self._there = torch.from_numpy(signed).to(device).unfold(0, context + 1, context)
            except torch.OutOfMemoryError:
                self.resident = False

    def __len__(self) -> int:
        return self._count

    def order(self, numbers: np.ndarray) -> Any:
        """`numbers` of windows, as `read` takes parts of them fastest."""
        if not self.resident:
            return numbers
        narrow = self._count < 1 << 31
        return torch.from_numpy(numbers.astype(np.int32 if narrow else np.int64)).to(self.device)

    def read(self, *numbers: Any) -> tuple[Tensor, Tensor]:
        """Inputs and targets one token further, (windows, context), int64, by parts of `order`."""
        cut = self._cut_there if self.resident else self._cut_here
        windows = cut(numbers)
        # Of equal layout whatever the number of windows: compiled code is of one layout.
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def _cut_there(self, numbers: tuple[Tensor, ...]) -> Tensor:
        chosen = numbers[0]
        if len(numbers) > 1:  # over the end of an epoch
            chosen = torch.cat(numbers)
        return self._there.index_select(0, chosen).to(torch.int64) & self._mask

    def _cut_here(self, numbers: tuple[np.ndarray, ...]) -> Tensor:
        starts = np.concatenate([np.zeros(0, np.int64), *numbers]).astype(np.int64) * self.context
        windows = torch.empty(
            len(starts), self.context + 1, dtype=torch.int64, pin_memory=self._on_gpu
        )
        if len(starts):
            cut = np.lib.stride_tricks.sliding_window_view(self._tokens, self.context + 1)[starts]
            self._check(cut)
            windows.numpy()[:] = cut
        return windows.to(self.device, non_blocking=True)

    def _check(self, tokens: np.ndarray) -> None:
        """Raise WorkError if a token number is none. To look takes 4 us for 64k of them."""
        if self._vocab_size is None:
            return
        lowest, wrong = 0, int(tokens.max(initial=0))
        if tokens.dtype.kind == "i":  # others cannot be negative, and need no second look
            lowest = int(tokens.min(initial=0))
        if lowest >= 0 and wrong < self._vocab_size:
            return
        if lowest < 0:
            wrong = lowest
        file = getattr(self._tokens, "filename", None)  # of a numpy.memmap
        raise beyond_vocabulary(wrong, self._vocab_size, file and Path(file))


class Batches:
    """Windows of `context` + 1 tokens from a token store, in a random order without replacement,
    epoch by epoch.

    Several of them may read the same `Windows`, in their own orders. Runs with equal seeds read the
    same windows in the same order, whatever their size and batch. The order of an epoch takes 4
    bytes a window (400 MB for 100B tokens at context 1024), twice that if one epoch goes over into
    the next. With `part`, the order is random within successive parts of that many windows: then a
    longer text begins alike."""

    def __init__(
        self,
        tokens: "np.ndarray | Windows | Examples",
        context: int,
        seed: int,
        device: str = "cpu",
        part: int | None = None,
        resident: bool | None = None,
    ) -> None:
        self.seed = seed
        if isinstance(tokens, np.ndarray):
            tokens = Windows(tokens, context, device, resident)
        self._text = tokens
        self.windows = len(self._text)
        self.part = part or self.windows
        self._epoch_order = lru_cache(maxsize=2)(self._shuffle)

    def read(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, context), int64, of `count` sequences from `first` on."""
        places = []
        end = first + count
        while first < end:
            epoch, place = divmod(first, self.windows)
            places.append(self._epoch_order(epoch)[place : place + end - first])
            first += len(places[-1])
        return self._text.read(*(places or [self._epoch_order(0)[:0]]))

    def _shuffle(self, epoch: int) -> Any:
        # Generator.permutation(n) shuffles arange(n) of int64; the order does not depend on the
        # type.
        order = np.arange(self.windows, dtype=np.uint32 if self.windows <= 1 << 32 else np.int64)
        generator = np.random.default_rng([self.seed, epoch])
        for start in range(0, self.windows, self.part):
            generator.shuffle(order[start : start + self.part])
        return self._text.order(order)


def read_side_by_side(texts: Sequence[Batches], first: int, count: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of `count` sequences from `first` on: (B, T) of one, else (B, S, T)."""
    if len(texts) == 1:
        return texts[0].read(first, count)
    inputs, targets = zip(*(text.read(first, count) for text in texts), strict=True)
    return torch.stack(inputs, dim=1), torch.stack(targets, dim=1)

"""Examples of a task as a run reads them: one a row, of which the loss counts some tokens only.

A row holds t for a token that counts and ~t for one that does not, so that one number says both."""

import numpy as np
import torch
from torch import Tensor

from llmscale.measure.ops import beyond_vocabulary
from llmscale.measure.train.batches import Windows


class Examples:
    """Rows of `length` + 1 numbers by their place, read as Windows are; the targets keep the sign
    that says which of them count (`counted`)."""

    def __init__(
        self, rows: np.ndarray, device: str = "cpu", vocab_size: int | None = None
    ) -> None:
        self.device, self._rows, self._vocab_size = device, rows, vocab_size
        self._on_gpu = torch.device(device).type == "cuda"

    def __len__(self) -> int:
        return len(self._rows)

    def order(self, numbers: np.ndarray) -> np.ndarray:
        """As Windows.order."""
        return numbers

    def read(self, *numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        """Inputs and targets one token further, (rows, length), int64."""
        chosen = np.concatenate([np.zeros(0, np.int64), *numbers]).astype(np.int64)
        rows = np.asarray(self._rows[chosen], dtype=np.int64)
        tokens = np.where(rows < 0, ~rows, rows)
        self._check(tokens)
        return self._sent(tokens[:, :-1]), self._sent(rows[:, 1:])

    def counts(self) -> Tensor:
        """Tokens that count, of each row, float64."""
        return torch.from_numpy((self._rows[:, 1:] >= 0).sum(axis=1).astype(np.float64))

    def _sent(self, numbers: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(numbers))
        if self._on_gpu:
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _check(self, tokens: np.ndarray) -> None:
        largest = int(tokens.max(initial=0))
        if self._vocab_size is not None and largest >= self._vocab_size:
            raise beyond_vocabulary(largest, self._vocab_size)


def open_text(tokens: np.ndarray, context: int, device: str, vocab_size: int) -> Windows | Examples:
    """A text as its windows of `context` tokens, or a task's rows as examples."""
    if tokens.ndim == 2:
        return Examples(tokens, device, vocab_size)
    return Windows(tokens, context, device, vocab_size=vocab_size)


def counted(targets: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens of `targets` as Examples gives them, and 1 for those that count, 0 for others."""
    counts = targets >= 0
    return torch.where(counts, targets, ~targets), counts.float()

"""Numbers of a device, read without waiting for what it was asked to do since."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Reading:
    """What tensors hold at this point of a device's queue. `values` waits for that point and for nothing after it."""

    def __init__(self, *tensors: Tensor) -> None:
        self._sizes = [tensor.numel() for tensor in tensors]
        numbers = torch.cat([tensor.detach().reshape(-1).to(torch.float64) for tensor in tensors])
        self._arrived: torch.cuda.Event | None = None
        if numbers.is_cuda:
            here = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            numbers = here.copy_(numbers, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        self._numbers = numbers

    def values(self) -> Sequence[list[float]]:
        """The numbers of each tensor, flattened."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return [part.tolist() for part in self._numbers.split(self._sizes)]

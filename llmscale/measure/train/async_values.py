"""What a device will know at a point of its queue, read without waiting for anything after it."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor


class Mark:
    """A point of a device's queue; on a CPU, which has none, the time at which it was made."""

    def __init__(self, device: str) -> None:
        self._time = time.perf_counter()
        self._event: torch.cuda.Event | None = None
        if device == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record()

    def wait(self) -> None:
        """Return when the device has come to this point."""
        if self._event is not None:
            self._event.synchronize()

    def seconds_since(self, earlier: "Mark") -> float:
        """Seconds of the device from an earlier point to this one, for which it waits."""
        if self._event is None or earlier._event is None:
            return self._time - earlier._time
        self.wait()
        return float(earlier._event.elapsed_time(self._event)) / 1e3


class Reading:
    """What tensors hold at this point of a device's queue; `values` waits for that point only."""

    def __init__(self, *tensors: Tensor) -> None:
        self._sizes = [tensor.numel() for tensor in tensors]
        numbers = torch.cat([tensor.detach().reshape(-1).to(torch.float64) for tensor in tensors])
        if numbers.is_cuda:
            here = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers = here.copy_(numbers, non_blocking=True)
        else:
            self._numbers = numbers
        self.mark = Mark(numbers.device.type)

    def values(self) -> Sequence[list[float]]:
        """The numbers of each tensor, flattened."""
        self.mark.wait()
        return [part.tolist() for part in self._numbers.split(self._sizes)]

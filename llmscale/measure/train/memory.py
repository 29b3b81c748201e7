"""How much memory training has taken."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from llmscale.errors import WorkError
from llmscale.quantity import format_bytes
from llmscale.runs.shape import Shape


def keep_freed_memory() -> None:
    """Let the C library (glibc only) keep what is freed: the next step takes as much again."""
    trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(top_pad, 64 << 20)
        library.mallopt(mmap_threshold, 32 << 20)
        library.mallopt(arena_max, 1)


@contextmanager
def holding(shape: Shape) -> Iterator[None]:
    """Around what makes a model and its optimiser's state. Raises WorkError if memory is short."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        needed = format_bytes(16 * shape.params_total)
        raise WorkError(
            f"weights, gradients and the optimiser's state of {shape.name}, {needed}, do not fit "
            f"the memory: {str(error).splitlines()[0]}",
            "train a smaller size, or on a device with more memory",
        ) from None


def forget_peak_memory(device: str) -> None:
    """Free what nobody holds any more, and start the peak anew."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    # Linux with glibc only can give back what it keeps, and forget; elsewhere the most so far
    # counts.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory(device: str) -> int:
    """The most bytes held since then: on the GPU by tensors, on the CPU by the process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

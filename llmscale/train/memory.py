"""How much memory training has taken."""

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

import torch


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next step, which takes as much again; Linux with glibc alone can."""
    trim_threshold, top_pad, mmap_threshold, arena_max = -1, -2, -3, -8
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(top_pad, 64 << 20)
        library.mallopt(mmap_threshold, 32 << 20)
        library.mallopt(arena_max, 1)


def forget_peak_memory(device: str) -> None:
    """Free what nobody holds any more, and start the peak anew."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    # Linux with glibc alone can give back what it keeps, and forget; elsewhere the most so far counts.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory(device: str) -> int:
    """The most bytes held since then: on the GPU by tensors, on the CPU by the process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

"""What torch computes with in a process that trains: precision, determinism, compiled code."""

import os
import sys
from typing import Any

import torch

from llmscale.machine import GPU_SHARE_VARIABLE
from llmscale.machine.cache import cache_folder

BESIDE_CONTEXTS = 0.9
"""Share of a GPU's memory for tensors of processes that share it; the rest is for contexts."""
_compiled_for: Any = None
"""The kind of run that this process compiled code for last."""


def set_up_device(device: str) -> None:
    """Take hold of a GPU, and of no more of its memory than the executor has planned."""
    if device != "cuda":
        return
    torch.cuda.init()
    if gpu_share() < 1:
        torch.cuda.set_per_process_memory_fraction(BESIDE_CONTEXTS * gpu_share())


def gpu_share() -> float:
    """The share of a GPU's memory that this process may take; others share the rest."""
    return float(os.environ.get(GPU_SHARE_VARIABLE, 1))


def set_precision() -> None:
    """float32 products are of float32: not of TF32, whose 10 bits a GPU would take in its place."""
    torch.set_float32_matmul_precision("highest")


def set_determinism(wanted: bool) -> None:
    """Take only kernels that give the same bits every time, if `wanted`; else the fastest."""
    if wanted:
        # Or cuBLAS may choose its kernels anew.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The call loads the compiler, which takes seconds.
    if wanted != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(wanted)
    # Nothing here reads memory that it has not written: filling it first would only take time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if wanted or "torch._inductor.config" in sys.modules:
        from torch._inductor import config

        # Else the compiler chooses among reductions by how long they take, which a resumed run may
        # find otherwise.
        if hasattr(config, "deterministic"):
            config.deterministic = wanted


def keep_compiled_code() -> None:
    """Have torch keep what it compiles in the cache folder, for the next process of any sweep."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))


def compile_for(kind: Any) -> None:
    """Forget code compiled for another kind of run: torch stops compiling, without a word, after
    eight of them.

    `kind` is all that the shapes of a run's tensors follow from. Runs of one kind share their code.
    """
    global _compiled_for
    if kind != _compiled_for:
        torch.compiler.reset()
        _compiled_for = kind

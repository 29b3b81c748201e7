"""What this machine offers to training: device, dtype, cores, memory. Limits of containers
count."""

import importlib.util
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from llmscale.errors import InputError, WorkError
from llmscale.machine.child import child_environment, python

MIN_BFLOAT16_CAPABILITY = (8, 0)
"""The first CUDA compute capability (Ampere) whose tensor cores multiply bfloat16."""


DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16")


ASSUMED_GPU_MEMORY = 40 << 30
"""Bytes of a GPU that is elsewhere. If it has less, training halves its micro-batch."""


GPU_SHARE_VARIABLE = "LLMSCALE_GPU_MEMORY_SHARE"
"""Tells a worker which share of its GPU's memory it may take, if others train there, too."""


@dataclass(frozen=True)
class GPU:
    """The first GPU that this process may use."""

    name: str
    capability: tuple[int, int]
    free_bytes: int
    total_bytes: int
    shared: bool = True
    """Whether several processes may use it at a time; not in its exclusive mode."""


def find_gpu() -> GPU:
    """The GPU as it is now in a process that uses it already. Others ask a process of their own,
    once.

    Whoever asks CUDA for free memory holds a context from then on: half a gigabyte of it, and a GPU
    in exclusive mode as a whole. Raises WorkError if the GPU does not answer."""
    import torch

    return _ask_gpu() if torch.cuda.is_initialized() else _gpu_by_child()


def _ask_gpu() -> GPU:
    import torch

    free, total = torch.cuda.mem_get_info()
    name, capability = str(torch.cuda.get_device_name()), torch.cuda.get_device_capability()
    return GPU(name, capability, int(free), int(total), _may_be_shared())


def _may_be_shared() -> bool:
    """Whether no GPU of this machine is in a mode that allows one process only; also if nobody says
    so."""
    command = ["nvidia-smi", "--query-gpu=compute_mode", "--format=csv,noheader"]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return "Exclusive" not in asked.stdout


@lru_cache(maxsize=1)
def _gpu_by_child() -> GPU:
    program = "from llmscale.machine import tell_gpu; tell_gpu()"
    command, environment = python("-c", program), child_environment()
    asked = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False
    )
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise WorkError(
            f"the GPU does not answer: {reason}", "see: nvidia-smi; or use --device cpu"
        )
    told = json.loads(asked.stdout.splitlines()[-1])
    return GPU(**{**told, "capability": tuple(told["capability"])})


def tell_gpu() -> None:
    """Write the GPU to standard output as JSON: the answer of a child that was asked."""
    sys.stdout.write(json.dumps(asdict(_ask_gpu())) + "\n")


def pick_device(asked: str = "auto", elsewhere: bool = False) -> str:
    """`cuda` or `cpu`: what was asked for, or with `auto` the fastest that is here. Raises
    InputError. For training `elsewhere`, on the nodes of a cluster, `cuda` is believed."""
    import torch

    if asked not in DEVICES:
        raise InputError(f"unknown device {asked!r}", "use auto, cpu or cuda")
    if asked == "cpu":
        return "cpu"
    if torch.cuda.is_available() or (elsewhere and asked == "cuda"):
        return "cuda"
    if asked == "cuda":
        built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
        reason = built if torch.version.cuda else f"torch {torch.__version__} is built without CUDA"
        raise InputError(
            f"no CUDA device was found ({reason})", "use --device cpu, or see: llmscale doctor"
        )
    return "cpu"


def pick_dtype(asked: str = "auto", device: str = "cpu") -> str:
    """`bfloat16` or `float32`: what was asked for, or with `auto` bfloat16 if the hardware
    multiplies it.

    Whether that is faster is another question on a CPU, which train/dtype.py answers by measuring.
    """
    if asked not in DTYPES:
        raise InputError(f"unknown dtype {asked!r}", "use auto, float32 or bfloat16")
    if asked != "auto":
        return asked
    return "bfloat16" if has_bfloat16(device) else "float32"


def has_bfloat16(device: str) -> bool:
    """Whether `device` multiplies bfloat16 natively. Emulation, which is slower than float32, does
    not count."""
    if device == "cuda":
        import torch

        return not torch.cuda.is_available() or find_gpu().capability >= MIN_BFLOAT16_CAPABILITY
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags())


def cpu_flags() -> frozenset[str]:
    """The instruction sets of the CPU as Linux names them; empty if it does not say."""
    for key, value in _cpuinfo():
        if key in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def device_name(device: str) -> str:
    """The model of the GPU or CPU, as its maker calls it."""
    if device == "cuda":
        import torch

        return find_gpu().name if torch.cuda.is_available() else "GPU of a cluster"
    for key, value in _cpuinfo():
        if key == "model name":
            return value
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """CPU cores that this process may use: its affinity, cut to the quota of its control group, at
    least one."""
    affinity = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quotas = [quota for quota in _cpu_quotas() if quota > 0]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def available_memory(device: str = "cpu") -> int:
    """Bytes that this process can still allocate on `device`, within the limit of its control
    group."""
    if device == "cuda":
        import torch

        return find_gpu().free_bytes if torch.cuda.is_available() else ASSUMED_GPU_MEMORY
    free = [_meminfo("MemAvailable"), *(limit - used for limit, used in _memory_limits())]
    return max(0, min(free))


def total_memory(device: str = "cpu") -> int:
    """Bytes of memory on `device`, or the limit of the control group if that is less."""
    if device == "cuda":
        return find_gpu().total_bytes
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _memory_limits())])


def cxx_compiler() -> str | None:
    """Path of the C++ compiler that torch.compile would call on a CPU, or None."""
    return _first_program(os.environ.get("CXX"), "g++", "clang++", "c++")


def can_compile(device: str) -> bool:
    """Whether what torch.compile needs for `device` is here: a compiler, Python's headers, and
    Triton for a GPU."""
    compiler = c_compiler() if device == "cuda" else cxx_compiler()
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    has_triton = device != "cuda" or importlib.util.find_spec("triton") is not None
    return compiler is not None and headers.exists() and has_triton


def c_compiler() -> str | None:
    """Path of the C compiler for kernels of our own, or None."""
    return _first_program(os.environ.get("CC"), "gcc", "clang", "cc")


def _first_program(*names: str | None) -> str | None:
    """Path of the first of `names` that is a program here, or None."""
    return next((path for name in names if name and (path := shutil.which(name))), None)


def _cpuinfo() -> Iterator[tuple[str, str]]:
    text = _read(Path("/proc/cpuinfo")) or ""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


def _meminfo(field: str) -> int:
    """A field of /proc/meminfo in bytes; elsewhere than on Linux the physical memory."""
    for line in (_read(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_quotas() -> Iterator[float]:
    """Cores granted by each control group around this process (both versions of the interface)."""
    for folder in _control_groups("cpu"):
        quota, _, period = (_read(folder / "cpu.max") or "").strip().partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)
        old_quota, old_period = (
            _integer(folder / "cpu.cfs_quota_us"),
            _integer(folder / "cpu.cfs_period_us"),
        )
        if old_quota and old_period:
            yield old_quota / old_period


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of each control group around this process; its file cache counts as
    free."""
    for folder in _control_groups("memory"):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _integer(folder / limit_file), _integer(folder / used_file)
            if limit is not None and used is not None:
                yield limit, max(0, used - _inactive_file(folder))


def _inactive_file(folder: Path) -> int:
    for line in (_read(folder / "memory.stat") or "").splitlines():
        name, _, count = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and count.isdigit():
            return int(count)
    return 0


def _control_groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups around this process, innermost first."""
    root = Path("/sys/fs/cgroup")
    for line in (_read(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        folder = top / path.lstrip("/")
        while folder != top:
            yield folder
            folder = folder.parent
        yield top


def _integer(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None

"""What this machine can do for llmscale, as a value: device, dtype, compiler, cores, memory, disk,
data, packages."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmscale import machine
from llmscale.errors import InputError, Note, both, counted
from llmscale.machine.cache import cache_folder
from llmscale.machine.gpus import USUAL_MFU
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.text.sources import open_source
from llmscale.notes.measuring import (
    BUSY,
    DEBUG_SWITCH,
    FEW_CORES,
    FEW_THREADS,
    LITTLE_DISK,
    LITTLE_MEMORY,
    NO_BFLOAT16,
    NO_COMPILE,
    NO_CUDA,
    NO_GPU,
    NO_KERNELS,
)
from llmscale.quantity import format_bytes, format_count, format_seconds
from llmscale.runs.shape import (
    TOKENS_PER_PARAM,
    USUAL_CONTEXT,
    USUAL_VOCABULARY,
    shape_for,
)

PACKAGES = (
    "torch",
    "datasets",
    "tokenizers",
    "pandas",
    "pyarrow",
    "matplotlib",
    "scipy",
    "zstandard",
)
DEBUG_SWITCHES = {
    "CUDA_LAUNCH_BLOCKING": "waits for the GPU after every kernel",
    "TORCH_COMPILE_DISABLE": "turns torch.compile off",
    "TORCHDYNAMO_DISABLE": "turns torch.compile off",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "asks the driver for every tensor",
    "PYTHONDEVMODE": "turns Python's run-time checks on",
}


@dataclass(frozen=True)
class Device:
    """The device that training would use."""

    kind: str
    name: str
    memory_bytes: int
    memory_free_bytes: int
    cuda_capability: str | None
    dtype: str
    dtype_reason: str
    flops_per_second: float
    """Measured on square matrix products in `dtype`: an upper bound for training."""


@dataclass(frozen=True)
class Compile:
    """Whether torch.compile works here: `works`, `not tried` or `broken`. `seconds`: the
    compilation tried."""

    status: str
    compiler: str | None
    detail: str
    seconds: float | None


@dataclass(frozen=True)
class Storage:
    """A folder, what it holds, and the room left on its disk."""

    path: Path
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Data:
    """Text or tokens at hand without the network."""

    name: str
    path: Path
    size_bytes: int


@dataclass(frozen=True)
class Report:
    """What `llmscale doctor` says."""

    python: str
    platform: str
    torch: str
    torch_cuda: str | None
    device: Device
    compile: Compile
    no_kernels: str | None
    """Why training on the CPU goes without the fused kernels of ops/native.py, or None if they run.
    """
    cores: int
    threads: int
    load: float
    """Processes that were at work over the last minute, before this one looked."""
    memory_bytes: int
    memory_free_bytes: int
    cache: Storage
    data: tuple[Data, ...]
    packages: dict[str, str | None]
    """Installed version of each package that some part of llmscale uses; None if it is missing."""
    slow: tuple[Note, ...]
    """What will be slow, and what would fix it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(
            self,
            dict_factory=lambda items: {k: str(v) if isinstance(v, Path) else v for k, v in items},
        )


def examine(full: bool = False) -> Report:
    """Look at this machine; takes a few seconds. `full` also tries torch.compile, which can take 20
    more."""
    import torch

    from llmscale.measure.ops.compiled import why_not

    load = os.getloadavg()[0]
    device = _device()
    report = Report(
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        torch=torch.__version__,
        torch_cuda=torch.version.cuda,
        device=device,
        compile=_compile(device.kind, full),
        no_kernels=why_not(),
        cores=machine.available_cores(),
        threads=torch.get_num_threads(),
        load=load,
        memory_bytes=machine.total_memory(),
        memory_free_bytes=machine.available_memory(),
        cache=_storage(cache_folder()),
        data=tuple(_data()),
        packages={name: _version(name) for name in PACKAGES},
        slow=(),
    )
    return replace(report, slow=tuple(_what_will_be_slow(report)))


def _device() -> Device:
    from llmscale.measure.train.calibrate import measure_peak
    from llmscale.measure.train.dtype import choose_dtype

    kind = machine.pick_device()
    chosen = choose_dtype("auto", kind)
    capability = None
    if kind == "cuda":
        import torch

        capability = ".".join(map(str, torch.cuda.get_device_capability()))
    return Device(
        kind=kind,
        name=machine.device_name(kind),
        memory_bytes=machine.total_memory(kind),
        memory_free_bytes=machine.available_memory(kind),
        cuda_capability=capability,
        dtype=chosen.dtype,
        dtype_reason=chosen.reason,
        flops_per_second=measure_peak(kind, chosen.dtype),
    )


def _compile(device: str, full: bool) -> Compile:
    compiler = machine.cxx_compiler()
    if compiler is None:
        return Compile("broken", None, "no C++ compiler was found", None)
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return Compile("broken", compiler, "the package triton is missing", None)
    source = "#include <Python.h>\n#include <vector>\nint main() { return 0; }\n"
    command = [compiler, "-x", "c++", "-fsyntax-only", f"-I{sysconfig.get_path('include')}", "-"]
    check = subprocess.run(
        command,
        input=source,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
        check=False,
    )
    if check.returncode:
        reason = next(
            (line for line in check.stderr.splitlines() if "error" in line), "it reports no reason"
        )
        return Compile(
            "broken",
            compiler,
            f"the compiler cannot build against Python's headers: {reason}",
            None,
        )
    return (
        _try_compile(device, compiler)
        if full
        else Compile(
            "not tried", compiler, "compiler and headers are here; --full tries them", None
        )
    )


def _try_compile(device: str, compiler: str) -> Compile:
    import torch

    start = time.perf_counter()
    try:
        double = torch.compile(lambda x: (2 * x + 1).sum())
        right = double(torch.ones(8, device=device)).item() == 24
    except (
        Exception
    ) as error:  # whatever a compiler and its driver can raise: the answer is that it does not work
        return Compile(
            "broken", compiler, f"{type(error).__name__}: {str(error).splitlines()[0]}", None
        )
    detail = "a small function was compiled" if right else "a small function was compiled wrongly"
    return Compile("works" if right else "broken", compiler, detail, time.perf_counter() - start)


def _storage(folder: Path) -> Storage:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return Storage(folder, _size(folder.rglob("*")), shutil.disk_usage(existing).free)


def _data() -> Iterator[Data]:
    stdlib = open_source("stdlib")
    yield Data("stdlib", Path(sysconfig.get_path("stdlib")), stdlib.estimated_bytes() or 0)
    for path in sorted((cache_folder() / "tokens").glob("*/meta.json")):
        with contextlib.suppress(InputError):  # an unfinished or outdated store is not data at hand
            store = TokenStore.open(path.parent)
            yield Data(
                f"{format_count(store.train_tokens)} tokens of {store.name}",
                store.path,
                _size(store.path.iterdir()),
            )
    hub = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    if hub.is_dir():
        yield Data("hub downloads", hub, _size(hub.rglob("*")))


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file() and not path.is_symlink())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _what_will_be_slow(report: Report) -> Iterator[Note]:
    device = report.device
    if device.kind == "cpu":
        yield NO_GPU.note(f"no GPU: {_times(device)}")
    if report.torch_cuda is None and shutil.which("nvidia-smi"):
        yield NO_CUDA.note(
            "an NVIDIA driver is here, but torch is built without CUDA: install torch from PyPI",
        )
    if not machine.has_bfloat16(device.kind):
        yield NO_BFLOAT16.note(
            f"{device.name} has no native bfloat16: float32 moves twice the bytes"
        )
    if report.no_kernels and report.device.kind == "cpu":
        yield NO_KERNELS.note(
            f"training takes several times as long without its CPU kernels: {report.no_kernels}",
        )
    if report.compile.status == "broken":
        yield NO_COMPILE.note(f"torch.compile does not work: {report.compile.detail}")
    if report.cores < FEW_CORES.limit:
        yield FEW_CORES.note(
            f"{counted(report.cores, 'core')}: preparing text and training on the CPU use all of "
            "them",
        )
    if report.threads < report.cores:
        limit = os.environ.get("OMP_NUM_THREADS", "not set")
        yield FEW_THREADS.note(
            f"torch uses {report.threads} of {counted(report.cores, 'core')}: OMP_NUM_THREADS is "
            f"{limit}",
        )
    if report.load > BUSY.limit * report.cores:
        yield BUSY.note(
            f"other programs are at work: load {report.load:.1f} on {counted(report.cores, 'core')}"
        )
    if report.memory_free_bytes < LITTLE_MEMORY.limit * 2**30:
        yield LITTLE_MEMORY.note(
            f"{format_bytes(report.memory_free_bytes)} of memory free: use smaller batches",
        )
    if report.cache.free_bytes < LITTLE_DISK.limit * 2**30:
        free = format_bytes(report.cache.free_bytes)
        yield LITTLE_DISK.note(
            f"{free} free for prepared text: set LLMSCALE_CACHE to a folder with more room",
        )
    for name, effect in DEBUG_SWITCHES.items():
        if os.environ.get(name, "0") not in ("", "0"):
            yield DEBUG_SWITCH.note(f"{name} is set, which {effect}: unset {name}")


def _times(device: Device) -> str:
    """What training takes about, as `llmscale shapes` estimates it."""
    times = []
    for size in ("1M", "10M", "100M"):
        shape = shape_for(size, vocab_size=USUAL_VOCABULARY, context=USUAL_CONTEXT)
        flops = TOKENS_PER_PARAM * shape.params * shape.flops_per_token
        times.append(f"{format_seconds(flops / (USUAL_MFU * device.flops_per_second))} ({size})")
    speed = f"{USUAL_MFU:.0%} of {device.flops_per_second / 1e9:,.0f} GFLOP/s"
    return f"{TOKENS_PER_PARAM} tokens per parameter at {speed} take about {both(times)}"

"""What the machine is, and how fast at the two things that training is made of: matrix products and
moving memory.
"""

import importlib.metadata
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import llmscale
from gpu import Row
from llmscale.machine import available_cores, device_name, pick_device, pick_dtype, total_memory
from llmscale.measure.train.backend import set_up_device
from llmscale.measure.train.calibrate import measure_peak

PACKAGES = ("numpy", "pandas", "pyarrow", "scipy", "tokenizers", "triton", "datasets")
QUERIED = (
    "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,"
    "power.draw,power.limit,temperature.gpu,memory.total"
)
"""Of nvidia-smi --query-gpu."""
ROUNDS = {"cpu": 1, "cuda": 5}
COPIES = 5
COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}
PRODUCT_SIZE = {"cpu": 512, "cuda": 8192}


def look(device: str) -> Iterator[Row]:
    """Which device is meant, and what the list of steps follows from."""
    picked = pick_device(device)
    set_up_device(picked)
    yield {
        "device": picked,
        "dtype": pick_dtype("auto", picked) if picked == "cuda" else "float32",
        "cores": available_cores(),
        "memory_bytes": total_memory(picked),
    }


def describe(device: str) -> Iterator[Row]:
    """Device, driver, versions, clocks."""
    set_up_device(device)
    yield {
        "device": device_name(device),
        "cores": available_cores(),
        "memory_bytes": total_memory(device),
        "host_memory_bytes": total_memory(),
        "host": device_name("cpu"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if device == "cuda" else None,
        "packages": {name: _version(name) for name in PACKAGES},
        "llmscale": llmscale.__version__,
        "llmscale_file": llmscale.__file__,
        "commit": _output("git", "-C", str(Path(llmscale.__file__).parent), "rev-parse", "HEAD"),
    }
    if device == "cuda":
        yield {
            "queried": QUERIED,
            "answer": _output("nvidia-smi", f"--query-gpu={QUERIED}", "--format=csv,noheader"),
        }
        yield {"nvidia-smi": _output("nvidia-smi").splitlines()}


def measure_peaks(device: str, dtype: str) -> Iterator[Row]:
    """FLOP/s of large matrix products by type, several times, and bytes a second read and written
    by a copy.
    """
    set_up_device(device)
    rounds = range(ROUNDS[device])
    yield {"peak": dtype, "flops": [measure_peak(device, dtype) for _ in rounds]}
    if dtype != "float32":
        yield {"peak": "float32", "flops": [_product_flops(device, "highest") for _ in rounds]}
    if device == "cuda":
        yield {"peak": "float32 by TF32", "flops": [_product_flops(device, "high") for _ in rounds]}
    else:
        yield {"peak": "float32 by TF32", "not_here": "only on CUDA"}
    yield {"peak": "copy", "bytes_per_second": _copy_bandwidth(device)}


def _product_flops(device: str, precision: str) -> float:
    """FLOP/s of square float32 products, in a given precision of theirs; the best of a few."""
    size = PRODUCT_SIZE[device]
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        seconds = []
        for _ in range(3):
            started = _clock(device)
            a @ b
            seconds.append(_clock(device) - started)
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * size**3 / min(seconds)


def _copy_bandwidth(device: str) -> float:
    """Bytes read and written a second, the median of a few copies of one tensor into another."""
    source = torch.ones(COPIED_BYTES[device] // 4, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(COPIES + 1):
        started = _clock(device)
        target.copy_(source)
        seconds.append(_clock(device) - started)
    return 2 * source.nbytes / statistics.median(seconds[1:])


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    """What a program says; nothing where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        sys.stderr.write(done.stderr)
    return done.stdout.strip()

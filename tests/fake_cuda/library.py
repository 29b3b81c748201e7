"""The library that stands in for a CUDA device, compiled once a torch; and the process that runs on
it.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import llmscale
from llmscale.machine import cxx_compiler
from llmscale.machine.cache import cache_folder

SOURCE = Path(__file__).with_name("fake_cuda.cpp")
TORCH = Path(torch.__file__).parent
FLAGS = ("-std=c++20", "-O0", "-fPIC", "-shared")
LIBRARIES = (
    f"-I{TORCH / 'include'}",
    f"-L{TORCH / 'lib'}",
    "-lc10",
    "-ltorch_cpu",
    f"-Wl,-rpath,{TORCH / 'lib'}",
)
MINUTE = 60.0
READY = "ready"
"""What the process says once a first backward pass has run: from then on, what fails is no matter
of torch.
"""


class FakeCudaError(Exception):
    """Why there is no stand-in for a CUDA device here."""


def run(requests: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What child.py reports of each of `requests`, by name.

    Raises FakeCudaError if there is no fake device here, and RuntimeError if the process fails on
    it."""
    folders = [str(Path(__file__).parents[1]), str(Path(llmscale.__file__).parents[1])]
    preloaded = [str(library()), *os.environ.get("LD_PRELOAD", "").split()]
    paths = [*folders, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "fake_cuda.child",
        ],  # -P: not the llmscale of the working folder
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * MINUTE,
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(preloaded),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
    )
    lines = done.stdout.splitlines()
    died = f"died of {signal.Signals(-done.returncode).name}" if done.returncode < 0 else "failed"
    if READY not in lines:
        reason = f"a first backward pass {died}: {_end(done.stderr)}"
        raise FakeCudaError(
            f"its use of torch's internals does not fit torch {torch.__version__}: {reason}"
        )
    if done.returncode:
        raise RuntimeError(f"the process on a fake device {died}: {done.stderr[-2000:]}")
    return dict(json.loads(line) for line in lines[lines.index(READY) + 1 :])


def library() -> Path:
    """The library to preload, compiled if it is not in the cache yet. Raises FakeCudaError."""
    if not sys.platform.startswith("linux"):
        raise FakeCudaError(
            f"a library is preloaded by Linux's LD_PRELOAD, and this is {sys.platform}"
        )
    if torch.version.cuda is not None or torch.version.hip is not None:
        raise FakeCudaError(
            f"torch {torch.__version__} is built for GPUs; a fake one needs torch built without"
        )
    compiler = cxx_compiler()
    if compiler is None:
        raise FakeCudaError("there is no C++ compiler")
    if not (TORCH / "include" / "c10" / "core" / "impl" / "DeviceGuardImplInterface.h").exists():
        raise FakeCudaError(f"torch {torch.__version__} came without its C++ headers")
    digest = hashlib.blake2b(SOURCE.read_bytes(), digest_size=8)
    digest.update(repr((torch.__version__, str(TORCH), compiler, FLAGS)).encode())
    path = cache_folder() / "fake-cuda" / f"fake_cuda-{digest.hexdigest()}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            _compile(compiler, made)
            made.replace(path)
    return path


def _compile(compiler: str, path: Path) -> None:
    """Compile the source into `path`.

    Raises FakeCudaError with the end of what the compiler says.
    """
    command = [compiler, *FLAGS, str(SOURCE), *LIBRARIES, "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5 * MINUTE)
    if done.returncode:
        raise FakeCudaError(
            f"{compiler} cannot compile it with the headers of torch {torch.__version__}: "
            f"{_end(done.stderr)}"
        )


def _end(text: str) -> str:
    """The last lines of an error message, without the frames that torch prints as it aborts."""
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not line.startswith("frame #")
    ]
    return " | ".join(lines[-3:])[-500:]

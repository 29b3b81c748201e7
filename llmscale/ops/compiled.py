"""The compiled kernels: native.c through the system's C compiler, kept in the cache folder for the next time."""

import ctypes
import hashlib
import platform
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from llmscale.cache import cache_folder
from llmscale.errors import WorkError
from llmscale.machine import c_compiler, cpu_flags

SOURCES = ("native.c", "attention.h", "elementwise.h")
FLAGS = (
    *("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
    *("-shared", "-fPIC"),
)


def why_not() -> str | None:
    """Why the kernels cannot run here, or None where they can."""
    try:
        library()
    except WorkError as error:
        return error.problem
    return None


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The kernels, compiled where they are not in the cache yet. Raises WorkError where that cannot be."""
    folder = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for name in SOURCES:
        digest.update((folder / name).read_bytes())
    digest.update(repr((FLAGS, platform.machine(), sorted(cpu_flags()))).encode())
    path = cache_folder() / "kernels" / f"native-{digest.hexdigest()}.so"
    try:
        if not path.exists():
            _compile(folder / SOURCES[0], path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise WorkError(f"the compiled kernels cannot be kept or loaded: {error}", "see LLMSCALE_CACHE") from error


def _compile(source: Path, path: Path) -> None:
    compiler = c_compiler()
    if compiler is None:
        raise WorkError("there is no C compiler", "install gcc or clang")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".so", delete=False) as beside:
        pass
    command = [compiler, *FLAGS, str(source), "-o", beside.name, "-lm"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        Path(beside.name).unlink()
        said = done.stderr.strip()[-500:]
        raise WorkError(f"{compiler} could not compile {source.name}: {said}", "set CC to another compiler")
    Path(beside.name).replace(path)

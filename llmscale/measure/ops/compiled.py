"""The compiled kernels: native.c through the system's C compiler, kept in the cache folder for the
next time.

A library is opened only if it is whole, by the digest at its end, and if nobody but this user and
root can have written it: what is opened is run. Any other file in its place is compiled anew."""

import _ctypes
import ctypes
import hashlib
import os
import platform
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

from llmscale.errors import WorkError
from llmscale.machine import c_compiler, cpu_flags
from llmscale.machine.cache import cache_folder

SOURCES = ("native.c", "attention.h", "elementwise.h")
_OF_NUMBERS = ("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
FLAGS = ("-O3", "-march=native", *_OF_NUMBERS, "-fno-strict-aliasing", "-shared", "-fPIC")
_FUSED = product(("rms_norm", "layer_norm", "attention", "swiglu", "gelu"), ("forward", "backward"))
_KERNELS = (*map("_".join, _FUSED), "cross_entropy")
KERNELS = tuple(map("_".join, product(_KERNELS, ("f32", "bf16"))))
"""The functions of native.c."""
COMPILE_SECONDS = 900.0
"""How long the compiler may take: ten seconds on a core of its own."""
MARK = b"-sha256:"
"""Behind the library, and before the digest of it; what loads it reads neither."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LARGEST_BYTES = 1 << 26


@dataclass(frozen=True)
class Found:
    """The kernels, or why there are none; and what to know of where they are kept."""

    library: ctypes.CDLL | None
    error: WorkError | None = None
    note: str | None = None


def why_not() -> str | None:
    """Why the kernels cannot run here, or None if they can."""
    error = find().error
    return error.problem if error else None


def library() -> ctypes.CDLL:
    """The kernels, compiled if the cache has none yet. Raises WorkError if that fails."""
    found = find()
    if found.library is None:
        assert found.error is not None
        raise WorkError(found.error.problem, found.error.fix)
    return found.library


@lru_cache(maxsize=1)
def find() -> Found:
    """Look for the kernels once in this process, and compile them if need be."""
    name, refused = f"native-{_digest_of_sources()}.so", []
    for folder in _places():
        try:
            _make_private(folder)
            found = _open(folder / name) or _compile(folder / name)
        except UnsafeError as error:
            refused.append(str(error))
            continue
        except OSError as error:
            problem = f"the compiled kernels cannot be kept or loaded: {error}"
            return Found(None, WorkError(problem, "see LLMSCALE_CACHE"))
        except WorkError as error:
            return Found(None, error)
        note = f"{refused[0]}: the compiled kernels are kept in {folder}" if refused else None
        return Found(found, None, note)
    problem = f"no compiled kernels are kept or loaded: {refused[0]}"
    return Found(None, WorkError(problem, "name another LLMSCALE_CACHE"))


def is_compiled() -> bool:
    """Whether `find` need not compile them, which takes seconds."""
    name = f"native-{_digest_of_sources()}.so"
    return find.cache_info().currsize > 0 or any((path / name).exists() for path in _places())


class UnsafeError(Exception):
    """A folder whose files others than this user and root can replace."""


def _digest_of_sources() -> str:
    """16 hex digits over all that the compiled code follows from."""
    digest = hashlib.blake2b(digest_size=8)
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    digest.update(repr((FLAGS, platform.machine(), sorted(cpu_flags()))).encode())
    return digest.hexdigest()


def _places() -> list[Path]:
    """Folders for the kernels: the next one is for when others can write to the one before."""
    places = [cache_folder() / "kernels"]
    with suppress(RuntimeError):  # nobody knows the user's home
        places.append(Path.home() / ".cache" / "llmscale" / "kernels")
    return list(dict.fromkeys(places))


def _make_private(folder: Path) -> None:
    """Make `folder`, for others to read only. Raises UnsafeError if they can write to it."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    state = folder.stat()
    if state.st_uid == os.geteuid() and state.st_mode & _OTHERS_WRITE:
        folder.chmod(stat.S_IMODE(state.st_mode) & ~_OTHERS_WRITE)
        state = folder.stat()
    if state.st_uid not in (0, os.geteuid()):
        raise UnsafeError(f"{folder} belongs to another user ({state.st_uid})")
    if state.st_mode & _OTHERS_WRITE:
        raise UnsafeError(
            f"{folder} can be written to by others (mode {stat.S_IMODE(state.st_mode):o})"
        )


def _open(path: Path) -> ctypes.CDLL | None:
    """The library at `path`; None if missing, not whole, not ours, or not for this machine."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(file, "rb") as opened:
        state = os.fstat(file)
        ours = state.st_uid in (0, os.geteuid()) and not state.st_mode & _OTHERS_WRITE
        if not ours or not stat.S_ISREG(state.st_mode) or state.st_size > _LARGEST_BYTES:
            return None
        content, _, digest = opened.read().rpartition(MARK)
    if hashlib.sha256(content).digest() != digest:
        return None
    return _load(path)


def _load(path: Path) -> ctypes.CDLL | None:
    """None for what the system does not load, or what lacks a kernel."""
    try:
        opened = ctypes.CDLL(str(path))
    except OSError:
        return None
    if not all(hasattr(opened, name) for name in KERNELS):
        # Else the system gives this one for the next of that name, too.
        _ctypes.dlclose(opened._handle)
        return None
    for name in KERNELS:
        # Of all the kernels this one gives something: the first row that is wrong.
        getattr(opened, name).restype = ctypes.c_long if name.startswith("cross_entropy") else None
    return opened


def _compile(path: Path) -> ctypes.CDLL:
    """Compile the library, write it next to its place and rename it."""
    compiler, source = c_compiler(), Path(__file__).parent / SOURCES[0]
    if compiler is None:
        raise WorkError("there is no C compiler", "install gcc or clang")
    _remove_left(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".native-", suffix=".part")
    os.close(handle)
    beside = Path(name)
    try:
        said = _run([compiler, *FLAGS, str(source), "-o", name, "-lm"])
        if said is not None:
            raise WorkError(
                f"{compiler} could not compile {source.name}: {said}", "set CC to another compiler"
            )
        content = beside.read_bytes()
        with beside.open("wb") as file:
            file.write(content + MARK + hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o644)
        beside.replace(path)
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    opened = _load(path)
    if opened is None:
        path.unlink(missing_ok=True)
        raise WorkError(
            f"{compiler} made no library of {source.name} that can be loaded here ({len(content)} "
            "bytes)",
            "set CC to another compiler",
        )
    return opened


def _run(command: list[str]) -> str | None:
    """Run the compiler and all that it starts, within COMPILE_SECONDS; what it says if it fails."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=COMPILE_SECONDS)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return f"it took longer than {COMPILE_SECONDS:.0f} s and was ended"
            raise
    if process.returncode == 0:
        return None
    return said.strip()[-500:] or f"it ended with exit code {process.returncode}"


def _remove_left(folder: Path) -> None:
    """Remove what compilations that were killed have left behind."""
    for left in (*folder.glob(".native-*.part"), *folder.glob("tmp*.so")):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 2 * COMPILE_SECONDS:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """Have the disk note the new name: else a power cut may leave it with an empty file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems sync no folders
            os.fsync(handle)
    finally:
        os.close(handle)

"""What every test runs under: a cache of its own, no colours, no screen, one thread unless the
caller says more.
"""

import functools
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from caches import KERNELS, empty_cache
from hypothesis import HealthCheck, settings

# Before torch, matplotlib and rich are imported: they read these once.
_cache = Path(tempfile.mkdtemp(prefix="llmscale-test-cache-"))
# Else pytest-xdist has started this process, and the first one has named them.
_has_no_kernels = KERNELS not in os.environ
if _has_no_kernels:
    os.environ[KERNELS] = str(_cache / "compiled")
    (_cache / "compiled").mkdir()
os.environ["LLMSCALE_CACHE"] = str(empty_cache(_cache))
os.environ["HF_HOME"] = os.path.join(os.environ["LLMSCALE_CACHE"], "huggingface")
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "120"
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("FORCE_COLOR", None)

# A property is tested for being true, not for how fast this machine tries examples of it.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

REPOSITORY = Path(__file__).resolve().parents[1]
LONGEST = (
    *("sweep", "faults", "readme", "fit_figures", "published_laws", "fake_cuda", "tune"),
    *("distributed", "fit_command", "fit", "train", "figures", "diagnostics", "spec_files"),
    *("finetuning", "remote", "executors", "stacked", "compile", "page"),
)
"""Files that take a quarter of a minute or more, and are begun first, so that no processor waits in
the end for one of them.
"""


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """Compile the kernels once, while the processes of pytest-xdist, which this starts, read the
    tests: else each would compile them."""
    yield
    if _has_no_kernels and session.config.getoption("numprocesses", None):
        compiles = "from llmscale.measure.ops.compiled import find; find()"
        subprocess.run([sys.executable, "-c", compiles], check=False)


def pytest_unconfigure() -> None:
    shutil.rmtree(_cache, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text that small models learn something of: counting in words, 300 kB."""
    from sweeps import write_counting  # which loads torch, after what is set above

    return write_counting(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session", autouse=True)
def _no_word_while_waiting() -> None:
    """A busy machine makes commands slow, and they would say so in what is compared."""
    from llmscale.commands import _patience

    _patience.SILENCE = math.inf


@pytest.fixture(scope="session", autouse=True)
def _workers_are_kept() -> Iterator[None]:
    from kept_workers import kept_workers  # which reads the environment that is set above

    with kept_workers():
        yield


@pytest.fixture(scope="session", autouse=True)
def _speeds_are_measured_once() -> Iterator[None]:
    """A second for every plan, which none but the tests of bench and of estimates need."""
    if "torch" not in sys.modules:  # then nothing here plans, but for a test or two
        yield
        return
    from llmscale.measure.train import calibrate

    measure, known = calibrate.measure_speeds, dict[object, Any]()

    def measure_speeds(micro_batches: Mapping[Any, int], *settings: str) -> Any:
        asked = tuple(micro_batches.items()), settings
        if asked not in known:
            known[asked] = measure(micro_batches, *settings)
        return known[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "measure_peak", functools.cache(calibrate.measure_peak))
        patch.setattr(calibrate, "measure_speeds", measure_speeds)
        yield


@pytest.fixture
def new_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sweep starts its own workers, and they end with it."""
    from llmscale.measure.executors import _worker_process, local

    monkeypatch.setattr(local, "start_worker", _worker_process.start_worker)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside a development checkout."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(
            "the reference material (a folder `shared` beside the repository) is not on this "
            "machine"
        )
    return folder


@pytest.fixture(scope="session")
def kept_ladder(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sizes on two budgets that kept their weights in float32. To be copied before anything is
    written into it.
    """
    from sweeps import llmscale, options

    out = tmp_path_factory.mktemp("kept-ladder") / "ladder"
    command = options(text, out, "1x16x1,2x16x1", "10k,20k", batch_tokens="128")
    found = llmscale(*command, "--keep-dtype", "float32")
    assert found.exit_code == 0, found.output
    return out

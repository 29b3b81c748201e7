"""What every test runs under: a cache of its own, no colours, no screen, one thread unless the
caller says more.
"""

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from caches import KERNELS, empty_cache
from hypothesis import HealthCheck, settings

# Before torch, matplotlib and rich are imported: they read these once.
_cache = Path(tempfile.mkdtemp(prefix="llmscale-test-cache-"))
if (
    KERNELS not in os.environ
):  # else pytest-xdist has started this process, and the first one has named them
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
    "sweep",
    "gpu_check",
    "tune",
    "train",
    "stacked",
    "distributed",
    "faults",
    "readme",
    "trunks",
    "fake_cuda",
)
"""Files that take a minute or so, and are begun first, so that no processor waits in the end for
one of them.
"""


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


@pytest.fixture
def new_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sweep starts its own workers, and they end with it."""
    from llmscale.measure.executors import _worker_process, local

    monkeypatch.setattr(local, "start_worker", _worker_process.start_worker)


@pytest.fixture(scope="session", autouse=True)
def _cache_removed_at_the_end() -> Iterator[None]:
    yield
    import shutil

    shutil.rmtree(_cache, ignore_errors=True)


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

"""Cache folders for tests: empty, but for the CPU kernels, which take ten seconds to compile."""

import os
from pathlib import Path

KERNELS = "LLMSCALE_TEST_KERNELS"
"""Names the folder of compiled kernels that all tests of one run share."""


def empty_cache(path: Path) -> Path:
    """A new folder `path` that holds nothing but the kernels that were compiled already; gives
    `path`.
    """
    path.mkdir(parents=True, exist_ok=True)
    (path / "kernels").symlink_to(os.environ[KERNELS], target_is_directory=True)
    return path

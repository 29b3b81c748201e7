"""What tests of trained models share."""

from pathlib import Path

import pytest
from sweeps import llmscale, options


@pytest.fixture(scope="session")
def kept_ladder(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sizes on two budgets that kept their weights in float32. To be copied before anything is
    written into it."""
    out = tmp_path_factory.mktemp("kept-ladder") / "ladder"
    command = options(text, out, "1x16x1,2x16x1", "10k,20k")
    found = llmscale(*command, "--keep-dtype", "float32")
    assert found.exit_code == 0, found.output
    return out

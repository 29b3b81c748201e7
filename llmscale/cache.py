"""Where llmscale keeps what it can make again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where llmscale keeps what it can make again: $LLMSCALE_CACHE, $XDG_CACHE_HOME/llmscale or ~/.cache/llmscale."""
    if own := os.environ.get("LLMSCALE_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "llmscale"

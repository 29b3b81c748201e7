"""Where llmscale keeps what it can make again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where llmscale keeps what it can make again: $LLMSCALE_CACHE, $XDG_CACHE_HOME/llmscale or
    ~/.cache/llmscale."""
    if own := os.environ.get("LLMSCALE_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "llmscale"


def is_shared() -> bool:
    """Whether the cache may be for others, too: one that LLMSCALE_CACHE names keeps the modes that
    the umask gives, and in the user's own, text is for nobody else."""
    return bool(os.environ.get("LLMSCALE_CACHE"))

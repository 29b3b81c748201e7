"""Scaling laws of language models: measured on real text, fitted with error bars."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmscale.explain.laws import Law

__version__ = "0.1.0"

_PLACES = {"Law": "llmscale.explain.laws"}

__all__ = ["Law", "__version__"]


def __getattr__(name: str) -> Any:
    """What the library offers, imported when it is first asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)

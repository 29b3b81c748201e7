"""Packages that a choice takes and llmscale itself does not: whether they are here is known without
importing them."""

import importlib.util

from llmscale.errors import InputError


def is_installed(package: str) -> bool:
    """Whether `package` can be imported. A folder of that name that holds no package does not
    count."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None


def need(package: str, choice: str, install: str) -> None:
    """Raise InputError if `choice` takes a `package` that is not installed, as `pip install
    INSTALL` does."""
    if not is_installed(package):
        raise InputError(
            f"{choice} needs the package {package}, which is not installed",
            f"pip install {install}",
        )

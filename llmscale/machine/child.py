"""Python processes that this one starts: they import nothing from the folder that they happen to
run in.

`python -m` and `python -c` look there first. A `statistics.py` in a folder of somebody else's
results would be run in place of Python's own, and a project's own `tokenizers.py` would break every
child."""

import os
import site
import sys
from pathlib import Path

SAFE = {"PYTHONSAFEPATH": "1"}
"""Says the same as -P to what the child starts in turn."""


def python(*arguments: str) -> list[str]:
    """The command that runs this Python with `arguments`, such as `-m` and a module; for
    `child_environment`."""
    return [sys.executable, "-P", *arguments]


def child_environment(**own: str) -> dict[str, str]:
    """The environment of such a command: this process's own, in which this very llmscale is found,
    and `own`."""
    return {**os.environ, **SAFE, **search_path(), **own}


def search_path() -> dict[str, str]:
    """PYTHONPATH, without entries that are empty and so mean the current folder; with the place of
    a checkout."""
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    here = str(Path(__file__).resolve().parents[2])
    installed = here in (*site.getsitepackages(), site.getusersitepackages())
    if not installed and here not in given:
        given.append(here)
    return {"PYTHONPATH": os.pathsep.join(given)} if given or "PYTHONPATH" in os.environ else {}

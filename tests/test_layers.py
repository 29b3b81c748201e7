"""The layers of imports, which pyproject.toml lists under [tool.importlinter], and the weight of
each half.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY_FOR_START = {
    "torch",
    "pandas",
    "numpy",
    "scipy",
    "pyarrow",
    "datasets",
    "tokenizers",
    "matplotlib",
}
BLOCK = "import sys; sys.modules.update(dict.fromkeys(('torch', 'datasets', 'tokenizers')))"


def test_imports_run_down_the_layers(repository: Path) -> None:
    # In a process of its own: it configures logging, which disables the loggers of this one.
    check = "from importlinter import cli; raise SystemExit(cli.lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_explaining_half_loads_where_torch_is_not_installed(repository: Path) -> None:
    modules = [
        ".".join(path.relative_to(repository).with_suffix("").parts)
        for half in ("explain", "runs", "errors")
        for path in sorted((repository / "llmscale" / half).rglob("*.py"))
    ]
    assert len(modules) > 50
    _python(repository, f"{BLOCK}; import {', '.join(modules)}")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["fit", "--help"], ["sweep", "--help"]]
)
def test_help_loads_nothing_heavy(repository: Path, arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["llmscale", *{arguments!r}]
from llmscale.commands import app
try:
    app()
except SystemExit as stop:
    assert not stop.code, stop.code
print("loaded:", *sorted(sys.modules))
"""
    loaded = set(_python(repository, code).rpartition("loaded:")[2].split())
    assert "typer" in loaded
    assert not loaded & HEAVY_FOR_START


def _python(repository: Path, code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

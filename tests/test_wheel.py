"""The wheel: built from this folder, it installs and runs elsewhere."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import llmscale

RUNS = """N,D,loss
1e6,2e9,4.10
3e6,2e9,3.80
1e7,2e9,3.53
3e7,2e9,3.32
1e8,2e9,3.14
3e8,2e9,3.00
"""


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(repository),
    ]
    _run([sys.executable, "-m", "pip", *build], folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_its_licence_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "llmscale/py.typed" in names
    parts = "llmscale/explain/page/parts"
    assert {f"{parts}/page.{kind}" for kind in ("html", "css")} <= set(names)
    assert f"{parts}/main.js" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {
        "llmscale",
        f"llmscale-{llmscale.__version__}.dist-info",
    }


def test_the_wheel_runs_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    venv.create(
        tmp_path / "venv", with_pip=False, symlinks=True
    )  # a copied Python may not find its libraries
    program = tmp_path / "venv" / "bin" / "llmscale"
    target = ["--python", str(tmp_path / "venv" / "bin" / "python")]
    _run(
        [sys.executable, "-m", "pip", *target, "install", "--no-deps", "--no-index", str(wheel)],
        tmp_path,
    )
    (tmp_path / "runs.csv").write_text(RUNS)

    python = [
        str(tmp_path / "venv" / "bin" / "python"),
        "-c",
        "import llmscale; print(llmscale.__file__)",
    ]
    assert _run(python, tmp_path).startswith(str(tmp_path))
    assert _run([str(program), "--version"], tmp_path) == f"llmscale {llmscale.__version__}\n"
    printed = _run([str(program), "fit", "runs.csv", "--bootstrap", "20"], tmp_path)
    assert "alpha" in printed


def _run(command: list[str], folder: Path) -> str:
    """Standard output of `command`, run in `folder` with this environment's packages but not this
    repository.
    """
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(packages)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

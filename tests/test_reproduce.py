"""`make reproduce`: which ladder and which committed results, and an environment where nothing can
be installed.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from sweeps import write_counting

from llmscale.errors import InputError
from llmscale.measure.sweep.spec import read_spec
from llmscale.measure.text.prepare import TextSpec
from llmscale.measure.text.sources import UnreachableError

H100 = "NVIDIA H100 80GB HBM3"
NOWHERE = "http://127.0.0.1:9/"
"""Nothing listens there."""
SMALL = """
sizes = ["1x16x1", "1x24x1", "2x24x1", "2x32x2"]
tokens = ["20k"]
[data]
source = "{text}"
tokenizer = "bpe:300"
[recipe]
context = 32
"""


@pytest.fixture
def reproduce(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """experiments/reproduce.py as a machine with an H100 runs it."""
    monkeypatch.syspath_prepend(str(repository / "experiments"))
    import reproduce

    monkeypatch.setattr(reproduce, "pick_device", lambda: "cuda")
    monkeypatch.setattr(reproduce, "device_name", lambda device: H100)
    return reproduce


def test_a_gpu_trains_the_ladder_on_web_text(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextSpec, "open", lambda spec: None)
    assert reproduce.choose()[0].name == "gpu.toml"


@pytest.mark.parametrize(
    "error", [UnreachableError("no hub answered"), InputError("no such dataset")]
)
def test_a_gpu_without_its_dataset_trains_on_text_that_is_here(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, error: InputError
) -> None:
    def fail(spec: TextSpec) -> None:
        raise error

    monkeypatch.setattr(TextSpec, "open", fail)
    assert reproduce.choose()[0].name == "gpu-stdlib.toml"


def test_a_gpu_without_the_package_datasets_trains_on_text_that_is_here(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    ladder, _ = reproduce.choose()
    assert ladder.name == "gpu-stdlib.toml"
    assert "datasets, which is not installed" in " ".join(capsys.readouterr().out.split())
    assert read_spec(ladder).data.open().shards


def test_a_law_is_compared_with_that_of_the_same_gpu(reproduce: ModuleType, tmp_path: Path) -> None:
    for name in ("cpu", "gpu-h100", "gpu-h200", "gpu-rtx-4090"):
        (tmp_path / name).mkdir()
        (tmp_path / name / reproduce.LAW).touch()
    (tmp_path / "gpu-a100").mkdir()
    assert reproduce.results_of(H100, tmp_path) == tmp_path / "gpu-h100"
    assert reproduce.results_of("NVIDIA GeForce RTX 4090", tmp_path) == tmp_path / "gpu-rtx-4090"
    assert reproduce.results_of("NVIDIA A100-SXM4-80GB", tmp_path) is None, "it holds no law"


def test_without_a_law_of_such_a_machine_there_is_nothing_to_compare(
    reproduce: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce.compare(tmp_path, None)
    assert "no law of such a machine" in capsys.readouterr().out


def test_laws_of_other_texts_and_budgets_are_told_apart(
    reproduce: ModuleType, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu = repository / "results" / "cpu"
    reproduce.compare(cpu, cpu)
    assert "need not agree" not in capsys.readouterr().out
    shutil.copyfile(cpu / reproduce.LAW, tmp_path / reproduce.LAW)
    sweep = (cpu / "sweep.json").read_text(encoding="utf-8")
    other = sweep.replace('"3M"', '"20M"').replace('"fingerprint": "', '"fingerprint": "f')
    (tmp_path / "sweep.json").write_text(other, encoding="utf-8")
    reproduce.compare(tmp_path, cpu)
    printed = " ".join(capsys.readouterr().out.split())
    assert "different text" in printed
    assert "on 20M and 3M tokens a run" in printed


def test_the_makefile_knows_the_packages_that_are_needed(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {re.split(r"[<>=\[ ]", package)[0] for package in project["dependencies"]}
    (needed,) = re.findall(
        r"^NEEDED := (.*)$", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(needed.split(", ")) == asked - {"datasets"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_reproduce_without_an_index_takes_the_packages_that_are_here(
    repository: Path, tmp_path: Path
) -> None:
    for name in ("llmscale", "experiments"):
        shutil.copytree(repository / name, tmp_path / name)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copyfile(repository / name, tmp_path / name)
    text = write_counting(tmp_path)
    (tmp_path / "experiments" / "cpu.toml").write_text(SMALL.format(text=text), encoding="utf-8")
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "datasets.py").write_text(
        "raise ImportError('blocked')\n", encoding="utf-8"
    )

    def make(target: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            **os.environ,
            "PIP_INDEX_URL": NOWHERE,
            "PIP_CONFIG_FILE": os.devnull,
            "CUDA_VISIBLE_DEVICES": "",
        }
        environment |= {
            "PYTHONPATH": str(tmp_path / "blocked"),
            "PIP_FIND_LINKS": "",
            "PIP_EXTRA_INDEX_URL": "",
        }
        command = ["make", target, *(f"{name}={value}" for name, value in settings.items())]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    done = make("reproduce", PYTHON=sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f".venv takes the packages of {sys.executable}" in done.stdout
    assert "reproduced in" in done.stdout
    assert (tmp_path / "results" / "reproduced-cpu" / "fit-power-floor.json").exists()
    again = make("setup", PYTHON=sys.executable)
    assert "installing" not in again.stdout
    found = subprocess.run(
        [
            str(tmp_path / ".venv" / "bin" / "python"),
            "-c",
            "import llmscale; print(llmscale.__file__)",
        ],
        cwd=tmp_path.parent,
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert Path(found.stdout.strip()) == tmp_path / "llmscale" / "__init__.py"

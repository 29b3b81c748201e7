"""`make reproduce`: which ladder, its verdict, and what it does without an index."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from sweeps import write_counting

from llmscale.errors import InputError
from llmscale.measure.sweep.spec import read_spec
from llmscale.measure.text.prepare import TextSpec
from llmscale.measure.text.sources import UnreachableError

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
    """experiments/reproduce.py as a machine with a GPU runs it."""
    monkeypatch.syspath_prepend(str(repository / "experiments"))
    import reproduce

    monkeypatch.setattr(reproduce, "pick_device", lambda: "cuda")
    return reproduce


def test_a_gpu_trains_the_ladder_on_web_text(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextSpec, "open", lambda spec: None)
    assert reproduce.choose().name == "gpu.toml"


@pytest.mark.parametrize(
    "error", [UnreachableError("no hub answered"), InputError("no such dataset")]
)
def test_a_gpu_without_its_dataset_trains_on_text_that_is_here(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, error: InputError
) -> None:
    def fail(spec: TextSpec) -> None:
        raise error

    monkeypatch.setattr(TextSpec, "open", fail)
    assert reproduce.choose().name == "gpu-stdlib.toml"


def test_a_gpu_without_the_package_datasets_trains_on_text_that_is_here(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    ladder = reproduce.choose()
    assert ladder.name == "gpu-stdlib.toml"
    assert "datasets, which is not installed" in " ".join(capsys.readouterr().out.split())
    assert read_spec(ladder).data.open().shards


def test_committed_losses_agree_with_themselves(
    reproduce: ModuleType, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu = repository / "results" / "cpu"
    assert reproduce.show_verdict(cpu, cpu) == 0
    assert "reproduced: 5 of 5 losses agree within 2 standard errors" in _printed(capsys)


@pytest.mark.parametrize(
    ("changed", "code", "verdict"),
    [
        ({"loss": 1.001}, 0, "reproduced: 5 of 5 losses agree"),
        ({"loss": 1.02}, 1, "NOT reproduced: 5 of 5 losses differ by more than 2 standard errors"),
        ({"loss": 1.02, "data_fingerprint": "other"}, 0, "no verdict on the losses: the texts"),
        ({"loss": 1.001, "dtype": "float32"}, 0, "(trained in another number type)"),
        ({"size": "1x8x1"}, 1, "NOT reproduced: 5 of 5 runs are not here"),
    ],
)
def test_the_verdict_says_which_comparison_is_possible(
    reproduce: ModuleType,
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, float | str],
    code: int,
    verdict: str,
) -> None:
    cpu = repository / "results" / "cpu"
    runs = pd.read_parquet(cpu / "runs.parquet")
    for column, value in changed.items():
        runs[column] = runs[column] * value if column == "loss" else value
    runs.to_parquet(tmp_path / "runs.parquet")
    assert reproduce.show_verdict(tmp_path, cpu) == code
    assert verdict in _printed(capsys)


def test_without_committed_results_there_is_no_verdict(
    reproduce: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce.show_verdict(tmp_path, tmp_path / "gpu") == 0
    assert "no verdict: there is no results/gpu to compare with" in _printed(capsys)


def test_the_committed_ladder_is_the_one_that_is_reproduced(repository: Path) -> None:
    committed = json.loads((repository / "results" / "cpu" / "sweep.json").read_text("utf-8"))
    ladder = tomllib.loads((repository / "experiments" / "cpu.toml").read_text("utf-8"))
    assert committed["spec"]["sizes"] == ladder["sizes"]
    assert committed["spec"]["tokens"] == ladder["tokens"]


def _printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


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
    assert "Requirement already" not in done.stdout, "pip is quiet"
    assert "no verdict: there is no results/cpu to compare with" in done.stdout
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

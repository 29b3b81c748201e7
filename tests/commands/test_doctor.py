"""`llmscale doctor`, and the facts about the machine that training relies on."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmscale import machine
from llmscale.commands import app, output
from llmscale.commands._console import SafeConsole
from llmscale.commands.doctor import show_rows
from llmscale.errors import InputError
from llmscale.measure.train.dtype import choose_dtype

torch = pytest.importorskip("torch", reason="torch is not installed")
run = CliRunner().invoke


def test_doctor_says_what_training_will_use() -> None:
    result = run(app, ["doctor"])
    assert result.exit_code == 0
    for row in (
        "Python",
        "torch",
        "device",
        "dtype",
        "compile",
        "cores",
        "memory",
        "cache",
        "data: stdlib",
        "packages",
    ):
        assert f"\n{row} " in f"\n{result.stdout}"


def test_doctor_in_80_columns_breaks_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"/somewhere/{'long/' * 20}"
    rows = [("Python", "3.11", "on a machine"), ("data: stdlib", "30 MiB", f"{path} is there")]
    console = SafeConsole(stderr=False)
    console.wraps, console.width = True, 80
    monkeypatch.setattr(output, "results", console)
    show_rows(rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["Python", "3.11", "on", "a", "machine"]
    assert [line.strip() for line in lines[1:]] == ["data: stdlib  30 MiB", path, "is there"]


def test_doctor_prints_one_json_object_that_agrees_with_the_library() -> None:
    report = json.loads(run(app, ["doctor", "--json"]).stdout)
    assert report["device"]["kind"] == machine.pick_device()
    assert report["device"]["dtype"] == choose_dtype("auto", report["device"]["kind"]).dtype
    assert report["cores"] == machine.available_cores()
    assert report["cache"]["path"] == os.environ["LLMSCALE_CACHE"]
    assert report["data"][0]["size_bytes"] > 1e6
    assert report["device"]["flops_per_second"] > 0


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [("CUDA_LAUNCH_BLOCKING", "1", "debug-switch"), ("PATH", "", "no-compile")],
)
def test_doctor_names_what_will_be_slow(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, code: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, value)
    report = json.loads(run(app, ["doctor", "--json"]).stdout)
    assert code in [note["code"] for note in report["slow"]]


@pytest.mark.slow
def test_doctor_compiles_a_function_when_asked() -> None:
    compiled = json.loads(run(app, ["doctor", "--full", "--json"]).stdout)["compile"]
    assert compiled["status"] in ("works", "broken")
    assert (compiled["seconds"] is None) == (compiled["status"] == "broken")


def test_cuda_where_there_is_none_is_one_clear_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(InputError, match="no CUDA device was found"):
        machine.pick_device("cuda")
    assert machine.pick_device("auto") == "cpu"


def test_unknown_devices_and_dtypes_are_errors() -> None:
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        machine.pick_device("tpu")
    with pytest.raises(InputError, match="unknown dtype 'float8'"):
        machine.pick_dtype("float8", "cpu")


def test_bfloat16_is_picked_only_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    assert machine.pick_dtype("auto", "cpu") == "float32"
    assert machine.pick_dtype("bfloat16", "cpu") == "bfloat16"
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2", "avx512_bf16"}))
    assert machine.pick_dtype("auto", "cpu") == "bfloat16"


def test_bfloat16_is_picked_from_capability_8_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, dtype in (((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")):
        gpu = machine.GPU("a GPU", capability, 1 << 30, 1 << 30)
        monkeypatch.setattr(machine, "find_gpu", lambda gpu=gpu: gpu)
        assert machine.pick_dtype("auto", "cuda") == dtype


def test_cores_and_memory_are_cut_to_the_control_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 400000\ninactive_file 200000\n")
    monkeypatch.setattr(machine, "_control_groups", lambda controller: [tmp_path])
    assert machine.available_cores() <= 2
    assert machine.available_memory() == 500_000
    assert machine.total_memory() == 1_000_000

    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_cores() == len(os.sched_getaffinity(0))
    assert machine.available_memory() > 1_000_000

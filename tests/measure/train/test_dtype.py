"""Which dtype a sweep trains in: by measuring its products on a CPU, kept for the machine and by a
begun sweep.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from caches import empty_cache
from sweeps import llmscale, options, tables, write_counting

from llmscale import machine
from llmscale.measure.train import dtype as module
from llmscale.measure.train.dtype import Product, choose_dtype, measure_products, products_of
from llmscale.runs.shape import shape_for

SHAPES = [shape_for(size, vocab_size=256, context=64) for size in ("10k", "30k", "100k", "300k")]
Fake = Callable[[float, float], list[Sequence[Product]]]


@pytest.fixture(name="fake")
def fake_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """A CPU that has bfloat16, with a cache of its own: `fake(float32, bfloat16)` sets its GFLOP/s.

    What it returns lists what is measured from then on.
    """
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx512f", "avx512_bf16"}))
    monkeypatch.setenv("LLMSCALE_CACHE", str(empty_cache(tmp_path / "cache")))

    def fake(float32: float, bfloat16: float) -> list[Sequence[Product]]:
        measured: list[Sequence[Product]] = []

        def measure(products: Sequence[Product]) -> dict[str, float]:
            measured.append(products)
            return {"float32": float32 * 1e9, "bfloat16": bfloat16 * 1e9}

        monkeypatch.setattr(module, "measure_products", measure)
        return measured

    return fake


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen", "words"),
    [
        (
            158,
            83,
            "float32",
            "1.9 times as fast here as bfloat16 on this sweep's products (158 against 83 GFLOP/s",
        ),
        (
            180,
            425,
            "bfloat16",
            "2.4 times as fast here as float32 on this sweep's products (425 against 180 GFLOP/s",
        ),
        (
            100,
            105,
            "float32",
            "bfloat16, which rounds more, is only 1.1 times as fast here as float32",
        ),
        (100, 111, "bfloat16", "1.1 times as fast here as float32"),
    ],
)
def test_the_faster_dtype_is_taken_by_measuring(
    fake: Fake, float32: float, bfloat16: float, chosen: str, words: str
) -> None:
    fake(float32, bfloat16)
    choice = choose_dtype("auto", "cpu", SHAPES)
    assert choice.dtype == chosen
    assert choice.reason.startswith(words)


def test_a_cpu_without_bfloat16_is_not_measured(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = fake(100, 1000)
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2"}))
    assert (
        str(choose_dtype("auto", "cpu", SHAPES)) == "float32: this CPU does not multiply bfloat16"
    )
    assert not measured


def test_what_is_asked_for_is_not_measured(fake: Fake) -> None:
    measured = fake(100, 1000)
    assert str(choose_dtype("float32", "cpu", SHAPES)) == "float32: asked for"
    assert not measured


def test_a_gpu_is_taken_at_its_word(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = fake(1000, 100)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, dtype in (((7, 5), "float32"), ((8, 0), "bfloat16")):
        gpu = machine.GPU("a GPU", capability, 1 << 30, 1 << 30)
        monkeypatch.setattr(machine, "find_gpu", lambda gpu=gpu: gpu)
        assert choose_dtype("auto", "cuda", SHAPES).dtype == dtype
    assert not measured


def test_a_measurement_is_kept_for_its_products(fake: Fake) -> None:
    first = fake(158, 83)
    before = choose_dtype("auto", "cpu", SHAPES)
    later = fake(83, 158)
    assert choose_dtype("auto", "cpu", SHAPES) == before
    assert choose_dtype("auto", "cpu", SHAPES[:2]).dtype == "bfloat16"
    assert (len(first), len(later)) == (1, 1)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"flops_per_second": {}}', "other CPU", "infinite"]
)
def test_a_damaged_or_foreign_measurement_is_made_again(
    fake: Fake, tmp_path: Path, damage: str
) -> None:
    fake(158, 83)
    choose_dtype("auto", "cpu", SHAPES)
    (path,) = (tmp_path / "cache").rglob("*.json")
    kept: dict[str, Any] = json.loads(path.read_text())
    if damage == "other CPU":
        damage = json.dumps({**kept, "cpu": "another"})
    elif damage == "infinite":
        damage = json.dumps(
            {**kept, "flops_per_second": {"float32": 1e9, "bfloat16": float("inf")}}
        )
    path.write_text(damage)
    fake(83, 158)
    assert choose_dtype("auto", "cpu", SHAPES).dtype == "bfloat16"
    assert json.loads(path.read_text())["flops_per_second"]["bfloat16"] == 158e9


def test_without_a_cache_it_is_measured_every_time(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path / "file"))
    measured = fake(158, 83)
    for _ in range(2):
        assert choose_dtype("auto", "cpu", SHAPES).dtype == "float32"
    assert len(measured) == 2


def test_products_are_those_of_the_smallest_a_middle_and_the_largest_shape() -> None:
    smallest, _, middle, largest = SHAPES
    sizes = {(outputs, inputs) for _, outputs, inputs, _ in products_of(SHAPES)}
    for shape in (smallest, middle, largest):
        assert {(3 * shape.d_model, shape.d_model), (shape.vocab_size, shape.d_model)} <= sizes
    assert products_of(SHAPES) == products_of(SHAPES[::-1])


def test_products_of_large_models_are_cut_to_what_is_quickly_measured() -> None:
    for rows, outputs, inputs, _ in products_of([shape_for("1B", vocab_size=50_000, context=2048)]):
        assert 2.0 * rows * outputs * inputs < 1e9


def test_both_dtypes_are_measured() -> None:
    speeds = measure_products([(64, 96, 32, 1.0), (64, 32, 32, 2.0)])
    assert set(speeds) == {"float32", "bfloat16"}
    assert all(1e6 < speed < 1e14 for speed in speeds.values())


def auto_options(folder: Path, *changes: str) -> list[str]:
    text = write_counting(folder)
    arguments = options(text, folder / "out", "1x16x1")
    arguments[arguments.index("float32")] = "auto"
    return [*arguments, *changes]


def test_the_plan_says_which_dtype_and_why(fake: Fake, tmp_path: Path) -> None:
    fake(158, 83)
    asked = auto_options(tmp_path, "--dry-run")
    plan = json.loads(llmscale(*asked, "--json").stdout)
    assert plan["dtype"] == "float32"
    assert plan["dtype_reason"].startswith(
        "1.9 times as fast here as bfloat16 on this sweep's products"
    )
    shown = llmscale(*asked)
    assert f"float32: {plan['dtype_reason']}" in shown.stderr


def test_a_begun_sweep_keeps_its_dtype(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(158, 83)
    asked = auto_options(tmp_path)
    assert llmscale(*asked).exit_code == 0
    monkeypatch.setenv("LLMSCALE_CACHE", str(empty_cache(tmp_path / "another")))
    fake(83, 158)
    plan = json.loads(llmscale(*asked, "--dry-run", "--json").stdout)
    assert (plan["dtype"], plan["dtype_reason"]) == ("float32", "as this sweep was begun")
    assert [run["finished"] for run in plan["runs"]] == [True]
    more = [part.replace("1x16x1", "1x16x1,2x16x1") for part in asked]
    wider = json.loads(llmscale(*more, "--dry-run", "--json").stdout)
    assert wider["dtype"] == "float32"
    assert [run["finished"] for run in wider["runs"]] == [True, False]
    assert tables(tmp_path / "out")[0]["dtype"].tolist() == ["float32"]


@pytest.mark.slow
def test_tuning_keeps_its_dtype_too(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(158, 83)
    text = write_counting(tmp_path)
    asked = [
        "tune",
        "--sizes",
        "1x16x1",
        "--tokens",
        "20k",
        "--data",
        str(text),
        "--tokenizer",
        "bpe:300",
    ]
    asked += [
        "--context",
        "32",
        "--device",
        "cpu",
        "--no-batch",
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    first = json.loads(llmscale(*asked, "--dry-run").stdout)
    assert first["dtype"] == "float32"
    llmscale(*asked)
    monkeypatch.setenv("LLMSCALE_CACHE", str(empty_cache(tmp_path / "another")))
    fake(83, 158)
    again = llmscale(*asked, "--dry-run")
    assert json.loads(again.stdout)["runs"] == []
    trials = json.loads((tmp_path / "out" / "tune.json").read_text())
    assert trials["hardware"]["dtype"] == "float32"


def test_doctor_says_which_dtype_and_why(fake: Fake) -> None:
    fake(158, 83)
    device = json.loads(llmscale("doctor", "--json").stdout)["device"]
    if device["kind"] != "cpu":
        pytest.skip("this machine trains on a GPU")
    assert device["dtype"] == "float32"
    assert device["dtype_reason"].startswith(
        "1.9 times as fast here as bfloat16 on products of 300k to 3M models"
    )
    assert "1.9 times as fast here" in llmscale("doctor").stdout


def test_bench_takes_the_same_choice(fake: Fake) -> None:
    fake(158, 83)
    report = json.loads(
        llmscale(
            "bench",
            "--sizes",
            "10k",
            "--context",
            "64",
            "--vocab-size",
            "256",
            "--device",
            "cpu",
            "--batch",
            "4",
            "--seconds",
            "0.1",
            "--json",
        ).stdout
    )
    assert report["dtype"] == "float32"
    assert report["dtype_reason"].startswith("1.9 times as fast here as bfloat16 on these products")

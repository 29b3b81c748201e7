"""Training steps on a CUDA device that is not there: all of them on the device, none that waits,
and what they cost.

One process runs every case below, with the library of fake_cuda/ preloaded; each test looks at its
report."""

from typing import Any

import pytest
from fake_cuda.__main__ import parser, table
from fake_cuda.library import FakeCudaError, library, run
from fake_cuda.steps import Case

from llmscale.runs.shape import ARCHITECTURES, Shape, shape_for

Reports = dict[str, dict[str, Any]]
SMALL = {"size": "1x32x2", "vocab_size": 64, "context": 16}
PLANNED = {"vocab_size": 8192, "context": 512, "batch": 16, "micro_batch": 16, "evaluate": False}
"""A batch of the size that a run of 50M tokens has."""
SIZES = {"1M": "4x144x6", "10M": "6x384x6", "100M": "13x768x12"}
"""Shapes of about so many weights.

Given as such, since the ladder of sizes takes a second to make.
"""
PLANS = [("llama", "1M"), ("llama", "100M")]
PLANS += [(arch, "10M") for arch in ARCHITECTURES.names if arch != "llama"]
"""Steps whose cost is compared with the plan's."""

STEPS: dict[str, dict[str, Any]] = {
    "AdamW in bfloat16": {},
    "AdamW in float32": {"dtype": "float32"},
    "Muon in bfloat16": {"optimizer": "muon"},
    "Muon in float32": {"optimizer": "muon", "dtype": "float32"},
    "activations computed twice": {"checkpointing": True},
    "two parts, the last one smaller": {"batch": 3, "micro_batch": 2},
    "adapters that learn targets, in two parts": {"rank": 2, "batch": 3, "micro_batch": 2},
    "a stack of three": {"stack": 3},
    "a stack of three with Muon": {"stack": 3, "optimizer": "muon"},
}
OF_ALL = (
    *("AdamW in bfloat16", "activations computed twice", "a stack of three with Muon"),
    "adapters that learn targets, in two parts",
)
"""The steps of STEPS that every architecture takes; the others call nothing of its own besides."""
CASES = [
    (arch, name)
    for arch in ARCHITECTURES.names
    for name in STEPS
    if arch == "llama" or name in OF_ALL
]
FOUND = {
    "a buffer left on the host": "OffDeviceError",
    "a batch left on the host": "OffDeviceError",
    "the optimiser's count of steps on the host": "OffDeviceError",
    "an index on the host": "OffDeviceError",
    "a number in a tensor of the host": "OffDeviceError",
    "float(loss)": "HostWaitsError",
    "loss.item()": "HostWaitsError",
    "losses.tolist()": "HostWaitsError",
    "if loss": "HostWaitsError",
    "nonzero": "HostWaitsError",
    "an index of booleans": "HostWaitsError",
    "loss.cpu()": "HostWaitsError",
    "loss.to('cpu')": "HostWaitsError",
    "a copy into a tensor of the host": "HostWaitsError",
    "a blocking copy to the device": "HostWaitsError",
    "a number made into a tensor of the device": "HostWaitsError",
    "a read in the backward pass": "HostWaitsError",
}
"""What each mistake of fake_cuda/mistakes.py must be found as."""
KNOWN: dict[str, dict[str, int]] = {
    "views": {"launches": 1, "bytes": 64, "peak_bytes": 64 + 64},
    "in_place": {"launches": 5, "bytes": 400 + 800 + 400 + 400 + 800, "peak_bytes": 800},
    "foreach": {
        "launches": 3 + 3,
        "bytes": 3 * 40 + 2 * 3 * 40 + 2 * 3 * 40 + 3 * 40,
        "peak_bytes": 3 * 40,
    },
    "gathered": {
        "launches": 2 + 2,
        "bytes": 32_000 + 80 + 2 * (320 + 320 + 80),
        "peak_bytes": 32_000 + 80 + 320,
    },
    "freed": {"launches": 3, "bytes": 4000 + 6000 + 2000, "peak_bytes": 4000 + 6000},
    "saved_for_backward": {"peak_bytes": 3 * 4000 + 2 * 4},
    "products": {"matmul_flops": 2 * 24 * (1 + 5 + 1), "attention_flops": 12 * 2 * 16 * 16 * 8},
}
"""What the programs of fake_cuda/programs.py do, counted by hand."""


@pytest.fixture(scope="module")
def reports() -> Reports:
    """What the steps, mistakes and programs do, by name."""
    requests: Reports = {}
    for arch, name in CASES:
        requests[f"{arch}: {name}"] = {**SMALL, "arch": arch, **STEPS[name]}
    for arch, name in PLANS:
        requests[f"{arch}: {name}"] = {**PLANNED, "arch": arch, "size": SIZES[name]}
    # GPT-2 has half the operations, since its norm is one; but no buffers.
    small = {**SMALL, "arch": "gpt2", "evaluate": False}
    for mistake in (*FOUND, "nothing wrong"):
        requests[mistake] = {**small, "mistake": mistake}
    requests["a buffer left on the host"]["arch"] = "llama"
    for program in KNOWN:
        requests[program] = {"program": program}
    weights = {**small, "size": "1x512x8", "vocab_size": 512, "context": 64}
    requests["one part"] = {**weights, "batch": 1, "micro_batch": 1}
    requests["four parts"] = {**weights, "batch": 4, "micro_batch": 1}
    requests["a stack of four"] = {**PLANNED, "size": SIZES["1M"], "stack": 4}
    requests["wide"] = {**small, "size": "2x64x4", "batch": 8, "micro_batch": 8, "context": 64}
    requests["wide, computed twice"] = {**requests["wide"], "checkpointing": True}
    try:
        return run(requests)
    except FakeCudaError as reason:
        pytest.skip(f"no fake CUDA here: {reason}")


@pytest.mark.parametrize("name", KNOWN)
def test_the_tracer_counts_what_is_known(name: str, reports: Reports) -> None:
    wanted = KNOWN[name]
    assert {figure: reports[name][figure] for figure in wanted} == wanted


@pytest.mark.parametrize(("arch", "name"), CASES)
def test_a_step_stays_on_the_device_and_never_waits(arch: str, name: str, reports: Reports) -> None:
    report = reports[f"{arch}: {name}"]
    assert report["error"] is None
    assert report["elsewhere"] == []
    assert (
        report["tensors"] > 20
    )  # weights, the optimiser's state, losses, the norm, and the evaluation
    assert set(report["phases"]) == {"gradient", "clip", "optimizer", "evaluation"}
    assert all(phase["launches"] for phase in report["phases"].values())
    multiplies = report["phases"]["optimizer"]["matmul_flops"] > 0
    assert multiplies == ("Muon" in name or "adapters" in name)


@pytest.mark.parametrize("mistake", FOUND)
def test_a_planted_mistake_is_found(mistake: str, reports: Reports) -> None:
    error = reports[mistake]["error"]
    assert error is not None
    assert error["class"] == FOUND[mistake], error


def test_what_is_found_names_the_place(reports: Reports) -> None:
    assert reports["a buffer left on the host"]["error"]["place"].startswith("plain.py:")
    assert reports["a batch left on the host"]["error"]["place"].startswith("gpt2.py:")


def test_what_only_looks_like_a_mistake_is_allowed(reports: Reports) -> None:
    assert reports["nothing wrong"]["error"] is None


@pytest.mark.parametrize(("arch", "size"), PLANS)
def test_traced_flops_are_those_of_the_plan(arch: str, size: str, reports: Reports) -> None:
    report, shape = (
        reports[f"{arch}: {size}"],
        shape_for(SIZES[size], vocab_size=8192, context=512, arch=arch),
    )
    tokens = 16 * 512
    # The mean over a batch may be a product, too, of a few numbers.
    assert report["matmul_flops"] == pytest.approx(6 * matrix_entries(shape) * tokens, rel=1e-6)
    assert report["attention_flops"] == shape.attention_flops_per_token * tokens
    # flops_per_token counts six for each weight, those of norms and biases too, which no product
    # takes part in.
    others = 6 * (shape.params - matrix_entries(shape)) * tokens
    traced = report["matmul_flops"] + report["attention_flops"]
    assert traced + others == pytest.approx(report["planned_flops"], rel=1e-6)
    assert 0 < others < 0.003 * report["planned_flops"]


def matrix_entries(shape: Shape) -> int:
    """Weights of a shape that multiply every token: the matrices of its blocks, and the output
    projection.
    """
    mlp = 2 if shape.arch == "gpt2" else 3
    block = 4 * shape.d_model**2 + shape.experts_per_token * mlp * shape.d_model * shape.d_ff
    if shape.n_experts > 1:
        block += shape.d_model * shape.n_experts  # the router
    return shape.n_layer * block + shape.d_model * shape.vocab_size


@pytest.mark.parametrize(("arch", "size"), PLANS)
def test_traced_memory_is_at_most_what_the_plan_takes(
    arch: str, size: str, reports: Reports
) -> None:
    report = reports[f"{arch}: {size}"]
    assert report["error"] is None
    # More than planned would run out of memory. Much less would leave memory idle: the plan counts
    # 14 values of a layer's width for each token, which is LLaMA with a norm in many operations;
    # GPT-2's norm is one.
    least = {"gpt2": 0.74}.get(arch, 0.88)
    assert least < report["peak_bytes"] / report["planned_bytes"] <= 1.02


def test_a_batch_in_parts_takes_one_more_set_of_gradients_at_most(reports: Reports) -> None:
    shape = shape_for("1x512x8", vocab_size=512, context=64, arch="gpt2")
    more = reports["four parts"]["peak_bytes"] - reports["one part"]["peak_bytes"]
    assert more <= 1.05 * 4 * shape.params_total
    for name in (
        "one part",
        "four parts",
    ):  # of so few tokens that weights and gradients take most of the memory
        assert 0.88 < reports[name]["peak_bytes"] / reports[name]["planned_bytes"] <= 1.02


def test_computing_activations_twice_takes_less_memory(reports: Reports) -> None:
    once, twice = reports["wide"], reports["wide, computed twice"]
    assert twice["peak_bytes"] < 0.8 * once["peak_bytes"]
    # Attention once more forward, which is a third of its FLOPs; and the blocks' products, but each
    # block's last one, of which nothing in the block needs the result.
    assert twice["attention_flops"] == pytest.approx(once["attention_flops"] * 4 / 3, rel=1e-6)
    shape = shape_for("2x64x4", vocab_size=64, context=64)
    in_blocks = once["matmul_flops"] - 6 * 8 * 64 * shape.d_model * shape.vocab_size
    assert 0.6 * in_blocks / 3 < twice["matmul_flops"] - once["matmul_flops"] <= in_blocks / 3


def test_a_stack_takes_about_the_launches_of_one_run(reports: Reports) -> None:
    alone, stack = reports["llama: 1M"], reports["a stack of four"]
    assert stack["error"] is None
    assert stack["launches"] <= 1.2 * alone["launches"]
    assert stack["matmul_flops"] == pytest.approx(4 * alone["matmul_flops"], rel=1e-6)
    assert stack["peak_bytes"] <= 1.02 * stack["planned_bytes"]


def test_clipping_and_adamw_take_as_many_launches_for_any_depth(reports: Reports) -> None:
    small, large = reports["llama: 1M"]["phases"], reports["llama: 100M"]["phases"]
    for phase in ("clip", "optimizer"):
        assert small[phase]["launches"] == large[phase]["launches"] < 20


def test_the_command_traces_a_case_and_shows_its_phases(reports: Reports) -> None:
    options = vars(
        parser().parse_args(["--size", "10M", "--vocab", "512", "--micro", "8", "--checkpointing"])
    )
    options.pop("json")
    assert Case(**options) == Case(
        "10M", "llama", 512, 512, 16, 8, "bfloat16", "adamw", checkpointing=True
    )
    report = reports["llama: AdamW in bfloat16"]
    rows = {line.split()[0]: line.split()[1:] for line in table(report).splitlines()}
    assert set(rows) == {
        "phase",
        "gradient",
        "clip",
        "optimizer",
        "evaluation",
        "step",
        "plan:",
        "most",
    }
    assert int(rows["step"][0]) == report["launches"]
    assert "OffDeviceError" in table(reports["a batch left on the host"])


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [(None, "there is no C\\+\\+ compiler"), ("false", "false cannot compile it with the headers")],
)
def test_without_a_compiler_that_fits_the_reason_is_given(
    compiler: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fake_cuda.library.cxx_compiler", lambda: compiler)
    monkeypatch.setattr("torch.version.cuda", None)
    with pytest.raises(FakeCudaError, match=reason):
        library()


def test_torch_that_is_built_for_gpus_has_no_fake_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", "13.0")
    with pytest.raises(FakeCudaError, match="built for GPUs"):
        library()

"""From sizes to shapes, and what shapes cost."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.measure.transformer import build_model
from llmscale.runs.shape import ARCHITECTURES, LARGEST, SMALLEST, Shape, shape_for

SIZES = st.integers(min_value=SMALLEST, max_value=10**7) | st.floats(min_value=7, max_value=12).map(
    lambda power: min(LARGEST, int(10**power))
)


def shape(size: str, arch: str = "llama") -> Shape:
    return shape_for(size, vocab_size=1024, context=256, arch=arch)


@settings(max_examples=25)
@given(SIZES, st.sampled_from(ARCHITECTURES.names))
@example(SMALLEST, "moe")
@example(37_855_152, "moe")
def test_a_size_gives_the_count_it_names(size: int, arch: str) -> None:
    found = shape(str(size), arch)
    tolerance = 0.03 if size >= 1_000_000 else 0.08
    assert abs(found.params_non_embedding / size - 1) <= tolerance
    assert found.d_head % 2 == 0
    assert 8 <= found.d_head <= 128
    assert found.d_model % found.n_head == 0
    assert found.n_layer >= 2
    if size >= 10_000_000:
        assert 40 <= found.d_model / found.n_layer <= 135
        assert 2 <= found.experts_per_token * found.d_ff / found.d_model <= 5


@settings(max_examples=25)
@given(SIZES, SIZES, st.sampled_from(ARCHITECTURES.names))
def test_a_larger_size_is_never_smaller_in_any_way(one: int, other: int, arch: str) -> None:
    small, large = shape(str(min(one, other)), arch), shape(str(max(one, other)), arch)
    assert small.params_non_embedding <= large.params_non_embedding
    assert small.n_layer <= large.n_layer
    assert small.d_model <= large.d_model


@pytest.mark.parametrize("arch", ARCHITECTURES.names)
@pytest.mark.parametrize(
    "size", ["10k", "47k", "100k", "1M", "3.3M", "2x16x1", "1x48x3", "3x64x4x100", "5x40x2"]
)
@pytest.mark.parametrize("vocab_size", [257, 1024])
def test_counts_equal_those_of_the_built_module(arch: str, size: str, vocab_size: int) -> None:
    wanted = shape_for(size, vocab_size=vocab_size, context=64, arch=arch)
    counts = {name: weight.numel() for name, weight in build_model(wanted).named_parameters()}
    outside = {
        name: count
        for name, count in counts.items()
        if name.startswith(("embed.", "positions.", "head."))
    }
    assert sum(counts.values()) == wanted.params_total
    idle = wanted.params_total - wanted.params_active
    assert sum(counts.values()) - sum(outside.values()) - idle == wanted.params_non_embedding
    assert wanted.params == wanted.params_non_embedding + outside["head.weight"]
    blocks = [count for name, count in counts.items() if name.startswith("blocks.0.")]
    assert sum(blocks) == wanted.params_per_layer


def test_flops_count_matrices_and_full_attention() -> None:
    six = shape_for("6x384x6x1024", vocab_size=1024, context=256)
    matrices = (
        6 * (4 * 384**2 + 3 * 384 * 1024) + 384 * 1024
    )  # the weights that multiply every token
    norms = 6 * 2 * 384 + 384
    assert six.params == matrices + norms
    assert six.flops_per_token == 6 * six.params + 12 * 6 * 256 * 384


@pytest.mark.parametrize(
    ("size", "words"),
    [("10Q", "not a number"), ("0", "above zero"), ("-1M", "above zero"), ("9k", "outside"),
     ("2T", "outside"),
     ("6x384x7", "heads"), ("0x384x6", "n_layer"), ("2x6x2", "even size"), ("6x384", "no shape")],
)  # fmt: skip
def test_a_wrong_size_is_refused_in_one_sentence(size: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        shape(size)
    result = CliRunner().invoke(app, ["shapes", "--peak", "1T", "--", size])
    assert result.exit_code == 2
    assert words in result.stderr
    assert not result.stdout


def test_shapes_prints_what_the_library_counts() -> None:
    arguments = [
        "shapes",
        "1M,100M,6x384x6",
        "--peak",
        "100T",
        "--mfu",
        "0.5",
        "--tokens",
        "20x",
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["shapes"]
    assert [row["size"] for row in rows] == ["1M", "100M", "6x384x6"]
    for row in rows:
        expected = shape(row["size"])
        assert row["params"] == expected.params
        assert row["flops_per_token"] == expected.flops_per_token
        assert row["memory_bytes"] > 16 * expected.params_total
        seconds = 20 * expected.params * expected.flops_per_token / 50e12
        assert row["estimated_seconds"] == pytest.approx(seconds, rel=1e-6)
    table = CliRunner().invoke(app, ["shapes", "1M,100M", "--peak", "100T"], env={"COLUMNS": "80"})
    assert "4x144x6" in table.stdout
    assert "…" not in table.stdout

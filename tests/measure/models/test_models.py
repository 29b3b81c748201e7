"""Every architecture keeps the promises of models/__init__.py."""

import math

import pytest
import torch
import torch.nn.functional as F

from llmscale.measure.models.llama import rotary_table
from llmscale.measure.ops.plain import rotate
from llmscale.measure.transformer import build_model
from llmscale.runs.shape import ARCHITECTURES, shape_for

every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES.names)


@every_architecture
def test_no_position_sees_its_future(arch: str) -> None:
    model = build_model(shape_for("2x32x2", vocab_size=50, context=16, arch=arch), seed=1)
    tokens_BT = torch.randint(50, (3, 16), generator=torch.Generator().manual_seed(0))
    before_BTV = model(tokens_BT)
    for place in range(16):
        changed_BT = tokens_BT.clone()
        changed_BT[:, place] = (changed_BT[:, place] + 1) % 50
        after_BTV = model(changed_BT)
        # Not to the bit: which tokens an expert gets decides how its product is computed.
        torch.testing.assert_close(after_BTV[:, :place], before_BTV[:, :place])
        assert not torch.allclose(after_BTV[:, place:], before_BTV[:, place:])


@every_architecture
def test_a_tiny_model_overfits_one_batch(arch: str) -> None:
    model = build_model(shape_for("2x32x2", vocab_size=64, context=32, arch=arch))
    tokens_BT = torch.randint(64, (4, 17), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(90):
        loss = F.cross_entropy(model(tokens_BT[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@every_architecture
@pytest.mark.parametrize("size", ["2x16x1", "4x144x6", "12x64x4"])
def test_an_untrained_model_guesses_nearly_uniformly(arch: str, size: str) -> None:
    model = build_model(shape_for(size, vocab_size=512, context=64, arch=arch))
    tokens_BT = torch.randint(512, (8, 65), generator=torch.Generator().manual_seed(0))
    loss = F.cross_entropy(model(tokens_BT[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten())
    assert abs(loss.item() - math.log(512)) < 0.5


@every_architecture
def test_weights_depend_on_the_seed_alone(arch: str) -> None:
    shape = shape_for("2x16x1", vocab_size=64, context=16, arch=arch)
    one, same, other = (build_model(shape, seed).state_dict() for seed in (3, 3, 4))
    torch.manual_seed(1)
    again = build_model(shape, 3).state_dict()
    for name, weight in one.items():
        assert torch.equal(weight, same[name])
        assert torch.equal(weight, again[name])
    assert not torch.equal(one["head.weight"], other["head.weight"])


@every_architecture
def test_what_writes_into_the_residual_stream_starts_smaller_in_deeper_models(arch: str) -> None:
    def ratio(n_layer: int) -> float:
        weights = build_model(
            shape_for(f"{n_layer}x64x4", vocab_size=64, context=16, arch=arch)
        ).state_dict()
        writes, reads = (
            weights["blocks.0.attention.out.weight"],
            weights["blocks.0.attention.qkv.weight"],
        )
        return float(writes.std() / reads.std())

    assert ratio(2) == pytest.approx(1 / math.sqrt(4), rel=0.1)
    assert ratio(8) == pytest.approx(1 / math.sqrt(16), rel=0.1)


def test_rotary_positions_make_scores_depend_on_distance_alone() -> None:
    cos_TD, sin_TD = rotary_table(context=32, d_head=8)
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).unbind()

    def score(query_place: int, key_place: int) -> float:
        turned_query = rotate(query, cos_TD[query_place], sin_TD[query_place])
        return float(turned_query @ rotate(key, cos_TD[key_place], sin_TD[key_place]))

    for distance in (0, 1, 7):
        scores = [score(place + distance, place) for place in (0, 5, 20)]
        assert scores == pytest.approx([scores[0]] * 3, rel=1e-4, abs=1e-4)
    assert score(3, 0) != pytest.approx(score(0, 0), rel=1e-3)

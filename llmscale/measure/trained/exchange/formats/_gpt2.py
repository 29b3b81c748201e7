"""Our `gpt2` as transformers' GPT2LMHeadModel, and back. Matrices are transposed there."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from llmscale.measure.parametrization import Parametrization
from llmscale.measure.trained.exchange.formats._settings import Wanted, number_of, refuse
from llmscale.runs.shape import Shape

TIED = True
EMBEDDING = "transformer.wte.weight"
_LAYERS = (
    ("attention_norm", "ln_1"),
    ("mlp_norm", "ln_2"),
    ("attention.qkv", "attn.c_attn"),
    ("attention.out", "attn.c_proj"),
    ("mlp.up", "mlp.c_fc"),
    ("mlp.down", "mlp.c_proj"),
)
_FIXED: tuple[Wanted, ...] = (
    Wanted("activation_function", "gelu_new"),
    Wanted("layer_norm_epsilon", 1e-5),
    Wanted("scale_attn_weights", True),
    Wanted("scale_attn_by_inverse_layer_idx", False),
    Wanted("add_cross_attention", False),
)


def config(shape: Shape) -> dict[str, Any]:
    """What config.json says of `shape`."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": shape.d_model,
        "n_inner": shape.d_ff,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "n_positions": shape.context,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def to_hf(
    weights: Mapping[str, Tensor], shape: Shape, settings: Parametrization
) -> dict[str, Tensor]:
    """The weights by their names there; multipliers go into the layers that they follow."""
    on_queries = settings.attention_scale * math.sqrt(shape.d_head)
    found = {
        EMBEDDING: weights["embed.weight"],
        "transformer.wpe.weight": weights["positions.weight"],
        "transformer.ln_f.weight": weights["norm.weight"],
        "transformer.ln_f.bias": weights["norm.bias"],
        "lm_head.weight": settings.logits_multiplier * weights["head.weight"],
    }
    for number in range(shape.n_layer):
        for ours, theirs in _LAYERS:
            for part in ("weight", "bias"):
                value = weights[f"blocks.{number}.{ours}.{part}"]
                if ours == "attention.qkv":
                    value = value.clone()
                    value[: shape.d_model] *= on_queries
                if ours in ("attention.out", "mlp.down"):
                    value = settings.residual_multiplier * value
                found[f"transformer.h.{number}.{theirs}.{part}"] = _turned(value, ours)
    return found


def shape_of(config: Mapping[str, Any], path: Path) -> tuple[Shape, tuple[str, ...]]:
    """The shape that a config.json describes, and what is to be said of it. Raises InputError for a
    setting that is not computed here."""
    refuse(config, _FIXED, path)
    width = number_of(config, "n_embd", path)
    shape = Shape(
        number_of(config, "n_layer", path),
        width,
        number_of(config, "n_head", path),
        int(config.get("n_inner") or 4 * width),
        number_of(config, "vocab_size", path),
        number_of(config, "n_positions", path),
        "gpt2",
    )
    return shape, ()


def unused(shape: Shape) -> Iterable[str]:
    """What older files hold besides weights: masks."""
    return (
        f"transformer.h.{number}.attn.{name}"
        for number in range(shape.n_layer)
        for name in ("bias", "masked_bias")
    )


def from_hf(
    weights: Mapping[str, Tensor], shape: Shape, config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The weights by our names."""
    found = {
        "embed.weight": weights[EMBEDDING],
        "positions.weight": weights["transformer.wpe.weight"],
        "norm.weight": weights["transformer.ln_f.weight"],
        "norm.bias": weights["transformer.ln_f.bias"],
        "head.weight": weights["lm_head.weight"],
    }
    for number in range(shape.n_layer):
        for ours, theirs in _LAYERS:
            for part in ("weight", "bias"):
                value = weights[f"transformer.h.{number}.{theirs}.{part}"]
                found[f"blocks.{number}.{ours}.{part}"] = _turned(value, ours)
    return found


def _turned(value: Tensor, layer: str) -> Tensor:
    """A matrix transposed; what is no matrix as it is."""
    return value.t().contiguous() if value.dim() == 2 and "norm" not in layer else value

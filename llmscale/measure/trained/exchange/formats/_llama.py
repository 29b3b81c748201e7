"""Our `llama` as transformers' LlamaForCausalLM, and back."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscale.measure.models.llama import Llama
from llmscale.measure.parametrization import Parametrization
from llmscale.measure.trained.exchange.formats._settings import (
    Wanted,
    number_of,
    real_of,
    refuse,
    table_of,
)
from llmscale.runs.shape import ARCHITECTURES, Shape

TIED = False
"""Whether transformers ties embedding and output projection if the config does not say."""
EMBEDDING = "model.embed_tokens.weight"
_NORMS = (("attention_norm", "input_layernorm"), ("mlp_norm", "post_attention_layernorm"))
_FIXED: tuple[Wanted, ...] = (
    Wanted("hidden_act", "silu"),
    Wanted("attention_bias", False),
    Wanted("mlp_bias", False),
    Wanted("rope_scaling", None),
)
"""What a config may say otherwise, and only this is computed here."""
_ROPE = (
    Wanted("rope_type", "default"),
    Wanted("type", "default"),  # as older files call it
    Wanted("factor", 1.0),
    Wanted("partial_rotary_factor", 1.0),
)


def config(shape: Shape) -> dict[str, Any]:
    """What config.json says of `shape`."""
    settings: Llama = ARCHITECTURES.find(shape.arch)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_head,
        "head_dim": shape.d_head,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": settings.norm_eps,
        "rope_theta": settings.rope_base,
        # Since transformers 5, which reads the key above of older files.
        "rope_parameters": {"rope_type": "default", "rope_theta": settings.rope_base},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


def to_hf(
    weights: Mapping[str, Tensor], shape: Shape, settings: Parametrization
) -> dict[str, Tensor]:
    """The weights by their names there; multipliers go into the matrices that they follow."""
    on_queries = settings.attention_scale * math.sqrt(shape.d_head)
    on_written, on_logits = settings.residual_multiplier, settings.logits_multiplier
    found = {
        EMBEDDING: weights["embed.weight"],
        "model.norm.weight": weights["norm.weight"],
        "lm_head.weight": on_logits * weights["head.weight"],
    }
    for number in range(shape.n_layer):
        ours, theirs = f"blocks.{number}", f"model.layers.{number}"
        for our_norm, their_norm in _NORMS:
            found[f"{theirs}.{their_norm}.weight"] = weights[f"{ours}.{our_norm}.weight"]
        q, k, v = weights[f"{ours}.attention.qkv.weight"].chunk(3)
        gate, up = weights[f"{ours}.mlp.gate_up.weight"].chunk(2)
        found |= {
            f"{theirs}.self_attn.q_proj.weight": on_queries * q,
            f"{theirs}.self_attn.k_proj.weight": k,
            f"{theirs}.self_attn.v_proj.weight": v,
            f"{theirs}.self_attn.o_proj.weight": on_written
            * weights[f"{ours}.attention.out.weight"],
            f"{theirs}.mlp.gate_proj.weight": gate,
            f"{theirs}.mlp.up_proj.weight": up,
            f"{theirs}.mlp.down_proj.weight": on_written * weights[f"{ours}.mlp.down.weight"],
        }
    return found


def shape_of(config: Mapping[str, Any], path: Path) -> tuple[Shape, tuple[str, ...]]:
    """The shape that a config.json describes, and what is to be said of it. Raises InputError for a
    setting that is not computed here."""
    refuse(config, _FIXED, path)
    width = number_of(config, "hidden_size", path)
    heads = number_of(config, "num_attention_heads", path)
    if config.get("head_dim") not in (None, width // heads):
        refuse(config, [Wanted("head_dim", width // heads)], path)
    rope = table_of(config, "rope_parameters", path)
    refuse(rope, _ROPE, path)
    usual = real_of(config, "rope_theta", 10_000.0, path)
    theta = real_of(rope, "rope_theta", usual, path)
    eps = real_of(config, "rms_norm_eps", 1e-6, path)
    shape = Shape(
        number_of(config, "num_hidden_layers", path),
        width,
        heads,
        number_of(config, "intermediate_size", path),
        number_of(config, "vocab_size", path),
        number_of(config, "max_position_embeddings", path),
        _arch(eps, theta),
    )
    groups = heads
    if config.get("num_key_value_heads") is not None:
        groups = number_of(config, "num_key_value_heads", path)
    if heads % groups:
        refuse(config, [Wanted("num_key_value_heads", heads)], path)
    if groups == heads:
        return shape, ()
    return shape, (f"its {groups} heads of keys and values are repeated for all {heads} heads",)


def unused(shape: Shape) -> Iterable[str]:
    """What older files hold besides weights: what follows from the config."""
    return (
        f"model.layers.{number}.self_attn.rotary_emb.inv_freq" for number in range(shape.n_layer)
    )


def from_hf(
    weights: Mapping[str, Tensor], shape: Shape, config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The weights by our names."""
    found = {
        "embed.weight": weights[EMBEDDING],
        "norm.weight": weights["model.norm.weight"],
        "head.weight": weights["lm_head.weight"],
    }
    for number in range(shape.n_layer):
        ours, theirs = f"blocks.{number}", f"model.layers.{number}"
        for our_norm, their_norm in _NORMS:
            found[f"{ours}.{our_norm}.weight"] = weights[f"{theirs}.{their_norm}.weight"]
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        repeats = shape.n_head // _key_heads(config, shape.n_head)
        qkv = [weights[f"{attention}.q_proj.weight"]]
        qkv += [
            _repeated(weights[f"{attention}.{name}_proj.weight"], shape.d_head, repeats)
            for name in "kv"
        ]
        halves = [weights[f"{mlp}.{name}_proj.weight"] for name in ("gate", "up")]
        found |= {
            f"{ours}.attention.qkv.weight": torch.cat(qkv),
            f"{ours}.attention.out.weight": weights[f"{attention}.o_proj.weight"],
            f"{ours}.mlp.gate_up.weight": torch.cat(halves),
            f"{ours}.mlp.down.weight": weights[f"{mlp}.down_proj.weight"],
        }
    return found


def _arch(norm_eps: float, theta: float) -> str:
    """Our architecture with such norms and positions, as `--arch` names it."""
    return ARCHITECTURES.pin(f"llama:eps={norm_eps!r},theta={theta!r}")


def _key_heads(config: Mapping[str, Any], heads: int) -> int:
    """Heads of keys and values, each of which serves as many heads of queries (Ainslie et al.
    2023)."""
    return int(config.get("num_key_value_heads") or heads)


def _repeated(weight: Tensor, d_head: int, repeats: int) -> Tensor:
    """Rows of a head's keys or values once for each head of queries that it serves."""
    return weight.view(-1, d_head, weight.shape[1]).repeat_interleave(repeats, 0).flatten(0, 1)

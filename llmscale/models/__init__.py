"""The architectures: `--arch llama` is models/llama.py.

A member defines `Model(nn.Module)`, built from a `Shape`:
- `forward(tokens_BT) -> logits_BTV`, where position t sees tokens 0..t and nothing later;
- its weights number exactly `shape.params_total`, with the token embedding in `embed` and the output projection in
  `head`, and GPT-2's learned positions in `positions`;
- `init_weights(generator)` sets every weight from one random generator, scaled for width and depth.
"""

import importlib

import torch
from torch import nn

from llmscale.shape import Shape


def build_model(shape: Shape, seed: int = 0) -> nn.Module:
    """The Transformer of `shape` on the CPU, with weights that depend on `seed` alone."""
    model: nn.Module = importlib.import_module(f"llmscale.models.{shape.arch}").Model(shape)
    generator = torch.Generator().manual_seed(seed)
    model.init_weights(generator)  # type: ignore[operator]
    return model

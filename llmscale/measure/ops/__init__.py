"""The operations that models are made of, each with its gradient: `plain` is ops/plain.py.

A member defines `operations(dtype) -> Operations`. `plain` calls torch and runs everywhere;
`native` runs only on the CPU, several times faster, in fused kernels compiled once a machine. Both
compute matrix products in `dtype` and everything else in float32, and agree within the rounding of
`dtype`."""

import importlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from llmscale.errors import WorkError
from llmscale.errors.command_lines import command_line


class Operations(Protocol):
    """What a model's forward pass is written in. B sequences, T positions, C = d_model, H heads, D
    = d_head.

    The residual stream x_BTC and all weights are float32; what norms, products and activations
    return may be narrower."""

    dtype: torch.dtype
    """Of matrix products and of what they return."""
    one_thread: bool
    """Whether they run only on the calling thread, so that several threads may share a batch."""

    def unchanged(self, weights: Iterable[Tensor]) -> AbstractContextManager[None]:
        """While this lasts, `weights` stay as they are, so that each is cast only once."""

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        """W x + bias, over the last dimension."""

    def linear_by_group(self, x_RC: Tensor, layer: nn.Linear, ends_G: Tensor) -> Tensor:
        """W_g x for rows x that are sorted by their group g, each group's W_g below the one before
        in the layer's weight; ends_G are the rows at which groups end (int32). No bias."""

    def add_and_norm(
        self, x_BTC: Tensor, added_BTC: Tensor | None, norm: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """y = x + added, and norm(y): `norm` is an nn.RMSNorm or nn.LayerNorm."""

    def attention(
        self,
        qkv: Tensor,
        n_head: int,
        rotary: tuple[Tensor, Tensor] | None,
        scale: float,
        seen_TT: Tensor | None = None,
    ) -> Tensor:
        """Causal attention over (B, T, 3 H D): softmax(scale · q kᵀ) v, (B, T, H D), q and k turned
        by `rotary`. Row t of `seen_TT` is true for the positions that t sees; None: up to t."""

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """silu(gate) ⊙ up, of (..., 2 F) holding gate and up (Shazeer 2020, eq. 6)."""

    def gelu(self, x: Tensor) -> Tensor:
        """GELU by its tanh approximation (Hendrycks & Gimpel 2016)."""

    def cross_entropy(
        self,
        x_BTC: Tensor,
        head: nn.Linear,
        targets_BT: Tensor,
        weights_B: Tensor,
        multiplier: float,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropies in nats of softmax(multiplier · W x): sum_b weights_b · mean_t, and all
        of them (B, T). The first has a gradient, the second none. Weights (B, T) are of each token:
        the first is then sum_bt weights_bt · loss."""


def beyond_vocabulary(token: int, vocab_size: int, source: Path | None = None) -> WorkError:
    """The error of a token number that is none, in the text of the token store's file `source`."""
    where, fix = "the text", "prepare the text anew"
    if source:
        where, fix = str(source), f"have it made anew: {command_line('rm', '-r', source.parent)}"
    return WorkError(
        f"{where} holds the token number {token}, and the vocabulary ends at {vocab_size - 1}: "
        "the token store is damaged, or made by another tokenizer",
        fix,
    )


def pick_operations(device: str) -> str:
    """The fastest member that runs on `device` here."""
    from llmscale.measure.ops.compiled import why_not

    return "native" if device == "cpu" and why_not() is None else "plain"


def build_operations(name: str, dtype: str) -> Operations:
    """`plain` or `native` operations with products in `dtype`. Raises WorkError."""
    operations: Operations = importlib.import_module(f"{__name__}.{name}").operations(dtype)
    return operations

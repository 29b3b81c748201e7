"""A model that reads token by token: keys and values of what it has read are kept (Pope et al.
2022).

This needs nothing of an architecture but what it declares (models/__init__.py): its `ops.attention`
has a cache, and takes the rows of `shared` that belong to the new positions. An architecture of a
user's own is tried first; if that gives other logits, all tokens are read again for each."""

import copy
import inspect
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from llmscale.measure.models import scaled
from llmscale.measure.ops import Operations
from llmscale.measure.ops.plain import rotate
from llmscale.measure.transformer import LanguageModel
from llmscale.menu import bare_name, is_own

_TRIED_TOKENS = 96
_ROUNDING = 1e-3
"""By how much cached logits may differ, as a share of the largest: what is wrong differs more."""


class Reader(Protocol):
    """Reads rows of tokens from position 0 on."""

    def read(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, V) of what follows these tokens, which follow those read before."""

    def keep(self, rows: Tensor) -> None:
        """Go on only with the rows of these numbers."""

    def restart(self) -> None:
        """Begin again at position 0."""


def why_not_cached(model: LanguageModel) -> str | None:
    """Why all tokens are read again for each; None if keys and values are kept."""
    name = model.shape.arch
    if not is_own(name):
        return None
    if "first" not in inspect.signature(model.architecture.embedded).parameters:
        return f"{bare_name(name)} embeds tokens without being told their first position"
    if not _agrees(model):
        return f"{bare_name(name)} gives other logits for tokens that it reads one by one"
    return None


class CachedReader:
    """Keeps keys and values."""

    def __init__(self, model: LanguageModel, context: int) -> None:
        self._model, self._read = model, 0
        self._caches = [_Cache(model.ops, context) for _ in model.blocks]
        self._blocks = [
            _with_operations(block, cache)
            for block, cache in zip(model.blocks, self._caches, strict=True)
        ]
        self._shared = model.shared(context)

    def read(self, tokens_BT: Tensor) -> Tensor:
        model, first = self._model, self._read
        x_BTC, added_BTC = model.embedded(tokens_BT, first), None
        for cache, block in zip(self._caches, self._blocks, strict=True):
            cache.begin(first)
            x_BTC, added_BTC, *_ = block(x_BTC, added_BTC, *self._shared)
        self._read += tokens_BT.shape[1]
        last_B1C = added_BTC if added_BTC is None else added_BTC[:, -1:]
        logits_B1V = model.output_logits(x_BTC[:, -1:], last_B1C)
        return scaled(logits_B1V, model.parametrization.logits_multiplier)[:, 0]

    def keep(self, rows: Tensor) -> None:
        for cache in self._caches:
            cache.keep(rows)

    def restart(self) -> None:
        self._read = 0


class Rereader:
    """Reads everything again for each token."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._tokens_BT: Tensor | None = None

    def read(self, tokens_BT: Tensor) -> Tensor:
        before = self._tokens_BT
        self._tokens_BT = tokens_BT if before is None else torch.cat((before, tokens_BT), dim=1)
        logits_BTV: Tensor = self._model(self._tokens_BT)
        return logits_BTV[:, -1]

    def keep(self, rows: Tensor) -> None:
        if self._tokens_BT is not None:
            self._tokens_BT = self._tokens_BT[rows]

    def restart(self) -> None:
        self._tokens_BT = None


class _Cache:
    """The operations of one block, whose attention sees what was read before: those of each call of
    it in the block are kept apart. Otherwise the operations are those of the model."""

    def __init__(self, ops: Operations, context: int) -> None:
        self._ops, self._context = ops, context
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._call, self._first = 0, 0
        self.dtype = ops.dtype
        self.linear, self.add_and_norm = ops.linear, ops.add_and_norm
        self.swiglu, self.gelu = ops.swiglu, ops.gelu

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def begin(self, first: int) -> None:
        """What comes next is read from position `first` on."""
        self._call, self._first = 0, first

    def keep(self, rows: Tensor) -> None:
        self._kept = [(keys[rows], values[rows]) for keys, values in self._kept]

    def attention(
        self,
        qkv: Tensor,
        n_head: int,
        rotary: tuple[Tensor, Tensor] | None,
        scale: float,
        seen_TT: Tensor | None = None,
    ) -> Tensor:
        """As Operations says; `rotary` and `seen_TT` are those of all positions."""
        B, T, _ = qkv.shape
        first, end = self._first, self._first + T
        q_BHTD, k_BHTD, v_BHTD = qkv.view(B, T, 3, n_head, -1).permute(2, 0, 3, 1, 4)
        if rotary is not None:
            cos_TD, sin_TD = (table[first:end] for table in rotary)
            q_BHTD, k_BHTD = rotate(q_BHTD, cos_TD, sin_TD), rotate(k_BHTD, cos_TD, sin_TD)
        if self._call == len(self._kept):
            size = (B, n_head, self._context, q_BHTD.shape[-1])
            self._kept.append((k_BHTD.new_empty(size), v_BHTD.new_empty(size)))
        keys_BHTD, values_BHTD = self._kept[self._call]
        self._call += 1
        keys_BHTD[:, :, first:end] = k_BHTD
        values_BHTD[:, :, first:end] = v_BHTD
        seen = None if seen_TT is None else seen_TT[first:end, :end]
        if seen is None and T > 1 and first:
            seen = torch.ones(T, end, dtype=torch.bool, device=qkv.device).tril(first)
        y_BHTD = F.scaled_dot_product_attention(
            q_BHTD,
            keys_BHTD[:, :, :end],
            values_BHTD[:, :, :end],
            attn_mask=seen,
            is_causal=seen is None and T > 1,
            scale=scale,
        )
        return y_BHTD.transpose(1, 2).reshape(B, T, -1)


def _with_operations(block: Any, ops: _Cache) -> Any:
    """The block with the same weights and other operations."""
    twin = copy.copy(block)
    twin.ops = ops
    return twin


@torch.inference_mode()
def _agrees(model: LanguageModel) -> bool:
    """Whether keeping keys and values gives the logits of `model`."""
    count = min(model.shape.context, _TRIED_TOKENS)
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(model.shape.vocab_size, (2, count), generator=generator)
    tokens_BT = tokens_BT.to(model.embed.weight.device)
    whole_BTV = model(tokens_BT)
    reader = CachedReader(model, count)
    half = -(-count // 2)
    try:
        found = [reader.read(tokens_BT[:, :half])]
        found += [reader.read(tokens_BT[:, place : place + 1]) for place in range(half, count)]
    except Exception:  # whatever the user's file does with fewer positions than it expects
        return False
    difference = (torch.stack(found, dim=1) - whole_BTV[:, half - 1 :]).abs().max()
    return bool(difference <= _ROUNDING * whole_BTV.abs().max())

"""A model that reads token by token: keys and values of what it has read are kept (Pope et al.
2022).

This needs nothing of an architecture but what it declares (models/__init__.py): its `ops.attention`
has a cache, and takes the rows of `shared` that belong to the new positions. An architecture of a
user's own is tried first; if that gives other logits, all tokens are read again for each."""

import inspect
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from llmscale.measure.models import scaled
from llmscale.measure.trained.generation.quick import operations
from llmscale.measure.transformer import Block, LanguageModel
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
        self._model, self._ops = model, operations(model.ops)
        self._place = _Place(context)
        self._caches = [_Cache(self._ops, self._place) for _ in model.blocks]
        self._blocks = [
            cast(Block, block).with_operations(cache)
            for block, cache in zip(model.blocks, self._caches, strict=True)
        ]
        self._shared = model.shared(context)

    def read(self, tokens_BT: Tensor) -> Tensor:
        model, place = self._model, self._place
        place.go_on(tokens_BT.shape[1])
        x_BTC, added_BTC = model.embedded(tokens_BT, place.first), None
        for cache, block in zip(self._caches, self._blocks, strict=True):
            cache.begin()
            x_BTC, added_BTC, *_ = block.forward(x_BTC, added_BTC, *self._shared)
        last_B1C = added_BTC if added_BTC is None else added_BTC[:, -1:]
        _, n_B1C = self._ops.add_and_norm(x_BTC[:, -1:], last_B1C, model.norm)
        logits_B1V = self._ops.linear(n_B1C, model.head)
        return scaled(logits_B1V, model.parametrization.logits_multiplier)[:, 0]

    def keep(self, rows: Tensor) -> None:
        for cache in self._caches:
            cache.keep(rows)

    def restart(self) -> None:
        self._place.restart()


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


class _Place:
    """The positions that are read next, of at most `context`."""

    def __init__(self, context: int) -> None:
        self.context, self.first, self.end = context, 0, 0
        # Next to the tables themselves, so that no other ones get their number.
        self._rows: dict[int, tuple[Any, Tensor, Tensor]] = {}

    def go_on(self, count: int) -> None:
        self.first, self.end = self.end, self.end + count
        self._rows = {}

    def restart(self) -> None:
        self.first = self.end = 0

    def turns(self, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The cosines and sines of these positions, the first half of the sines negative."""
        found = self._rows.get(id(rotary))
        if found is None:
            cos_TD, sin_TD = (table[self.first : self.end] for table in rotary)
            first_half, second_half = sin_TD.chunk(2, dim=-1)
            sin_TD = torch.cat((-first_half, second_half), dim=-1)
            found = self._rows[id(rotary)] = (rotary, cos_TD, sin_TD)
        return found[1:]


class _Cache:
    """The operations of one block, whose attention sees what was read before: of each call of it in
    the block by itself. Otherwise they are `ops`."""

    def __init__(self, ops: Any, place: _Place) -> None:
        self._ops, self._place, self._calls = ops, place, 0
        self._kept: list[tuple[Tensor, Tensor]] = []
        self.dtype = ops.dtype
        self.linear, self.add_and_norm = ops.linear, ops.add_and_norm
        self.swiglu, self.gelu = ops.swiglu, ops.gelu

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def begin(self) -> None:
        """The next call is the first one of the block."""
        self._calls = 0

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
        first, end = self._place.first, self._place.end
        q_BHTD, k_BHTD, v_BHTD = self._turned(qkv.view(B, T, 3 * n_head, -1), n_head, rotary)
        keys_BHTD, values_BHTD = self._next_kept(k_BHTD)
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

    def _turned(
        self, qkv_BTID: Tensor, n_head: int, rotary: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, ...]:
        """Queries, keys and values of each head (B, H, T, D), the first two turned by `rotary`."""
        qkv_BITD = qkv_BTID.transpose(1, 2)
        if rotary is None:
            return qkv_BITD.split(n_head, dim=1)
        qk_BITD, v_BHTD = qkv_BITD.split((2 * n_head, n_head), dim=1)
        cos_TD, sin_TD = self._place.turns(rotary)
        # As ops.plain.rotate, of both at once: each pair's other half times the sine.
        others_BITD = qk_BITD.roll(qk_BITD.shape[-1] // 2, dims=-1)
        qk_BITD = torch.addcmul(qk_BITD * cos_TD, others_BITD, sin_TD).type_as(v_BHTD)
        return *qk_BITD.split(n_head, dim=1), v_BHTD

    def _next_kept(self, k_BHTD: Tensor) -> tuple[Tensor, Tensor]:
        """Where keys and values of this call of attention are kept."""
        if self._calls == len(self._kept):
            B, H, _, D = k_BHTD.shape
            size = (B, H, self._place.context, D)
            self._kept.append((k_BHTD.new_empty(size), k_BHTD.new_empty(size)))
        self._calls += 1
        return self._kept[self._calls - 1]


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

"""Operations on the CPU in fused kernels of one thread each (native.c), compiled once a machine.

Weights are cast to the products' type once a step. What lies between the matrix products is one
pass over memory, and attention never computes its masked half nor writes its scores. torch computes
the products themselves."""

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmscale.measure.ops import beyond_vocabulary
from llmscale.measure.ops.compiled import library
from llmscale.measure.ops.plain import Plain, weighted_sum

LARGEST_HEAD = 1024
"""MAX_HEAD of native.c."""
CHUNK_ROWS = 512
"""Tokens whose logits are held at a time."""


class Native:
    """See ops/__init__.py. Threads may share one object, each with tensors of its own."""

    one_thread = True

    def __init__(self, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)
        self.suffix = {"float32": "f32", "bfloat16": "bf16"}[dtype]
        self._casts: dict[int, Tensor] = {}

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        return _Linear.apply(x, layer.weight, layer.bias, self.cast(layer.weight))

    def linear_by_group(self, x_RC: Tensor, layer: nn.Linear, ends_G: Tensor) -> Tensor:
        return _LinearByGroup.apply(x_RC, layer.weight, self.cast(layer.weight), ends_G.tolist())

    def add_and_norm(
        self, x_BTC: Tensor, added_BTC: Tensor | None, norm: nn.Module
    ) -> tuple[Tensor, Tensor]:
        if isinstance(norm, nn.RMSNorm):
            return _AddRMSNorm.apply(x_BTC, added_BTC, norm.weight, norm.eps, self)
        assert isinstance(norm, nn.LayerNorm)
        return _AddLayerNorm.apply(x_BTC, added_BTC, norm.weight, norm.bias, norm.eps, self)

    def attention(
        self,
        qkv: Tensor,
        n_head: int,
        rotary: tuple[Tensor, Tensor] | None,
        scale: float,
        seen_TT: Tensor | None = None,
    ) -> Tensor:
        if seen_TT is not None or qkv.shape[-1] // (3 * n_head) > LARGEST_HEAD:
            return Plain("float32").attention(qkv, n_head, rotary, scale, seen_TT)
        return _Attention.apply(qkv, n_head, *(rotary or (None, None)), scale, self)

    def swiglu(self, gate_up: Tensor) -> Tensor:
        return _SwiGLU.apply(gate_up, self)

    def gelu(self, x: Tensor) -> Tensor:
        return _GELU.apply(x, self)

    def cross_entropy(
        self,
        x_BTC: Tensor,
        head: nn.Linear,
        targets_BT: Tensor,
        weights_B: Tensor,
        multiplier: float,
    ) -> tuple[Tensor, Tensor]:
        return _CrossEntropy.apply(
            x_BTC, head.weight, self.cast(head.weight), targets_BT, weights_B, multiplier, self
        )

    @contextmanager
    def unchanged(self, weights: Iterable[Tensor]) -> Iterator[None]:
        # Weights do not tell by their version that an optimiser's fused kernel has changed them.
        narrow = self.dtype != torch.float32
        self._casts = {
            id(weight): weight.detach().to(self.dtype)
            for weight in weights
            if narrow and weight.dim() > 1
        }
        try:
            yield
        finally:
            self._casts = {}

    def cast(self, weight: Tensor) -> Tensor:
        """`weight` in the products' type."""
        cast = self._casts.get(id(weight))
        return weight.detach().to(self.dtype) if cast is None else cast

    def call(self, name: str, *arguments: Any) -> Any:
        """Run a kernel of this type on contiguous tensors and numbers."""
        return getattr(library(), f"{name}_{self.suffix}")(*map(_argument, arguments))


def operations(dtype: str) -> Native:
    return Native(dtype)


def _argument(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Tensor):
        assert value.is_contiguous()
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_long(value)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, cast: Tensor) -> Tensor:
        ctx.save_for_backward(x, cast)
        ctx.has_bias = bias is not None
        return torch.nn.functional.linear(x, cast, bias if bias is None else bias.to(cast.dtype))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        x, cast = ctx.saved_tensors
        d_y = slopes[0]
        flat = d_y.flatten(0, -2)
        d_bias = flat.sum(dim=0, dtype=torch.float32) if ctx.has_bias else None
        return d_y @ cast, flat.t() @ x.flatten(0, -2), d_bias, None


class _LinearByGroup(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_RC: Tensor, weight: Tensor, cast: Tensor, ends: Sequence[int]
    ) -> Tensor:
        ctx.save_for_backward(x_RC, cast)
        ctx.ends = ends
        parts = x_RC.tensor_split(ends[:-1])
        products = zip(parts, cast.chunk(len(ends)), strict=True)
        return torch.cat([part @ matrix.t() for part, matrix in products])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        x_RC, cast = ctx.saved_tensors
        inner = ctx.ends[:-1]
        parts, slope_parts = x_RC.tensor_split(inner), slopes[0].tensor_split(inner)
        matrices = cast.chunk(len(ctx.ends))
        d_x = torch.cat([d_y @ one for d_y, one in zip(slope_parts, matrices, strict=True)])
        d_weight = torch.cat([d_y.t() @ x for d_y, x in zip(slope_parts, parts, strict=True)])
        return d_x, d_weight, None, None


class _AddRMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, added: Tensor | None, weight: Tensor, epsilon: float, native: Native
    ) -> Any:
        x, rows, width = x.contiguous(), x.numel() // x.shape[-1], x.shape[-1]
        y = x if added is None else torch.empty_like(x)
        n, scale = torch.empty_like(x, dtype=native.dtype), x.new_empty(rows)
        native.call("rms_norm_forward", x, added, weight, y, n, scale, rows, width, float(epsilon))
        ctx.save_for_backward(y, weight, scale)
        ctx.set_materialize_grads(False)
        ctx.native, ctx.has_added = native, added is not None
        return (x.view_as(x) if added is None else y), n

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> Any:
        y, weight, scale = ctx.saved_tensors
        d_y, d_n = _norm_slopes(slopes, y, ctx.native)
        rows, width = y.numel() // y.shape[-1], y.shape[-1]
        dx, d_weight = torch.empty_like(y), torch.zeros_like(weight)
        d_added = torch.empty_like(y, dtype=ctx.native.dtype) if ctx.has_added else None
        ctx.native.call(
            "rms_norm_backward", d_y, d_n, y, weight, scale, dx, d_added, d_weight, rows, width
        )
        return dx, d_added, d_weight, None, None


class _AddLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        added: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        epsilon: float,
        native: Native,
    ) -> Any:
        x, rows, width = x.contiguous(), x.numel() // x.shape[-1], x.shape[-1]
        y = x if added is None else torch.empty_like(x)
        n = torch.empty_like(x, dtype=native.dtype)
        mean, scale = x.new_empty(rows), x.new_empty(rows)
        read, written = (x, added, weight, bias), (y, n, mean, scale)
        native.call("layer_norm_forward", *read, *written, rows, width, float(epsilon))
        ctx.save_for_backward(y, weight, mean, scale)
        ctx.set_materialize_grads(False)
        ctx.native, ctx.has_added = native, added is not None
        return (x.view_as(x) if added is None else y), n

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> Any:
        y, weight, mean, scale = ctx.saved_tensors
        d_y, d_n = _norm_slopes(slopes, y, ctx.native)
        rows, width = y.numel() // y.shape[-1], y.shape[-1]
        dx = torch.empty_like(y)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        d_added = torch.empty_like(y, dtype=ctx.native.dtype) if ctx.has_added else None
        read, written = (d_y, d_n, y, weight, mean, scale), (dx, d_added, d_weight, d_bias)
        ctx.native.call("layer_norm_backward", *read, *written, rows, width)
        return dx, d_added, d_weight, d_bias, None, None


def _norm_slopes(
    slopes: tuple[Tensor | None, ...], y: Tensor, native: Native
) -> tuple[Tensor | None, Tensor]:
    """The gradients of a norm's two results: the first may be missing, if nothing reads the sum."""
    d_y, d_n = slopes
    d_n = torch.zeros_like(y, dtype=native.dtype) if d_n is None else d_n.contiguous()
    return None if d_y is None else d_y.contiguous(), d_n


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        n_head: int,
        cos: Tensor | None,
        sin: Tensor | None,
        scale: float,
        native: Native,
    ) -> Tensor:
        qkv = qkv.contiguous()
        B, T, width = qkv.shape
        d_head = width // 3 // n_head
        out, lse = qkv.new_empty(B, T, width // 3), qkv.new_empty(B, n_head, T, dtype=torch.float32)
        native.call(
            "attention_forward", qkv, cos, sin, out, lse, B, T, n_head, d_head, float(scale)
        )
        ctx.save_for_backward(qkv, cos, sin, out, lse)
        ctx.sizes, ctx.scale, ctx.native = (B, T, n_head, d_head), scale, native
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        qkv, cos, sin, out, lse = ctx.saved_tensors
        d_qkv = torch.empty_like(qkv)
        d_out = slopes[0].contiguous()
        tensors = (d_out, qkv, cos, sin, out, lse, d_qkv)
        ctx.native.call("attention_backward", *tensors, *ctx.sizes, float(ctx.scale))
        return d_qkv, None, None, None, None, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, native: Native) -> Tensor:
        gate_up, width = gate_up.contiguous(), gate_up.shape[-1] // 2
        h = gate_up.new_empty(*gate_up.shape[:-1], width)
        native.call("swiglu_forward", gate_up, h, h.numel() // width, width)
        ctx.save_for_backward(gate_up)
        ctx.native = native
        return h

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (gate_up,) = ctx.saved_tensors
        d_gate_up, width = torch.empty_like(gate_up), gate_up.shape[-1] // 2
        d_h = slopes[0].contiguous()
        ctx.native.call("swiglu_backward", d_h, gate_up, d_gate_up, d_h.numel() // width, width)
        return d_gate_up, None


class _GELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, native: Native) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        native.call("gelu_forward", x, y, x.numel())
        ctx.save_for_backward(x)
        ctx.native = native
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        dx = torch.empty_like(x)
        ctx.native.call("gelu_backward", slopes[0].contiguous(), x, dx, x.numel())
        return dx, None


class _CrossEntropy(torch.autograd.Function):
    """The output and its loss, a chunk of tokens at a time, gradients in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BTC: Tensor,
        weight: Tensor,
        cast: Tensor,
        targets_BT: Tensor,
        weights_B: Tensor,
        multiplier: float,
        native: Native,
    ) -> Any:
        B, T, C = x_BTC.shape
        x, targets = x_BTC.reshape(B * T, C), targets_BT.flatten()
        training = any(ctx.needs_input_grad[:2])  # the output itself may be frozen
        losses = x.new_empty(B * T, dtype=torch.float32)
        d_x = torch.empty_like(x) if training else None
        d_weight = torch.zeros_like(weight) if training else None
        if weights_B.dim() > 1:
            each = (weights_B * multiplier).flatten()
        else:
            each = (weights_B * (multiplier / T)).repeat_interleave(T)
        factors = each.to(x.dtype)[:, None]
        for first in range(0, B * T, CHUNK_ROWS):
            chunk = slice(first, first + CHUNK_ROWS)
            logits = x[chunk] @ cast.t()
            if multiplier != 1:
                logits *= multiplier
            rows, width = logits.shape
            wrong = native.call(
                "cross_entropy", logits, targets[chunk], losses[chunk], rows, width, int(training)
            )
            if wrong:
                raise beyond_vocabulary(int(targets[chunk][wrong - 1]), width)
            if d_x is not None and d_weight is not None:
                torch.mm(logits, cast, out=d_x[chunk])
                d_x[chunk] *= factors[chunk]
                d_weight += logits.t() @ (x[chunk] * factors[chunk])
        losses_BT = losses.view(B, T)
        ctx.save_for_backward(None if d_x is None else d_x.view(B, T, C), d_weight)
        ctx.mark_non_differentiable(losses_BT)
        return weighted_sum(losses_BT, weights_B), losses_BT

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        d_x, d_weight = ctx.saved_tensors
        if float(slopes[0]) != 1:
            d_x, d_weight = d_x * slopes[0].to(d_x.dtype), d_weight * slopes[0]
        return d_x, d_weight, None, None, None, None, None

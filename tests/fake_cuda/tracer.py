"""What a program does on a fake device: its operations, the bytes they move, their FLOPs, and the
memory they hold.

And what it should not do inside a training step: wait for the device, or work with tensors that lie
elsewhere.

An operation is one call into ATen that has a kernel to start on the device. Views and new, unfilled
tensors start none. A foreach or fused operation over many tensors counts as one, though torch may
start a kernel for every hundred or so; a reduction or a norm's gradient counts as one, though it
may take two or three. What is traced is what torch calls if it is built without CUDA: RMSNorm in
about twenty operations, forward and backward, which newer versions of torch have as fused kernels
on a GPU. There it also keeps less memory for the backward pass."""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

aten = torch.ops.aten

NOT_STARTED = {
    torch.ops.prim.device.default,
    aten._has_same_storage_numel.default,
    aten._unsafe_view.default,
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.is_same_size.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
"""Operations that start nothing on the device, besides views."""
COPIES = {aten._to_copy.default, aten.copy_.default}
READ_BY_HOST = {aten.fill_.Tensor}
"""Operations that take a number from a tensor of the host, and are none the slower for it."""
GATHERING = {
    aten.embedding.default,
    aten.gather.default,
    aten.index.Tensor,
    aten.index_select.default,
}
"""Operations that read as much of their first argument as they write."""
ATTENTION = {
    aten._scaled_dot_product_cudnn_attention,
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_flash_attention,
}
ATTENTION_BACKWARD = {
    aten._scaled_dot_product_cudnn_attention_backward,
    aten._scaled_dot_product_efficient_attention_backward,
    aten._scaled_dot_product_flash_attention_backward,
}


@register_flop_formula(aten._grouped_mm)
def _grouped_flops(a: Any, b: Any, *_: Any, **__: Any) -> int:
    """Of (R, C) x (G, C, O), each row by the matrix of its group; and of (C, R) x (R, O)."""
    rows, inner = a
    return int(2 * rows * inner * b[-1])


class HostWaitsError(Exception):
    """The host waits for the device, which then waits for the host's next operation."""


class OffDeviceError(Exception):
    """An operation on the device reads a tensor that lies elsewhere."""


@dataclass
class Phase:
    """What happened on the device in one part of a step."""

    launches: int = 0
    """Operations, as above."""
    bytes: int = 0
    """Read and written, if every operation reads its inputs once and writes its results once."""
    matmul_flops: int = 0
    """Two for each product of numbers."""
    attention_flops: int = 0
    """Of full attention, not causal; without the scores that a flash kernel computes again in its
    backward pass.
    """
    peak_bytes: int = 0
    """The most that tensors held at once: without kernels' own scratch memory, and what an
    allocator rounds up.
    """
    operations: dict[str, int] = field(default_factory=dict)
    """Launches by name."""


class Tracer(TorchDispatchMode):
    """Counts by phase. Enter it after FakeTensorMode, before the first tensor is made."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: dict[str, Phase] = {}
        self._phase = Phase()
        self._strict = False
        self._live: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._live_bytes = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done inside under `name`, added to what was counted there before."""
        outer, self._phase = self._phase, self.phases.setdefault(name, Phase())
        self._see_peak()
        try:
            yield
        finally:
            self._phase = outer

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Inside, raise HostWaitsError for
        - a result that the host must see to go on: `.item()`, `float(x)`, `.tolist()`, `if x:`, and
          results whose size depends on values, as of `nonzero`, `masked_select`, or an index of
          booleans;
        - a copy between host and device without `non_blocking`: `.cpu()`, `.to(...)`, `copy_`, and
          `torch.tensor(1.0, device="cuda")`. Whether the host's memory is pinned is not looked at.
          Raise OffDeviceError for an operation that reads tensors of both, a number in a tensor of
          the host included."""
        self._strict = True
        try:
            yield
        finally:
            self._strict = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        inputs = list(_tensors((args, kwargs)))
        if self._strict:
            _check(func, inputs, args, kwargs)
        result = func(*args, **kwargs)
        outputs = [tensor for tensor in _tensors(result) if on_device(tensor)]
        if _is_view(func):
            return result
        for tensor in outputs:
            self._hold(tensor)
        if func not in NOT_STARTED and (outputs or any(map(on_device, inputs))):
            self._count(func, args, kwargs, inputs, outputs, result)
        return result

    def _count(
        self,
        func: OpOverload,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        inputs: Iterable[Tensor],
        outputs: list[Tensor],
        result: Any,
    ) -> None:
        phase, packet = self._phase, func.overloadpacket
        phase.launches += 1
        name = packet.__name__
        phase.operations[name] = phase.operations.get(name, 0) + 1
        phase.bytes += _bytes_moved(func, args, kwargs, inputs, outputs)
        if packet in ATTENTION:
            phase.attention_flops += _attention_flops(*args[:2])
        elif (
            packet in ATTENTION_BACKWARD
        ):  # its first argument is the gradient of what the other returned
            phase.attention_flops += 2 * _attention_flops(*args[1:3])
        elif packet in flop_registry:
            phase.matmul_flops += flop_registry[packet](*args, **kwargs, out_val=result)

    def _hold(self, tensor: Tensor) -> None:
        """Count the memory of `tensor` until nobody holds it any more, neither Python nor
        autograd.
        """
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        live, size = self._live, storage.nbytes()

        def freed(_: object) -> None:
            self._live_bytes -= live.pop(key)[1]

        live[key] = (weakref.ref(storage, freed), size)
        self._live_bytes += size
        self._see_peak()

    def _see_peak(self) -> None:
        self._phase.peak_bytes = max(self._phase.peak_bytes, self._live_bytes)


def on_device(tensor: Tensor) -> bool:
    return _device_type(tensor) == "cuda"


def _device_type(tensor: Tensor) -> str:
    # Of a fake tensor `device` is a call that goes through all modes; this attribute is none.
    device: torch.device = getattr(tensor, "fake_device", None) or tensor.device
    return device.type


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in arguments or results: those of ATen nest them in lists and tuples alone."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)


@cache
def _is_view(func: OpOverload) -> bool:
    return bool(func.is_view)


@cache
def _waits(func: OpOverload) -> bool:
    """Whether the host must see values before it can go on: torch tags such operations."""
    if func in GATHERING:  # an index is one of them only if it is of booleans
        return False
    return bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags))


def _check(
    func: OpOverload, inputs: list[Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Raise HostWaitsError or OffDeviceError if `func` is one of what Tracer.strict names."""
    places = {_device_type(tensor) for tensor in inputs}
    if func in COPIES:
        if func is aten.copy_.default:
            non_blocking = kwargs.get("non_blocking") or args[2:3] == (True,)
        else:
            non_blocking = kwargs.get("non_blocking")
            if kwargs.get("device") is not None:
                places.add(torch.device(kwargs["device"]).type)
        if {"cpu", "cuda"} <= places and not non_blocking:
            raise HostWaitsError(f"{func} between the host and the device, without non_blocking")
    elif "cuda" not in places:
        return
    elif _waits(func) or (func is aten.index.Tensor and any(map(_is_mask, _tensors(args[1])))):
        raise HostWaitsError(f"{func} needs values that are on the device")
    elif len(places) > 1 and func not in READ_BY_HOST:
        shapes = [tuple(tensor.shape) for tensor in inputs if not on_device(tensor)]
        raise OffDeviceError(
            f"{func} reads tensors of the host, of shapes {shapes}, and of the device"
        )


def _is_mask(index: Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def _bytes_moved(
    func: OpOverload,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    inputs: Iterable[Tensor],
    outputs: list[Tensor],
) -> int:
    """Bytes read and written."""
    written = {id(tensor): tensor for tensor in outputs}
    overwritten: set[int] = set()
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = (
            kwargs.get(argument.name) if argument.kwarg_only or place >= len(args) else args[place]
        )
        for tensor in _tensors(value):
            written[id(tensor)] = tensor
            if argument.is_out or _only_writes(func):
                overwritten.add(id(tensor))
    read = {id(tensor): tensor for tensor in inputs if id(tensor) not in overwritten}
    if func in GATHERING:
        del read[id(args[0])]
        written_bytes = sum(map(_bytes, written.values()))
        return 2 * written_bytes + sum(map(_bytes, read.values()))
    return sum(map(_bytes, read.values())) + sum(map(_bytes, written.values()))


@cache
def _only_writes(func: OpOverload) -> bool:
    """Whether `func` changes its first argument without reading it."""
    return func.overloadpacket.__name__ in {
        *("copy_", "fill_", "normal_", "uniform_", "zero_"),
        *("_foreach_copy_", "_foreach_zero_"),
    }


def _bytes(tensor: Tensor) -> int:
    """What `tensor` takes on the device; what is expanded over a dimension, once."""
    if not on_device(tensor):
        return 0
    numel = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numel *= size if stride else 1
    return numel * tensor.element_size()


def _attention_flops(q: Tensor, k: Tensor) -> int:
    """Of q kᵀ and of its product with v, of equal width: (..., H, T, D)."""
    *batch, queries, width = q.shape
    products = queries * k.shape[-2] * width
    for size in batch:
        products *= size
    return 2 * 2 * products

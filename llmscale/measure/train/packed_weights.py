"""Weights of few bits, as they are stored: whole numbers without gaps between them, and a scale for
each group of them.

    NAME:packed   uint8, the numbers of 2 to 8 bits one after the other, from -2^(bits - 1) on
    NAME:scale    float16 (rows, groups): a weight is its number times the scale of its group

Weights that are not rounded stand under their own names, as in every file of weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BITS = "bits"
"""The note of a file that says how many its numbers have."""
PACKED, SCALE = ":packed", ":scale"
_WIDTHS = range(2, 9)


@dataclass(frozen=True)
class Rounded:
    """A weight of `bits` bits: whole numbers (rows, columns) and scales (rows, groups)."""

    numbers: Tensor
    scales: Tensor
    bits: int

    def stored(self, name: str) -> dict[str, Tensor]:
        """The tensors that a file has for the weight `name`."""
        unsigned = (self.numbers.to(torch.int16) + (1 << self.bits - 1)).to(torch.uint8)
        each = np.unpackbits(unsigned.numpy().reshape(-1, 1), axis=1)[:, 8 - self.bits :]
        packed = torch.from_numpy(np.packbits(each))
        return {name + PACKED: packed, name + SCALE: self.scales.half().contiguous()}


def unpacked(
    stored: Mapping[str, Tensor], notes: Mapping[str, str], sizes: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    """The weights of a file by their names, those that are packed in float32 and of `sizes`. Raises
    ValueError for what cannot be unpacked."""
    if BITS not in notes:
        return dict(stored)
    bits = int(notes[BITS])
    if bits not in _WIDTHS:
        raise ValueError(f"its weights are of {bits} bits")
    found = {name: weight for name, weight in stored.items() if ":" not in name}
    for name in stored:
        if name.endswith(PACKED):
            own = name.removesuffix(PACKED)
            if own not in sizes or own + SCALE not in stored:
                raise ValueError(f"{own} is no weight of its model, or has no scales")
            found[own] = _unpacked(stored[name], stored[own + SCALE], bits, sizes[own])
    return found


def _unpacked(packed: Tensor, scales: Tensor, bits: int, size: torch.Size) -> Tensor:
    if packed.dtype != torch.uint8 or scales.dtype != torch.float16:
        raise ValueError("its packed weights or their scales are of another type")
    count, columns = size.numel(), size[-1] if size else 1
    groups = scales.shape[-1] if scales.dim() == 2 else 0
    if (
        packed.shape != (-(-count * bits // 8),)
        or not groups
        or columns % groups
        or len(scales) * columns != count
    ):
        raise ValueError("its packed weights or their scales are of another size")
    if not scales.isfinite().all():
        raise ValueError("it has scales that are no finite numbers")
    each = np.unpackbits(packed.numpy())[: count * bits].reshape(-1, bits)
    numbers = np.packbits(np.pad(each, ((0, 0), (8 - bits, 0))), axis=1)[:, 0]
    signed = torch.from_numpy(numbers).to(torch.float32) - (1 << bits - 1)
    scaled = signed.view(-1, groups, columns // groups) * scales.float().view(-1, groups, 1)
    return scaled.view(size)

"""Weights rounded to whole numbers of few bits, by torchao: symmetric, a scale for each group of a
row. (Its int4 kernels need a GPU; rounding and scales are the same everywhere.)"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO

import torch
from torch import Tensor, nn

from llmscale.errors import InputError
from llmscale.measure.train.packed_weights import Rounded


@dataclass(frozen=True)
class RoundedWeights:
    """The weights of a model as a file has them, and how many bits those have that are rounded."""

    stored: Mapping[str, Tensor]
    rounded: int
    """Weights that were rounded; others, such as those of norms, are as they were."""

    @property
    def bytes(self) -> int:
        """Of the numbers, their scales and all other weights."""
        return sum(weight.nbytes for weight in self.stored.values())


def check_matrices(
    weights: Mapping[str, Tensor], bits: Sequence[int], group: int, run_id: str
) -> None:
    """Raise InputError for a matrix that cannot be rounded in all of `bits`."""
    most = torch.finfo(torch.float16).max * (2 ** min(bits) - 1) / 2
    for name, weight in weights.items():
        if weight.dim() < 2:
            continue
        columns = weight.shape[-1]
        if math.gcd(columns, group) == 1:
            raise InputError(
                f"--group {group} has no factor in common with the {columns} weights of a row of "
                f"{name} of run {run_id}",
                f"give another group, as in --group {columns}",
            )
        if weight.abs().max() > most:
            raise InputError(
                f"{name} of run {run_id} has weights above {most:.3g}, too large for a scale of "
                "float16",
                "name a results folder without this run",
            )


def round_weights(weights: Mapping[str, Tensor], bits: int, group: int) -> RoundedWeights:
    """All matrices of a model, embeddings too, in `bits` bits."""
    stored: dict[str, Tensor] = {}
    count = 0
    for name, weight in weights.items():
        if weight.dim() < 2:
            stored[name] = weight
            continue
        count += weight.numel()
        stored.update(round_matrix(weight.float(), bits, group).stored(name))
    return RoundedWeights(stored, count)


def round_matrix(weight: Tensor, bits: int, group: int) -> Rounded:
    """A matrix, or several of them, in whole numbers and one scale for `group` weights of a row:
    for fewer if its length is no multiple."""
    with _quietly():
        from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_

    rows = weight.reshape(-1, weight.shape[-1])
    layer = nn.Linear(rows.shape[1], rows.shape[0], bias=False)
    layer.weight = nn.Parameter(rows.clone(), requires_grad=False)
    quantize_(
        layer,
        IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, f"int{bits}"),
            granularity=PerGroup(math.gcd(rows.shape[1], group)),
            scale_dtype=torch.float16,
        ),
    )
    found = layer.weight
    return Rounded(found.qdata, found.scale, bits)  # type: ignore[attr-defined]


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torchao says, as it is imported, of kernels that it has not for this machine."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(disabled)

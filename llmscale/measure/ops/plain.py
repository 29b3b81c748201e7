"""Operations in torch's own functions, on any device."""

import contextlib
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain:
    """Matrix products in `dtype`; weights of another type are cast for each product."""

    one_thread = False

    def __init__(self, dtype: str) -> None:
        self.dtype = getattr(torch, dtype)

    def unchanged(self, weights: Iterable[Tensor]) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        return self.product(x, layer.weight, layer.bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W x + bias, over the last dimension."""
        narrow_bias = None if bias is None else bias.to(self.dtype)
        return F.linear(x.to(self.dtype), weight.to(self.dtype), narrow_bias)

    def linear_by_group(self, x_RC: Tensor, layer: nn.Linear, ends_G: Tensor) -> Tensor:
        weight_GOC = layer.weight.to(self.dtype).view(len(ends_G), -1, x_RC.shape[-1])
        # torch's own kernel, which compilers and GPUs take in bfloat16 only.
        takes_all = x_RC.is_cpu and not torch.compiler.is_compiling()
        compute = grouped if takes_all or self.dtype == torch.bfloat16 else by_blocks
        return compute(x_RC.to(self.dtype), weight_GOC, ends_G)

    def add_and_norm(
        self, x_BTC: Tensor, added_BTC: Tensor | None, norm: nn.Module
    ) -> tuple[Tensor, Tensor]:
        y_BTC = x_BTC if added_BTC is None else x_BTC + added_BTC
        return y_BTC, norm(y_BTC)

    def attention(
        self,
        qkv: Tensor,
        n_head: int,
        rotary: tuple[Tensor, Tensor] | None,
        scale: float,
        seen_TT: Tensor | None = None,
    ) -> Tensor:
        B, T, _ = qkv.shape
        q_BHTD, k_BHTD, v_BHTD = qkv.view(B, T, 3, n_head, -1).permute(2, 0, 3, 1, 4)
        if rotary is not None:
            q_BHTD, k_BHTD = rotate(q_BHTD, *rotary), rotate(k_BHTD, *rotary)
        y_BHTD = F.scaled_dot_product_attention(
            q_BHTD, k_BHTD, v_BHTD, attn_mask=seen_TT, is_causal=seen_TT is None, scale=scale
        )
        return y_BHTD.transpose(1, 2).reshape(B, T, -1)

    def swiglu(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    def cross_entropy(
        self,
        x_BTC: Tensor,
        head: nn.Linear,
        targets_BT: Tensor,
        weights_B: Tensor,
        multiplier: float,
    ) -> tuple[Tensor, Tensor]:
        losses_BT = cross_entropies(self.linear(x_BTC, head), targets_BT, multiplier)
        return weighted_sum(losses_BT, weights_B), losses_BT.detach()


def operations(dtype: str) -> Plain:
    return Plain(dtype)


def cross_entropies(logits: Tensor, targets: Tensor, multiplier: float) -> Tensor:
    """-ln softmax(multiplier · logits)[target] in nats, float32, of (..., V) logits."""
    rows = logits.flatten(0, -2).float()
    if multiplier != 1:
        rows = rows * multiplier
    return F.cross_entropy(rows, targets.flatten(), reduction="none").view_as(targets)


def taught_losses(
    logits_BTV: Tensor,
    targets_BT: Tensor,
    weights_B: Tensor,
    teacher_BTV: Tensor,
    weight: float,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """As Operations.cross_entropy, but that the first is of (1 - w) · cross-entropy + w T² ·
    KL(softmax(teacher / T) || softmax(logits / T))  (Hinton et al. 2015, section 2)."""
    losses_BT = cross_entropies(logits_BTV, targets_BT, 1.0)
    ours_BTV = F.log_softmax(logits_BTV / temperature, dim=-1)
    theirs_BTV = F.log_softmax(teacher_BTV.float() / temperature, dim=-1)
    apart_BT = (theirs_BTV.exp() * (theirs_BTV - ours_BTV)).sum(dim=-1)
    taught_BT = (1 - weight) * losses_BT + weight * temperature**2 * apart_BT
    return weighted_sum(taught_BT, weights_B), losses_BT.detach()


def grouped(x_RC: Tensor, weight_GOC: Tensor, ends_G: Tensor) -> Tensor:
    """W_g x for rows sorted by group, each group's rows up to its end: (R, O)."""
    outputs, inputs = weight_GOC.shape[1:]
    # The kernel reads 16 bytes at a time, so that widths are filled up to multiples of that.
    width = 16 // weight_GOC.element_size()
    if inputs % width or outputs % width:
        weight_GOC = F.pad(weight_GOC, (0, -inputs % width, 0, -outputs % width))
        x_RC = F.pad(x_RC, (0, -inputs % width))
    y_RO: Tensor = F.grouped_mm(x_RC, weight_GOC.transpose(1, 2), offs=ends_G)
    return y_RO[:, :outputs]


def by_blocks(x_RC: Tensor, weight_GOC: Tensor, ends_G: Tensor) -> Tensor:
    """As `grouped`, in one batched product of blocks of equally many rows, each of one group.

    How many blocks there are does not depend on the groups' sizes, which the host need not know."""
    R, G, device = len(x_RC), len(weight_GOC), x_RC.device
    size = max(1, R // (4 * G))  # an eighth of the rows are empty, if groups are equally large
    count = -(-R // size) + G
    starts_G = F.pad(ends_G[:-1], (1, 0))
    last_block_G = ((ends_G - starts_G + size - 1) // size).cumsum(dim=0)
    first_block_G = F.pad(last_block_G[:-1], (1, 0))
    group_of_row = (torch.arange(R, device=device)[:, None] >= ends_G[:-1]).sum(dim=1)
    group_of_block = (torch.arange(count, device=device)[:, None] >= last_block_G[:-1]).sum(dim=1)
    place_R = torch.arange(R, device=device) + (first_block_G * size - starts_G)[group_of_row]
    blocks = x_RC.new_zeros(count * size, x_RC.shape[-1]).index_copy(0, place_R, x_RC)
    weights = weight_GOC.index_select(0, group_of_block)
    y = torch.bmm(blocks.view(count, size, -1), weights.transpose(1, 2))
    return y.flatten(0, 1).index_select(0, place_R)


def weighted_sum(losses_BT: Tensor, weights_B: Tensor) -> Tensor:
    """sum_b weights_b · mean_t loss, or sum_bt weights_bt · loss if every token has a weight."""
    if weights_B.dim() > 1:
        return (losses_BT * weights_B).sum()
    return (losses_BT.mean(dim=-1) * weights_B).sum()


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i+D/2}) by its position's angle (Su et al. 2021, eq. 34)."""
    first, second = x_BHTD.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (x_BHTD * cos_TD + turned * sin_TD).type_as(x_BHTD)

"""A Transformer as in LLaMA whose MLPs are mixtures of experts (Shazeer et al. 2017): E of them, of
which a router chooses k for each token. `moe:16x2` chooses 2 of 16; `moe` is `moe:8x2`.

    p = softmax(W_router m)                            over the experts, m = RMSNorm(h) in float32
    MLP(m) = sum over the k largest p_e of g_e · W_down_e (silu(W_gate_e m) ⊙ W_up_e m)

with g = p if k = 1 (Switch: Fedus et al. 2021, eq. 2), and p over the sum of the chosen ones if
k > 1 (Shazeer et al. 2017, eq. 3-5: the softmax of the k largest logits). No token is dropped.

Training adds to the cross-entropy of each sequence, for each block,

    BALANCE · E · sum over e of f_e P_e        f: shares of the choices, P: means of p over the
                                               sequence (Fedus et al. 2021, eq. 4-6)
    + Z · mean of (ln sum exp W_router m)²     (ST-MoE: Zoph et al. 2022, eq. 5)

with the weights that OLMoE uses (Muennighoff et al. 2024, section 2). It is taken of a sequence,
and not of a batch, so that what a batch gives does not depend on how it is cut up (DeepSeek-AI
2024, V3, eq. 17-20).

Each expert has 1/k of the hidden units of LLaMA's usual MLP, so that a model of a size does the
work of LLaMA's of that size, but for the router. Sizes, `params` and FLOPs count the weights that
work on a token; `params_total` all, and so does the estimate of memory."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError
from llmscale.measure.models import Layer, Linear, Weight, scaled
from llmscale.measure.models.llama import Llama
from llmscale.runs.shape import Counts, Shape

if TYPE_CHECKING:
    from torch import Tensor

BALANCE, Z = 0.01, 0.001
"""Weights of the balance loss and of the router's z-loss."""
MOST_EXPERTS = 1024


class MixtureOfExperts(Llama):
    """LLaMA with `experts` MLPs a block, of which `chosen` work on a token."""

    def __init__(self, experts: int = 8, chosen: int = 2) -> None:
        super().__init__()
        self.experts, self.chosen = experts, chosen
        self.d_ff_ratio = Llama.d_ff_ratio / chosen  # type: ignore[misc]
        self.d_ff_granule = max(1, Llama.d_ff_granule // chosen)  # type: ignore[misc]

    def with_options(self, text: str) -> "tuple[MixtureOfExperts, str]":
        """`moe:16x2`: how many experts there are, and how many work on a token."""
        given = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text or f"{self.experts}x{self.chosen}")
        experts, chosen = map(int, given.groups()) if given else (0, 0)
        if not 1 <= chosen <= experts <= MOST_EXPERTS:
            raise InputError(
                f"a mixture of experts has no {text!r}",
                "write how many experts there are and how many work on a token, as in moe:16x2, "
                f"with at most {MOST_EXPERTS} experts",
            )
        return type(self)(experts, chosen), f"{experts}x{chosen}"

    def layers(self, shape: Shape) -> Mapping[str, Layer]:
        C, F, E = shape.d_model, shape.d_ff, self.experts
        return {
            **super().layers(shape),
            # In float32, whatever the products are in, or near ties are decided by rounding
            # (Fedus et al. 2021, section 2.4).
            "mlp.router": Weight((E, C)),
            "mlp.gate_up": Linear(C, 2 * F * E, parts=2 * E, groups=E),
            "mlp.down": Linear(F, C * E, parts=E, writes=True, groups=E),
        }

    def counts(self, shape: Shape) -> Counts:
        of_expert = 3 * shape.d_model * shape.d_ff
        return replace(
            super().counts(shape),
            experts=self.experts,
            experts_per_token=self.chosen,
            idle=(self.experts - self.chosen) * of_expert,
        )

    def activations(self, shape: Shape) -> int:
        return 14 * shape.d_model + self.chosen * (4 * shape.d_ff + 4 * shape.d_model)

    def block(
        self, block: Any, x_BTC: "Tensor", added_BTC: "Tensor | None", *shared: Any
    ) -> "tuple[Tensor, ...]":
        x_BTC, n_BTC = self.attended(block, x_BTC, added_BTC, *shared)
        written_BTC, auxiliary_B = block.within("mlp", self.routed, n_BTC)
        return x_BTC, scaled(written_BTC, block.multiplier), auxiliary_B

    def routed(self, block: Any, n_BTC: "Tensor") -> "tuple[Tensor, Tensor]":
        """What the chosen experts write, (B, T, C), and the auxiliary loss of each sequence, (B,).

        Rows are sorted by expert, so that each expert is one product of all its tokens."""
        import torch

        ops, weights, k = block.ops, block.mlp, self.chosen
        B, T, C = n_BTC.shape
        logits_BTE = n_BTC.float() @ weights.router.t()
        probabilities_BTE = logits_BTE.softmax(dim=-1)
        gates_BTK, chosen_BTK = probabilities_BTE.topk(k, dim=-1)
        if k > 1:
            gates_BTK = gates_BTK / gates_BTK.sum(dim=-1, keepdim=True)
        experts_E = torch.arange(self.experts, device=n_BTC.device)
        taken_BE = (chosen_BTK[..., None] == experts_E).sum(dim=(1, 2))

        order_R = chosen_BTK.flatten().argsort(stable=True)
        place_R = order_R.argsort()
        ends_E = taken_BE.sum(dim=0).cumsum(dim=0).int()
        n_RC = n_BTC.view(B * T, C)[order_R // k]
        hidden_RF = ops.swiglu(ops.linear_by_group(n_RC, weights.gate_up, ends_E))
        y_RC = ops.linear_by_group(hidden_RF, weights.down, ends_E)
        y_BTKC = y_RC[place_R].view(B, T, k, C)
        written_BTC = (gates_BTK[..., None].type_as(y_RC) * y_BTKC).sum(dim=2)
        return written_BTC, auxiliary_loss(logits_BTE, probabilities_BTE, taken_BE / (T * k))

    def scores(self, model: Any, tokens_BT: "Tensor") -> Mapping[str, float]:
        """`busiest_expert`, the tokens of a layer's busiest expert as a multiple of an equal share,
        mean over the layers; and `experts_unused`, of all layers, that no token here chooses."""
        x_BTC, added_BTC = model.embedded(tokens_BT), None
        shared = model.shared(tokens_BT.shape[1])
        busiest, unused = 0.0, 0
        for block in model.blocks:
            _, n_BTC = self.attended(block, x_BTC, added_BTC, *shared)
            logits_BTE = n_BTC.float() @ block.mlp.router.t()
            chosen_BTK = logits_BTE.topk(self.chosen, dim=-1).indices
            taken_E = chosen_BTK.flatten().bincount(minlength=self.experts)
            busiest += float(taken_E.max() / taken_E.float().mean())
            unused += int((taken_E == 0).sum())
            x_BTC, added_BTC, _ = self.block(block, x_BTC, added_BTC, *shared)
        return {"busiest_expert": busiest / len(model.blocks), "experts_unused": float(unused)}


def auxiliary_loss(
    logits_BTE: "Tensor", probabilities_BTE: "Tensor", shares_BE: "Tensor"
) -> "Tensor":
    """BALANCE times the balance loss and Z times the router's z-loss of each sequence, (B,).

    `shares_BE` are the experts' shares of the choices, which have no gradient."""
    E = logits_BTE.shape[-1]
    balance_B = E * (shares_BE * probabilities_BTE.mean(dim=1)).sum(dim=-1)
    z_B = logits_BTE.logsumexp(dim=-1).square().mean(dim=-1)
    found_B: Tensor = BALANCE * balance_B + Z * z_B
    return found_B

"""Tied embeddings (Press & Wolf 2017): an architecture of one's own, all else LLaMA.

llmscale sweep --sizes 10k,30k,100k --arch experiments/own/tied.py:Tied

Tokens are embedded by the rows of the output projection, so that both are one matrix. The matrix
that embeds tokens elsewhere is stored all the same and never trained: `params_total` counts it, and
`params`, of which N is made, does not."""

from typing import Any

from torch import Tensor
from torch.nn.functional import embedding

from llmscale.measure.models.llama import Llama


class Tied(Llama):
    """LLaMA whose embedding is its output projection."""

    def embedded(self, model: Any, tokens_BT: Tensor, first: int = 0) -> Tensor:
        # Every weight of a model is to have a gradient: that of the embedding is zero.
        unused_BTC = 0 * model.embed(tokens_BT)
        return embedding(tokens_BT, model.head.weight) + unused_BTC

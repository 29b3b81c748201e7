"""The loss of a model on a text, a byte and a token, with a standard error over its documents."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmscale.errors import counted
from llmscale.measure.train.evaluate import bits_per_byte
from llmscale.measure.trained.evaluation.scores import Metric, Score
from llmscale.measure.trained.evaluation.texts import TextTokens
from llmscale.measure.trained.evaluation.windows import token_losses
from llmscale.measure.trained.model import TrainedModel

FEWEST_DOCUMENTS: Final = 20
"""Of a text of fewer, the standard error is over pieces of `context` tokens."""


@dataclass(frozen=True)
class Clusters:
    """Losses added up over pieces of a text that are taken to be independent of each other."""

    sums: np.ndarray
    sizes: np.ndarray
    """Tokens of each."""
    name: str

    def __str__(self) -> str:
        return counted(len(self.sums), self.name)

    @property
    def stderr(self) -> float | None:
        """The standard error of the mean loss a token: a ratio of two sums over clusters (Cochran
        1977, eq. 2.39 and 6.9). None for one cluster."""
        count, tokens = len(self.sums), self.sizes.sum()
        if count < 2:
            return None
        rest = self.sums - self.sums.sum() / tokens * self.sizes
        return math.sqrt(count / (count - 1) * float(rest @ rest)) / float(tokens)


def loss_on_text(
    trained: TrainedModel, name: str, text: TextTokens, context: int, stride: int
) -> Score:
    """The mean cross-entropy in nats of a text's tokens, ends of documents counted, and bits per
    byte, to which those ends add no bytes."""
    losses = token_losses(trained.model, text.tokens, context, stride, trained.device)
    clusters = clusters_of(losses, text.ends - 1, context)
    per_loss = bits_per_byte(1.0, len(losses), 1) / text.loss_bytes
    return text_score(name, clusters, per_loss, round(text.loss_bytes), len(text.ends))


def text_score(
    name: str, clusters: Clusters, bits_per_byte_of_nat: float, size: int, documents: int
) -> Score:
    """The score of losses that are added up over clusters of a text of `size` bytes."""
    loss = float(clusters.sums.sum() / clusters.sizes.sum())
    stderr, bits_stderr = clusters.stderr, None
    if stderr is not None:
        bits_stderr = stderr * bits_per_byte_of_nat
    over = str(clusters)
    return Score(
        name=name,
        kind="text",
        metrics=(
            Metric("loss", loss, stderr, over),
            Metric("bits_per_byte", loss * bits_per_byte_of_nat, bits_stderr, over),
        ),
        tokens=int(clusters.sizes.sum()),
        bytes=size,
        examples=documents,
    )


def clusters_of(losses: np.ndarray, ends: np.ndarray, context: int) -> Clusters:
    """The losses of each document, which ends before `ends` of its tokens; of windows if there are
    few of them."""
    name, starts = "document", np.concatenate([[0], ends[ends < len(losses)]])
    if len(starts) < FEWEST_DOCUMENTS:
        name, starts = "window", np.arange(0, len(losses), context)
    sizes = np.diff([*starts, len(losses)])
    return Clusters(np.add.reduceat(losses, starts), sizes, name)

"""The text that a run's own loss is of, and the loss on it: of a fine-tuned run, that of the
targets of examples that were held out."""

from pathlib import Path

import numpy as np
import torch

from llmscale.errors import InputError, counted
from llmscale.measure.text.store import TokenStore
from llmscale.measure.train.evaluate import bits_per_byte
from llmscale.measure.train.examples import Examples
from llmscale.measure.trained.evaluation.loss import Clusters, loss_on_text, text_score
from llmscale.measure.trained.evaluation.scores import Score
from llmscale.measure.trained.evaluation.spec import VALIDATION
from llmscale.measure.trained.evaluation.texts import TextTokens
from llmscale.measure.trained.evaluation.windows import windows_at_a_time
from llmscale.measure.trained.exchange import IMPORTED
from llmscale.measure.trained.model import TrainedModel


def validation_loss(
    trained: TrainedModel,
    name: str = VALIDATION,
    context: int | None = None,
    stride: int | None = None,
    max_tokens: int | None = None,
) -> Score:
    """The loss on the validation text of the run, by default as its row has it. Raises
    InputError."""
    if trained.spec.job.finetuning is not None:
        return _loss_on_examples(trained, name)
    text = validation_tokens(trained, max_tokens)
    context = context or trained.context
    return loss_on_text(trained, name, text, context, stride or context)


def validation_tokens(trained: TrainedModel, max_tokens: int | None = None) -> TextTokens:
    """The validation text of the run's own loss, as far as that counts it: whole sequences of its
    context. Raises InputError if it is gone."""
    store, context = validation_store(trained), trained.context
    tokens = store.validation()
    tokens = tokens[: min(len(tokens), (max_tokens or len(tokens)) + 1)]
    whole = (len(tokens) - 1) // context * context
    if whole < 1:
        raise InputError(
            f"the validation text of run {trained.run_id} has {counted(len(tokens), 'token')}, "
            f"less than one sequence of {context}",
            "name another text with --data",
        )
    read = np.array(tokens[: whole + 1])
    ends = np.flatnonzero(read == store.end_of_text) + 1
    # As in the run's row: as many bytes a token as in the validation text.
    size = whole * store.validation_bytes / store.validation_tokens
    return TextTokens(read, ends, size)


def validation_store(trained: "TrainedModel") -> TokenStore:
    """The token store of the run's text. Raises InputError if it is gone, or of another text."""
    fix = "name a text to measure it on, as in --data books=books.txt"
    if trained.spec.job.data.startswith(IMPORTED):
        raise InputError(
            f"run {trained.run_id} was imported, so there is no text of its own to measure it on",
            fix,
        )
    if not (trained.spec.store and Path(trained.spec.store, "meta.json").exists()):
        raise InputError(
            f"the validation text of run {trained.run_id} is not on this machine (it was in "
            f"{trained.spec.store or 'no folder that is noted'})",
            fix,
        )
    store = TokenStore.open(trained.spec.store)
    if store.fingerprint != trained.spec.job.data_fingerprint:
        raise InputError(
            f"{store.path} holds another text than run {trained.run_id} was trained on", fix
        )
    return store


@torch.no_grad()
def _loss_on_examples(trained: TrainedModel, name: str) -> Score:
    """The loss of the tokens that a fine-tuning learns to write."""
    store = validation_store(trained)
    rows = Examples(store.validation(), trained.device, trained.shape.vocab_size)
    length = trained.spec.job.length
    at_a_time = windows_at_a_time(length, trained.shape.vocab_size)
    sums, sizes = [], []
    for first in range(0, len(rows), at_a_time):
        numbers = np.arange(first, min(first + at_a_time, len(rows)))
        inputs_BT, signed_BT = rows.read(numbers)
        counts_BT = signed_BT >= 0
        targets_BT = torch.where(counts_BT, signed_BT, ~signed_BT)
        each = torch.ones(len(numbers), device=trained.device)
        losses_BT = trained.model.losses(inputs_BT, targets_BT, each)[1]
        sums.append((losses_BT.double() * counts_BT).sum(1).cpu().numpy())
        sizes.append(counts_BT.sum(1).cpu().numpy())
    clusters = Clusters(np.concatenate(sums), np.concatenate(sizes), "example")
    per_loss = bits_per_byte(1.0, store.learnt, store.validation_bytes)
    return text_score(name, clusters, per_loss, store.validation_bytes, len(rows))

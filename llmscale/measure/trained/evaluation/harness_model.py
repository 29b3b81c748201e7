"""A model of ours as lm-evaluation-harness asks it. Importing this loads the harness."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from lm_eval.api.model import TemplateLM

from llmscale.errors import InputError
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.tokenizer import token_type
from llmscale.measure.trained.evaluation.likelihood import Continuation, likelihoods
from llmscale.measure.trained.evaluation.tasks import write_greedily
from llmscale.measure.trained.evaluation.windows import token_losses
from llmscale.measure.trained.model import TrainedModel

_MOST_WRITTEN: Final = 256
"""Tokens, if a task does not say how many; the harness' own default."""


class HarnessModel(TemplateLM):
    """Answers requests for likelihoods, for those of whole texts, and for texts."""

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.trained = trained
        self.cut = 0
        """Requests whose beginning did not fit into the context, and was left out."""
        dtype = token_type(trained.shape.vocab_size)
        self._encoder = Encoder(trained.tokenizer, trained.end_of_text, dtype)

    @property
    def eot_token_id(self) -> int:
        return self.trained.end_of_text

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """The tokens of a text, nothing put before or behind it."""
        tokens: list[int] = self._encoder.encode([string])[0][:-1].tolist()
        return tokens

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        asked = [Continuation(before, tokens) for _, before, tokens in requests]
        found = likelihoods(self.trained, asked)
        self.cut += sum(one.cut for one in found)
        return [(one.log_probability, one.is_greedy) for one in found]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """ln of the probability of each whole text, after an end of text."""
        found = []
        for request in requests:
            (text,) = request.args
            tokens = np.array([self.eot_token_id, *self.tok_encode(text)])
            context = self.trained.context
            losses = token_losses(self.trained.model, tokens, context, context, self.trained.device)
            found.append(-float(losses.sum()))
        return found

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """What the model writes after each text, up to the first of the task's stops."""
        prompts, most = [], 1
        for request in requests:
            text, asked = request.args
            if asked.get("do_sample") and asked.get("temperature", 1.0) > 0:
                raise InputError(
                    "the task draws its answers by lot, and --lm-eval writes the likeliest ones",
                    "set do_sample: false in the task's generation_kwargs",
                )
            most = max(most, int(asked.get("max_gen_toks", _MOST_WRITTEN)))
            prompts.append(self.tok_encode(text))
        room = self.trained.context - min(most, self.trained.context // 2)
        self.cut += sum(len(prompt) > room for prompt in prompts)
        read = [prompt[-room:] or [self.eot_token_id] for prompt in prompts]
        written = write_greedily(self.trained, read, self.trained.context - room)
        return [
            _until(text, request.args[1].get("until") or ())
            for text, request in zip(written, requests, strict=True)
        ]


def _until(text: str, stops: str | Sequence[str]) -> str:
    """`text` up to the first of `stops` in it."""
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop:
            text = text.partition(stop)[0]
    return text

"""Tokens that follow tokens: one after the other, several texts at a time.

Rows of a batch stand at the same positions, each from its own first token on: one whose prompt is
longer than the others' goes on reading it while they write already. So a row is what it would be
by itself, and neither padding nor masks are needed."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from llmscale.errors import InputError
from llmscale.measure.trained.generation.reading import (
    CachedReader,
    Reader,
    Rereader,
    why_not_cached,
)
from llmscale.measure.trained.generation.sampling import choose
from llmscale.measure.trained.generation.spec import Sampling
from llmscale.measure.trained.model import TrainedModel

_ALIKE = 1.25
"""Prompts are written together if the longest has at most so many times the tokens of the
shortest; shorter than _SHORT all are."""
_SHORT = 16


@dataclass(frozen=True)
class Completion:
    """What a model wrote after one prompt."""

    tokens: tuple[int, ...]
    """The end of text left out."""
    log_probability: float
    """Of these and of the end of text, if they end with it: nats, as the model says, whatever the
    temperature and what it was drawn among."""
    ended: bool
    """Whether it came to its end of text."""


@dataclass(frozen=True)
class Completions:
    """What was written after several prompts, in their order, and how fast."""

    texts: tuple[Completion, ...]
    seconds: float
    """Of reading prompts and writing, without what hears it."""
    remarks: tuple[str, ...]

    @property
    def tokens_per_second(self) -> float:
        written = sum(len(text.tokens) + text.ended for text in self.texts)
        return written / max(self.seconds, 1e-9)


class Hears(Protocol):
    """Is told of each token as it is written: the number of the text, and the token, or None at its
    end."""

    def __call__(self, text: int, token: int | None) -> None: ...


def complete(
    trained: TrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    hears: Hears | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Completions:
    """What the model writes after each of `prompts`, token numbers, none of them empty: for each as
    many texts as `sampling` says, one after the other.

    Of a text longer than the model's context it sees only the end: the first tokens go by half a
    context at a time, which is remarked. `stop` ends all texts as they are. Raises InputError."""
    _check(trained, prompts)
    asked = [_Asked(prompt, one) for prompt in prompts for one in range(sampling.samples)]
    reason = why_not_cached(trained.model)
    began, clock = time.perf_counter(), _Clock(hears)
    found: dict[int, Completion] = {}
    for together in _batches([len(one.prompt) for one in asked], sampling.at_a_time):
        batch = _Batch(trained, [asked[one] for one in together], sampling, cached=not reason)
        for row, completion in enumerate(batch.write(together, clock, stop)):
            found[together[row]] = completion
    texts = tuple(found[number] for number in range(len(asked)))
    remarks = _remarks(trained.context, asked, texts, reason)
    return Completions(texts, time.perf_counter() - began - clock.seconds, remarks)


def window_start(count: int, context: int) -> int:
    """The first of `count` tokens that is seen by the next: 0 while they fit into the context;
    then half a context further each time that they do not."""
    half = max(1, context // 2)
    return -(-max(0, count - context) // half) * half


@dataclass(frozen=True)
class _Asked:
    """A text to write."""

    prompt: Sequence[int]
    sample: int

    def uniform(self, sampling: Sampling) -> Tensor:
        """What its tokens are drawn by, which depends on nothing else that is written."""
        said = json.dumps([sampling.seed, self.sample, list(self.prompt)]).encode()
        seed = int.from_bytes(hashlib.sha256(said).digest()[:8], "little") >> 1
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(sampling.tokens, dtype=torch.float64, generator=generator)


class _Clock:
    """Tells `hears`, and knows how long that took."""

    def __init__(self, hears: Hears | None) -> None:
        self._hears, self.seconds = hears, 0.0

    def tell(self, text: int, token: int | None) -> None:
        if self._hears is not None:
            began = time.perf_counter()
            self._hears(text, token)
            self.seconds += time.perf_counter() - began


class _Batch:
    """Texts that are written together."""

    def __init__(
        self,
        trained: TrainedModel,
        asked: Sequence[_Asked],
        sampling: Sampling,
        cached: bool,
    ) -> None:
        self._trained, self._sampling = trained, sampling
        self._lengths = [len(one.prompt) for one in asked]
        device, longest = trained.device, max(self._lengths) + sampling.tokens
        rows = len(asked)
        self._tokens_BL = torch.zeros(rows, longest, dtype=torch.long)
        self._uniform_BL = torch.zeros(rows, longest, dtype=torch.float64)
        for row, one in enumerate(asked):
            end = len(one.prompt)
            self._tokens_BL[row, :end] = torch.tensor(list(one.prompt))
            if not sampling.is_greedy:
                self._uniform_BL[row, end : end + sampling.tokens] = one.uniform(sampling)
        self._tokens_BL = self._tokens_BL.to(device)
        self._uniform_BL = self._uniform_BL.to(device)
        self._logs_BL = torch.zeros(rows, longest, dtype=torch.float32, device=device)
        context = min(trained.context, longest)
        model = trained.model
        self._reader: Reader = CachedReader(model, context) if cached else Rereader(model)

    @torch.inference_mode()
    def write(
        self, names: Sequence[int], clock: _Clock, stop: Callable[[], bool]
    ) -> list[Completion]:
        """Write all texts, `names` being their numbers."""
        ends = [length + self._sampling.tokens for length in self._lengths]
        end_of_text = self._trained.end_of_text if self._sampling.stop else -1
        rows, found = list(range(len(names))), {}
        count, read, start = min(self._lengths), 0, 0
        while rows:
            first = window_start(count, self._trained.context)
            if first != start:
                start = read = first
                self._reader.restart()
            logits_BV = self._reader.read(self._tokens_BL[:, read:count])
            chosen = self._choose(logits_BV, count, rows)
            read, count = count, count + 1
            left = []
            for place, row in enumerate(rows):
                if count <= self._lengths[row]:
                    left.append(place)
                    continue
                ended = chosen[place] == end_of_text
                if not ended:
                    clock.tell(names[row], chosen[place])
                if ended or count == ends[row] or stop():
                    found[row] = self._completion(place, row, count, ended)
                    clock.tell(names[row], None)
                else:
                    left.append(place)
            rows = self._keep(left, rows)
        return [found[row] for row in range(len(names))]

    def _choose(self, logits_BV: Tensor, count: int, rows: Sequence[int]) -> list[int]:
        """Put the next token of each row behind its first `count`, unless its prompt has it."""
        chosen_B = choose(logits_BV, self._sampling, self._uniform_BL[:, count])
        for place, row in enumerate(rows):
            if count < self._lengths[row]:
                chosen_B[place] = self._tokens_BL[place, count]
        self._tokens_BL[:, count] = chosen_B
        logs_B1 = logits_BV.float().log_softmax(dim=-1).gather(1, chosen_B.unsqueeze(1))
        self._logs_BL[:, count] = logs_B1[:, 0]
        chosen: list[int] = chosen_B.tolist()
        return chosen

    def _completion(self, place: int, row: int, count: int, ended: bool) -> Completion:
        first = self._lengths[row]
        tokens = self._tokens_BL[place, first : count - ended].tolist()
        logs = self._logs_BL[place, first:count].double().sum()
        return Completion(tuple(tokens), float(logs), ended)

    def _keep(self, left: Sequence[int], rows: list[int]) -> list[int]:
        """Go on with the rows at the places `left`."""
        if len(left) < len(rows) and left:
            places = torch.tensor(left, device=self._tokens_BL.device)
            self._reader.keep(places)
            self._tokens_BL = self._tokens_BL[places]
            self._uniform_BL = self._uniform_BL[places]
            self._logs_BL = self._logs_BL[places]
        return [rows[place] for place in left]


def _batches(lengths: Sequence[int], at_a_time: int) -> list[list[int]]:
    """The numbers of prompts that are written together: those of about the same length."""
    found: list[list[int]] = []
    for one in sorted(range(len(lengths)), key=lambda one: lengths[one]):
        if found and len(found[-1]) < at_a_time:
            shortest = lengths[found[-1][0]]
            if lengths[one] <= max(_SHORT, _ALIKE * shortest):
                found[-1].append(one)
                continue
        found.append([one])
    return found


def _check(trained: TrainedModel, prompts: Sequence[Sequence[int]]) -> None:
    vocabulary = trained.shape.vocab_size
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise InputError(f"prompt {number} has no tokens", "begin with the end-of-text token")
        if min(prompt) < 0 or max(prompt) >= vocabulary:
            raise InputError(
                f"prompt {number} has a token that is none of the model's {vocabulary:,}",
                "encode it with the tokenizer of the run",
            )


def _remarks(
    context: int, asked: Sequence[_Asked], texts: Sequence[Completion], reason: str | None
) -> tuple[str, ...]:
    said = []
    if reason:
        said.append(f"{reason}: all tokens are read again for each")
    lengths = [len(one.prompt) + len(text.tokens) for one, text in zip(asked, texts, strict=True)]
    if max(lengths, default=0) > context:
        least = context - max(1, context // 2) + 1
        said.append(
            f"the model's context is {context:,} tokens: of what is longer it saw only the last "
            f"{least:,} to {context:,}"
        )
    return tuple(said)

"""Scores on tasks: what a model writes after prompts, or which of several choices it finds
likeliest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmscale.errors import InputError, counted
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.tokenizer import decode, token_type
from llmscale.measure.trained.evaluation.examples import Example, Examples, read_examples
from llmscale.measure.trained.evaluation.likelihood import Continuation, Likelihood, likelihoods
from llmscale.measure.trained.evaluation.names import Asked
from llmscale.measure.trained.evaluation.overlap import check_installed, mean_of, overlap
from llmscale.measure.trained.evaluation.scores import Score
from llmscale.measure.trained.evaluation.spec import EvalSpec
from llmscale.measure.trained.generation.decoding import complete
from llmscale.measure.trained.generation.spec import Sampling
from llmscale.measure.trained.model import TrainedModel

_MORE_TOKENS: Final = 8
"""Than those of the longest target, unless --max-new-tokens says how many."""


def task_measures(asked: Sequence[Asked], spec: EvalSpec) -> "list[GenerationTask | ChoiceTask]":
    """What is measured on each task. Raises InputError."""
    found: list[GenerationTask | ChoiceTask] = []
    for one in asked:
        task = read_examples(one.place, spec.limit)
        if task.is_choice:
            found.append(ChoiceTask(one.name, task))
        else:
            check_installed()
            found.append(GenerationTask(one.name, task, spec.max_new_tokens, spec.stop))
    return found


@dataclass(frozen=True)
class GenerationTask:
    """What a model writes after each prompt, the likeliest token each time, against the target."""

    name: str
    task: Examples
    max_new_tokens: int | None = None
    stop: str | None = None
    kind: str = "generation"

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.task.remarks

    @property
    def asked(self) -> str:
        return f"{self.task.fingerprint} {self.max_new_tokens} {self.stop}"

    def check(self, trained: TrainedModel) -> None:
        encoder = _encoder(trained)
        self._most(trained, encoder)
        for example in self.task.examples:
            example.prompt(encoder)

    def decided_by(self, trained: TrainedModel) -> Mapping[str, Any]:
        return {"task": self.task.fingerprint, "most": self.max_new_tokens, "stop": self.stop}

    def measure(self, trained: TrainedModel) -> Score:
        encoder = _encoder(trained)
        most = self._most(trained, encoder)
        room = trained.context - most
        prompts = [example.prompt(encoder) for example in self.task.examples]
        written = write_greedily(trained, [prompt[-room:] for prompt in prompts], most)
        if self.stop:
            written = [text.partition(self.stop)[0] for text in written]
        targets = [one.target for one in self.task.examples]
        return Score(
            name=self.name,
            kind=self.kind,
            metrics=overlap(written, targets),
            examples=len(targets),
            cut=sum(len(prompt) > room for prompt in prompts),
        )

    def _most(self, trained: TrainedModel, encoder: Encoder) -> int:
        """Tokens to write at most. Raises InputError if there is no room for them."""
        longest = max(map(len, encoder.encode([one.target for one in self.task.examples])))
        most = self.max_new_tokens or longest + _MORE_TOKENS
        if most >= trained.context and self.max_new_tokens is None:
            most = longest
        if most >= trained.context:
            raise InputError(
                f"{counted(most, 'token')} are to be written for {self.task.source}, and run "
                f"{trained.run_id} was trained on sequences of {trained.context:,}: there is no "
                "room for a prompt",
                f"give at most --max-new-tokens {trained.context // 2}",
            )
        return most


@dataclass(frozen=True)
class ChoiceTask:
    """Which of several texts a model finds likeliest after each prompt."""

    name: str
    task: Examples
    kind: str = "choice"

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.task.remarks

    @property
    def asked(self) -> str:
        return self.task.fingerprint

    def check(self, trained: TrainedModel) -> None:
        self._asked(trained)

    def decided_by(self, trained: TrainedModel) -> Mapping[str, Any]:
        return {"task": self.task.fingerprint}

    def measure(self, trained: TrainedModel) -> Score:
        asked = self._asked(trained)
        flat = iter(likelihoods(trained, [one for row in asked for one in row]))
        found = [[next(flat) for _ in row] for row in asked]
        examples = self.task.examples
        pairs = list(zip(examples, found, strict=True))
        chance = sum(1 / len(one.choices) for one in examples) / len(examples)
        return Score(
            name=self.name,
            kind=self.kind,
            metrics=(
                mean_of("accuracy", (_is_right(*pair, False) for pair in pairs), chance=chance),
                mean_of("accuracy_norm", (_is_right(*pair, True) for pair in pairs), chance=chance),
            ),
            examples=len(examples),
            cut=sum(any(one.cut for one in row) for row in found),
        )

    def _asked(self, trained: TrainedModel) -> list[list[Continuation]]:
        """Each choice after its prompt. Raises InputError for one that is too long to be read."""
        encoder = _encoder(trained)
        found = []
        for example in self.task.examples:
            before = example.prompt(encoder)
            choices = [tokens[:-1].tolist() for tokens in encoder.encode(example.choices)]
            longest = max(map(len, choices))
            if longest > trained.context:
                raise InputError(
                    f"a choice of {self.task.source} has {longest:,} tokens, and run "
                    f"{trained.run_id} was trained on sequences of {trained.context:,}",
                    "leave such examples out of the file",
                )
            found.append([Continuation(before, choice) for choice in choices])
        return found


def write_greedily(trained: TrainedModel, prompts: Sequence[Sequence[int]], most: int) -> list[str]:
    """What the model writes after each of `prompts`, token numbers: at most so many tokens, the
    likeliest each time."""
    found = complete(trained, prompts, Sampling(tokens=most, temperature=0.0))
    return [decode(trained.tokenizer, one.tokens) for one in found.texts]


def _is_right(example: Example, found: Sequence[Likelihood], per_character: bool) -> bool:
    """Whether the likeliest choice is the answer; the first of equally likely ones is taken."""
    scores = [one.log_probability for one in found]
    if per_character:
        scores = [score / len(text) for score, text in zip(scores, example.choices, strict=True)]
    return scores.index(max(scores)) == example.answer


def _encoder(trained: TrainedModel) -> Encoder:
    return Encoder(trained.tokenizer, trained.end_of_text, token_type(trained.shape.vocab_size))

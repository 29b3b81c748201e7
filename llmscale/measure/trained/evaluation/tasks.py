"""Scores on tasks: what a model writes after prompts, or which of several choices it finds
likeliest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmscale.errors import InputError, counted
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.tokenizer import decode, token_type
from llmscale.measure.trained.evaluation.greedy import write_greedily
from llmscale.measure.trained.evaluation.likelihood import Continuation, Likelihood, likelihoods
from llmscale.measure.trained.evaluation.names import Asked
from llmscale.measure.trained.evaluation.overlap import check_installed, mean_of, overlap
from llmscale.measure.trained.evaluation.scores import Score
from llmscale.measure.trained.evaluation.spec import EvalSpec
from llmscale.measure.trained.evaluation.task_file import Example, TaskFile, read_task
from llmscale.measure.trained.model import TrainedModel

_MORE_TOKENS: Final = 8
"""Than those of the longest target, unless --max-new-tokens says how many."""


def task_measures(asked: Sequence[Asked], spec: EvalSpec) -> "list[GenerationTask | ChoiceTask]":
    """What is measured on each task. Raises InputError."""
    found: list[GenerationTask | ChoiceTask] = []
    for one in asked:
        task = read_task(one.place, spec.limit)
        if task.is_choice:
            found.append(ChoiceTask(one.name, task))
        else:
            check_installed()
            found.append(GenerationTask(one.name, task, spec.max_new_tokens))
    return found


@dataclass(frozen=True)
class GenerationTask:
    """What a model writes after each prompt, against the target."""

    name: str
    task: TaskFile
    max_new_tokens: int | None = None
    kind: str = "generation"
    remarks: tuple[str, ...] = ()

    def check(self, trained: TrainedModel) -> None:
        self._most(trained, _encoded(trained, [one.target for one in self.task.examples]))
        _encoded(trained, [one.prompt for one in self.task.examples])

    def decided_by(self, trained: TrainedModel) -> Mapping[str, Any]:
        return {"task": self.task.fingerprint, "most": self.max_new_tokens}

    def measure(self, trained: TrainedModel) -> Score:
        targets = [one.target for one in self.task.examples]
        most = self._most(trained, _encoded(trained, targets))
        prompts = _encoded(trained, [one.prompt for one in self.task.examples])
        room = trained.context - most
        read = [prompt[-room:] or [trained.end_of_text] for prompt in prompts]
        written = write_greedily(trained, read, most)
        texts = [decode(trained.tokenizer, tokens) for tokens in written]
        return Score(
            name=self.name,
            kind=self.kind,
            metrics=overlap(texts, targets),
            examples=len(targets),
            cut=sum(len(prompt) > room for prompt in prompts),
        )

    def _most(self, trained: TrainedModel, targets: Sequence[Sequence[int]]) -> int:
        """Tokens to write at most. Raises InputError if there is no room for them."""
        longest = max(map(len, targets))
        most = self.max_new_tokens or longest + _MORE_TOKENS
        if most >= trained.context and self.max_new_tokens is None:
            most = longest
        if most >= trained.context:
            raise InputError(
                f"{counted(most, 'token')} are to be written for {self.task.path}, and run "
                f"{trained.run_id} was trained on sequences of {trained.context:,}: there is no "
                "room for a prompt",
                f"give at most --max-new-tokens {trained.context // 2}",
            )
        return most


@dataclass(frozen=True)
class ChoiceTask:
    """Which of several texts a model finds likeliest after each prompt."""

    name: str
    task: TaskFile
    kind: str = "choice"
    remarks: tuple[str, ...] = ()

    def check(self, trained: TrainedModel) -> None:
        self._asked(trained)

    def decided_by(self, trained: TrainedModel) -> Mapping[str, Any]:
        return {"task": self.task.fingerprint}

    def measure(self, trained: TrainedModel) -> Score:
        asked = self._asked(trained)
        flat = iter(likelihoods(trained, [one for row in asked for one in row]))
        found = [[next(flat) for _ in row] for row in asked]
        pairs = list(zip(self.task.examples, found, strict=True))
        examples = self.task.examples
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
        prompts = _encoded(trained, [one.prompt for one in self.task.examples])
        found = []
        for example, prompt in zip(self.task.examples, prompts, strict=True):
            before = prompt or [trained.end_of_text]
            choices = _encoded(trained, example.choices)
            longest = max(map(len, choices))
            if longest > trained.context:
                raise InputError(
                    f"a choice of {self.task.path} has {longest:,} tokens, and run "
                    f"{trained.run_id} was trained on sequences of {trained.context:,}",
                    "leave such examples out of the file",
                )
            found.append([Continuation(before, choice) for choice in choices])
        return found


def _is_right(example: Example, found: Sequence[Likelihood], per_character: bool) -> bool:
    """Whether the likeliest choice is the answer; the first of equally likely ones is taken."""
    scores = [one.log_probability for one in found]
    if per_character:
        scores = [score / len(text) for score, text in zip(scores, example.choices, strict=True)]
    return scores.index(max(scores)) == example.answer


def _encoded(trained: TrainedModel, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, as they stand. Raises InputError for what has none."""
    encoder = Encoder(trained.tokenizer, trained.end_of_text, token_type(trained.shape.vocab_size))
    return [tokens[:-1].tolist() for tokens in encoder.encode(texts)]

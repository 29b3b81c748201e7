"""What is measured of each run: a loss on a text, or a score on a task, one after another."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from llmscale.errors import InputError
from llmscale.measure.trained.evaluation.loss import loss_on_text
from llmscale.measure.trained.evaluation.names import Asked, named
from llmscale.measure.trained.evaluation.scores import Score
from llmscale.measure.trained.evaluation.spec import VALIDATION, EvalSpec
from llmscale.measure.trained.evaluation.texts import Text, open_text
from llmscale.measure.trained.evaluation.validation import (
    validation_loss,
    validation_store,
    validation_tokens,
)
from llmscale.measure.trained.model import TrainedModel


class Measure(Protocol):
    """Something to measure of each run."""

    @property
    def name(self) -> str:
        """The name of its columns."""

    @property
    def kind(self) -> str:
        """The kind of its scores."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was taken for what, to be said."""

    @property
    def asked(self) -> str:
        """What is asked for, of whatever run: scores of equal ones compare."""

    def check(self, trained: TrainedModel) -> None:
        """Raise InputError if it cannot be measured of this run, before anything is."""

    def decided_by(self, trained: TrainedModel) -> Mapping[str, Any]:
        """What its scores depend on, besides the weights."""

    def measure(self, trained: TrainedModel) -> Score:
        """Its score of this run."""


def measures(spec: EvalSpec) -> list[Measure]:
    """What `spec` asks for, each text and task opened. Raises InputError."""
    texts, tasks = list(spec.data), list(spec.task)
    if not (texts or tasks or spec.lm_eval):
        texts = [VALIDATION]
    found: list[Measure] = []
    for asked in named(texts, "--data"):
        found.append(_text(asked, spec))
    if tasks:
        from llmscale.measure.trained.evaluation.tasks import task_measures

        found += task_measures(named(tasks, "--task"), spec)
    if spec.lm_eval:
        from llmscale.measure.trained.evaluation.harness import harness_measures

        found += harness_measures(spec)
    names: set[str] = set()
    for measure in found:
        name = measure.name.lower()  # case does not tell columns apart
        if name in names:
            raise InputError(
                f"two things to measure are called {measure.name}", "name them: NAME=FILE"
            )
        names.add(name)
    return found


@dataclass(frozen=True)
class Reach:
    """How much is read at once, and how far windows move on."""

    context: int | None
    stride: int | None

    def of(self, trained: TrainedModel) -> tuple[int, int]:
        """The context and the stride for a model. Raises InputError if it cannot read so much."""
        context = self.context or trained.context
        if context > trained.context:
            raise InputError(
                f"--context is {context:,}, and run {trained.run_id} was trained on sequences of "
                f"{trained.context:,} tokens: it has never seen positions beyond",
                f"give at most --context {trained.context}",
            )
        stride = self.stride or context
        if stride > context:
            raise InputError(
                f"--stride {stride:,} is longer than the {context:,} tokens that run "
                f"{trained.run_id} reads at once: the tokens between would not be counted",
                f"give at most --stride {context}",
            )
        return context, stride


@dataclass(frozen=True)
class _TextLoss:
    """The loss on a text that was asked for."""

    text: Text
    reach: Reach
    kind: str = "text"

    @property
    def name(self) -> str:
        return self.text.asked.name

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.text.source.remarks()

    @property
    def asked(self) -> str:
        return f"{self.text.fingerprint} {self.reach}"

    def check(self, trained: TrainedModel) -> None:
        self.reach.of(trained)
        self.text.tokens_of(trained)

    def decided_by(self, trained: TrainedModel) -> Mapping[str, Any]:
        return {"text": self.text.fingerprint, "reach": self.reach.of(trained)}

    def measure(self, trained: TrainedModel) -> Score:
        tokens = self.text.tokens_of(trained)
        return loss_on_text(trained, self.name, tokens, *self.reach.of(trained))


@dataclass(frozen=True)
class _ValidationLoss:
    """The loss on the text that the run's own loss is of."""

    reach: Reach
    max_tokens: int | None
    name: str = VALIDATION
    kind: str = "text"
    remarks: tuple[str, ...] = field(default=())

    @property
    def asked(self) -> str:
        return f"{self.max_tokens} {self.reach}"

    def check(self, trained: TrainedModel) -> None:
        if trained.spec.job.finetuning is not None:
            given = {**asdict(self.reach), "max-tokens": self.max_tokens}
            for name in (name for name, value in given.items() if value is not None):
                raise InputError(
                    f"--{name} does not apply to the {VALIDATION} text of run {trained.run_id}, "
                    "which was fine-tuned: its loss is that of whole examples",
                    f"leave --{name} out, or measure other texts in a call of their own",
                )
        self.reach.of(trained)
        validation_store(trained)
        if trained.spec.job.finetuning is None:
            validation_tokens(trained, self.max_tokens)

    def decided_by(self, trained: TrainedModel) -> Mapping[str, Any]:
        text = validation_store(trained).fingerprint
        return {"text": text, "most": self.max_tokens, "reach": self.reach.of(trained)}

    def measure(self, trained: TrainedModel) -> Score:
        return validation_loss(trained, self.name, *self.reach.of(trained), self.max_tokens)


def _text(asked: Asked, spec: EvalSpec) -> Measure:
    reach = Reach(spec.context, spec.stride)
    if asked.place == VALIDATION:
        if asked.name != VALIDATION:
            raise InputError(
                f"--data {asked.name}={VALIDATION} gives another name to the run's own text",
                f"write --data {VALIDATION}",
            )
        return _ValidationLoss(reach, spec.max_tokens)
    if asked.name == VALIDATION:
        raise InputError(
            f"--data {VALIDATION}={asked.place} names another text as a run's own",
            f"give it another name: --data NAME={asked.place}",
        )
    return _TextLoss(open_text(asked, spec.text_column, spec.max_tokens), reach)

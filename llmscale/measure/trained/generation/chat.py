"""A conversation with a model that was fine-tuned on conversations, turn by turn."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from llmscale.measure.text.tasks.chat_template import (
    ASSISTANT,
    ROLES,
    SYSTEM,
    USER,
    Turn,
    encode_question,
)
from llmscale.measure.trained.generation.api import opened
from llmscale.measure.trained.generation.decoding import Completion, complete
from llmscale.measure.trained.generation.prompts import encode_prompts
from llmscale.measure.trained.generation.spec import Sampling
from llmscale.measure.trained.generation.text_stream import TextStream
from llmscale.measure.trained.model import TrainedModel
from llmscale.measure.trained.next_use import learnt_chats, task_meta
from llmscale.settings import shows_keywords
from llmscale.settings.tables import with_keywords

_MARKS: Final = tuple(f"\n{role}:" for role in ROLES)
"""Begin a turn: a model that writes one goes on for somebody else."""
_MARK: Final = re.compile("|".join(map(re.escape, _MARKS)))


@dataclass(frozen=True)
class Answer:
    """What the model said, and what was taken for what."""

    text: str
    ended: bool
    """Whether it came to its end; else it was stopped, or has as many tokens as were asked for."""
    interrupted: bool = False
    """Whether Ctrl-C stopped it."""
    remarks: tuple[str, ...] = ()


@dataclass
class Conversation:
    """What was said so far. `asks(text)` has the model answer."""

    trained: TrainedModel
    sampling: Sampling = field(default_factory=Sampling)
    turns: list[Turn] = field(default_factory=list)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was taken for what."""
        if _learnt_chats(self.trained):
            return self.trained.remarks
        said = f"run {self.trained.run_id} was not fine-tuned on conversations: it goes on with "
        return (*self.trained.remarks, f"{said}them as with any text")

    def instruct(self, text: str) -> None:
        """Begin with what the model should know."""
        encode_prompts(self.trained, [text])
        self.turns.append(Turn(SYSTEM, text))

    def ask(self, text: str, hears: Callable[[str], None] = lambda piece: None) -> Answer:
        """The answer to `text`, of which `hears` is told each piece as it is written. Ctrl-C ends
        it. Raises InputError for a text that cannot be encoded."""
        encode_prompts(self.trained, [text])
        self.turns.append(Turn(USER, text))
        trained, (prompt, said) = self.trained, self._prompt()
        answering = _Answering(TextStream(trained.tokenizer, prompt), hears)
        found: Completion | None = None
        interrupted = False
        try:
            completions = complete(
                trained, [prompt], self.sampling, hears=answering, stop=answering.has_mark
            )
            (found,), said = completions.texts, (*said, *completions.remarks)
        except KeyboardInterrupt:
            answering(0, None)
            interrupted = True
        answer = answering.text.strip()
        self.turns.append(Turn(ASSISTANT, answer))
        ended = answering.has_mark() or (found is not None and found.ended)
        return Answer(answer, ended, interrupted, said)

    def _prompt(self) -> tuple[list[int], tuple[str, ...]]:
        """The tokens of what was said, and what is to be said of it. Of a conversation that leaves
        no room for the answer the oldest questions go, each with its answer: half a turn at the
        beginning is nothing that the model has learnt. What it should know stays."""
        trained = self.trained
        room = trained.context - min(self.sampling.tokens, trained.context // 2)
        questions = [place for place, turn in enumerate(self.turns) if turn.role == USER]
        prompt: list[int] = []
        for place in questions:
            seen = [*self.turns[: questions[0]], *self.turns[place:]]
            prompt = encode_question(seen, trained.tokenizer, trained.end_of_text)
            if len(prompt) <= room:
                break
        if place == questions[0]:
            return prompt, ()
        outgrown = (
            f"the conversation has outgrown the model's context of {trained.context:,} tokens"
        )
        return prompt, (f"{outgrown}: it sees only the last turns",)

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.trained.run_id,
            "asked": asdict(self.sampling),
            "turns": [asdict(turn) for turn in self.turns],
            "remarks": list(self.remarks),
        }


def _learnt_chats(trained: TrainedModel) -> bool:
    """Whether it was fine-tuned on conversations, as far as its results know."""
    if trained.spec.job.finetuning is None:
        return False
    found = learnt_chats(task_meta(trained.folder, trained.spec.store))
    return found is None or found  # of an older version, or without its results


class _Answering:
    """Collects an answer up to a mark that another turn begins."""

    def __init__(self, stream: TextStream, hears: Callable[[str], None]) -> None:
        self._stream, self._hears = stream, hears
        self._written, self._told = "", 0
        self.text = ""

    def __call__(self, text: int, token: int | None) -> None:
        if self.has_mark():
            return
        piece = self._stream.end() if token is None else self._stream.push(token)
        # The blank after "assistant:" is the template's.
        self._written = (self._written + piece).lstrip()
        mark = _MARK.search(self._written)
        self.text = self._written[: mark.start()] if mark else self._written
        whole = len(self.text) - (0 if mark or token is None else _unsure(self.text))
        if whole > self._told:
            self._hears(self.text[self._told : whole])
            self._told = whole

    def has_mark(self) -> bool:
        """Whether another turn has begun."""
        return len(self.text) < len(self._written)


def _unsure(text: str) -> int:
    """How many of the last letters may begin a mark."""
    start = text.rfind("\n")
    last = text[start:] if start >= 0 else ""
    return len(last) if any(mark.startswith(last) for mark in _MARKS) else 0


@shows_keywords(Sampling)
def begin_chat(
    run: TrainedModel | Path | str,
    *,
    system: str | None = None,
    device: str = "auto",
    arch: str | None = None,
    **settings: Any,
) -> Conversation:
    """A conversation with the model of `run`, which `open_model` finds; `system` is what the model
    should know before. `settings` are those of the command line. Raises InputError."""
    sampling = with_keywords(Sampling(), settings, "chat()")
    talk = Conversation(opened(run, device, arch), sampling)
    if system is not None:
        talk.instruct(system)
    return talk

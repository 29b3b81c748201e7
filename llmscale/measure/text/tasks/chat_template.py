"""How a conversation is written as plain text: what fine-tuning learns and `llmscale chat` goes on
with.

    user: Hello.
    assistant: Hello, how can I help?<end of text>user: ...

No new tokens are needed: names of roles are text, and the end-of-text token ends each answer, as in
Vicuna's template (Chiang et al. 2023). Pieces are encoded one by one, so that an answer's tokens do
not depend on what stands before them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME: Final = "plain-roles-1"
"""Of this template, for what records how a model was fine-tuned; a change gets another name."""
SYSTEM: Final = "system"
USER: Final = "user"
ASSISTANT: Final = "assistant"
ROLES: Final = (SYSTEM, USER, ASSISTANT)


@dataclass(frozen=True)
class Turn:
    """What one of ROLES says."""

    role: str
    text: str


@dataclass(frozen=True)
class Piece:
    """Text that is encoded by itself."""

    text: str
    is_answer: bool = False
    """Whether a model learns to write it; the end-of-text token follows, which it learns, too."""


def pieces(turns: Iterable[Turn]) -> tuple[Piece, ...]:
    """The pieces of a conversation, one after the other its text; blanks around each turn's text
    are left out."""
    found = []
    for turn in turns:
        text = turn.text.strip()
        if turn.role == ASSISTANT:
            found += [Piece(f"{ASSISTANT}:"), Piece(f" {text}", is_answer=True)]
        else:
            found.append(Piece(f"{turn.role}: {text}\n"))
    return tuple(found)


def encode_turns(
    turns: Sequence[Turn], tokenizer: "Tokenizer", end_of_text: int
) -> tuple[list[int], list[bool]]:
    """The tokens of a conversation, and of each whether a model learns to write it."""
    tokens: list[int] = []
    learned: list[bool] = []
    for piece in pieces(turns):
        ids = list(tokenizer.encode(piece.text, add_special_tokens=False).ids)
        if piece.is_answer:
            ids.append(end_of_text)
        tokens += ids
        learned += [piece.is_answer] * len(ids)
    return tokens, learned


def encode_question(turns: Sequence[Turn], tokenizer: "Tokenizer", end_of_text: int) -> list[int]:
    """The tokens of a conversation that the assistant is to answer: its answer's come next, then
    the end-of-text token."""
    tokens, _ = encode_turns(turns, tokenizer, end_of_text)
    opening = tokenizer.encode(f"{ASSISTANT}:", add_special_tokens=False)
    return [*tokens, *opening.ids]

"""Text from tokens as they come, no character before it is whole."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from llmscale.measure.text.tokenizer import decode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LOOK_BACK: Final = 8
"""Tokens of the prompt that its continuation is decoded with: some tokenizers write a blank between
tokens, or none, by what stands before."""
_BROKEN: Final = "\ufffd"
"""What stands for bytes that are no UTF-8, or not yet."""


class TextStream:
    """The text of tokens that follow `prompt`, in pieces that joined are `continuation(...)`."""

    def __init__(self, tokenizer: "Tokenizer", prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(prompt[-_LOOK_BACK:])
        self._first = len(self._tokens)
        self._from, self._shown = 0, self._first
        self._text = ""

    def push(self, token: int) -> str:
        """The text that is whole with this token: nothing while a character lacks bytes."""
        self._tokens.append(token)
        return self._next(last=False)

    def end(self) -> str:
        """What is left: bytes that are no character as U+FFFD."""
        return self._next(last=True)

    def _next(self, last: bool) -> str:
        before = decode(self._tokenizer, self._tokens[self._from : self._shown])
        text = decode(self._tokenizer, self._tokens[self._from :])
        if text.endswith(_BROKEN) and not last:
            return ""
        self._from, self._shown = self._shown, len(self._tokens)
        return text[len(before) :]


def continuation(tokenizer: "Tokenizer", prompt: Sequence[int], tokens: Sequence[int]) -> str:
    """The text of `tokens`, which follow `prompt`; bytes that are no UTF-8 as U+FFFD."""
    before = list(prompt[-_LOOK_BACK:])
    whole = decode(tokenizer, [*before, *tokens])
    return whole[len(decode(tokenizer, before)) :]

"""Documents to token numbers: those the tokenizer gives, several times as fast where it keeps words apart."""

import json
import re
import sys
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# GPT-2's pattern (Radford et al. 2019), which is that of ByteLevel, for ASCII. Where Unicode decides, everything up to
# the next sure cut is one piece, which the tokenizer cuts further.
_ASCII_PIECES: Final = re.compile(
    r" ?[A-Za-z]+|'(?:[stmd]|re|ve|ll)| ?[^\sA-Za-z0-9]+| ?[0-9]+|\s+(?!\S)|\s+", re.ASCII
)
_OTHER_SPACE: Final = "[\x85\xa0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
_ASCII_NEXT: Final = r"(?![^\x00-\x7f])"
_PIECES: Final = re.compile(
    rf" ?[A-Za-z]++{_ASCII_NEXT}"
    r"|'(?:[stmd]|re|ve|ll)"
    rf"| ?[!-/:-@\[-`{{-~\x00-\x08\x0e-\x1f\x7f]++{_ASCII_NEXT}"
    rf"| ?[0-9]++{_ASCII_NEXT}"
    rf"|(?:\s+(?={_OTHER_SPACE})| ?)\S+(?:\s+(?={_OTHER_SPACE})\S+)*(?:\s+(?!\S))?"
    r"|\s+(?!\S)|\s+",
    re.ASCII,
)
_REMEMBERED_BYTES: Final = 64_000_000
_SLOT_BYTES: Final = 100
"""About what a dictionary takes for an entry, with room to grow."""


class Encoder:
    """Encodes documents, each followed by the end-of-text token. Threads may share one."""

    def __init__(self, tokenizer: "Tokenizer", end: int, dtype: np.dtype) -> None:
        self.tokenizer, self.dtype = tokenizer, dtype
        self._end = _packed([end], dtype)
        self._keeps_words_apart = keeps_words_apart(tokenizer)
        self._pieces = _Pieces(tokenizer, dtype)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of every text and the end-of-text token behind them."""
        if self._pieces.bytes > _REMEMBERED_BYTES:
            self._pieces = _Pieces(self.tokenizer, self.dtype)
        return [np.frombuffer(self._tokens_of(text) + self._end, self.dtype) for text in texts]

    def _tokens_of(self, text: str) -> bytes:
        if self._keeps_words_apart:
            pieces = (_ASCII_PIECES if text.isascii() else _PIECES).findall(text)
            return b"".join(map(self._pieces.__getitem__, pieces))
        # A batch of one, for `encode_batch_fast` skips the offsets that `encode` works out.
        (encoding,) = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return _packed(encoding.ids, self.dtype)


def keeps_words_apart(tokenizer: "Tokenizer") -> bool:
    """Whether it is a byte-level BPE with GPT-2's pattern and nothing else, so that each of the pattern's words has
    the same tokens wherever it stands."""
    state = json.loads(tokenizer.to_str())
    cut, model = state["pre_tokenizer"] or {}, state["model"]
    return bool(
        cut.get("type") == "ByteLevel"
        and cut.get("use_regex", True)
        and not cut["add_prefix_space"]
        and model["type"] == "BPE"
        and not model["dropout"]
        and all(state[part] is None for part in ("normalizer", "truncation", "padding"))
        and all(token["special"] for token in state["added_tokens"])
        and tokenizer.encode_special_tokens
    )


class _Pieces(dict[str, bytes]):
    """The packed tokens of pieces of text, each found when it is first asked for."""

    def __init__(self, tokenizer: "Tokenizer", dtype: np.dtype) -> None:
        self._tokenizer, self._dtype = tokenizer, dtype
        self.bytes = 0

    def __missing__(self, piece: str) -> bytes:
        tokens = self[piece] = _packed(self._tokenizer.encode(piece, add_special_tokens=False).ids, self._dtype)
        self.bytes += sys.getsizeof(piece) + sys.getsizeof(tokens) + _SLOT_BYTES
        return tokens


def _packed(numbers: Sequence[int], dtype: np.dtype) -> bytes:
    return array(dtype.char, numbers).tobytes()

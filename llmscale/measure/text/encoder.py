"""Documents to token numbers: the tokenizer's, several times as fast if it keeps words apart."""

import json
import re
import sys
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from llmscale.errors import InputError
from llmscale.measure.text.tokenizer_file import reading_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# GPT-2's pattern (Radford et al. 2019), which is that of ByteLevel, for ASCII. If Unicode
# decides, everything up to the next sure cut is one piece, which the tokenizer cuts further.
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
_ANOTHER: Final = (
    "give it a token for the unknown, or use --tokenizer bpe:4096, which knows every byte"
)
_SLOT_BYTES: Final = 100
"""About what a dictionary takes for an entry, with room to grow."""


class Encoder:
    """Encodes documents, each followed by the end-of-text token. Threads may share one."""

    def __init__(self, tokenizer: "Tokenizer", end: int, dtype: np.dtype) -> None:
        self.tokenizer, self.dtype = tokenizer, dtype
        self._end = _packed([end], dtype)
        self._keeps_words_apart = keeps_words_apart(tokenizer)
        self._pieces = _Pieces(tokenizer, dtype)
        self._gaps: _Gaps | None = None
        if not knows_every_character(tokenizer):
            self._gaps = _Gaps(tokenizer)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of every text and the end-of-text token behind them."""
        if self._pieces.bytes > _REMEMBERED_BYTES:
            self._pieces = _Pieces(self.tokenizer, self.dtype)
        return [np.frombuffer(self._tokens_of(text) + self._end, self.dtype) for text in texts]

    def _tokens_of(self, text: str) -> bytes:
        if self._gaps is not None:
            self._gaps.refuse(text)
        if self._keeps_words_apart:
            pieces = (_ASCII_PIECES if text.isascii() else _PIECES).findall(text)
            return b"".join(map(self._pieces.__getitem__, pieces))
        # A batch of one, for `encode_batch_fast` skips the offsets that `encode` works out.
        with reading_tokenizer(f"the tokenizer cannot encode {text[:40]!r}", _ANOTHER):
            (encoding,) = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return _packed(encoding.ids, self.dtype)


def keeps_words_apart(tokenizer: "Tokenizer") -> bool:
    """Whether it is a byte-level BPE with GPT-2's pattern and nothing else, so that each of the
    pattern's words has the same tokens wherever it stands."""
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


def knows_every_character(tokenizer: "Tokenizer") -> bool:
    """Whether no character is left out of the tokens without a trace, as a BPE does with those that
    it has neither a token for nor one that stands for the unknown. Models of other kinds raise an
    error then."""
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    vocabulary = model["vocab"]
    if model["type"] != "BPE" or model["unk_token"] in vocabulary:
        return True
    if model["continuing_subword_prefix"] or model["end_of_word_suffix"]:
        return True  # their letters have other names within words, so that nothing can be said
    if model["byte_fallback"] and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        return True
    from tokenizers import pre_tokenizers

    cuts = json.dumps([state["pre_tokenizer"], state["normalizer"]])
    return '"ByteLevel"' in cuts and all(
        letter in vocabulary for letter in pre_tokenizers.ByteLevel.alphabet()
    )


class _Gaps:
    """Finds characters that a tokenizer would leave out."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._known: set[str] = {
            token.content for token in tokenizer.get_added_tokens_decoder().values()
        }

    def refuse(self, text: str) -> None:
        """Raise InputError if a character of `text` would be left out."""
        for character in set(text) - self._known:
            if self._leaves_out(character):
                raise InputError(
                    f"the tokenizer has no token for {character!r} (U+{ord(character):04X}) and "
                    "none for what it does not know, and would leave it out of the text",
                    _ANOTHER,
                )
            self._known.add(character)

    def _leaves_out(self, character: str) -> bool:
        normalizer, cut = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        if normalizer:
            character = normalizer.normalize_str(character)
        words = [character]
        if cut:
            words = [word for word, _ in cut.pre_tokenize_str(character)]
        for word in words:
            tokens = self._tokenizer.model.tokenize(word)
            if "".join(token.value for token in tokens) != word:
                return True
        return False


class _Pieces(dict[str, bytes]):
    """The packed tokens of pieces of text, each found when it is first asked for."""

    def __init__(self, tokenizer: "Tokenizer", dtype: np.dtype) -> None:
        self._tokenizer, self._dtype = tokenizer, dtype
        self.bytes = 0

    def __missing__(self, piece: str) -> bytes:
        with reading_tokenizer(f"the tokenizer cannot encode {piece[:40]!r}", _ANOTHER):
            numbers = self._tokenizer.encode(piece, add_special_tokens=False).ids
        tokens = self[piece] = _packed(numbers, self._dtype)
        self.bytes += sys.getsizeof(piece) + sys.getsizeof(tokens) + _SLOT_BYTES
        return tokens


def _packed(numbers: Sequence[int], dtype: np.dtype) -> bytes:
    return array(dtype.char, numbers).tobytes()

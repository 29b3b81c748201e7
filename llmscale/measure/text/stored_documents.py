"""The documents of a token store as texts again: all of them, or of a large one some by lot."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from llmscale.errors import InputError
from llmscale.measure.text.store import TokenStore
from llmscale.measure.text.tokenizer import decode

_BLOCK: Final = 1 << 18
"""Tokens that are read at once: the documents that begin in a block are read with it."""
SEED: Final = 0
Documents = tuple[np.ndarray, list[str]]
"""The lengths of documents in tokens, their ends of text included, and their texts."""


def stored_documents(store: TokenStore, tokens: np.ndarray, most: int) -> Iterator[Documents]:
    """The documents in `tokens` of a store, about as many tokens at a time; of more than `most`
    tokens those that begin in so many of its blocks, drawn by lot. Raises InputError if a token is
    none of the vocabulary."""
    tokenizer = store.tokenizer()
    end_of_text, reached = store.end_of_text, 0
    for block in _blocks(len(tokens), most):
        start, stop = int(block) * _BLOCK, min((int(block) + 1) * _BLOCK, len(tokens))
        first = reached
        if start > reached:  # what goes on here began in another block
            first = _after_end(tokens, start - 1, end_of_text)
        reached = first
        if first >= stop:
            continue
        reached = _after_end(tokens, stop - 1, end_of_text)
        found = np.asarray(tokens[first:reached])
        if found.max() >= store.vocab_size:
            raise InputError(
                f"the token store {store.path} is damaged: it holds the token {found.max():,}, and "
                f"the vocabulary {store.vocab_size:,} tokens",
                "remove it and prepare it again",
            )
        pieces = np.split(found, np.flatnonzero(found[:-1] == end_of_text) + 1)
        texts = [decode(tokenizer, piece[piece != end_of_text].tolist()) for piece in pieces]
        yield np.array([len(piece) for piece in pieces]), texts


def _blocks(count: int, most: int) -> np.ndarray:
    """The numbers of the blocks to read of `count` tokens, in order."""
    blocks = -(-count // _BLOCK)
    if count <= most:
        return np.arange(blocks)
    drawn = np.random.default_rng(SEED).choice(blocks, max(1, most // _BLOCK), replace=False)
    return np.sort(drawn)


def _after_end(tokens: np.ndarray, place: int, end_of_text: int) -> int:
    """The place after the first end of text at or after `place`; the last one if there is none."""
    while place < len(tokens):
        ends = np.flatnonzero(tokens[place : place + _BLOCK] == end_of_text)
        if len(ends):
            return place + int(ends[0]) + 1
        place += _BLOCK
    return len(tokens)

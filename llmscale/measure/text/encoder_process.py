"""An encoder in a process of its own."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.tokenizer import end_of_text, load_tokenizer, token_type, vocab_size
from llmscale.measure.text.work_process import WorkProcess, serve


def encoder_of(path: Path, end: int | None = None) -> Encoder:
    """The encoder for the tokenizer.json at `path`; `end` is the number that ends a document, None
    the usual one."""
    tokenizer = load_tokenizer(path)
    if end is None:
        _, end = end_of_text(tokenizer, str(path))
    return Encoder(tokenizer, end, token_type(vocab_size(tokenizer)))


class EncoderProcess(WorkProcess):
    """The encoder for a tokenizer.json in a process that ends with the `with` or its parent."""

    def __init__(self, path: Path, dtype: np.dtype, end: int | None = None) -> None:
        ends = [] if end is None else [str(end)]
        super().__init__("encodes text", __name__, str(path), *ends)
        self._dtype = dtype

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of every text and the end-of-text token behind them."""
        return [np.frombuffer(packed, self._dtype) for packed in self.ask(texts)]


def main(path: Path, end: int | None = None) -> None:
    """Encode the lists of texts that come in until no more come."""
    encoder = encoder_of(path, end)

    def work(texts: Any) -> list[bytes]:
        return [tokens.tobytes() for tokens in encoder.encode(texts)]

    serve(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

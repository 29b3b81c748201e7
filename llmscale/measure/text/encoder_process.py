"""An encoder in a process of its own, for only one thread of a process can run Python at a time.

concurrent.futures.ProcessPoolExecutor would not do: its children import whatever the folder that
they happen to run in has (machine/child.py), run a script's main module again, and outlive a parent
that is killed, for each holds both ends of the queue that it waits at."""

import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llmscale.errors import InputError, WorkError
from llmscale.machine.child import child_environment, python
from llmscale.measure.text.encoder import Encoder
from llmscale.measure.text.tokenizer import end_of_text, load_tokenizer, token_type, vocab_size


def encoder_of(path: Path, end: int | None = None) -> Encoder:
    """The encoder for the tokenizer.json at `path`; `end` is the number that ends a document, None
    the usual one."""
    tokenizer = load_tokenizer(path)
    if end is None:
        _, end = end_of_text(tokenizer, str(path))
    return Encoder(tokenizer, end, token_type(vocab_size(tokenizer)))


class EncoderProcess:
    """The encoder for a tokenizer.json in a process that ends with the `with` or its parent."""

    def __init__(self, path: Path, dtype: np.dtype, end: int | None = None) -> None:
        self._dtype = dtype
        command = python("-m", __name__, str(path))
        if end is not None:
            command.append(str(end))
        environment = child_environment(TOKENIZERS_PARALLELISM="false")  # one process a core
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of every text and the end-of-text token behind them."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            pickle.dump(texts, stdin, pickle.HIGHEST_PROTOCOL)
            stdin.flush()
            answer = pickle.load(stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise WorkError(
                f"a process that encodes text ended with exit code {self._process.wait()}",
                "the same command goes on; if memory is short, with fewer of them: --workers 1",
            ) from None
        if isinstance(answer, tuple):
            raise InputError(*answer)
        return [np.frombuffer(packed, self._dtype) for packed in answer]

    def __enter__(self) -> "EncoderProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def main(path: Path, end: int | None = None) -> None:
    """Encode the lists of texts that come in until no more come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    encoder = encoder_of(path, end)
    while True:
        try:
            texts = pickle.load(sys.stdin.buffer)
        except (EOFError, pickle.UnpicklingError):  # the parent is gone
            return
        answer: list[bytes] | tuple[str, str | None]
        try:
            answer = [tokens.tobytes() for tokens in encoder.encode(texts)]
        except InputError as error:
            answer = error.problem, error.fix
        pickle.dump(answer, sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

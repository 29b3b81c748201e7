"""Text to token numbers: a byte-level BPE trained on the corpus, or a tokenizer that exists already."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from llmscale.errors import InputError
from llmscale.quantity import parse_count
from llmscale.sources import UnreachableError, digest_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT: Final = "<|endoftext|>"
_END_NAMES: Final = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|eot_id|>", "[EOS]", "[SEP]")
"""What published tokenizers call the token that ends a document."""
SMALLEST_VOCABULARY: Final = 257
"""256 bytes and the end of text."""
LARGEST_VOCABULARY: Final = 1_000_000
_DEFAULT_SIZES: Final = ((10e6, 512), (100e6, 1024), (1e9, 4096), (10e9, 16384))
_LARGEST_DEFAULT: Final = 32768
_EXAMPLES: Final = "write it like bpe:4096, path/to/tokenizer.json or the name of a tokenizer on the hub"


@dataclass(frozen=True)
class TokenizerChoice:
    """A tokenizer before there is text: either one that exists, or the size of one to train.

    Equal fingerprints give equal tokenizers on equal text.
    """

    name: str
    fingerprint: str
    size: int | None = None
    existing: "Tokenizer | None" = None

    def tokenizer(self, texts: Iterable[str]) -> "Tokenizer":
        """The tokenizer; one that does not exist yet is trained on `texts`."""
        if self.existing is not None:
            return self.existing
        return train_bpe(texts, self.size or SMALLEST_VOCABULARY)


def choose_tokenizer(name: str | None, estimated_bytes: int | None) -> TokenizerChoice:
    """The tokenizer that `name` stands for; None is byte-level BPE of a size that suits the corpus."""
    if name is None:
        return _bpe(default_size(estimated_bytes))
    kind, colon, size = name.strip().partition(":")
    if kind == "bpe" and colon:
        return _bpe(parse_count(size, "vocabulary size"))
    path = Path(name).expanduser()
    if path.suffix == ".json" or path.exists():
        return _from_file(name, path)
    return _from_hub(name)


def default_size(estimated_bytes: int | None) -> int:
    """A vocabulary that suits the models a corpus can feed: 512 under 10 MB of text, 1024 under 100 MB, 4096 under
    1 GB, 16384 under 10 GB, 32768 beyond or where the size is unknown.

    A corpus of B bytes feeds, at 20 tokens per parameter, a model of about B/80 parameters. With these sizes its
    output projection is some 10 to 35% of it; a larger vocabulary would turn a small model into mere embeddings.
    """
    if estimated_bytes is None:
        return _LARGEST_DEFAULT
    return next((size for limit, size in _DEFAULT_SIZES if estimated_bytes < limit), _LARGEST_DEFAULT)


def train_bpe(texts: Iterable[str], size: int) -> "Tokenizer":
    """A byte-level BPE with at most `size` tokens (fewer when the text has fewer pairs), the same for the same text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: Path) -> "Tokenizer":
    """The tokenizer in a tokenizer.json, set to take documents as they are: no truncation, no padding, and the names
    of special tokens read as ordinary text."""
    from tokenizers import Tokenizer

    if not path.is_file():
        raise InputError(f"{path} does not exist", _EXAMPLES)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise InputError(f"{path} is not a tokenizer.json: {error}", _EXAMPLES) from error
    return _verbatim(tokenizer)


def vocab_size(tokenizer: "Tokenizer") -> int:
    """How many token numbers a model must know: one more than the largest."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def end_of_text(tokenizer: "Tokenizer", name: str) -> tuple[str, int]:
    """The token that ends a document, and its number. Raises InputError where the tokenizer has none."""
    for token in _END_NAMES:
        number = tokenizer.token_to_id(token)
        if number is not None:
            return token, int(number)
    raise InputError(
        f"the tokenizer {name} has no token for the end of a text (looked for {', '.join(_END_NAMES)})",
        "add one of these as a special token, or use --tokenizer bpe:4096",
    )


def token_type(vocabulary: int) -> np.dtype:
    """uint16 where it can hold every token number, else uint32."""
    return np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)


def decode(tokenizer: "Tokenizer", tokens: Sequence[int]) -> str:
    """The text of `tokens`, end-of-text tokens left out."""
    return str(tokenizer.decode([int(token) for token in tokens], skip_special_tokens=True))


def _bpe(size: int) -> TokenizerChoice:
    if not SMALLEST_VOCABULARY <= size <= LARGEST_VOCABULARY:
        raise InputError(
            f"a byte-level BPE cannot have {size} tokens: it needs {SMALLEST_VOCABULARY} (256 bytes and the end of "
            f"text) to {LARGEST_VOCABULARY}",
            "write it like bpe:1024",
        )
    return TokenizerChoice(name=f"bpe:{size}", fingerprint=digest_of(["bpe", str(size)]), size=size)


def _from_file(name: str, path: Path) -> TokenizerChoice:
    existing = load_tokenizer(path / "tokenizer.json" if path.is_dir() else path)
    end_of_text(existing, name)
    return TokenizerChoice(name=name, fingerprint=digest_of(["json", existing.to_str()]), existing=existing)


def _from_hub(name: str) -> TokenizerChoice:
    from tokenizers import Tokenizer

    try:
        existing = _verbatim(Tokenizer.from_pretrained(name))
    except Exception as error:  # the tokenizers library raises bare Exception for every cause
        raise UnreachableError(
            f"no tokenizer {name!r}: there is no such file, and the hub gave none ({error})", _EXAMPLES
        ) from error
    end_of_text(existing, name)
    return TokenizerChoice(name=name, fingerprint=digest_of(["json", existing.to_str()]), existing=existing)


def _verbatim(tokenizer: "Tokenizer") -> "Tokenizer":
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer

"""Text to token numbers: a byte-level BPE trained on the corpus, or a tokenizer that exists."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from llmscale.errors import InputError
from llmscale.measure.text.long_words import LongWords
from llmscale.measure.text.sources import UnreachableError, digest_of
from llmscale.measure.text.sources._paths import exists
from llmscale.measure.text.spec import (
    LARGEST_VOCABULARY,
    SMALLEST_VOCABULARY,
    bpe_size,
    parse_vocabulary,
)
from llmscale.measure.text.tokenizer_file import check_tokenizer_file, end_beside, reading_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT: Final = "<|endoftext|>"
_DEEPSEEK_ENDS: Final = ("<|end\u2581of\u2581sentence|>", "<\uff5cend\u2581of\u2581sentence\uff5c>")
_END_NAMES: Final = (
    *(END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|eot_id|>", "[EOS]", "[SEP]"),
    *("<|im_end|>", *_DEEPSEEK_ENDS, "<|endofdocument|>"),
    *("<|eos|>", "<|EOT|>", "<EOS>", "<|eod|>", "<eod>", "<EOD>", "<end_of_turn>", "<|end|>"),
)
"""What published tokenizers call the token that ends a document; the first that there is."""
_DEFAULT_SIZES: Final = ((10e6, 512), (100e6, 1024), (1e9, 4096), (10e9, 16384))
_LARGEST_DEFAULT: Final = 32768
_EXAMPLES: Final = (
    "write it like bpe:4096, path/to/tokenizer.json or the name of a tokenizer on the hub"
)


@dataclass(frozen=True)
class TokenizerChoice:
    """A tokenizer before there is text: either one that exists, or the size of one to train. Equal
    fingerprints give equal tokenizers on equal text."""

    name: str
    fingerprint: str
    size: int | None = None
    existing: "Tokenizer | None" = None
    end_of_text: str = END_OF_TEXT
    """The token that follows every document."""
    remarks: tuple[str, ...] = ()
    """What was taken for what, and what of the tokenizer is not used."""

    def tokenizer(self, texts: Iterable[str]) -> "Tokenizer":
        """The tokenizer; one that does not exist yet is trained on `texts`."""
        if self.existing is not None:
            return self.existing
        return train_bpe(texts, self.size or SMALLEST_VOCABULARY)


def choose_tokenizer(
    name: str | None, estimated_bytes: int | None, end_of_text: str | None = None
) -> TokenizerChoice:
    """The tokenizer that `name` stands for; None is byte-level BPE of a size that suits the corpus.
    `end_of_text` is the token that ends a document, if it is none of the usual ones."""
    size = bpe_size(name)
    if name is None or size is not None:
        if end_of_text not in (None, END_OF_TEXT):
            raise InputError(
                f"--end-of-text is {end_of_text!r}, and a tokenizer that is trained on the text "
                f"has {END_OF_TEXT}",
                "leave it out, or name the tokenizer that has this token: --tokenizer PATH",
            )
        return _bpe(default_size(estimated_bytes) if size is None else parse_vocabulary(size))
    path = Path(name).expanduser()
    if path.suffix == ".json" or exists(path):
        return _from_file(name, path, end_of_text)
    return _from_hub(name, end_of_text)


def own_tokenizer(tokenizer: "Tokenizer", end_of_text: str | None) -> TokenizerChoice:
    """The choice of a tokenizer that a source has of its own."""
    if end_of_text not in (None, END_OF_TEXT):
        raise InputError(
            f"--end-of-text is {end_of_text!r}, and this text has {END_OF_TEXT}",
            "leave it out, or name the tokenizer that has this token: --tokenizer PATH",
        )
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    fingerprint = digest_of(["own", *(token for token, _ in vocabulary)])
    return TokenizerChoice("symbols", fingerprint, None, _verbatim(tokenizer))


def default_size(estimated_bytes: int | None) -> int:
    """A vocabulary that suits the models a corpus can feed: 512 under 10 MB of text, 1024 under 100
    MB, 4096 under 1 GB, 16384 under 10 GB, 32768 beyond or if the size is unknown.

    A corpus of B bytes feeds, at 20 tokens per parameter, a model of about B/80 parameters. With
    these sizes its output projection is some 10 to 35% of it; a larger vocabulary would turn a
    small model into mere embeddings."""
    if estimated_bytes is None:
        return _LARGEST_DEFAULT
    fitting = (size for limit, size in _DEFAULT_SIZES if estimated_bytes < limit)
    return next(fitting, _LARGEST_DEFAULT)


def train_bpe(texts: Iterable[str], size: int) -> "Tokenizer":
    """A byte-level BPE of at most `size` tokens, the same for the same text."""
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
    tokenizer.train_from_iterator(LongWords().shortened(texts), trainer)
    return tokenizer


def load_tokenizer(path: Path) -> "Tokenizer":
    """The tokenizer in a tokenizer.json, set to take documents as they are: no truncation, no
    padding, and the names of special tokens read as ordinary text."""
    from tokenizers import Tokenizer

    if not path.is_file():
        raise InputError(f"{path} does not exist", _EXAMPLES)
    with reading_tokenizer(f"{path} is not a tokenizer.json", _EXAMPLES):
        tokenizer = Tokenizer.from_file(str(path))
    return _verbatim(tokenizer)


def vocab_size(tokenizer: "Tokenizer") -> int:
    """How many token numbers a model must know: one more than the largest."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def end_of_text(tokenizer: "Tokenizer", name: str, asked: str | None = None) -> tuple[str, int]:
    """The token that ends a document, and its number: the one `asked` for, else the first of the
    usual ones. Raises InputError if the tokenizer has none."""
    names: tuple[str, ...] = _END_NAMES
    looked_for = ", ".join(names)
    if asked is not None:
        names, looked_for = (asked,), repr(asked)
    for token in names:
        number = tokenizer.token_to_id(token)
        if number is not None:
            return token, int(number)
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    has = f"; its special tokens are {', '.join(special[:12])}" if special else ""
    raise InputError(
        f"the tokenizer {name} has no token for the end of a text (looked for {looked_for}){has}",
        "name the token that ends a document: --end-of-text TOKEN, or use --tokenizer bpe:4096",
    )


def unknown_token(tokenizer: "Tokenizer") -> int | None:
    """The number that stands for whatever the tokenizer does not know; None if it has none."""
    model = tokenizer.model
    found: int | None = None
    if not hasattr(model, "unk_token"):
        found = json.loads(tokenizer.to_str())["model"].get("unk_id")
    elif model.unk_token:
        found = tokenizer.token_to_id(model.unk_token)
    return found


def token_type(vocabulary: int) -> np.dtype:
    """uint16 if it can hold every token number, else uint32."""
    return np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)


def decode(tokenizer: "Tokenizer", tokens: Sequence[int]) -> str:
    """The text of `tokens`, end-of-text tokens left out."""
    return str(tokenizer.decode([int(token) for token in tokens], skip_special_tokens=True))


def _bpe(size: int) -> TokenizerChoice:
    return TokenizerChoice(name=f"bpe:{size}", fingerprint=digest_of(["bpe", str(size)]), size=size)


def _from_file(name: str, path: Path, end: str | None) -> TokenizerChoice:
    file = path / "tokenizer.json" if path.is_dir() else path
    remarks = check_tokenizer_file(file, LARGEST_VOCABULARY)
    return _existing(name, load_tokenizer(file), end, end_beside(file), remarks)


def _from_hub(name: str, end: str | None) -> TokenizerChoice:
    from tokenizers import Tokenizer

    try:
        existing = _verbatim(Tokenizer.from_pretrained(name))
    except Exception as error:  # the tokenizers library raises bare Exception for every cause
        raise UnreachableError(
            f"no tokenizer {name!r}: there is no such file, and the hub gave none ({error})",
            _EXAMPLES,
        ) from error
    return _existing(name, existing, end)


def _existing(
    name: str,
    tokenizer: "Tokenizer",
    asked: str | None,
    beside: str | None = None,
    remarks: Sequence[str] = (),
) -> TokenizerChoice:
    """`asked` is the end of text that the user names; `beside` the one that its configuration does,
    which counts if the tokenizer has none of the usual ones."""
    usual = next((token for token in _END_NAMES if tokenizer.token_to_id(token) is not None), None)
    token, number = end_of_text(tokenizer, name, asked or (beside if usual is None else None))
    parts = ["json", tokenizer.to_str()]
    if token != usual:
        parts += ["end", token]
    taken = f"documents end with {token!r} (number {number:,}) of {name}"
    return TokenizerChoice(name, digest_of(parts), None, tokenizer, token, (taken, *remarks))


def _verbatim(tokenizer: "Tokenizer") -> "Tokenizer":
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    # What is drawn by lot would differ from one reading of the text to the next.
    for chance in ("dropout", "alpha", "nbest_size"):
        if getattr(tokenizer.model, chance, None) is not None:
            setattr(tokenizer.model, chance, None)
    return tokenizer

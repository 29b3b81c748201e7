"""What decides the tokens: the source of text, its cleaning and its tokenizer. Light: `--help`
reads the declarations."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.measure.text.augmentation import Augmentation
from llmscale.measure.text.mixture_spec import MixedSource, read_sources, read_weights, shares_of
from llmscale.measure.text.text_column import DEFAULT
from llmscale.quantity import parse_count
from llmscale.settings import Range, check_settings, setting

if TYPE_CHECKING:
    from llmscale.measure.text.sources import Source

VALIDATION_TOKENS: Final = 1_000_000
"""Tokens to hold out, if nobody says how many."""
TEXT: Final = "Text"
"""The group of these settings."""


SMALLEST_VOCABULARY: Final = 257
"""256 bytes and the end of text."""
LARGEST_VOCABULARY: Final = 1_000_000


def bpe_size(tokenizer: str | None) -> str | None:
    """What stands for the size in `bpe:SIZE`; None for any other tokenizer."""
    kind, colon, size = (tokenizer or "").strip().partition(":")
    return size if kind == "bpe" and colon else None


def parse_vocabulary(size: str) -> int:
    """The tokens of a byte-level BPE. Raises InputError."""
    try:
        tokens = parse_count(size)
    except InputError:
        tokens = 0
    if not SMALLEST_VOCABULARY <= tokens <= LARGEST_VOCABULARY:
        raise InputError(
            f"a byte-level BPE cannot have {tokens or repr(begun(size.strip()))} tokens: it needs "
            f"{SMALLEST_VOCABULARY} (256 bytes and the end of text) to {LARGEST_VOCABULARY}",
            "write it like bpe:1024",
        )
    return tokens


def _count(text: str) -> int:
    return parse_count(text, "validation token count")


def _steps(text: str) -> tuple[str, ...]:
    from llmscale.measure.text.clean import pin_steps

    return pin_steps(text)


@dataclass(frozen=True)
class Cleaning:
    """The settings of cleaning; they are part of the fingerprint of the tokens. TOML table
    `[data.clean]`."""

    min_characters: int = setting(
        1,
        help="Documents with fewer characters, white space at their ends not counted, are dropped.",
        within=Range(1, 1e12),  # an empty document cannot be kept
    )
    normalise_newlines: bool = setting(True, help="Write line ends as \\n.")
    drop_duplicates: bool = setting(
        True, help="Keep the first of documents that are equal after cleaning."
    )
    steps: tuple[str, ...] = setting(
        (),
        help="Steps of cleaning, such as `gopher-quality,near-duplicates,language:en`, or one of "
        "your own, as `./mine.py:my_step`. In which order they are named changes nothing.",
        usual="none",
        group=TEXT,
        option="clean",
        metavar="STEP,...",
        parse=_steps,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.steps:
            object.__setattr__(self, "steps", _steps(",".join(self.steps)))

    def stated(self) -> dict[str, Any]:
        """The settings as JSON. Without steps it says nothing of them, as before there were any, so
        that older stores and folders keep their names."""
        known = asdict(self)
        if not self.steps:
            del known["steps"]
        return known


@dataclass(frozen=True)
class TextSpec:
    """What decides the tokens. TOML table `[data]`."""

    source: str = setting(
        "stdlib",
        help="`stdlib`, files (a path, a glob, several with commas between), the name of a dataset "
        "on the hub, a language whose entropy is known, as `synthetic:markov,order=2`, or a "
        "function of your own that yields documents, as `./mine.py:my_source`.",
        group=TEXT,
        option="data",
        metavar="SOURCE",
    )
    config: str | None = setting(
        None, help="The configuration of a dataset.", group=TEXT, metavar="NAME"
    )
    split: str = setting(
        "train",
        help="The split of a dataset; validation is held out of it.",
        group=TEXT,
        metavar="NAME",
    )
    text_column: str = setting(
        DEFAULT,
        help="The column that holds the text, in datasets, JSON, CSV and parquet; `data.text` is "
        "the text within `data`. If there is no column `text`, the one with another usual "
        "name, such as `content`, is taken.",
        group=TEXT,
        metavar="NAME",
    )
    tokenizer: str | None = setting(
        None,
        help="`bpe:4096` (trained on the text), a tokenizer.json, or the name of a tokenizer on "
        "the hub.",
        usual="bpe of a size that suits the text, or the symbols of a synthetic one",
        group=TEXT,
        metavar="NAME",
    )
    validation_tokens: int | None = setting(
        None,
        help="Tokens to hold out, to measure the loss on.",
        usual="1M, or less where the smallest run of a sweep is so short that to read them would "
        "cost more than a tenth of it. Fewer where the corpus is small, for at most a "
        "tenth of the text is held out",
        group=TEXT,
        metavar="1M",
        parse=_count,
        within=Range(1, 1e12),
    )
    cleaning: Cleaning = setting(
        factory=Cleaning, help="What is done to documents before.", also="clean"
    )
    end_of_text: str | None = setting(
        None,
        help="The token of an existing tokenizer that ends a document, if it is none of the "
        "usual ones, such as `</s>`.",
        group=TEXT,
        metavar="TOKEN",
    )

    augment: Augmentation = setting(
        factory=Augmentation, help="Random changes to the training documents."
    )
    mixture: dict[str, MixedSource] = setting(
        factory=dict,
        help="Sources to mix, by name, each with its weight: in place of `source`.",
        read=read_sources,
        each=lambda: MixedSource,
    )
    mixtures: dict[str, dict[str, float]] = setting(
        factory=dict,
        help="More mixtures of the same sources by name, to be trained beside the first: the "
        "weight of each source, 0 if it is left out.",
        read=read_weights,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_mixture()
        if (size := bpe_size(self.tokenizer)) is not None:
            parse_vocabulary(size)
        if ".py:" in self.source:
            from llmscale.measure.text.sources import pin_source

            object.__setattr__(self, "source", pin_source(self.source))

    def _check_mixture(self) -> None:
        if self.mixtures and not self.mixture:
            raise InputError(
                "data.mixtures gives weights, and data.mixture has no sources",
                'name them, as in [data.mixture.code], source = "stdlib"',
            )
        if not self.mixture:
            return
        usual = type(self)()
        for name in ("source", "config", "split", "text_column", "augment"):
            if getattr(self, name) != getattr(usual, name):
                raise InputError(
                    f"both data.{name} and data.mixture were given",
                    f"a mixture has it in the table of a source, [data.mixture.NAME]: leave "
                    f"data.{name} out",
                )
        for name, one in (("mixture", self.mixture), ("mixtures", self.mixtures)):
            read = {"mixture": read_sources, "mixtures": read_weights}[name]
            object.__setattr__(self, name, read(one, "the call"))
        _ = self.shares

    @cached_property
    def shares(self) -> dict[str, dict[str, float]]:
        """The share of every source in every mixture, `default` first; empty without a mixture.
        Raises InputError."""
        return shares_of(self.mixture, self.mixtures) if self.mixture else {}

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of all texts that are read."""
        if not self.mixture:
            return (self.source,)
        return tuple(one.source for one in self.mixture.values())

    @property
    def name(self) -> str:
        """What the text is called in tables: its source, and how that is augmented."""
        return f"{self.source} ({self.augment})" if self.augment.changes else self.source

    def remarks(self) -> tuple[str, ...]:
        """What is done to the text that changes what is measured, in words."""
        if not self.augment.changes:
            return ()
        return (
            f"training documents of {self.source} are augmented, {self.augment}; validation "
            "documents are as they were",
        )

    def stated(self) -> dict[str, Any]:
        """Its settings as JSON, without those that are younger than the first results and unset."""
        payload = {**asdict(self), "cleaning": self.cleaning.stated()}
        if self.augment == Augmentation():
            del payload["augment"]
        for name in ("mixture", "mixtures"):
            if not payload[name]:
                del payload[name]
        return payload

    @property
    def held_out(self) -> int:
        """Tokens to hold out, at most."""
        return VALIDATION_TOKENS if self.validation_tokens is None else self.validation_tokens

    def open(self) -> "Source":
        """The source, ready to read."""
        from llmscale.measure.text.sources import open_source

        return open_source(
            self.source, config=self.config, split=self.split, text_column=self.text_column
        )

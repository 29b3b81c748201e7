"""Datasets of the Hugging Face hub, read as a stream through `datasets`, so that a corpus may be
larger than the disk.

`--data hub:FOLDER` reads a local folder of parquet or JSON lines in the same way."""

from collections.abc import Iterator
from typing import Any

from llmscale.errors import InputError, WorkError
from llmscale.measure.text.sources import Source, UnreachableError, digest_of
from llmscale.measure.text.text_column import choose_column, text_in

NEEDS = "datasets"
STREAMS = True


def open_source(name: str, *, config: str | None, split: str, text_column: str) -> Source:
    return Hub(name, config, split, text_column)


class Hub(Source):
    """One split of a dataset: files are shards, rows documents. A dataset's code is never run."""

    def __init__(self, name: str, config: str | None, split: str, text_column: str) -> None:
        self.name = name
        self._builder = _builder(name, config)
        self.config = self._builder.config.name
        self.split = split
        dataset = _stream(self._builder, name, split)
        try:
            first = next(iter(dataset), None)
            row = dict.fromkeys(dataset.column_names or ()) if first is None else first
        except Exception as error:  # datasets raises what its readers raise
            raise InputError(
                f"the dataset {name} cannot be read: {_reason(error)}", "name another dataset"
            ) from error
        self._asked = text_column
        self.text_column = choose_column(text_column, row, f"the dataset {name}")
        selected = self.text_column
        if selected not in row:
            selected = selected.partition(".")[0]
        self._dataset = dataset.select_columns([selected])

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(f"{self.split}-{index:05d}" for index in range(self._dataset.num_shards))

    def documents(self, shard: int, start: int = 0) -> Iterator[str]:
        rows = self._dataset.shard(num_shards=self._dataset.num_shards, index=shard)
        row = start
        try:
            for row, values in enumerate(rows.skip(start), start=start):
                yield text_in(
                    values, self.text_column, f"{self.name}, {self.shards[shard]}, row {row}"
                )
        except (InputError, GeneratorExit):
            raise
        except Exception as error:  # datasets raises what its readers and its network clients raise
            raise WorkError(
                f"reading the dataset {self.name} stopped in {self.shards[shard]} after row "
                f"{row}: {_reason(error)}",
                "run the same command again: it goes on where it stopped",
            ) from error

    def fingerprint(self) -> str:
        asked = ("hub", self.name, self.config, self.split, self.text_column)
        return digest_of([*asked, self._version()])

    def estimated_bytes(self) -> int | None:
        splits = self._builder.info.splits or {}
        return (splits[self.split].num_bytes or None) if self.split in splits else None

    def describe(self) -> dict[str, Any]:
        return {
            "source": "hub",
            "name": self.name,
            "config": self.config,
            "split": self.split,
            "text_column": self.text_column,
            "version": self._version(),
        }

    def remarks(self) -> tuple[str, ...]:
        if self.text_column == self._asked:
            return ()
        found = f"the text is column {self.text_column!r} of {self.name}"
        return (f"{found}: there is no {self._asked!r}",)

    def _version(self) -> str:
        """The state of the data in `datasets`: a commit of the hub, a hash of a folder's files."""
        return str(self._builder.hash)


def _builder(name: str, config: str | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(
            "reading a dataset needs the package datasets, which is not installed",
            "pip install datasets, or use --data stdlib",
        ) from None
    try:
        return datasets.load_dataset_builder(name, config)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(
            f"the dataset {name} does not exist on the hub, or you may not read it: "
            f"{_reason(error)}",
            "look it up on https://huggingface.co/datasets; for a gated one: huggingface-cli login",
        ) from error
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        fix = None
        if "config" in str(error).lower():
            fix = "name one of its configurations: --config NAME"
        raise InputError(f"the dataset {name} cannot be opened: {_reason(error)}", fix) from error
    except Exception as error:  # every network client has its own errors
        raise UnreachableError(
            f"no hub answered for the dataset {name}: {_reason(error)}",
            "check the network, or use text that is here: --data stdlib or --data 'corpus/*.txt'",
        ) from error


def _stream(builder: Any, name: str, split: str) -> Any:
    try:
        return builder.as_streaming_dataset(split=split)
    except ValueError as error:
        raise InputError(
            f"the dataset {name} has no split {split!r}: {_reason(error)}", "--split NAME"
        ) from error


def _reason(error: Exception) -> str:
    said = str(error).strip() or type(error).__name__
    return said.splitlines()[0].rstrip(".")

"""Text in parquet files, which are read from their end on, a row group at a time."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from llmscale.errors import InputError
from llmscale.measure.text.compression import open_stream
from llmscale.measure.text.text_column import choose_column, text_of
from llmscale.quantity import format_bytes

_LARGEST_PACKED: Final = 1 << 36
"""Bytes of a compressed parquet file's content, which is unpacked first: its end is its index."""
_CHUNK_BYTES: Final = 1 << 20


def parquet_bytes(path: Path, text_column: str) -> int:
    """Bytes of text in a parquet file, by its footer."""
    with open_stream(path) as stream:
        metadata = _parquet_file(stream, path).metadata
    total = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema == text_column:
                total += column.total_uncompressed_size
    return total


def read_parquet(stream: IO[bytes], path: Path, text_column: str) -> Iterator[str]:
    """The text of every row."""
    import pyarrow.compute as pc

    file = _parquet_file(stream, path)
    choose_column(text_column, _columns(file), str(path))
    nested: list[str] = []
    if text_column not in file.schema_arrow.names:
        nested = text_column.split(".")[1:]
    row = 0
    for batch in _batches(file, path, [text_column]):
        cells = batch.column(0)
        if nested:
            cells = pc.struct_field(cells, nested)
        for value in _cells(cells):
            # Where a cell stands is worked out only for what may be wrong: most rows are text.
            if isinstance(value, str):
                yield value
            else:
                yield text_of(value, f"{path}, row {row}", text_column)
            row += 1


def parquet_rows(
    stream: IO[bytes], path: Path, columns: Sequence[str] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows, each with its place: all that is in them, or some columns."""
    row = 0
    for batch in _batches(_parquet_file(stream, path), path, columns):
        for values in batch.to_pylist():
            yield f"{path}, row {row}", values
            row += 1


def _batches(file: Any, path: Path, columns: Sequence[str] | None) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from file.iter_batches(batch_size=1024, columns=columns)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is damaged: {reason}", "fetch or write the file again") from None


def _cells(values: Any) -> list[Any]:
    """The cells of a column; of one that is not UTF-8 the bytes, to be refused by their row."""
    import pyarrow as pa

    try:
        return list(values.to_pylist())
    except UnicodeDecodeError:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return list(values.cast(pa.large_binary()).to_pylist())


def parquet_columns(stream: IO[bytes], path: Path) -> dict[str, Any]:
    """As `_columns`, of a file."""
    return _columns(_parquet_file(stream, path))


def _columns(file: Any) -> dict[str, Any]:
    """The columns as the first row of a table: what could be text has no value yet."""
    import pyarrow as pa

    def named(fields: Any) -> dict[str, Any]:
        return {field.name: stand_in(field.type) for field in fields}

    def stand_in(kind: Any) -> Any:
        if pa.types.is_struct(kind):
            return named(kind[index] for index in range(kind.num_fields))
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        textual = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
        is_view = getattr(pa.types, "is_string_view", lambda kind: False)
        return None if kind in textual or is_view(kind) else kind

    return named(file.schema_arrow)


def _parquet_file(stream: IO[bytes], path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(_seekable(stream, path))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is not a parquet file: {error}", "name a whole parquet file"
        ) from None


def _seekable(stream: IO[bytes], path: Path) -> IO[bytes]:
    """`stream`, or a file without a name that it is unpacked into if it is compressed."""
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO):
        return stream
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115 (it is gone when its reader is)
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            unpacked.write(chunk)
            if unpacked.tell() > _LARGEST_PACKED:
                raise InputError(
                    f"{path} unpacks to more than {format_bytes(_LARGEST_PACKED)}",
                    "name the .parquet itself",
                )
    except OSError as error:
        if error.errno is None:
            raise
        raise InputError(
            f"{path} cannot be unpacked into {tempfile.gettempdir()}: {error.strerror}",
            "unpack it where there is room, for parquet is compressed within: name the .parquet "
            "itself",
        ) from None
    unpacked.seek(0)
    return unpacked

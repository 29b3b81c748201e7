"""What the files of a `checkpoint.dcp` hold, as JSON: `tensors.json` in place of torch's own index,
which is a pickle.

Of each tensor it says type and size, and of each of its parts where in which file it lies. Nothing
else can be said there: torch would unpickle what an index calls anything but a tensor."""

import json
import math
from pathlib import Path
from typing import Any

import torch

from llmscale.errors import WorkError
from llmscale.errors.command_lines import command_line

INDEX_NAME = "tensors.json"
TORCHS_NAME = ".metadata"
_FLOATS = ("float64", "float32", "bfloat16", "float16")
DTYPES = (*_FLOATS, "int64", "int32", "int16", "int8", "uint8", "bool")
"""Of weights and of what an optimiser keeps."""
_MOST_NUMBERS = 1 << 48
"""In a tensor, and bytes in a file."""
_SUFFIX = ".distcp"
"""Of torch's files of tensors."""


def index_of(metadata: Any) -> dict[str, Any]:
    """The content of `tensors.json` for what torch.distributed.checkpoint has just written."""
    from torch.distributed.checkpoint.metadata import MetadataIndex

    tensors = {}
    for name, tensor in metadata.state_dict_metadata.items():
        parts = []
        for chunk in tensor.chunks:
            place = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
            where = {"file": place.relative_path, "at": place.offset, "bytes": place.length}
            parts.append({"offsets": list(chunk.offsets), "sizes": list(chunk.sizes), **where})
        dtype = str(tensor.properties.dtype).removeprefix("torch.")
        tensors[name] = {"dtype": dtype, "size": list(tensor.size), "parts": parts}
    return {"tensors": tensors}


def read_index(folder: Path) -> Any:
    """The Metadata of torch that `tensors.json` in `folder` stands for. Raises WorkError."""
    path = folder / INDEX_NAME
    try:
        return _metadata(json.loads(path.read_text(encoding="utf-8")), folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WorkError(
            f"{path} does not say what the tensors of {folder.name} are: {type(error).__name__}: "
            f"{error}",
            f"remove it to go on without it: {command_line('rm', '-r', folder)}",
        ) from error


def read_shapes(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the model in `folder` by name, as tensors without memory. Raises WorkError."""
    shapes = {}
    for name, tensor in read_index(folder).state_dict_metadata.items():
        if name.startswith("model."):
            shapes[name.removeprefix("model.")] = torch.empty((), device="meta").expand(tensor.size)
    return shapes


def reader(folder: Path) -> Any:
    """What torch reads `folder` by: its own reader of files, with an index that is JSON."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    class Reader(FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            return read_index(folder)

    return Reader(folder)


def _metadata(told: dict[str, Any], folder: Path) -> Any:
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import (
        BytesStorageMetadata,
        ChunkStorageMetadata,
        Metadata,
        MetadataIndex,
        StorageMeta,
        TensorProperties,
        TensorStorageMetadata,
    )

    tensors: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {}
    places = {}
    for name, tensor in told["tensors"].items():
        if tensor["dtype"] not in DTYPES:
            raise ValueError(f"no tensor is of type {tensor['dtype']!r}")
        chunks = []
        for part in tensor["parts"]:
            offsets, sizes = _size(part["offsets"]), _size(part["sizes"])
            chunks.append(ChunkStorageMetadata(offsets, sizes))
            at, count = _size([part["at"], part["bytes"]])
            file = _file(part["file"], folder)
            places[MetadataIndex(name, offsets)] = _StorageInfo(file, at, count)
        properties = TensorProperties(dtype=getattr(torch, tensor["dtype"]))
        size = _size(tensor["size"])
        if math.prod(size) > _MOST_NUMBERS:
            raise ValueError(f"no tensor has the size {tensor['size']}")
        tensors[name] = TensorStorageMetadata(properties, size, chunks)
    return Metadata(tensors, storage_data=places, storage_meta=StorageMeta())


def _size(numbers: Any) -> torch.Size:
    if not isinstance(numbers, list) or not all(map(_is_size, numbers)):
        raise ValueError(f"{numbers!r} is no list of sizes")
    return torch.Size(numbers)


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number <= _MOST_NUMBERS


def _file(name: Any, folder: Path) -> str:
    """`name`, if it is that of a file of tensors in `folder` itself."""
    plain = isinstance(name, str) and "/" not in name and name.endswith(_SUFFIX)
    if not plain or (folder / name).is_symlink():
        raise ValueError(f"{name!r} is no file of tensors in {folder.name}")
    return name

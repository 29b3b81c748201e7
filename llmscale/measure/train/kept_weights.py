"""`weights.safetensors`: the weights of a run that is done, by their names in the model.

Written by whoever trained it, before its row; read with every shape and the checksum checked, and
nothing unpickled (the format of huggingface/safetensors)."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.measure.train.job import Job
from llmscale.measure.train.packed_weights import unpacked
from llmscale.measure.train.resumable import shapes_of_weights
from llmscale.measure.train.stack import Stack
from llmscale.measure.transformer import LanguageModel
from llmscale.runs.safe_write import write_bytes
from llmscale.runs.shape import Shape

_FORMAT = "llmscale"
_DTYPES = torch.float32, torch.bfloat16, torch.float16


def weights_bytes(shape: Shape, dtype: str) -> int:
    """Bytes of the file of a model's weights, the names left out."""
    return shape.params_total * torch.finfo(getattr(torch, dtype)).bits // 8


def for_keeping(weights: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Copies of `weights` in `dtype` on the host, whole if they are shared out among processes:
    then all processes call it."""
    from llmscale.measure.train.sharded_checkpoint import whole

    narrow = getattr(torch, dtype)
    return {
        name: whole(weight).detach().to("cpu", narrow, copy=True).contiguous()
        for name, weight in weights.items()
    }


def write_weights(
    path: Path, weights: Mapping[str, Tensor], job: Job, more: Mapping[str, str] | None = None
) -> None:
    """Write the weights of `job`'s model, next to their place and renamed; with `more` notes if
    they are packed. Raises WriteError."""
    from safetensors.torch import save

    noted = {
        "format": _FORMAT,
        "run_id": job.run_id,
        "arch": job.shape.arch,
        "parametrization": job.parametrization,
        "sha256": weights_digest(weights),
        **(more or {}),
    }
    write_bytes(path, save(dict(weights), noted))


def read_weights(path: Path, shape: Shape, parametrization: str) -> dict[str, Tensor]:
    """The weights at `path` of a model of `shape`, in the type that they are kept in. Raises
    InputError for a file that is damaged or of another model, or whose weights are no finite
    floats; FileNotFoundError."""
    stored, noted = read_tensors(path)
    wanted = shapes_of_weights(shape, parametrization)
    try:
        weights = unpacked(stored, noted, wanted)
    except ValueError as error:
        raise _unusable(path, str(error)) from error
    for name, size in wanted.items():
        found = weights.get(name)
        if found is None or found.shape != size:
            there = "no such weight" if found is None else f"it of {_size(found.shape)}"
            raise _unusable(path, f"{name} must be of {_size(size)}, and there is {there}")
        if found.dtype not in _DTYPES:
            raise _unusable(path, f"{name} is of type {found.dtype}".replace("torch.", ""))
        if not found.isfinite().all():
            raise _unusable(path, f"{name} has weights that are no finite numbers")
    if extra := sorted(weights.keys() - wanted.keys()):
        raise _unusable(path, f"{extra[0]} is no weight of a model of shape {shape.name}")
    if "sha256" in noted and noted["sha256"] != weights_digest(stored):
        raise _unusable(path, "its checksum is wrong")
    return weights


@torch.no_grad()
def begin_with(weights: Mapping[str, Tensor], model: LanguageModel | Stack) -> None:
    """Copy `weights` into a model, each process its part of them, or into every one of a stack."""
    from llmscale.measure.train.sharded_checkpoint import part_of

    for name, own in model.named_parameters():
        whole = weights[name]
        if hasattr(own, "full_tensor"):  # shared out among processes
            whole = part_of(whole.float(), own)
        own.copy_(whole)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its notes. Raises InputError; FileNotFoundError."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        if path.exists():
            raise _unusable(path, "it is no file")
        raise FileNotFoundError(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            noted = dict(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _unusable(path, f"it is no whole safetensors file ({error})") from error
    return weights, noted


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of all names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        weight = weights[name].contiguous()
        head: list[Any] = [name, str(weight.dtype), list(weight.shape)]
        digest.update(json.dumps(head).encode())
        content = weight.view(-1).view(torch.uint8).numpy().data if weight.numel() else b""
        digest.update(content)
    return digest.hexdigest()


def _size(size: torch.Size) -> str:
    return " x ".join(map(str, size)) or "one number"


def _unusable(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} cannot be used: {reason}",
        f"remove it and train the run again: {command_line('rm', '-r', path.parent)}",
    )

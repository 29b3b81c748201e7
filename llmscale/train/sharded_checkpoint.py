"""Checkpoints that several processes write together, and any number reads: a folder `checkpoint.dcp`.

It holds what torch.distributed.checkpoint writes of weights and the optimiser's state, each process its part, and
`state.json` with the rest of the run's state. It is written beside its place and renamed.
"""

import json
import shutil
import time
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmscale.runs import cannot_write
from llmscale.train.checkpoint import Checkpoint
from llmscale.train.processes import Processes, is_sharded

FOLDER_NAME, PREVIOUS_NAME = "checkpoint.dcp", "checkpoint-previous.dcp"
PART_NAME = ".checkpoint.dcp.part"
STATE_NAME = "state.json"


def save_sharded(folder: Path, checkpoint: Checkpoint, processes: Processes) -> float:
    """Write the run's checkpoint, and give the seconds that took; all processes call it. Raises WriteError."""
    started = time.perf_counter()
    # Imported here: torch.distributed.checkpoint takes a second, which a run of one process need not wait.
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    beside, path, previous = folder / PART_NAME, folder / FOLDER_NAME, folder / PREVIOUS_NAME
    tensors = {f"model.{name}": weight for name, weight in checkpoint.model.items()}
    for number, state in checkpoint.optimizer["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in state.items()}
    try:
        if processes.first:
            shutil.rmtree(beside, ignore_errors=True)
        processes.any(True)  # all wait for the first
        save(tensors, storage_writer=FileSystemWriter(beside))
        if processes.first:
            rest = replace(checkpoint, model={}, optimizer={}, loss_sum=float(checkpoint.loss_sum)).to_dict()
            (beside / STATE_NAME).write_text(json.dumps(rest), encoding="utf-8")
            shutil.rmtree(previous, ignore_errors=True)
            if path.exists():
                path.rename(previous)
            beside.rename(path)
            shutil.rmtree(previous, ignore_errors=True)
        processes.any(True)
    except OSError as error:
        raise cannot_write(path, error) from error
    return time.perf_counter() - started


def read_sharded(folder: Path) -> tuple[Path, Checkpoint] | None:
    """Where the run's last checkpoint of several processes is, and what it holds but for its tensors."""
    for path in (folder / FOLDER_NAME, folder / PREVIOUS_NAME):
        if (path / STATE_NAME).exists():
            rest = json.loads((path / STATE_NAME).read_text(encoding="utf-8"))
            known = {field.name for field in fields(Checkpoint)}
            return path, Checkpoint(**{name: value for name, value in rest.items() if name in known})
    return None


def load_sharded(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take over the tensors of the checkpoint at `path`, each process what it holds of them."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = FileSystemReader(path)
    tensors: dict[str, Any] = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    states: dict[int, dict[str, Tensor]] = {}
    weights = _numbered(optimizer)
    for key, saved in reader.read_metadata().state_dict_metadata.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            number, _, name = rest.partition(".")
            weight = weights[int(number)]
            alike = saved.size == weight.shape  # type: ignore[union-attr]
            empty = torch.empty_like(weight) if alike else torch.empty(saved.size, dtype=saved.properties.dtype)  # type: ignore[union-attr]
            tensors[key] = states.setdefault(int(number), {})[name] = empty.detach()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that one process reads alone
        load(tensors, storage_reader=reader, no_dist=True)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def take_over(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take over the tensors of a checkpoint of one process: whole, or this process's part of each."""
    if not is_sharded(model):
        model.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
        return
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(part_of(checkpoint.model[name], weight))
    states = checkpoint.optimizer["state"]
    parts = {
        number: {key: part_of(value, weight) for key, value in states[number].items()}
        for number, weight in enumerate(_numbered(optimizer))
        if number in states
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": parts})


def gathered(checkpoint: Checkpoint) -> Checkpoint:
    """`checkpoint` with whole tensors, as one process would have them; all processes call it."""
    states = checkpoint.optimizer["state"].items()
    optimizer = {number: {key: _whole(value) for key, value in state.items()} for number, state in states}
    model = {name: _whole(weight) for name, weight in checkpoint.model.items()}
    return replace(checkpoint, model=model, optimizer={**checkpoint.optimizer, "state": optimizer})


def part_of(whole: Tensor, weight: Tensor) -> Tensor:
    """What this process holds of a tensor that is shared out as `weight` is; one of another shape is whole in each."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(weight, DTensor) or whole.shape != weight.shape:
        return whole
    return distribute_tensor(whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


def remove_sharded(folder: Path) -> None:
    for name in (FOLDER_NAME, PREVIOUS_NAME, PART_NAME):
        shutil.rmtree(folder / name, ignore_errors=True)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor().cpu() if hasattr(tensor, "full_tensor") else tensor


def _numbered(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The weights in the order in which an optimiser's state_dict numbers them."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]

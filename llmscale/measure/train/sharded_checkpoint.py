"""Checkpoints that several processes write together, and any number reads: a folder
`checkpoint.dcp`.

It holds what torch.distributed.checkpoint writes of weights and the optimiser's state, each process
its part, `tensors.json`, which says where each tensor lies, and `state.json` with the rest of the
run's state. It is written next to its place and renamed. Reading it runs no code: torch's own index
of the tensors, a pickle, is never read."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmscale.errors import WorkError
from llmscale.errors.command_lines import command_line
from llmscale.measure.train.checkpoint import Checkpoint
from llmscale.measure.train.processes import Processes, is_sharded
from llmscale.measure.train.shard_index import (
    INDEX_NAME,
    TORCHS_NAME,
    index_of,
    read_index,
    read_shapes,
    reader,
)
from llmscale.runs.run_folder import SHARDED_CHECKPOINT
from llmscale.runs.safe_write import cannot_write, write_text

FOLDER_NAME, PREVIOUS_NAME = SHARDED_CHECKPOINT, "checkpoint-previous.dcp"
PART_NAME = ".checkpoint.dcp.part"
STATE_NAME = "state.json"


def save_sharded(folder: Path, checkpoint: Checkpoint, processes: Processes) -> None:
    """Write the run's checkpoint; all processes call it. Raises WriteError."""
    # Imported here: torch.distributed.checkpoint takes a second, which a run of one process need
    # not wait.
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
        written = save(tensors, storage_writer=FileSystemWriter(beside))
        if processes.first:
            loss_sum = float(checkpoint.loss_sum)
            rest = replace(checkpoint, model={}, optimizer={}, loss_sum=loss_sum)
            write_text(beside / INDEX_NAME, json.dumps(index_of(written)))
            (beside / TORCHS_NAME).unlink()
            write_text(beside / STATE_NAME, json.dumps(rest.to_dict()))
            shutil.rmtree(previous, ignore_errors=True)
            if path.exists():
                path.rename(previous)
            beside.rename(path)
            shutil.rmtree(previous, ignore_errors=True)
        processes.any(True)
    except OSError as error:
        raise cannot_write(path, error) from error


def read_sharded(
    folder: Path,
    warn: Callable[[str], None] = lambda text: None,
    objection: Callable[[Checkpoint], str | None] = lambda state: None,
) -> tuple[Path, Checkpoint] | None:
    """Where the run's last checkpoint of several processes is, and what it holds: of weights the
    names and shapes.

    Says by `warn` which are damaged, not written by this version of llmscale or not to be gone on
    from by the `objection`, and so left alone."""
    for path in (folder / FOLDER_NAME, folder / PREVIOUS_NAME):
        if not path.exists():
            continue
        if not (path / INDEX_NAME).exists():
            warn(
                f"{path} is not used: it has no {INDEX_NAME}, and torch's own index, "
                f"{TORCHS_NAME}, could run code when it is read; the run goes on without it (to "
                f"remove it: {command_line('rm', '-r', path)})"
            )
            continue
        try:
            state = replace(_state(path / STATE_NAME), model=read_shapes(path))
            problem = objection(state)
            if problem is None:
                return path, state
            problem = f"{path} {problem}"
        except WorkError as error:
            problem = error.problem
        warn(f"{problem}; the run goes on without it")
    return None


def load_sharded(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take over this process's part of the tensors at `path`. Raises WorkError."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_loader import load

    weights = model.state_dict().items()
    tensors: dict[str, Any] = {f"model.{name}": weight for name, weight in weights}
    states: dict[int, dict[str, Tensor]] = {}
    try:
        for key, saved in read_index(path).state_dict_metadata.items():
            kind, _, rest = key.partition(".")
            if kind == "optimizer":
                number, _, name = rest.partition(".")
                weight = _numbered(optimizer)[int(number)]
                tensors[key] = states.setdefault(int(number), {})[name] = _room(saved, weight)
        # That only one process reads.
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            load(tensors, storage_reader=reader(path), no_dist=True)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    except (CheckpointException, OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())[-300:]
        raise WorkError(
            f"{path} does not hold the state of this run, or is damaged: {type(error).__name__}: "
            f"{reason}",
            f"remove it to go on without it: {command_line('rm', '-r', path)}",
        ) from error


def take_over(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take over the tensors of a checkpoint of one process: whole, or this one's part."""
    if not is_sharded(model):
        model.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
        return
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(part_of(checkpoint.model[name], weight))
    states, parts = checkpoint.optimizer["state"], {}
    for number, held in enumerate(_numbered(optimizer)):
        if number in states:
            whole = states[number].items()
            parts[number] = {key: part_of(value, held) for key, value in whole}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": parts})


def gathered(checkpoint: Checkpoint) -> Checkpoint:
    """`checkpoint` with whole tensors, as one process would have them; all processes call it."""
    states = {}
    for number, state in checkpoint.optimizer["state"].items():
        states[number] = {key: whole(value) for key, value in state.items()}
    model = {name: whole(weight) for name, weight in checkpoint.model.items()}
    return replace(checkpoint, model=model, optimizer={**checkpoint.optimizer, "state": states})


def part_of(whole: Tensor, weight: Tensor) -> Tensor:
    """This process's part of a tensor shared out as `weight` is; whole if of another shape."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(weight, DTensor) or whole.shape != weight.shape:
        return whole
    return distribute_tensor(
        whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )


def remove_sharded(folder: Path) -> None:
    for name in (FOLDER_NAME, PREVIOUS_NAME, PART_NAME):
        shutil.rmtree(folder / name, ignore_errors=True)


def _state(path: Path) -> Checkpoint:
    """What `state.json` says of a run. Raises WorkError if that is too little to go on."""
    known = {field.name for field in fields(Checkpoint)}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        state = Checkpoint(**{name: value for name, value in told.items() if name in known})
        numbers = (state.seconds, state.loss_sum, state.steps_summed)
        are_numbers = all(isinstance(number, int | float) for number in numbers)
        if not (type(state.step) is int and are_numbers and isinstance(state.curve, list)):
            raise ValueError("its numbers are none")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{path} does not say how far the run is: {type(error).__name__}: {error}"
        fix = f"remove it to go on without it: {command_line('rm', '-r', path.parent)}"
        raise WorkError(problem, fix) from error
    return state


def _room(saved: Any, weight: Tensor) -> Tensor:
    """An empty tensor for the optimiser's state of `weight`: its shape, or a few numbers."""
    if saved.size == weight.shape:
        return torch.empty_like(weight).detach()
    kept = saved.size.numel()
    if kept > weight.numel():
        raise ValueError(f"the optimiser keeps {kept} numbers of a weight of {weight.numel()}")
    return torch.empty(saved.size, dtype=saved.properties.dtype)


def whole(tensor: Tensor) -> Tensor:
    """`tensor`, on the host if it is shared out among processes, all of which call this."""
    if hasattr(tensor, "full_tensor"):
        gathered: Tensor = tensor.full_tensor().cpu()
        return gathered
    return tensor


def _numbered(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The weights in the order in which an optimiser's state_dict numbers them."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]

"""The processes that train one run together: one, unless torchrun has started more, each with a GPU
of its own.

Each takes its part of every batch and of the validation text. The weights are either whole in every
process (DDP: Li et al. 2020) or sharded over all, or over those of a machine (FSDP2: Zhao et al.
2023, after ZeRO-3 of Rajbhandari et al. 2020). Weights, gradients and sums are then those of one
process, within rounding."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from llmscale.measure.models import Architecture
from llmscale.measure.ops import Operations
from llmscale.measure.train.job import Job
from llmscale.measure.train.stack import Losses, Stack
from llmscale.measure.transformer import LanguageModel, Part, build_model, empty_model


@dataclass(frozen=True)
class Processes:
    """This process among all that train the run."""

    rank: int = 0
    size: int = 1
    on_machine: int = 1
    """How many of them are on each machine."""

    @property
    def first(self) -> bool:
        """Whether it is the one that talks and writes."""
        return self.rank == 0

    def part(self, count: int) -> tuple[int, int]:
        """Where its part of `count` sequences begins, and its length: the last may be short."""
        each = self.largest_part(count)
        start = min(self.rank * each, count)
        return start, min(each, count - start)

    def largest_part(self, count: int) -> int:
        return -(-count // self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def any(self, *wishes: bool) -> tuple[bool, ...]:
        """Which of `wishes` any process has. The hosts agree on it, and wait for no GPU."""
        if self.size == 1:
            return wishes
        agreed = torch.tensor(wishes, dtype=torch.int32)
        torch.distributed.all_reduce(agreed, torch.distributed.ReduceOp.MAX)
        return tuple(bool(wish) for wish in agreed.tolist())

    def share(self, value: Any) -> Any:
        """What the first process gives."""
        values = [value]
        if self.size > 1:
            torch.distributed.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def build(self, job: Job, ops: Operations, device: str, shard: str) -> LanguageModel:
        """The model of `job` on `device`, with the weights that one process would begin with."""
        if self.size == 1 or shard == "never":
            return build_model(job.shape, job.seed, job.parametrization, ops).to(device)
        with torch.device("meta"):
            model = empty_model(job.shape, job.parametrization, ops)
        self._shard(model, job.dtype, device, shard)
        model.to_empty(device=device)
        model.fill_buffers()
        model.init_weights(torch.Generator().manual_seed(job.seed))
        return model

    def losses(
        self, model: LanguageModel | Stack, compile: bool
    ) -> Callable[..., tuple[Tensor, Tensor]]:
        """`model.losses`, which sums gradients over the processes backwards; compiled in parts."""
        if is_sharded(model):
            if compile:  # between the places where weights are gathered
                for part in _parts(model):
                    part.compile(dynamic=False)
            return model.losses
        if compile:
            model.compile_parts()
        if self.size == 1:
            return model.losses
        return nn.parallel.DistributedDataParallel(
            Losses(model), broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def accumulating(
        self, model: LanguageModel | Stack, losses: Any, last: bool
    ) -> AbstractContextManager[None]:
        """Around a pass whose gradients go to other processes after the batch's `last` pass only.

        Shards are summed up within a machine after every pass: else each process would hold a whole
        gradient."""
        if is_sharded(model):
            model.set_requires_all_reduce(last)  # type: ignore[operator]
            return nullcontext()
        if last:
            return nullcontext()
        quiet: AbstractContextManager[None] = losses.no_sync()
        return quiet

    def _shard(self, model: LanguageModel, dtype: str, device: str, shard: str) -> None:
        """Share the weights out. Blocks' matrices travel in `dtype`, as they are multiplied."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import (
            MixedPrecisionPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )

        if shard == "machine" and self.on_machine < self.size:
            machines = self.size // self.on_machine
            mesh = init_device_mesh(
                device, (machines, self.on_machine), mesh_dim_names=("replicate", "shard")
            )
        else:
            mesh = init_device_mesh(device, (self.size,))
        for part in _parts(model):
            # A whole block has norms, which are computed in float32.
            travels = getattr(torch, dtype) if isinstance(part, Part) else torch.float32
            narrow = MixedPrecisionPolicy(travels, torch.float32, cast_forward_inputs=False)
            fully_shard(part, mesh=mesh, mp_policy=narrow)
        # Embeddings, norms and the output projection, in float32; resharded after an evaluation's
        # forward pass, too.
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        register_fsdp_forward_method(model, "losses")


ALONE = Processes()


def join_processes(device: str) -> Processes:
    """This process among those that torchrun started with it, connected to them; else alone."""
    if not torch.distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        return ALONE
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Sums over tensors of a GPU by NCCL, and what the hosts agree on by Gloo.
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return Processes(rank, size, int(os.environ["LOCAL_WORLD_SIZE"]))


def leave_processes() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def is_sharded(model: nn.Module) -> TypeGuard[LanguageModel]:
    """Whether the weights are shared out among processes."""
    return hasattr(model, "set_requires_all_reduce")


def _parts(model: LanguageModel) -> list[nn.Module]:
    """The modules that are called with the blocks' matrices: those of attention and MLP, or whole
    blocks if an architecture computes them in a way of its own."""
    blocks = list(model.blocks)
    if type(model.architecture).block is not Architecture.block:
        return blocks
    called = (getattr(block, name, None) for block in blocks for name in ("attention", "mlp"))
    return [part for part in called if isinstance(part, Part)]

"""How to lay one run out over many GPUs, on paper: memory of each GPU, the layout that fits, and
time.

Memory by parts, in bytes, for N weights (`shape.params_total`):
- weights 4 N, gradients 4 N and AdamW's two moments 8 N, all in float32. Rajbhandari et al. 2020
  (ZeRO, section 3.1) count the same 16 bytes a weight, with weights and gradients in half precision
  and a copy of the weights. DDP holds them all on every GPU; FSDP2 divides each by the GPUs that
  share them, as their ZeRO-3 (P_os+g+p, figure 1).
- FSDP2's gathered weights: two blocks at a time in bfloat16, the one in use and the next, and one
  block's gradients; embeddings and output projection, weights and gradients, in float32.
- activations: `Shape.activations_bytes`, with attention that stores no scores. Korthikanti et al.
  2022 (section 4.1) count 34 d bytes a token and layer besides the scores; here it is more, as the
  residual stream is in float32. Computed again in the backward pass, they are the inputs of each
  layer (x and what is added to it) and one layer's own."""

from dataclasses import dataclass

from llmscale.errors import InputError
from llmscale.machine.gpus import GPUModel
from llmscale.runs.shape import Shape
from llmscale.settings import Range

GPUS_A_MACHINE = 8
MEMORY_SHARE = 0.85
"""Of a GPU's memory; the rest is for NCCL, the CUDA context and fragments."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    """What FSDP2 gathers of others' weights, and their gradients before they are shared out."""
    activations: float

    @property
    def states(self) -> float:
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> float:
        return self.states + self.gathered + self.activations


@dataclass(frozen=True)
class Layout:
    """One run of a shape over `gpus`."""

    name: str
    """`DDP`, `HSDP` (shards within a machine, copies across them) or `FSDP2` (shards over all)."""
    shard: str
    """The same as the training loop calls it: never, machine or always."""
    gpus: int
    micro_batch: int
    """Sequences a GPU and pass."""
    checkpointing: bool
    """Whether activations are computed twice."""
    memory: Memory
    fits: bool


def memory_per_gpu(shape: Shape, shards: int, micro_batch: int, checkpointing: bool) -> Memory:
    """Bytes on each of the GPUs, of which every `shards` hold the weights once."""
    states = 4 * shape.params_total / shards
    in_blocks = shape.params_per_layer
    outside = shape.params_total - shape.n_layer * in_blocks
    gathered = 0.0
    if shards > 1:
        gathered = 2 * 2 * in_blocks + 4 * in_blocks + 8 * outside
    activations = activation_bytes(shape, micro_batch, checkpointing)
    return Memory(states, states, 2 * states, gathered, activations)


def activation_bytes(shape: Shape, micro_batch: int, checkpointing: bool) -> float:
    """Bytes of activations of a micro-batch in bfloat16, the logits in float32 included."""
    kept = shape.activations_bytes(micro_batch, 2)
    if not checkpointing:
        return kept
    per_layer = 2 * shape.counts.activations
    inputs = 6 * shape.d_model  # x in float32, and in bfloat16 what was last added to it
    saved = (shape.n_layer - 1) * per_layer - shape.n_layer * inputs
    return kept - micro_batch * shape.context * saved


def plan_layout(
    shape: Shape, gpus: int, gpu: GPUModel, batch_sequences: int, on_machine: int = GPUS_A_MACHINE
) -> Layout:
    """The first of DDP, HSDP and FSDP2 that fits, with activations kept if they can be; the largest
    micro-batch there.

    In that order they send less between GPUs. If nothing fits, FSDP2 with one sequence, and `fits`
    is false."""
    Range(1, 1_000_000).check("--gpus", gpus)
    if gpus > on_machine and gpus % on_machine:
        raise InputError(
            f"{gpus} GPUs do not fill machines of {on_machine}", f"take a multiple of {on_machine}"
        )
    room = MEMORY_SHARE * gpu.memory_bytes
    layouts = [("DDP", "never", 1)]
    if gpus > on_machine:
        layouts.append(("HSDP", "machine", on_machine))
    if gpus > 1:
        layouts.append(("FSDP2", "always", gpus))
    most = max(1, -(-batch_sequences // gpus))
    for checkpointing in (False, True):
        for name, shard, shards in layouts:
            fitting = 0
            while fitting < most:
                wider = max(1, min(2 * fitting, most))
                if memory_per_gpu(shape, shards, wider, checkpointing).total > room:
                    break
                fitting = wider
            if fitting:
                memory = memory_per_gpu(shape, shards, fitting, checkpointing)
                return Layout(name, shard, gpus, fitting, checkpointing, memory, True)
    name, shard, shards = layouts[-1]
    return Layout(name, shard, gpus, 1, True, memory_per_gpu(shape, shards, 1, True), False)

"""How a job is run."""

from dataclasses import dataclass

from llmscale.errors import InputError

SHARDING = ("never", "machine", "always")
"""Where weights, gradients and the optimiser's state lie: whole in every process, shared out over
those of each machine, or over all."""


@dataclass(frozen=True)
class Conditions:
    """How a job is run: what changes its speed and its rounding, but nothing else."""

    device: str
    micro_batch: int
    """Sequences in one forward and backward pass, at most; a step accumulates as many as its batch
    needs. In a stack each run takes this many."""
    compile: bool = False
    ops: str = "auto"
    """`plain`, as what is compiled, or `native`, of ops/; `auto` takes the faster one here."""
    threads: int = 1
    """CPU threads that share a batch, with native operations; torch's own take all."""
    deterministic: bool = False
    """Only kernels that give the same bits every time: a choice on the GPU only."""
    peak_flops: float | None = None
    """FLOP/s of large matrix products here, for MFU."""
    checkpoint_seconds: float = 60.0
    """Between two checkpoints, or longer if it takes long to write one."""
    evaluation_batch: int | None = None
    """Sequences in a pass of an evaluation, which keeps no activations; None: as in training."""
    shard: str = "never"
    """One of SHARDING: where several processes keep the weights."""

    def __post_init__(self) -> None:
        if self.shard not in SHARDING:
            raise InputError(f"shard is {self.shard!r}", f"choose one of {', '.join(SHARDING)}")

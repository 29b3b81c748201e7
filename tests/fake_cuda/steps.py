"""Whole training steps of llmscale on a fake device.

The only file here that knows how llmscale trains.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _foreach_utils

from fake_cuda.mistakes import MISTAKES
from fake_cuda.tracer import Phase, Tracer, on_device
from llmscale.measure.ops import build_operations
from llmscale.measure.optimizers import build_optimizer, set_learning_rate
from llmscale.measure.train.forward_backward import Passes
from llmscale.measure.train.low_rank import LowRank
from llmscale.measure.train.low_rank_optimizer import build_low_rank
from llmscale.measure.train.stack import Stack
from llmscale.measure.transformer import build_model
from llmscale.runs.shape import Shape, shape_for

PACKAGE = Path(torch.__file__).parent
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A run whose steps are traced."""

    size: str = "2x64x4"
    arch: str = "llama"
    vocab_size: int = 512
    context: int = 64
    batch: int = 4
    """Sequences a step, for each member of a stack."""
    micro_batch: int = 4
    dtype: str = "bfloat16"
    optimizer: str = "adamw"
    stack: int = 0
    """Members of a stack; 0 for a run that is none."""
    checkpointing: bool = False
    rank: int = 0
    """Of LoRA's adapters, which learn targets only; 0: all weights learn all tokens."""
    evaluate: bool = True
    mistake: str | None = None
    """A member of MISTAKES, made in every step between the backward pass and the clipping."""

    @property
    def shape(self) -> Shape:
        return shape_for(
            self.size, vocab_size=self.vocab_size, context=self.context, arch=self.arch
        )

    @property
    def members(self) -> int:
        return max(1, self.stack)


class Training:
    """The parts of a run, built and used as llmscale's own loop does."""

    def __init__(self, case: Case) -> None:
        self.case = case
        ops = build_operations("plain", case.dtype)
        models = [build_model(case.shape, seed, "standard", ops) for seed in range(case.members)]
        self.model: Any = Stack(models) if case.stack else models[0]
        _move_to_device(self.model)
        self.model.checkpointing = case.checkpointing
        settings: dict[str, Any] = {
            "lr": 1e-3,
            "beta2": 0.99,
            "weight_decay": 0.1,
            "dtype": case.dtype,
        }
        self.optimizer: torch.optim.Optimizer
        if case.rank:
            del settings["dtype"]
            self.optimizer = build_low_rank(models[0], LowRank(case.rank, 8.0), seed=0, **settings)
            # Steps are counted on the host, where to read them waits for nothing; but a fake tensor
            # has no value to read.
            for state in self.optimizer.state.values():
                state["step"] = 0
        else:
            self.optimizer = build_optimizer(case.optimizer, self.model, **settings)
        self.passes = Passes(self.model, case.micro_batch, masked=case.rank > 0)
        members = [case.stack] if case.stack else []
        self.inputs, self.targets = (
            torch.zeros(case.batch, *members, case.context, dtype=torch.int64, device="cuda")
            for _ in range(2)
        )
        self.loss_sum = torch.zeros(members, device="cuda")
        self.loss = self.norm = self.loss_sum
        self.evaluation: Tensor | None = None

    def fill_optimizer(self) -> None:
        """Have the optimiser make its state, as in a run's first step, so that the next one is like
        all that follow.
        """
        for _, weight in self.model.named_parameters():
            if weight.requires_grad:
                weight.grad = torch.zeros_like(weight)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, tracer: Tracer) -> None:
        """One step, of which nothing may wait for the device."""
        set_learning_rate(self.optimizer, 1e-3)
        with tracer.phase("gradient"):
            self.loss = self.passes.gradient(self.inputs, self.targets)
            self.loss_sum += self.loss
        if self.case.mistake is not None:
            MISTAKES[self.case.mistake](self)
        with tracer.phase("clip"):
            self.norm = self.model.clip_gradient(1.0)
        with tracer.phase("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def evaluate(self, tracer: Tracer) -> None:
        """Losses of as many sequences as a batch has, the same for every member."""
        tokens = torch.zeros(self.case.batch, self.case.context, dtype=torch.int64, device="cuda")
        with tracer.phase("evaluation"):
            self.evaluation = self.passes.sequence_losses(
                self.model.for_each(tokens), self.model.for_each(tokens)
            )

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All that must be on the device after a step, by name."""
        yield from self.model.named_parameters()
        yield from self.model.named_buffers()
        for number, state in enumerate(self.optimizer.state.values()):
            named = ((f"optimizer.{number}.{name}", value) for name, value in state.items())
            yield from (one for one in named if isinstance(one[1], Tensor))
        yield from (("loss", self.loss), ("loss_sum", self.loss_sum), ("norm", self.norm))
        if self.evaluation is not None:
            yield "evaluation", self.evaluation


def trace(case: Case) -> dict[str, Any]:
    """What the steps of `case` do on the device, in values that JSON can hold.

    `error` is None, or the class of what was raised, its message, and the last place in llmscale it
    came from."""
    tracer = Tracer()
    error = None
    elsewhere: list[str] = []
    tensors = 0
    steps = (
        1 if case.mistake is None else 2
    )  # what is planted in the first may be found in the second
    with as_on_a_gpu(), FakeTensorMode(), tracer:
        try:
            training = Training(case)
            training.fill_optimizer()
            for _ in range(steps):
                tracer.phases.clear()
                with tracer.strict():
                    training.step(tracer)
            if case.evaluate:
                with tracer.strict():
                    training.evaluate(tracer)
            named = dict(training.tensors())
            tensors = len(named)
            elsewhere = [name for name, tensor in named.items() if not on_device(tensor)]
        except Exception as raised:
            error = {
                "class": type(raised).__name__,
                "message": str(raised),
                "place": _place(raised),
            }
    return {
        "error": error,
        "tensors": tensors,
        "elsewhere": elsewhere,
        **_sums(case, tracer.phases),
    }


def measure(program: Callable[[], None]) -> dict[str, Any]:
    """What a program of programs.py does on the device."""
    with as_on_a_gpu(), FakeTensorMode(), Tracer() as tracer, tracer.phase("all"):
        program()
    return asdict(tracer.phases["all"])


def _move_to_device(model: nn.Module) -> None:
    """As `model.to("cuda")`: weights and registered buffers.

    Fake tensors cannot change their device in place.
    """
    for module in model.modules():
        for name, weight in nn.Module.named_parameters(module, recurse=False):
            setattr(module, name, nn.Parameter(weight.detach().to("cuda")))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to("cuda"))


def _sums(case: Case, phases: dict[str, Phase]) -> dict[str, Any]:
    """The figures of each phase; of the step, which is all but the evaluation; and what the plan
    takes them to be.
    """
    step = [phase for name, phase in phases.items() if name != "evaluation"]
    tokens = case.batch * case.context * case.members
    activation_bytes = 2 if case.dtype == "bfloat16" else 4
    return {
        "launches": sum(phase.launches for phase in step),
        "bytes": sum(phase.bytes for phase in step),
        "matmul_flops": sum(phase.matmul_flops for phase in step),
        "attention_flops": sum(phase.attention_flops for phase in step),
        "peak_bytes": max((phase.peak_bytes for phase in step), default=0),
        "planned_bytes": case.members
        * case.shape.memory_bytes(
            case.micro_batch, activation_bytes, several_parts=case.micro_batch < case.batch
        ),
        "planned_flops": case.shape.flops_per_token * tokens,
        "phases": {name: asdict(phase) for name, phase in phases.items()},
    }


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Have torch take the ways that it takes on a GPU, where it would ask a build with CUDA first.

    - bfloat16 by autocast, which is switched off where there is no CUDA;
    - foreach operations, which are kept from subclasses of Tensor, as fake ones are;
    - attention by the flash kernel, which stores no scores; a build without CUDA takes the one in
      plain products."""
    import torch.cuda.amp.common as amp

    kept = (
        amp.amp_definitely_not_available,
        torch.cuda.is_bf16_supported,
        F.scaled_dot_product_attention,
    )
    amp.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda including_emulation=True: True
    F.scaled_dot_product_attention = _flash_attention  # type: ignore[assignment]
    _foreach_utils._foreach_supported_types.append(FakeTensor)
    try:
        yield
    finally:
        (
            amp.amp_definitely_not_available,
            torch.cuda.is_bf16_supported,
            F.scaled_dot_product_attention,
        ) = kept
        _foreach_utils._foreach_supported_types.remove(FakeTensor)


def _flash_attention(
    q: Tensor, k: Tensor, v: Tensor, *, attn_mask: None = None, is_causal: bool, scale: float
) -> Tensor:
    attended: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
        q, k, v, 0.0, is_causal, False, scale=scale
    )[0]
    return attended


def _place(raised: BaseException) -> str:
    """The last line that is neither torch's nor of this folder, as `passes.py:12`."""
    frames = traceback.extract_tb(raised.__traceback__)
    own = [frame for frame in frames if not {PACKAGE, HERE} & set(Path(frame.filename).parents)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""

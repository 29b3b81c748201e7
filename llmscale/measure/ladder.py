"""The ladder of sizes on paper: what each model is and costs, on one device or over many GPUs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from llmscale.machine import pick_device
from llmscale.machine.gpus import USUAL_MFU, GPUModel, gpu_named
from llmscale.measure.sweep.spec import asked_spec
from llmscale.measure.train.recipe import Recipe
from llmscale.quantity import TokenBudget, parse_budget, parse_count, parse_list
from llmscale.runs.gpu_memory import Layout, plan_layout
from llmscale.runs.shape import USUAL_VOCABULARY, Shape, shape_for
from llmscale.settings import Range


@dataclass(frozen=True)
class Rung:
    """One size: its model, and how long it trains."""

    size: str
    shape: Shape
    tokens: int
    seconds: float
    """Estimated, for that many tokens."""
    layout: Layout | None = None
    """Over several GPUs."""
    batch_sequences: int | None = None


@dataclass(frozen=True)
class Ladder:
    """The sizes that were asked for, and what their times follow from."""

    rungs: tuple[Rung, ...]
    budget: TokenBudget
    arch: str
    vocab_size: int
    context: int
    peak_flops: float
    """FLOP/s of one device."""
    mfu: float
    """The share of that which training is expected to reach."""
    mfu_source: str = ""
    gpus: int = 0
    """GPUs that each size is laid out over; 0: one device of any kind."""
    gpu: GPUModel | None = None

    def to_json(self) -> dict[str, Any]:
        """As `llmscale shapes --json` prints it."""
        if self.gpu is not None:
            return {
                "gpus": self.gpus,
                "gpu": self.gpu.to_json(),
                "mfu": self.mfu,
                "mfu_source": self.mfu_source,
                "shapes": [_layout_json(rung) for rung in self.rungs],
            }
        return {
            "arch": self.arch,
            "vocab_size": self.vocab_size,
            "context": self.context,
            "peak_flops": self.peak_flops,
            "mfu": self.mfu,
            "shapes": [_shape_json(rung) for rung in self.rungs],
        }


def ladder(
    sizes: str,
    vocab_size: int = USUAL_VOCABULARY,
    tokens: str = "20x",
    *,
    peak: str | None = None,
    mfu: float | None = None,
    gpus: int | None = None,
    gpu: str = "h100",
    **settings: Any,
) -> Ladder:
    """The models of `sizes`, and how long each trains on `tokens`.

    `peak` is in FLOP/s, as `400T`; None measures it here in a second. `mfu` of None is 0.35, or for
    `gpus` what was published for such a `gpu`. `settings` are `context`, `arch` and `device` of a
    sweep. Raises InputError."""
    Range(0, 1, above=True).check("--mfu", mfu)
    spec = asked_spec(None, settings)
    budget, recipe = parse_budget(tokens), spec.recipe
    asked = parse_list(sizes, str.strip, "sizes")
    shapes = [
        shape_for(size, vocab_size=vocab_size, context=recipe.context, arch=recipe.arch)
        for size in asked
    ]
    source, device = "--mfu", None
    if gpus is not None:
        device = gpu_named(gpu)
        flops = device.peak_flops
        rungs = _laid_out(asked, shapes, budget, gpus, device)
        if mfu is None:
            mfu, source = device.mfu, device.mfu_source
    else:
        mfu = mfu or USUAL_MFU
        flops = parse_count(peak, "--peak") if peak else _measured_peak(spec.hardware.device)
        rungs = [
            Rung(size, shape, budget.tokens(shape.params), 0.0)
            for size, shape in zip(asked, shapes, strict=True)
        ]
    reached = (gpus or 1) * flops * mfu
    return Ladder(
        tuple(_timed(rung, reached) for rung in rungs),
        budget,
        arch=recipe.arch,
        vocab_size=vocab_size,
        context=recipe.context,
        peak_flops=flops,
        mfu=mfu,
        mfu_source=source,
        gpus=gpus or 0,
        gpu=device,
    )


def _laid_out(
    asked: Sequence[str], shapes: Sequence[Shape], budget: TokenBudget, gpus: int, gpu: GPUModel
) -> list[Rung]:
    rungs = []
    for size, shape in zip(asked, shapes, strict=True):
        tokens = budget.tokens(shape.params)
        recipe = Recipe(arch=shape.arch, context=shape.context)
        batch = recipe.batch_sequences(shape.params, tokens)
        layout = plan_layout(shape, gpus, gpu, batch)
        rungs.append(Rung(size, shape, tokens, 0.0, layout, batch))
    return rungs


def _timed(rung: Rung, flops_per_second: float) -> Rung:
    seconds = rung.tokens * rung.shape.flops_per_token / flops_per_second
    return replace(rung, seconds=seconds)


def _measured_peak(device: str) -> float:
    from llmscale.measure.train.calibrate import measure_peak
    from llmscale.measure.train.dtype import choose_dtype

    chosen = pick_device(device)
    return measure_peak(chosen, choose_dtype("auto", chosen).dtype)


def _shape_json(rung: Rung) -> dict[str, Any]:
    shape = rung.shape
    counts = ("n_layer", "d_model", "n_head", "d_head", "d_ff")
    weights = ("params_non_embedding", "params", "params_total", "flops_per_token")
    return {
        "size": rung.size,
        "shape": shape.name,
        **{name: getattr(shape, name) for name in (*counts, *weights)},
        "memory_bytes": shape.memory_bytes(),
        "tokens": rung.tokens,
        "estimated_seconds": rung.seconds,
    }


def _layout_json(rung: Rung) -> dict[str, Any]:
    shape, layout = rung.shape, rung.layout
    assert layout is not None
    memory = layout.memory
    return {
        "size": rung.size,
        "shape": shape.name,
        "params": shape.params,
        "params_total": shape.params_total,
        "tokens": rung.tokens,
        "batch_sequences": rung.batch_sequences,
        "layout": layout.name,
        "shard": layout.shard,
        "micro_batch": layout.micro_batch,
        "checkpointing": layout.checkpointing,
        "fits": layout.fits,
        "memory_bytes": {**asdict(memory), "states": memory.states, "total": memory.total},
        "estimated_seconds": rung.seconds,
    }

"""`llmscale shapes`: show the model of each size: shape, memory and time."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import JsonOption, takes_settings
from llmscale.machine.gpus import GPUS
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.quantity import format_bytes, format_count, format_seconds
from llmscale.runs.shape import USUAL_VOCABULARY

if TYPE_CHECKING:
    from llmscale.measure.ladder import Ladder

PARTS = ("states", "gathered", "activations", "total")
"""Of a GPU's memory."""


@takes_settings(SweepSpec, only=("context", "arch", "device"))
def shapes(
    sizes: Annotated[
        str,
        typer.Argument(metavar="1M,10M,...", help="Non-embedding counts, or shapes like 6x384x6"),
    ],
    vocab_size: Annotated[int, typer.Option(help="Entries of the vocabulary")] = USUAL_VOCABULARY,
    tokens: Annotated[
        str, typer.Option(help="Training tokens, for the time: 100M, or 20x per parameter")
    ] = "20x",
    peak: Annotated[
        str | None,
        typer.Option(help="FLOP/s of the device, such as 400T; default measured here in a second"),
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Share of the peak that training reaches; 0.35, or what was published",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(help="Lay each size out over so many GPUs, 8 a machine: memory, layout, time"),
    ] = None,
    gpu: Annotated[str, typer.Option(help=f"With --gpus: {GPUS.choices}")] = "h100",
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Show the model of each size: shape, parameter counts, FLOPs a token, memory, and estimated
    time. Example: llmscale shapes 1M,10M,100M --vocab-size 4096 --context 512"""
    from llmscale.measure.ladder import ladder

    found = ladder(sizes, vocab_size, tokens, peak=peak, mfu=mfu, gpus=gpus, gpu=gpu, **settings)
    if json:
        output.print_json(found.to_json())
    elif found.gpu is not None:
        _show_layouts(found)
    else:
        _show(found)


def _show(found: "Ladder") -> None:
    headings = ("size", "shape", "d_ff", "non-emb.", "N", "total", "FLOPs/token", "memory", "time")
    title = f"{found.arch}, vocabulary {found.vocab_size}, context {found.context}"
    table = output.make_table(title, *headings, left=2)
    for rung in found.rungs:
        shape = rung.shape
        table.add_row(
            rung.size,
            shape.name,
            str(shape.d_ff),
            format_count(shape.params_non_embedding),
            format_count(shape.params),
            format_count(shape.params_total),
            f"{shape.flops_per_token:.1e}",
            format_bytes(shape.memory_bytes()),
            format_seconds(rung.seconds),
        )
    output.results.print(table)
    output.results.print(
        "shape: layers x width x heads; N: non-embedding weights and the output projection; "
        f"memory: one sequence at a time in float32; time: {found.budget} tokens at "
        f"{found.mfu:.0%} of {found.peak_flops:.2e} FLOP/s"
    )


def _show_layouts(found: "Ladder") -> None:
    gpu = found.gpu
    assert gpu is not None
    headings = ("size", "shape", "N", "layout", "sequences", *PARTS, "tokens", "time")
    least = ("gathered", "states", "tokens")
    table = output.make_table(f"{found.gpus} x {gpu.name}", *headings, left=2, least=least)
    for rung in found.rungs:
        layout = rung.layout
        assert layout is not None
        table.add_row(
            rung.size,
            rung.shape.name,
            format_count(rung.shape.params),
            layout.name + ("" if layout.fits else " (too large)"),
            f"{layout.micro_batch}" + (" twice" if layout.checkpointing else ""),
            *(format_bytes(getattr(layout.memory, part)) for part in PARTS),
            format_count(rung.tokens),
            format_seconds(rung.seconds),
        )
    output.results.print(table)
    output.results.print(
        f"memory of each GPU, which has {format_bytes(gpu.memory_bytes)} ({gpu.source}); states: "
        "weights, gradients, AdamW's moments; gathered: others' weights for FSDP2; sequences: a "
        "GPU and pass, twice where activations are computed again in the backward pass; time: "
        f"{found.budget} tokens at {found.mfu:.0%} of {gpu.peak_flops:.3g} FLOP/s "
        f"({found.mfu_source})"
    )

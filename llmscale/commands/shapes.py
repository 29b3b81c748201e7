"""`llmscale shapes`: the ladder of sizes, on paper."""

from typing import Annotated, Any

import typer

from llmscale.commands import output
from llmscale.quantity import (
    TokenBudget,
    format_bytes,
    format_count,
    format_seconds,
    parse_budget,
    parse_count,
    parse_list,
)
from llmscale.runs.shape import (
    LEAST_CONTEXT,
    MOST_CONTEXT,
    USUAL_CONTEXT,
    USUAL_MFU,
    USUAL_VOCABULARY,
    Shape,
    shape_for,
)
from llmscale.settings import Range


def shapes(
    sizes: Annotated[
        str,
        typer.Argument(metavar="1M,10M,...", help="Non-embedding counts, or shapes like 6x384x6."),
    ],
    vocab_size: Annotated[int, typer.Option(help="Entries of the vocabulary.")] = USUAL_VOCABULARY,
    context: Annotated[int, typer.Option(help="Tokens a sequence.")] = USUAL_CONTEXT,
    arch: Annotated[str, typer.Option(help="llama or gpt2.")] = "llama",
    tokens: Annotated[
        str, typer.Option(help="Training tokens, for the time: 100M, or 20x per parameter.")
    ] = "20x",
    peak: Annotated[
        str | None,
        typer.Option(help="FLOP/s of the device, such as 400T; default measured here in a second."),
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Share of the peak that training reaches; 0.35, or what was published.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda, for measuring the peak.")
    ] = "auto",
    gpus: Annotated[
        int | None,
        typer.Option(
            help="Lay each size out over so many GPUs, 8 a machine: memory, layout, time."
        ),
    ] = None,
    gpu: Annotated[str, typer.Option(help="With --gpus: a100, h100 or h200.")] = "h100",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the model of each size: shape, parameter counts, FLOPs a token, memory, and estimated
    time.

    Example: llmscale shapes 1M,10M,100M --vocab-size 4096 --context 512
    """
    Range(0, 1, above=True).check("--mfu", mfu)
    Range(LEAST_CONTEXT, MOST_CONTEXT).check("--context", context)
    budget = parse_budget(tokens)
    asked = parse_list(sizes, str.strip, "sizes")
    ladder = [shape_for(size, vocab_size=vocab_size, context=context, arch=arch) for size in asked]
    if gpus is not None:
        _show_layouts(dict(zip(asked, ladder, strict=True)), budget, gpus, gpu, mfu, json)
        return
    mfu = mfu or USUAL_MFU
    flops_per_second = parse_count(peak, "--peak") if peak else _measured_peak(device)
    rows: list[dict[str, Any]] = [
        {
            "size": size,
            "shape": shape.name,
            "n_layer": shape.n_layer,
            "d_model": shape.d_model,
            "n_head": shape.n_head,
            "d_head": shape.d_head,
            "d_ff": shape.d_ff,
            "params_non_embedding": shape.params_non_embedding,
            "params": shape.params,
            "params_total": shape.params_total,
            "flops_per_token": shape.flops_per_token,
            "memory_bytes": shape.memory_bytes(),
            "tokens": budget.tokens(shape.params),
            "estimated_seconds": budget.tokens(shape.params)
            * shape.flops_per_token
            / (flops_per_second * mfu),
        }
        for size, shape in zip(asked, ladder, strict=True)
    ]
    if json:
        settings = {"arch": arch, "vocab_size": vocab_size, "context": context}
        output.print_json({**settings, "peak_flops": flops_per_second, "mfu": mfu, "shapes": rows})
        return
    headings = ("size", "shape", "d_ff", "non-emb.", "N", "total", "FLOPs/token", "memory", "time")
    table = output.make_table(
        f"{arch}, vocabulary {vocab_size}, context {context}", *headings, left=2
    )
    for row in rows:
        table.add_row(
            row["size"],
            row["shape"],
            str(row["d_ff"]),
            format_count(row["params_non_embedding"]),
            format_count(row["params"]),
            format_count(row["params_total"]),
            f"{row['flops_per_token']:.1e}",
            format_bytes(row["memory_bytes"]),
            format_seconds(row["estimated_seconds"]),
        )
    output.results.print(table)
    output.results.print(
        "shape: layers x width x heads; N: non-embedding weights and the output projection; "
        "memory: one sequence at a "
        f"time in float32; time: {budget} tokens at {mfu:.0%} of {flops_per_second:.2e} FLOP/s"
    )


def _show_layouts(
    shapes: dict[str, Shape],
    budget: TokenBudget,
    gpus: int,
    name: str,
    mfu: float | None,
    json: bool,
) -> None:
    from dataclasses import asdict

    from llmscale.measure.train.gpu_memory import REACHED, find_gpu, plan_layout
    from llmscale.measure.train.recipe import Recipe

    gpu = find_gpu(name)
    reached, source = (mfu, "--mfu") if mfu else REACHED[name.lower()]
    rows: list[dict[str, Any]] = []
    for size, shape in shapes.items():
        tokens = budget.tokens(shape.params)
        batch = Recipe(arch=shape.arch, context=shape.context).batch_sequences(shape.params, tokens)
        layout = plan_layout(shape, gpus, gpu, batch)
        rows.append(
            {
                "size": size,
                "shape": shape.name,
                "params": shape.params,
                "params_total": shape.params_total,
                "tokens": tokens,
                "batch_sequences": batch,
                "layout": layout.name,
                "shard": layout.shard,
                "micro_batch": layout.micro_batch,
                "checkpointing": layout.checkpointing,
                "fits": layout.fits,
                "memory_bytes": {
                    **asdict(layout.memory),
                    "states": layout.memory.states,
                    "total": layout.memory.total,
                },
                "estimated_seconds": tokens
                * shape.flops_per_token
                / (gpus * gpu.peak_flops * reached),
            }
        )
    if json:
        output.print_json(
            {"gpus": gpus, "gpu": asdict(gpu), "mfu": reached, "mfu_source": source, "shapes": rows}
        )
        return
    parts = ("states", "gathered", "activations", "total")
    table = output.make_table(
        f"{gpus} x {gpu.name}",
        "size",
        "shape",
        "N",
        "layout",
        "sequences",
        *parts,
        "tokens",
        "time",
        left=2,
    )
    for row in rows:
        table.add_row(
            row["size"],
            row["shape"],
            format_count(row["params"]),
            row["layout"] + ("" if row["fits"] else " (too large)"),
            f"{row['micro_batch']}" + (" twice" if row["checkpointing"] else ""),
            *(format_bytes(row["memory_bytes"][part]) for part in parts),
            format_count(row["tokens"]),
            format_seconds(row["estimated_seconds"]),
        )
    output.results.print(table)
    output.results.print(
        f"memory of each GPU, which has {format_bytes(gpu.memory_bytes)} ({gpu.source}); states: "
        "weights, gradients, "
        "AdamW's moments; gathered: others' weights for FSDP2; sequences: a GPU and pass, twice "
        "where activations are "
        f"computed again in the backward pass; time: {budget} tokens at {reached:.0%} of "
        f"{gpu.peak_flops:.3g} FLOP/s ({source})"
    )


def _measured_peak(device: str) -> float:
    from llmscale.machine import pick_device
    from llmscale.measure.train.calibrate import measure_peak
    from llmscale.measure.train.dtype import choose_dtype

    chosen = pick_device(device)
    return measure_peak(chosen, choose_dtype("auto", chosen).dtype)

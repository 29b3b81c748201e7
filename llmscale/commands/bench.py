"""`llmscale bench`: how fast this machine trains."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.quantity import format_bytes, format_count, format_seconds, parse_list
from llmscale.runs.shape import (
    LEAST_CONTEXT,
    MOST_CONTEXT,
    TOKENS_PER_PARAM,
    USUAL_CONTEXT,
    USUAL_VOCABULARY,
)
from llmscale.settings import Range

if TYPE_CHECKING:
    from llmscale.measure.train.job import Job
    from llmscale.measure.train.throughput import Throughput

SLOW_READING = 0.05
SOON_HOURS = 1.0
"""What a first sweep may take for each of its sizes."""
SMALL_SIZES = "10k,30k,100k,300k"
"""For a machine on which none of those measured is trained soon."""


def bench(
    sizes: Annotated[
        str, typer.Option(metavar="1M,10M", help="Non-embedding counts, or shapes such as 6x384x6.")
    ] = "300k,1M,3M,10M",
    context: Annotated[int, typer.Option(help="Tokens a sequence.")] = USUAL_CONTEXT,
    vocab_size: Annotated[int, typer.Option(help="Entries of the vocabulary.")] = USUAL_VOCABULARY,
    batch: Annotated[int, typer.Option(help="Sequences a step.")] = 16,
    arch: Annotated[str, typer.Option(help="llama or gpt2.")] = "llama",
    optimizer: Annotated[str, typer.Option(help="As for llmscale sweep.")] = "adamw",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Use torch.compile; default on a GPU alone."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; default one a core.")] = None,
    seconds: Annotated[
        float, typer.Option(help="Time for each size, after its first step.")
    ] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure training speed for each size: whole steps of the training loop, one run on all cores
    or one GPU.

    MFU is the share of the FLOP/s of large matrix products, the best of several measured before,
    between and after.

    Example: llmscale bench --sizes 300k,1M,3M
    """
    from llmscale.machine import available_cores, available_memory, device_name, pick_device
    from llmscale.measure.sweep.batches import activation_bytes, micro_batch
    from llmscale.measure.train.calibrate import measure_peak
    from llmscale.measure.train.conditions import Conditions
    from llmscale.measure.train.dtype import choose_dtype
    from llmscale.measure.train.throughput import measure_throughput, sample_tokens, throughput_job
    from llmscale.runs.shape import shape_for

    Range(0, 86_400, above=True).check("--seconds", seconds)
    Range(1, 1_000_000).check("--batch", batch)
    Range(1, 10_000).check("--threads", threads)
    Range(LEAST_CONTEXT, MOST_CONTEXT).check("--context", context)
    asked = parse_list(sizes, str.strip, "sizes")
    shapes = [shape_for(size, vocab_size=vocab_size, context=context, arch=arch) for size in asked]
    device = pick_device(device)
    chosen = choose_dtype(dtype, device, shapes, "these products")
    dtype = chosen.dtype
    jobs = [throughput_job(shape, batch, dtype, optimizer) for shape in shapes]
    compiled = device == "cuda" if compile is None else compile
    cores = (threads or available_cores()) if device == "cpu" else 1
    free = available_memory(device)
    conditions = [
        Conditions(device, micro_batch(shape, batch, device, free), compiled, threads=cores)
        for shape in shapes
    ]
    for size, shape, condition in zip(asked, shapes, conditions, strict=True):
        needed = shape.memory_bytes(condition.micro_batch, activation_bytes(device))
        if needed > free:
            raise InputError(
                f"size {size} needs about {format_bytes(needed)} of memory and "
                f"{format_bytes(free)} are free",
                "measure smaller sizes, or a smaller --batch or --vocab-size",
            )

    tokens = sample_tokens(vocab_size, max(1_000_000, 2 * context))
    peaks = [measure_peak(device, dtype, cores)]
    measured = []
    for size, job, condition in zip(asked, jobs, conditions, strict=True):
        output.progress.print(
            f"training {size} ({job.shape.name}) for {format_seconds(seconds)} ..."
        )
        measured.append(measure_throughput(job, condition, tokens, seconds))
        peaks.append(measure_peak(device, dtype, cores))
    rows = [_row(*each, max(peaks)) for each in zip(asked, jobs, measured, strict=True)]
    settings = {
        "device": device_name(device),
        "dtype": dtype,
        "dtype_reason": chosen.reason,
        "threads": cores if device == "cpu" else None,
        "compiled": compiled,
        "arch": arch,
        "optimizer": optimizer,
        "context": context,
        "vocab_size": vocab_size,
        "batch_tokens": jobs[0].batch_tokens,
        "peak_flops": max(peaks),
    }
    if json:
        output.print_json({**settings, "sizes": rows})
    else:
        _show(rows, settings)


def _row(size: str, job: "Job", measured: "Throughput", peak: float) -> dict[str, Any]:
    shape, speed = job.shape, measured.tokens_per_second
    return {
        "size": size,
        "shape": shape.name,
        "params_non_embedding": shape.params_non_embedding,
        "params": shape.params,
        "flops_per_token": shape.flops_per_token,
        **asdict(measured),
        "mfu": speed * shape.flops_per_token / peak,
        "hours_for_20_tokens_per_param": TOKENS_PER_PARAM * shape.params / speed / 3600,
    }


def _show(rows: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    threads = settings["threads"]
    cores = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
    compiled = ", compiled" if settings["compiled"] else ""
    title = f"{settings['device']}{cores}, {settings['dtype']}{compiled}"
    headings = (
        "size",
        "shape",
        "N",
        "tokens/s",
        "MFU",
        "reading",
        "memory",
        "first step",
        "20 tokens/param",
    )
    table = output.make_table(title, *headings, left=2)
    for row in rows:
        table.add_row(
            row["size"],
            row["shape"],
            format_count(row["params"]),
            format_count(row["tokens_per_second"]),
            f"{row['mfu']:.0%}",
            f"{row['reading_share']:.1%}",
            format_bytes(row["peak_memory_bytes"]),
            format_seconds(row["first_step_seconds"]),
            format_seconds(3600 * row["hours_for_20_tokens_per_param"]),
        )
    output.results.print(table)
    output.results.print(
        f"{settings['arch']}, vocabulary {settings['vocab_size']}, context {settings['context']}, "
        f"{settings['batch_tokens']} tokens a step, {settings['optimizer']}; MFU: share of "
        f"{settings['peak_flops']:.2e} FLOP/s, large matrix products here; reading: batches, as a "
        "share of the step; "
        "first step: with building and compiling, and for the first size what torch loads once; 20 "
        "tokens/param: time "
        f"for {TOKENS_PER_PARAM} N tokens"
    )
    output.results.print(f"{settings['dtype']}: {settings['dtype_reason']}")
    output.show_next(_hint(rows, settings["context"]))


def _hint(rows: list[dict[str, Any]], context: int) -> str:
    reading = max(rows, key=lambda row: row["reading_share"])
    if reading["reading_share"] > SLOW_READING:
        longer = command_line(
            "llmscale", "bench", "--sizes", reading["size"], "--context", 2 * context
        )
        return (
            f"size {reading['size']} spends {reading['reading_share']:.0%} of a step on "
            f"reading: {longer}"
        )
    soon = [row["size"] for row in rows if row["hours_for_20_tokens_per_param"] <= SOON_HOURS]
    sizes = ",".join(soon) or SMALL_SIZES
    return command_line("llmscale", "sweep", "--sizes", sizes, "--tokens", f"{TOKENS_PER_PARAM}x")

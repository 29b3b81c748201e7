"""`llmscale bench`: measure how fast this machine trains each size."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import JsonOption, takes_settings
from llmscale.commands._sweep_view import mfu_text
from llmscale.errors import counted
from llmscale.errors.command_lines import command_line
from llmscale.measure.sweep.spec import SweepSpec, asked_spec
from llmscale.quantity import format_bytes, format_count, format_seconds
from llmscale.runs.shape import TOKENS_PER_PARAM, USUAL_VOCABULARY
from llmscale.settings import stated_options

if TYPE_CHECKING:
    from llmscale.measure.bench import Bench

SLOW_READING = 0.05
SOON_HOURS = 1.0
"""What a first sweep may take for each of its sizes."""
SMALL_SIZES = "10k,30k,100k,300k"
"""For a machine on which none of those measured is trained soon."""


def _option(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel="What to measure")


@takes_settings(SweepSpec, only=("context", "arch", "optimizer", "device", "dtype"))
def bench(
    sizes: Annotated[
        str, _option("Non-embedding counts, or shapes such as 6x384x6")
    ] = "300k,1M,3M,10M",
    vocab_size: Annotated[int, _option("Entries of the vocabulary")] = USUAL_VOCABULARY,
    batch: Annotated[int, _option("Sequences a step")] = 16,
    compile: Annotated[bool | None, _option("Use torch.compile; default on a GPU only")] = None,
    threads: Annotated[int | None, _option("CPU threads; default one a core")] = None,
    seconds: Annotated[float, _option("Time for each size, after its first step")] = 10.0,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Measure training speed for each size: whole steps of the training loop, one run on all cores
    or one GPU.

    MFU is the share of the FLOP/s of large matrix products, the best of several measured before,
    between and after.

    Example: llmscale bench --sizes 300k,1M,3M
    """
    from llmscale.measure.bench import bench as measure

    measured = measure(
        sizes,
        vocab_size=vocab_size,
        batch=batch,
        compile=compile,
        threads=threads,
        seconds=seconds,
        tell=output.tell,
        **settings,
    )
    if json:
        output.print_json(measured.to_json())
    else:
        _show(measured, asked_spec(None, settings))


def _show(measured: "Bench", asked: SweepSpec) -> None:
    threads = measured.threads
    cores = f", {counted(threads, 'thread')}" if threads else ""
    compiled = ", compiled" if measured.compiled else ""
    title = f"{measured.device}{cores}, {measured.dtype}{compiled}"
    headings = ("size", "shape", "N", "tokens/s", "MFU", "reading", "memory", "start")
    table = output.make_table(title, *headings, f"{TOKENS_PER_PARAM}x", left=2)
    for row in measured.sizes:
        speed = row.throughput
        table.add_row(
            row.size,
            row.shape.name,
            format_count(row.shape.params),
            format_count(speed.tokens_per_second),
            mfu_text(measured.mfu(row)),
            f"{speed.reading_share:.1%}",
            format_bytes(speed.peak_memory_bytes),
            format_seconds(speed.first_step_seconds),
            format_seconds(3600 * row.hours),
        )
    output.results.print(table)
    output.results.print(
        f"{measured.arch}, vocabulary {measured.vocab_size}, context {measured.context}, "
        f"{measured.batch_tokens} tokens a step, {measured.optimizer}; MFU: share of "
        f"{measured.peak_flops:.2e} FLOP/s, large matrix products here; reading: batches, as a "
        "share of the step; start: the first step, with building and compiling, and for the first "
        f"size what torch loads once; {TOKENS_PER_PARAM}x: time for {TOKENS_PER_PARAM} N tokens"
    )
    output.results.print(f"{measured.dtype}: {measured.dtype_reason}")
    output.show_next(_hint(measured, asked))


def _hint(measured: "Bench", asked: SweepSpec) -> str:
    """What to do next, with what was `asked` for."""
    reading = max(measured.sizes, key=lambda row: row.throughput.reading_share)
    share = reading.throughput.reading_share
    if share > SLOW_READING:
        context = 2 * measured.context
        words = [*stated_options(asked, leave_out=["context"]), "--context", context]
        longer = command_line("llmscale", "bench", "--sizes", reading.size, *words)
        return f"size {reading.size} spends {share:.0%} of a step on reading: {longer}"
    soon = [row.size for row in measured.sizes if row.hours <= SOON_HOURS]
    sizes = ",".join(soon) or SMALL_SIZES
    tokens = f"{TOKENS_PER_PARAM}x"
    return command_line(
        "llmscale", "sweep", "--sizes", sizes, "--tokens", tokens, *stated_options(asked)
    )

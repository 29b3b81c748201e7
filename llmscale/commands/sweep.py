"""`llmscale sweep`: train a ladder of sizes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmscale.commands import output
from llmscale.errors.command_lines import command_line
from llmscale.quantity import format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.measure.sweep.result import SweepResult

MOST_LINES = 200
"""Runs that a table on the terminal lists, at most."""


def sweep(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.toml", help="A sweep described in TOML; options override it."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="1M,10M", help="Non-embedding counts, or shapes such as 6x384x6."),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            metavar="100M",
            help="Training tokens: one budget for every size, several (10M,30M or 5x,20x per "
            "parameter) to measure L(N, D); default one epoch.",
        ),
    ] = None,
    flops: Annotated[
        str | None,
        typer.Option(
            metavar="1e13,3e13",
            help="An IsoFLOP grid in place of sizes and tokens: for each compute budget sizes "
            "round the expected optimum.",
        ),
    ] = None,
    per_budget: Annotated[
        int | None, typer.Option(help="Sizes at each budget of --flops; default 5.")
    ] = None,
    optimum: Annotated[
        float | None,
        typer.Option(help="Tokens a parameter at which optima are expected; default 20."),
    ] = None,
    spread: Annotated[
        float | None,
        typer.Option(
            help="How far sizes go from the optimum on either side, as a factor; default 4."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Runs a size and budget, with different seeds.")
    ] = None,
    retry_diverged: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Try a diverged run again up to N times, each with half the learning rate.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="stdlib, files or globs, or a Hugging Face dataset."),
    ] = None,
    config: Annotated[str | None, typer.Option(help="The dataset's configuration.")] = None,
    split: Annotated[str | None, typer.Option(help="The dataset's split.")] = None,
    text_column: Annotated[str | None, typer.Option(help="The column that holds the text.")] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="bpe:4096 (trained on the text), a tokenizer.json, or a hub name."),
    ] = None,
    end_of_text: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="The token of your tokenizer that ends a document."),
    ] = None,
    validation_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="1M",
            help="Tokens of text to measure the loss on; default 1M, less for short runs.",
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="llama or gpt2.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens a sequence.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="One peak learning rate, in place of the rule in N.")
    ] = None,
    lr_scale: Annotated[
        float | None, typer.Option(help="Factor on the rule's learning rate.")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens a step, in place of the rule in D.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="A results folder of llmscale tune, whose rule to use.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="wsd or cosine.")] = None,
    trunk: Annotated[
        bool | None,
        typer.Option(
            "--trunk/--no-trunk",
            show_default=False,
            help="With wsd, train what several budgets of a size have in common once (default), or "
            "each by itself.",
        ),
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or muon.")] = None,
    parametrization: Annotated[
        str | None,
        typer.Option(help="standard, or mup: one learning rate for every width and depth."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
    gpus_per_run: Annotated[
        int | None, typer.Option(help="GPUs of this machine that train one run together.")
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="local, ray or slurm: the nodes of such a cluster.")
    ] = None,
    executor_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="As in [hardware.slurm]: partition=gpu; repeatable."
        ),
    ] = None,
    compile: Annotated[
        str | None, typer.Option(help="auto (runs long enough to repay it), always or never.")
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            help="Seeds as one batched model: auto (small ones on a GPU), always or never."
        ),
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option("--deterministic", help="On a GPU too, the same bits every time.")
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="mlflow,wandb", help="Show runs in tensorboard, wandb or mlflow, too."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The results folder, or a URL such as s3://bucket/name; default one named after "
            "the sweep."
        ),
    ] = None,
    max_hours: Annotated[
        float, typer.Option(help="Ask before starting what will take longer.")
    ] = 24.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train one Transformer for each size, and write a table of runs with their losses.

    Shows runs, cost and time first. Ctrl-C keeps everything: the same command goes on where it
    stopped, and with more sizes it trains only those. Weights of finished runs are deleted: what
    stays are their losses and curves.

    Example: llmscale sweep --sizes 10k,30k,100k,300k --tokens 4M
    """
    from llmscale.commands._watching import OnConsole
    from llmscale.measure.sweep import api
    from llmscale.measure.sweep.provenance import own_command

    result = api.sweep(
        file,
        out=out,
        max_hours=max_hours,
        yes=yes,
        dry_run=dry_run,
        progress=OnConsole(shows_plan=not (json and dry_run)),
        command=own_command(),
        flops=flops,
        per_budget=per_budget,
        optimum=optimum,
        spread=spread,
        retry_diverged=retry_diverged,
        track=track,
        sizes=sizes,
        tokens=tokens,
        seeds=seeds,
        data=data,
        config=config,
        split=split,
        text_column=text_column,
        tokenizer=tokenizer,
        end_of_text=end_of_text,
        validation_tokens=validation_tokens,
        arch=arch,
        context=context,
        lr=lr,
        lr_scale=lr_scale,
        batch_tokens=batch_tokens,
        rule=rule,
        schedule=schedule,
        trunk=trunk,
        optimizer=optimizer,
        parametrization=parametrization,
        device=device,
        dtype=dtype,
        workers=workers,
        gpus_per_run=gpus_per_run,
        executor=executor,
        executor_option=executor_option,
        compile=compile,
        stack=stack,
        deterministic=deterministic,
    )
    if dry_run:
        if json:
            output.print_json(result.to_json())
        return
    _finish(result, json)


def _finish(result: "SweepResult", json: bool) -> None:
    """Show the table of runs and what to do next; exit code 1 if a run failed or was not trained to
    its end.
    """
    from llmscale.measure.sweep.provenance import own_command
    from llmscale.runs.remote import is_url

    if json:
        output.print_json(result.to_json())
    else:
        _show_runs(result)
        place = result.where if is_url(result.where) else Path(result.where)
        fit, plot = (command_line("llmscale", verb, place) for verb in ("fit", "plot"))
        output.show_next(own_command() if result.unfinished else f"{fit}; {plot}")
    for note in result.end_notes:
        output.warn(note)
    if result.failed or result.unfinished:
        raise typer.Exit(1)


def _show_runs(result: "SweepResult") -> None:
    from llmscale.measure.sweep.result import run_name

    runs, where = result.runs, result.where
    headings = ("size", "N", "tokens", "loss", "perplexity", "bits/byte", "tokens/s", "MFU (wall)")
    table = output.make_table(f"{where}/runs.parquet", *headings, "time")
    for run in runs[-MOST_LINES:]:
        table.add_row(
            run_name(run),
            format_count(run.params),
            format_count(run.tokens),
            f"{run.loss:.4f}" if run.loss is not None else run.status,
            f"{run.perplexity:.2f}" if run.perplexity is not None else "",
            f"{run.bits_per_byte:.3f}" if run.bits_per_byte is not None else "",
            format_count(run.tokens_per_second) if run.tokens_per_second else "",
            f"{run.mfu:.0%}" + (f" ({run.wall_mfu:.0%})" if run.wall_mfu else "")
            if run.mfu
            else "",
            format_seconds(run.seconds) if run.seconds else "",
        )
    output.results.print(table)
    if len(runs) > MOST_LINES:
        output.results.print(
            f"the largest {MOST_LINES} of {len(runs):,} runs; all of them: {where}/runs.parquet"
        )

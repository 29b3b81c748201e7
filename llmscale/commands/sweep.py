"""`llmscale sweep`: train a ladder of sizes."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.errors import InputError
from llmscale.quantity import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.runs import ResultsFolder, Run
    from llmscale.sweep.plan import Plan
    from llmscale.sweep.spec import SweepSpec


def sweep(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.toml", help="A sweep described in TOML; options override it.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(metavar="1M,10M", help="Non-embedding counts, or shapes such as 6x384x6.")
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            metavar="100M",
            help="Training tokens: one budget for every size, several (10M,30M or 5x,20x per "
            "parameter) to measure L(N, D); default one epoch.",
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs a size and budget, with different seeds.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="stdlib, files or globs, or a Hugging Face dataset.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="The dataset's configuration.")] = None,
    split: Annotated[str | None, typer.Option(help="The dataset's split.")] = None,
    text_column: Annotated[str | None, typer.Option(help="The column that holds the text.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="bpe:4096 (trained on the text), a tokenizer.json, or a hub name.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="llama or gpt2.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens a sequence.")] = None,
    lr: Annotated[float | None, typer.Option(help="One peak learning rate, in place of the rule in N.")] = None,
    lr_scale: Annotated[float | None, typer.Option(help="Factor on the rule's learning rate.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens a step, in place of the rule in D.")] = None,
    rule: Annotated[str | None, typer.Option(help="A results folder of llmscale tune, whose rule to use.")] = None,
    schedule: Annotated[str | None, typer.Option(help="wsd or cosine.")] = None,
    trunk: Annotated[
        bool | None,
        typer.Option(
            "--trunk/--no-trunk",
            show_default=False,
            help="With wsd, train what several budgets of a size have in common once (default), or each by itself.",
        ),
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or muon.")] = None,
    parametrization: Annotated[
        str | None, typer.Option(help="standard, or mup: one learning rate for every width and depth.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
    compile: Annotated[str | None, typer.Option(help="auto (runs long enough to repay it), always or never.")] = None,
    stack: Annotated[
        str | None, typer.Option(help="Seeds as one batched model: auto (small ones on a GPU), always or never.")
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option("--deterministic", help="On a GPU too, the same bits every time.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The results folder; default one named after the sweep.")] = None,
    max_hours: Annotated[float, typer.Option(help="Ask before starting what will take longer.")] = 24.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train one Transformer for each size, and write a table of runs with their losses.

    Shows runs, cost and time first. Ctrl-C keeps everything: the same command goes on where it stopped, and with more
    sizes it trains only those.

    Example: llmscale sweep --sizes 10k,30k,100k,300k --tokens 4M
    """
    from llmscale.sweep.carry_out import carry_out
    from llmscale.sweep.plan import plan_sweep
    from llmscale.sweep.provenance import check_folder, command_line, describe_text
    from llmscale.sweep.records import finished_runs
    from llmscale.sweep.spec import SweepSpec, override, parse_budgets, parse_sizes, read_spec
    from llmscale.sweep.trunks import saved_branch_points

    if file is None and sizes is None:
        raise InputError("no sizes were given", "name them, as in: llmscale sweep --sizes 10k,30k,100k,300k")
    spec = override(
        read_spec(file) if file else SweepSpec(sizes=parse_sizes(sizes or "")),
        sizes=parse_sizes(sizes) if sizes is not None else None,
        tokens=parse_budgets(tokens) if tokens is not None else None,
        seeds=seeds,
        source=data,
        config=config,
        split=split,
        text_column=text_column,
        tokenizer=tokenizer,
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
        compile=compile,
        stack=stack,
        deterministic=deterministic,
    )
    folder = _folder(out, file, spec)
    check_folder(folder, spec)
    store = _prepare(spec)
    finished = finished_runs(folder)
    plan = plan_sweep(
        spec,
        store,
        finished.__contains__,
        tell=lambda text: output.progress.print(f"{text} ..."),
        saved=saved_branch_points(folder),
    )
    if not (json and dry_run):
        _show_plan(plan, describe_text(store), folder)
    for note in plan.notes:
        output.warn(note)
    if dry_run:
        if json:
            output.print_json({"out": str(folder.path), "data": describe_text(store), **plan.to_json()})
        return
    if plan.seconds > max_hours * 3600 and not yes:
        _ask(plan, max_hours)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from llmscale.commands.live import SweepProgress

    try:
        with SweepProgress(plan, folder) as progress:
            runs = carry_out(plan, spec, store, folder, command_line(), progress.report)
    except KeyboardInterrupt:
        output.progress.print(f"stopped; finished runs are in {folder.runs_path}, and the same command goes on")
        raise typer.Exit(output.EXIT_INTERRUPTED) from None
    ids = {run.job.run_id for run in plan.runs}
    _finish([run for run in runs if run.run_id in ids], folder, json)


def _folder(out: Path | None, file: Path | None, spec: "SweepSpec") -> "ResultsFolder":
    """Where results go: `--out`, results/NAME for NAME.toml, or a name that follows from text, recipe and budgets."""
    import hashlib
    import re
    from json import dumps

    from llmscale.runs import ResultsFolder

    if out is not None:
        return ResultsFolder(out)
    if file is not None:
        return ResultsFolder(Path("results") / file.stem)
    words = re.sub(r"[^a-z0-9]+", "-", Path(spec.data.source).name.split(".")[0].lower()).strip("-") or "text"
    deciding = dumps([spec.basis(), spec.to_json()["tokens"]], sort_keys=True)
    return ResultsFolder(Path("results") / f"{words}-{hashlib.blake2b(deciding.encode(), digest_size=3).hexdigest()}")


def _prepare(spec: "SweepSpec") -> Any:
    """The token store of the sweep's text, with progress on standard error."""
    from llmscale.commands.data import preparing
    from llmscale.sweep.plan import tokens_needed
    from llmscale.tokens import prepare

    needed = tokens_needed(spec)
    with preparing() as report:
        return prepare(spec.data, min_train_tokens=needed, progress=report)


def _show_plan(plan: "Plan", data: dict[str, Any], folder: "ResultsFolder") -> None:
    headings = ("size", "shape", "N", "tokens", "epochs", "FLOPs", "lr", "batch", "memory", "time", "")
    table = output.make_table(f"Plan: {len(plan.runs)} runs into {folder.path}", *headings, left=2)
    for run in plan.runs:
        job = run.job
        table.add_row(
            job.size + (f" seed {job.seed}" if job.seed else ""),
            job.shape.name,
            format_count(job.shape.params),
            format_count(job.tokens),
            f"{job.epochs:.2f}",
            f"{job.flops if run.finished else run.trained_flops:.1e}",
            f"{job.lr:.2g}",
            format_count(job.batch_tokens),
            format_bytes(run.memory_bytes),
            "done" if run.finished else format_seconds(run.seconds),
            run.origin,
        )
    output.progress.print(table)
    output.progress.print(
        f"text {data['source']}: {format_count(data['train_tokens'])} training and "
        f"{format_count(data['validation_tokens'])} validation tokens, vocabulary {data['vocab_size']}"
    )
    if plan.waiting:
        saves = f" (trunks save {plan.saving:.1f}x)" if plan.saving > 1 else ""
        output.progress.print(
            f"{len(plan.waiting)} to train, {plan.flops:.2e} FLOPs{saves}, about {format_seconds(plan.seconds)} on "
            f"{plan.device} ({plan.dtype}, {len(plan.places)} at a time, {plan.places[0].threads} threads each)"
        )


def _ask(plan: "Plan", max_hours: float) -> None:
    problem = f"the sweep will take about {format_seconds(plan.seconds)}, more than --max-hours {max_hours:g}"
    if not output.progress.is_terminal or not typer.confirm(f"{problem}. Start it?", err=True):
        raise InputError(problem, "start it with --yes, or plan less")


def _finish(runs: "list[Run]", folder: "ResultsFolder", json: bool) -> None:
    """Show the table of runs and what to do next; exit code 1 where a run failed."""
    from dataclasses import asdict

    failed = [run for run in runs if run.status == "failed"]
    if json:
        output.print_json({"out": str(folder.path), "runs": [asdict(run) for run in runs]})
    else:
        headings = ("size", "N", "tokens", "loss", "perplexity", "bits/byte", "tokens/s", "MFU", "time")
        table = output.make_table(str(folder.runs_path), *headings)
        for run in runs:
            table.add_row(
                run.size + (f" seed {run.seed}" if run.seed else ""),
                format_count(run.params),
                format_count(run.tokens),
                f"{run.loss:.4f}" if run.loss is not None else run.status,
                f"{run.perplexity:.2f}" if run.perplexity is not None else "",
                f"{run.bits_per_byte:.3f}" if run.bits_per_byte is not None else "",
                format_count(run.tokens_per_second) if run.tokens_per_second else "",
                f"{run.mfu:.0%}" if run.mfu else "",
                format_seconds(run.seconds) if run.seconds else "",
            )
        output.results.print(table)
        output.results.print(f"next: llmscale fit {folder.path}; llmscale plot {folder.path}")
    for run in runs:
        if run.status in ("failed", "diverged"):
            output.warn(f"{run.size} on {format_count(run.tokens)} tokens {run.status}: {run.error}")
    if failed:
        raise typer.Exit(1)

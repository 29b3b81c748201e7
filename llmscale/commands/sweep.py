"""`llmscale sweep`: train a ladder of sizes."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.quantity import format_bytes, format_count, format_seconds, parse_count
from llmscale.settings import Range

if TYPE_CHECKING:
    from collections.abc import Container

    from llmscale.measure.sweep.plan import Plan
    from llmscale.measure.sweep.spec import SweepSpec
    from llmscale.measure.train.job import Job
    from llmscale.runs.results_folder import ResultsFolder
    from llmscale.runs.run import Run

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
    from llmscale.measure.sweep.plan import plan_sweep
    from llmscale.measure.sweep.provenance import (
        check_folder,
        check_runs,
        describe_text,
        folder_dtype,
        own_command,
    )
    from llmscale.measure.sweep.records import find_damage, finished_runs
    from llmscale.measure.sweep.remote_results import fetch_results, kept_at, remote_of
    from llmscale.measure.sweep.retries import next_round
    from llmscale.measure.sweep.run import carry_out
    from llmscale.measure.sweep.spec import (
        SweepSpec,
        check_installed,
        override,
        parse_budgets,
        parse_flops,
        parse_sizes,
        parse_track,
        read_spec,
        with_executor_options,
    )
    from llmscale.measure.sweep.tracking import tracked
    from llmscale.measure.sweep.trunks import saved_branch_points
    from llmscale.measure.sweep.validation import settled
    from llmscale.runs.log import saved_step
    from llmscale.runs.results_folder import ResultsFolder

    Range(0, 1e6).check("--max-hours", max_hours)
    if file is None and sizes is None and flops is None:
        raise InputError(
            "no sizes were given", "name them, as in: llmscale sweep --sizes 10k,30k,100k,300k"
        )
    spec = override(
        read_spec(file) if file else SweepSpec(),
        sizes=parse_sizes(sizes) if sizes is not None else None,
        tokens=parse_budgets(tokens) if tokens is not None else None,
        flops=parse_flops(flops) if flops is not None else None,
        per_budget=per_budget,
        optimum=optimum,
        spread=spread,
        retry_diverged=retry_diverged,
        track=parse_track(track) if track is not None else None,
        seeds=seeds,
        source=data,
        config=config,
        split=split,
        text_column=text_column,
        tokenizer=tokenizer,
        end_of_text=end_of_text,
        validation_tokens=parse_count(validation_tokens, "validation token count")
        if validation_tokens
        else None,
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
        compile=compile,
        stack=stack,
        deterministic=deterministic,
    )
    spec = with_executor_options(spec, executor_option or ())
    check_installed(spec, starting=not dry_run)
    remote = remote_of(out)
    folder = ResultsFolder(remote.folder) if remote else _folder(out, file, spec)
    if remote:
        fetch_results(remote, look_only=dry_run)
    spec = settled(spec, folder.known_sweep().get("basis"))
    check_folder(folder, spec)
    store = _prepare(spec)
    finished = finished_runs(folder)
    plan = plan_sweep(
        spec,
        store,
        finished.__contains__,
        tell=lambda text: output.progress.print(f"{text} ..."),
        saved=saved_branch_points(folder),
        diverged=lambda run_id: run_id in finished and finished[run_id].status == "diverged",
        begun=folder_dtype(folder),
        reached=lambda run_id: saved_step(folder.run_folder(run_id).path),
    )
    where = remote.url if remote else str(folder.path)
    if not (json and dry_run):
        _show_plan(plan, describe_text(store), where)
    if rewritten := check_runs(folder, plan):
        output.warn(rewritten)
    for damage in find_damage(folder):
        output.warn(f"{damage.problem}; {damage.fix}")
    for note in plan.notes:
        output.warn(note)
    if dry_run:
        if json:
            output.print_json({"out": where, "data": describe_text(store), **plan.to_json()})
        return
    if plan.seconds > max_hours * 3600 and not yes:
        _ask(plan, max_hours)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from llmscale.commands.live import SweepProgress

    try:
        more: Plan | None = plan
        while more is not None:
            plan = more
            jobs = [run.job for run in plan.runs]
            with (
                SweepProgress(plan, folder) as progress,
                kept_at(remote, progress.report, output.tell) as sent,
                tracked(spec.track, jobs, folder, sent, output.warn) as report,
            ):
                runs = carry_out(plan, spec, store, folder, own_command(), report)
            more = next_round(plan, spec, store, folder)
            if more is not None:
                output.tell(f"{len(more.waiting)} runs are tried again with half the learning rate")
    except KeyboardInterrupt:
        output.tell(_stopped(plan, finished_runs(folder), where))
        raise typer.Exit(output.EXIT_INTERRUPTED) from None
    ids = {run.job.run_id for run in plan.runs}
    _finish([run for run in runs if run.run_id in ids], where, json)


def _folder(out: str | None, file: Path | None, spec: "SweepSpec") -> "ResultsFolder":
    """Where results go: `--out`, results/NAME for NAME.toml, or a name that follows from text,
    recipe and budgets.
    """
    import hashlib
    import re
    from json import dumps

    from llmscale.measure.sweep.validation import named_by
    from llmscale.runs.results_folder import ResultsFolder, results_folder

    if out is not None:
        return results_folder(out)
    if file is not None:
        return ResultsFolder(Path("results") / file.stem)
    words = (
        re.sub(r"[^a-z0-9]+", "-", Path(spec.data.source).name.split(".")[0].lower()).strip("-")
        or "text"
    )
    deciding = dumps(
        [named_by(spec).basis(), list(spec.flops) or spec.to_json()["tokens"]], sort_keys=True
    )
    return ResultsFolder(
        Path("results") / f"{words}-{hashlib.blake2b(deciding.encode(), digest_size=3).hexdigest()}"
    )


def _prepare(spec: "SweepSpec") -> Any:
    """The token store of the sweep's text, with progress on standard error."""
    from llmscale.commands.data import preparing, tell_of
    from llmscale.measure.sweep.jobs import tokens_needed
    from llmscale.measure.text.prepare import prepare

    needed = tokens_needed(spec)
    with preparing() as report:
        store = prepare(spec.data, min_train_tokens=needed, progress=report)
    tell_of(store)
    return store


def _show_plan(plan: "Plan", data: dict[str, Any], where: str) -> None:
    headings = (
        "size",
        "shape",
        "N",
        "tokens",
        "epochs",
        "FLOPs",
        "lr",
        "batch",
        "memory",
        "time",
        "",
    )
    table = output.make_table(f"Plan: {len(plan.runs)} runs into {where}", *headings, left=2)
    # Of many runs, those to be trained.
    shown = (
        plan.runs
        if len(plan.runs) <= MOST_LINES
        else [run for run in plan.runs if not run.finished]
    )[:MOST_LINES]
    for run in shown:
        job = run.job
        table.add_row(
            _name(job),
            job.shape.name,
            format_count(job.shape.params),
            format_count(job.tokens),
            f"{job.epochs:.2f}",
            f"{job.flops if run.finished else run.trained_flops:.1e}",
            f"{job.lr:.2g}",
            format_count(job.batch_tokens),
            format_bytes(run.memory_bytes),
            "done" if run.finished else _time(run.seconds),
            run.origin,
        )
    output.progress.print(table)
    if len(plan.runs) > len(shown):
        finished = len(plan.runs) - len(plan.waiting)
        more = len(plan.runs) - len(shown)
        output.progress.print(
            f"and {more:,} more runs ({finished:,} are done); all of them: --dry-run --json"
        )
    output.progress.print(
        f"text {data['source']}: {format_count(data['train_tokens'])} training and "
        f"{format_count(data['validation_tokens'])} validation tokens, vocabulary "
        f"{data['vocab_size']}"
    )
    if plan.waiting:
        saves = f" (trunks save {plan.saving:.1f}x)" if plan.saving > 1 else ""
        unit = "core" if plan.device == "cpu" else "GPU"
        begun = sum(run.is_begun for run in plan.waiting)
        of, before = (
            (f" of {plan.own_flops:.2e}", f" ({begun} begun before)") if begun else ("", "")
        )
        hours = f", {plan.device_hours:.2g} {unit} hours" if plan.seconds else ""
        output.progress.print(
            f"{len(plan.waiting)} to train, {plan.flops:.2e}{of} FLOPs{before}{saves}, "
            f"{_time(plan.seconds, 'about ')} on {plan.device}{hours} ({plan.dtype}, {plan.ways})"
        )
        output.progress.print(f"{plan.dtype}: {plan.dtype_reason}")


def _name(run: "Job | Run") -> str:
    """The size of a run, and what tells it from others of that size and budget."""
    recipe = f" {run.recipe}" if run.recipe not in (None, "default") else ""
    seed = f" seed {run.seed}" if run.seed else ""
    retry = " retry" if run.retry_of else ""
    return f"{run.size}{recipe}{seed}{retry}"


def _time(seconds: float, about: str = "") -> str:
    """Words for an estimate, which there is none of for a device that is not here."""
    return about + format_seconds(seconds) if seconds else "time unknown"


def _ask(plan: "Plan", max_hours: float) -> None:
    problem = (
        f"the sweep will take about {format_seconds(plan.seconds)}, more than --max-hours "
        f"{max_hours:g}"
    )
    if not output.progress.is_terminal or not typer.confirm(f"{problem}. Start it?", err=True):
        raise InputError(problem, "start it with --yes, or plan less")


def _stopped(plan: "Plan", finished: "Container[str]", where: str) -> str:
    """What an interrupted sweep leaves behind."""
    number = sum(run.job.run_id in finished for run in plan.runs)
    if number:
        return (
            f"stopped; {number} of {len(plan.runs)} runs are finished, in {where}, and the "
            "same command goes on"
        )
    return (
        f"stopped before a run was finished; what was trained is in {where}, and the same "
        "command goes on from there"
    )


def _finish(runs: "list[Run]", where: str, json: bool) -> None:
    """Show the table of runs and what to do next; exit code 1 where a run failed or has not been
    trained to its end.
    """
    from dataclasses import asdict

    from llmscale.errors import listed
    from llmscale.measure.sweep.notes import noise_note
    from llmscale.measure.sweep.provenance import own_command
    from llmscale.runs.remote import is_url

    failed = [run for run in runs if run.status == "failed"]
    unfinished = [run for run in runs if run.status not in ("done", "diverged", "failed")]
    if json:
        output.print_json({"out": where, "runs": [asdict(run) for run in runs]})
    else:
        headings = (
            "size",
            "N",
            "tokens",
            "loss",
            "perplexity",
            "bits/byte",
            "tokens/s",
            "MFU (wall)",
            "time",
        )
        table = output.make_table(f"{where}/runs.parquet", *headings)
        for run in runs[-MOST_LINES:]:
            table.add_row(
                _name(run),
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
        place = where if is_url(where) else Path(where)
        fit, plot = (command_line("llmscale", verb, place) for verb in ("fit", "plot"))
        output.show_next(own_command() if unfinished else f"{fit}; {plot}")
    for run in runs:
        if run.status in ("failed", "diverged"):
            output.warn(
                f"{_name(run)} on {format_count(run.tokens)} tokens {run.status}: {run.error}"
            )
    done = [run for run in runs if run.status == "done"]
    if noisy := noise_note(done):
        output.warn(noisy)
    spikes = sorted(
        (run for run in done if run.spike_height), key=lambda run: -(run.spike_height or 0)
    )
    if spikes:
        worst = spikes[0]
        output.warn(
            f"the training loss of {len(spikes)} of {len(done)} runs spiked and came back, of "
            f"{_name(worst)} on "
            f"{format_count(worst.tokens)} tokens by {worst.spike_height:.2f} nats at step "
            f"{worst.spike_step}"
        )
    if unfinished:
        names = listed(f"{_name(run)} on {format_count(run.tokens)} tokens" for run in unfinished)
        ended = f"{len(unfinished)} of {len(runs)} runs were ended before their last step: {names}"
        output.warn(f"{ended}; the same command goes on")
    if failed or unfinished:
        raise typer.Exit(1)

"""`llmscale tune`: find the learning rate and the batch of each size, and the rule that they
follow.
"""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.quantity import format_count, format_seconds, parse_count

if TYPE_CHECKING:
    from llmscale.measure.sweep.plan import Plan
    from llmscale.measure.sweep.spec import SweepSpec
    from llmscale.measure.tune.fit_rule import RuleFit
    from llmscale.measure.tune.result import Tuned, Tuning
    from llmscale.runs.results_folder import ResultsFolder


def tune(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE.toml", help="The TOML file of a sweep, whose sizes to tune."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="10k,100k", help="Non-embedding counts, or shapes such as 6x384x6."),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option(
            metavar="1M,4M",
            help="Training tokens; two budgets or more tell D from N. Default one epoch.",
        ),
    ] = None,
    batch: Annotated[bool, typer.Option("--batch/--no-batch", help="Search the batch too.")] = True,
    refine: Annotated[
        bool, typer.Option("--refine", help="Try √2 around the best of the factors of 2.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop/--no-stop", help="Stop hopeless trials early.")
    ] = True,
    doublings: Annotated[
        int, typer.Option(min=1, help="How far to look each way, in factors of 2.")
    ] = 5,
    seeds: Annotated[
        int | None, typer.Option(help="Runs a trial, whose losses are averaged.")
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
            metavar="1M", help="Tokens of text to measure the loss on, as for llmscale sweep."
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="llama or gpt2.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens a sequence.")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Where to start, in place of the rule in N.")
    ] = None,
    lr_scale: Annotated[
        float | None, typer.Option(help="Factor on the rule's learning rate to start from.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens a step to start from.")] = None,
    rule: Annotated[str | None, typer.Option(help="A tune.json whose rule to start from.")] = None,
    schedule: Annotated[str | None, typer.Option(help="wsd or cosine.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="As for llmscale sweep.")] = None,
    parametrization: Annotated[str | None, typer.Option(help="As for llmscale sweep.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    workers: Annotated[int | None, typer.Option(help="Runs at a time.")] = None,
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
    out: Annotated[
        str | None,
        typer.Option(
            help="The results folder, or a URL of one; default one named after what is tuned."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the first trials and stop.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find the learning rate and the batch of each size, and the rule in N and D that they follow.

    Tries half and twice the rule in use, goes on until the best has a worse one on both sides, and
    stops trials that cannot catch up. Ctrl-C keeps everything: the same command goes on, and more
    sizes add to the rule.

    Example: llmscale tune --sizes 10k,30k,100k --tokens 1M,4M --out results/tuned
    """
    from llmscale.measure.sweep.provenance import own_command
    from llmscale.measure.sweep.records import find_damage
    from llmscale.measure.sweep.remote_results import fetch_results, kept_at, remote_of
    from llmscale.measure.sweep.spec import (
        SweepSpec,
        check_installed,
        override,
        parse_budgets,
        parse_sizes,
        read_spec,
        with_executor_options,
    )
    from llmscale.measure.sweep.validation import settled
    from llmscale.measure.tune.run import Study
    from llmscale.measure.tune.search import Grid
    from llmscale.measure.tune.tune_json import check_folder, known_basis
    from llmscale.runs.results_folder import ResultsFolder

    asked = read_spec(file) if file else SweepSpec()
    if sizes is None and not asked.sizes:
        raise InputError(
            "no sizes were given",
            "name them, as in: llmscale tune --sizes 10k,30k,100k --tokens 1M,4M",
        )
    spec = override(
        asked,
        sizes=parse_sizes(sizes) if sizes is not None else None,
        tokens=parse_budgets(tokens) if tokens is not None else None,
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
        optimizer=optimizer,
        parametrization=parametrization,
        device=device,
        dtype=dtype,
        workers=workers,
        executor=executor,
        compile=compile,
    )
    spec = with_executor_options(spec, executor_option or ())
    check_installed(spec, starting=not dry_run, tracking=False)
    remote = remote_of(out)
    folder = ResultsFolder(remote.folder) if remote else _folder(out, file, spec)
    if remote:
        fetch_results(remote, look_only=dry_run)
    spec = settled(spec, known_basis(folder))
    if rewritten := check_folder(folder, spec):
        output.warn(rewritten)
    for damage in find_damage(folder):
        output.warn(f"{damage.problem}; {damage.fix}")
    study = Study(spec, Grid(batch, refine, doublings), _prepare(spec), folder, stop)
    plan = study.next_round(tell=lambda text: output.progress.print(f"{text} ..."))
    if dry_run:
        _show_plan(plan, study.tuning(), folder, json)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from llmscale.commands.live import SweepProgress

    try:
        while plan is not None:
            output.progress.print(_describe(plan))
            with (
                SweepProgress(plan, folder) as progress,
                kept_at(remote, progress.report, output.tell) as report,
            ):
                study.carry_out(plan, own_command(), report)
            plan = study.next_round()
        if remote and remote.waiting():  # of an earlier command that could not send all
            with kept_at(remote, lambda event: None, output.tell):
                pass
    except KeyboardInterrupt:
        output.tell(
            f"stopped; finished trials are in {out or folder.path}, and the same command goes on"
        )
        raise typer.Exit(output.EXIT_INTERRUPTED) from None
    _show(study.tuning(), spec, folder, json)


def _folder(out: str | None, file: Path | None, spec: "SweepSpec") -> "ResultsFolder":
    """Where results go: `--out`, results/tune-NAME for NAME.toml, or a name that follows from text
    and recipe.
    """
    import hashlib
    from json import dumps

    from llmscale.measure.sweep.validation import named_by
    from llmscale.runs.results_folder import ResultsFolder, results_folder

    if out is not None:
        return results_folder(out)
    basis = dumps(named_by(spec).basis(), sort_keys=True).encode()
    name = file.stem if file else hashlib.blake2b(basis, digest_size=3).hexdigest()
    return ResultsFolder(Path("results") / f"tune-{name}")


def _prepare(spec: "SweepSpec") -> Any:
    """The token store of the text, with progress on standard error."""
    from llmscale.commands.data import preparing, tell_of
    from llmscale.measure.sweep.jobs import tokens_needed
    from llmscale.measure.text.prepare import prepare

    with preparing() as report:
        store = prepare(spec.data, min_train_tokens=tokens_needed(spec), progress=report)
    tell_of(store)
    return store


def _describe(plan: "Plan") -> str:
    trials = "1 trial" if len(plan.runs) == 1 else f"{len(plan.runs)} trials"
    return (
        f"{trials}, {plan.flops:.2e} FLOPs, about {format_seconds(plan.seconds)}, "
        f"{len(plan.places)} at a time"
    )


def _show_plan(plan: "Plan | None", tuning: "Tuning", folder: "ResultsFolder", json: bool) -> None:
    """The trials that would be trained next."""
    if json:
        output.print_json({"out": str(folder.path), **(plan.to_json() if plan else {"runs": []})})
        return
    if plan is None:
        output.progress.print(
            "every search has ended; without --dry-run the command shows what it found"
        )
        return
    table = output.make_table(
        f"First trials into {folder.path}", "size", "N", "tokens", "lr", "batch", "steps", "time"
    )
    for run in plan.runs:
        job = run.job
        table.add_row(
            job.size + (f" seed {job.seed}" if job.seed else ""),
            format_count(job.shape.params),
            format_count(job.tokens),
            f"{job.lr:.3g}",
            format_count(job.batch_tokens),
            f"{job.steps}",
            format_seconds(run.seconds),
        )
    output.progress.print(table)
    output.progress.print(f"{_describe(plan)}; more follow until every optimum is bracketed")
    output.progress.print(f"{plan.dtype}: {plan.dtype_reason}")


def _as_options(spec: "SweepSpec") -> list[object]:
    """The sizes, budgets, text and recipe of `spec` as options of a sweep, those of them that are
    not the usual.
    """
    usual = type(spec)()
    words: list[object] = ["--sizes", ",".join(spec.sizes)]
    if spec.tokens:
        words += ["--tokens", ",".join(str(budget) for budget in spec.tokens)]
    for table, names in (
        ("data", ("source", "config", "split", "text_column", "tokenizer")),
        ("recipe", ("context", "arch", "schedule", "optimizer", "parametrization")),
    ):
        for name in names:
            value = getattr(getattr(spec, table), name)
            if value != getattr(getattr(usual, table), name):
                words += ["--data" if name == "source" else f"--{name.replace('_', '-')}", value]
    return words


def _show(tuning: "Tuning", spec: "SweepSpec", folder: "ResultsFolder", json: bool) -> None:
    if json:
        output.print_json({"out": str(folder.path), **tuning.to_json()})
    else:
        _show_rungs(tuning, folder)
        if tuning.rule:
            for name, what in (("lr", "learning rate"), ("batch_tokens", "tokens a step")):
                if name in tuning.fits:
                    output.print_text(f"{what} = {_describe_fit(tuning.fits[name])}")
            output.show_next(
                command_line("llmscale", "sweep", *_as_options(spec), "--rule", folder.path)
            )
    for note in tuning.notes:
        output.warn(note)
    if tuning.rule is None:
        raise typer.Exit(1)


def _show_rungs(tuning: "Tuning", folder: "ResultsFolder") -> None:
    title = f"{folder.path / 'tune.json'}"
    headings = (
        "size",
        "N",
        "tokens",
        "lr",
        "x rule",
        "rule's loss",
        "batch",
        "loss",
        "trials",
        "stopped",
        "bracketed",
    )
    table = output.make_table(title, *headings)
    for tuned in tuning.rungs:
        rung = tuned.rung
        row = [rung.size, format_count(rung.params), format_count(rung.tokens)]
        if tuned.finished:
            row += [
                f"{tuned.lr:.3g}",
                f"{tuned.lr / rung.lr:.2f}",
                f"{tuned.penalty:+.2%}" if tuned.penalty is not None else "",
                format_count(tuned.batch_tokens),
                f"{tuned.loss:.4f}",
            ]
        else:
            row += [""] * 5
        row += [
            str(tuned.count("done", "diverged", "stopped")),
            str(tuned.count("stopped")),
            _brackets(tuned),
        ]
        table.add_row(*row)
    output.results.print(table)
    spared = tuning.flops_saved / (tuning.flops + tuning.flops_saved)
    output.results.print(
        f"{tuning.flops:.2e} FLOPs trained; stopping hopeless trials spared {spared:.0%}"
    )


def _brackets(tuned: "Tuned") -> str:
    if not tuned.finished:
        return "unfinished"
    open_ends = [
        name
        for name, bracketed in (
            ("lr", tuned.search.lr_bracketed),
            ("batch", tuned.search.batch_bracketed),
        )
        if bracketed is False
    ]
    return f"not in {', '.join(open_ends)}" if open_ends else "yes"


def _describe_fit(fit: "RuleFit") -> str:
    """The law, its exponents with intervals, and the spread of the optima about it."""
    parts = [str(fit.power)]
    for name, letter in (("params", "N"), ("tokens", "D")):
        if name in fit.exponents and (interval := fit.exponents[name].interval):
            parts.append(f"exponent in {letter} [{interval[0]:.3f}, {interval[1]:.3f}]")
    if fit.spread is not None:
        parts.append(f"optima within {fit.spread:.0%} of it")
    return "   ".join(parts)

"""`llmscale tune`: find the learning rate and the batch of each size, and the rule that they
follow.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmscale.commands import output
from llmscale.errors.command_lines import command_line
from llmscale.quantity import format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.measure.sweep.spec import SweepSpec
    from llmscale.measure.tune.api import TuneResult
    from llmscale.measure.tune.fit_rule import RuleFit
    from llmscale.measure.tune.result import Tuned, Tuning
    from llmscale.runs.folder import ResultsFolder


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
    from llmscale.commands._watching import OnConsole
    from llmscale.measure.sweep.provenance import own_command
    from llmscale.measure.tune import api

    result = api.tune(
        file,
        batch=batch,
        refine=refine,
        stop=stop,
        doublings=doublings,
        out=out,
        dry_run=dry_run,
        progress=OnConsole(),
        command=own_command(),
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
        optimizer=optimizer,
        parametrization=parametrization,
        device=device,
        dtype=dtype,
        workers=workers,
        executor=executor,
        executor_option=executor_option,
        compile=compile,
    )
    if dry_run:
        _show_plan(result, json)
    else:
        _show(result, json)


def _show_plan(result: "TuneResult", json: bool) -> None:
    """The trials that would be trained next."""
    from llmscale.measure.tune.api import describe_round

    plan, folder = result.plan, result.folder
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
    output.progress.print(f"{describe_round(plan)}; more follow until every optimum is bracketed")
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


def _show(result: "TuneResult", json: bool) -> None:
    tuning, spec, folder = result.tuning, result.spec, result.folder
    if json:
        output.print_json(result.to_json())
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

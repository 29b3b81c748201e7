"""`llmscale tune`: find the learning rate and the batch of each size."""

from typing import TYPE_CHECKING, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import (
    DryRunOption,
    FileArgument,
    JsonOption,
    OutOption,
    takes_settings,
)
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.tune.spec import SearchSpec
from llmscale.quantity import format_count, format_seconds

if TYPE_CHECKING:
    from llmscale.measure.tune.api import TuneResult
    from llmscale.measure.tune.fit_rule import RuleFit
    from llmscale.measure.tune.result import Tuned, Tuning
    from llmscale.runs.results_folder import ResultsFolder

_GRID = ("flops", "per_budget", "optimum", "spread")
NOT_OF_TUNING = (*_GRID, "retry_diverged", "trunk", "stack")
"""Settings of a sweep that a search of learning rates has no use for."""


@takes_settings(SearchSpec, SweepSpec, leave_out=NOT_OF_TUNING)
def tune(
    file: FileArgument = None,
    out: OutOption = None,
    dry_run: DryRunOption = False,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
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
        out=out,
        dry_run=dry_run,
        progress=OnConsole(every_note=notes),
        command=own_command(),
        **settings,
    )
    if dry_run:
        _show_plan(result, json)
    else:
        _show(result, json, notes)


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
    for rule in plan.rules:
        output.progress.print(rule)
    output.progress.print(f"{describe_round(plan)}; more follow until every optimum is bracketed")
    output.progress.print(f"{plan.dtype}: {plan.dtype_reason}")


def _show(result: "TuneResult", json: bool, every_note: bool) -> None:
    from llmscale.measure.sweep.provenance import own_command
    from llmscale.runs.own_command import sweep_by_rule

    tuning, folder = result.tuning, result.folder
    if json:
        output.print_json(result.to_json())
    else:
        _show_rungs(tuning, folder)
        if tuning.rule:
            for name, what in (("lr", "learning rate"), ("batch_tokens", "tokens a step")):
                if name in tuning.fits:
                    output.print_text(f"{what} = {_describe_fit(tuning.fits[name])}")
            sizes = dict.fromkeys(tuned.rung.size for tuned in tuning.rungs)
            output.show_next(sweep_by_rule(own_command(), sizes, folder.path))
    output.warn_all(tuning.notes, every=every_note)
    if tuning.rule is None:
        raise typer.Exit(1)


def _show_rungs(tuning: "Tuning", folder: "ResultsFolder") -> None:
    title = f"{folder.path / 'tune.json'}"
    headings = (
        "size",
        "N",
        "tokens",
        "lr",
        "factor",
        "gain",
        "batch",
        "loss",
        "trials",
        "stopped",
        "bracketed",
    )
    table = output.make_table(title, *headings, least=("stopped", "gain", "factor"))
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
    output.results.print(
        "factor: the learning rate against the rule in use; gain: how much higher the loss is by "
        "that rule"
    )
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

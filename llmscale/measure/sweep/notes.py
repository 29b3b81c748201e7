"""What a plan warns of."""

import itertools
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmscale.errors import Note
from llmscale.measure.sweep.kernels import kernel_notes
from llmscale.measure.train.recipe import DEFAULT
from llmscale.quantity import format_bytes, format_count
from llmscale.runs.run import FEW_STEPS

if TYPE_CHECKING:
    from llmscale.measure.sweep.planned_run import PlannedRun
    from llmscale.measure.sweep.spec import SweepSpec
    from llmscale.runs.run import Run

STANDARD_ERRORS = 5
"""How far apart the losses of two sizes are to be, in standard errors of a loss."""
REPEATED_EPOCHS = 4
"""Up to about this many epochs repeated text is worth nearly as much as new text (Muennighoff et
al. 2023).
"""


def plan_notes(
    runs: "Sequence[PlannedRun]", spec: "SweepSpec", free_bytes: int, device: str
) -> list[Note]:
    """What to know of `runs` of `spec` before they are trained on `device`, which has `free_bytes`
    of memory.
    """
    jobs, notes = [run.job for run in runs], []
    if spec.flops:
        notes.append(
            Note(
                "isoflop-grid",
                f"each of {len(spec.flops)} budgets has {spec.per_budget} sizes, from "
                f"1/{spec.spread:g} to "
                f"{spec.spread:g} times the N at which it pays for {spec.optimum:g} tokens a "
                "parameter, the expected "
                "optimum (by default the 20 of Hoffmann et al. 2022); fit with --method isoflop "
                "says where it is",
            )
        )
    if len({job.tokens for job in jobs}) == 1:
        budget = format_count(jobs[0].tokens)
        notes.append(
            Note(
                "one-token-budget",
                f"one budget of {budget} tokens for every size measures L(N) at {budget} tokens; "
                "several, as in --tokens 5x,20x,80x, measure L(N, D)",
            )
        )
    most = max(job.epochs for job in jobs)
    if most > 1:
        text = format_count(max(job.unique_tokens for job in jobs))
        beyond = (
            ", far past the 4 epochs up to which that is nearly harmless"
            if most > REPEATED_EPOCHS
            else ""
        )
        notes.append(
            Note(
                "repeated-data",
                f"the text has {text} tokens, so some runs read it {most:.1f} times{beyond}",
            )
        )
    short = [job for job in jobs if job.steps < FEW_STEPS]
    if short:
        notes.append(
            Note(
                "few-steps",
                f"size {short[0].size} gets only {short[0].steps} steps; train on more tokens",
            )
        )
    for run in runs:
        if run.memory_bytes > free_bytes and not run.finished:
            need, have = format_bytes(run.memory_bytes), format_bytes(free_bytes)
            notes.append(
                Note(
                    "memory",
                    f"size {run.job.size} needs about {need} of memory and {device} has {have}",
                )
            )
    if device == "cpu" and not all(run.finished for run in runs):
        notes += kernel_notes()
    for name, recipe in spec.variants.items():
        mine = [job for job in jobs if job.recipe == name]
        if mine and recipe.batch_tokens not in (None, mine[0].batch_tokens):
            sequences = f"a step takes whole sequences of {recipe.context} tokens"
            become = f"{recipe.batch_tokens} tokens a step become {mine[0].batch_tokens}"
            notes.append(Note("batch-rounded", f"{sequences}: {become}"))
        if mine and recipe.tuned_rule:
            notes += recipe.tuned_rule.notes(
                [(job.shape.params, job.tokens) for job in mine], recipe
            )
    return notes


def noise_note(done: "Sequence[Run]") -> Note | None:
    """A warning where the losses of sizes next to each other lie nearer than five standard errors
    of one of them.

    All are measured on the same text, so their differences are known better than that: it is a rule
    of thumb."""
    by_budget: dict[int, dict[int, list[float]]] = {}
    for run in done:
        if run.loss is not None and run.recipe in (None, DEFAULT):
            by_budget.setdefault(run.tokens, {}).setdefault(run.params, []).append(run.loss)
    gaps = []
    for sizes in by_budget.values():
        means = [statistics.fmean(losses) for _, losses in sorted(sizes.items())]
        gaps += [abs(larger - smaller) for smaller, larger in itertools.pairwise(means)]
    largest = max((run.loss_stderr for run in done if run.loss_stderr is not None), default=0.0)
    if not gaps or largest <= min(gaps) / STANDARD_ERRORS:
        return None
    return Note(
        "noisy-loss",
        f"the loss has a standard error of {largest:.3f}, and the smallest gap between two sizes "
        f"is {min(gaps):.3f}, "
        f"less than {STANDARD_ERRORS} of them: measure it on more text with --validation-tokens, "
        "in a new folder",
    )

"""What a plan warns of."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmscale.errors import Note, both, counted
from llmscale.measure.sweep.kernels import kernel_notes
from llmscale.measure.train.recipe import DEFAULT, Recipe
from llmscale.notes.fitting import FEW_STEPS, ONE_TOKEN_BUDGET, REPEATED_DATA
from llmscale.notes.measuring import (
    BATCH_ROUNDED,
    HELD_OUT_SHORT,
    ISOFLOP_GRID,
    MEMORY,
    NOISY_LOSS,
)
from llmscale.quantity import format_bytes, format_count

if TYPE_CHECKING:
    from llmscale.measure.sweep.planned_run import PlannedRun
    from llmscale.measure.sweep.spec import SweepSpec
    from llmscale.measure.text.store import TokenStore, ValidationPart
    from llmscale.measure.train.job import Job
    from llmscale.runs.run import Run

MOST_HELD_OUT = 1e8
"""Tokens to measure on that are asked for, at most."""
_MORE_TOKENS = "with --validation-tokens, in a new folder"
REPEATED_EPOCHS = 4
"""Up to about this many epochs repeated text is worth nearly as much as new text (Muennighoff et
al. 2023)."""


def plan_notes(
    runs: "Sequence[PlannedRun]", spec: "SweepSpec", free_bytes: int, device: str
) -> list[Note]:
    """What to know of `runs` of `spec` before they are trained on `device`, which has `free_bytes`
    of memory."""
    jobs = [run.job for run in runs]
    notes = []
    if jobs[0].finetuning is not None:  # whose budgets and epochs are meant
        return _of_hardware(runs, free_bytes, device)
    for name, recipe in spec.variants.items():
        mine = [job for job in jobs if job.recipe == name]
        if mine:
            notes += _of_recipe(recipe, mine)
    found = (_grid(spec), _one_budget(jobs), _repeated(spec, jobs), _short(spec, jobs))
    notes += [note for note in found if note is not None]
    return notes + _of_hardware(runs, free_bytes, device)


def _of_hardware(runs: "Sequence[PlannedRun]", free_bytes: int, device: str) -> list[Note]:
    notes = [_memory(run, free_bytes, device) for run in runs if _too_large(run, free_bytes)]
    if device == "cpu" and not all(run.finished for run in runs):
        notes += kernel_notes()
    return notes


def _grid(spec: "SweepSpec") -> Note | None:
    """Which sizes each budget of --flops has."""
    if not spec.flops:
        return None
    return ISOFLOP_GRID.note(
        f"each of {counted(len(spec.flops), 'budget')} has {spec.per_budget} sizes, from "
        f"1/{spec.spread:g} to {spec.spread:g} times the N at which it pays for "
        f"{spec.optimum:g} tokens a parameter, the expected optimum (by default the 20 of "
        "Hoffmann et al. 2022); fit with --method isoflop says where it is"
    )


def _one_budget(jobs: "Sequence[Job]") -> Note | None:
    if len({job.tokens for job in jobs}) != 1:
        return None
    budget = format_count(jobs[0].tokens)
    several = ",".join(format_count(factor * jobs[0].tokens) for factor in (1, 3, 10))
    return ONE_TOKEN_BUDGET.note(
        f"one budget of {budget} tokens for every size measures L(N) at {budget} tokens; several, "
        f"as in --tokens {several}, measure L(N, D)"
    )


def _repeated(spec: "SweepSpec", jobs: "Sequence[Job]") -> Note | None:
    most = max(job.epochs for job in jobs)
    if most <= REPEATED_DATA.limit:
        return None
    text = format_count(max(job.unique_tokens for job in jobs))
    beyond = ""
    if most > REPEATED_EPOCHS:
        beyond = f", far past the {REPEATED_EPOCHS} epochs up to which that is nearly harmless"
    if spec.epochs or spec.unique_tokens:
        return REPEATED_DATA.note(
            f"some runs read their text up to {most:g} times, as they are asked to{beyond}"
        )
    return REPEATED_DATA.note(
        f"the text has {text} tokens, so some runs read it {most:.1f} times{beyond}"
    )


def _short(spec: "SweepSpec", jobs: "Sequence[Job]") -> Note | None:
    short = [job for job in jobs if job.steps < FEW_STEPS.limit]
    if not short:
        return None
    fewest = min(job.steps for job in short)
    largest = max(short, key=lambda job: job.batch_tokens)
    batch = largest.batch_tokens
    how = ", or in smaller batches (--batch-tokens)"
    if spec.variants[largest.recipe].batch_tokens is None:
        # By a rule batches grow with the budget, and so would the tokens that are enough.
        how = f" in batches of {batch:,} (--batch-tokens {batch}), or in smaller ones"
    have = "has" if len(short) == 1 else "have"
    return FEW_STEPS.note(
        f"{len(short)} of {counted(len(jobs), 'run')} {have} fewer than {FEW_STEPS.limit:g} "
        f"steps, the shortest {fewest:,}: train each on {_enough_tokens(batch)} tokens or "
        f"more{how}"
    )


def _enough_tokens(batch: int) -> str:
    """Tokens from which on a run in such batches has enough steps, to two digits."""
    least = FEW_STEPS.limit * batch
    unit = 10.0 ** (math.floor(math.log10(least)) - 1)
    return format_count(math.ceil(least / unit) * unit)


def _too_large(run: "PlannedRun", free_bytes: int) -> bool:
    return run.memory_bytes > free_bytes and not run.finished


def _memory(run: "PlannedRun", free_bytes: int, device: str) -> Note:
    need, have = format_bytes(run.memory_bytes), format_bytes(free_bytes)
    return MEMORY.note(f"size {run.job.size} needs about {need} of memory and {device} has {have}")


def _of_recipe(recipe: Recipe, jobs: "Sequence[Job]") -> list[Note]:
    """What a recipe asks for that its runs do otherwise, or that its rule does not know."""
    notes = []
    if recipe.batch_tokens not in (None, jobs[0].batch_tokens):
        notes.append(
            BATCH_ROUNDED.note(
                f"a step takes whole sequences of {recipe.context} tokens: {recipe.batch_tokens} "
                f"tokens a step become {jobs[0].batch_tokens}"
            )
        )
    if recipe.tuned_rule:
        points = [(job.shape.params, job.tokens) for job in jobs]
        notes += recipe.tuned_rule.notes(points, recipe)
    return notes


def rules_in_use(spec: "SweepSpec", jobs: "Sequence[Job]") -> tuple[str, ...]:
    """Of each recipe that follows a tuned rule: which, from which sizes, and what it gives here."""
    said = []
    for name, recipe in spec.variants.items():
        mine = [job for job in jobs if job.recipe == name]
        rule = recipe.tuned_rule
        if rule is None or not mine:
            continue
        reach = rule.reach((job.shape.params, job.tokens) for job in mine)
        sizes = f"{', '.join(rule.sizes)}: " if rule.sizes else ""
        tuned = f"{sizes}N = {reach['N'].tuned}, D = {reach['D'].tuned}"
        outside = [
            f"{letter} up to {one.factor:.2g}x" for letter, one in reach.items() if one.factor > 1
        ]
        gives = [f"lr {_ends(mine, 'lr', '{:.3g}')}"] if recipe.lr is None else []
        if rule.batch_tokens is not None and recipe.batch_tokens is None:
            gives.append(f"batches of {_ends(mine, 'batch_tokens', '{:,}')} tokens")
        of = f" of recipe {name}" if name != DEFAULT else ""
        here = ", ".join(gives) or "nothing, as both are set"
        if outside:
            here += f"; {both(outside)} outside those"
        said.append(f"rule{of}: {recipe.rule}, tuned on {tuned}; it gives {here}")
    return tuple(said)


def _ends(jobs: "Sequence[Job]", name: str, form: str) -> str:
    """The values of the smallest and of the largest run; one if they are the same."""
    runs = sorted(jobs, key=lambda job: job.flops)
    ends = [form.format(getattr(job, name)) for job in (runs[0], runs[-1])]
    return " to ".join(dict.fromkeys(ends))


def held_out_note(asked: int | None, store: "TokenStore") -> Note | None:
    """A warning if the text has fewer tokens to measure losses on than were asked for."""
    if asked is None:
        return None
    if parts := store.validation_parts:
        return _sources_short(asked / len(store.shares), parts)
    if store.validation_tokens >= HELD_OUT_SHORT.limit * asked or not store.complete:
        return None
    have = format_count(store.validation_tokens)
    return HELD_OUT_SHORT.note(
        f"--validation-tokens asked for {format_count(asked)}, and the text has {have}: at most a "
        "tenth of a text is held out. Use more text"
    )


def _sources_short(asked: float, parts: "Mapping[str, ValidationPart]") -> Note | None:
    """The same of a mixture, of whose sources each is `asked` for so many."""
    least = HELD_OUT_SHORT.limit * asked
    short = [
        f"{format_count(part.tokens)} of {name}"
        for name, part in parts.items()
        if part.tokens < least
    ]
    if not short:
        return None
    return HELD_OUT_SHORT.note(
        f"--validation-tokens asked for {format_count(asked)} tokens of each source, and there are "
        f"{both(short)}: at most a tenth of a text is held out. Use more text of them"
    )


def noise_note(
    done: "Sequence[Run]",
    held_out: int,
    on_more_text: "Callable[[str], str | None]",
    most: float = math.inf,
) -> Note | None:
    """A warning if the losses of sizes next to each other lie nearer than five standard errors of
    one of them.

    All are measured on the same text, so their differences are known better than that: it is a rule
    of thumb. `on_more_text` gives the sweep's own command with so many tokens to measure on, of
    which it has `held_out` now and can have `most`."""
    by_budget: dict[int, dict[int, list[float]]] = {}
    for run in done:
        if run.loss is not None and run.recipe in (None, DEFAULT):
            by_budget.setdefault(run.tokens, {}).setdefault(run.params, []).append(run.loss)
    gaps = []
    for sizes in by_budget.values():
        means = [statistics.fmean(losses) for _, losses in sorted(sizes.items())]
        gaps += [abs(larger - smaller) for smaller, larger in itertools.pairwise(means)]
    largest = max((run.loss_stderr for run in done if run.loss_stderr is not None), default=0.0)
    if not gaps or largest <= min(gaps) / NOISY_LOSS.limit:
        return None
    # The error falls with the root of the tokens.
    wanted = held_out * (NOISY_LOSS.limit * largest / max(min(gaps), 1e-9)) ** 2
    how = f"measure it on more text: {_MORE_TOKENS}"
    if wanted > most:
        # Documents are held out whole, so that what is held out now may be all there is.
        few = format_count(max(held_out, most))
        how = f"this text has {few} tokens to measure on at most: use more text, in a new folder"
    elif wanted < MOST_HELD_OUT:
        again = on_more_text(format_count(float(f"{wanted:.2g}")))
        how = f"measure it on more text: {again or _MORE_TOKENS}"
    return NOISY_LOSS.note(
        f"the loss has a standard error of {largest:.3f}, and the smallest gap between two sizes "
        f"is {min(gaps):.3f}, less than {NOISY_LOSS.limit:g} of them: {how}",
    )

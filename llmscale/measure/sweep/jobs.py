"""The jobs of a sweep: every run that a specification asks for, with what each is trained on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError
from llmscale.measure.sweep.budgets import Budget, budgets_of, smallest_alike
from llmscale.measure.sweep.devices import check_gpus
from llmscale.measure.sweep.isoflop_grid import isoflop_grid, most_tokens
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.teaching import distillation_of
from llmscale.measure.sweep.trunks import beginning_of_stream, share_trunks, sharing_recipes
from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.text.sources import streams
from llmscale.measure.train.job import Job, JobText, make_job
from llmscale.measure.train.recipe import Recipe
from llmscale.quantity import format_count
from llmscale.runs.shape import Shape, shape_for

if TYPE_CHECKING:
    from llmscale.measure.train.dtype import DtypeChoice


def jobs_of(spec: SweepSpec, store: TokenStore) -> tuple[Job, ...]:
    """Every run that `spec` asks for, each once, by growing size and budget. Raises InputError."""
    device = spec.hardware.picked_device
    dtype = sweep_dtype(spec, store).dtype
    check_gpus(spec.hardware.gpus_per_run, device)
    whole = reads_whole_text(spec)
    jobs: dict[str, Job] = {}
    for name, recipe, one in list(_asked(spec, store)):
        size, shape, budgets = one.name, one.shape, one.budgets
        scaled = replace(recipe, lr_scale=one.lr_scale * recipe.lr_scale)
        mixed = store_of(spec, store, name)
        if not budgets:
            budgets = [Budget(mixed.train_tokens - 1)]
        smallest: dict[Budget, int] = {}
        if share_trunks(spec, recipe):
            smallest = smallest_alike(budgets, beside=one.beside)
        taught = distillation_of(recipe, shape, mixed) if recipe.teacher else None
        for budget in budgets:
            tokens, begins_like = budget.tokens, smallest.get(budget)
            train_tokens, part = mixed.train_tokens, None
            if budget.unique is not None:
                _check_unique(budget.unique, mixed)
                train_tokens = budget.unique + 1
            elif not whole:
                most, part = beginning_of_stream(tokens, begins_like, shape.context)
                train_tokens = min(most, train_tokens)
            lengths = (train_tokens, mixed.validation_tokens, part)
            text = JobText(mixed.name, mixed.fingerprint, *lengths)
            settings: Any = {"dtype": dtype, "begins_like": begins_like, "name": name}
            settings["distillation"] = taught
            for seed in range(one.seeds):
                job = make_job(size, shape, tokens, scaled, text, seed=seed, **settings)
                _check(job, tokens)
                jobs.setdefault(job.run_id, job)
    return _in_order(jobs.values())


def store_of(spec: SweepSpec, store: TokenStore, variant: str) -> TokenStore:
    """The text that a variant of `spec` is trained on: `store`, or another of its mixtures."""
    return store.others.get(spec.mixture_of(variant), store)


def sweep_dtype(spec: SweepSpec, store: TokenStore, begun: str | None = None) -> "DtypeChoice":
    """The dtype that all runs of `spec` are trained in, and why. Raises InputError.

    With `auto` a sweep keeps what it was `begun` in, by an earlier command, so that its runs stay
    the same ones. Else the shapes of the sweep are measured."""
    from llmscale.measure.train.dtype import DtypeChoice, choose_dtype

    asked, device = spec.hardware.dtype, spec.hardware.picked_device
    if asked == "auto" and begun is not None:
        return DtypeChoice(begun, "as this sweep was begun")
    shapes = [one.shape for _, _, one in _asked(spec, store)]
    return choose_dtype(asked, device, shapes)


def with_retries(
    jobs: Sequence[Job], spec: SweepSpec, diverged: Callable[[str], bool]
) -> tuple[Job, ...]:
    """`jobs`, and what diverged at half the learning rate: a trunk with all its branches."""
    sharing = sharing_recipes(spec)
    found = {job.run_id: job for job in jobs}
    generation = list(jobs)
    for _ in range(spec.retry_diverged):
        together: dict[Job, list[Job]] = {}
        for job in generation:
            together.setdefault(job.beginning if job.recipe in sharing else job, []).append(job)
        again: dict[str, Job] = {}
        for group in together.values():
            if any(diverged(job.run_id) for job in group):
                retried = [job.retried() for job in group]
                again |= {job.run_id: job for job in retried}
        generation = [job for run_id, job in again.items() if run_id not in found]
        found |= {job.run_id: job for job in generation}
    return _in_order(found.values())


@dataclass(frozen=True)
class _Size:
    """A size to train: what it is asked for as, its shape, its budgets (none for one epoch of the
    text), with how many seeds, and the budgets of the grid that runs next to it begin like."""

    name: str
    shape: Shape
    budgets: list[Budget]
    seeds: int
    beside: Sequence[Budget] = ()
    lr_scale: float = 1.0
    """Factor on the learning rate of the recipe."""


def _asked(spec: SweepSpec, store: TokenStore) -> Iterator[tuple[str, Recipe, _Size]]:
    """Every size of every variant, with the variant's name and recipe."""
    for name, recipe in spec.variants.items():
        for one in _sizes(spec, recipe, store):
            yield name, recipe, one


def _sizes(spec: SweepSpec, recipe: Recipe, store: TokenStore) -> Iterator[_Size]:
    """Every size to train by `recipe`, those of single runs last."""
    settings: Any = {"vocab_size": store.vocab_size, "context": recipe.context}
    if spec.flops:
        asked = (spec.flops, spec.per_budget, spec.optimum, spec.spread)
        for point in isoflop_grid(*asked, **settings, arch=recipe.arch):
            budgets = budgets_of(spec, point.shape, [point.tokens])
            yield _Size(point.size, point.shape, budgets, spec.seeds)
    for size in spec.sizes:
        shape = shape_for(size, **settings, arch=recipe.arch)
        yield _Size(size, shape, _grid_budgets(spec, shape), spec.seeds)
    for run in spec.runs:
        shape = shape_for(run.size, **settings, arch=recipe.arch)
        budgets = budgets_of(spec, shape, [run.tokens.tokens(shape.params)])
        beside = _grid_budgets(spec, shape)
        yield _Size(run.size, shape, budgets, run.seeds, beside, run.lr_scale)


def _grid_budgets(spec: SweepSpec, shape: Shape) -> list[Budget]:
    """The budgets of a size of the grid."""
    return budgets_of(spec, shape, [budget.tokens(shape.params) for budget in spec.tokens])


def reads_whole_text(spec: SweepSpec) -> bool:
    """Whether runs draw from the whole text, or from what they need of a stream; of a mixture, so
    that each has its shares."""
    return not spec.data.mixture and not streams(spec.data.source)


def tokens_needed(spec: SweepSpec) -> int | None:
    """Training tokens to prepare, before the vocabulary is known; None for the whole text."""
    budgeted = spec.tokens or spec.unique_tokens or spec.flops or spec.runs
    one_epoch = spec.sizes and not (spec.tokens or spec.unique_tokens)
    if reads_whole_text(spec) or not budgeted or one_epoch:
        return None
    most = 0
    for recipe in spec.variants.values():
        context, arch = recipe.context, recipe.arch
        if spec.flops:
            grid = (spec.flops, spec.per_budget, spec.optimum, spec.spread)
            most = max(most, most_tokens(*grid, context=context, arch=arch))
        for size in spec.sizes:
            shape = shape_for(size, vocab_size=2**16, context=context, arch=arch)
            most = max(most, _longest(spec, recipe, _grid_budgets(spec, shape)))
        for run in spec.runs:
            shape = shape_for(run.size, vocab_size=2**16, context=context, arch=arch)
            budgets = budgets_of(spec, shape, [run.tokens.tokens(shape.params)])
            most = max(most, _longest(spec, recipe, budgets))
    return 1 + most


def _longest(spec: SweepSpec, recipe: Recipe, budgets: Sequence[Budget]) -> int:
    """Tokens of the text that the longest of these budgets draws from."""
    longest = max(budget.unique or budget.tokens for budget in budgets)
    if share_trunks(spec, recipe):
        longest += min(budget.tokens for budget in budgets)
    return longest


def _in_order(jobs: Iterable[Job]) -> tuple[Job, ...]:
    return tuple(sorted(jobs, key=lambda job: (job.shape.params, job.tokens, job.seed)))


def _check_unique(unique: int, store: TokenStore) -> None:
    """Raise InputError if the text has not as many tokens as runs are to read of it."""
    have = store.train_tokens - 1
    if unique > have:
        raise InputError(
            f"runs are to read {format_count(unique)} different tokens, and the training text "
            f"{store.name} has {format_count(have)}",
            "ask for fewer with unique_tokens, or for more epochs of each budget, or name more "
            "text",
        )


def _check(job: Job, tokens: int) -> None:
    """Raise InputError for a run without a whole step, or whose schedule fails."""
    if tokens < job.batch_tokens:
        smaller = "set a smaller batch_tokens in the recipe"
        if tokens < job.shape.context:
            smaller = "take shorter sequences with --context"
        step = f"one step of size {job.size}, {job.batch_tokens:,} tokens"
        raise InputError(
            f"a budget of {format_count(tokens)} tokens is smaller than {step}",
            f"train on more with --tokens, or {smaller}",
        )
    job.learning_rates().check()

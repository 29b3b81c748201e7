"""The jobs of a fine-tuning: every model x amount of the task x method x seed."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from llmscale.errors import InputError
from llmscale.measure.text.store import TokenStore
from llmscale.measure.train import recipe as rules
from llmscale.measure.train.finetuning import LORA, SCRATCH, FineTuning
from llmscale.measure.train.job import Job, evaluations
from llmscale.measure.train.low_rank import LowRank, adapted
from llmscale.measure.trained.finetuning.parents import Parent
from llmscale.measure.trained.finetuning.spec import FinetuneSpec


def finetuning_jobs(
    spec: FinetuneSpec, parents: Sequence[Parent], store: TokenStore, dtype: str
) -> tuple[Job, ...]:
    """Every run that `spec` asks for, each once, by growing size and amount. Raises InputError."""
    rows = store.train()
    amounts = _amounts(spec, len(rows))
    tokens = dict(zip(amounts, _task_tokens(rows, amounts), strict=True))
    jobs: dict[str, Job] = {}
    methods = [*spec.method, SCRATCH] if spec.from_scratch else list(spec.method)
    for parent, examples, method in itertools.product(parents, amounts, methods):
        part = _part(spec, parent, store, method, (examples, tokens[examples]))
        for seed in range(spec.seeds):
            job = _job(spec, parent, store, method, part, seed, dtype)
            jobs.setdefault(job.run_id, job)
    return tuple(sorted(jobs.values(), key=_order))


def begins_with(parents: Iterable[Parent], job: Job) -> Parent | None:
    """The model that a job begins with; None if it begins with new weights."""
    assert job.finetuning is not None
    digest = job.finetuning.weights
    return next((one for one in parents if one.digest == digest), None)


def _order(job: Job) -> tuple[object, ...]:
    assert job.finetuning is not None
    return job.shape.params, job.finetuning.examples, job.recipe, job.seed, job.run_id


def _amounts(spec: FinetuneSpec, there: int) -> tuple[int, ...]:
    if not spec.examples:
        return (there,)
    beyond = [amount for amount in spec.examples if amount > there]
    if beyond:
        raise InputError(
            f"--examples asks for {max(beyond):,}, and {spec.data.source} has {there:,} to train "
            "on, the others held out",
            "ask for fewer, or name more examples",
        )
    return tuple(sorted(spec.examples))


def _task_tokens(rows: np.ndarray, amounts: Sequence[int]) -> Iterator[int]:
    """Tokens of the first examples, without padding: behind the last token that counts."""
    counts = rows[: max(amounts)] >= 0
    lengths = counts.shape[1] - np.argmax(counts[:, ::-1], axis=1)
    sums = np.cumsum(lengths)
    return (int(sums[amount - 1]) for amount in amounts)


def _part(
    spec: FinetuneSpec, parent: Parent, store: TokenStore, method: str, amount: tuple[int, int]
) -> FineTuning:
    """What of a job is a fine-tuning's; `amount` is of examples, and of their tokens."""
    assert store.length is not None
    shape, low_rank, trained = parent.job.shape, None, parent.job.shape.params_total
    if method == LORA:
        low_rank = LowRank(spec.recipe.rank, spec.recipe.alpha, spec.recipe.matrices)
        trained = sum(one.weights for one in adapted(shape, low_rank))
    control = FineTuning(amount[0], store.length, amount[1], trained)
    if method == SCRATCH:
        return control
    origin = (parent.folder.run_id, parent.digest, parent.tokens)
    return FineTuning(amount[0], store.length, amount[1], trained, *origin, low_rank)


def _job(
    spec: FinetuneSpec,
    parent: Parent,
    store: TokenStore,
    method: str,
    part: FineTuning,
    seed: int,
    dtype: str,
) -> Job:
    recipe, shape = spec.recipe, parent.job.shape
    learnt = spec.epochs * part.task_tokens
    sequences = max(1, round(spec.epochs * part.examples))
    batch = min(recipe.batch_of(learnt, sequences), sequences)
    steps = -(-sequences // batch)
    parametrization = parent.job.parametrization
    held_out = int(store.meta["validation"]["documents"]) * part.length
    job = Job(
        size=parent.job.size,
        shape=shape,
        sequences=sequences,
        text_tokens=part.task_tokens,
        batch_sequences=batch,
        lr=recipe.learning_rate(method, shape.params, learnt, parametrization),
        warmup_steps=round(recipe.warmup * steps),
        optimizer=recipe.optimizer,
        parametrization=parametrization,
        schedule=recipe.schedule,
        cooldown=rules.Recipe().cooldown,
        beta2=rules.beta2(batch * part.length),
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        evaluations=min(steps, evaluations(sequences * part.length, held_out)),
        seed=seed,
        dtype=dtype,
        data=spec.data.source,
        data_fingerprint=store.fingerprint,
        recipe=method,
        finetuning=part,
    )
    job.learning_rates().check()
    return job


def adapter_lines(jobs: Sequence[Job]) -> list[tuple[str, ...]]:
    """What LoRA trains of each shape: matrix, blocks x experts x its size, rank, weights of its
    adapters, its own."""
    lines: list[tuple[str, ...]] = []
    seen = set()
    for job in jobs:
        low_rank = job.finetuning.low_rank if job.finetuning else None
        if low_rank is None or job.shape in seen:
            continue
        seen.add(job.shape)
        for one in adapted(job.shape, low_rank):
            of_experts = f"{one.experts} x " if one.experts > 1 else ""
            size = f"{one.blocks} x {of_experts}{one.outputs} x {one.inputs}"
            trained, whole = f"{one.weights:,}", f"{one.whole:,}"
            lines.append((job.size, one.name, size, str(one.rank), trained, whole))
    return lines

"""How much text to hold out by default: enough for a small error, and not half the work."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from llmscale.errors import InputError
from llmscale.measure.sweep.budgets import budgets_of
from llmscale.measure.sweep.isoflop_grid import isoflop_grid
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.text.spec import VALIDATION_TOKENS
from llmscale.measure.train.job import EVALUATION_SHARE, FORWARD_SHARE
from llmscale.runs.shape import shape_for

CHOICES = (VALIDATION_TOKENS, 500_000, 200_000, 100_000)
"""Few, so that sweeps of like length share a text. On less than the last one losses are too
uncertain: its standard error is about 0.03 nats on Python code."""
_SMALL_VOCABULARY, _LARGE_VOCABULARY = 1024, 16_384
"""Assumed before the tokenizer is known: few weights make budgets in tokens a parameter small, and
many weights those of a budget in FLOPs."""


def settled(spec: SweepSpec, begun: Any = None) -> SweepSpec:
    """`spec` with a number of validation tokens: its own, else that of the sweep that the folder
    holds, else a tenth.

    `begun` is the basis that an earlier command has noted. A tenth of the smallest run's training
    it may cost at most."""
    if spec.data.validation_tokens is not None:
        return spec
    data = begun.get("data") if isinstance(begun, dict) else None
    before = data.get("validation_tokens") if isinstance(data, dict) else None
    held_out = before if isinstance(before, int) and before >= 1 else suited_tokens(spec)
    return replace(spec, data=replace(spec.data, validation_tokens=held_out))


def suited_tokens(spec: SweepSpec) -> int:
    """The most of CHOICES whose evaluation costs a tenth of the smallest run, or the least."""
    budgets = list(_budgets(spec))
    if not budgets:  # one epoch of the text, of which at most a tenth is held out
        return VALIDATION_TOKENS
    most = EVALUATION_SHARE * min(budgets) / FORWARD_SHARE
    return next((tokens for tokens in CHOICES if tokens <= most), CHOICES[-1])


def _budgets(spec: SweepSpec) -> Iterator[int]:
    for recipe in spec.variants.values():
        settings: dict[str, Any] = {"context": recipe.context, "arch": recipe.arch}
        if spec.flops:
            with suppress(InputError):  # which the plan shows
                asked = spec.flops, spec.per_budget, spec.optimum, spec.spread
                grid = isoflop_grid(*asked, vocab_size=_LARGE_VOCABULARY, **settings)
                yield from (point.tokens for point in grid)
        for size in spec.sizes:
            shape = shape_for(size, vocab_size=_SMALL_VOCABULARY, **settings)
            tokens = [budget.tokens(shape.params) for budget in spec.tokens]
            yield from (budget.tokens for budget in budgets_of(spec, shape, tokens))
        for run in spec.runs:
            shape = shape_for(run.size, vocab_size=_SMALL_VOCABULARY, **settings)
            tokens = [run.tokens.tokens(shape.params)]
            yield from (budget.tokens for budget in budgets_of(spec, shape, tokens))


def named_by(spec: SweepSpec) -> SweepSpec:
    """What the default folder is named after: as if 1M were held out by default, as once."""
    return replace(spec, data=replace(spec.data, validation_tokens=spec.data.held_out))

"""What runs of a size read: how many tokens, and how many different ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmscale.measure.sweep.spec import SweepSpec
from llmscale.runs.shape import Shape


@dataclass(frozen=True)
class Budget:
    """The tokens that a run is trained on."""

    tokens: int
    unique: int | None = None
    """The first tokens of the text, which are read again and again; None: as the text allows."""


def budgets_of(spec: SweepSpec, shape: Shape, tokens: Sequence[int]) -> list[Budget]:
    """The budgets of `shape`: each of `tokens`, with the unique tokens or the epochs that `spec`
    asks for; or its unique tokens so many times. Unique tokens are whole sequences."""
    context = shape.context
    unique = [budget.tokens(shape.params) for budget in spec.unique_tokens]
    found: list[Budget] = []
    if not (unique or spec.epochs):
        found = [Budget(count) for count in tokens]
    elif not spec.epochs:
        for count in tokens:
            found += [Budget(count, _whole(min(count, one), context)) for one in unique]
    else:
        for count in tokens:
            parts = {epochs: _whole(count / epochs, context) for epochs in spec.epochs}
            found += [_repeated(part, epochs, context) for epochs, part in parts.items()]
        for count in unique:
            part = _whole(count, context)
            found += [_repeated(part, epochs, context) for epochs in spec.epochs]
    return list(dict.fromkeys(found))


def smallest_alike(budgets: Sequence[Budget], beside: Sequence[Budget] = ()) -> dict[Budget, int]:
    """By budget the tokens of the smallest one that reads the same text, of these and of those
    `beside` that are no longer: so a run next to a grid goes on from a trunk of the grid."""
    found: dict[int | None, int] = {}
    for budget in budgets:
        found[budget.unique] = min(budget.tokens, found.get(budget.unique, budget.tokens))
    for budget in beside:
        if budget.unique in found:
            found[budget.unique] = min(budget.tokens, found[budget.unique])
    return {budget: min(found[budget.unique], budget.tokens) for budget in budgets}


def _whole(tokens: float, context: int) -> int:
    """`tokens` in whole sequences, at least one."""
    return max(1, round(tokens / context)) * context


def _repeated(unique: int, epochs: float, context: int) -> Budget:
    return Budget(round(epochs * unique / context) * context, unique)

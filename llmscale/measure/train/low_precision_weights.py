"""Copies of a model's weights in the type of its matrix products: cast once a step, however many
passes that takes.

The weights themselves stay float32 for the optimiser. Gradients come out in the copies' type, as
they do where each product casts its weight, and are summed in float32."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from llmscale.measure.train.stack import Stack
from llmscale.measure.transformer import LanguageModel


class WorkingWeights:
    """What passes compute with: narrow copies of what matrix products read, and all other weights
    themselves."""

    def __init__(self, model: LanguageModel | Stack, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        self._named = dict(model.named_parameters())
        self._narrow: list[str] = []
        if dtype != torch.float32:
            self._narrow = _read_by_products(model)
        self._copies: dict[str, nn.Parameter] = {}
        self._in_use = False

    @property
    def leaves(self) -> list[nn.Parameter]:
        """What gradients are taken of, in the order of the weights that are trained, within `fresh`
        only."""
        trained = [(name, weight) for name, weight in self._named.items() if weight.requires_grad]
        return [self._copies.get(name, weight) for name, weight in trained]

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """While this lasts, compute with copies of the weights, which nobody changes."""
        if self._in_use or not self._narrow:
            yield
            return
        weights: list[Tensor] = [self._named[name] for name in self._narrow]
        if not self._copies:
            empty = [torch.empty_like(weight, dtype=self._dtype) for weight in weights]
            self._copies = {
                name: nn.Parameter(copy, requires_grad=self._named[name].requires_grad)
                for name, copy in zip(self._narrow, empty, strict=True)
            }
        with torch.no_grad():
            torch._foreach_copy_([*self._copies.values()], weights)
        self._in_use = True
        try:
            with self._model.using(self._copies):
                yield
        finally:
            self._in_use = False


def accumulate(weights: Sequence[nn.Parameter], slopes: Sequence[Tensor]) -> None:
    """Add `slopes`, in whatever type they come, to the float32 gradients of `weights`, in place."""
    sums = [weight.grad for weight in weights if weight.grad is not None]
    if sums:
        torch._foreach_add_(sums, [*slopes])
        return
    narrow = []
    for weight, slope in zip(weights, slopes, strict=True):
        if slope.dtype == weight.dtype:
            # AdamW's fused kernel on the CPU takes strided gradients for contiguous ones.
            weight.grad = slope.contiguous()
        else:
            weight.grad = torch.empty_like(weight)
            narrow.append((weight.grad, slope))
    if narrow:
        torch._foreach_copy_([wide for wide, _ in narrow], [slope for _, slope in narrow])


def _read_by_products(model: LanguageModel | Stack) -> list[str]:
    """The names of weights and biases of linear layers."""
    one = model.one if isinstance(model, Stack) else model
    layers = [name for name, module in one.named_modules() if isinstance(module, nn.Linear)]
    return [name for name, _ in one.named_parameters() if name.rpartition(".")[0] in layers]

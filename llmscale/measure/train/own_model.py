"""Trying an architecture of the user's own as a small model, before anything is trained.

A file can declare one thing and compute another: a position that sees a later one makes every loss
too low, and a weight that is never used counts as a parameter. Neither shows in a run."""

import torch
from torch import Tensor

from llmscale.errors import InputError, listed
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.menu import bare_name, errors_named, is_own, path_of
from llmscale.runs.shape import ARCHITECTURES, Shape, shape_for

_VOCABULARY, _CONTEXT = 64, 16
_CHANGED_FROM = 9
"""Tokens from this position on are changed, to see what that changes before it."""
_ROUNDING = 1e-4
"""By how much logits of the same tokens may differ, as a share of the largest."""
_CONTRACT = "python -m pydoc llmscale.measure.models says what it must give"


def check_architecture(name: str) -> None:
    """Raise InputError unless the user's own architecture `name` computes what it declares. Does
    nothing for those that are built in."""
    if not is_own(name):
        return
    path = path_of(type(ARCHITECTURES.find(name)).__module__) or ""
    title = f"architecture {bare_name(name)!r} of {path}"
    with errors_named(path, "cannot be trained", _CONTRACT):
        # Two layers, and two heads of 16 channels or a little more. By its number of weights, which
        # the file may count wrongly, a shape could be of any size.
        multiple = ARCHITECTURES.find(name).head_multiple
        width = 2 * multiple * -(-16 // multiple)
        size = f"2x{width}x2"
        shape = shape_for(size, vocab_size=_VOCABULARY, context=_CONTEXT, arch=name)
        model = build_model(shape, seed=1)
        _check_counts(model, shape, title)
        _check_logits(model, title)
        _check_gradients(model, title)


def _check_counts(model: LanguageModel, shape: Shape, title: str) -> None:
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    block = sum(size for name, size in sizes.items() if name.startswith("blocks.0."))
    for what, declared, there in (
        ("weights a block", shape.params_per_layer, block),
        ("weights", shape.params_total, sum(sizes.values())),
    ):
        if declared != there:
            raise InputError(
                f"{title} counts {declared:,} {what} in the shape {shape.name}, and its model has "
                f"{there:,}",
                "leave counts() as it is: it follows from layers(), norm() and stem()",
            )


def _check_logits(model: LanguageModel, title: str) -> None:
    tokens_BT = _tokens()
    changed_BT = tokens_BT.clone()
    changed_BT[:, _CHANGED_FROM:] = (changed_BT[:, _CHANGED_FROM:] + 1) % _VOCABULARY
    with torch.no_grad():
        before_BTV, again_BTV, after_BTV = map(model, (tokens_BT, tokens_BT, changed_BT))
    if before_BTV.shape != (*tokens_BT.shape, _VOCABULARY):
        raise InputError(
            f"{title} gives logits of the shape {tuple(before_BTV.shape)} for tokens of the shape "
            f"{tuple(tokens_BT.shape)} and a vocabulary of {_VOCABULARY}",
            "let what it writes keep the shape (B, T, C) of the residual stream",
        )
    if not before_BTV.isfinite().all():
        raise InputError(
            f"{title} gives logits that are no finite numbers, with its first weights",
            "look for a division by 0, or a position that sees none, not even itself",
        )
    if _differ(before_BTV, again_BTV):
        raise InputError(
            f"{title} gives other logits for the same tokens",
            "leave out what is random, such as dropout: losses are measured by the same model",
        )
    if _differ(before_BTV[:, :_CHANGED_FROM], after_BTV[:, :_CHANGED_FROM]):
        raise InputError(
            f"{title} lets a position see later ones, so that its loss means nothing",
            "let position t see positions 0..t only",
        )


def _check_gradients(model: LanguageModel, title: str) -> None:
    tokens_BT = _tokens()
    weights_B = torch.full((len(tokens_BT),), 1 / len(tokens_BT))
    model.losses(tokens_BT[:, :-1], tokens_BT[:, 1:], weights_B)[0].backward()
    unused = [name for name, weight in model.named_parameters() if weight.grad is None]
    if unused:
        raise InputError(
            f"{title} declares weights that it never uses, and they count as parameters: "
            f"{listed(unused, 3)}",
            "use them, or leave them out of layers() or stem()",
        )


def _tokens() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(_VOCABULARY, (2, _CONTEXT), generator=generator)


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > _ROUNDING * one.abs().max())

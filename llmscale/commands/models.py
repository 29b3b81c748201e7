"""`llmscale models`: list the trained models of a results folder."""

from typing import TYPE_CHECKING, Annotated

import typer

from llmscale.commands import output
from llmscale.commands._options import JsonOption
from llmscale.quantity import format_bytes, format_count

if TYPE_CHECKING:
    from llmscale.measure.trained.listing import ListedModel, Models

FolderArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FOLDER", help="A results folder or URL; default the newest under results/."
    ),
]


def models(folder: FolderArgument = None, json: JsonOption = False) -> None:
    """List the runs of a sweep, and which of them have kept weights to use.

    Example: llmscale models results/cpu"""
    from llmscale.measure.trained.listing import models as find

    found = find(folder)
    if json:
        output.print_json(found.to_json())
        return
    _show(found)


def _show(found: "Models") -> None:
    headings = ("run", "size", "N", "tokens", "loss", "kept", "bytes")
    title = f"{len(found.usable)} of {len(found.models)} models of {found.folder} can be used"
    table = output.make_table(title, *headings, left=2, least=("tokens", "N"))
    for model in found.models:
        table.add_row(*_cells(model))
    output.results.print(table)
    following = found.next_use()
    if following is not None:
        output.show_next(following)
    else:
        output.show_next("weights are kept if a sweep is trained anew, into another folder")


def _without_loss(model: "ListedModel") -> str:
    """Why it has no loss; nothing of a model that was imported."""
    return "-" if model.status == "done" or model.tokens is None else model.status


def _cells(model: "ListedModel") -> tuple[str, ...]:
    name = model.size
    if model.recipe and model.recipe != "default":
        name += f" {model.recipe}"
    if model.seed:
        name += f" seed {model.seed}"
    if model.bits:
        name += f" {model.bits} bits"
    return (
        model.run_id,
        name,
        format_count(model.params),
        format_count(model.tokens) if model.tokens else "-",
        f"{model.loss:.4f}" if model.loss is not None else _without_loss(model),
        model.kept or "-",
        format_bytes(model.bytes) if model.bytes else "",
    )

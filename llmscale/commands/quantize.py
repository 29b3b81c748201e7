"""`llmscale quantize`: round the weights of trained models to fewer bits."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import OUTPUT, JsonOption, takes_settings
from llmscale.measure.trained.quantization.spec import QuantizeSpec
from llmscale.quantity import format_bytes, format_count

if TYPE_CHECKING:
    from llmscale.measure.trained.quantization.api import Quantized

FolderArgument = Annotated[
    str, typer.Argument(metavar="FOLDER", help="A results folder or URL whose models were kept.")
]
OutOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="The results folder to write  [default: FOLDER-quantized]",
        rich_help_panel=OUTPUT,
    ),
]


@takes_settings(QuantizeSpec)
def quantize(
    folder: FolderArgument, out: OutOption = None, json: JsonOption = False, **settings: Any
) -> None:
    """Round the weights of each model of a sweep to fewer bits, and measure what that costs. The
    runs of the new folder have their bits as a column.

    Example: llmscale quantize results/cpu --bits 8,4,3"""
    from llmscale.measure.trained.quantization.api import quantize as library

    found = library(folder, out=out, report=_tell, **settings)
    for run_id, why in found.left_out:
        output.tell(f"left out: run {run_id}: {why}")
    if json:
        output.print_json(found.to_json())
        return
    _show(found)


def _tell(run_id: str, bits: int, known: bool) -> None:
    output.tell(f"run {run_id} in {bits} bits{' (known)' if known else ''}")


def _show(found: "Quantized") -> None:
    from llmscale.errors.command_lines import command_line
    from llmscale.explain.api.next_step import can_fit

    headings = "parent", "size", "N", "D", "bits", "stored", "bytes", "loss"
    table = output.make_table(found.folder, *headings, left=2, least=("D", "N"))
    before = ""
    for model in found.models:
        first = (model.parent, model.size, format_count(model.params), format_count(model.tokens))
        shown = first if model.parent != before else ("", "", "", "")
        before = model.parent
        cells = (f"{model.bits}", f"{model.bits_per_weight:.2f}", format_bytes(model.bytes))
        table.add_row(*shown, *cells, f"{model.loss:.4f}")
    output.results.print(table)
    output.results.print(
        "bits: of a rounded weight; stored: bits a weight in the file, scales and all; loss: nats "
        "a token of the validation text"
    )
    step = command_line("llmscale", "models", found.folder)
    if can_fit(found.folder, law="precision"):
        step = command_line("llmscale", "fit", found.folder, "--law", "precision")
    output.show_next(step)

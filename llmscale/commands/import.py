"""`llmscale import`: make a run of a model that another program trained."""

from typing import Annotated

import typer

from llmscale.commands import output
from llmscale.commands._options import OUTPUT, JsonOption
from llmscale.quantity import format_count


def import_(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A Llama or GPT-2 as transformers saves it")
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="FOLDER", help="The results folder to put it into", rich_help_panel=OUTPUT
        ),
    ],
    tokens: Annotated[
        str | None,
        typer.Option(
            metavar="300B",
            help="Tokens that it was trained on, if laws are to use it",
            rich_help_panel="What to read",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a run of a model that another program trained, to be evaluated, fine-tuned, inspected.

    Example: llmscale import models/gpt2 --out results/gpt2"""
    from llmscale.errors.command_lines import command_line
    from llmscale.measure.trained.exchange.importing import import_model

    found = import_model(folder, out, tokens=tokens)
    for remark in found.remarks:
        output.tell(f"note: {remark}")
    if json:
        output.print_json(found.to_json())
        return
    row, path = found.row, found.folder.path
    output.results.print(
        f"{row.arch} {row.size}, {format_count(row.params_total)} weights, is run {row.run_id}"
    )
    output.show_next(command_line("llmscale", "generate", path, "Once"))

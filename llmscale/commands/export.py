"""`llmscale export`: write a trained model for transformers."""

from typing import Annotated

import typer

from llmscale.commands import output
from llmscale.commands._options import OUTPUT, JsonOption
from llmscale.measure.trained.generation.spec import WRITE
from llmscale.quantity import format_bytes


def export(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run's folder or id, or a results folder or URL"),
    ],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The new folder to write")],
    to: Annotated[
        str,
        typer.Option(
            help="The format: hf, or one of your own as ./mine.py:my_format", rich_help_panel=WRITE
        ),
    ] = "hf",
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="bfloat16|float32",
            help="Of the weights  [default: what they are kept in]",
            show_default=False,
            rich_help_panel=WRITE,
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="Send it to this repository of Hugging Face's hub, too",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a trained model as files that transformers loads, with equal logits, and a model card.

    Example: llmscale export results/cpu my-model"""
    from llmscale.explain.api.on_law import on_law
    from llmscale.measure.trained.exchange.export import export as write

    found = write(run, folder, to=to, dtype=dtype, push=push, law=on_law)
    for remark in found.remarks:
        output.tell(f"note: {remark}")
    if json:
        output.print_json(found.to_json())
        return
    files = f"{len(found.files)} files, {format_bytes(found.bytes)}"
    output.results.print(f"run {found.run_id} is in {found.folder}: {files}, {found.dtype}")
    if found.pushed:
        output.results.print(f"sent to https://huggingface.co/{found.pushed}")

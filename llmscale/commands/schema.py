"""`llmscale schema`: print the JSON schema of a sweep's TOML file."""

from typing import Annotated

import typer

from llmscale.commands import output


def schema(
    columns: Annotated[
        bool, typer.Option("--columns", help="Print the columns of the tables, in Markdown.")
    ] = False,
    settings: Annotated[
        bool, typer.Option("--settings", help="Print every setting of all commands, in Markdown.")
    ] = False,
) -> None:
    """Print the JSON schema of a sweep's TOML file, with which editors complete and check it.
    Example: llmscale schema > sweep.schema.json, and in the file: #:schema ./sweep.schema.json"""
    if columns:
        from llmscale.runs.run import columns_page

        output.print_text(columns_page())
        return
    if settings:
        from llmscale.commands._reference import reference

        output.print_text(reference())
        return
    from llmscale.measure.sweep.schema import sweep_schema

    output.print_json(sweep_schema())

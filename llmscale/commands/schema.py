"""`llmscale schema`: the JSON schema of a sweep's TOML file."""

from llmscale.commands import output


def schema() -> None:
    """Print the JSON schema of a sweep's TOML file, with which editors complete and check it.

    Example: llmscale schema > sweep.schema.json, and in the file: #:schema ./sweep.schema.json
    """
    from llmscale.measure.sweep.schema import sweep_schema

    output.print_json(sweep_schema())

"""`llmscale laws`: list the laws that can be fitted."""

from typing import Annotated, Any

import typer

from llmscale.commands import output

NEXT = (
    "llmscale fit TABLE --law chinchilla; one of your own is a frozen dataclass that inherits "
    "llmscale.Law, with its coefficients as fields, `inputs`, and `loss(self, *inputs)`: "
    "llmscale fit TABLE --law ./mine.py:MyLaw"
)


def laws(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the laws: formula, the columns that each needs, and where it was published. Example:
    llmscale laws"""
    from llmscale.explain.laws import LAWS

    rows = [_row(LAWS.find(name)) for name in LAWS]
    if json:
        output.print_json({"laws": rows})
        return
    from rich import box

    from llmscale.commands._tables import SafeTable

    table = SafeTable(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("law", style="bold", no_wrap=True)
    table.add_column("formula; what it takes, and source")
    for row in rows:
        inputs = " or ".join(row["variables"]) if row["variables"] else ", ".join(row["inputs"])
        about = f"{inputs}: {row['source']}"
        table.add_row(row["name"], output.stacked(row["formula"], about))
    output.results.print(table)
    output.show_next(NEXT)


def _row(law: Any) -> dict[str, Any]:
    from llmscale.explain.laws import LETTERS, OneVariableLaw

    coefficients = law.coefficient_names()
    example = law(*[1.0] * len(coefficients))
    return {
        "name": law.name,
        "formula": example.formula,
        "inputs": list(example.inputs),
        "variables": list(LETTERS) if issubclass(law, OneVariableLaw) else [],
        "coefficients": list(coefficients),
        "floor": law.floor,
        "exponents": list(law.exponents),
        "source": law.source,
    }

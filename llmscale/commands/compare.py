"""`llmscale compare`: say how much compute one recipe saves over another."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import JsonOption, takes_settings
from llmscale.explain.api.compare_settings import CompareSpec

if TYPE_CHECKING:
    from llmscale.explain.recipes.comparison import RecipeComparison

_SourcesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TABLE...",
        help="A table of each recipe as `llmscale fit` takes it, the baseline first; NAME=TABLE "
        "names it; or one table with --by.",
    ),
]


@takes_settings(CompareSpec)
def compare(
    tables: _SourcesArgument = None,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Compare recipes by compute: the factor of the baseline's FLOPs with which each reaches the
    same loss (0.71 saves 29%), with its interval, at the largest compute that all have.

    Example: llmscale compare results/adamw results/muon --at 1e21
    """
    import llmscale

    found = llmscale.compare(*(tables or ()), **settings)
    if json:
        output.print_json(found.to_json())
    else:
        _show(found)
    output.warn_all(found.notes, every=notes)
    if not found.passed:
        raise typer.Exit(1)


def _show(found: "RecipeComparison") -> None:
    if found.reading:
        output.tell(f"read: {found.reading}")
    for sentence in found.headlines:
        output.results.say("compare:", "bold", sentence, "bold")
    for flops in found.scales:
        _show_scale(found, flops)
    for name, text in found.said():
        output.results.say(f"{name}:", "", text)
    if found.path:
        output.results.say("figure:", "", str(found.path))


def _show_scale(found: "RecipeComparison", flops: float) -> None:
    """The recipes at one budget, the best first."""
    table = output.make_table(
        f"at {flops:.3g} FLOPs, {found.place(flops)} ({100 * found.level:g}% intervals)",
        "recipe",
        output.stacked("multiplier", found.of_whose),
        output.stacked("saving", "in compute"),
        output.stacked("chance", "to be best"),
    )
    for row in found.rows(flops):
        table.add_row(*row)
    output.results.print(table)

"""`llmscale plot`: draw runs with their law, or their loss curves."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llmscale.commands import _explain_options as options
from llmscale.commands import output
from llmscale.explain.figures import FIGURES

KindOption = Annotated[
    str,
    typer.Option(help=f"What to draw: {FIGURES.choices}."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FILE", help="A .png, .pdf or .svg; default figures/KIND.png."
    ),
]
WidthOption = Annotated[float, typer.Option(help="Inches; 3.4 is one column of a paper, 7 both.")]
TitleOption = Annotated[str | None, typer.Option(help="A title above the figure.")]


def plot(
    table: options.FitArgument = None,
    kind: KindOption = "scaling",
    law: options.LawsOption = None,
    variable: options.VariableOption = None,
    count: options.CountOption = "params",
    columns: options.ColumnsOption = None,
    units: options.UnitsOption = None,
    where: options.WhereOption = None,
    status: options.StatusOption = None,
    level: options.LevelOption = None,
    bootstrap: options.BootstrapOption = None,
    objective: options.ObjectiveOption = None,
    delta: options.DeltaOption = None,
    seed: options.SeedOption = None,
    refit: options.RefitOption = False,
    out: OutOption = None,
    width: WidthOption = 3.4,
    title: TitleOption = None,
    notes: output.NotesOption = False,
    json: options.JsonOption = False,
) -> None:
    """Draw the runs with their law, or their loss curves, for a paper.

    Example: llmscale plot results/cpu --kind scaling -o law.pdf
    """
    import llmscale

    shape: dict[str, Any] = {"output": out or True, "width": width, "title": title}
    reading = options.reading(columns, count, units, where, status)
    made = options.made(variable, level, bootstrap, seed, objective, delta)
    drawn = llmscale.plot(table, kind, law=law, refit=refit, **shape, **reading, **made)
    if json:
        output.print_json(drawn.to_json())
    else:
        if drawn.reading:
            output.tell(f"read: {drawn.reading}")
        output.results.print(str(drawn.path))
    output.warn_all(drawn.notes, every=notes)

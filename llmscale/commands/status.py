"""`llmscale status`: show how far a sweep has got, and what is left of it."""

from typing import Annotated

import typer

from llmscale.commands import output
from llmscale.errors import InputError
from llmscale.settings import Range

FolderArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FOLDER", help="A results folder or URL; default the newest under results/."
    ),
]


def status(
    folder: FolderArgument = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Stay, and show what changes until the sweep ends."),
    ] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Draw the loss curves, too.")] = False,
    price: Annotated[
        float | None,
        typer.Option(min=0.0, help="Price of an hour of a GPU (or core): shows the cost in it."),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="List all runs, also more than 40.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the runs of a sweep, what each has reached, and what is left: while it runs, stopped or
    finished.

    Example: llmscale status results/cpu --curves
    """
    if watch and json:
        raise InputError("--watch and --json were both given", "ask for --json again and again")
    Range(0, 1e9).check("--price", price)
    from llmscale.commands import _status_view as view
    from llmscale.measure.sweep.status import find_results
    from llmscale.measure.sweep.status import status as look
    from llmscale.runs.remote import is_url

    found = find_results(folder)
    where = folder if folder is not None and is_url(folder) else str(found.path)
    if watch:
        view.watch(found, where, curves, price, all)
        return
    now = look(where)
    if json:
        output.print_json(view.as_json(found, now, curves, price))
        return
    for part in view.parts_of(found, now, curves, price, all, view.ends_of(found, now)):
        output.results.print(part)
    output.show_next(now.next_command)

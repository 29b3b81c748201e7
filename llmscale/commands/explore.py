"""`llmscale explore`: move a budget on a page, and see what it buys."""

import os
import sys
import time
import webbrowser
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import OUTPUT, FitArgument, JsonOption, takes_settings
from llmscale.errors import InputError
from llmscale.explain.api.explore_settings import ExploreSpec

if TYPE_CHECKING:
    from llmscale.explain.page.document import Page

_LOOK_SECONDS = 0.5
"""How often Ctrl-C is looked for: one that comes just before a sleep would be slept over."""


@takes_settings(ExploreSpec, leave_out=("holdout", "intervals", "diagnostics", "variable"))
def explore(
    table: FitArgument = None,
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            help="Where this machine's browser finds the page, without --out; 0 is any free port",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    show: Annotated[
        bool,
        typer.Option(
            "--open/--no-open", help="Open it in the browser, too", rich_help_panel=OUTPUT
        ),
    ] = True,
    notes: output.NotesOption = False,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Make a page of a law with sliders for compute, tokens, text, serving and price, to look at or
    to send: one file that needs no network.

    Example: llmscale explore runs.csv --out page.html
    """
    import llmscale

    _check_port(port, written=json or settings["output"] is not None)
    page = llmscale.explore(table, **settings)
    output.warn_all(page.notes, every=notes)
    if json:
        output.print_json(page.to_json())
    elif page.path is not None:
        output.results.print(str(page.path))
    else:
        _serve(page, port, show)


def _check_port(port: int, *, written: bool) -> None:
    """Raise InputError for a port of a page that is not served."""
    if port and written:
        raise InputError(
            f"--port {port} is of a page that is served, and this one is written",
            "leave out --port, or --out and --json",
        )


def _serve(page: "Page", port: int, show: bool) -> None:
    """Show the page until Ctrl-C, which is how it is meant to end."""
    from llmscale.explain.page.server import served

    try:
        with served(page, port) as address:
            output.results.print(address)
            output.tell("Ctrl-C ends it; --out page.html writes the page to a file")
            if show and _has_screen():
                webbrowser.open(address)
            while True:
                time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        output.tell("ended")


def _has_screen() -> bool:
    """Whether a browser has a window to open: one of text would take the terminal."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

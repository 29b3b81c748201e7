"""What commands share: the two consoles, one JSON object on standard output, and errors as exit codes."""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from llmscale.errors import LlmscaleError, Note

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    results: Console
    """Standard output: tables and results, nothing else."""
    progress: Console
    """Standard error: progress, warnings and errors."""

EXIT_INTERRUPTED = 130
_WIDTH_OF_FILES = 120


def __getattr__(name: str) -> Any:
    """The consoles `results` and `progress`, made at their first use: `--help` needs neither."""
    if name not in ("results", "progress"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from rich.console import Console

    to_file = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(stderr=name == "progress", highlight=False, width=_WIDTH_OF_FILES if to_file else None)
    globals()[name] = console
    return console


def make_table(title: str, *headings: str, left: int = 1) -> "Table":
    """A table with a title and one column a heading, the first `left` of them aligned left, no cell wrapped."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right", header_style="dim", no_wrap=True)
    return table


def print_json(payload: dict[str, Any]) -> None:
    """Write `payload` as one JSON object on standard output (NaN and infinities as null)."""
    from llmscale.runs import plain

    sys.stdout.write(json.dumps(plain(payload), indent=2) + "\n")
    sys.stdout.flush()


def print_text(text: str) -> None:
    """Write text as it is on standard output: no markup, no wrapping."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def warn(note: Note | str) -> None:
    """Write one warning to standard error."""
    _progress().print(f"[yellow]warning:[/yellow] {escape(str(note))}")


def tell(text: str) -> None:
    """One line of news on standard error."""
    _progress().print(escape(text), soft_wrap=True)


def escape(text: str) -> str:
    """`text` with rich's markup characters made literal."""
    from rich.markup import escape as escape_markup

    return escape_markup(text)


class Commands(TyperGroup):
    """A command group that turns an LlmscaleError into its message and exit code, and Ctrl-C into 130."""

    def invoke(self, ctx: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a character that the terminal's encoding lacks becomes "?"
        try:
            return super().invoke(ctx)
        except LlmscaleError as error:
            _progress().print(f"[bold red]error:[/bold red] {escape(error.problem)}", soft_wrap=True)
            if error.fix:
                _progress().print(f"  [bold]fix:[/bold] {escape(error.fix)}", soft_wrap=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as interrupt:
            _progress().print("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def _progress() -> "Console":
    console: Console = __getattr__("progress") if "progress" not in globals() else globals()["progress"]
    return console

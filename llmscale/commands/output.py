"""What commands share: the two consoles, one JSON object on standard output, and errors as exit
codes.
"""

import errno
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llmscale.commands._patience import Patience
from llmscale.commands._streams import answers, guarded_streams
from llmscale.errors import InputError, LlmscaleError, Note, both
from llmscale.errors.printable import MASK, all_masked, clean, has_keys, masked, one_line, shortened
from llmscale.menu import own_mistake

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from llmscale.commands._console import SafeConsole

    results: SafeConsole
    """Standard output: tables and results, nothing else."""
    progress: SafeConsole
    """Standard error: progress, warnings and errors."""

EXIT_INTERRUPTED = 130
_FEW = 3
"""Commands that are named as those that take an option."""
_MASKED = (
    f"keys in URLs are shown and written as {MASK}: to go on, give the URL with its keys again, "
    "or keep them in the environment (as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and leave "
    "them out of it"
)


def __getattr__(name: str) -> Any:
    """The consoles `results` and `progress`, made at their first use: `--help` needs neither."""
    if name not in ("results", "progress"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from llmscale.commands._console import SafeConsole

    console = SafeConsole(stderr=name == "progress")
    globals()[name] = console
    return console


def make_table(
    title: str,
    *headings: "str | Text",
    left: int = 1,
    together: int = 1,
    least: Sequence[str] = (),
) -> "Table":
    """A table with a title and one column a heading, the first `left` of them aligned left.

    It fits the terminal: columns headed `least` are left out first. `together`: as FittedTable
    says.
    """
    from llmscale.commands._tables import FittedTable

    table = FittedTable(styled((title, "bold")), together, least)
    for place, heading in enumerate(headings):
        table.add_column(
            heading, justify="left" if place < left else "right", header_style="dim", no_wrap=True
        )
    return table


def styled(*parts: str | tuple[str, str]) -> "Text":
    """One line of parts, each a text or (text, style): printed as it is, whatever it holds."""
    from rich.text import Text

    pairs = [part if isinstance(part, tuple) else (part, "") for part in parts]
    return Text.assemble(*((masked(one_line(text)), style) for text, style in pairs))


def stacked(upper: str, lower: str) -> "Text":
    """A cell of two lines, the second one dim."""
    from rich.text import Text

    return Text("\n").join([styled(upper), styled((lower, "dim"))])


def print_json(payload: dict[str, Any]) -> None:
    """Write `payload` as one JSON object on standard output (NaN and infinities as null, keys of
    URLs masked).
    """
    from llmscale.runs.json_values import plain

    answers().write(json.dumps(all_masked(plain(payload)), indent=2) + "\n")
    answers().flush()


def print_text(text: str) -> None:
    """Write text as it is on standard output, in its own lines: no markup, no wrapping, no control
    characters.
    """
    answers().write(masked(clean(text)).rstrip("\n") + "\n")
    answers().flush()


def print_piece(text: str, *, bold: bool = False) -> None:
    """Write a piece of text on standard output at once, its line unended: no markup, no control
    characters.
    """
    if bold:
        from rich.text import Text

        _results().print(Text(text, "bold"), end="", soft_wrap=True)
        return
    answers().write(clean(text))
    answers().flush()


NotesOption = Annotated[
    bool,
    typer.Option(
        "--notes",
        help="Show every warning, not only the three weightiest",
        rich_help_panel="Output",
    ),
]
"""How every command that shows warnings is asked for all of them."""


def warn(note: Note | str) -> None:
    """Write one warning to standard error."""
    text = f"{note.code}: {note}" if isinstance(note, Note) else note
    _progress().say("warning:", "yellow", shortened(text))


def warn_all(notes: Iterable[Note], *, every: bool = False) -> None:
    """Write the weightiest warnings to standard error, and how many more there are; or `every`."""
    from llmscale.notes import heaviest_first, weightiest

    notes = tuple(notes)
    shown, left = (heaviest_first(dict.fromkeys(notes)), 0) if every else weightiest(notes)
    for note in shown:
        warn(note)
    if left:
        tell(f"and {left} more: --notes")


def tell(text: str) -> None:
    """One line of news on standard error."""
    _progress().print(text)


def show_next(step: str) -> None:
    """What to do next, on standard output: a command, or a sentence with one."""
    _results().say("next:", "", step)


@contextmanager
def _news(patience: Patience) -> Iterator[None]:
    """Show on standard error what the library says of long work, such as a fit of a million
    rows, and after a silence what it is at.
    """
    log, handler = logging.getLogger("llmscale.explain"), _OnStandardError(patience)
    log.addHandler(handler)
    # The level stays: a command that ends must not silence one that runs in another thread.
    log.setLevel(logging.DEBUG)
    patience.start()
    try:
        yield
    finally:
        log.removeHandler(handler)


class _OnStandardError(logging.Handler):
    """News in lines of their own; what is only being done (DEBUG) for the line of `patience`."""

    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self._patience = patience

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO:
            tell(record.getMessage())
        else:
            self._patience.doing = one_line(record.getMessage())


class Commands(TyperGroup):
    """A command group that turns an LlmscaleError into its message and exit code, and Ctrl-C into
    130.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with guarded_streams() as patience, _news(patience):
            return super().main(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        # What follows the name of the command is still to be read.
        if any(has_keys(word) for word in (*ctx.args, *ctx._protected_args)):
            tell(_MASKED)
        try:
            return super().invoke(ctx)
        except LlmscaleError as error:
            raise _ended(error) from error
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
                raise
            problem = (
                f"{error.filename or 'a name'} cannot be used as a file or folder: {error.strerror}"
            )
            _progress().say("error:", "bold red", shortened(problem))
            raise typer.Exit(InputError.exit_code) from error
        except Exception as error:
            if mistake := own_mistake(error):
                raise _ended(mistake) from error
            # Words of the command line, such as names of files, are quoted in what typer says of
            # them.
            if isinstance(message := getattr(error, "message", None), str) and hasattr(
                error, "format_message"
            ):
                message += _taken_by(self.commands, error)
                error.message = shortened(masked(one_line(message)))  # type: ignore[attr-defined]
            raise
        except KeyboardInterrupt as interrupt:
            _progress().print(str(interrupt) or "interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def _taken_by(commands: Mapping[str, Any], error: Exception) -> str:
    """Which commands take an option that this one does not have; empty of one that none or many
    take, and of any other error."""
    if not hasattr(error, "possibilities"):
        return ""
    option = getattr(error, "option_name", "")
    taking = [
        name
        for name, command in commands.items()
        if any(option in one.opts for one in command.params)
    ]
    if not 0 < len(taking) <= _FEW:
        return ""
    error.possibilities = None  # names that only look like it
    return f"; it is an option of llmscale {both(taking)}"


def _ended(error: LlmscaleError) -> typer.Exit:
    """Says what is wrong; the end of the program."""
    _progress().say("error:", "bold red", shortened(error.problem))
    if error.fix:
        _progress().say("  fix:", "bold", shortened(error.fix))
    return typer.Exit(error.exit_code)


def _results() -> "SafeConsole":
    console: SafeConsole = (
        __getattr__("results") if "results" not in globals() else globals()["results"]
    )
    return console


def _progress() -> "SafeConsole":
    console: SafeConsole = (
        __getattr__("progress") if "progress" not in globals() else globals()["progress"]
    )
    return console

"""The `llmscale` program: one file a command, which is loaded when the command is asked for.
Importing this loads typer and rich, nothing heavier."""

import importlib
import keyword
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

import llmscale
from llmscale.commands import output
from llmscale.commands._options import GroupedCommand

_FIRST = [
    "sweep",
    "status",
    "tune",
    "fit",
    "laws",
    "explain",
    "plot",
    "predict",
    "next",
    "mixture",
    "models",
    "generate",
    "chat",
    "eval",
    "finetune",
    "inspect",
    "quantize",
    "export",
    "import",
    "shapes",
    "schema",
    "bench",
    "data",
    "doctor",
]
"""In the order of their use; help lists others after them."""


_FIRST_LINE = re.compile(r'"""`llmscale (\w+)`: (.+)\."""\s*')


def _commands() -> dict[str, str]:
    """The files of this folder whose first line says which command they are, and what it does; none
    of them is loaded."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        with path.open(encoding="utf-8") as file:
            says = _FIRST_LINE.fullmatch(file.readline())
        if says and says[1] == path.stem:
            found[path.stem] = f"{says[2][0].upper()}{says[2][1:]}."
    known = [name for name in _FIRST if name in found]
    return {name: found[name] for name in (*known, *found)}


COMMANDS = _commands()
"""What each does, in the order in which help lists them; `sweep` is the function of that name in
sweep.py."""


class Loaded(Mapping[str, Any]):
    """The commands by name, each loaded when it is asked for: help of one does not wait for the
    others."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        return _load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Program(output.Commands):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Loaded()  # type: ignore[assignment]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what stands before the name of the command; that is mostly nothing."""
        if args and args[0] in COMMANDS:
            # To read the program's own options, typer would load pydantic: 0.1 s for nothing.
            ctx._protected_args, ctx.args = args[:1], args[1:]
            return args[1:]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each command does, without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)


@cache
def _load(name: str) -> Any:
    """What typer makes of a function, or of a group of them."""
    module = importlib.import_module(f"llmscale.commands.{name}")
    made = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)
    if isinstance(made, typer.Typer):
        return typer.main.get_command(made)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(cls=GroupedCommand)(made)
    return typer.main.get_command(alone)


app = typer.Typer(
    name="llmscale",
    cls=Program,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    # drawing help with rich takes longer than everything else that `--help` does
    rich_markup_mode=None,
    help="Measure how the loss of a language model falls with its size, and fit the law with "
    "error bars.",
    epilog="Start with: llmscale doctor; llmscale sweep --sizes 10k,30k,100k,300k; llmscale fit; "
    "llmscale plot\n\n"
    "Then use the models of results/NAME: llmscale models results/NAME; llmscale generate "
    'results/NAME "Once"; llmscale eval results/NAME; llmscale finetune results/NAME --data '
    "task.jsonl",
)


def _show_version(asked: bool) -> None:
    if asked:
        output.results.print(f"llmscale {llmscale.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass

"""The `llmscale` program: one file a command.

Importing it loads typer and rich, nothing heavier.
"""

from typing import Annotated

import typer

import llmscale
from llmscale.commands import output
from llmscale.commands.bench import bench
from llmscale.commands.data import data
from llmscale.commands.doctor import doctor
from llmscale.commands.explain import explain
from llmscale.commands.fit import fit
from llmscale.commands.laws import laws
from llmscale.commands.plot import plot
from llmscale.commands.predict import predict
from llmscale.commands.schema import schema
from llmscale.commands.shapes import shapes
from llmscale.commands.status import status
from llmscale.commands.sweep import sweep
from llmscale.commands.tune import tune

app = typer.Typer(
    name="llmscale",
    cls=output.Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    # drawing help with rich takes longer than everything else that `--help` does
    rich_markup_mode=None,
    help="Measure how the loss of a language model falls with its size, and fit the law with error "
    "bars.",
    epilog="Start with: llmscale doctor; llmscale sweep --sizes 10k,30k,100k,300k; llmscale fit; "
    "llmscale plot",
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


app.command()(sweep)
app.command()(status)
app.command()(tune)
app.command()(fit)
app.command()(laws)
app.command()(explain)
app.command()(plot)
app.command()(predict)
app.command()(shapes)
app.command()(schema)
app.command()(bench)
app.add_typer(data)
app.command()(doctor)

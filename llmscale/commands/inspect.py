"""`llmscale inspect`: look inside trained models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmscale.commands import output
from llmscale.commands._extra_words import refuse_run
from llmscale.commands._options import OUTPUT, JsonOption
from llmscale.commands.generate import ArchOption, DeviceOption, RunArgument
from llmscale.errors import InputError
from llmscale.quantity import format_count

if TYPE_CHECKING:
    from llmscale.runs.inspection import InspectedLadder, InspectedToken, Inspection


def inspect(
    run: RunArgument,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What the model reads")] = None,
    ladder: Annotated[
        bool,
        typer.Option(
            "--ladder",
            help="Measure how induction and the reach of attention change with size, over all runs "
            "of a results folder",
            rich_help_panel="What to measure",
        ),
    ] = False,
    alternatives: Annotated[
        int,
        typer.Option(
            help="Likeliest next tokens to show",
            rich_help_panel="What to measure",
        ),
    ] = 5,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .png, .pdf or .svg for the figure, a .html for the page; repeat it for both  "
            "[default: both, in the folder of figures of the results]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    device: DeviceOption = "auto",
    arch: ArchOption = None,
    json: JsonOption = False,
) -> None:
    """Show how a model reads a text: the attention of each layer and head, the loss of each token,
    and what it expects next; or how models change with size.

    Example: llmscale inspect results/cpu "The cat sat on the mat";
    llmscale inspect results/cpu --ladder"""
    if ladder:
        if text is not None:
            raise InputError("--ladder reads tokens drawn by lot, and no text", "leave it out")
        _inspect_ladder(run, out or (), device, json)
        return
    if text is None:
        raise InputError("there is no text", 'give one: llmscale inspect RUN "The cat sat"')
    from llmscale.measure.trained.inspection.text import inspect as look

    refuse_run(text, "TEXT")
    found = look(run, text, alternatives=alternatives, device=device, arch=arch)
    files = _written(found, out or _usual(run, found.folder, found.file_name))
    if json:
        output.print_json({**found.to_json(), "files": [str(file) for file in files]})
        return
    for remark in found.remarks:
        output.tell(remark)
    _show(found)
    for file in files:
        output.results.print(str(file))


def _inspect_ladder(place: str, out: Sequence[Path], device: str, json: bool) -> None:
    from llmscale.measure.trained.inspection.ladder import inspect_ladder

    found = inspect_ladder(place, device=device, report=_tell_progress)
    files = _written(found, out or _usual(place, found.folder, "inside-ladder")[:1])
    if json:
        output.print_json({**found.to_json(), "files": [str(file) for file in files]})
        return
    for remark in (*found.remarks, *(f"left out {run}: {why}" for run, why in found.left_out)):
        output.tell(remark)
    headings = ("run", "size", "N", "tokens", "induction", "gain", "distance")
    title = f"Induction on {found.repeated} tokens that come again, and reach of attention"
    table = output.make_table(title, *headings, left=2, least=("tokens",))
    for run in found.runs:
        distance = run.attention_distance
        table.add_row(
            run.run_id,
            run.size,
            format_count(run.params),
            format_count(run.tokens),
            f"{run.induction_score:.3f}",
            f"{run.induction_gain:.3f}",
            "" if distance is None else f"{distance:.2f}",
        )
    output.results.print(table)
    output.results.print(
        "induction: attention of the best head to what followed before, 0 to 1; gain: nats a token "
        "by which the loss is lower the second time; distance: in tokens, on validation text"
    )
    if found.table:
        columns = "induction_score, induction_gain, attention_distance"
        output.results.print(f"columns of {found.table}: {columns}")
    for file in files:
        output.results.print(str(file))


def _tell_progress(done: int, runs: int) -> None:
    if runs > 1:
        output.tell(f"looked into {done} of {runs} models")


def _usual(place: str, folder: str, name: str) -> tuple[Path, ...]:
    """Where figure and page go if it is not said: with a results folder's figures, or here."""
    from llmscale.runs.remote import is_url
    from llmscale.runs.results_folder import ResultsFolder
    from llmscale.runs.safe_paths import refuse_links

    figures = Path()
    if not is_url(place):
        results = ResultsFolder(Path(folder))
        refuse_links(results.path, with_runs=False)
        figures = results.figures
    return figures / f"{name}.png", figures / f"{name}.html"


def _written(found: "Inspection | InspectedLadder", files: Sequence[Path]) -> list[Path]:
    """Each file with what its ending asks for."""
    from llmscale.explain.inside import plot_inspection, write_page
    from llmscale.runs.inspection import Inspection

    written = []
    for file in files:
        if isinstance(found, Inspection) and file.suffix.lower() in (".html", ".htm"):
            written.append(write_page(found, file))
        else:
            plot_inspection(found, file)
            written.append(file)
    return written


def _show(found: "Inspection") -> None:
    mean = "" if found.loss is None else f", {found.loss:.3f} nats a token"
    output.results.print(f"model {found.size}, run {found.run_id}{mean}")
    _print_losses(found)
    last = found.tokens[-1]
    table = output.make_table("What may come next", "token", "probability")
    from llmscale.runs.inspection import visible

    for one in last.next:
        table.add_row(visible(one.text), f"{one.probability:.1%}")
    output.results.print(table)


def _print_losses(found: "Inspection") -> None:
    """The text with the loss of each token as its colour, or behind it if there are no colours."""
    from rich.text import Text

    from llmscale.explain.inside.colours import COLOURS, colour_of

    console = output.results
    if console.no_color or not console.is_terminal:
        console.print(" ".join(map(_with_number, found.tokens)))
        return
    shown = Text()
    for token in found.tokens:
        if token.loss is None:
            shown.append(token.text)
        else:
            shown.append(token.text, f"black on {colour_of(token.loss, found.vocab_size)}")
    console.print(shown, soft_wrap=True)
    key = Text("nats of a token: 0 ", "dim")
    for colour in COLOURS:
        key.append("   ", f"on {colour}")
    key.append(f" ln {found.vocab_size:,} and more", "dim")
    console.print(key)


def _with_number(token: "InspectedToken") -> str:
    from llmscale.runs.inspection import visible

    number = "" if token.loss is None else f"[{token.loss:.2f}]"
    return f"{visible(token.text)}{number}"

"""`llmscale plot`: draw a table of runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmscale.commands import output
from llmscale.commands.fit import (
    ColumnsOption,
    CountOption,
    LawOption,
    LevelOption,
    StatusOption,
    TableArgument,
    UnitsOption,
    VariableOption,
    WhereOption,
    read_runs,
)
from llmscale.errors import InputError

if TYPE_CHECKING:
    from llmscale.explain.figures import Evidence
    from llmscale.explain.fit import Options
    from llmscale.explain.table import RunTable

_PLACE = "name a file that ends in .png, .pdf or .svg, in a folder that you may write to"


def plot(
    table: TableArgument = None,
    kind: Annotated[
        str,
        typer.Option(
            help="scaling (loss against size), curves (against tokens), residuals, isoflop, "
            "contour, profile, pairs or"
            " envelope."
        ),
    ] = "scaling",
    law: LawOption = None,
    variable: VariableOption = "params",
    count: CountOption = "params",
    columns: ColumnsOption = None,
    units: UnitsOption = None,
    where: WhereOption = None,
    status: StatusOption = None,
    level: LevelOption = 0.9,
    bootstrap: Annotated[
        int, typer.Option(help="Bootstrap refits behind bands and intervals.")
    ] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="A .png, .pdf or .svg; default figures/KIND.png."
        ),
    ] = None,
    width: Annotated[
        float, typer.Option(help="Inches; 3.4 is one column of a paper, 7 both.")
    ] = 3.4,
    title: Annotated[str | None, typer.Option(help="A title above the figure.")] = None,
    notes: output.NotesOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw the runs with their law, or their loss curves, for a paper.

    Example: llmscale plot results/cpu --kind scaling -o law.pdf
    """
    from llmscale.commands import _fit_output as shown
    from llmscale.explain.figures import load_kind
    from llmscale.explain.fit import Options
    from llmscale.runs.remote import is_url
    from llmscale.runs.safe_paths import refuse_links
    from llmscale.runs.safe_write import make_folder, write_bytes

    if not 1 <= width <= 40:
        raise InputError(
            f"--width {width:g} is not a width for a figure",
            "give inches, from 1 to 40: --width 3.4",
        )
    chosen = load_kind(kind)
    _check_place(out)
    options = Options(variable=variable, level=level, bootstrap=bootstrap)
    runs = read_runs(table, columns, count, units, where, status, tuple(law or ()))
    text = shown.reading(runs)
    if text and not json:
        output.tell(text)
    if out and ".." in out.parts:
        out = out.resolve()
    path = out or (Path(f"{kind}.png") if is_url(table) else _default_path(runs, kind))
    if out is None and runs.path.is_dir():
        refuse_links(runs.path, with_runs=False)
    evidence = _evidence(runs, chosen.DRAWS, tuple(law or ()), options)
    make_folder(path.parent, _PLACE)
    from llmscale.explain.figures._style import render
    from llmscale.explain.figures._text import drawing_notes

    with drawing_notes() as of_drawing:
        drawing = chosen.draw(evidence, width=width, title=title)
        image = render(drawing.figure, _ending(path))
    write_bytes(path, image)
    result = {
        "path": str(path),
        "kind": kind,
        "columns": dict(runs.columns),
        "laws": [fit.law.name for fit in evidence.fits],
        "n_runs": drawing.n_runs,
        "n_excluded": drawing.n_excluded,
        "n_held_out": drawing.n_held_out,
    }
    if json:
        output.print_json(result)
    else:
        output.results.print(str(path))
    output.warn_all((*runs.notes, *of_drawing), every=notes)


def _ending(path: Path | None) -> str:
    """The kind of file to write. Raises InputError for one that is not drawn."""
    from llmscale.explain.figures._style import ENDINGS

    ending = path.suffix.lower().removeprefix(".") if path else ENDINGS[0]
    if ending not in ENDINGS:
        raise InputError(
            f"cannot draw into {path}: its ending is {ending!r}",
            "name a file that ends in .png, .pdf or .svg",
        )
    return ending


def _check_place(path: Path | None) -> None:
    """Raise InputError for a file that cannot be drawn into, before anything is fitted."""
    from llmscale.runs.safe_paths import refuse_unusable

    _ending(path)
    if path is None:
        return
    if refuse_unusable(path, _PLACE).is_dir():
        raise InputError(f"{path} is a folder", _PLACE)


def _default_path(runs: "RunTable", kind: str) -> Path:
    from llmscale.runs.results_folder import ResultsFolder

    folder = ResultsFolder(runs.path).figures if runs.path.is_dir() else Path()
    return folder / f"{kind}.png"


def _evidence(
    runs: "RunTable", draws: str, laws: tuple[str, ...], options: "Options"
) -> "Evidence":
    """What the figure shows: laws fitted here, or the curves of the results folder."""
    from llmscale.explain.figures import Evidence
    from llmscale.explain.fit import fit_laws
    from llmscale.runs.curve_file import CurveFile
    from llmscale.runs.results_folder import ResultsFolder

    folder = ResultsFolder(runs.path) if runs.path.is_dir() else None
    every_run = folder.read_runs() if folder else None
    if draws == "laws":
        return Evidence(runs, fits=fit_laws(runs, laws, options), runs=every_run)
    if folder and not folder.curves_path.is_file():
        raise InputError(
            f"there is no {folder.curves_path}", "name a results folder that a sweep wrote"
        )
    return Evidence(runs, runs=every_run, curves=CurveFile(folder.curves_path) if folder else None)

"""`llmscale.plot`: a table of runs and its laws, or its loss curves, drawn for a paper."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from llmscale.errors import InputError
from llmscale.explain.api.fitted import (
    Asked,
    LawName,
    check_given,
    check_variable,
    fits_of,
    read_for,
)
from llmscale.explain.estimation.options import Options, OptionsGiven, those_given
from llmscale.explain.figures import COLUMN_INCHES, FIGURES, Drawing, Evidence, Kind
from llmscale.explain.figures._place import check_place, write
from llmscale.explain.figures._text import drawing_notes
from llmscale.explain.table import RunTable
from llmscale.runs.curve_file import CurveFile
from llmscale.runs.remote import is_url
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.safe_paths import refuse_links

_OF_OPTIMA = ("level", "bootstrap", "seed")
"""The options that the optima of a method follow."""


def plot(
    source: Any = None,
    kind: str = "scaling",
    *,
    output: Path | str | bool = False,
    law: LawName | Sequence[LawName] | None = None,
    columns: Mapping[str, str] | str | None = None,
    count: str = "params",
    units: Mapping[str, str] | str | None = None,
    where: str | Sequence[str] | None = None,
    status: str | None = None,
    refit: bool = False,
    width: float = COLUMN_INCHES,
    title: str | None = None,
    **options: Unpack[OptionsGiven],
) -> Drawing:
    """A figure of the runs with their law, or of their loss curves.

    `source` is a table as `fit` takes it, of which fits that are kept next to it are used unless
    `refit`, or a fit, several, or the file of one. `kind` is a figure that `llmscale plot --help`
    lists, or FILE.py:FUNCTION. `output` is a .png, .pdf or .svg; True writes KIND.png, of a results
    folder into its figures/. `width` is in inches. Raises InputError, also for a setting that the
    figure makes no use of."""
    if not 1 <= width <= 40:
        raise InputError(
            f"--width {width:g} is not a width for a figure",
            "give inches, from 1 to 40: --width 3.4",
        )
    chosen = FIGURES.find(kind)
    if not isinstance(output, bool):
        check_place(Path(output))
    laws = (law,) if isinstance(law, (str, type)) else tuple(law or ())
    reading: dict[str, Any] = {"columns": columns, "count": count, "units": units}
    reading |= {"where": where, "status": status}
    asked = Asked(source, laws, reading, those_given(options), refit)
    _refuse_idle(chosen, kind, asked)
    given = asked.given
    for one in given:
        check_given(one, asked)
    runs = given[0].runs if given else read_for(asked)
    path = _path(output, kind, asked, runs)
    evidence = _evidence(chosen, asked, runs)
    with drawing_notes() as notes:
        drawing = chosen.draw(evidence, width=width, title=title)
        written = path and write(drawing.figure, path)
    origin = runs or given[0].origin
    return replace(
        drawing,
        kind=kind,
        path=written,
        fits=evidence.fits,
        columns=origin.columns,
        reading=origin.reading,
        notes=(*(runs.notes if runs else ()), *notes),
    )


def _refuse_idle(chosen: Kind, kind: str, asked: Asked) -> None:
    """Raise InputError for a setting that this kind of figure makes no use of."""
    if chosen.DRAWS == "curves":
        of_use = _OF_OPTIMA if chosen.METHOD else ()
        idle = [*(["law"] if asked.laws else []), *(["refit"] if asked.refit else [])]
        idle += [name for name in asked.options if name not in of_use]
        if idle:
            raise InputError(
                f"--kind {kind} draws loss curves, and makes no use of --{idle[0]}",
                "leave it out, or draw the law: --kind scaling",
            )
    if chosen.LAWS is not None and len(asked.laws) > chosen.LAWS:
        raise InputError(
            f"--kind {kind} draws {chosen.LAWS} law, and {len(asked.laws)} are named",
            "name one --law",
        )
    check_variable(asked.laws, asked.options)


def _path(output: Path | str | bool, kind: str, asked: Asked, runs: RunTable | None) -> Path | None:
    """The file to write, or None. Raises InputError if a folder's links lead out of it."""
    if output is False:
        return None
    if output is not True:
        path = Path(output)
        return path.resolve() if ".." in path.parts else path
    name = f"{kind}.png" if kind in FIGURES else "figure.png"
    if runs is None or not runs.path.is_dir() or is_url(asked.source):
        return Path(name)
    refuse_links(runs.path, with_runs=False)
    return ResultsFolder(runs.path).figures / name


def _evidence(chosen: Kind, asked: Asked, runs: RunTable | None) -> Evidence:
    """What the figure shows: laws, as they are given, kept or fitted now, the folder's curves, and
    the optima of the figure's method."""
    folder = ResultsFolder(runs.path) if runs is not None and runs.path.is_dir() else None
    every_run = folder.read_runs() if folder else None
    if chosen.DRAWS == "curves":
        if folder and not folder.curves_path.is_file():
            raise InputError(
                f"there is no {folder.curves_path}", "name a results folder that a sweep wrote"
            )
        curves = CurveFile(folder.curves_path) if folder else None
        return _with_optima(Evidence(runs, asked.given, every_run, curves), chosen, asked)
    fits = asked.given or fits_of(asked, _there(runs))
    return _with_optima(Evidence(runs, fits, every_run), chosen, asked)


def _there(runs: RunTable | None) -> RunTable:
    assert runs is not None
    return runs


def _with_optima(evidence: Evidence, chosen: Kind, asked: Asked) -> Evidence:
    """With what the figure's method finds, if it has one, or why it finds nothing."""
    if chosen.METHOD is None:
        return evidence
    made = evidence.fits[0].options if evidence.fits else Options()
    options = replace(made, **{"holdout": "none", **asked.options})
    return evidence.with_optima(chosen.METHOD, options)

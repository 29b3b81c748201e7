"""`llmscale.plot`: a table of runs and its laws, or its loss curves, drawn for a paper."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from llmscale.errors import InputError, Note
from llmscale.explain.api.fitted import Asked, check_given, check_variable, fits_of, read_for
from llmscale.explain.api.read import LawName, laws_of
from llmscale.explain.api.settings import (
    Given,
    PlotSpec,
    asked_spec,
    options_given,
    reading_given,
)
from llmscale.explain.api.written_over import refuse_input
from llmscale.explain.diagnostics.mixing import MIXED_CODES
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.result import Fit
from llmscale.explain.figures import COLUMN_INCHES, FIGURES, Drawing, Evidence, Kind
from llmscale.explain.figures._place import check_place, write
from llmscale.explain.figures._text import drawing_notes
from llmscale.explain.table import RunTable
from llmscale.notes.predicting import KEPT_OPTIONS
from llmscale.runs.curve_file import CurveFile
from llmscale.runs.remote import is_url
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.safe_paths import refuse_links
from llmscale.settings import shows_keywords

_OF_OPTIMA = ("level", "bootstrap", "seed")
"""The options that the optima of a method follow."""


@shows_keywords(PlotSpec)
@np.errstate(all="ignore")  # laws overflow far from their runs, which is said
def plot(
    source: Any = None,
    kind: str = "scaling",
    *,
    output: Path | str | bool = False,
    law: LawName | Sequence[LawName] | None = None,
    refit: bool = False,
    width: float = COLUMN_INCHES,
    title: str | None = None,
    **settings: Unpack[Given],
) -> Drawing:
    """A figure of the runs with their law, or of their loss curves.

    `source` is a table as `fit` takes it, of which fits that are kept next to it are used unless
    `refit`, or a fit, several, or the file of one. `kind` is a figure that `llmscale plot --help`
    lists, or FILE.py:FUNCTION. `output` is a .png, .pdf or .svg; True writes KIND.png, of a results
    folder into its figures/. `width` is in inches. `settings` are those of docs/settings.md: how to
    read the table, and how to fit. Raises InputError, also for a setting that the figure makes no
    use of."""
    keywords: dict[str, Any] = {"kind": kind, "output": output, "law": law, "refit": refit}
    spec = asked_spec(PlotSpec, {**keywords, "width": width, "title": title, **settings})
    chosen = FIGURES.find(spec.kind)
    if not isinstance(spec.output, bool):
        check_place(Path(os.path.expanduser(spec.output)))
    reading, options = reading_given(settings), options_given(spec, settings)
    asked = Asked(source, laws_of(spec.law), reading, options, spec.refit)
    _refuse_idle(chosen, spec.kind, asked)
    given = asked.given
    for one in given:
        check_given(one, asked)
    runs = given[0].runs if given else read_for(asked)
    path = _path(spec, asked, runs)
    if path is not None:
        refuse_input(path, source)
    evidence = _evidence(chosen, asked, runs)
    with drawing_notes() as notes:
        drawing = chosen.draw(evidence, width=spec.width, title=spec.title)
        written = path and write(drawing.figure, path)
    origin = runs or given[0].origin
    return replace(
        drawing,
        kind=spec.kind,
        path=written,
        fits=evidence.fits,
        columns=origin.columns,
        reading=origin.reading,
        notes=tuple(
            dict.fromkeys(
                (
                    *(runs.notes if runs else ()),
                    *_of_kept(evidence.fits),
                    *_of_table(evidence.fits),
                    *_of_optima(evidence),
                    *notes,
                )
            )
        ),
    )


def _of_kept(fits: Sequence[Fit]) -> list[Note]:
    return [note for fit in fits for note in fit.notes if note.code == KEPT_OPTIONS.code]


def _of_table(fits: Sequence[Fit]) -> list[Note]:
    """What the fits say of runs that one law cannot hold."""
    by_code = {note.code: note for fit in fits for note in fit.notes}
    return [note for code, note in by_code.items() if code in MIXED_CODES]


def _of_optima(evidence: Evidence) -> tuple[Note, ...]:
    """What to know of the optima that the figure's method found."""
    found = evidence.allocation
    return () if found is None or isinstance(found, InputError) else found.notes


def _refuse_idle(chosen: Kind, kind: str, asked: Asked) -> None:
    """Raise InputError for a setting that this kind of figure makes no use of."""
    if chosen.DRAWS == "curves":
        of_use = _OF_OPTIMA if chosen.METHOD else ()
        idle = [*(["law"] if asked.laws else []), *(["refit"] if asked.refit else [])]
        idle += [name for name in asked.options if name not in of_use]
        if idle:
            raise InputError(
                f"{kind} draws loss curves, and makes no use of --{idle[0]}",
                "leave it out, or draw the law: --kind scaling",
            )
    if chosen.LAWS is not None and len(asked.laws) > chosen.LAWS:
        raise InputError(
            f"{kind} draws {chosen.LAWS} law, and {len(asked.laws)} are named",
            "name one --law",
        )
    check_variable(asked.laws, asked.options)


def _path(spec: PlotSpec, asked: Asked, runs: RunTable | None) -> Path | None:
    """The file to write, or None. Raises InputError if a folder's links lead out of it."""
    if spec.output is False:
        return None
    if spec.output is not True:
        path = Path(os.path.expanduser(spec.output))
        return path.resolve() if ".." in path.parts else path
    name = f"{spec.kind}.png" if spec.kind in FIGURES else "figure.png"
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

"""The reporting checklist for scaling laws of Li et al. 2025, filled in from a fit, its table and
its sweep.

Their questions (arXiv 2502.18969, appendix) are put in our words. What no column or option answers
says so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError, listed
from llmscale.explain import digits
from llmscale.explain.diagnostics._checklist_sheet import Items, Sheet
from llmscale.explain.diagnostics._training_setup import training_setup
from llmscale.explain.diagnostics.evidence import counted, known
from llmscale.explain.estimation import solver
from llmscale.explain.estimation.levels import count_levels
from llmscale.explain.estimation.relative import size
from llmscale.explain.estimation.result import Fit
from llmscale.explain.laws import LETTERS
from llmscale.quantity import format_count
from llmscale.runs.results_folder import ResultsFolder

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Checklist:
    """Every item of the checklist by section: a question, and its answer or None."""

    law: str
    table: str
    sections: Mapping[str, Items]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `fit --checklist --json` prints."""
        sections = {
            title: [{"item": question, "answer": answer} for question, answer in items]
            for title, items in self.sections.items()
        }
        return {"law": self.law, "table": self.table, "checklist": sections}

    def __str__(self) -> str:
        """As Markdown, every item ticked and answered, or open and `not recorded`."""
        answers = [answer for _, answer in chain(*self.sections.values())]
        blank = answers.count(None)
        lines = [
            f"# Checklist of the law {_plain(self.law)}",
            "",
            "After Li et al. 2025, (Mis)Fitting: A Survey of Scaling Laws (arXiv 2502.18969). "
            f"{len(answers) - blank} of {len(answers)} items are filled in from "
            f"{_plain(self.table)}, {blank} are {NOT_RECORDED}.",
        ]
        for title, items in self.sections.items():
            lines += ["", f"## {title}", ""]
            lines += [_ticked(question, answer) for question, answer in items]
        return "\n".join(lines) + "\n"


def checklist_of(fit: Fit) -> Checklist:
    """The checklist of a fit, with what its results folder says of the sweep, if it has one."""
    if not fit.table.path.is_dir():
        return checklist(fit)
    folder = ResultsFolder(fit.table.path)
    sweep = None
    notes = []
    try:
        if folder.sweep_path.exists():
            sweep = folder.read_sweep()
    except InputError as error:
        notes.append(
            f"{error.problem}: what it says of the sweep is not in the checklist; {error.fix}"
        )
    return replace(checklist(fit, folder.read_runs(), sweep), notes=tuple(notes))


def checklist(
    fit: Fit, runs: pd.DataFrame | None = None, sweep: Mapping[str, Any] | None = None
) -> Checklist:
    """The checklist filled in from a fit, from all rows of its source (`runs`), those that are not
    done, too, and from the content of a results folder's sweep.json. The same fit gives the same
    text."""
    if runs is None:
        runs = fit.table.frame
    sheet = Sheet(fit, runs, sweep or {})
    sections = {
        "Hypothesis": _hypothesis(sheet),
        "Training setup": training_setup(sheet),
        "Data collection": _collection(sheet),
        "Fitting": _fitting(sheet),
    }
    return Checklist(fit.law.name, str(fit.table.path), sections)


def _ticked(question: str, answer: str | None) -> str:
    if answer is None:
        return f"- [ ] {question}: **{NOT_RECORDED}**"
    return f"- [x] {question}: {_plain(answer)}"


def _hypothesis(sheet: Sheet) -> Items:
    law = sheet.fit.law
    variables = listed(map(_variable, law.inputs), len(law.inputs))
    return [
        ("Form of the law", sheet.fit.formula),
        ("Variables it relates", f"loss in nats per token to {variables}"),
        ("Coefficients fitted", _coefficients(sheet.fit)),
        ("Principle behind the form", f"taken from {law.source}"),
        ("Assumed relation between the variables", _relation(sheet.frame)),
    ]


def _variable(name: str) -> str:
    if name not in LETTERS:
        return name
    return f"{LETTERS[name]} ({name})"


def _relation(frame: pd.DataFrame) -> str | None:
    """How N and D go together in the runs."""
    if not (known(frame, "params") and known(frame, "tokens")):
        return None
    params, tokens = frame["params"].to_numpy(), frame["tokens"].to_numpy()
    ratio = tokens / params
    if count_levels(tokens) == 1:
        return f"D is the same in every run, {format_count(float(tokens[0]))} tokens"
    if count_levels(ratio) == 1:
        return f"D is proportional to N, {ratio[0]:.3g} tokens each"
    if count_levels(params) == 1:
        return None
    correlation = np.corrcoef(np.log(params), np.log(tokens))[0, 1]
    return f"N and D vary apart: ln N and ln D of the runs have a correlation of {correlation:.2f}"


def _collection(sheet: Sheet) -> Items:
    fit, frame = sheet.fit, sheet.frame
    ours = sheet.setting("versions", "llmscale")
    runs = frame["run_id"].nunique()
    points = counted(len(frame), "row")
    if runs < len(frame):
        points += f" of {counted(runs, 'run')}: several checkpoints a run"
    else:
        points += ", one a run"
    changed = metric = evaluation = None
    if ours:
        changed = "no: the last weights, without averaging"
        metric = "validation cross-entropy in nats per token"
        if tokens := sheet.setting("data", "validation_tokens"):
            metric += f" over {tokens:,} tokens"
        if known(frame, "loss_stderr"):
            metric += f", standard error up to {frame['loss_stderr'].max():.2g}"
        evaluation = f"llmscale {ours}"
    return [
        ("Checkpoints published", None),
        ("Checkpoints changed before evaluation", changed),
        ("Points fitted", points),
        ("Metric", metric),
        ("Transformation of the metric", f"ln loss, in the {fit.options.objective} objective"),
        ("Evaluation code", evaluation),
    ]


def _fitting(sheet: Sheet) -> Items:
    fit = sheet.fit
    options, residual = fit.options, fit.residuals
    deviation = float(residual.std())
    objective = f"sum of {options.objective}"
    if options.objective != "squared":
        objective += f" with delta {options.delta:g}"
    objective += " of ln law - ln loss"
    if weight := fit.table.columns.get("weight"):
        objective += f", weighted by the column {weight}"
    starts = f"{solver.STARTS} (or {solver.STARTS_WHERE_RUGGED}, of few runs or large residuals)"
    intervals = "none"
    if len(fit.replicates):
        refits = f"{len(fit.replicates)} refits ({fit.bootstrap_method})"
        intervals = f"{100 * options.level:g}% from {refits}"
    return [
        ("Objective", f"{objective}, {fit.objective:.6g} here"),
        (
            "Algorithm",
            "Newton steps with exact derivatives in float64, on ln amplitudes and exponents "
            "within bounds",
        ),
        (
            "Its settings",
            "until a step promises less than 1e-11 of the objective; delta is lowered from 0.1 "
            "by 3",
        ),
        (
            "Initialisation",
            f"the {starts} best of many candidates, with amplitudes by non-negative least squares",
        ),
        ("Points used", _used(sheet)),
        ("Outliers dropped", "none by the fit"),
        ("Intervals", intervals),
        ("Held-out check", str(fit.holdout or "none")),
        (
            "Goodness of fit",
            _off_by(fit, deviation),
        ),
        ("Warnings", listed(dict.fromkeys(note.code for note in fit.notes), 30) or "none"),
    ]


def _off_by(fit: Fit, deviation: float) -> str:
    if fit.law.plain:
        return f"the measure is off by {deviation:.3g} (standard deviation)"
    share = size(deviation)
    return f"ln loss is off by {deviation:.3g} (standard deviation), {share} of the loss"


def _used(sheet: Sheet) -> str:
    """How many rows were fitted, and why others were not."""
    fitted = len(sheet.fit.residuals)
    left_out = sheet.fit.table.left_out
    others = len(sheet.runs) - fitted - len(left_out)
    used = f"{fitted} of {fitted + len(left_out) + max(others, 0)} rows"
    if left_out:
        used += f"; left out as not usable: {listed(left_out)}"
    if others > 0:
        used += f"; {others} left out by a filter"
    return used


def _coefficients(fit: Fit) -> str:
    parts = []
    for name in fit.law.coefficient_names():
        part = f"{name} = {fit.shown(name, 4)}"
        if name in fit.untold:
            part += " (not told by the runs)"
        elif ends := fit.interval(name):
            significant = digits.telling_apart(*ends, 3)
            part += f" ({ends[0]:.{significant}g} to {ends[1]:.{significant}g})"
        parts.append(part)
    return ", ".join(parts)


def _plain(text: str) -> str:
    """Text on one line that Markdown leaves as it is."""
    return re.sub(
        r"([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", " ".join(str(text).split())
    )

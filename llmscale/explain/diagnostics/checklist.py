"""The reporting checklist for scaling laws of Li et al. 2025, filled in from a fit, its table and
its sweep.

Their questions (arXiv 2502.18969, appendix) are put in our words. What no column or option answers
says so."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from llmscale.errors import InputError, listed
from llmscale.explain.diagnostics.evidence import counted, known
from llmscale.explain.estimation import solver
from llmscale.explain.estimation.levels import count_levels, words
from llmscale.explain.estimation.relative import size
from llmscale.explain.estimation.result import Fit
from llmscale.explain.laws import LETTERS
from llmscale.quantity import format_count
from llmscale.runs.results_folder import ResultsFolder

NOT_RECORDED = "not recorded"

Items = list[tuple[str, str | None]]


@dataclass(frozen=True)
class _Sheet:
    fit: Fit
    runs: pd.DataFrame
    """Every run, finished or not."""
    sweep: Mapping[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        return self.fit.table.frame

    def values(self, *names: str) -> str | None:
        """The values of the first of these columns that the table has, or their range if many."""
        for name in names:
            values = self.frame[name].dropna() if name in self.frame else pd.Series(dtype=object)
            if values.empty:
                continue
            if pd.api.types.is_numeric_dtype(values) and values.nunique() > 5:
                return f"{values.min():.4g} to {values.max():.4g}"
            ordered = sorted(values.unique(), key=lambda value: (str(type(value)), value))
            return listed(
                f"{value:.4g}" if isinstance(value, float) else value for value in ordered
            )
        return None

    def setting(self, *keys: str) -> Any:
        """A value of sweep.json, or None."""
        found: Any = self.sweep
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


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
        answers = [answer for items in self.sections.values() for _, answer in items]
        blank = sum(answer is None for answer in answers)
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
    try:
        sweep = folder.read_sweep() if folder.sweep_path.exists() else None
        notes: tuple[str, ...] = ()
    except InputError as error:
        said = f"{error.problem}: what it says of the sweep is not in the checklist; {error.fix}"
        sweep, notes = None, (said,)
    return replace(checklist(fit, folder.read_runs(), sweep), notes=notes)


def checklist(
    fit: Fit, runs: pd.DataFrame | None = None, sweep: Mapping[str, Any] | None = None
) -> Checklist:
    """The checklist filled in from a fit, from all rows of its source (`runs`), those that are not
    done, too, and from the content of a results folder's sweep.json. The same fit gives the same
    text."""
    sheet = _Sheet(fit, fit.table.frame if runs is None else runs, sweep or {})
    sections = {
        "Hypothesis": _hypothesis(sheet),
        "Training setup": _training(sheet),
        "Data collection": _collection(sheet),
        "Fitting": _fitting(sheet),
    }
    return Checklist(fit.law.name, str(fit.table.path), sections)


def _ticked(question: str, answer: str | None) -> str:
    if answer is None:
        return f"- [ ] {question}: **{NOT_RECORDED}**"
    return f"- [x] {question}: {_plain(answer)}"


def _hypothesis(sheet: _Sheet) -> Items:
    law, frame = sheet.fit.law, sheet.frame
    variables = [f"{LETTERS[name]} ({name})" if name in LETTERS else name for name in law.inputs]
    relation = None
    if known(frame, "params") and known(frame, "tokens"):
        budgets, ratios = (
            count_levels(x.to_numpy()) for x in (frame["tokens"], frame["tokens"] / frame["params"])
        )
        if budgets == 1:
            relation = (
                f"D is the same in every run, {format_count(float(frame['tokens'].iloc[0]))} tokens"
            )
        elif ratios == 1:
            relation = (
                "D is proportional to N, "
                f"{float((frame['tokens'] / frame['params']).iloc[0]):.3g} tokens each"
            )
        elif count_levels(frame["params"].to_numpy()) > 1:
            correlation = np.corrcoef(np.log(frame["params"]), np.log(frame["tokens"]))[0, 1]
            relation = (
                "N and D vary apart: ln N and ln D of the runs have a correlation of "
                f"{correlation:.2f}"
            )
    return [
        ("Form of the law", law.formula),
        ("Variables it relates", f"loss in nats per token to {', '.join(variables)}"),
        ("Coefficients fitted", _coefficients(sheet.fit)),
        ("Principle behind the form", f"taken from {law.source}"),
        ("Assumed relation between the variables", relation),
    ]


def _training(sheet: _Sheet) -> Items:
    frame = sheet.frame
    shape = [
        f"{name} = {sheet.values(name)}"
        for name in ("n_layer", "d_model", "n_head", "d_ff")
        if name in frame
    ]
    precision = [value for value in (sheet.values("dtype"), sheet.values("device")) if value]
    return [
        ("Number of models", _models(sheet)),
        ("Sizes", _levels(frame, "params")),
        ("Tokens for each", _levels(frame, "tokens")),
        (
            "Data",
            sheet.values("data", "dataset", "corpus") or _text(sheet.setting("data", "source")),
        ),
        ("Repeated data", _repeated(frame)),
        ("How N is counted", _count(sheet)),
        ("How compute is counted", _compute(frame)),
        ("Tokenizer", _tokenizer(sheet)),
        ("Architecture", sheet.values("arch", "architecture")),
        ("Depth and width, and how they grow", "; ".join(shape) or None),
        ("Context", sheet.values("context", "context_length", "seq_len")),
        ("Optimizer", _optimizer(sheet)),
        ("Learning rate", sheet.values("lr")),
        ("Learning-rate schedule", sheet.values("schedule")),
        ("Batch", sheet.values("batch_tokens", "batch_size", "batch_sequences")),
        ("Hyperparameters that change with size", _changing(frame)),
        ("Search behind the hyperparameters", _search(frame)),
        ("Precision and hardware", ", ".join(precision) or None),
        ("Training code", _code(sheet)),
    ]


def _optimizer(sheet: _Sheet) -> str | None:
    optimizer = sheet.values("optimizer")
    if not optimizer:
        return None
    stated = sheet.values("wd", "weight_decay")
    decay = stated or _text(sheet.setting("spec", "recipe", "weight_decay"))
    return f"{optimizer}, weight decay {decay}" if decay else optimizer


def _code(sheet: _Sheet) -> str | None:
    version = sheet.setting("versions", "llmscale")
    if not version:
        return None
    return f"llmscale {version}: {sheet.setting('command') or 'llmscale sweep'}"


def _collection(sheet: _Sheet) -> Items:
    fit, frame = sheet.fit, sheet.frame
    ours = sheet.setting("versions", "llmscale")
    runs = frame["run_id"].nunique()
    points = f"{counted(len(frame), 'row')}, one a run"
    if runs < len(frame):
        points = (
            f"{counted(len(frame), 'row')} of {counted(runs, 'run')}: several checkpoints a run"
        )
    metric = None
    if ours:
        tokens = sheet.setting("data", "validation_tokens")
        metric = "validation cross-entropy in nats per token" + (
            f" over {tokens:,} tokens" if tokens else ""
        )
        if known(frame, "loss_stderr"):
            metric += f", standard error up to {frame['loss_stderr'].max():.2g}"
    return [
        ("Checkpoints published", None),
        (
            "Checkpoints changed before evaluation",
            "no: the last weights, without averaging" if ours else None,
        ),
        ("Points fitted", points),
        ("Metric", metric),
        ("Transformation of the metric", f"ln loss, in the {fit.options.objective} objective"),
        ("Evaluation code", f"llmscale {ours}" if ours else None),
    ]


def _fitting(sheet: _Sheet) -> Items:
    fit = sheet.fit
    options, residual = fit.options, fit.residuals
    deviation = float(residual.std())
    delta = "" if options.objective == "squared" else f" with delta {options.delta:g}"
    weight = fit.table.columns.get("weight")
    weighted = f", weighted by the column {weight}" if weight else ""
    starts = f"{solver.STARTS} (or {solver.STARTS_WHERE_RUGGED}, of few runs or large residuals)"
    intervals = (
        f"{100 * options.level:g}% from {len(fit.replicates)} refits ({fit.bootstrap_method})"
    )
    return [
        (
            "Objective",
            f"sum of {options.objective}{delta} of ln law - ln loss{weighted}, "
            f"{fit.objective:.6g} here",
        ),
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
        ("Intervals", intervals if len(fit.replicates) else "none"),
        ("Held-out check", str(fit.holdout) if fit.holdout else "none"),
        (
            "Goodness of fit",
            f"ln loss is off by {deviation:.3g} (standard deviation), {size(deviation)} of the "
            "loss",
        ),
        ("Warnings", listed(dict.fromkeys(note.code for note in fit.notes), 30) or "none"),
    ]


def _used(sheet: _Sheet) -> str:
    """How many rows were fitted, and why others were not."""
    fitted = len(sheet.fit.residuals)
    left_out = [f"{run.title} ({run.reason})" for run in sheet.fit.table.excluded]
    others = len(sheet.runs) - fitted - len(left_out)
    used = f"{fitted} of {fitted + len(left_out) + max(others, 0)} rows"
    used += f"; left out as not usable: {listed(left_out)}" if left_out else ""
    used += f"; {others} left out by a filter" if others > 0 else ""
    return used


def _coefficients(fit: Fit) -> str:
    parts = []
    for name, value in fit.law.coefficients().items():
        ends = fit.intervals.get(name)
        parts.append(
            f"{name} = {value:.4g}" + (f" ({ends[0]:.3g} to {ends[1]:.3g})" if ends else "")
        )
    return ", ".join(parts)


def _models(sheet: _Sheet) -> str:
    number = sheet.frame["run_id"].nunique()
    seeds = sheet.frame["seed"].nunique() if "seed" in sheet.frame else 0
    return f"{number}, with {seeds} different seeds" if seeds > 1 else str(number)


def _levels(frame: pd.DataFrame, name: str) -> str | None:
    if not known(frame, name):
        return None
    values = frame[name].to_numpy(dtype=float)
    number = count_levels(values)
    if number == 1:
        text = f"1 {words(name, 1)}, {format_count(values[0])}"
    else:
        text = (
            f"{number} {words(name, number)} from {format_count(values.min())} to "
            f"{format_count(values.max())}"
        )
    if name == "tokens" and known(frame, "params"):
        ratio = values / frame["params"].to_numpy(dtype=float)
        text += f", {ratio.min():.3g} to {ratio.max():.3g} tokens a parameter"
    return text


def _tokenizer(sheet: _Sheet) -> str | None:
    """The one that was used: of a table, or of a sweep, which chooses one by the text if none was
    asked for.
    """
    used = sheet.setting("data", "meta", "tokenizer", "name") or sheet.setting(
        "spec", "data", "tokenizer"
    )
    return sheet.values("tokenizer") or _text(used)


def _repeated(frame: pd.DataFrame) -> str | None:
    if known(frame, "unique_tokens") and known(frame, "tokens"):
        epochs = (frame["tokens"] / frame["unique_tokens"]).to_numpy(dtype=float)
    elif known(frame, "epochs"):
        epochs = frame["epochs"].to_numpy(dtype=float)
    else:
        return None
    repeated = int((epochs > 1).sum())
    return (
        f"in {repeated} of {counted(len(frame), 'run')}, up to {epochs.max():.3g} epochs"
        if repeated
        else "none"
    )


def _count(sheet: _Sheet) -> str | None:
    meaning = {
        "params": "blocks and output layer, without input embeddings",
        "params_non_embedding": "blocks, without embeddings and output layer",
        "params_total": "every stored weight",
    }
    count = sheet.fit.table.count
    # A foreign table's `params` may count anything; our own sweeps say what it is by the counts
    # beside it.
    ours = known(sheet.frame, "params_non_embedding") and known(sheet.frame, "params_total")
    return f"{count}: {meaning[count]}" if count != "params" or ours else None


def _compute(frame: pd.DataFrame) -> str | None:
    if not all(known(frame, name) for name in ("params", "tokens", "flops")):
        return None
    ratio = (frame["flops"] / (6.0 * frame["params"] * frame["tokens"])).to_numpy(dtype=float)
    if np.abs(ratio - 1).max() < 1e-3:
        return "C = 6ND"
    return f"the table's own FLOPs, {ratio.min():.3g} to {ratio.max():.3g} times 6ND"


def _changing(frame: pd.DataFrame) -> str | None:
    """Which settings differ between sizes."""
    names = (
        "lr",
        "batch_tokens",
        "batch_size",
        "batch_sequences",
        "wd",
        "weight_decay",
        "warmup",
        "schedule",
    )
    there = [name for name in names if name in frame and frame[name].notna().any()]
    if not there or not known(frame, "params"):
        return None
    changing = [name for name in there if frame.groupby("params")[name].first().nunique() > 1]
    same = [name for name in there if name not in changing]
    return "; ".join(
        [f"{', '.join(changing)} change" if changing else "none"]
        + ([f"{', '.join(same)} the same"] if same else [])
    )


def _search(frame: pd.DataFrame) -> str | None:
    """How many learning rates a size saw."""
    if not (known(frame, "lr") and known(frame, "params")):
        return None
    tried = frame.groupby("params")["lr"].nunique()
    if tried.max() == 1:
        return None
    return f"{tried.min()} to {tried.max()} learning rates a size"


def _plain(text: str) -> str:
    """Text on one line that Markdown leaves as it is."""
    return re.sub(
        r"([\\`*\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", " ".join(str(text).split())
    )


def _text(value: object) -> str | None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return listed(value)
    return None if value is None else str(value)

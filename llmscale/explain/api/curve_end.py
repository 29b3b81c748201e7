"""`llmscale.predict(..., from_curve=...)`: the end of a run that is under way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, LlmscaleError, Note, both, listed
from llmscale.explain.api.fitted import check_constraints
from llmscale.explain.api.read import laws_of, read_runs
from llmscale.explain.api.settings import PredictSpec
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.suitability import default_laws
from llmscale.explain.fit.kept import is_kept
from llmscale.explain.fit.parametric import fit_laws
from llmscale.explain.forecast.asked import numbers_asked, tokens_asked
from llmscale.explain.forecast.curve import Curve
from llmscale.explain.forecast.curve_end import EndForecast, forecast_end
from llmscale.explain.forecast.folder_curves import folder_curves
from llmscale.explain.laws import Array, law_named
from llmscale.explain.table import RunTable
from llmscale.explain.table.files.one_curve import LoggedCurve, read_curve
from llmscale.notes.predicting import CURVE_OF_VALIDATION, CURVE_TAKEN_FOR
from llmscale.quantity import format_count
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.rows import read_rows
from llmscale.runs.run import DEFAULT_RECIPE, Run
from llmscale.runs.title import run_title

_LEAST_OF_AN_ID = 4


def predict_end(source: Any, spec: PredictSpec, reading: Mapping[str, Any]) -> EndForecast:
    """The final loss of the run that `spec.from_curve` is or names, by the finished runs of a
    results folder. Raises InputError."""
    if spec.flops is not None or spec.inputs:
        raise InputError(
            "--from-curve forecasts the end of one run, at its own size and tokens",
            "leave --flops and --inputs out",
        )
    if spec.task is not None:
        raise InputError(
            "--from-curve forecasts the loss at the end of a run, and --task asks for a score",
            "ask for the score at its --params and --tokens, without --from-curve",
        )
    if spec.law == "all":
        raise InputError(
            "one law stands next to the curve, and all are asked for", "name one, or leave it out"
        )
    laws = laws_of(spec.law)
    for law in laws:
        if law_named(law).plain:
            raise InputError(
                f"{law_named(law).name} is a law of scores, and a curve ends at a loss",
                "name another law, as --law chinchilla, or leave it out",
            )
    check_constraints(laws, spec.options)
    folder, runs = _folder(source, reading, laws)
    rows = read_rows(folder.runs_path)[0]
    chosen = set(runs.frame["run_id"].astype(str))
    finished = [row for run_id, row in rows.items() if run_id in chosen and row.status == "done"]
    row = named_run(str(spec.from_curve), rows)
    path = Path(str(spec.from_curve))
    if row is None and not path.is_file():
        raise _unknown(str(spec.from_curve), rows, folder)
    notes: tuple[Note, ...] = ()
    if row is not None:
        title = _title(row)
        finished = [one for one in finished if one.recipe == row.recipe]
        curve = _of_row(folder, row, spec)
    else:
        title = path.name
        curve, notes = _of_file(path, finished, spec)
    law = laws[0] if laws else default_laws(runs, constraints=spec.options.constraints)[0]
    told = forecast_end(
        curve,
        folder_curves(folder, finished),
        title=title,
        level=spec.options.level,
    )
    said = _said_by(law, runs, spec.options, curve, is_named=bool(laws))
    return replace(told, notes=(*notes, *told.notes), **said)


def _folder(
    source: Any, reading: Mapping[str, Any], laws: Sequence[Any]
) -> tuple[ResultsFolder, RunTable]:
    """The results folder with the curves of finished runs, and its table."""
    fix = "name a results folder that a sweep wrote: llmscale predict results/NAME --from-curve ..."
    if is_kept(source):
        raise InputError(f"{source} is a fit, without the curves of its runs", fix)
    runs = read_runs(source, laws=laws, **reading)
    folder = ResultsFolder(runs.path)
    if not runs.path.is_dir() or not folder.curves_path.is_file():
        raise InputError(f"{runs.path} has no curves of finished runs to judge a curve by", fix)
    return folder, runs


def _title(row: Run) -> str:
    return run_title(row.run_id, vars(row))


def named_run(name: str, rows: Mapping[str, Run]) -> Run | None:
    """The run of an id, the beginning of one, or a title. Raises InputError if several have it."""
    if name in rows:
        return rows[name]
    begins = [row for row in rows.values() if row.run_id.startswith(name)]
    titled = [row for row in rows.values() if name == _title(row)]
    found = titled or (begins if len(name) >= _LEAST_OF_AN_ID else [])
    if len(found) > 1:
        ids = listed([row.run_id for row in found])
        raise InputError(f"{len(found)} runs are called {name!r}", f"name one by its id: {ids}")
    return found[0] if found else None


def _unknown(name: str, rows: Mapping[str, Run], folder: ResultsFolder) -> InputError:
    under_way = [f"{_title(row)} ({row.run_id})" for row in rows.values() if row.loss is None]
    fix = "all its runs have ended: give the log of one run"
    if under_way:
        fix = f"name a run that is under way, {listed(under_way)}, or the log of one"
    return InputError(f"{name!r} is no run of {folder.path}, and no file", fix)


def _of_row(folder: ResultsFolder, row: Run, spec: PredictSpec) -> Curve:
    """The curve of a run of the folder, at its own size and tokens."""
    if row.status in ("done", "diverged"):
        reached = f" at a loss of {row.loss:.4f}" if row.loss is not None else ""
        raise InputError(
            f"{_title(row)} has ended: {row.status}{reached}", "name a run that is under way"
        )
    if spec.params is not None or spec.tokens is not None:
        raise InputError(
            f"{_title(row)} has its own size and tokens", "leave --params and --tokens out"
        )
    return folder_curves(folder, [row])[0]


def _of_file(
    path: Path, finished: Sequence[Run], spec: PredictSpec
) -> tuple[Curve, tuple[Note, ...]]:
    """The curve of a log, at the size and the tokens that are given."""
    if spec.params is None or spec.tokens is None:
        raise _not_said(path, spec)
    params = numbers_asked("params", spec.params)
    tokens = tokens_asked(spec.tokens, params)
    if params.ndim or tokens.ndim:
        raise InputError("a curve is of one run", "give one of --params and one of --tokens")
    logged = read_curve(path)
    seen, taken = _tokens_of(path, logged, finished)
    if seen[-1] > float(tokens) * 1.001:
        fix = "give the planned --tokens of the whole run"
        if logged.tokens_S is None:
            fix += ", or add a column of tokens if its batches are not those of the finished runs"
        raise InputError(
            f"{path} has seen {format_count(seen[-1])} tokens, more than the "
            f"{format_count(float(tokens))} planned",
            fix,
        )
    traits = {"params": float(params), "tokens": float(tokens)}
    notes = [
        *logged.notes,
        CURVE_TAKEN_FOR.note(
            f"{path.name} is taken to be of the recipe, the text and the tokenizer of the "
            f"{len(finished)} finished runs{_kinds(finished)}, its column {logged.column!r} "
            f"for the loss, {taken}"
        ),
    ]
    if logged.is_validation:
        notes.append(
            CURVE_OF_VALIDATION.note(
                f"{path.name} has no training loss: its {logged.column!r} is compared with that of "
                "the finished runs"
            )
        )
    return Curve(path.name, traits, seen, logged.loss_S), tuple(notes)


def _not_said(path: Path, spec: PredictSpec) -> InputError:
    """What is to be given of the run of a log, which only holds its curve."""
    wanted = {
        "params": ("how large its run is", "its size, as --params 10M"),
        "tokens": ("how long its run is to be", "the planned tokens, as --tokens 200M or 20x"),
    }
    missing = [said for name, said in wanted.items() if getattr(spec, name) is None]
    return InputError(
        f"{path} does not say {both([what for what, _ in missing])}",
        f"give {both([how for _, how in missing])}",
    )


def _kinds(finished: Sequence[Run]) -> str:
    """Of which recipes and vocabularies they are, if of several."""
    names = sorted({row.recipe or DEFAULT_RECIPE for row in finished})
    sizes = sorted({row.vocab_size for row in finished})
    of = [f"{len(names)} recipes ({listed(names)})"] if len(names) > 1 else []
    of += [f"{len(sizes)} sizes of vocabulary ({listed(sizes)})"] if len(sizes) > 1 else []
    return f" of {both(of)}" if of else ""


def _tokens_of(path: Path, logged: LoggedCurve, finished: Sequence[Run]) -> tuple[Array, str]:
    """The tokens of every row, and what was taken for them."""
    if logged.tokens_S is not None:
        return logged.tokens_S, "and its tokens as it counts them"
    batches = {row.batch_tokens for row in finished}
    if len(batches) != 1 or None in batches:
        raise InputError(
            f"{path} counts steps and no tokens, and the finished runs have batches of "
            f"{listed(sorted(map(str, batches)))} tokens",
            "add a column of tokens",
        )
    batch = batches.pop()
    return logged.steps_S * batch, f"and a step for {batch} tokens, as of these runs"


def _said_by(
    law: Any, runs: RunTable, options: Options, run: Curve, *, is_named: bool
) -> dict[str, Any]:
    """A law's name and loss for a run. If it cannot be fitted, or takes what is not known of the
    run, nothing; raises LlmscaleError if it `is_named`."""
    quick = replace(options, bootstrap=0, holdout="none", diagnostics=False)
    try:
        fitted = fit_laws(runs, (law,), quick)[0].law
    except LlmscaleError:
        if is_named:
            raise
        return {}
    traits = dict(run.traits)
    traits.setdefault("flops", 6.0 * traits["params"] * traits["tokens"])
    unknown = [name for name in fitted.inputs if name not in traits]
    if unknown and is_named:
        raise InputError(
            f"{fitted.name} takes {listed(unknown)}, not known of the run under way",
            "name another law, or leave it out",
        )
    if unknown:
        return {}
    loss = float(fitted.loss(*(traits[name] for name in fitted.inputs)))
    return {"law": fitted.name, "law_loss": loss} if math.isfinite(loss) else {}

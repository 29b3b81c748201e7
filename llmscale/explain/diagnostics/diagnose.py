"""Diagnostics of a fit: what its runs cannot tell, and how they were made, each as a note that says
what to do.

Limits are set so that a table of equally tuned runs that follow a law, this one or another, raises
none of them, and one with a fault that its forecasts hang on does: experiments/planted_faults.py.
Codes are for programs and do not change; messages may."""

from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from llmscale.errors import Note
from llmscale.explain.diagnostics import apart as _apart
from llmscale.explain.diagnostics import curves as _curves
from llmscale.explain.diagnostics import design as _design
from llmscale.explain.diagnostics import misfit as _misfit
from llmscale.explain.diagnostics import mixing as _mixing
from llmscale.explain.diagnostics import run_settings as _settings
from llmscale.explain.diagnostics.curves import seen_curves
from llmscale.explain.diagnostics.evidence import Evidence, SeenCurve
from llmscale.explain.diagnostics.known_floor import known_floor
from llmscale.explain.estimation.result import Fit
from llmscale.explain.table import RunTable
from llmscale.runs.curve_file import Curves

CHECKS: tuple[Callable[[Evidence], Note | None], ...] = (
    _design.collinear_design,
    _design.few_sizes,
    _design.floor_uncertain,
    known_floor,
    _design.optimum_not_bracketed,
    _design.count_sensitive,
    _design.embedding_share,
    _curves.mid_schedule,
    _curves.no_collapse,
    _settings.learning_rate_at_edge,
    _settings.untuned_runs,
    _settings.one_learning_rate,
    _settings.few_steps,
    _settings.diverged_runs,
    _settings.unfinished_runs,
    _settings.duplicate_runs,
    *_mixing.MIXED,
    _apart.two_kinds_of_runs,
    _apart.group_off_law,
    _misfit.residual_trend,
    _misfit.outliers,
    _misfit.misfit_exceeds_noise,
    _misfit.seed_noise,
)
OF_RUNS = (_apart.two_kinds_of_runs, _apart.group_off_law, _misfit.outliers)
"""Those that look for runs that went wrong by their residuals."""


def diagnose(
    fit: Fit,
    *,
    runs: pd.DataFrame | None = None,
    curves: Curves | Mapping[str, SeenCurve] | None = None,
    refit: Callable[[RunTable], Fit] | None = None,
    ranked: bool = False,
) -> tuple[Note, ...]:
    """Notes on what `fit` cannot know and on runs that mislead it; none of them for a clean table.

    `runs` are all rows of the source, those that are not done, too; `curves` is a results folder's
    curves.parquet, as a frame, as a file, or what `seen_curves` has seen of it. `refit` fits the
    same law to another table (without intervals, hold-out and diagnostics): with it, exponents are
    compared under each way to count N and without outliers. `ranked` says that other laws were
    fitted next to it."""
    seen = curves if curves is None or isinstance(curves, Mapping) else seen_curves(curves)
    evidence = Evidence(fit, runs, seen, refit, ranked)
    # A law that weighs runs by how near the optimum they are leaves residuals far from it.
    every = fit.law.estimator is None
    of_residuals = (_misfit.__name__, _apart.__name__)
    checks = [check for check in CHECKS if every or check.__module__ not in of_residuals]
    return _raised(checks, evidence)


def faults_of_runs(fit: Fit, refit: Callable[[RunTable], Fit] | None = None) -> tuple[Note, ...]:
    """What the residuals of `fit` say against runs, and not against the form of its law: for laws
    whose own residuals tell nothing."""
    notes = _raised(OF_RUNS, Evidence(fit, refit=refit))
    return tuple(note.of([fit.law.name]) for note in notes)


def _raised(
    checks: Iterable[Callable[[Evidence], Note | None]], evidence: Evidence
) -> tuple[Note, ...]:
    notes = (check(evidence) for check in checks)
    return tuple(note for note in notes if note is not None)

"""`llmscale fit`: fit laws to a table of runs, with intervals and checks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.commands import _explain_options as options
from llmscale.commands import output
from llmscale.errors import InputError

if TYPE_CHECKING:
    from llmscale.explain.fit.fits import Fits


def fit(
    table: options.TableArgument = None,
    law: options.LawsOption = None,
    method: options.MethodOption = "parametric",
    variable: options.VariableOption = None,
    count: options.CountOption = "params",
    columns: options.ColumnsOption = None,
    units: options.UnitsOption = None,
    where: options.WhereOption = None,
    status: options.StatusOption = None,
    by: options.ByOption = None,
    level: options.LevelOption = None,
    bootstrap: options.BootstrapOption = None,
    intervals: options.IntervalsOption = None,
    holdout: options.HoldoutOption = None,
    objective: options.ObjectiveOption = None,
    delta: options.DeltaOption = None,
    seed: options.SeedOption = None,
    out: options.KeepOption = None,
    notes: output.NotesOption = False,
    checklist: options.ChecklistOption = False,
    json: options.JsonOption = False,
) -> None:
    """Fit scaling laws with intervals, and check them on held-out runs. `--law all` ranks every law
    that suits.

    Example: llmscale fit results/cpu --law power-floor --law power
    """
    import llmscale
    from llmscale.commands._explained import show

    _check_output(law or [], method, by, out, checklist)
    reading = options.reading(columns, count, units, where, status)
    made = options.made(variable, level, bootstrap, seed, objective, delta)
    made |= {"holdout": holdout, "intervals": intervals}
    keep = Path(out) if out else not checklist
    found: Any = llmscale.fit(table, law or [], method=method, by=by, keep=keep, **reading, **made)
    if checklist:
        return _show_checklist(found, json)
    return show(found, json=json, every=notes)


def _check_output(
    laws: list[str], method: str, by: str | None, out: str | None, checklist: bool
) -> None:
    """Raise InputError for ways to print or keep a fit that go with one fit only."""
    several = by is not None or method != "parametric" or "all" in laws
    if checklist and (several or out):
        raise InputError(
            "--checklist describes one fit", "name one law, and leave --by, --method and --out out"
        )
    if out and several:
        raise InputError("--out keeps one fit", "name one law, and leave --by and --method out")


def _show_checklist(found: "Fits", json: bool) -> None:
    from llmscale.explain.diagnostics.checklist import checklist_of

    said = checklist_of(found[0])
    if json:
        output.print_json(said.to_json())
    else:
        output.print_text(str(said))
    for note in said.notes:
        output.warn(note)

"""What a sweep on the CPU has to know of the compiled kernels, before it trains anything."""

from typing import TYPE_CHECKING

from llmscale.errors import InputError, Note
from llmscale.errors.command_lines import command_line
from llmscale.measure.ops.compiled import find, why_not
from llmscale.measure.train.run_spec import known_spec
from llmscale.notes.measuring import KERNELS_ELSEWHERE, NO_KERNELS
from llmscale.runs.results_folder import ResultsFolder

if TYPE_CHECKING:
    from llmscale.measure.sweep.plan import Plan

_NAMED = 20
"""Folders that a command to paste names, at most."""


def kernel_notes() -> list[Note]:
    """Why the CPU trains without its kernels, or where it keeps them if not in its cache."""
    reason, note = why_not(), find().note
    if reason:
        slow = "training takes several times as long without its CPU kernels"
        return [NO_KERNELS.note(f"{slow}: {reason}")]
    return [KERNELS_ELSEWHERE.note(note)] if note else []


def check_kernels(folder: ResultsFolder, plan: "Plan") -> None:
    """Raise InputError if runs of `folder` were begun with the kernels, and those cannot be made
    here now. A run goes on as it was begun, or its losses would depend on where it was stopped."""
    if not without_kernels(plan):
        return
    begun = [run.job.run_id for run in plan.waiting if _ops(folder, run.job.run_id) == "native"]
    if begun:
        error = find().error
        assert error is not None
        paths = (folder.run_folder(run_id).path for run_id in begun[:_NAMED])
        were = "was" if len(begun) == 1 else "were"
        raise InputError(
            f"{len(begun)} of the runs to train {were} begun with the compiled kernels, which "
            f"cannot run now: {error.problem}",
            f"{error.fix}; or to train them anew without: {command_line('rm', '-r', *paths)}",
        )


def without_kernels(plan: "Plan") -> bool:
    """Whether the runs to train are trained on this machine's CPU, and it has no kernels."""
    on_this_cpu = plan.device == "cpu" and plan.hardware.trains_here
    return on_this_cpu and bool(plan.waiting) and bool(why_not())


def _ops(folder: ResultsFolder, run_id: str) -> str | None:
    """The operations that a run was begun with, if it was."""
    run = folder.run_folder(run_id)
    spec = known_spec(run) if run.has_checkpoint else None
    return spec.conditions.ops if spec else None

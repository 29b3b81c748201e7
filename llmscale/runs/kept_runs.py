"""The runs of a results folder that have kept their weights."""

from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.runs.run_folder import RunFolder

_ENDED = ("done", "stopped")
"""A model that was imported is `stopped` if nobody knows how long it was trained."""


def largest_kept(results: ResultsFolder) -> tuple[RunFolder, Run] | None:
    """The largest run of a folder that has its weights, done or imported, of these the one of the
    lowest loss; None if there is none."""
    found = []
    for folder in results.run_folders:
        row = folder.known_row()
        if row is not None and row.status in _ENDED and folder.weights_path.exists():
            found.append((folder, row))
    return min(found, key=lambda one: largest_first(one[1]), default=None)


def largest_first(row: Run) -> tuple[float, ...]:
    """By which rows are sorted: the largest model first, of these the one of the lowest loss."""
    return -row.params_total, row.loss if row.loss is not None else float("inf")

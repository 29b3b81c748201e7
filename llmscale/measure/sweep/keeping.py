"""Which runs of a sweep keep their weights, and how much room that takes."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscale.errors import InputError, Note, counted, listed
from llmscale.machine.needs import is_installed
from llmscale.notes.measuring import WEIGHTS_NOT_KEPT
from llmscale.quantity import format_bytes
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.runs.safe_write import new_file_beside

if TYPE_CHECKING:
    from llmscale.measure.sweep.spec import SweepSpec
    from llmscale.measure.train.job import Job

_PACKAGE = "safetensors"
_WORDS = ("all", "largest", "none")
GIGABYTE = 1e9
SHARE_OF_DISK = 0.9
"""Of what is free, which weights may take at most."""


@dataclass(frozen=True)
class Kept:
    """The runs that keep their weights, by id with the bytes of each, and in which type."""

    dtype: str = "bfloat16"
    bytes_of: Mapping[str, int] = field(default_factory=dict)
    of: int = 0
    """How many runs the sweep has."""
    note: Note | None = None
    """What was asked to be kept and is not."""

    @property
    def bytes(self) -> int:
        return sum(self.bytes_of.values())

    def __str__(self) -> str:
        if not self.bytes_of:
            return "weights: none are kept"
        kept = f"{len(self.bytes_of):,}"
        runs = counted(self.of, "run")
        if len(self.bytes_of) != self.of:
            runs = f"{kept} of {runs}"
        return f"weights: kept for {runs}, {format_bytes(self.bytes)} in {self.dtype}"

    def dtype_of(self, run_id: str) -> str | None:
        """The type that the weights of a run are kept in, or None."""
        return self.dtype if run_id in self.bytes_of else None


def parse_keep(text: str) -> str:
    """`all`, `largest`, `none`, or sizes and recipes with commas. Raises InputError."""
    names = [item.strip() for item in text.split(",")]
    if not all(names) or (len(names) > 1 and any(name in _WORDS for name in names)):
        raise InputError(
            f"keep is {text!r}",
            "give all, largest or none, or sizes and recipes as in 1M,10M",
        )
    return ",".join(names)


def choose_kept(spec: "SweepSpec", jobs: Sequence["Job"]) -> Kept:
    """The runs among `jobs` whose weights `spec` keeps: if all do not fit in --keep-gb, the largest
    with the most tokens first. Raises InputError for a size or recipe that there is none of."""
    from llmscale.measure.train.kept_weights import weights_bytes

    wanted = _wanted(spec, jobs)
    if not wanted:
        return Kept(spec.keep_dtype)
    if not is_installed(_PACKAGE):
        if spec.keep != "all":
            raise InputError(
                f"--keep {spec.keep} needs the package {_PACKAGE}, which is not installed",
                f"pip install {_PACKAGE}, or --keep none",
            )
        problem = f"the package {_PACKAGE} is not installed: no weights are kept"
        return Kept(spec.keep_dtype, note=WEIGHTS_NOT_KEPT.note(problem))
    bytes_of: dict[str, int] = {}
    left: dict[Job, int] = {}
    for job in sorted(wanted, key=_weightiest_first):
        size = weights_bytes(job.shape, spec.keep_dtype)
        if sum(bytes_of.values()) + size <= spec.keep_gb * GIGABYTE:
            bytes_of[job.run_id] = size
        else:
            left[job] = size
    note = _beyond(spec, bytes_of, left) if left else None
    return Kept(spec.keep_dtype, bytes_of, len(jobs), note)


def said_of_ended(
    spec: "SweepSpec",
    kept: Kept,
    finished: Mapping[str, Run],
    folder: ResultsFolder,
    asked: Mapping[str, Any],
) -> str | None:
    """What is to be said if what to keep is `asked` for, or has changed, of runs that have ended:
    their weights neither come back nor go."""
    before = folder.known_sweep().get("spec", {})
    is_changed = any(
        name in before and before[name] != getattr(spec, name) for name in ("keep", "keep_gb")
    )
    if not is_changed and all(asked.get(name) is None for name in ("keep", "keep_gb")):
        return None
    done = [run_id for run_id, run in finished.items() if run.status == "done"]
    there = {run_id for run_id in done if folder.run_folder(run_id).weights_path.exists()}
    gone = [run_id for run_id in done if run_id in kept.bytes_of and run_id not in there]
    if gone:
        return (
            f"{counted(len(gone), 'run')} ended without keeping weights, which cannot come back: "
            "to have them, train into a new folder, with --out"
        )
    if staying := there - set(kept.bytes_of):
        return (
            f"weights that were kept stay, those of {counted(len(staying), 'run')} too that this "
            f"--keep leaves out: they are in {folder.path / 'runs'}"
        )
    return None


def check_room(kept: Kept, finished: Iterable[str], folder: Path) -> None:
    """Raise InputError if the disk of `folder` has no room for the weights still to be written."""
    done = set(finished)
    waiting = sum(size for run_id, size in kept.bytes_of.items() if run_id not in done)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        new_file_beside(there / "writable").unlink()
    except OSError:
        return  # which is said where the folder is made
    free = shutil.disk_usage(there).free
    if waiting > SHARE_OF_DISK * free:
        raise InputError(
            f"the weights of {counted(len(kept.bytes_of), 'run')} take {format_bytes(waiting)}, "
            f"and {format_bytes(free)} are free for {folder}",
            "keep fewer with --keep largest, or none with --keep none",
        )


def _wanted(spec: "SweepSpec", jobs: Sequence["Job"]) -> list["Job"]:
    if spec.keep == "none":
        return []
    if spec.keep == "all":
        return list(jobs)
    if spec.keep == "largest":
        largest: dict[str, Job] = {}
        for job in sorted(jobs, key=_weightiest_first):
            largest.setdefault(job.recipe, job)
        return list(largest.values())
    names = spec.keep.split(",")
    known = {name for job in jobs for name in (job.size, job.recipe)}
    for name in names:
        if name not in known:
            raise InputError(
                f"--keep names {name}, which is no size or recipe of this sweep",
                f"it has {', '.join(sorted(known))}",
            )
    return [job for job in jobs if job.size in names or job.recipe in names]


def _weightiest_first(job: "Job") -> tuple[float, ...]:
    return -job.shape.params_total, -job.tokens, job.seed


def _beyond(spec: "SweepSpec", kept: Mapping[str, int], left: Mapping["Job", int]) -> Note:
    """What goes beyond --keep-gb, and what becomes of it."""
    sizes = listed(dict.fromkeys(job.size for job in left))
    total = sum(kept.values()) + sum(left.values())
    return WEIGHTS_NOT_KEPT.note(
        f"--keep-gb {spec.keep_gb:g} has room for the weights of {len(kept):,} of "
        f"{counted(len(kept) + len(left), 'run')}, taken largest first as they fit; those of "
        f"{counted(len(left), 'run')} ({sizes}) are not kept. All would take {format_bytes(total)}"
    )

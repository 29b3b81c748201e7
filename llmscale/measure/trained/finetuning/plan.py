"""The plan of a fine-tuning, what its folder says of it, and what is put there before it begins."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.measure.sweep.jobs import with_retries
from llmscale.measure.sweep.keeping import choose_kept
from llmscale.measure.sweep.plan import Plan, plan_jobs
from llmscale.measure.sweep.provenance import difference, folder_dtype, provenance
from llmscale.measure.sweep.records import finished_runs, known_ids
from llmscale.measure.sweep.run import INITIAL
from llmscale.measure.text.store import TokenStore
from llmscale.measure.train.dtype import choose_dtype
from llmscale.measure.train.job import Job
from llmscale.measure.trained.finetuning.jobs import begins_with, finetuning_jobs
from llmscale.measure.trained.finetuning.parents import Parents, link_weights, put_weights
from llmscale.measure.trained.finetuning.spec import FinetuneSpec
from llmscale.runs.log import saved_step
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.safe_paths import refuse_links


@dataclass(frozen=True)
class Finetuning:
    """What is fine-tuned, on what, and where the results go."""

    spec: FinetuneSpec
    parents: Parents
    store: TokenStore
    folder: ResultsFolder

    def plan(
        self,
        tell: Callable[[str], None] = lambda text: None,
        before: Plan | None = None,
    ) -> Plan:
        """The runs that are asked for and what each costs; `before` is the plan of a round that has
        been carried out. Raises InputError."""
        spec, finished = self.spec.as_sweep, finished_runs(self.folder)
        tried = set() if before is None else {run.job.run_id for run in before.runs}
        speeds = None if before is None else before.speeds
        device, begun = spec.hardware.picked_device, folder_dtype(self.folder)
        shapes = [parent.job.shape for parent in self.parents.models]
        dtype = choose_dtype(self._dtype(begun), device, shapes)
        jobs = with_retries(
            finetuning_jobs(self.spec, self.parents.models, self.store, dtype.dtype),
            spec,
            lambda run_id: run_id in finished and finished[run_id].status == "diverged",
        )
        plan = plan_jobs(
            jobs,
            spec,
            self.store,
            lambda run_id: run_id in finished or run_id in tried,
            tell=tell,
            speeds=speeds,
            dtype_reason=dtype.reason,
            reached=lambda run_id: saved_step(self.folder.run_folder(run_id).path),
        )
        kept = choose_kept(spec, jobs)
        notes = (*plan.notes, kept.note) if kept.note else plan.notes
        return replace(plan, kept=kept, notes=notes)

    def _dtype(self, begun: str | None) -> str:
        asked = self.spec.hardware.dtype
        return begun if asked == "auto" and begun is not None else asked

    def next_round(self, before: Plan) -> Plan | None:
        """The plan of the runs to try again; None if there are none."""
        if not self.spec.retry_diverged:
            return None
        again = self.plan(before=before)
        return again if again.waiting else None

    def put_weights(self, jobs: Sequence[Job]) -> None:
        """Put the weights that runs begin with into their folders. Raises WriteError."""
        written: dict[str, Path] = {}
        for job in jobs:
            parent = begins_with(self.parents.models, job)
            if parent is None:
                continue
            path = self.folder.run_folder(job.run_id).path / INITIAL
            if parent.digest in written:
                link_weights(written[parent.digest], path)
            else:
                put_weights(parent, job, path)
                written[parent.digest] = path

    def provenance(self, plan: Plan, command: str) -> dict[str, Any]:
        """What sweep.json says."""
        before = self.folder.known_sweep()
        said = provenance(plan, self.spec.as_sweep, self.store, self.folder, command)
        runs = dict.fromkeys([*before.get("runs", []), *said["runs"]])
        folders = [parent.folder for parent in self.parents.models]
        parents = {folder.run_id: str(folder.path.resolve()) for folder in folders}
        return {
            **said,
            "spec": self.spec.to_json(),
            "basis": self.spec.basis(),
            "runs": list(runs),
            "parents": {**before.get("parents", {}), **parents},
            "recipes": {},
        }


def check_folder(folder: ResultsFolder, spec: FinetuneSpec) -> None:
    """Raise InputError if `folder` holds anything but runs of this task and recipe."""
    sweep, path = folder.known_sweep(), folder.path
    refuse_links(path)
    basis = sweep.get("basis")
    if not basis:
        is_foreign = not known_ids(folder) and not folder.sweep_path.exists()
        if path.exists() and is_foreign and any(entry.name[0] != "." for entry in path.iterdir()):
            problem = f"{path} holds files but no fine-tuning"
            raise InputError(problem, "name a new or empty folder with --out")
        return
    if basis.get("kind") != "finetune":
        raise InputError(f"{path} holds a sweep", "name another folder with --out")
    changed = difference(basis, json.loads(json.dumps(spec.basis())))
    if changed:
        problem = f"{path} holds a fine-tuning of another specification: {changed}"
        raise InputError(problem, "name another folder with --out")

"""Tasks of EleutherAI's lm-evaluation-harness (Gao et al. 2021), run on a model of ours."""

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from llmscale.errors import InputError, LlmscaleError, WorkError, counted
from llmscale.errors.printable import one_line
from llmscale.machine.needs import need
from llmscale.measure.text.sources import digest_of
from llmscale.measure.trained.evaluation.names import check_name
from llmscale.measure.trained.evaluation.scores import Metric, Score
from llmscale.measure.trained.evaluation.spec import EvalSpec
from llmscale.measure.trained.model import TrainedModel
from llmscale.runs.unchanged import stamp_of

_RENAMED: Final = {"acc": "accuracy", "acc_norm": "accuracy_norm"}
"""What the harness calls metrics that have other names here."""
_STDERR: Final = "_stderr"


def harness_measures(spec: EvalSpec) -> "list[HarnessTask]":
    """What is measured on each task. Raises InputError for one that there is none of."""
    for name in spec.lm_eval:
        check_name(name, "task: NAME in its YAML file")
    folder = None
    if spec.lm_eval_folder is not None:
        folder = Path(spec.lm_eval_folder).expanduser()
        if not folder.is_dir():
            raise InputError(
                f"--lm-eval-folder {folder} is no folder", "name the one of your tasks' YAML files"
            )
    need("lm_eval", "--lm-eval", "'llmscale[lm-eval]'")
    manager = _manager(spec.lm_eval, folder)
    return [HarnessTask(name, manager, folder, spec.limit) for name in spec.lm_eval]


@dataclass(frozen=True)
class HarnessTask:
    """A task by its name in the harness."""

    name: str
    manager: Any
    folder: Path | None
    limit: int | None
    kind: str = "lm-eval"
    remarks: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        return f"lm-eval {version('lm_eval')} {self.limit}"

    def check(self, trained: TrainedModel) -> None:
        """The harness says what it needs when it runs."""

    def decided_by(self, trained: TrainedModel) -> Mapping[str, Any]:
        files = sorted(self.folder.rglob("*")) if self.folder else []
        stamps = digest_of(f"{path} {stamp_of(path)}" for path in files if path.is_file())
        return {"lm_eval": version("lm_eval"), "limit": self.limit, "files": stamps}

    def measure(self, trained: TrainedModel) -> Score:
        from lm_eval.evaluator import simple_evaluate

        from llmscale.measure.trained.evaluation.harness_model import HarnessModel

        model = HarnessModel(trained)
        try:
            with _quietly():
                found = simple_evaluate(
                    model,
                    tasks=[self.name],
                    task_manager=self.manager,
                    limit=self.limit,
                    log_samples=False,
                    bootstrap_iters=1000,
                )
        except LlmscaleError:
            raise
        except Exception as error:  # a task's data set, its template or its own code
            raise WorkError(
                f"the task {self.name} of lm-evaluation-harness failed: {one_line(str(error))}",
                "a task that reads a data set of the hub needs the network; --lm-eval-folder names "
                "a folder of your own tasks",
            ) from error
        return self._score(found or {}, model.cut)

    def _score(self, found: Mapping[str, Any], cut: int) -> Score:
        numbers = found.get("results", {}).get(self.name, {})
        shots = found.get("n-shot", {}).get(self.name, 0)
        task = found.get("versions", {}).get(self.name, "")
        signature = f"lm-eval:{version('lm_eval')}|task:{task}|shots:{shots}"
        examples = found.get("n-samples", {}).get(self.name, {}).get("effective")
        metrics = tuple(_metrics(numbers, signature, examples))
        if not metrics:
            raise InputError(
                f"{self.name} of lm-evaluation-harness has no number of its own",
                "if it is a group, name its tasks",
            )
        return Score(self.name, self.kind, metrics, examples=examples, cut=cut)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the harness' bars and what the programs that it starts say on standard error: what
    goes wrong is raised."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _metrics(numbers: Mapping[str, Any], signature: str, examples: int | None) -> Iterator[Metric]:
    """What the harness calls `acc,none` and `acc_stderr,none`: a metric and a filter of answers."""
    for key, value in numbers.items():
        name, _, chosen = key.partition(",")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not chosen or not is_number or name.endswith(_STDERR):
            continue
        stderr = numbers.get(f"{name}{_STDERR},{chosen}")
        if not isinstance(stderr, int | float):
            stderr = None
        over = counted(examples, "example") if examples is not None else ""
        said = _RENAMED.get(name, name)
        if chosen != "none":
            said = f"{said}-{chosen}"
        yield Metric(said, float(value), stderr, over, signature)


def _manager(names: tuple[str, ...], folder: Path | None) -> Any:
    """What knows the tasks by name: those of `folder`, and those of the harness if they are asked
    for, since to look through them takes seconds. Raises InputError."""
    from lm_eval.tasks import TaskManager

    manager = None
    if folder is not None:
        manager = TaskManager(include_path=str(folder), include_defaults=False)
    if manager is None or not set(names) <= set(manager.all_tasks):
        manager = TaskManager(include_path=str(folder) if folder else None)
    known = set(manager.all_tasks)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            fix = "lm-eval ls tasks lists them; --lm-eval-folder names a folder of your own"
            if close:
                fix = f"did you mean {close[0]}?"
            raise InputError(f"lm-evaluation-harness has no task {name}", fix)
    return manager

"""Which command uses a trained model next, as far as its results know what it has learnt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.measure.text.tasks.rows import open_task
from llmscale.measure.text.tasks.spec import TaskSpec
from llmscale.measure.train.run_spec import known_spec
from llmscale.runs.checked import known_object
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run_folder import RunFolder
from llmscale.settings.tables import from_table

_LONGEST_PROMPT = 80


def next_use(folder: RunFolder, prompt: str, arch: str | None = None) -> str:
    """The command line for the run in `folder`: `chat` for one that was fine-tuned on chats, for
    one of pairs `generate` with a prompt of its task or `eval`, else `generate` with `prompt`.
    `arch` is as --arch takes it."""
    own = ["--arch", arch] if arch else []
    spec = known_spec(folder)
    if spec is None or spec.job.finetuning is None:
        return command_line("llmscale", "generate", folder.path, prompt, *own)
    meta = task_meta(folder, spec.store)
    if learnt_chats(meta):
        return command_line("llmscale", "chat", folder.path, *own)
    found = _prompt_of(meta)
    if found is None:
        return command_line("llmscale", "eval", folder.path, *own)
    return command_line("llmscale", "generate", folder.path, found or prompt, *own)


def task_meta(folder: RunFolder, store: str) -> Mapping[str, Any]:
    """What is known of the task that a run learnt, of its results or its token store `store`; empty
    if it is nothing."""
    data = ResultsFolder(folder.path.parent.parent).known_sweep().get("data")
    meta = data.get("meta") if isinstance(data, dict) else None
    if not isinstance(meta, dict) and store:
        meta = known_object(Path(store) / "meta.json")
    return meta if isinstance(meta, dict) else {}


def learnt_chats(meta: Mapping[str, Any]) -> bool | None:
    """Whether a task is of conversations; None if that is not known."""
    task = meta.get("task")
    return bool(task["chats"]) if isinstance(task, dict) and "chats" in task else None


def _prompt_of(meta: Mapping[str, Any]) -> str | None:
    """What is given in the first example of a task: nothing of a text, None if the task is not
    there or the prompt too long for a command."""
    spec = meta.get("spec")
    if not isinstance(spec, dict) or ".py" in str(spec.get("source")):  # such a file is not run
        return None
    stated = {name: value for name, value in spec.items() if value is not None}
    try:
        task = open_task(from_table(TaskSpec, stated, "the task"))
        given = next(example.given for _, example in task.examples())
    except (InputError, OSError, StopIteration):
        return None
    is_short = len(given) <= _LONGEST_PROMPT and given.isprintable()
    return given if is_short and not given.startswith("-") else None

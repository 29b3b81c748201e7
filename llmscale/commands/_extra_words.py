"""Words of a command line that no argument takes: mostly a text without quotes, or a pattern that
the shell has filled in."""

from collections.abc import Sequence
from pathlib import Path

from llmscale.errors import InputError, counted, listed
from llmscale.errors.command_lines import command_line

_TEXTS = ("PROMPT", "TEXT")
_FIXES = {
    "SOURCE": "put the pattern in quotes, or commas between the files",
    "TABLE": "name one TABLE, or put a pattern of logs in quotes",
}


def too_many_words(command: str, takes: Sequence[str], given: Sequence[str]) -> InputError:
    """The error of `llmscale COMMAND` that `takes` arguments of these names and was `given` more
    words."""
    paths = [word for word in given if Path(word).exists()]
    others = [word for word in given if word not in paths]
    if len(paths) > 1:
        return _several(command, takes, paths, others)
    *before, last = takes or [""]
    if last in _TEXTS:
        first, text = given[: len(before)], " ".join(given[len(before) :])
        quoted = command_line("llmscale", *command.split(), *first, text)
        return InputError(
            f"the {last} is {counted(len(given) - len(before), 'word')} without quotes",
            f"put it in quotes: {quoted}",
        )
    extra = given[len(takes) :]
    return InputError(
        f"llmscale {command} takes {' and '.join(takes) or 'options only'}, and was given "
        f"{listed(extra)} besides",
        f"leave it out: {command_line('llmscale', *command.split(), *given[: len(takes)])}",
    )


def refuse_run(text: str | None, name: str) -> None:
    """Raise InputError if the text `name` is the folder of a run, as if the shell filled in a
    pattern that two runs match."""
    if text and Path(text).parent.name == "runs" and Path(text, "spec.json").exists():
        raise InputError(
            f"the {name} is the folder of a run, {text}: a * without quotes stands for every file "
            "that it matches",
            f"name one run, and then the {name} in quotes",
        )


def _several(
    command: str, takes: Sequence[str], paths: Sequence[str], others: Sequence[str]
) -> InputError:
    parents = Path(paths[0]).parents
    folder = next((top for top in parents if (top / "runs.parquet").exists()), None)
    fix = _FIXES.get(takes[0], f"name one {takes[0]}")
    if takes[0] not in _FIXES and folder is not None:
        text = [" ".join(others)] if others else []
        again = command_line("llmscale", *command.split(), folder, *text)
        fix = f"name one, or their results folder: {again}"
    return InputError(
        f"llmscale {command} takes one {takes[0]}, and was given {len(paths):,} files and folders: "
        f"{listed(paths, 2)}; a * without quotes stands for all that it matches",
        fix,
    )

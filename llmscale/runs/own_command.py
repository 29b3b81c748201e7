"""The command that made a results folder, changed in what is needed and in nothing else.

So that a printed next step is the user's own experiment: its text, recipe and hardware."""

import shlex
from collections.abc import Collection
from pathlib import Path

from llmscale.errors.command_lines import command_line, stated_command
from llmscale.runs.results_folder import ResultsFolder

_OF_OUTPUT = frozenset({"--json", "--notes", "--dry-run", "--yes", "-y"})
"""What decides nothing, and has no value."""
_OF_SEARCH = frozenset(
    f"--{no}{name}" for name in ("batch", "refine", "stop") for no in ("", "no-")
)
"""Options of `tune` only, without a value."""
_BY_RULE = frozenset({"--lr", "--lr-scale", "--batch-tokens", "--rule", "--doublings"})
"""What a tuned rule takes the place of, and how it was searched."""
_WHAT = frozenset({"--sizes", "--tokens", "--flops", "--per-budget", "--optimum", "--spread"})


def resumed(stated: object, place: str | Path) -> str | None:
    """The command that goes on with a sweep or a tuning in `place`, which may be a copy; None if
    what is `stated` is no such command.
    """
    words = _words(stated, {"--out"}, {"--json"})
    return None if words is None else command_line(*words, "--out", place)


def missing_file(stated: object) -> str | None:
    """The TOML file that a stated command reads, if it is not there from where we are."""
    words = _words(stated, (), ()) or []
    named = words[2] if len(words) > 2 else ""
    if named.endswith(".toml") and not Path(named).is_file():
        return named
    return None


def sweep_by_rule(stated: object, sizes: Collection[str], place: str | Path) -> str:
    """The sweep of `sizes` as a tuning was asked for, by the rule that it left in `place`."""
    words = _words(stated, {"--out", "--sizes", *_BY_RULE}, _OF_OUTPUT | _OF_SEARCH) or []
    named = ["--sizes", ",".join(sizes)] if sizes else []
    return command_line("llmscale", "sweep", *named, *words[2:], "--rule", place)


def sweep_of(place: Path, sizes: str, tokens: str) -> str | None:
    """The sweep in `place` with other sizes or token budgets (as options take them; none leaves
    them as they are), which adds to it. None if the folder does not say how it was made.
    """
    sweep = ResultsFolder(place).known_sweep()
    if sweep.get("spec", {}).get("flops"):
        return None  # a grid of compute budgets chooses sizes and tokens itself
    changed = _WHAT - ({"--tokens"} if not tokens else set())
    words = _words(sweep.get("command"), {"--out", *changed}, _OF_OUTPUT, "sweep")
    if words is None or missing_file(sweep.get("command")):
        return None
    asked = ["--sizes", sizes, *(["--tokens", tokens] if tokens else [])]
    return command_line("llmscale", "sweep", *asked, *words[2:], "--out", place)


def on_more_validation(folder: Path, where: str, tokens: str) -> str | None:
    """The sweep in `folder`, the copy of what is at `where`, with its losses measured on so many
    `tokens`, in a folder next to it. None if it does not say how it was made.
    """
    option = "--validation-tokens"
    stated = ResultsFolder(folder).known_sweep().get("command")
    words = _words(stated, {"--out", option}, _OF_OUTPUT, "sweep")
    if words is None or missing_file(stated):
        return None
    return command_line(*words, option, tokens, "--out", f"{where}-{tokens}")


def _words(
    stated: object, without: Collection[str], flags: Collection[str], *verbs: str
) -> list[str] | None:
    """The words of a stated command, but for some options: those `without`, which have a value, and
    `flags`, which have none.
    """
    command = stated_command(stated, *(verbs or ("sweep", "tune", "next")))
    if command is None:
        return None
    kept, words = [], iter(shlex.split(command))
    for word in words:
        name, equals, _ = word.partition("=")
        if name in without and not equals:
            next(words, None)
        elif name not in without and word not in flags:
            kept.append(word)
    return kept

"""The command that makes a fit again, as notes print it with something changed."""

from itertools import chain

from llmscale.explain.estimation.options import Options
from llmscale.explain.laws import Law, OneVariableLaw
from llmscale.explain.table import RunTable

_OF_OBJECTIVE = ("objective", "delta")


def fit_again(table: RunTable, law: Law, options: Options, *changes: object) -> str:
    """`llmscale fit TABLE --law LAW ...`, to paste: the table, the law and all that decides it as
    they were, but for `changes`. Of another law nothing is said that was said of this one."""
    return table.command("fit", *_words(law, options, changes), *changes)


def _words(law: Law, options: Options, changes: tuple[object, ...]) -> list[str]:
    """The options that the fit was made with and that still hold."""
    in_one = isinstance(law, OneVariableLaw) and options.variable != Options.variable
    variable = ["--variable", options.variable] if in_one else []
    of_law = ["--law", law.place or law.name, *variable, *options.constraint_words]
    if "--law" in changes:
        of_law = variable if "all" in changes else []
    usual = Options()
    changed = [name for name in _OF_OBJECTIVE if getattr(options, name) != getattr(usual, name)]
    objective = chain.from_iterable((f"--{name}", str(getattr(options, name))) for name in changed)
    return [*of_law, *objective]

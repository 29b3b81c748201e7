"""What `eval` can be told. Light: `--help` reads the declarations."""

from dataclasses import dataclass
from typing import Any

from llmscale.errors import InputError
from llmscale.machine import DEVICES
from llmscale.measure.text.text_column import DEFAULT
from llmscale.quantity import parse_count
from llmscale.settings import Range, check_settings, setting

MEASURE = "What to measure"
"""The group of these settings."""
VALIDATION = "validation"
"""The text of this name is the one that a run's own loss was measured on."""


def _count(text: str) -> int:
    return parse_count(text)


def _several(value: Any, where: str) -> tuple[str, ...]:
    """One text, or several. Raises InputError."""
    items = [value] if isinstance(value, str) else value
    is_list = isinstance(items, list | tuple)
    if not is_list or not all(isinstance(item, str) for item in items):
        raise InputError(
            f"{value!r} in {where} is neither a text nor several", 'write it like "books=books.txt"'
        )
    return tuple(items)


def _split(value: Any, where: str) -> tuple[str, ...]:
    """Names that stand between commas, or several of them. Raises InputError."""
    names = ",".join(_several(value, where)).split(",")
    return tuple(name.strip() for name in names if name.strip())


@dataclass(frozen=True)
class EvalSpec:
    """What is measured of trained models, and how."""

    data: tuple[str, ...] = setting(
        (),
        help="A text to measure the loss on, as a sweep's --data or `NAME=SOURCE`; `validation` is "
        "that of the run itself. Repeat it for more texts.",
        usual="`validation` if nothing else is asked for",
        group=MEASURE,
        metavar="[NAME=]SOURCE",
        repeats=True,
        read=_several,
    )
    task: tuple[str, ...] = setting(
        (),
        help="A task, as finetune's --data or `NAME=TASK`: its targets are to be written, or of "
        "rows with `choices` the `answer` is to be chosen. Repeat it for more tasks.",
        group=MEASURE,
        metavar="[NAME=]TASK",
        repeats=True,
        read=_several,
    )
    lm_eval: tuple[str, ...] = setting(
        (),
        help="Tasks of lm-evaluation-harness, if that is installed.",
        group=MEASURE,
        metavar="TASK,...",
        repeats=True,
        read=_split,
    )
    lm_eval_folder: str | None = setting(
        None,
        help="A folder with tasks of your own for --lm-eval, as its include_path.",
        group=MEASURE,
        metavar="FOLDER",
    )
    stride: int | None = setting(
        None,
        help="Tokens that a window counts: it reads --context tokens and counts the last of them, "
        "so that a smaller stride gives each token more context, for more work.",
        usual="the context, so that no token is read twice, as in a sweep's own loss",
        group=MEASURE,
        parse=_count,
        metavar="TOKENS",
        within=Range(1, 1e9),
    )
    context: int | None = setting(
        None,
        help="Tokens that are read at once, at most those of a training sequence.",
        usual="those of a training sequence",
        group=MEASURE,
        parse=_count,
        metavar="TOKENS",
        within=Range(2, 1e9),
    )
    max_tokens: int | None = setting(
        None,
        help="Stop reading a text after the document that reaches this many tokens.",
        usual="all of it",
        group=MEASURE,
        parse=_count,
        metavar="COUNT",
        within=Range(1, 1e15),
    )
    limit: int | None = setting(
        None,
        help="Only the first examples of each task.",
        usual="all of them",
        group=MEASURE,
        parse=_count,
        metavar="COUNT",
        within=Range(1, 1e9),
    )
    max_new_tokens: int | None = setting(
        None,
        help="Tokens to generate for an example at most.",
        usual="those of the task's longest target and 8 more",
        group=MEASURE,
        parse=_count,
        metavar="COUNT",
        within=Range(1, 1e6),
    )
    stop: str | None = setting(
        None,
        help="What a model writes for a task ends before this text, besides its end of text.",
        usual="it ends only there",
        group=MEASURE,
        metavar="TEXT",
    )
    text_column: str = setting(
        DEFAULT,
        help="The column that holds the text, as in a sweep.",
        group=MEASURE,
        metavar="NAME",
    )
    device: str = setting(
        "auto",
        help="`auto`, `cuda` or `cpu`.",
        group="Hardware",
        metavar="NAME",
        choices=lambda: DEVICES,
    )
    arch: str | None = setting(
        None,
        help="The file of the runs' architecture, if that is one of your own.",
        group="Hardware",
        metavar="./FILE.py:NAME",
    )
    again: bool = setting(
        False,
        help="Whether to measure again what is known already.",
        group=MEASURE,
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.context and self.stride and self.stride > self.context:
            raise InputError(
                f"--stride {self.stride:,} is longer than --context {self.context:,}: the tokens "
                "between two windows would not be counted",
                f"give a stride of at most {self.context:,}",
            )

"""What decides the examples of a fine-tuning. Light: `--help` reads the declarations."""

from dataclasses import dataclass
from typing import Final

from llmscale.settings import Range, check_settings, setting

TASK: Final = "Task"
"""The group of these settings."""
FORMATS: Final = ("auto", "pairs", "text", "chat")
TOO_LONG: Final = ("leave-out", "cut")


@dataclass(frozen=True)
class TaskSpec:
    """The examples, and what of them is learnt. TOML table `[data]`."""

    source: str = setting(
        "",
        help="The task: files of JSON lines, CSV or parquet with an example a row (a path, a glob, "
        "several with commas between), one that is made, as `task:translation,examples=20000`, or "
        "one of your own, as `./mine.py:MyTask`.",
        group=TASK,
        option="data",
        metavar="TASK",
    )
    format: str = setting(
        "auto",
        help="What a row is: `pairs` of a prompt and its target, of which the target is learnt, "
        "`text`, all of which is learnt, or the turns of a `chat`, of which the assistant's are. "
        "`auto` goes by the columns.",
        group=TASK,
        choices=lambda: FORMATS,
    )
    prompt_column: str | None = setting(
        None, help="The column of prompts.", usual="prompt, or another usual name", group=TASK
    )
    target_column: str | None = setting(
        None, help="The column of targets.", usual="target, or another usual name", group=TASK
    )
    text_column: str | None = setting(
        None, help="The column of texts.", usual="text, or another usual name", group=TASK
    )
    messages_column: str | None = setting(
        None,
        help="The column of a chat's turns, each with its `role` and `content`.",
        usual="messages, or another usual name",
        group=TASK,
    )
    too_long: str = setting(
        "leave-out",
        help="What becomes of an example that is longer than the context: `leave-out`, or `cut`, "
        "of its prompt the beginning first and of its target the end. A text goes on in the next "
        "sequence.",
        group=TASK,
        choices=lambda: TOO_LONG,
    )
    validation_examples: int | None = setting(
        None,
        help="Examples to hold out, to measure the loss on.",
        usual="a tenth, at most 1000",
        group=TASK,
        within=Range(1, 1e9),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if ".py:" in self.source:
            from llmscale.measure.text.tasks.generators import GENERATORS

            name, comma, settings = self.source.partition(",")
            object.__setattr__(self, "source", GENERATORS.pin(name) + comma + settings)

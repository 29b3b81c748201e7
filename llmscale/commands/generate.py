"""`llmscale generate`: have a trained model write text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._extra_words import refuse_run
from llmscale.commands._options import JsonOption, takes_settings
from llmscale.errors import counted
from llmscale.measure.trained.generation.spec import WRITE, Sampling
from llmscale.quantity import format_count

if TYPE_CHECKING:
    from llmscale.measure.trained.generation.api import Generation
    from llmscale.measure.trained.generation.prompts import Prompt
    from llmscale.measure.trained.model import TrainedModel

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run: its folder results/NAME/runs/RUN_ID, its id, or a results folder or URL, of "
        "which it is the largest run",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda or cuda:0", rich_help_panel="Hardware")
]
ArchOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.py:NAME",
        help="The file of an architecture of one's own, if the run has one",
        rich_help_panel="Hardware",
    ),
]


@takes_settings(Sampling)
def generate(
    run: RunArgument,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The text to go on with")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .txt file with a prompt a line, or a .jsonl file with a prompt in each object",
            rich_help_panel=WRITE,
        ),
    ] = None,
    device: DeviceOption = "auto",
    arch: ArchOption = None,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Write text with the model of a run, token by token, after a prompt or each of a file.

    Example: llmscale generate results/cpu "Once" --tokens 200 --top-p 0.9"""
    from llmscale.measure.trained.generation.api import generate as write

    refuse_run(prompt, "PROMPT")
    view = _View(quiet=json)
    found = write(
        run,
        prompt,
        prompts=prompts,
        device=device,
        arch=arch,
        hears=view.hear,
        begins=view.begin,
        **settings,
    )
    if json:
        output.print_json(found.to_json())
    else:
        view.end(found)


class _View:
    """One text is shown as it is written, several are when all are."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._streams = quiet, False
        self._told: list[str] = []

    def begin(self, trained: "TrainedModel", prompts: "Sequence[Prompt]", texts: int) -> None:
        if not self._quiet:
            self._tell(trained.remarks)
        self._streams = not self._quiet and texts == 1
        if self._streams:
            output.print_piece(prompts[0].text, bold=True)

    def hear(self, text: int, piece: str) -> None:
        if self._streams:
            output.print_piece(piece)

    def end(self, found: "Generation") -> None:
        if self._streams:
            output.print_piece("\n")
        else:
            for number, text in enumerate(found.texts, start=1):
                output.results.print(output.styled((f"[{number}/{len(found.texts)}]", "dim")))
                output.print_piece(text.prompt, bold=True)
                output.print_piece(f"{text.text}\n")
        self._tell(found.remarks)
        output.tell(_summary(found))

    def _tell(self, remarks: "Sequence[str]") -> None:
        for remark in remarks:
            if remark not in self._told:
                output.tell(remark)
                self._told.append(remark)


def _summary(found: "Generation") -> str:
    """How much was written, how likely the model finds it, and how fast it was."""
    tokens = sum(len(text.tokens) for text in found.texts)
    ended = sum(text.ended for text in found.texts)
    nats = -sum(text.log_probability for text in found.texts) / max(1, tokens + ended)
    texts = "" if len(found.texts) == 1 else f"{counted(len(found.texts), 'text')}, "
    speed = format_count(found.tokens_per_second)
    return f"{texts}{counted(tokens, 'token')}, {nats:.3f} nats a token, {speed} tokens/s"

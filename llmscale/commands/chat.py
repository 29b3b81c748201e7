"""`llmscale chat`: talk with a fine-tuned model."""

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from typing import Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import JsonOption, takes_settings
from llmscale.commands._streams import answers
from llmscale.commands.generate import ArchOption, DeviceOption, RunArgument
from llmscale.errors import InputError
from llmscale.measure.trained.generation.spec import WRITE, Sampling

_MOST_BYTES = 1_000_000
"""Of a line on standard input."""
_LABELS = ("user: ", "assistant: ")


@takes_settings(Sampling, leave_out=("samples", "stop", "at_a_time"))
def chat(
    run: RunArgument,
    system: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What the model should know before the first turn",
            rich_help_panel=WRITE,
        ),
    ] = None,
    device: DeviceOption = "auto",
    arch: ArchOption = None,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Talk with the model of a run that was fine-tuned on conversations: a line is a turn.

    Ctrl-C stops an answer, Ctrl-D ends. From a pipe each line is answered.

    Example: llmscale chat results/dialogue --temperature 0"""
    from llmscale.measure.trained.generation.chat import begin_chat

    talk = begin_chat(run, system=system, device=device, arch=arch, **settings)
    told = set()
    for remark in talk.remarks:
        output.tell(remark)
    terminal = sys.stdin.isatty() and not json
    if terminal:
        output.tell("Ctrl-C stops an answer, Ctrl-D ends")
    for line in _typed_lines() if terminal else _piped_lines():
        if terminal:
            output.print_piece(_LABELS[1], bold=True)
        answer = talk.ask(line, hears=(lambda piece: None) if json else output.print_piece)
        if answer.interrupted and not terminal:
            raise KeyboardInterrupt
        if not json:
            output.print_piece("\n")
        for remark in answer.remarks:
            if remark not in told:
                output.tell(remark)
                told.add(remark)
    if json:
        output.print_json(talk.to_json())


def _typed_lines() -> Iterator[str]:
    """What is typed in the terminal, to the end of input."""
    with suppress(ImportError):  # Windows edits lines by itself
        import readline  # noqa: F401 - has `input` edit lines and know those before
    while True:
        try:
            output.print_piece("")  # takes away the line that says what goes on
            with redirect_stdout(answers()):  # or lines are not edited
                line = input(_LABELS[0])
        except KeyboardInterrupt:  # came too late to stop an answer, or takes back a line
            output.print_piece("\n")
            continue
        except EOFError:
            output.print_piece("\n")
            return
        if line.strip():
            yield line


def _piped_lines() -> Iterator[str]:
    """The lines of standard input that hold something."""
    number = 0
    while raw := sys.stdin.buffer.readline(_MOST_BYTES + 1):
        number += 1
        if len(raw) > _MOST_BYTES:
            raise InputError(
                f"line {number} of standard input has more than {_MOST_BYTES:,} bytes",
                "give a turn a line",
            )
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            raise InputError(
                f"line {number} of standard input is not UTF-8", "write it in UTF-8"
            ) from None
        if line:
            yield line

"""`llmscale explain`: say what a warning means, and what to do about it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.errors import InputError

if TYPE_CHECKING:
    from llmscale.notes.kind import Kind


def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="As a warning shows it: few-sizes.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print all of them as a page of Markdown.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a warning means, when it is raised, and what to do. Without a code, list them all.

    Example: llmscale explain few-sizes
    """
    from llmscale.notes import CATALOGUE, as_markdown, by_topic, find

    if markdown and (json or code):
        other = "--json" if json else code
        raise InputError(
            f"--markdown prints every warning as a page, and {other} asks for something else",
            "leave one of them out",
        )
    shown = [find(code)] if code else list(CATALOGUE.values())
    if markdown:
        output.print_text(as_markdown())
    elif json:
        output.print_json({"notes": [_as_json(kind) for kind in shown]})
    elif code:
        _show(shown[0])
    else:
        for topic, kinds in by_topic().items():
            output.results.print(output.styled((topic, "bold")))
            for kind in kinds:
                output.results.say(f"  {kind.code}:", "", kind.raised_when())
            output.results.print("")
        output.show_next("llmscale explain few-sizes")


def _show(kind: "Kind") -> None:
    output.results.print(output.styled((kind.code, "bold"), f": {kind.weight.meaning}"))
    output.results.say("  raised when:", "dim", kind.raised_when())
    output.results.say("  it means:", "dim", kind.means)
    output.results.say("  what to do:", "dim", kind.remedy)
    if kind.source:
        output.results.say("  source:", "dim", kind.source)


def _as_json(kind: "Kind") -> dict[str, Any]:
    limit = kind.limit if kind.limit == kind.limit else None
    return {
        **asdict(kind),
        "weight": int(kind.weight),
        "when": kind.raised_when(),
        "limit": limit,
    }

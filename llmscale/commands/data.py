"""`llmscale data`: make text ready for training, and look at it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands._options import OUTPUT, GroupedCommand, JsonOption, takes_settings
from llmscale.errors import counted
from llmscale.errors.command_lines import command_line
from llmscale.measure.text.spec import TEXT, TextSpec
from llmscale.quantity import format_bytes, format_count, parse_count
from llmscale.settings import stated_options

if TYPE_CHECKING:
    from llmscale.measure.text.automaton import Entropy
    from llmscale.measure.text.inspection import Inspection
    from llmscale.measure.text.prepare import Progress as Done
    from llmscale.measure.text.prepare import TokenStore

data = typer.Typer(
    name="data",
    help="Make text ready for training, and look at it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

STAGES = {
    "waiting": "waiting for another process",
    "survey": "looking at the text",
    "tokenizer": "training the tokenizer",
    "tokens": "tokenizing",
    "checking": "checking the tokens on disk",
}
"""What `prepare` is doing, in words."""
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="stdlib, files (a path, a glob, several by commas), the name of a dataset, or "
        "synthetic:LANGUAGE",
    ),
]


@data.command(cls=GroupedCommand)
@takes_settings(TextSpec, leave_out=("data",))
def prepare(
    source: SourceArgument = "stdlib",
    tokens: Annotated[
        str | None,
        typer.Option(
            metavar="COUNT",
            help="Stop at this many training tokens; default: all the text",
            rich_help_panel=TEXT,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="COUNT",
            help="Processes; default: one a core",
            rich_help_panel="Hardware",
        ),
    ] = None,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Tokenize text into the cache. Stopped, the same command goes on where it was.

    Example: llmscale data prepare 'corpus/**/*.txt' --tokenizer bpe:4096
    """
    from llmscale.measure.text import prepare as library
    from llmscale.settings.tables import with_keywords

    wanted = parse_count(tokens, "token count") if tokens else None
    spec = with_keywords(TextSpec(source), settings, "the call")
    with preparing() as report:
        store = library.prepare(spec, min_train_tokens=wanted, workers=workers, progress=report)
    for remark in store.remarks:
        output.tell(f"note: {remark}")
    output.warn_all(store.notes, every=True)
    if json:
        output.print_json(store.meta | {"path": str(store.path)})
    else:
        _show_store(store)


@data.command(cls=GroupedCommand)
@takes_settings(TextSpec, leave_out=("data",))
def inspect(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="What prepare takes, or the folder of a token store"),
    ] = "stdlib",
    samples: Annotated[
        int,
        typer.Option(min=0, metavar="COUNT", help="Documents to show", rich_help_panel=OUTPUT),
    ] = 3,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Show how much text there is, and a few documents.

    With what cleaning drops.

    Example: llmscale data inspect corpus/train.jsonl --text-column content
    """
    from llmscale.measure.text.inspection import inspect_text
    from llmscale.measure.text.prepare import Progress as Done
    from llmscale.settings.tables import with_keywords

    spec = with_keywords(TextSpec(source), settings, "the call")
    with preparing() as report:
        seen = inspect_text(
            spec, samples=samples, progress=lambda count, size: report(Done("survey", count, size))
        )
    for remark in seen.remarks:
        output.tell(f"note: {remark}")
    if json:
        output.print_json(seen.to_json())
    else:
        _show_inspection(seen, spec)


@data.command(cls=GroupedCommand)
@takes_settings(TextSpec, leave_out=("data",))
def report(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="What prepare takes, or the folder of a token store"),
    ] = "stdlib",
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            max=3,
            metavar="COUNT",
            help="Examples to show of what each step removed",
            rich_help_panel=OUTPUT,
        ),
    ] = 1,
    origin_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The column that says where a document comes from; default: its file's folder",
            rich_help_panel=TEXT,
        ),
    ] = None,
    most: Annotated[
        str | None,
        typer.Option(
            "--bytes",
            metavar="COUNT",
            help="Read so much; default: all the text, or a sample of a large store",
            rich_help_panel=TEXT,
        ),
    ] = None,
    json: JsonOption = False,
    **settings: Any,
) -> None:
    """Read all the text, and say what cleaning removes and how the rest is spread.

    With how much of the validation text stands in the training text, too, and how long documents
    are, from where, and in which languages. Of a large token store a sample is read, and the rest
    is what it says of itself.

    Example: llmscale data report corpus.jsonl --clean gopher-quality,near-duplicates
    """
    from llmscale.commands._data_report import show_report
    from llmscale.measure.text.prepare import Progress as Done
    from llmscale.measure.text.report import report_text
    from llmscale.settings.tables import with_keywords

    spec = with_keywords(TextSpec(source), settings, "the call")
    with preparing() as tell:
        found = report_text(
            spec,
            origin_column=origin_column,
            most_bytes=parse_count(most, "--bytes") if most else None,
            progress=lambda count, size: tell(Done("survey", count, size)),
        )
    for remark in found.remarks:
        output.tell(f"note: {remark}")
    if json:
        output.print_json(found.to_json())
    else:
        show_report(found, samples)


@contextmanager
def preparing() -> Iterator[Callable[["Done"], None]]:
    """A function that shows how far reading has got: a bar on a terminal, else a line for every
    stage."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    shown = output.progress.is_terminal
    seen: set[str] = set()
    with Progress(*columns, console=output.progress, disable=not shown, transient=True) as bar:
        task = bar.add_task("opening", total=None)

        def report(done: "Done") -> None:
            what = STAGES[done.stage]
            if not shown and done.stage not in seen:
                output.progress.print(what)
            seen.add(done.stage)
            measured = done.stage in ("tokens", "checking")
            total = done.wanted_tokens or done.estimated_bytes if measured else None
            completed = done.tokens if done.wanted_tokens else done.bytes
            read = [counted(done.documents, "document")] if done.documents else []
            read += [format_bytes(done.bytes)] if done.bytes else []
            details = ", ".join(read)
            bar.update(task, description=f"{what} {details}", total=total, completed=completed)

        yield report


def _show_store(store: "TokenStore") -> None:
    from llmscale.commands._tables import SafeTable

    table = SafeTable("", box=None)
    for name in ("documents", "text", "tokens"):
        table.add_column(name, justify="right")
    for part in ("train", "validation", "set_aside"):
        count = store.meta[part]
        cells = (f"{count['documents']:,}", format_bytes(count["bytes"]), f"{count['tokens']:,}")
        table.add_row(part.replace("_", " "), *cells)
    output.results.print(f"tokens of {store.name}")
    output.results.print(table)
    dropped, tokenizer = store.meta["dropped"], store.meta["tokenizer"]
    removed = [
        f"{name} dropped {counted(effect['dropped'], 'document')} and changed {effect['changed']:,}"
        for name, effect in dropped.get("steps", {}).items()
    ]
    for line in (
        f"{tokenizer['name']}: {store.vocab_size:,} tokens, {store.bytes_per_token:.2f} bytes per "
        "token",
        f"dropped {counted(dropped['too_short'], 'document')} as too short and "
        f"{dropped['duplicates']:,} as exact duplicates",
        *removed,
        f"in {store.path}",
    ):
        output.results.print(line)


def _show_inspection(seen: "Inspection", spec: TextSpec) -> None:
    whole = "all of it" if seen.complete else "its beginning"
    rows = [
        ("text", f"{seen.name} ({whole})"),
        ("fingerprint", seen.fingerprint),
        ("documents", f"{seen.documents:,}, {format_bytes(seen.bytes)}"),
        ("lengths", f"{seen.shortest:,} to {seen.longest:,} {seen.length_unit}"),
        (
            "dropped",
            f"{seen.too_short_share:.2%} too short, {seen.duplicate_share:.2%} exact duplicates",
        ),
    ]
    if (
        seen.bytes_per_token is not None
        and seen.train_tokens is not None
        and seen.validation_tokens is not None
    ):
        held_out = format_count(seen.validation_tokens)
        rows.append(
            ("tokens", f"{format_count(seen.train_tokens)} to train on, {held_out} held out")
        )
        rows.append(
            ("tokenizer", f"{seen.vocab_size:,} tokens, {seen.bytes_per_token:.2f} bytes per token")
        )
    else:
        words = [spec.source, *stated_options(spec, leave_out=["data"])]
        if seen.endless:
            words += ["--tokens", "10M"]
        rows.append(("tokens", f"none yet: {command_line('llmscale', 'data', 'prepare', *words)}"))
    if seen.entropy is not None:
        rows.append(("entropy", _entropy(seen.entropy)))
    for name, value in rows:
        output.results.print(output.styled((f"{name:<12} ", "bold"), value))
    for number, sample in enumerate(seen.samples, start=1):
        output.results.rule(f"document {number}", align="left")
        output.results.print_lines(sample.strip())


def _entropy(known: "Entropy") -> str:
    said = [f"{known.nats_per_symbol:.4f} nats a symbol", f"{known.nats_per_byte:.4f} a byte"]
    if known.nats_per_token is not None:
        said.append(f"{known.nats_per_token:.4f} a token")
    return ", ".join(said)

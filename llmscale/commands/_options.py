"""The options of a command that its settings declare, and help that shows them in groups.

A command that is decorated with `takes_settings(kind)` names its own parameters only, and gets
those of `kind` as keywords: what each is called, takes and means is read from its declaration."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand

from llmscale.commands._extra_words import too_many_words
from llmscale.commands._streams import answers_apart
from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.settings import Setting, options_of

Command = TypeVar("Command", bound=Callable[..., Any])

GROUPS = (
    "Arguments",
    "What to measure",
    "What to write",
    "What to round to",
    "What to train",
    "What to compare",
    "What to forecast",
    "What to plan",
    "What to serve on",
    "What to buy",
    "What to draw",
    "What to read",
    "What to fit",
    "How to fit",
    "Search",
    "Text",
    "Task",
    "Recipe",
    "Hardware",
    "Output",
    "Options",
)
"""In the order in which help shows them."""
_LONGEST_MENU = 32
"""Letters of a menu that stands next to its option; a longer one stands in the help."""
_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z`])")

OUTPUT = "Output"

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object", rich_help_panel=OUTPUT)
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and stop", rich_help_panel=OUTPUT)
]
MaxHoursOption = Annotated[
    float, typer.Option(help="Ask before starting what will take longer", rich_help_panel=OUTPUT)
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Start without asking", rich_help_panel=OUTPUT)
]
OutOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="The results folder, or a URL such as s3://bucket/name  [default: one named after "
        "the text and what is asked for]",
        rich_help_panel=OUTPUT,
    ),
]
FileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="FILE.toml", help="A sweep described in TOML; options override it"),
]
TableArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TABLE",
        help="A results folder, a .csv, .tsv, .parquet, .jsonl or .json file, a URL of either, - "
        "for a pipe, or a pattern of logs, one a run: 'logs/*/trainer_state.json'; default "
        "the newest sweep under results/.",
    ),
]
FitArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TABLE",
        help="A table as `llmscale fit` takes it, or a fit that was kept: fit-chinchilla.json; "
        "default the newest sweep under results/.",
    ),
]
_ExecutorOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="A setting of the executor's own, as partition=gpu of slurm; repeatable",
        rich_help_panel="Hardware",
    ),
]


def takes_settings(
    *kinds: type, only: Sequence[str] = (), leave_out: Sequence[str] = ()
) -> Callable[[Command], Command]:
    """Give a command an option for each setting of `kinds`, or for `only` some, but not for those
    to `leave_out`.

    They come to its `**settings`, None if they were not given, with `executor_option` next to
    `executor`."""
    options = {name: option for kind in kinds for name, option in options_of(kind).items()}
    taken = [name for name in options if name in (only or options) and name not in leave_out]

    def decorate(command: Command) -> Command:
        own = inspect.signature(command)
        parameters = [
            parameter
            for parameter in own.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        parameters += [
            _parameter(keyword, _annotation(options[keyword].setting)) for keyword in taken
        ]
        if "executor" in taken:
            parameters.append(_parameter("executor_option", _ExecutorOption))
        # Typer reads the options of a command from its signature.
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return command

    return decorate


class GroupedCommand(TyperCommand):
    """A command whose help shows its options in groups. Plain text: to draw panels with rich takes
    longer than all else that help does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options. Raises InputError for one that takes one value and is given twice, of
        which the last would be taken in silence, and for words that no argument takes."""
        values, rest, order = self.make_parser(ctx).parse_args(args=list(args))
        if rest and not ctx.resilient_parsing:
            taken = [one for one in self.get_params(ctx) if isinstance(one, TyperArgument)]
            words = [values[one.name] for one in taken if values[one.name] is not None]
            names = [str(one.metavar or one.name) for one in taken]
            raise too_many_words(self._called(ctx), names, [*words, *rest])
        for parameter, times in Counter(order).items():
            is_switch = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
            takes_one = parameter.nargs == 1 and not parameter.multiple and not is_switch
            if times > 1 and takes_one and not ctx.resilient_parsing:
                name = max(parameter.opts, key=len)
                raise InputError(
                    f"{name} is given {times} times, and takes one value",
                    "give it once; an option that takes a list takes it with commas",
                )
        return super().parse_args(ctx, args)

    def _called(self, ctx: Any) -> str:
        """The name of the command, `data report` too."""
        names = [ctx.info_name]
        while ctx.parent is not None and ctx.parent.parent is not None:
            ctx = ctx.parent
            names.insert(0, ctx.info_name)
        return " ".join(names)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, whose answer alone goes to standard output."""
        with answers_apart():
            return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(_group_of(parameter), []).append(record)
        known = [group for group in GROUPS if group in groups]
        for group in dict.fromkeys([*known, *groups]):
            with formatter.section(group):
                formatter.write_dl(groups[group])


def _group_of(parameter: Any) -> str:
    panel = getattr(parameter, "rich_help_panel", None)
    other = "Arguments" if isinstance(parameter, TyperArgument) else "Options"
    return panel or other


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _annotation(one: Setting) -> Any:
    """How Typer is told of an option: None means that it was not given."""
    is_text = one.is_list or one.parse is not None
    kind: Any = str if is_text else one.kinds[0]
    taken = GenericAlias(list, kind) if one.repeats else kind
    flags = one.flags or (one.flag,)
    if kind is bool:
        flags = (f"{one.flag}/--no-{one.flag.removeprefix('--')}",)
    is_number = kind in (int, float)
    usual = f"<{kind.__name__}>" if is_number else None
    option = typer.Option(
        *flags,
        metavar=_metavar(one) or usual,
        parser=_number_of(one, kind) if is_number else None,
        help=_help(one),
        rich_help_panel=one.group,
        show_default=False,  # that of the option is None; the setting's own is in its help
    )
    return Annotated[taken | None, option]


def _number_of(one: Setting, kind: type) -> Callable[[str], Any]:
    """Reads the number of an option; a whole one also as 10k or 1e3."""

    def read(text: str) -> Any:
        with suppress(ValueError):
            return kind(text)
        if kind is int:
            from llmscale.quantity import parse_count

            with suppress(ValueError):
                if not float(text).is_integer():
                    raise InputError(f"{one.flag} {text} is not whole", "write it like 3 or 10k")
            return parse_count(text, one.flag)
        raise InputError(f"{one.flag} {begun(text)!r} is not a number", "write it like 0.5 or 1e-3")

    return read


def _metavar(one: Setting) -> str | None:
    menu = _menu(one)
    return menu if menu and len(menu) <= _LONGEST_MENU else one.metavar or None


def _menu(one: Setting) -> str:
    return "|".join(one.choices()) if one.choices else ""


def _help(one: Setting) -> str:
    """What `--help` says of a setting: its first sentence, and its default."""
    said = _first_sentence(one.help)
    if len(_menu(one)) > _LONGEST_MENU:
        said += f": {_menu(one).replace('|', ', ')}"
    default = _first_sentence(one.usual) or _default(one)
    return f"{said}  [default: {default}]" if default else said


def _first_sentence(text: str) -> str:
    return _SENTENCE_END.split(text, maxsplit=1)[0].removesuffix(".").replace("`", "")


def _default(one: Setting) -> str:
    if isinstance(one.default, bool):
        return "yes" if one.default else "no"
    if isinstance(one.default, int | float):
        return f"{one.default:g}"
    return one.default if isinstance(one.default, str) else ""

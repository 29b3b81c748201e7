"""What `fit`, `plot` and `predict` can be told: each setting is an option and a keyword. Light:
`--help` reads the declarations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.explain.estimation.options import Options, OptionsGiven
from llmscale.explain.figures import COLUMN_INCHES, FIGURES
from llmscale.menu import names_in
from llmscale.runs.shape import COUNTS
from llmscale.settings import Range, check_settings, options_of, setting
from llmscale.settings.tables import check_keys, with_keywords

Spec = TypeVar("Spec", bound="OfRuns")

READ: Final = "What to read"
FIT: Final = "What to fit"
FORECAST: Final = "What to forecast"
PLAN: Final = "What to plan"
DRAW: Final = "What to draw"
OUTPUT: Final = "Output"
"""Groups of settings."""


LAW: dict[str, Any] = {
    "usual": "what suits the table",
    "group": FIT,
    "metavar": "NAME",
    "only_shown": True,
}
LAW_THAT_FORECASTS: dict[str, Any] = {
    **LAW,
    "usual": "of anchored and chinchilla the one that forecasts this table's own higher budgets "
    "best",
}
REFIT: dict[str, Any] = {
    "help": "Whether to fit again, whatever fit is kept next to the table.",
    "group": FIT,
}
PUBLISHED: dict[str, Any] = {
    "help": "In place of a table Chinchilla's law as it was published, of others' text and "
    "tokenizer (Besiroglu et al. 2024).",
    "group": READ,
}
TASK: dict[str, Any] = {
    "help": "The column of a task's score, to forecast by the loss.",
    "group": FORECAST,
    "metavar": "COLUMN",
}
TASK_LOSS: dict[str, Any] = {
    "help": "The loss that tells the task's score, such as that of its right answers.",
    "usual": "the table's loss",
    "group": FORECAST,
    "metavar": "COLUMN",
}
TASK_LAW: dict[str, Any] = {
    "help": "The law of the score in the loss: task-accuracy, task-error or ./mine.py:MyLaw.",
    "usual": "task-accuracy; if the score rises with the loss, the one with the smaller residuals",
    "group": FORECAST,
    "metavar": "NAME",
}
"""What is known of settings that several calls take."""


def several(text: str) -> str | list[str]:
    """What stands between commas; a text without any as it is."""
    return text.split(",") if "," in text else text


def inputs_said(text: str) -> dict[str, str | list[str]]:
    """`n_experts=8,64` as columns with their values. Raises InputError."""
    found: dict[str, list[str]] = {}
    name = ""
    for item in filter(None, map(str.strip, text.split(","))):
        before, equals, after = (part.strip() for part in item.partition("="))
        if equals and before in found:
            raise InputError(f"--inputs gives {before} twice", f"give all at once: {before}=1,2")
        name, value = (before, after) if equals else (name, before)
        if not name or not value:
            raise InputError(
                f"--inputs {begun(text)!r} names no column with a value",
                "write it like --inputs n_experts=64",
            )
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def laws_to_try() -> tuple[str, ...]:
    """The laws, and all of them."""
    return (*law_names(), "all")


def law_names() -> tuple[str, ...]:
    return names_in("llmscale.explain.laws")


@dataclass(frozen=True)
class Reading:
    """How a table of runs is read."""

    count: str = setting(
        COUNTS[0],
        help="What N counts.",
        group=READ,
        metavar="COLUMN",
        choices=lambda: COUNTS,
        only_shown=True,
    )
    columns: str | Mapping[str, str] | None = setting(
        None,
        help="The table's columns: params, tokens, flops, loss, or any input of a law; in quotes "
        "if with a comma.",
        usual="found by their names",
        group=READ,
        metavar="params=X,...",
    )
    units: str | Mapping[str, str] | None = setting(
        None,
        help="What the table counts in: K, M, B, T; PF, EF, PFdays; loss in nats, bits, "
        "perplexity, accuracy or percent.",
        usual="as the columns say",
        group=READ,
        metavar="params=M,...",
    )
    where: str | Sequence[str] | None = setting(
        None,
        help='Only these runs: "flops < 1e20 and data == c4"; repeat it to add more.',
        group=READ,
        metavar="FILTER",
        repeats=True,
    )
    best_of: str | Sequence[str] | None = setting(
        None,
        help="Of runs that are alike in these columns only the one of the lowest loss: "
        "params,tokens of a search over learning rates.",
        group=READ,
        metavar="COLUMN,...",
    )
    status: str | None = setting(
        None,
        help="Which words of the column of statuses count as a finished run.",
        group=READ,
        metavar="done=WORD,...",
    )


class ReadingGiven(TypedDict, total=False):
    """The fields of Reading as keywords; one that is None was not given."""

    count: str | None
    columns: Mapping[str, str] | str | None
    units: Mapping[str, str] | str | None
    where: str | Sequence[str] | None
    best_of: str | Sequence[str] | None
    status: str | None


class Given(ReadingGiven, OptionsGiven, total=False):
    """Keywords that all of these calls take."""


@dataclass(frozen=True)
class OfRuns:
    """What all that is made of a table of runs can be told."""

    reading: Reading = setting(factory=Reading, help="How the table is read.")
    options: Options = setting(factory=Options, help="How the law is fitted.")


@dataclass(frozen=True)
class FitSpec(OfRuns):
    """What `llmscale fit` fits to a table."""

    law: str | type | Sequence[str | type] | None = setting(
        None,
        help="A law, or ./mine.py:MyLaw, or all, which ranks those that suit; repeat it to "
        "compare.",
        choices=lambda: (*law_names(), "all"),
        repeats=True,
        **LAW,
    )
    method: str = setting(
        "parametric",
        help="How: a law, or only the compute-optimal split of a budget by another method, or all "
        "methods next to each other.",
        group=FIT,
        choices=lambda: (*names_in("llmscale.explain.allocation"), "all"),
        only_shown=True,
    )
    by: str | None = setting(
        None,
        help="One law for every value of this column, and a joint fit.",
        group=FIT,
        metavar="COLUMN",
    )
    keep: str | Path | bool = setting(
        False,
        help="Keep the fit here, for `predict` and `plot`. In Python nothing is kept by default, "
        "and with True what the command keeps.",
        usual="that of a results folder is kept in it, as fit-LAW.json",
        group=OUTPUT,
        flags=("--out", "-o"),
        metavar="FILE.json",
    )


@dataclass(frozen=True)
class PredictSpec(OfRuns):
    """What `llmscale predict` forecasts, and by which law."""

    params: Any = setting(
        None,
        help="Sizes, like 7B or 1B,7B,70B.",
        group=FORECAST,
        parse=several,
        flags=("--params", "-N"),
        metavar="7B",
    )
    tokens: Any = setting(
        None,
        help="Tokens, like 1.4T; or 20x for 20 a parameter.",
        group=FORECAST,
        parse=several,
        flags=("--tokens", "-D"),
        metavar="1.4T",
    )
    flops: Any = setting(
        None,
        help="A budget, like 1e23: by itself, its best size and tokens.",
        group=FORECAST,
        parse=several,
        flags=("--flops", "-C"),
        metavar="1e23",
    )
    from_curve: str | Path | None = setting(
        None,
        help="The end of a run under way, by its id or title, or by its log.",
        group=FORECAST,
        metavar="RUN|FILE",
    )
    task: str | None = setting(None, **TASK)
    task_loss: str | None = setting(None, **TASK_LOSS)
    task_law: str | type | None = setting(None, **TASK_LAW)
    inputs: str | Mapping[str, Any] | None = setting(
        None,
        help="Other columns that the law takes, with their values: n_experts=8,64.",
        usual="none",
        group=FORECAST,
        parse=inputs_said,
        metavar="NAME=VALUE,...",
    )
    law: str | type | None = setting(
        None,
        help="A law, ./mine.py:MyLaw, or all, to try every law in N and D.",
        choices=laws_to_try,
        **LAW_THAT_FORECASTS,
    )
    refit: bool = setting(False, **REFIT)
    published: bool = setting(False, **PUBLISHED)


@dataclass(frozen=True)
class MixtureSpec(OfRuns):
    """What `llmscale mixture` looks for."""

    targets: str | Mapping[str, float] | None = setting(
        None,
        help="What the loss on each source counts, `code=2,prose=1`.",
        usual="all alike",
        group=FORECAST,
        metavar="NAME=WEIGHT,...",
    )


@dataclass(frozen=True)
class PlotSpec(OfRuns):
    """What `llmscale plot` draws."""

    kind: str = setting(
        "scaling",
        help="The figure, or ./mine.py:my_figure.",
        group=DRAW,
        metavar="NAME",
        choices=lambda: FIGURES,
        only_shown=True,
    )
    output: str | Path | bool = setting(
        False,
        help="A .png, .pdf or .svg. In Python nothing is written by default, and with True what "
        "the command writes.",
        usual="figures/KIND.png of a results folder, KIND.png of any other table",
        group=OUTPUT,
        flags=("--out", "-o"),
        metavar="FILE",
    )
    law: str | type | Sequence[str | type] | None = setting(
        None,
        help="A law, or ./mine.py:MyLaw; repeat it to draw several.",
        choices=law_names,
        repeats=True,
        **LAW,
    )
    refit: bool = setting(False, **REFIT)
    width: float = setting(
        COLUMN_INCHES,
        help="Inches; 3.4 is one column of a paper, 7 both.",
        group=DRAW,
        within=Range(1, 40),
    )
    title: str | None = setting(None, help="A title above the figure.", group=DRAW, metavar="TEXT")

    def __post_init__(self) -> None:
        check_settings(self)


def asked_spec(kind: type[Spec], keywords: Mapping[str, Any]) -> Spec:
    """What a call with these keywords asks for; None leaves a setting as it is. Raises InputError
    for a keyword that there is not, and for a value of a wrong type or out of range."""
    check_keys(keywords, set(options_of(kind)), "the call")
    spec = with_keywords(kind(), keywords, "the call")
    delta, objective = keywords.get("delta"), spec.options.objective
    if delta is not None and objective == "squared":
        raise InputError(
            "the squared objective has no delta", "leave --delta out, or take --objective huber"
        )
    if keywords.get("bootstrap") is not None:
        _check_refits(spec.options)
    return spec


def _check_refits(options: Options) -> None:
    """Raise InputError for refits too few to have one beyond each end of the interval."""
    least = math.ceil(2 / (1 - options.level) - 1e-9)
    if 0 < options.bootstrap < least:
        raise InputError(
            f"an interval at level {options.level:g} takes {least} refits or more, and bootstrap "
            f"is {options.bootstrap}",
            f"give --bootstrap {least} at the least, or 0 for no intervals",
        )


def options_given(spec: OfRuns, given: Given) -> dict[str, Any]:
    """The options of the fit that were given, checked."""
    names = [name for name in OptionsGiven.__annotations__ if given.get(name) is not None]
    return {name: getattr(spec.options, name) for name in names}


def reading_given(given: ReadingGiven) -> dict[str, Any]:
    """How to read the table, as far as it was given."""
    known = ReadingGiven.__annotations__
    return {name: value for name, value in given.items() if name in known and value is not None}

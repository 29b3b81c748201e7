"""`llmscale.read_runs`: the checked table of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import isabstract
from typing import Any, TypeAlias, Unpack

from llmscale.errors import InputError
from llmscale.errors.printable import begun
from llmscale.explain.api.settings import Reading, ReadingGiven
from llmscale.explain.estimation.suitability import needs_of
from llmscale.explain.fit.kept import is_kept
from llmscale.explain.laws import Law, law_named
from llmscale.explain.table import COUNTS, RunTable, parse_columns, read_table
from llmscale.menu import is_own
from llmscale.settings import shows_keywords
from llmscale.settings.tables import with_keywords

LawName: TypeAlias = str | type[Law]
_TOO_LONG = "THE_SAME"
_LONGEST_AGAIN = 400
"""Letters of an option that is printed again; of a longer one a word stands there, which no option
takes."""


@shows_keywords(Reading)
def read_runs(
    source: Any = None,
    *,
    laws: Sequence[LawName] = (),
    **reading: Unpack[ReadingGiven],
) -> RunTable:
    """The usable runs of a results folder, a file, a URL, `-` for a pipe, a table of pandas, polars
    or pyarrow, or a dict of columns; None reads the newest sweep under results/.

    `columns` says which column is what, {"params": "X"}; `units` what it counts in, {"tokens":
    "B"}; `where` keeps the runs that meet every filter, "flops < 1e20 and data == c4"; `best_of`
    only the best of the runs that are alike in these columns, "params,tokens"; `status` are the
    words of finished runs, "done=finished". `count` is what N counts. Columns that `laws` take are
    looked for, too. Raises InputError for what cannot be read as runs."""
    usual = Reading(count=source.count) if isinstance(source, RunTable) else Reading()
    asked = with_keywords(usual, reading, "the call")
    laws = laws_of(laws)
    if isinstance(source, RunTable):
        if asked != usual:
            raise InputError(
                "the table is read already", "give these options to read_runs, with its source"
            )
        return source
    if is_kept(source):
        raise InputError(
            f"{source} holds a fit that was kept, and no runs",
            "name the table; predict and plot take the fit, too",
        )
    columns = asked.columns
    runs = read_table(
        source,
        columns=parse_columns(columns) if isinstance(columns, str) else columns,
        count=asked.count,
        units=asked.units,
        where=asked.where or (),
        best_of=asked.best_of or (),
        status=asked.status,
        needs=[column for law in laws for column in _own_inputs(law)],
        scores=bool(laws) and all(law_named(law).plain for law in laws),
    )
    return replace(runs, asked=given_again(vars(asked)))


def given_again(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The options by which a table was read, for a printed command that reads it in the same
    way."""
    words: list[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            value = ",".join(f"{key}={one}" for key, one in value.items())
        several = value if isinstance(value, (list, tuple)) else [value]
        for one in several:
            if one not in (None, "", COUNTS[0]):  # which is `--count`'s own
                words += [
                    f"--{name.replace('_', '-')}",
                    str(one) if len(str(one)) <= _LONGEST_AGAIN else _TOO_LONG,
                ]
    return tuple(words)


def read_as(words: Sequence[str]) -> dict[str, Any]:
    """The keywords of `read_runs` that options of a command are, as `given_again` writes them.
    Raises InputError for what was too long to write, or cannot be read again."""
    if _TOO_LONG in words:
        raise InputError("an option is too long to be given again", "name the table")
    found: dict[str, Any] = {}
    for option, value in zip(words[::2], words[1::2], strict=True):
        name = option.removeprefix("--").replace("-", "_")
        found[name] = [*found.get(name, ()), value] if name == "where" else value
    parse_columns(found.get("columns"))
    return found


def laws_of(law: Any) -> tuple[LawName, ...]:
    """The laws that `law` names: none, one or several. Raises InputError for what is no law."""
    named = (law,) if isinstance(law, (str, type)) else tuple(law or ())
    for one in named:
        if not isinstance(one, str) and not _is_law(one):
            said = one.__name__ if isinstance(one, type) else begun(repr(one), 60)
            raise InputError(
                f"{said} is no law", "give the name of one (llmscale laws), or a class of Law"
            )
    return named


def _is_law(value: Any) -> bool:
    """Whether `value` is a law that can be fitted, and not what laws are made of."""
    return isinstance(value, type) and issubclass(value, Law) and not isabstract(value)


def _own_inputs(law: str | type[Law]) -> tuple[str, ...]:
    """The columns that are looked for by the names that a law has for them."""
    return needs_of(law_named(law), own=not isinstance(law, str) or is_own(law))

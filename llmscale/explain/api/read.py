"""`llmscale.read_runs`: the checked table of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmscale.errors import InputError
from llmscale.explain.estimation.suitability import inputs_of
from llmscale.explain.laws import Law, law_named
from llmscale.explain.table import COUNTS, RunTable, parse_columns, read_table
from llmscale.menu import is_own

_LONGEST_AGAIN = 400
"""Letters of an option that is printed again; of a longer one a word stands there, which no option
takes.
"""


def read_runs(
    source: Any = None,
    *,
    columns: Mapping[str, str] | str | None = None,
    count: str = COUNTS[0],
    units: Mapping[str, str] | str | None = None,
    where: str | Sequence[str] | None = None,
    status: str | None = None,
    laws: Sequence[str | type[Law]] = (),
) -> RunTable:
    """The usable runs of a results folder, a file, a URL, `-` for a pipe, a table of pandas, polars
    or pyarrow, or a dict of columns; None reads the newest sweep under results/.

    `columns` says which column is what, {"params": "X"}; `units` what it counts in, {"tokens":
    "B"}; `where` keeps the runs that meet every filter, "flops < 1e20 and data == c4"; `status` are
    the words of finished runs, "done=finished". `count` is what N counts. Columns that `laws` take
    are looked for, too. Raises InputError for what cannot be read as runs."""
    _check_laws(laws)
    if isinstance(source, RunTable):
        if columns or units or where or status:
            raise InputError(
                "the table is read already", "give these options to read_runs, with its source"
            )
        return source
    runs = read_table(
        source,
        columns=parse_columns(columns) if isinstance(columns, str) else columns,
        count=count,
        units=units,
        where=where or (),
        status=status,
        needs=[column for law in laws for column in _own_inputs(law)],
    )
    options = {"count": count, "columns": columns, "units": units, "where": where, "status": status}
    return replace(runs, asked=given_again(options))


def given_again(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The options by which a table was read, for a printed command that reads it in the same
    way.
    """
    words: list[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            value = ",".join(f"{key}={one}" for key, one in value.items())
        several = value if isinstance(value, (list, tuple)) else [value]
        for one in several:
            if one not in (None, "", COUNTS[0]):  # which is `--count`'s own
                words += [f"--{name}", str(one) if len(str(one)) <= _LONGEST_AGAIN else "THE_SAME"]
    return tuple(words)


def _check_laws(laws: Sequence[Any]) -> None:
    for law in laws:
        if not (isinstance(law, str) or (isinstance(law, type) and issubclass(law, Law))):
            named = law.__name__ if isinstance(law, type) else repr(law)[:60]
            raise InputError(
                f"{named} is no law", "give the name of one (llmscale laws), or a class of Law"
            )


def _own_inputs(law: str | type[Law]) -> tuple[str, ...]:
    """The columns that a law of one's own takes."""
    if isinstance(law, str) and not is_own(law):
        return ()
    kind = law_named(law)
    return inputs_of(kind)

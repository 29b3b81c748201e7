"""`llmscale fit`: fit laws to a table of runs."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.errors import InputError

if TYPE_CHECKING:
    from llmscale.explain.fit import Fit, Options
    from llmscale.explain.table import RunTable
    from llmscale.runs.results_folder import ResultsFolder

TableArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TABLE",
        help="A results folder, a .csv, .tsv, .parquet, .jsonl or .json file, a URL of either, - "
        "for a pipe, or a"
        " pattern of logs, one a run: 'logs/*/trainer_state.json'; default the newest sweep under "
        "results/.",
    ),
]
LawOption = Annotated[
    list[str] | None,
    typer.Option(
        "--law",
        metavar="NAME",
        help="A law that `llmscale laws` lists, or ./mine.py:MyLaw; repeat it to compare.",
    ),
]
VariableOption = Annotated[
    str, typer.Option(help="What laws in one variable are fitted in: params, tokens or flops.")
]
CountOption = Annotated[
    str, typer.Option(help="What N counts: params, params_non_embedding or params_total.")
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        metavar="params=X,...",
        help="The table's columns: params, tokens, flops, loss, or any input of a law; in quotes "
        "if with a comma.",
    ),
]
UnitsOption = Annotated[
    str | None,
    typer.Option(
        "--units",
        metavar="params=M,...",
        help="What the table counts in: K, M, B, T; PF, EF, PFdays; loss in nats, bits, perplexity "
        "or accuracy.",
    ),
]
StatusOption = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="done=WORD,...",
        help="Which words of the column of statuses count as a finished run.",
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help='Only these runs: "flops < 1e20 and data == c4"; repeat it to add more.',
    ),
]
LevelOption = Annotated[float, typer.Option(help="Share of intervals that should hold the truth.")]


def fit(
    table: TableArgument = None,
    law: LawOption = None,
    method: Annotated[
        str,
        typer.Option(
            help="parametric, or the optimum alone: isoflop, envelope, or all side by side."
        ),
    ] = "parametric",
    variable: VariableOption = "params",
    count: CountOption = "params",
    columns: ColumnsOption = None,
    units: UnitsOption = None,
    where: WhereOption = None,
    status: StatusOption = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="One law for every value of this column, and a joint fit."
        ),
    ] = None,
    level: LevelOption = 0.9,
    bootstrap: Annotated[int, typer.Option(help="Bootstrap refits; 0 gives no intervals.")] = 1000,
    intervals: Annotated[
        str,
        typer.Option(
            help="Of coefficients, by bootstrap, profile (likelihood) or jacobian (covariance)."
        ),
    ] = "bootstrap",
    holdout: Annotated[
        str, typer.Option(help="Runs to leave out and predict: largest, none, or flops>1e19.")
    ] = "largest",
    objective: Annotated[
        str, typer.Option(help="Of the difference of log losses: huber, squared or log-cosh.")
    ] = "huber",
    delta: Annotated[
        float, typer.Option(help="Where huber and log-cosh turn from squares to lines.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    notes: output.NotesOption = False,
    checklist: Annotated[
        bool, typer.Option("--checklist", help="Print the reporting checklist as Markdown.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit scaling laws with intervals, and check them on held-out runs. `--law all` ranks every law
    that suits.

    Example: llmscale fit results/cpu --law power-floor --law power
    """
    from llmscale.explain.fit import Options
    from llmscale.runs.remote import is_url

    options = Options(variable, level, bootstrap, holdout, seed, objective, delta, intervals)
    laws = tuple(law or ())
    _check_combination(laws, method, by, checklist)
    runs = read_runs(table, columns, count, units, where, status, laws)
    if by:
        _fit_groups(runs, by, laws, options, json, notes)
    elif method != "parametric":
        _allocate(runs, method, laws, options, json, notes)
    elif "all" in laws:
        _rank(runs, options, json, notes)
    else:
        # A part of a folder's runs is not the folder's fit, and at a URL only a sweep writes.
        _fit(runs, laws, options, checklist, json, notes, keep=not (where or is_url(table)))


def read_runs(
    table: str | None,
    columns: str | None,
    count: str,
    units: str | None,
    where: list[str] | None,
    status: str | None,
    laws: tuple[str, ...] = (),
) -> "RunTable":
    """The table that the options describe. Raises InputError."""
    from dataclasses import replace

    from llmscale.explain.table import read_table

    runs = read_table(
        table,
        columns=parse_columns(columns),
        count=count,
        units=units,
        where=tuple(where or ()),
        status=status,
        needs=_own_inputs(laws),
    )
    return replace(
        runs,
        asked=given_again(count=count, columns=columns, units=units, where=where, status=status),
    )


def _own_inputs(laws: tuple[str, ...]) -> list[str]:
    """The columns that laws of one's own take."""
    own = [name for name in laws if ".py" in name]
    if not own:
        return []
    from llmscale.explain.estimation.suitability import inputs_of
    from llmscale.explain.laws import find

    return [column for name in own for column in inputs_of(find(name))]


def parse_columns(text: str | None) -> dict[str, str] | None:
    """`params=X,loss="Y, nats"` as a mapping. Raises InputError."""
    from llmscale.explain.table import parse_columns as parse

    return parse(text)


_LONGEST_AGAIN = 400
"""Letters of an option that is printed again; of a longer one a word stands there, which no option
takes.
"""


def given_again(**options: object) -> tuple[str, ...]:
    """The options by which a table was read, for a printed command that reads it in the same
    way.
    """
    words: list[str] = []
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one not in (None, "params"):  # which is `--count`'s own
                words += [f"--{name}", str(one) if len(str(one)) <= _LONGEST_AGAIN else "THE_SAME"]
    return tuple(words)


def _check_combination(laws: tuple[str, ...], method: str, by: str | None, checklist: bool) -> None:
    """Raise InputError for options that do not go together, before anything is read."""
    if "all" in laws and len(laws) > 1:
        raise InputError("--law all already fits every law that suits", "leave the other --law out")
    if by and (len(laws) > 1 or "all" in laws):
        raise InputError("--by fits one law to every group", "name one: --law chinchilla")
    if by and method != "parametric":
        raise InputError(
            f"--by goes with --method parametric, not {method}", "use --where to pick one group"
        )
    if checklist and (by or method != "parametric" or "all" in laws):
        raise InputError(
            "--checklist describes one fit", "name one law, and leave --by and --method out"
        )
    if method != "parametric":
        from llmscale.explain import allocation as methods

        if method != "all":
            methods.find(method)
        if len(laws) > 1 or "all" in laws:
            raise InputError(
                f"--method {method} takes one law, as the surface it is checked on",
                "name one --law",
            )


def _fit(
    runs: "RunTable",
    laws: tuple[str, ...],
    options: "Options",
    checklist: bool,
    json: bool,
    notes: bool,
    *,
    keep: bool,
) -> None:
    from llmscale.commands import _fit_output as shown
    from llmscale.explain.fit import fit_laws, to_json, write_fits
    from llmscale.runs.safe_paths import refuse_links

    if keep and runs.path.is_dir():
        refuse_links(runs.path, with_runs=False)
    fits = fit_laws(runs, laws, options)
    written = write_fits(fits) if keep and not checklist else ()
    if checklist:
        _show_checklist(fits[0], json)
    elif json:
        output.print_json(to_json(fits))
    else:
        shown.show_fits(fits)
    if not checklist:
        output.warn_all(shown.distinct_notes(fits), every=notes)
    if not (json or checklist):
        if written:
            names = ", ".join(path.name for path in written)
            output.results.print(output.styled((f"wrote {names} to {runs.path}", "dim")))
        output.show_next(shown.next_step(fits))


def _show_checklist(one: "Fit", json: bool) -> None:
    from llmscale.explain.diagnostics.checklist import checklist, checklist_sections
    from llmscale.runs.results_folder import ResultsFolder

    known: tuple[Any, ...] = (one,)
    if one.table.path.is_dir():
        folder = ResultsFolder(one.table.path)
        known = (one, folder.read_runs(), _sweep_of(folder))
    if not json:
        output.print_text(checklist(*known))
        return
    sections = {
        title: [{"item": question, "answer": answer} for question, answer in items]
        for title, items in checklist_sections(*known).items()
    }
    output.print_json({"law": one.law.name, "table": str(one.table.path), "checklist": sections})


def _sweep_of(folder: "ResultsFolder") -> dict[str, Any] | None:
    """What sweep.json says, if it is there and whole."""
    try:
        return folder.read_sweep() if folder.sweep_path.exists() else None
    except InputError as error:
        output.warn(
            f"{error.problem}: what it says of the sweep is not in the checklist; {error.fix}"
        )
        return None


def _rank(runs: "RunTable", options: "Options", json: bool, notes: bool) -> None:
    from llmscale.commands import _fit_output as shown
    from llmscale.explain.fit import to_json
    from llmscale.explain.fit.compare import compare

    comparison = compare(runs, options=options)
    if json:
        output.print_json({**to_json(comparison.fits), "comparison": comparison.to_json()})
        return
    shown.show_ranking(comparison)
    best = comparison.fits[:1]
    shown.show_fits(best)
    output.warn_all(shown.distinct_notes(best), every=notes)
    output.show_next(shown.next_step(best))


def _fit_groups(
    runs: "RunTable", by: str, laws: tuple[str, ...], options: "Options", json: bool, notes: bool
) -> None:
    from llmscale.commands import _fit_output as shown
    from llmscale.explain.fit import default_laws
    from llmscale.explain.fit.groups import fit_groups
    from llmscale.explain.table import groups

    parts = groups(runs, by)
    law = (
        laws[0]
        if laws
        else default_laws(min(parts.values(), key=lambda part: len(part.frame)), options.variable)[
            0
        ]
    )
    found = fit_groups(parts, by, law, options)
    if json:
        output.print_json(found.to_json())
    else:
        shown.show_reading(runs, next(iter(found.fits.values())).law.inputs)
        shown.show_groups(found)
    output.warn_all((*runs.notes, *found.notes), every=notes)


def _allocate(
    runs: "RunTable",
    method: str,
    laws: tuple[str, ...],
    options: "Options",
    json: bool,
    notes: bool,
) -> None:
    from llmscale.commands import _fit_output as shown
    from llmscale.explain import allocation as methods

    law = laws[0] if laws else "chinchilla"
    found: Any
    if method == "all":
        found = methods.allocate_all(runs, options, law=law)
    else:
        found = methods.allocate(runs, method, options, law=law)
    if json:
        output.print_json(found.to_json())
    elif method == "all":
        shown.show_reading(runs)
        shown.show_methods(found)
    else:
        shown.show_reading(runs)
        shown.show_allocation(found)
    output.warn_all(found.notes, every=notes)

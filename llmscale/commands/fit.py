"""`llmscale fit`: fit laws to a table of runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmscale.commands import output
from llmscale.errors import InputError, Note

if TYPE_CHECKING:
    from llmscale.fit import Fit

TableArgument = Annotated[
    Path | None,
    typer.Argument(metavar="TABLE", help="A results folder, a .parquet or a .csv; default the newest under results/."),
]
LawOption = Annotated[
    list[str] | None,
    typer.Option("--law", metavar="NAME", help="power, power-floor or chinchilla; repeat it to compare several."),
]
CountOption = Annotated[str, typer.Option(help="What N counts: params, params_non_embedding or params_total.")]
ColumnsOption = Annotated[
    str | None, typer.Option(metavar="params=X,...", help="The table's columns for params, tokens, flops, loss.")
]


def fit(
    table: TableArgument = None,
    law: LawOption = None,
    variable: Annotated[str, typer.Option(help="What power laws are fitted in: params, tokens or flops.")] = "params",
    count: CountOption = "params",
    columns: ColumnsOption = None,
    level: Annotated[float, typer.Option(help="Share of intervals that should hold the truth.")] = 0.9,
    bootstrap: Annotated[int, typer.Option(help="Bootstrap refits; 0 gives no intervals.")] = 1000,
    holdout: Annotated[
        str, typer.Option(help="Runs to leave out and predict: largest, none, or flops>1e19.")
    ] = "largest",
    delta: Annotated[float, typer.Option(help="Huber's delta on log loss.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit scaling laws with intervals, and check them on held-out runs.

    Example: llmscale fit results/cpu --law power-floor --law power
    """
    from llmscale.fit import fit_laws, to_json, write_fits
    from llmscale.table import read_table

    runs = read_table(table, columns=parse_columns(columns), count=count)
    fits = fit_laws(
        runs, law or (), variable=variable, level=level, bootstrap=bootstrap, holdout=holdout, seed=seed, delta=delta
    )
    written = write_fits(fits)
    if json:
        output.print_json(to_json(fits))
    else:
        _show(fits)
    for note in _distinct_notes(fits):
        output.warn(note)
    if written and not json:
        output.results.print(f"[dim]wrote {', '.join(path.name for path in written)} to {runs.path}[/dim]")
    if not json:
        output.results.print(f"next: {_next_step(fits)}", soft_wrap=True)


def parse_columns(text: str | None) -> dict[str, str] | None:
    """`params=X,loss=Y` as a mapping. Raises InputError."""
    if text is None:
        return None
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    for name, sign, column in pairs:
        if not (name.strip() and sign and column.strip()):
            raise InputError(
                f"--columns {text!r} is not a list of quantity=column", "write it like params=X,tokens=Y,loss=Z"
            )
    return {name.strip(): column.strip() for name, _, column in pairs}


def _show(fits: "tuple[Fit, ...]") -> None:
    table = fits[0].table
    output.results.print(
        f"[bold]{len(table.frame)} runs[/bold] from {output.escape(str(table.path))}, N is {table.count}",
        soft_wrap=True,
    )
    for one in fits:
        output.results.print(f"  [bold]{one.law.name}[/bold]: {one.law.formula}  [dim]({one.law.source})[/dim]")

    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    shown.add_column("", no_wrap=True)
    for one in fits:
        shown.add_column(one.law.name, justify="right", no_wrap=True)
        shown.add_column(f"{100 * one.level:g}% interval", no_wrap=True)
    names = dict.fromkeys(name for one in fits for name in one.law.coefficient_names())
    for name in names:
        cells: list[str] = []
        for one in fits:
            value = one.law.coefficients().get(name)
            cells += ["", ""] if value is None else [_digits(value, 5), _interval(one.intervals.get(name))]
        shown.add_row(name, *cells)
    if any(one.compute_optimal for one in fits):
        for name, meaning in (("a", "N* ∝ C^a"), ("b", "D* ∝ C^b")):
            cells = []
            for one in fits:
                best = one.compute_optimal
                cells += [_digits(best[name], 4), _interval(best["intervals"].get(name))] if best else ["", ""]
            shown.add_row(f"{name}, {meaning}", *cells)
    shown.add_row("objective", *(cell for one in fits for cell in (f"{one.objective:.4g}", "")), style="dim")
    output.results.print(shown)

    for run in table.excluded:
        output.results.print(f"left out: {run.run_id} ({run.reason})", markup=False)
    for one in fits:
        if one.holdout:
            _show_holdout(one)


def _show_holdout(one: "Fit") -> None:
    check = one.holdout
    assert check is not None
    count = len(check.runs)
    runs = "1 run" if count == 1 else f"{count} runs"
    inside = check.inside_interval
    verdict = ""
    if inside is not None:
        style = "green" if inside >= one.level * count - 1e-9 else "yellow"
        which = {0: "outside", count: "inside"}.get(inside, f"{inside} of {count} inside") if count == 1 else None
        verdict = f", [{style}]{which or f'{inside} of {count} inside'} the {100 * one.level:g}% interval[/{style}]"
    output.results.print(
        f"held out ({output.escape(check.rule)}): [bold]{check.law.name}[/bold] fitted without {runs} predicts"
        f" {'it' if count == 1 else 'them'} with a mean error of {check.mean_abs_rel_error:.2%}{verdict}",
        soft_wrap=True,
    )
    for row in check.runs.head(5).itertuples():
        interval = f" [{row.low:.4g}, {row.high:.4g}]" if check.has_interval else ""
        output.results.print(
            f"  {row.run_id}: measured {row.loss:.4f}, predicted {row.predicted:.4f}{interval}", markup=False
        )
    if count > 5:
        output.results.print(f"  and {count - 5} more: see --json")


def _digits(value: float, significant: int) -> str:
    """`value` to so many significant digits, thousands in full."""
    return f"{value:.0f}" if 10**significant <= abs(value) < 1e6 else f"{value:#.{significant}g}".rstrip(".")


def _interval(ends: tuple[float, float] | None) -> str:
    return output.escape(f"[{_digits(ends[0], 3)}, {_digits(ends[1], 3)}]") if ends else "-"


def _distinct_notes(fits: "tuple[Fit, ...]") -> list[Note]:
    """Every note once; one that only some of the laws carry names them."""
    carriers: dict[Note, list[str]] = {}
    for one in fits:
        for note in one.notes:
            carriers.setdefault(note, []).append(one.law.name)
    return [
        note if len(laws) == len(fits) else Note(note.code, f"{', '.join(laws)}: {note.message}")
        for note, laws in carriers.items()
    ]


def _next_step(fits: "tuple[Fit, ...]") -> str:
    codes = {note.code for one in fits for note in one.notes}
    table = fits[0].table.path
    if codes & {"floor-not-identified", "no-interval"}:
        return "measure more sizes: llmscale sweep --sizes 30k,100k,300k,1M,3M"
    plot = f"llmscale plot {table} --law {fits[0].law.name}"
    if codes & {"one-token-budget", "tokens-proportional"}:
        return f"{plot}; for a law in N and D: llmscale sweep --sizes ... --tokens 5x,20x,80x"
    return plot

"""`llmscale predict`: forecast the loss of runs that nobody has made yet."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import _explain_options as options
from llmscale.commands import output
from llmscale.quantity import format_count, parse_count

if TYPE_CHECKING:
    from rich.text import Text

    from llmscale.explain.forecast.forecast import Forecast

ParamsOption = Annotated[
    str | None, typer.Option("--params", "-N", help="Sizes, like 7B or 1B,7B,70B.")
]
TokensOption = Annotated[
    str | None,
    typer.Option("--tokens", "-D", help="Tokens, like 1.4T; or 20x for 20 a parameter."),
]
FlopsOption = Annotated[
    str | None,
    typer.Option("--flops", "-C", help="A budget, like 1e23: alone, its best size and tokens."),
]


def predict(
    table: options.FitArgument = None,
    params: ParamsOption = None,
    tokens: TokensOption = None,
    flops: FlopsOption = None,
    law: options.LawOption = None,
    variable: options.VariableOption = None,
    count: options.CountOption = "params",
    columns: options.ColumnsOption = None,
    units: options.UnitsOption = None,
    where: options.WhereOption = None,
    status: options.StatusOption = None,
    level: options.LevelOption = None,
    bootstrap: options.BootstrapOption = None,
    objective: options.ObjectiveOption = None,
    delta: options.DeltaOption = None,
    seed: options.SeedOption = None,
    refit: options.RefitOption = False,
    notes: output.NotesOption = False,
    json: options.JsonOption = False,
) -> None:
    """Forecast the loss at a size and tokens, or at the best ones of a budget, with what such
    forecasts have held.

    Example: llmscale predict runs.csv --params 70B --tokens 1.4T
    """
    import llmscale

    asked: dict[str, Any] = {"params": _counts(params, "params"), "flops": _counts(flops, "flops")}
    asked["tokens"] = None if tokens is None else tokens.split(",")
    reading = options.reading(columns, count, units, where, status)
    made = options.made(variable, level, bootstrap, seed, objective, delta)
    found = llmscale.predict(table, law=law, refit=refit, **asked, **reading, **made)
    if json:
        output.print_json(found.to_json())
    else:
        _show(found)
    output.warn_all(found.all_notes, every=notes)


def _counts(text: str | None, name: str) -> list[int] | None:
    return None if text is None else [parse_count(item, name) for item in text.split(",")]


def _show(found: "Forecast") -> None:
    from llmscale.commands._fit_output import show_reading
    from llmscale.explain.laws import LETTERS

    assert found.fit is not None
    fit = found.fit
    output.results.say("forecast:", "bold", found.verdict, "bold")
    fitted = f": {fit.law.formula}, fitted to {fit.origin.size}"
    output.results.print(output.styled((fit.law.name, "bold"), fitted))
    show_reading(fit.origin, fit.law.inputs)
    columns: list[str | Text] = [
        *(LETTERS.get(name, name) for name in found.at),
        "loss",
        output.stacked(f"{100 * found.level:g}% interval", "by noise alone"),
        output.stacked("beyond", "the runs"),
    ]
    heading = "best of the budget" if found.optima else "forecast"
    table = output.make_table(heading, *columns, left=0)
    for place in range(len(found.rows())):
        table.add_row(*_cells(found, place))
    output.results.print(table)
    if found.coverage:
        output.results.print(f"coverage: {found.coverage}")


def _cells(found: "Forecast", place: int) -> "list[str | Text]":
    """One point: what was asked for, the loss, both intervals, and how far it lies beyond."""
    row = found.rows()[place]
    best = found.optima[place].intervals if found.optima else {}
    cells: list[str | Text] = []
    for name in found.at:
        cell = f"{row[name]:.3g}" if name == "flops" else format_count(row[name])
        if name in best:
            low, high = best[name]
            cells.append(output.stacked(cell, f"[{format_count(low)}, {format_count(high)}]"))
        else:
            cells.append(cell)
    wide, plain = _ends(row["low"], row["high"]), _ends(row["plain_low"], row["plain_high"])
    horizon = row["horizon"]
    beyond = f"{math.exp(horizon):.3g}x" if horizon > 0 else "inside"
    return [*cells, f"{row['loss']:.4f}", output.stacked(wide, plain), beyond]


def _ends(low: float, high: float) -> str:
    return f"[{low:.4f}, {high:.4f}]" if math.isfinite(low) else "-"

"""`llmscale predict`: the loss of runs that nobody has made yet, and the best split of a budget."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmscale.commands import output
from llmscale.commands.fit import (
    ColumnsOption,
    CountOption,
    LevelOption,
    StatusOption,
    TableArgument,
    UnitsOption,
    VariableOption,
    WhereOption,
    read_runs,
)
from llmscale.errors import InputError, Note, both
from llmscale.errors.command_lines import command_line

if TYPE_CHECKING:
    from rich.text import Text

    from llmscale.explain.fit import Fit
    from llmscale.explain.forecast.backtest import Backtest
    from llmscale.explain.forecast.forecast import Forecast


def predict(
    table: TableArgument = None,
    params: Annotated[
        str | None, typer.Option("--params", "-N", help="Sizes, like 7B or 1B,7B,70B.")
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", "-D", help="Tokens, like 1.4T; or 20x for 20 a parameter."),
    ] = None,
    flops: Annotated[
        str | None,
        typer.Option("--flops", "-C", help="A budget, like 1e23: alone, its best size and tokens."),
    ] = None,
    law: Annotated[
        str | None, typer.Option("--law", metavar="NAME", help="A law that `llmscale laws` lists.")
    ] = None,
    variable: VariableOption = "params",
    count: CountOption = "params",
    columns: ColumnsOption = None,
    units: UnitsOption = None,
    where: WhereOption = None,
    status: StatusOption = None,
    level: LevelOption = 0.9,
    bootstrap: Annotated[int, typer.Option(help="Bootstrap refits.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    notes: output.NotesOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Forecast the loss at a size and tokens, or at the best ones of a budget, with what such
    forecasts have held.

    Example: llmscale predict runs.csv --params 70B --tokens 1.4T
    """
    from dataclasses import replace

    import numpy as np

    from llmscale.explain.estimation.suitability import default_laws, default_variable
    from llmscale.explain.fit import Options, fit_law
    from llmscale.explain.forecast.backtest import check
    from llmscale.explain.forecast.forecast import forecast

    asked = {
        name: _counts(text, name)
        for name, text in (("params", params), ("flops", flops))
        if text is not None
    }
    if tokens is not None:
        asked["tokens"] = _tokens(tokens, asked.get("params"))
    if not asked:
        example = command_line(
            "llmscale", "predict", *([table] if table else []), "--flops", "1e23"
        )
        raise InputError(
            "nothing was asked for", f"give --params and --tokens, or --flops: {example}"
        )
    _one_length(asked)
    options = Options(variable, level, bootstrap, "none", seed)
    runs = read_runs(table, columns, count, units, where, status, (law,) if law else ())
    if law is None:
        options = replace(options, variable=default_variable(runs, variable))
    fit = fit_law(runs, law or default_laws(runs, options.variable)[0], options)
    optima = (
        _optima(fit, asked) if set(asked) == {"flops"} and "flops" not in fit.law.inputs else []
    )
    if optima:
        asked |= {name: [best[name] for best in optima] for name in ("params", "tokens")}
    given = {name: values for name, values in asked.items() if name in fit.law.inputs or not optima}
    _check_given(fit, tuple(given))
    backtest = check(fit) if bootstrap else None
    found = forecast(
        fit,
        level=level,
        check=backtest,
        **{name: np.array(values) for name, values in given.items()},
    )
    if json:
        output.print_json(_payload(fit, found, backtest, asked, optima))
    else:
        _show(fit, found, asked, optima)
    output.warn_all((*fit.notes, *found.notes), every=notes)


def _counts(text: str, name: str) -> list[float]:
    from llmscale.quantity import parse_count

    return [float(parse_count(item, name)) for item in text.split(",")]


def _tokens(text: str, params: list[float] | None) -> list[float]:
    """Token counts; `20x` is 20 for each of `params`."""
    items = [item.strip() for item in text.split(",")]
    if not any(item.lower().endswith("x") for item in items):
        return _counts(text, "tokens")
    if params is None:
        raise InputError(
            f"--tokens {text} is in tokens a parameter, and no --params are given",
            "add --params 7B",
        )
    if len(items) == 1:
        items = items * len(params)
    if len(items) != len(params):
        raise InputError(
            f"--tokens has {len(items)} values and --params {len(params)}",
            "give as many of each, or one",
        )
    return [
        _counts(item[:-1], "tokens a parameter")[0] * size
        if item.lower().endswith("x")
        else _counts(item, "tokens")[0]
        for item, size in zip(items, params, strict=True)
    ]


def _one_length(asked: dict[str, list[float]]) -> None:
    """Repeat single values, so that every list is as long.

    Raises InputError where that cannot be.
    """
    longest = max(len(values) for values in asked.values())
    for name, values in asked.items():
        if len(values) not in (1, longest):
            raise InputError(
                f"--{name} has {len(values)} values where others have {longest}",
                "give as many, or one",
            )
        asked[name] = values * (longest if len(values) == 1 else 1)


def _check_given(fit: "Fit", given: tuple[str, ...]) -> None:
    """Raise InputError unless `given` is what the law predicts from, naming the options that give
    it.
    """
    needed = fit.law.inputs
    if set(given) == set(needed):
        return
    asked = both([f"--{name}" for name in given])
    if set(needed) <= {"params", "tokens", "flops"}:
        fix = (
            f"give {both([f'--{name}' for name in needed])}, and nothing else; or name another "
            "--law"
        )
    else:
        fix = (
            "name another --law; in Python, fit.fit_law(TABLE, LAW).predict(...) takes every input"
        )
    were = "was" if len(given) == 1 else "were"
    raise InputError(f"{fit.law.name} predicts from {both(needed)}, and {asked} {were} given", fix)


def _optima(fit: "Fit", asked: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [fit.optimal(C) for C in asked["flops"]]


def _show(
    fit: "Fit", found: "Forecast", asked: dict[str, list[float]], optima: list[dict[str, Any]]
) -> None:
    import math

    from llmscale.commands._fit_output import show_reading
    from llmscale.quantity import format_count

    fitted = f": {fit.law.formula}, fitted to {fit.table.size}"
    output.results.print(output.styled((fit.law.name, "bold"), fitted))
    show_reading(fit.table, fit.law.inputs)
    words = {"params": "N", "tokens": "D", "flops": "C"}
    heading = "best of the budget" if optima else "forecast"
    interval = f"{100 * found.level:g}% interval"
    widths = output.stacked(interval, "by noise alone")
    columns: list[str | Text] = [
        *(words[name] for name in asked),
        "loss",
        widths,
        output.stacked("beyond", "the runs"),
    ]
    table = output.make_table(heading, *columns, left=0)
    for row, (loss, horizon) in enumerate(zip(found.loss, found.horizon, strict=True)):
        cells: list[str | Text] = []
        for name, values in asked.items():
            cell: str | Text = (
                f"{values[row]:.3g}" if name == "flops" else format_count(values[row])
            )
            ends = optima[row]["intervals"].get(name) if optima else None
            if ends:
                cell = output.stacked(
                    str(cell), f"[{format_count(ends[0])}, {format_count(ends[1])}]"
                )
            cells.append(cell)
        ends = ((found.low[row], found.high[row]), (found.plain_low[row], found.plain_high[row]))
        wide, plain = (f"[{a:.4f}, {b:.4f}]" if math.isfinite(a) else "-" for a, b in ends)
        cells += [f"{loss:.4f}", output.stacked(wide, plain)]
        table.add_row(*cells, f"{math.exp(horizon):.3g}x" if horizon > 0 else "inside")
    output.results.print(table)
    if found.coverage:
        output.results.print(f"coverage: {found.coverage}")


def _payload(
    fit: "Fit",
    found: "Forecast",
    backtest: "Backtest | None",
    asked: dict[str, list[float]],
    optima: list[dict[str, Any]],
) -> dict[str, Any]:
    notes: list[Note] = [*fit.notes, *found.notes]
    rows = []
    for row, loss in enumerate(found.loss):
        point: dict[str, Any] = {name: values[row] for name, values in asked.items()}
        point |= {"loss": float(loss), "low": float(found.low[row]), "high": float(found.high[row])}
        point |= {
            "plain_low": float(found.plain_low[row]),
            "plain_high": float(found.plain_high[row]),
        }
        point["horizon"] = float(found.horizon[row])
        if optima:
            point["intervals"] = {
                name: list(ends) for name, ends in optima[row]["intervals"].items()
            }
        rows.append(point)
    return {
        "law": fit.law.name,
        "columns": dict(fit.table.columns),
        "coefficients": {name: float(value) for name, value in fit.law.coefficients().items()},
        "level": found.level,
        "predictions": rows,
        "coverage": found.coverage,
        "backtest": backtest and backtest.to_json(),
        "warnings": [{"code": note.code, "message": note.message} for note in notes],
    }

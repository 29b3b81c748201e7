"""The options of the commands that explain a table of runs: fit, predict, plot. One place each."""

from typing import Annotated, Any

import typer

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
LawsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--law",
        metavar="NAME",
        help="A law that `llmscale laws` lists, or ./mine.py:MyLaw; repeat it to compare.",
    ),
]
LawOption = Annotated[
    str | None,
    typer.Option(
        "--law", metavar="NAME", help="A law that `llmscale laws` lists, or ./mine.py:MyLaw."
    ),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        metavar="params=X,...",
        help="The table's columns: params, tokens, flops, loss, or any input of a law; in quotes "
        "if with a comma.",
    ),
]
CountOption = Annotated[
    str, typer.Option(help="What N counts: params, params_non_embedding or params_total.")
]
UnitsOption = Annotated[
    str | None,
    typer.Option(
        "--units",
        metavar="params=M,...",
        help="What the table counts in: K, M, B, T; PF, EF, PFdays; loss in nats, bits, "
        "perplexity or accuracy.",
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
StatusOption = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="done=WORD,...",
        help="Which words of the column of statuses count as a finished run.",
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(help="parametric, or the optimum only: isoflop, envelope, or all side by side."),
]
ByOption = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="One law for every value of this column, and a joint fit."),
]
# Options of a fit have no default of their own here: what is not given is as in the fit that was
# kept, or as Options has it.
VariableOption = Annotated[
    str | None,
    typer.Option(
        help="What laws in one variable are fitted in: params, tokens or flops.",
        show_default="params",
    ),
]
LevelOption = Annotated[
    float | None,
    typer.Option(help="Share of intervals that should hold the truth.", show_default="0.9"),
]
BootstrapOption = Annotated[
    int | None,
    typer.Option(help="Bootstrap refits; 0 gives no intervals.", show_default="1000"),
]
IntervalsOption = Annotated[
    str | None,
    typer.Option(
        help="Of coefficients, by bootstrap, profile (likelihood) or jacobian (covariance).",
        show_default="bootstrap",
    ),
]
HoldoutOption = Annotated[
    str | None,
    typer.Option(
        help="Runs to leave out and predict: largest, none, or flops>1e19.", show_default="largest"
    ),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        help="Of the difference of log losses: huber, squared or log-cosh.", show_default="huber"
    ),
]
DeltaOption = Annotated[
    float | None,
    typer.Option(help="Where huber and log-cosh turn from squares to lines.", show_default="0.001"),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the bootstrap.", show_default="0")]
KeepOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE.json",
        help="Keep the fit here, for `predict` and `plot`; of a results folder it is kept as "
        "fit-LAW.json in it.",
    ),
]
RefitOption = Annotated[
    bool, typer.Option("--refit", help="Fit again, whatever fit is kept next to the table.")
]
ChecklistOption = Annotated[
    bool, typer.Option("--checklist", help="Print the reporting checklist as Markdown.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def reading(
    columns: str | None,
    count: str,
    units: str | None,
    where: list[str] | None,
    status: str | None,
) -> dict[str, Any]:
    """How the table is read, as the library takes it."""
    return {"columns": columns, "count": count, "units": units, "where": where, "status": status}


def made(
    variable: str | None,
    level: float | None,
    bootstrap: int | None,
    seed: int | None,
    objective: str | None,
    delta: float | None,
) -> dict[str, Any]:
    """How the fit is made, as the library takes it."""
    how = {"variable": variable, "level": level, "bootstrap": bootstrap, "seed": seed}
    return {**how, "objective": objective, "delta": delta}

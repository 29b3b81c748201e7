"""Figures show what the table and the law say; `llmscale plot` writes them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from typer.testing import CliRunner

from llmscale import plot
from llmscale.commands import app
from llmscale.explain.figures import FIGURES, Evidence
from llmscale.explain.figures._axes import spaced_ticks
from llmscale.explain.figures._legend import formula
from llmscale.explain.figures._style import ENDINGS, render
from llmscale.explain.fit import fit_laws
from llmscale.explain.forecast.forecast import law_band
from llmscale.explain.inside.ladder_figure import draw as draw_ladder
from llmscale.explain.laws import LAWS
from llmscale.explain.table import read_table
from llmscale.quantity import format_count
from llmscale.runs.columns import rows_table
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CurvePoint
from llmscale.runs.safe_write import write_table

SIZES = (35e3, 64e3, 156e3, 385e3, 1.14e6)


def frame(
    sizes: tuple[float, ...] = SIZES, budgets: tuple[float, ...] = (3e6,), seeds: int = 1
) -> pd.DataFrame:
    """Runs of a known law with a little noise, and one that diverged."""
    random = np.random.default_rng(0)
    rows = [
        {
            "run_id": f"run-{n:.0f}-{d:.0f}-{seed}",
            "size": f"{n:.0f}",
            "status": "done",
            "seed": seed,
            "params": n,
            "params_non_embedding": n / 2,
            "params_total": 2 * n,
            "tokens": d,
            "flops": 6 * n * d,
            "loss": (1.8 + 45 / n**0.33 + 400 / d**0.3) * np.exp(random.normal(0, 0.002)),
        }
        for n in sizes
        for d in budgets
        for seed in range(seeds)
    ]
    rows.append({**rows[0], "run_id": "lost", "status": "diverged", "loss": np.nan})
    return pd.DataFrame(rows)


def results(folder: Path, runs: pd.DataFrame) -> Path:
    """A results folder with these runs and a curve for each."""
    folder.mkdir()
    runs.to_parquet(folder / "runs.parquet")
    points = []
    for run in runs.to_dict("records"):
        for step in range(1, 101):
            share = step / 100
            loss = 3.0 + 4 * np.exp(-6 * share) if run["status"] == "done" else 3 + 10 * share
            points.append(
                CurvePoint(
                    run["run_id"],
                    step,
                    int(run["tokens"] * share),
                    run["flops"] * share,
                    loss,
                    float(np.exp(loss)),
                    loss if step % 20 == 0 else None,
                    None,
                    0.01,
                    1.0,
                    1000.0,
                    float(step),
                )
            )
    write_table(folder / "curves.parquet", rows_table(CurvePoint, points))
    return folder


def evidence(folder: Path) -> Evidence:
    table = read_table(folder)
    place = ResultsFolder(folder)
    return Evidence(
        table,
        fits=fit_laws(table, bootstrap=30),
        runs=place.read_runs(),
        curves=place.read_curves(),
    )


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("figures") / "ladder", frame())


@pytest.fixture(scope="module")
def fitted(ladder: Path) -> Evidence:
    return evidence(ladder)


@pytest.mark.parametrize("kind", ["scaling", "curves"])
def test_figures_of_a_sweep_label_their_axes_with_units_and_say_what_they_show(
    kind: str, fitted: Evidence
) -> None:
    drawing = FIGURES.find(kind).draw(fitted, width=3.4, title="A title")
    assert isinstance(drawing.figure, Figure)
    assert drawing.figure.get_figwidth() == 3.4
    axes = drawing.figure.axes
    assert any("nats per token" in ax.get_ylabel() for ax in axes)
    assert all(ax.get_xlabel() for ax in axes)
    assert drawing.n_runs >= len(SIZES)
    assert drawing.n_excluded == 1
    legends = [
        legend for legend in (*drawing.figure.legends, *(ax.get_legend() for ax in axes)) if legend
    ]
    assert any("diverged" in text.get_text() for legend in legends for text in legend.get_texts())
    drawing.figure.canvas.draw()
    for ax in axes:
        labels = [text.get_text() for text in ax.get_yticklabels() if text.get_text()]
        assert len(labels) != 1, "an axis with one label cannot be read"


def drawn(figure: Figure, label: str) -> list[np.ndarray]:
    """x and y of every line of that label on the main axes."""
    return [
        np.asarray(line.get_xydata(), float)
        for line in figure.axes[0].lines
        if line.get_label() == label
    ]


def legend_text(figure: Figure) -> str:
    return "\n".join(text.get_text() for legend in figure.legends for text in legend.get_texts())


def test_the_scaling_figure_draws_every_run_and_the_held_out_one_open(fitted: Evidence) -> None:
    drawing = FIGURES.find("scaling").draw(fitted, width=3.4)
    figure = drawing.figure
    (runs,), (held,) = drawn(figure, "runs"), drawn(figure, "held out")
    points = fitted.table.frame[["params", "loss"]].to_numpy()
    assert np.concatenate([runs, held]) == pytest.approx(points)
    assert held[0, 0] == SIZES[-1]
    assert drawing.n_held_out == 1
    holdout = fitted.fits[0].holdout
    assert holdout is not None
    assert drawn(figure, "excluded")[0][0, 0] == SIZES[0]
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    assert f"{holdout.runs['predicted'][0] / holdout.runs['loss'][0] - 1:+.2%}".replace(
        "-", "−"
    ) in legend_text(figure)
    assert "excluded: diverged (1 run)" in legend_text(figure)


def test_lines_and_bands_are_the_laws_own_and_go_on_dashed_beyond_the_runs(
    fitted: Evidence,
) -> None:
    figure = FIGURES.find("scaling").draw(fitted, width=3.4).figure
    for fit in fitted.fits:
        pieces = drawn(figure, f"law {fit.law.name}")
        for piece in pieces:
            assert piece[:, 1] == pytest.approx(fit.law.loss(piece[:, 0]))
        line = {
            one.get_linestyle(): one
            for one in figure.axes[0].lines
            if one.get_label() == f"law {fit.law.name}"
        }
        assert set(line) == {"-", "--"}
        assert np.asarray(line["-"].get_xdata(), float)[[0, -1]] == pytest.approx(
            [SIZES[0], SIZES[-1]]
        )
        assert pieces[-1][-1, 0] > 1.5 * SIZES[-1]
        bands = [
            one for one in figure.axes[0].collections if one.get_label() == f"band {fit.law.name}"
        ]
        for band, piece in zip(bands, pieces, strict=True):
            low, high = law_band(fit, params=piece[:, 0])
            corners = np.asarray(band.get_paths()[0].vertices)
            for edge in (low, high):
                assert np.isclose(corners[:, 1], edge[:, None]).any(axis=1).all()


def test_seeds_of_a_size_share_one_marker_at_their_mean(tmp_path: Path) -> None:
    shown = evidence(results(tmp_path / "seeds", frame(seeds=3)))
    figure = FIGURES.find("scaling").draw(shown, width=3.4).figure
    means = shown.table.frame.groupby("params")["loss"].mean()
    marked = np.concatenate([*drawn(figure, "runs"), *drawn(figure, "held out")])
    assert marked[:, 0] == pytest.approx(means.index)
    assert marked[:, 1] == pytest.approx(means.to_numpy())
    assert sum(len(dots) for dots in drawn(figure, "seeds")) == 3 * len(SIZES)
    assert "(dots: seeds)" in legend_text(figure)


def test_runs_of_several_texts_are_no_seeds_and_are_warned_of_as_fit_does(tmp_path: Path) -> None:
    table = tmp_path / "mix.csv"
    floors = {"prose": 3.0, "half": 2.8, "code": 2.6}
    pd.DataFrame(
        {"data": data, "seed": 0, "params": n, "tokens": 4e6, "loss": floor + 45 / n**0.33}
        for n in (1e5, 4e5)
        for data, floor in floors.items()
    ).to_csv(table, index=False)
    drawing = plot(table, bootstrap=0)
    assert "seeds" not in legend_text(drawing.figure)
    assert all(f"data {name}" in legend_text(drawing.figure) for name in floors)
    assert [len(points) for points in drawn(drawing.figure, "runs")] == [2, 2, 2]
    assert "mixed-data" in [note.code for note in drawing.notes]


def test_a_ladders_points_and_legend_are_clear_of_the_edges_of_its_axes() -> None:
    run: dict[str, Any] = {"induction_scores": [[0.01, 0.002]], "induction_score": 0.01}
    ladder: Any = SimpleNamespace(
        repeated=64,
        runs=[
            SimpleNamespace(params=n, induction_gain=-0.01, attention_distance=d, **run)
            for n, d in ((1e5, 18.6), (3e5, 20.1))
        ],
    )
    figure = draw_ladder(ladder, 7).figure
    render(figure, "png")
    assert figure.axes[2].get_ylim()[1] > 20.1 * 1.05
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(ax.bbox) for ax in figure.axes)


def test_one_size_at_two_budgets_is_no_seeds(tmp_path: Path) -> None:
    table = tmp_path / "tokens.csv"
    runs = pd.DataFrame({"params": 1e5, "tokens": [1e6, 4e6], "loss": [4.0, 3.5]})
    runs.to_csv(table, index=False)
    drawing = plot(table, law="power", variable="tokens", bootstrap=0)
    assert "dots" not in legend_text(drawing.figure)


def test_several_budgets_are_drawn_as_one_curve_of_the_law_each(tmp_path: Path) -> None:
    budgets = (1e6, 3e6, 1e7, 3e7)
    shown = evidence(results(tmp_path / "grid", frame(budgets=budgets)))
    (fit,) = shown.fits
    assert fit.law.name == "chinchilla"
    figure = FIGURES.find("scaling").draw(shown, width=3.4).figure
    pieces = drawn(figure, "law chinchilla")
    inside = [
        piece
        for piece in pieces
        if piece[0, 0] == pytest.approx(SIZES[0]) and piece[-1, 0] < 1.01 * SIZES[-1]
    ]
    assert len(inside) == len(budgets)
    for piece, budget in zip(inside, budgets, strict=True):
        assert piece[:, 1] == pytest.approx(fit.law.loss(piece[:, 0], budget))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1M", "3M", "10M", "30M"]


@pytest.mark.parametrize("number", [2, 3])
def test_a_few_sizes_without_a_held_out_check_are_drawn(number: int, tmp_path: Path) -> None:
    drawing = FIGURES.find("scaling").draw(
        evidence(results(tmp_path / "few", frame(SIZES[:number])))
    )
    assert (drawing.n_runs, drawing.n_held_out) == (number, 0)
    assert "held out" not in legend_text(drawing.figure)


@pytest.mark.parametrize(("width", "title"), [(3.4, None), (7, "A title")])
@pytest.mark.parametrize("kind", ["scaling", "curves"])
def test_nothing_is_cut_off_and_no_legend_lies_on_the_axes(
    kind: str, width: float, title: str | None, fitted: Evidence
) -> None:
    figure = FIGURES.find(kind).draw(fitted, width=width, title=title).figure
    render(figure, "png")
    outside = figure.get_tightbbox()
    assert outside.x0 >= -0.02
    assert outside.y0 >= -0.02
    assert outside.x1 <= width + 0.02
    assert outside.y1 <= figure.get_figheight() + 0.02
    for legend in figure.legends:
        for ax in figure.axes:
            assert not legend.get_window_extent().overlaps(ax.bbox)
        for other in figure.legends:
            assert other is legend or not legend.get_window_extent().overlaps(
                other.get_window_extent()
            )


@pytest.mark.parametrize("name", LAWS.names)
def test_the_formula_of_every_law_reads_as_mathematics(name: str) -> None:
    law = LAWS.find(name)
    text = formula(law(*np.ones(len(law.coefficient_names()))).formula)
    assert text.count("$") == 2
    for greek in ("alpha", "eta"):
        assert not re.search(rf"(?<![\\a-z]){greek}\b", text)
    MathTextParser("path").parse(text)


@pytest.mark.parametrize(
    "limits",
    [
        *((2.9, 4.2), (3.3, 3.4), (1.95, 2.4), (1.5, 11.0), (0.65, 0.68), (2.0, 300.0)),
        (0.0018, 0.0031),
    ],
)
def test_an_axis_of_loss_has_from_three_to_nine_labels(limits: tuple[float, float]) -> None:
    ticks = spaced_ticks(*limits, most=8)
    assert 3 <= len(ticks) <= 9
    assert limits[0] <= min(ticks) < max(ticks) <= limits[1]
    assert ticks == sorted(set(ticks))


def test_curves_show_every_size_once_in_the_legend_and_mark_the_run_that_diverged(
    tmp_path: Path,
) -> None:
    folder = results(tmp_path / "seeds", frame(seeds=2))
    place = ResultsFolder(folder)
    shown = Evidence(read_table(folder), runs=place.read_runs(), curves=place.read_curves())
    drawing = FIGURES.find("curves").draw(shown, width=3.4)
    tokens, compute = drawing.figure.axes
    assert "tokens" in tokens.get_xlabel()
    assert "FLOPs" in compute.get_xlabel()
    assert tokens.get_ylim() == compute.get_ylim()
    assert drawing.n_runs == 2 * len(SIZES) + 1
    assert sorted(text.get_text() for text in drawing.figure.legends[1].get_texts()) == sorted(
        map(format_count, SIZES)
    )
    for ax in (tokens, compute):
        (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
        assert np.asarray(cross.get_ydata(), float)[0] <= ax.get_ylim()[1]
    evaluated = [line for line in tokens.lines if np.size(line.get_xdata()) == 5]
    assert len(evaluated) == drawing.n_runs
    # The legend's line is like those of the figure: with dots, or without.
    validation = drawing.figure.legends[0].get_lines()[0]
    assert {validation.get_marker()} == {line.get_marker() for line in evaluated}
    assert max(np.asarray(line.get_ydata(), float)[-1] for line in evaluated[2:]) < 3.1


def test_a_reader_s_own_matplotlib_settings_change_nothing(fitted: Evidence) -> None:
    plain = render(FIGURES.find("scaling").draw(fitted).figure, "png")
    with matplotlib.rc_context({"font.size": 20, "axes.grid": False, "figure.facecolor": "black"}):
        assert render(FIGURES.find("scaling").draw(fitted).figure, "png") == plain
    assert "matplotlib.pyplot" not in subprocess.run(
        [
            sys.executable, "-c",
            "import sys, llmscale.explain.figures.scaling, llmscale.explain.figures.curves; "
            "print(*sys.modules)",
        ],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip


def llmscale(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("kind", "ending"), [*(("scaling", ending) for ending in ENDINGS), ("curves", "svg")]
)
def test_the_same_evidence_gives_the_same_bytes(kind: str, ending: str, fitted: Evidence) -> None:
    assert render(FIGURES.find(kind).draw(fitted).figure, ending) == render(
        FIGURES.find(kind).draw(fitted).figure, ending
    )


@pytest.mark.parametrize(
    ("kind", "law", "ending", "magic"),
    [
        ("scaling", ("--law", "power"), "pdf", b"%PDF"),
        ("scaling", ("--law", "power"), "svg", b"<?xml"),
        ("curves", (), "png", b"\x89PNG"),
    ],
)
def test_plot_writes_the_kind_of_file_its_ending_names(
    kind: str, law: tuple[str, ...], ending: str, magic: bytes, ladder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new" / f"figure.{ending}"
    code, out, err = llmscale("plot", str(ladder), "--kind", kind, *law, "-o", str(path), "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said == {
        "path": str(path),
        "kind": kind,
        "kept": [],
        "laws": list(law[1:]),
        "n_runs": said["n_runs"],
        "n_excluded": 1,
        "n_held_out": int(kind == "scaling"),
        "columns": said["columns"],
    }
    assert said["columns"]["loss"] == "loss"
    assert said["n_runs"] == len(SIZES) + (kind == "curves")
    content = path.read_bytes()
    assert content.startswith(magic)
    assert [one.name for one in path.parent.iterdir()] == [path.name], (
        "nothing half written is left beside it"
    )
    if ending == "svg":
        assert b"nats per token" in content, "text stays text"
        assert b"<dc:date>" not in content
    if ending == "pdf":
        assert b"/Type3" not in content
        assert b"/CreationDate" not in content


def test_plot_draws_into_the_results_folder_by_default(ladder: Path) -> None:
    code, out, err = llmscale("plot", str(ladder), "--law", "power", "--bootstrap", "20")
    assert code == 0, err
    assert out.strip() == str(ladder / "figures" / "scaling.png")
    assert (ladder / "figures" / "scaling.png").exists()


def test_plot_draws_anybodys_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame()[["params", "tokens", "loss"]].dropna().rename(
        columns={"params": "N", "tokens": "D"}
    ).to_csv("mine.csv")
    code, out, err = llmscale("plot", "mine.csv", "--bootstrap", "20")
    assert code == 0, err
    assert out.strip() == "scaling.png"
    assert (tmp_path / "scaling.png").exists()


def test_the_published_runs_can_be_drawn(shared: Path, tmp_path: Path) -> None:
    path, table = tmp_path / "chinchilla.png", shared / "published" / "chinchilla_epoch.csv"
    code, out, err = llmscale("plot", str(table), "--bootstrap", "20", "-o", str(path), "--json")
    assert code == 0, err
    assert json.loads(out)["laws"] == ["chinchilla"]
    assert json.loads(out)["n_runs"] == 245


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "figure.bmp"), ".png, .pdf or .svg"),
        (("-o", "figure"), ".png, .pdf or .svg"),
        (("--kind", "scalling"), "scaling"),
        (("--law", "chinchila"), "chinchilla"),
        (("--width", "0"), "width is 0"),
        (("-o", "/proc/nowhere/figure.png"), "cannot write"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: tuple[str, ...], words: str, ladder: Path
) -> None:
    code, out, err = llmscale("plot", str(ladder), *arguments)
    assert code == 2
    assert words in err
    assert not out


def test_a_bare_table_has_no_curves(tmp_path: Path) -> None:
    frame().dropna().to_csv(tmp_path / "mine.csv")
    code, _, err = llmscale(
        "plot", str(tmp_path / "mine.csv"), "--kind", "curves", "-o", str(tmp_path / "x.png")
    )
    assert code == 2
    assert "no loss curves" in err

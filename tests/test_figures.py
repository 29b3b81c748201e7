"""Figures show what the table and the law say; `llmscale plot` writes them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.figures import Evidence, kinds, load_kind
from llmscale.fit import fit_laws
from llmscale.runs import CurvePoint, ResultsFolder, rows_table, write_table
from llmscale.table import read_table

SIZES = (35e3, 64e3, 156e3, 385e3, 1.14e6)


def frame(sizes: tuple[float, ...] = SIZES, budgets: tuple[float, ...] = (3e6,), seeds: int = 1) -> pd.DataFrame:
    """Runs of a known law with a little noise, and one that diverged."""
    random = np.random.default_rng(0)
    rows = [
        {
            "run_id": f"run-{n:.0f}-{d:.0f}-{seed}", "size": f"{n:.0f}", "status": "done", "seed": seed,
            "params": n, "params_non_embedding": n / 2, "params_total": 2 * n, "tokens": d, "flops": 6 * n * d,
            "loss": (1.8 + 45 / n**0.33 + 400 / d**0.3) * np.exp(random.normal(0, 0.002)),
        }
        for n in sizes for d in budgets for seed in range(seeds)
    ]  # fmt: skip
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
                    run["run_id"], step, int(run["tokens"] * share), run["flops"] * share, loss, float(np.exp(loss)),
                    loss if step % 20 == 0 else None, None, 0.01, 1.0, 1000.0, float(step),
                )
            )  # fmt: skip
    write_table(folder / "curves.parquet", rows_table(CurvePoint, points))
    return folder


def evidence(folder: Path) -> Evidence:
    table = read_table(folder)
    place = ResultsFolder(folder)
    return Evidence(table, fits=fit_laws(table, bootstrap=100), runs=place.read_runs(), curves=place.read_curves())


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("figures") / "ladder", frame())


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_labels_its_axes_with_units_and_says_what_it_shows(kind: str, ladder: Path) -> None:
    drawing = load_kind(kind).draw(evidence(ladder), width=3.4, title="A title")
    assert isinstance(drawing.figure, Figure)
    assert drawing.figure.get_figwidth() == 3.4
    axes = drawing.figure.axes
    assert any("nats per token" in ax.get_ylabel() for ax in axes)
    assert all(ax.get_xlabel() for ax in axes)
    assert drawing.n_runs >= len(SIZES)
    assert drawing.n_excluded == 1
    legends = [legend for legend in (*drawing.figure.legends, *(ax.get_legend() for ax in axes)) if legend]
    assert any("diverged" in text.get_text() for legend in legends for text in legend.get_texts())
    drawing.figure.canvas.draw()
    for ax in axes:
        labels = [text.get_text() for text in ax.get_yticklabels() if text.get_text()]
        assert len(labels) != 1, "an axis with one label cannot be read"


def test_the_scaling_figure_draws_the_runs_the_law_and_its_band(ladder: Path) -> None:
    shown = evidence(ladder)
    fit = shown.fits[0]
    drawing = load_kind("scaling").draw(shown, width=3.4)
    (ax,) = drawing.figure.axes
    points = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections if isinstance(c, PathCollection)])
    for run in shown.table.frame.itertuples():
        assert np.isclose(points, [run.params, run.loss]).all(axis=1).any()
    line = next(line for line in ax.lines if np.size(line.get_xdata()) > 50)
    x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    assert y == pytest.approx(fit.law.loss(x))
    band = next(c for c in ax.collections if isinstance(c, PolyCollection))
    low, high = fit.band(params=SIZES[2])
    at = np.asarray(band.get_paths()[0].vertices)
    near = at[np.abs(np.log(at[:, 0] / SIZES[2])) < 0.03]
    assert near[:, 1].min() == pytest.approx(float(low), rel=0.01)
    assert near[:, 1].max() == pytest.approx(float(high), rel=0.01)
    assert drawing.n_held_out == 1
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_xlim()[1] > 2 * SIZES[-1]


def test_several_budgets_are_drawn_as_one_curve_of_the_law_each(tmp_path: Path) -> None:
    budgets = (1e6, 3e6, 1e7, 3e7)
    shown = evidence(results(tmp_path / "grid", frame(budgets=budgets)))
    assert shown.fits[0].law.name == "chinchilla"
    drawing = load_kind("scaling").draw(shown, width=3.4)
    curves = [line for line in drawing.figure.axes[0].lines if np.size(line.get_xdata()) > 50]
    assert len(curves) == len(budgets)
    for line, budget in zip(curves, budgets, strict=True):
        x = np.asarray(line.get_xdata(), float)
        assert np.asarray(line.get_ydata()) == pytest.approx(shown.fits[0].law.loss(x, budget))


def llmscale(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
@pytest.mark.parametrize("kind", kinds())
def test_plot_writes_the_kind_of_file_its_ending_names_the_same_bytes_each_time(
    kind: str, ending: str, magic: bytes, ladder: Path, tmp_path: Path
) -> None:
    contents = []
    for name in ("one", "two"):
        path = tmp_path / "new" / f"{name}.{ending}"
        code, out, err = llmscale("plot", str(ladder), "--kind", kind, "-o", str(path), "--json")
        assert code == 0, err
        assert json.loads(out)["path"] == str(path)
        assert json.loads(out)["n_excluded"] == 1
        contents.append(path.read_bytes())
    assert contents[0].startswith(magic)
    assert contents[0] == contents[1]
    assert len(contents[0]) > 5_000


def test_plot_draws_into_the_results_folder_by_default(ladder: Path) -> None:
    code, out, err = llmscale("plot", str(ladder), "--law", "power")
    assert code == 0, err
    assert out.strip() == str(ladder / "figures" / "scaling.png")
    assert (ladder / "figures" / "scaling.png").exists()


def test_plot_draws_anybodys_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame()[["params", "tokens", "loss"]].dropna().rename(columns={"params": "N", "tokens": "D"}).to_csv("mine.csv")
    code, out, err = llmscale("plot", "mine.csv")
    assert code == 0, err
    assert out.strip() == "scaling.png"
    assert (tmp_path / "scaling.png").exists()


def test_the_published_runs_can_be_drawn(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "chinchilla.png"
    code, out, err = llmscale("plot", str(shared / "published" / "chinchilla_epoch.csv"), "-o", str(path), "--json")
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
        (("--width", "0"), "inches"),
        (("-o", "/proc/nowhere/figure.png"), "cannot write"),
    ],
)
def test_a_wrong_option_is_one_sentence(arguments: tuple[str, ...], words: str, ladder: Path) -> None:
    code, out, err = llmscale("plot", str(ladder), *arguments)
    assert code == 2
    assert words in err
    assert not out


def test_a_bare_table_has_no_curves(tmp_path: Path) -> None:
    frame().dropna().to_csv(tmp_path / "mine.csv")
    code, _, err = llmscale("plot", str(tmp_path / "mine.csv"), "--kind", "curves", "-o", str(tmp_path / "x.png"))
    assert code == 2
    assert "no loss curves" in err

"""Figures of a fit: residuals, IsoFLOP profiles, contours, profile likelihoods, bootstrap pairs,
the envelope.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

import llmscale
from llmscale import plot
from llmscale.errors import InputError
from llmscale.explain.allocation import allocate
from llmscale.explain.estimation.profile import profiles
from llmscale.explain.figures import FIGURES, Evidence
from llmscale.explain.figures._style import render
from llmscale.explain.fit import Options, fit_law, fit_laws
from llmscale.explain.forecast.optimum import optimum
from llmscale.explain.table import Excluded, RunTable, read_table

KINDS = FIGURES.names
BUDGETS = (1e18, 1e19, 1e20)


def true_loss(N: np.ndarray, D: np.ndarray) -> np.ndarray:
    return 1.8 + 480 / N**0.35 + 2100 / D**0.37


def isoflop_runs() -> pd.DataFrame:
    """Nine sizes around the optimum of three budgets, with a little noise."""
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for flops in BUDGETS:
        for params in 0.1 * flops**0.5 * np.geomspace(0.25, 4, 9):
            tokens = flops / (6 * params)
            loss = true_loss(params, tokens) * np.exp(random.normal(0, 0.002))
            rows.append(
                {
                    "run_id": f"run-{len(rows)}",
                    "params": params,
                    "tokens": tokens,
                    "flops": flops,
                    "loss": loss,
                }
            )
    return pd.DataFrame(rows)


def training_curves(sizes: np.ndarray) -> pd.DataFrame:
    """Each size trained from 1 to 300 tokens a parameter."""
    parts = []
    for params in sizes:
        tokens = np.geomspace(1, 300, 120) * params
        loss = true_loss(params, tokens)
        part = pd.DataFrame(
            {"step": range(120), "tokens": tokens, "flops": 6 * params * tokens, "loss": loss}
        )
        parts.append(part.assign(run_id=f"size-{params:.0f}", train_loss=loss))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def fitted() -> Evidence:
    table = read_table(isoflop_runs())
    lost = Excluded("lost", "diverged", {"params": 2e8, "tokens": 1e9, "flops": 1.2e18})
    table = replace(table, excluded=(lost,))
    shown = Evidence(table, fits=fit_laws(table, ("chinchilla",), bootstrap=60))
    return shown.with_optima("isoflop", Options(bootstrap=60))


@pytest.fixture(scope="module")
def trained() -> Evidence:
    sizes = np.geomspace(1e7, 3e8, 6)
    curves = training_curves(sizes)
    last = curves.groupby("run_id", sort=False).tail(1).assign(params=sizes)
    table = read_table(last[["run_id", "params", "tokens", "flops", "loss"]])
    lost = Excluded("lost", "diverged", {"params": sizes[0]})
    more = curves[curves["run_id"] == curves["run_id"].iloc[0]].assign(run_id="lost")
    tried = last[["run_id", "params"]].assign(status="done")
    tried.loc[len(curves)] = ["lost", sizes[0], "diverged"]
    shown = Evidence(
        replace(table, excluded=(lost,)),
        runs=tried,
        curves=pd.concat([curves, more.head(60)], ignore_index=True),
    )
    return shown.with_optima("envelope", Options(bootstrap=50))


def drawn(axes: list[Axes], label: str) -> list[np.ndarray]:
    """x and y of every line of that label."""
    return [
        np.asarray(line.get_xydata(), float)
        for ax in axes
        for line in ax.lines
        if line.get_label() == label
    ]


def legend_text(figure: Figure) -> str:
    return "\n".join(text.get_text() for legend in figure.legends for text in legend.get_texts())


def visible(texts: list[Text]) -> list[Text]:
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


def assert_readable(figure: Figure, width: float) -> None:
    """Nothing is cut off, no legend lies on axes, and no text outside the axes on another."""
    render(figure, "png")
    outside = figure.get_tightbbox()
    assert min(outside.x0, outside.y0) >= -0.02
    assert outside.x1 <= width + 0.02
    assert outside.y1 <= figure.get_figheight() + 0.02
    boxes: dict[tuple[int, str], Bbox] = {}
    for ax in figure.axes:
        low, high = sorted(ax.get_xlim()), sorted(ax.get_ylim())
        texts = [ax.title, ax.xaxis.label, ax.yaxis.label]
        for axis, (first, last) in ((ax.xaxis, low), (ax.yaxis, high)):
            for tick in axis.get_major_ticks():
                if first <= tick.get_loc() <= last:
                    texts += [tick.label1, tick.label2]
        texts += [text for text in ax.texts if text.get_label() == "name"]
        boxes |= {
            (id(text), text.get_text()): text.get_window_extent()
            for text in visible(texts)
            if ax.axison
        }
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(ax.bbox) for ax in figure.axes)
        boxes |= {
            (id(text), text.get_text()): text.get_window_extent()
            for text in visible(legend.get_texts())
        }
    names = list(boxes)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            assert not boxes[one].padded(-2).overlaps(boxes[other]), (
                f"{one[1]!r} lies on {other[1]!r}"
            )


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        *((kind, 3.4) for kind in KINDS),
        *((kind, 7) for kind in KINDS if kind not in ("pairs", "profile")),
    ],
)
def test_every_figure_is_readable_in_one_column_and_in_two(
    kind: str, width: float, fitted: Evidence, trained: Evidence
) -> None:
    chosen = FIGURES.find(kind)
    of_curves = chosen.DRAWS == "curves"
    evidence = trained if of_curves else fitted
    drawing = chosen.draw(evidence, width=width, title="A title" if width == 7 else None)
    assert_readable(drawing.figure, width)
    assert kind == "pairs" or all(ax.get_xlabel() for ax in drawing.figure.axes)
    assert drawing.n_runs == len(evidence.table.frame) + of_curves
    assert drawing.n_excluded == 1
    assert kind in ("profile", "pairs") or "diverged" in legend_text(drawing.figure)


def test_runs_of_nearly_one_size_are_no_repeats() -> None:
    N = np.repeat(np.geomspace(1e7, 1e9, 8), 2)
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(16))
    for off, said in ((1.0, "between repeated runs"), (1.002, "of the residuals")):
        near = N * np.tile([1.0, off], 8)
        frame = pd.DataFrame({"params": near, "loss": (1.8 + 60 / N**0.3) * noise})
        fit = llmscale.fit(frame, law="power-floor", bootstrap=0, diagnostics=False)
        figure = llmscale.plot(fit, kind="residuals").figure
        texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert any(said in text for text in texts)


def test_residuals_show_every_run_in_percent_against_each_quantity(fitted: Evidence) -> None:
    panels = FIGURES.find("residuals").draw(fitted).figure.axes
    (fit,) = fitted.fits
    frame = fitted.table.frame
    for ax, name in zip(panels, ("params", "tokens", "flops"), strict=True):
        points = np.concatenate([*drawn([ax], "runs"), *drawn([ax], "held out")])
        expected = np.column_stack(
            [frame[name], 100 * (frame["loss"] / fit.law.loss(*fit.inputs) - 1)]
        )
        assert points[np.lexsort(points.T)] == pytest.approx(expected[np.lexsort(expected.T)])
        low, high = ax.get_ylim()
        assert low < points[:, 1].min() < points[:, 1].max() < high
        assert len(drawn([ax], "excluded")[0]) == 1


def test_a_run_far_from_the_law_is_named_and_marked_at_the_edge() -> None:
    runs = isoflop_runs()
    runs.loc[5, "loss"] *= 1.5
    table = read_table(runs)
    shown = Evidence(table, fits=(fit_law(table, "chinchilla", bootstrap=0, holdout="none"),))
    figure = FIGURES.find("residuals").draw(shown, width=7).figure
    assert "beyond the axis: run-5 +5" in legend_text(figure)
    for ax in figure.axes:
        assert sum(map(len, drawn([ax], "beyond"))) == 1
        assert ax.get_ylim()[1] < 40


def test_isoflop_marks_the_methods_optima_and_leaves_those_not_bracketed_hollow() -> None:
    runs = isoflop_runs()
    lowest = runs[runs["flops"] == BUDGETS[0]]["params"].nsmallest(6).index
    runs = runs.drop(index=lowest)  # the first budget's optimum now lies below its sizes
    table = read_table(runs)
    fits = fit_laws(table, ("chinchilla",), bootstrap=50)
    found = allocate(table, "isoflop", bootstrap=50)
    assert found.budgets["used"].tolist() == [False, True, True]
    shown = Evidence(table, fits=fits).with_optima("isoflop", Options(bootstrap=50))
    profiles_, optima = FIGURES.find("isoflop").draw(shown).figure.axes[:2]
    marked = np.concatenate(drawn([profiles_], "optimum"))
    assert marked == pytest.approx(
        found.budgets.loc[found.budgets["used"], ["params", "loss"]].to_numpy()
    )
    assert len(drawn([profiles_], "optimum left out")) == 1
    assert sum(map(len, drawn([profiles_], "runs") + drawn([profiles_], "held out"))) == len(runs)
    assert len(drawn([profiles_], "parabola")) == len(drawn([profiles_], "law")) == len(BUDGETS)
    (line,) = drawn([optima], "isoflop")
    assert line[:, 1] == pytest.approx(found.frontier.params(line[:, 0]))


def test_isoflop_draws_every_run_that_its_legend_calls_held_out() -> None:
    """Also those of no budget, such as one far above the others."""
    runs = isoflop_runs()
    N, D = 3e9, 6e11
    loss = float(true_loss(np.array(N), np.array(D)))
    far = {"run_id": "far", "params": N, "tokens": D, "flops": 6 * N * D, "loss": loss}
    table = read_table(pd.concat([runs, pd.DataFrame([far])], ignore_index=True))
    fits = fit_laws(table, ("chinchilla",), bootstrap=0)
    assert fits[0].holdout is not None
    assert fits[0].holdout.runs["run_id"].tolist() == ["far"]
    shown = Evidence(table, fits=fits).with_optima("isoflop", Options(bootstrap=0))
    figure = FIGURES.find("isoflop").draw(shown).figure
    assert "held out in the check: 1 run" in legend_text(figure)
    marks = np.concatenate(drawn([figure.axes[0]], "held out"))
    assert marks.tolist() == [[N, loss]]


def test_isoflop_draws_no_parabola_without_a_lowest_point() -> None:
    runs = isoflop_runs()
    first = runs["flops"] == BUDGETS[0]
    runs.loc[first, "loss"] = 8 - runs["loss"][first]
    table = read_table(runs)
    shown = Evidence(table).with_optima("isoflop", Options(bootstrap=0))
    figure = FIGURES.find("isoflop").draw(shown).figure
    assert len(drawn(figure.axes[:1], "parabola")) == len(BUDGETS) - 1
    assert "1 budget without a lowest point: left out" in legend_text(figure)


def test_the_contours_frontier_is_the_laws_own_optimum(fitted: Evidence) -> None:
    (fit,) = fitted.fits
    ax = FIGURES.find("contour").draw(fitted).figure.axes[0]
    (line,) = drawn([ax], "frontier")
    for params, tokens in line[::40]:
        best = optimum(fit, 6 * params * tokens)
        assert (best.params, best.tokens) == pytest.approx((params, tokens))
    scatter = [one for one in ax.collections if one.get_label() in ("runs", "held out")]
    assert sum(len(np.asarray(one.get_offsets())) for one in scatter) == len(fitted.table.frame)
    for name, limits in (("params", ax.get_xlim()), ("tokens", ax.get_ylim())):
        assert (
            limits[0] < fitted.table.frame[name].min() < fitted.table.frame[name].max() < limits[1]
        )


def test_contours_of_a_small_grid_name_what_they_show() -> None:
    grid = [(n, d) for n in (1.05e5, 1.3e5, 1.8e5) for d in (2e6, 4e6, 8e6)]
    table = pd.DataFrame(
        {"params": n, "tokens": d, "loss": 1.8 + 45 / n**0.33 + 400 / d**0.3} for n, d in grid
    )
    figure = plot(table, "contour", law="chinchilla", bootstrap=0).figure
    assert_readable(figure, 3.4)
    ax = figure.axes[0]
    low, high = ax.get_xlim()
    assert sum(low <= tick.get_loc() <= high for tick in ax.xaxis.get_major_ticks()) >= 2
    assert not drawn([ax], "frontier")
    assert "beyond these axes" in legend_text(figure)
    names = [text for text in ax.texts if text.get_label() == "budget"]
    assert len(names) == len(drawn([ax], "budget")) >= 2
    dots = ax.transData.transform(grid)
    numbers = [text.get_window_extent() for text in ax.texts if text not in names]
    assert numbers
    assert not any(box.count_contains(dots) for box in numbers)


def test_profiles_and_bootstrap_intervals_are_the_fits_own(fitted: Evidence) -> None:
    (fit,) = fitted.fits
    panels = FIGURES.find("profile").draw(fitted).figure.axes
    for ax, one in zip(panels, profiles(fit), strict=True):
        (line,), (bar,) = drawn([ax], "profile"), drawn([ax], "bootstrap")
        assert line == pytest.approx(np.column_stack([one.values, one.cost]))
        assert bar[:, 0] == pytest.approx(fit.intervals[one.name])
        assert ax.get_xlim()[0] < bar[0, 0] < bar[1, 0] < ax.get_xlim()[1]


def test_an_interval_that_does_not_close_says_so() -> None:
    sizes = np.array([1e6, 2e6, 4e6, 8e6, 16e6])
    noise = np.exp([0.01, -0.01, 0.0, 0.01, -0.01])
    table = read_table(pd.DataFrame({"params": sizes, "loss": 40 * sizes**-0.15 * noise}))
    shown = Evidence(table, fits=fit_laws(table, ("power-floor",), bootstrap=50, holdout="none"))
    figure = FIGURES.find("profile").draw(shown).figure
    assert any("open" in text.get_text() for ax in figure.axes for text in ax.texts)


def test_pairs_show_the_refits_below_the_diagonal_and_the_best_value(fitted: Evidence) -> None:
    (fit,) = fitted.fits
    figure = FIGURES.find("pairs").draw(fitted).figure
    number = len(fit.law.coefficients())
    lower = [figure.axes[row * number + column] for row in range(number) for column in range(row)]
    for ax in lower:
        (points,) = drawn([ax], "refits")
        assert len(points) == len(fit.replicates)
    assert drawn([figure.axes[number]], "refits")[0] == pytest.approx(fit.replicates[:, :2])
    assert drawn([figure.axes[number]], "best")[0][0, 0] == pytest.approx(
        fit.law.coefficients()["E"]
    )


def test_the_envelope_lies_under_every_curve_and_holds_the_methods_optima(
    trained: Evidence,
) -> None:
    figure = FIGURES.find("envelope").draw(trained).figure
    curves, optima = figure.axes[:2]
    (envelope,) = drawn([curves], "envelope")
    for run in drawn([curves], "run"):
        below = np.interp(np.log(run[:, 0]), np.log(envelope[:, 0]), envelope[:, 1])
        assert (run[:, 1] > 0.99 * below).all()
    found = allocate(trained.table, "envelope", curves=trained.curves, bootstrap=0)
    marked = np.concatenate(drawn([curves], "optimum"))
    assert marked == pytest.approx(
        found.budgets.loc[found.budgets["used"], ["flops", "loss"]].to_numpy()
    )
    assert len(drawn([curves], "excluded")) == 1
    assert drawn([optima], "envelope")


@pytest.fixture(scope="module")
def one_variable() -> Evidence:
    """Four sizes of one token budget, fitted without a bootstrap."""
    table = read_table(
        pd.DataFrame({"N": [1e6, 3e6, 1e7, 3e7], "D": [1e9] * 4, "loss": [4.0, 3.6, 3.3, 3.08]})
    )
    return Evidence(table, fits=fit_laws(table, ("power",), bootstrap=0, holdout="none"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("isoflop", "equal FLOPs"),
        ("contour", "law in N and D"),
        ("pairs", "bootstrap"),
        ("envelope", "no loss curves"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(
    kind: str, words: str, one_variable: Evidence
) -> None:
    figure = FIGURES.find(kind)
    shown = one_variable.with_optima(figure.METHOD) if figure.METHOD else one_variable
    with pytest.raises(InputError, match=words):
        figure.draw(shown)


def test_a_law_in_one_variable_has_residuals_and_profiles(one_variable: Evidence) -> None:
    residuals = FIGURES.find("residuals").draw(one_variable)
    assert len(residuals.figure.axes) == 2, "tokens are the same in every run"
    profile = FIGURES.find("profile").draw(one_variable)
    assert len(profile.figure.axes) == 2
    for figure in (residuals.figure, profile.figure):
        assert_readable(figure, 3.4)


def test_thousands_of_runs_make_a_light_figure(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    params, tokens = np.exp(random.uniform(16, 21, 2700)), np.exp(random.uniform(20, 25, 2700))
    table: RunTable = read_table(
        pd.DataFrame({"N": params, "D": tokens, "loss": true_loss(params, tokens)})
    )
    shown = Evidence(table, fits=(fit_law(table, "chinchilla", bootstrap=0, holdout="none"),))
    for kind in ("residuals", "contour"):
        assert len(render(FIGURES.find(kind).draw(shown).figure, "svg")) < 1_000_000

"""The end of a run that is under way, from its curve and those of finished runs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.api.curve_end import named_run
from llmscale.explain.forecast.curve import Curve
from llmscale.explain.forecast.curve_backtest import student as quantile
from llmscale.explain.forecast.curve_end import forecast_end
from llmscale.explain.forecast.folder_curves import ends_under_way, folder_curves
from llmscale.explain.table.files.one_curve import read_curve
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.rows import read_rows
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import write_table

SHARES = np.arange(0.01, 1.0001, 0.01)
CPU = Path(__file__).resolve().parents[3] / "results" / "cpu"


def curve(
    name: str, N: float, D: float, *, noise: float = 0.002, seed: int = 0, until: float = 1.0
) -> Curve:
    """A run under WSD: a power law in the tokens seen, which falls by a tenth of its excess over
    the last fifth; `noise` moves all of the run, as another seed would."""
    rng = np.random.default_rng(seed)
    factor = np.exp(noise * rng.standard_normal())
    seen = SHARES * D
    cooled = np.clip((SHARES - 0.8) / 0.2, 0, 1)
    excess = 30 / N**0.25 + 400 / seen**0.35
    losses = (1.8 + excess * (1 - 0.1 * cooled)) * factor
    logged = losses * np.exp(0.004 * rng.standard_normal(len(losses)))
    shown = until + 1e-9 >= SHARES
    end = losses[-1] if until == 1.0 else np.nan
    return Curve(name, {"params": N, "tokens": D}, seen[shown], logged[shown], loss=float(end))


def ladder(**of_each: Any) -> list[Curve]:
    axes = np.geomspace(1e5, 1e7, 4), np.geomspace(1e7, 1e9, 3)
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return [curve(f"r{k}", N, D, seed=k, **of_each) for k, (N, D) in enumerate(points)]


def end(of: Curve, finished: list[Curve]) -> Any:
    return forecast_end(of, finished, title=of.run_id, level=0.9)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_end_is_known_far_better_than_by_the_loss_of_the_moment(share: float) -> None:
    asked: dict[str, Any] = {"N": 3e6, "D": 3e8, "seed": 99}
    told = end(curve("new", **asked, until=share), ladder())
    true = curve("new", **asked).loss
    assert told.share == pytest.approx(share)
    assert abs(told.loss / true - 1) < 0.01 < abs(told.now / true - 1)
    assert told.low < true < told.high
    assert told.tests.count == 12
    assert not told.tests.of_larger
    assert told.tests.error < 0.3 * told.tests.naive_error


@pytest.mark.parametrize(("of_a_size", "of_a_run"), [(0.0, 0.004), (0.01, 0.002)])
def test_nine_tenths_of_the_ends_of_simulated_runs_fall_into_their_interval(
    of_a_size: float, of_a_run: float
) -> None:
    rng, inside, width = np.random.default_rng(0), 0, []
    for trial in range(25):
        deviation = of_a_size * rng.standard_normal(5)
        finished = ladder(noise=of_a_run)
        finished = [
            replace(one, loss=one.loss * float(np.exp(deviation[place % 4])))
            for place, one in enumerate(finished)
        ]
        asked: dict[str, Any] = {"N": 3e6, "D": 1e8, "seed": 1000 + trial, "noise": of_a_run}
        true = curve("new", **asked).loss * float(np.exp(deviation[4]))
        told = end(curve("new", **asked, until=0.5), finished)
        inside += told.low <= true <= told.high
        width.append(told.high / told.low - 1)
    assert inside >= 0.8 * 25
    assert np.median(width) < 0.04 + 5 * of_a_size


def test_a_run_larger_than_all_is_judged_by_forecasts_from_smaller_ones() -> None:
    told = end(curve("new", 3e7, 3e9, until=0.5), ladder())
    assert told.tests.of_larger
    assert "from smaller ones" in told.coverage
    few = [curve(str(k), N, N * 100, seed=k) for k, N in enumerate(np.geomspace(1e5, 1e6, 5))]
    beyond = end(curve("new", 2e6, 2e8, until=0.5), few)
    assert [note.code for note in beyond.notes] == ["curve-far-beyond"]
    assert "no finished run is as large as new" in beyond.notes[0].message
    assert not beyond.tests.of_larger


def test_runs_of_one_size_give_no_interval_for_another_size() -> None:
    one_size = [curve(f"r{seed}", 1e6, 1e8, seed=seed) for seed in range(8)]
    again = end(curve("new", 1e6, 1e8, seed=99, until=0.5), one_size)
    assert again.high / again.low < 1.04
    other = end(curve("new", 4e6, 1e8, seed=99, until=0.5), one_size)
    assert np.isnan(other.low)
    assert other.coverage == ""
    said = {note.code: note.message for note in other.notes}
    assert "do not tell what another size" in said["curve-not-tested"]


def test_errors_that_go_together_count_as_fewer() -> None:
    """Twelve runs a size that deviate together widen the interval, as one run a size does."""
    sizes = np.geomspace(1e5, 1e7, 5)
    deviation = 0.02 * np.array([1.0, -1.0, 0.5, -0.5, 1.0])
    widths = []
    for copies in (1, 12):
        runs = [
            replace(one, loss=one.loss * float(np.exp(by)))
            for size, (N, by) in enumerate(zip(sizes, deviation, strict=True))
            for copy in range(copies)
            for one in [curve(f"{size}-{copy}", N, 1e8, noise=0.0, seed=copy)]
        ]
        told = end(curve("new", 5e5, 1e8, noise=0.0, until=0.5), runs)
        widths.append(np.log(told.high / told.low))
    assert widths[1] == pytest.approx(widths[0], rel=0.3)


def test_a_curve_unlike_all_finished_ones_is_said_to_be_one() -> None:
    alike = curve("new", 3e6, 3e8, seed=99, until=0.5)
    assert "curve-unlike" not in [note.code for note in end(alike, ladder()).notes]
    bits = replace(alike, train_loss_S=alike.train_loss_S / np.log(2))
    perplexity = replace(alike, train_loss_S=np.exp(alike.train_loss_S))
    leapt = replace(alike, train_loss_S=np.append(alike.train_loss_S[:-1], 50.0))
    rising = replace(alike, train_loss_S=alike.train_loss_S[::-1])
    high = replace(alike, train_loss_S=100 * alike.train_loss_S)
    large = replace(alike, traits={"params": 7e10, "tokens": 3e8})
    flat = replace(alike, train_loss_S=np.full_like(alike.train_loss_S, 3.0))
    lost = replace(alike, train_loss_S=np.append(alike.train_loss_S[:-1], np.nan))
    finished = [_at_its_rate(one) for one in ladder()]
    fast = _at_its_rate(alike, times=4)
    twice = end(_at_its_rate(alike, times=2), finished)
    assert "curve-unlike" not in [note.code for note in twice.notes]
    for one, words in (
        (leapt, "its last training loss is 50"),
        (bits, "(in bits?"),
        (perplexity, "(a perplexity?"),
        (fast, "its learning rate is 4 times"),
        (flat, "from 3.000 to 3.000"),
        (lost, "is no number"),
        (rising, "has risen"),
        (high, "of its training, where"),
        (large, "its N is"),
    ):
        told = end(one, finished)
        assert (told.tests, told.coverage) == (None, "")
        assert np.isnan(told.low)
        (note,) = (note for note in told.notes if note.code == "curve-unlike")
        assert words in note.message


def _at_its_rate(one: Curve, times: float = 1.0) -> Curve:
    """With the learning rate that goes with its size."""
    rate = times * 300 * one.traits["params"] ** -0.6
    return replace(one, traits={**one.traits, "lr": rate})


def test_branches_of_its_own_trunk_do_not_judge_a_run() -> None:
    finished = [replace(one, family="trunk") for one in ladder()]
    with pytest.raises(InputError, match="0 finished runs with curves are too few"):
        end(replace(curve("new", 1e6, 1e8, until=0.5), family="trunk"), finished)


def test_a_run_that_has_hardly_begun_or_has_diverged_says_nothing() -> None:
    with pytest.raises(InputError, match=r"has seen 3.0% of its"):
        end(curve("new", 1e6, 1e8, until=0.03), ladder())
    run = curve("new", 1e6, 1e8, until=0.5)
    with pytest.raises(InputError, match="has no training loss that is a number"):
        end(replace(run, train_loss_S=np.full_like(run.train_loss_S, np.nan)), ladder())


def test_too_few_tests_give_no_interval() -> None:
    finished = ladder()
    families = ["a", "a", "b", "b"]
    tied = [replace(one, family=name) for one, name in zip(finished[:4], families, strict=True)]
    told = end(curve("new", 1e6, 1e8, until=0.5), tied)
    assert np.isnan(told.low)
    assert told.tests is None
    assert "curve-not-tested" in {note.code for note in told.notes}
    assert told.to_json()["low"] is None


@pytest.mark.parametrize("degrees", [1.0, 1.7, 5.0, 30.0])
def test_students_quantiles_are_those_of_scipy(degrees: float) -> None:
    for level in (0.5, 0.9, 0.99):
        assert quantile(degrees, level) == pytest.approx(
            student.ppf(0.5 + level / 2, degrees), 1e-3
        )


@pytest.fixture
def under_way(tmp_path: Path) -> tuple[Path, str, float]:
    """Our sweep on the CPU, as it was when its largest run was at 60% of its training: the folder,
    the run, and the loss that it came to."""
    folder, then = ResultsFolder(CPU), ResultsFolder(tmp_path / "sweep")
    rows = read_rows(folder.runs_path)[0]
    last = max(rows.values(), key=lambda row: row.flops)
    then.path.mkdir()
    (then.path / "sweep.json").write_text(folder.sweep_path.read_text())
    begun = replace(last, status="running", loss=None, train_loss=None, perplexity=None)
    then.write_runs([begun if row is last else row for row in rows.values()])
    import pyarrow as pa

    curves = folder.read_curves()
    own = curves["run_id"] == last.run_id
    write_table(then.curves_path, pa.Table.from_pandas(curves[~own], preserve_index=False))
    home = RunFolder(then.path / "runs" / last.run_id)
    home.path.mkdir(parents=True)
    seen = curves[own & (curves["tokens"] <= 0.6 * last.tokens)]
    lines = seen.astype(object).where(seen.notna(), None).to_dict("records")
    home.progress_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert last.loss is not None
    return then.path, last.run_id, last.loss


def test_a_run_of_a_folder_is_named_by_its_id_or_title(under_way: tuple[Path, str, float]) -> None:
    folder, run_id, loss = under_way
    told = llmscale.predict(folder, from_curve=run_id)
    assert abs(told.loss / loss - 1) < 0.02
    assert told.low < loss < told.high
    assert (told.finished, told.law) == (4, "power-floor")
    rows = read_rows(folder / "runs.parquet")[0]
    for name in (run_id, run_id[:5], told.run):
        assert named_run(name, rows) is rows[run_id]
    (quick,) = ends_under_way(ResultsFolder(folder), _as_status(folder))
    assert abs(quick.loss / loss - 1) < 0.03
    assert quick.run == told.run


def _as_status(folder: Path) -> list[Any]:
    from llmscale.measure.sweep.status import sweep_status

    runs = sweep_status(ResultsFolder(folder)).runs
    going: dict[str, Any] = {"state": "running", "tokens_done": 1}
    return [replace(run, **going) if run.state == "stopped" else run for run in runs]


def test_a_log_of_anybodys_is_taken_for_a_run_of_the_ladder(
    under_way: tuple[Path, str, float], tmp_path: Path
) -> None:
    folder, run_id, loss = under_way
    progress = folder / "runs" / run_id / "progress.jsonl"
    rows = pd.DataFrame([json.loads(line) for line in progress.read_text().splitlines()])
    read = read_curve(progress)
    assert (read.column, read.is_validation) == ("train_loss", False)
    assert read.tokens_S is not None
    assert read.tokens_S[-1] == rows["tokens"].iloc[-1]
    only = tmp_path / "val.csv"
    rows[["step", "train_loss"]].rename(columns={"train_loss": "val_loss"}).to_csv(
        only, index=False
    )
    told = llmscale.predict(folder, from_curve=only, params="431k", tokens="3M")
    assert abs(told.loss / loss - 1) < 0.02
    said = {note.code: note.message for note in told.notes}
    assert "a step for 2048 tokens" in said["curve-taken-for"]
    assert "has no training loss" in said["curve-of-validation"]
    notebook = told._repr_html_()
    assert f"loss {told.loss:.2f}"[:8] in notebook
    assert "<code>curve-taken-for</code>" in notebook
    shown = CliRunner().invoke(app, ["predict", str(folder), "--from-curve", run_id])
    assert "will end at loss" in shown.stdout
    assert "90% intervals held" in " ".join(shown.stdout.split())


def test_a_log_of_tokens_is_a_curve_and_one_whose_loss_is_lost_is_none(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    frame = pd.DataFrame({"tokens": range(1000, 21000, 1000), "loss": np.linspace(5.0, 3.0, 20)})
    frame.to_csv(log, index=False)
    read = read_curve(log)
    assert read.tokens_S is not None
    assert read.tokens_S.tolist() == frame["tokens"].tolist()
    frame.loc[10:, "loss"] = np.nan
    frame.to_csv(log, index=False)
    with pytest.raises(InputError, match="has no numbers after tokens 10000"):
        read_curve(log)
    frame[:2].to_csv(log, index=False)
    with pytest.raises(InputError, match="has 2 rows, too few"):
        read_curve(log)


def _losses(rows: int = 100) -> pd.DataFrame:
    tokens = 30_000.0 * np.arange(1, rows + 1)
    return pd.DataFrame({"step": range(1, rows + 1), "tokens": tokens, "loss": tokens**-0.1})


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (_losses().sample(frac=1, random_state=0), "'step' of .* falls .* times?, as from"),
        (
            pd.concat([_losses().assign(run=name) for name in "ab"]),
            "of 2 runs, by its column 'run'",
        ),
        (_losses().assign(loss=np.nan), "'loss' of .* has no number in any row"),
        (_losses(1), "has 1 row, too few"),
        (_losses()[["step", "tokens"]], "has no column of its loss, among step, tokens"),
        (_losses()[["loss"]].assign(lr=1e-3), "no column of its steps or tokens"),
        (
            pd.concat([_losses(), _losses().assign(loss=9.0)]).sort_values("step", kind="stable"),
            "100 steps of .* stand twice with other losses, as step 1 with",
        ),
        (_losses().assign(loss=-1.0), "are no positive numbers"),
    ],
)
def test_a_file_that_is_no_curve_is_told_why(
    rows: pd.DataFrame, problem: str, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    rows.to_csv(log, index=False)
    with pytest.raises(InputError, match=problem):
        read_curve(log)


def test_a_resumed_run_counts_as_it_went_on(tmp_path: Path) -> None:
    log, again = tmp_path / "log.csv", _losses()[49:60].assign(loss=2.0)
    pd.concat([_losses(), again]).to_csv(log, index=False)
    read = read_curve(log)
    assert read.steps_S.tolist() == list(range(1, 61))
    assert (read.loss_S == 2.0).sum() == 11
    (note,) = read.notes
    assert note.code == "steps-repeated"
    assert "goes back from step 100 to 50" in note.message
    assert "51 rows" in note.message
    copies = _losses().loc[np.repeat(np.arange(100), 2)]
    copies.to_csv(log, index=False)
    assert read_curve(log).notes == ()
    assert len(read_curve(log).steps_S) == 100


def test_a_planned_number_a_little_larger_changes_the_forecast_as_little() -> None:
    run, told = curve("new", 3e6, 3e8, seed=99, until=0.5), []
    for times in (1 - 2e-5, 1.0, 1 + 2e-5, 1 + 4e-5):
        planned = {**run.traits, "tokens": times * run.planned}
        told.append(end(replace(run, traits=planned), ladder()).loss)
    assert max(told) / min(told) - 1 < 5e-5


def test_a_finished_run_that_begins_with_its_losses_does_not_judge_a_run() -> None:
    finished = [replace(one, family=f"trunk {k // 3}") for k, one in enumerate(ladder())]
    whole = finished[7]
    seen = whole.tokens_S <= 0.5 * whole.planned
    part = replace(
        whole,
        run_id="log.csv",
        family="",
        tokens_S=whole.tokens_S[seen],
        train_loss_S=whole.train_loss_S[seen].round(4),
    )
    told = end(part, finished)
    assert told.finished == 9
    (note,) = (note for note in told.notes if note.code == "curve-of-relative")
    assert "the losses of r7, which is left out with its branches" in note.message
    assert f"{whole.loss:.4f}: it may be this very run" in note.message
    later = part.tokens_S > 0.3 * part.planned
    branch = replace(part, train_loss_S=part.train_loss_S * np.where(later, 0.99, 1.0))
    said = {note.code: note.message for note in end(branch, finished).notes}
    assert "this very run" not in said["curve-of-relative"]


def test_a_log_that_finished_runs_of_several_recipes_judge_says_so(tmp_path: Path) -> None:
    log, moe = tmp_path / "log.csv", CPU.parent / "moe"
    seen = np.arange(10, 700) * 1024
    pd.DataFrame({"tokens": seen, "loss": 3 + 50 / seen**0.25}).to_csv(log, index=False)
    told = llmscale.predict(moe, from_curve=log, params="110k", tokens="1.35M")
    said = {note.code: note.message for note in told.notes}
    assert "36 finished runs of 3 recipes (default, e16, e4)" in said["curve-taken-for"]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"from_curve": "nothing"}, "is no run of .* and no file"),
        ({"from_curve": "RUN", "flops": 1e20}, "the end of one run"),
        ({"from_curve": "RUN", "params": 1e6}, "has its own size"),
        ({"from_curve": "RUN", "law": "accuracy"}, "is a law of scores"),
        ({"from_curve": "RUN", "law": "data-constrained"}, "needs at least 3 sizes"),
        ({"from_curve": "LOG"}, "does not say how large"),
        ({"from_curve": "LOG", "params": 4e5, "tokens": 1e6}, "more than the 1M planned"),
        ({"from_curve": "DONE"}, "has ended: done at a loss of"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    under_way: tuple[Path, str, float], asked: dict[str, Any], problem: str
) -> None:
    folder, run_id, _ = under_way
    done = next(run for run in read_rows(folder / "runs.parquet")[0] if run != run_id)
    log = str(folder / "runs" / run_id / "progress.jsonl")
    names = {"RUN": run_id, "LOG": log, "DONE": done}
    asked["from_curve"] = names.get(asked["from_curve"], asked["from_curve"])
    with pytest.raises(InputError, match=problem):
        llmscale.predict(folder, **asked)


def test_a_table_without_curves_is_refused() -> None:
    runs = {"params": [1e6, 2e6, 3e6], "tokens": [1e9] * 3, "loss": [3.0, 2.9, 2.8]}
    with pytest.raises(InputError, match="no curves of finished runs"):
        llmscale.predict(runs, from_curve="x")


def test_curves_are_read_as_far_as_they_are_logged(under_way: tuple[Path, str, float]) -> None:
    folder, run_id, _ = under_way
    rows = read_rows(folder / "runs.parquet")[0]
    curves = {one.run_id: one for one in folder_curves(ResultsFolder(folder), rows.values())}
    assert curves[run_id].share == pytest.approx(0.6, abs=0.01)
    assert all(one.share == pytest.approx(1.0, abs=0.01) for one in curves.values() if one.loss > 0)


def test_the_docs_say_what_the_intervals_of_our_own_runs_held() -> None:
    results = pd.read_json(CPU.parent / "curve-ends" / "curve_ends.json")
    text = " ".join((CPU.parents[1] / "docs" / "fitting.md").read_text().split())
    results["told"] = results["runs"] - results["untold"]
    results["held"] = results["inside"] * results["told"]
    sums = results.groupby("folder")[["held", "told"]].sum().round()
    for folder in ("flagship", "repetition", "transfer", "moe", "learning-rate"):
        assert f"{sums.loc[folder, 'held'] / sums.loc[folder, 'told']:.0%} on `{folder}`" in text
    for folder in ("distillation", "cpu"):
        assert f"{sums.loc[folder, 'held']:g} of {sums.loc[folder, 'told']:g} on `{folder}`" in text
    half = results[(results["folder"] == "flagship") & (results["share"] == 0.5)].iloc[0]
    assert f"to {half['forecast']:.1%} at half of the training" in text
    assert f"(the law only: {half['law']:.1%})" in text

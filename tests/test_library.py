"""`import llmscale`: what it offers, the tables that it takes, and fits that are kept and used."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

import llmscale
from llmscale.commands import app
from llmscale.explain.fit.kept import read_kept
from llmscale.quantity import format_count

SCRIPT = "<script>alert(1)</script>"


def grid(noise: float = 0.004) -> pd.DataFrame:
    N, D = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 3e10, 5))
    )
    factor = np.exp(noise * np.random.default_rng(0).standard_normal(len(N)))
    loss = (1.8 + 420 / N**0.36 + 2100 / D**0.31) * factor
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss})


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with a fit by the squared objective kept next to it."""
    path = tmp_path_factory.mktemp("kept") / "runs.csv"
    grid().to_csv(path, index=False)
    out = path.with_name("fit-chinchilla.json")
    done = run("fit", path, "--bootstrap", 60, "--objective", "squared", "--out", out)
    assert done.exit_code == 0, done.output
    assert "wrote fit-chinchilla.json" in done.stdout
    return out


def test_the_library_is_lazy_and_lists_what_it_offers(repository: Path) -> None:
    code = """
import sys, llmscale
assert {"fit", "predict", "plot", "read_runs", "status", "Law", "Fit"} <= set(dir(llmscale))
heavy = {"torch", "pandas", "numpy", "scipy", "pyarrow", "datasets", "tokenizers", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
trains = {"sweep", "tune", "SweepResult", "TuneResult", "adaptive_sweep"}
trains |= {name for name, place in llmscale._PLACES.items() if "trained" in place}
for name in set(llmscale.__all__) - trains:
    getattr(llmscale, name)
assert not {"torch", "datasets", "tokenizers"} & set(sys.modules)
assert callable(llmscale.sweep) and callable(llmscale.tune)
"""
    environment = os.environ | {"PYTHONPATH": str(repository)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        llmscale.fitt  # noqa: B018


LOSSES = {
    "params": [1e6, 3e6, 1e7, 3e7, 1e8, 3e8],
    "loss": [4.1, 3.8, 3.53, 3.32, 3.14, 3.0],
}


@dataclass
class Stream:
    """What speaks Arrow and is nothing that anybody knows."""

    table: pa.Table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


@dataclass
class Foreign:
    """What can only be turned into pandas."""

    frame: pd.DataFrame

    def to_pandas(self) -> pd.DataFrame:
        return self.frame


def test_a_table_may_be_of_pandas_of_arrow_or_a_dict_of_columns(tmp_path: Path) -> None:
    frame = grid().assign(data="c4")
    arrow = pa.Table.from_pandas(frame)
    columns = {name: frame[name].tolist() for name in frame.columns}
    sources: list[Any] = [frame, arrow, Stream(arrow), Foreign(frame), columns]
    tables = [llmscale.read_runs(source, where="tokens < 1e10") for source in sources]
    for table in tables:
        pd.testing.assert_frame_equal(table.frame, tables[0].frame)
    wrong: list[Any] = [5, [frame], {"params": 3}, {"params": [1], "loss": [1, 2]}, pd.DataFrame]
    for source in wrong:
        with pytest.raises(llmscale.InputError):
            llmscale.read_runs(source)


def test_what_is_asked_decides_what_is_returned() -> None:
    runs = grid().assign(data=["a", "b"] * 12 + ["a"])
    one = llmscale.fit(runs, bootstrap=0, diagnostics=False)
    assert (one.law.name, one.law.inputs) == ("chinchilla", ("params", "tokens"))
    several = llmscale.fit(runs, ["chinchilla", "power"], bootstrap=0, diagnostics=False)
    assert [fit.law.name for fit in several] == ["chinchilla", "power"]
    assert several["power"] is several[1]
    groups = llmscale.fit(runs, "power", by="data", bootstrap=0, diagnostics=False)
    assert [fit.origin.runs for fit in groups] == [13, 12]
    best = llmscale.predict(one, flops="1e21")
    assert 6 * best.params * best.tokens == pytest.approx(1e21)
    assert llmscale.predict(one, params="1B", tokens="20x").tokens == 2e10
    assert llmscale.predict(one, params=1e9, flops=6e20).tokens == pytest.approx(1e11)
    drawn = llmscale.plot(one, "residuals")
    assert drawn.n_runs == 25
    assert drawn._repr_png_().startswith(b"\x89PNG")


def test_a_kept_fit_forecasts_without_its_table_value_for_value(kept: Path) -> None:
    fit = llmscale.fit(kept.with_name("runs.csv"), bootstrap=60, objective="squared")
    for asked in ({"params": "10B", "tokens": "20x"}, {"flops": ["1e21", "1e23"]}):
        here = llmscale.predict(fit, **asked).to_json()
        there = llmscale.predict(kept, **asked).to_json()
        assert there.pop("kept") == str(kept)
        assert here.pop("kept") is None
        assert json.dumps(there) == json.dumps(here)
    again = llmscale.predict(kept, flops="1e21", level=0.5)
    assert again.level == 0.5
    shown = run("predict", kept, "--flops", "1e22", "--json")
    assert json.loads(shown.stdout)["kept"] == str(kept)
    assert "best of the budget" in run("predict", kept, "--flops", "1e22").stdout


def test_a_table_uses_the_fit_that_is_kept_next_to_it(kept: Path) -> None:
    table = kept.with_name("runs.csv")
    words = ("predict", table, "--flops", "1e21", "--law", "chinchilla", "--json")
    used = run(*words)
    assert json.loads(used.stdout)["kept"] == str(kept)
    assert f"the fit kept in {kept} is used" in used.stderr.replace("\n", "")
    as_kept = ("--bootstrap", 60)
    for changed in (("--refit", *as_kept), ("--bootstrap", 0)):
        assert json.loads(run(*words, *changed).stdout)["kept"] is None
    other = run(*words, "--where", "params < 1e9", *as_kept)
    assert json.loads(other.stdout)["kept"] is None
    same = run(*words, "--where", "params > 1")
    assert json.loads(same.stdout)["kept"] == str(kept)
    drawn = run("plot", table, "--kind", "pairs", "--json", "-o", kept.with_name("pairs.png"))
    assert json.loads(drawn.stdout)["kept"] == [str(kept)]


def test_what_a_kept_fit_was_made_with_is_said_unless_it_is_asked_for(kept: Path) -> None:
    def notes(**options: Any) -> list[str]:
        table = kept.with_name("runs.csv")
        found = llmscale.predict(table, flops="1e21", law="chinchilla", **options)
        assert found.fit is not None
        assert found.fit.kept == kept
        return [note.message for note in found.all_notes if note.code == "kept-options"]

    (note,) = notes()
    assert note == f"the fit in {kept} is used, which has objective squared and bootstrap 60"
    assert notes(objective="squared", bootstrap=60) == []


def test_a_kept_fit_says_which_level_was_tested(kept: Path) -> None:
    told = llmscale.predict(kept, params=1e10, tokens=1e12, level=0.5)
    at_own = llmscale.predict(kept, params=1e10, tokens=1e12)
    assert at_own.coverage.startswith("on this table 90% forecasts held")
    assert told.coverage.startswith(f"{at_own.coverage}; 50% forecasts were not tested")
    assert at_own.low < told.low < told.high < at_own.high


def test_the_fit_of_a_folder_that_was_moved_names_the_one_that_it_is_in(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    grid().assign(loss=lambda table: table["loss"] * (table["params"] / 1e8) ** 0.05).to_parquet(
        old / "runs.parquet"
    )
    fit = llmscale.fit(old, "chinchilla", keep=True, bootstrap=20, holdout="none")
    assert any(str(old) in note.message for note in fit.notes)
    old.rename(new)
    moved = read_kept(new / "fit-chinchilla.json")
    assert moved.origin.path == new
    for before, after in zip(fit.notes, moved.notes, strict=True):
        assert after.message == before.message.replace(str(old), str(new))


MY_LAW = """
from dataclasses import dataclass
from llmscale.explain.laws import Law

@dataclass(frozen=True)
class MyLaw(Law):
    A: float
    a: float
    inputs = ("params",)

    def loss(self, N):
        return self.A / N**self.a
"""


def test_a_folder_or_a_law_that_has_changed_is_fitted_again(tmp_path: Path) -> None:
    folder, law = tmp_path / "results", tmp_path / "mine.py"
    folder.mkdir()
    law.write_text(MY_LAW)
    frame = pd.DataFrame(LOSSES).assign(tokens=1e9)
    frame.to_parquet(folder / "runs.parquet")
    own = f"{law}:MyLaw"
    made: dict[str, Any] = {"bootstrap": 0, "holdout": "none"}
    fit = llmscale.fit(folder, own, keep=True, **made)
    assert fit.kept == folder / "fit-MyLaw.json"
    assert fit.formula == "L(N), with A, a"

    def used(law: str, source: Path = folder, **asked: Any) -> Path | None:
        found = llmscale.predict(source, params=1e9, law=law, **asked, **made)
        assert found.fit is not None
        return found.fit.kept

    assert used(own) == used(own, fit.kept) == fit.kept
    frame.assign(loss=frame["loss"] + 0.1).to_parquet(folder / "runs.parquet")
    assert used(own) is None
    frame.to_parquet(folder / "runs.parquet")
    assert used(own) == fit.kept
    law.write_text(MY_LAW.replace("self.A /", "1.5 + self.A /"))
    assert used(own) is None
    with pytest.raises(llmscale.InputError, match="MyLaw has changed since"):
        used(own, fit.kept)
    law.unlink()
    with pytest.raises(llmscale.InputError, match="there is no file"):
        used(own, fit.kept)
    with pytest.raises(llmscale.InputError, match="no law of llmscale's own"):
        llmscale.predict(fit.kept, params=1e9)


def test_a_kept_fit_says_what_it_cannot_do(kept: Path, tmp_path: Path) -> None:
    cases = [
        (("plot", kept, "-o", tmp_path / "a.png"), "keeps the fit of chinchilla, and not its runs"),
        (("predict", kept, "-C", "1e21", "--objective", "huber"), "made with objective squared"),
        (("predict", kept, "-C", "1e21", "--where", "loss < 3"), "reads no table"),
        (
            ("predict", kept, "-C", "1e21", "--law", "kaplan"),
            "fit of chinchilla, not of kaplan",
        ),
        (("predict", kept, "-C", "1e21", "--refit"), "reads no table"),
        (("fit", kept), "holds a fit that was kept, and no runs"),
        (("predict", kept, "-C", "1e21", "--count", "params_total"), "N of the fit counts params"),
    ]
    for words, sentence in cases:
        result = run(*words)
        assert result.exit_code == 2, words
        assert sentence in " ".join(result.stderr.split()), result.stderr
        assert result.stdout == ""
    piped = json.loads(kept.read_text())
    other = tmp_path / "piped.json"
    other.write_text(signed({**piped, "table": "<stdin>"}))
    again = " ".join(run("predict", other, "-C", "1e21", "--refit").stderr.split())
    assert again.endswith("fix: name the table that it was fitted to")
    drawn = run("plot", kept, "--kind", "pairs", "-o", tmp_path / "pairs.svg")
    assert drawn.exit_code == 0, drawn.output


def signed(payload: dict[str, Any]) -> str:
    """The file of a fit: who writes one writes its digest, too, the sha256 of the rest."""
    rest = {name: value for name, value in payload.items() if name != "digest"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return json.dumps({**rest, "digest": digest})


def test_a_damaged_foreign_or_old_fit_is_one_sentence(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a results folder was run')\n")
    monkeypatch.chdir(tmp_path)
    text = kept.read_text()
    whole = json.loads(text)
    old = {name: whole[name] for name in whole if name not in ("fit_format", "kept", "digest")}
    own = text.replace('"law": "chinchilla"', '"law": "MyLaw"')
    evil = {**whole["holdout"], "law": "./evil.py:Evil"}

    def with_kept(**changes: Any) -> str:
        return signed({**whole, "kept": {**whole["kept"], **changes}})

    half = text[: len(text) // 2]
    contents = {
        half: f"breaks off in line {half.count(chr(10)) + 1}",
        text.replace('"objective": {', '"objective": {"more": 1,', 1): "has changed since",
        own: "is damaged",
        json.dumps({**whole, "fit_format": 99}): "is of format 99",
        json.dumps(old): "written by an older llmscale",
        signed({**whole, "holdout": evil}): "no law of llmscale's own",
        signed({**whole, "law": None}): "law is null, not text",
        signed({**whole, "coefficients": {"E": 1.8}}): "it has no A",
        signed({**whole, "coefficients": dict.fromkeys("EAB")}): "E is null, not a number",
        signed({**whole, "n_runs": "x"}): "a value of it is wrong",
        with_kept(options={"level": 5}): "level is 5, which is out of range",
        with_kept(reach={"ranges": {}, "largest": "x", "misfit": 0.0}): 'reach.largest is "x"',
        with_kept(noise={"shape": [0], "float64": ""}): "its noise is of shape (0,), not (60,)",
        with_kept(intervals={"shape": [0, 2], "float64": "AAAA"}): "a value of it is wrong",
        # A table of runs may be named as a fit.
        json.dumps({"loss": [1.0, 2.0]}): "has no column for params",
    }
    path = tmp_path / "fit-mine.json"
    for content, sentence in contents.items():
        path.write_text(content)
        result = run("predict", path, "-C", "1e21")
        assert result.exit_code == 2
        assert sentence in " ".join(result.stderr.split()), result.stderr
        assert result.stderr.count("error:") == 1
    path.write_text(json.dumps(LOSSES))
    forecast = llmscale.predict(path, params=1e9, law="power", bootstrap=0)
    assert forecast.fit is not None
    assert forecast.fit.kept is None


def test_a_law_asked_of_fits_is_that_law_or_refused() -> None:
    both = llmscale.fit(LOSSES, ["power", "power-floor"], bootstrap=0)
    for fit in both:
        asked = llmscale.predict(both, params=1e8, law=fit.law.name)
        assert asked.loss == llmscale.predict(fit, params=1e8).loss
    with pytest.raises(llmscale.InputError, match="no fit of chinchilla here"):
        llmscale.predict(both, params=1e8, law="chinchilla")


@pytest.mark.parametrize(
    ("arguments", "idle"),
    [
        (("--kind", "curves", "--law", "power"), "--law"),
        (("--kind", "curves", "--variable", "tokens"), "--variable"),
        (("--kind", "curves", "--level", "0.5"), "--level"),
        (("--kind", "curves", "--bootstrap", "20"), "--bootstrap"),
        (("--kind", "envelope", "--law", "power"), "--law"),
        (("--kind", "envelope", "--objective", "huber"), "--objective"),
        (("--kind", "curves", "--refit"), "--refit"),
        (("--kind", "pairs", "--law", "power", "--law", "kaplan"), "draws 1 law"),
        (("--law", "kaplan", "--variable", "tokens"), "--variable"),
        (("--objective", "squared", "--delta", "0.1"), "--delta"),
    ],
)
def test_plot_refuses_what_a_figure_makes_no_use_of(
    arguments: tuple[str, ...], idle: str, tmp_path: Path
) -> None:
    path = tmp_path / "runs.csv"
    grid().to_csv(path, index=False)
    result = run("plot", path, *arguments, "-o", tmp_path / "x.png")
    assert result.exit_code == 2
    assert idle in result.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["runs.csv"]


class Checked(HTMLParser):
    """Text and tags of HTML whose tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_notebooks_show_is_a_table_and_no_markup_of_the_files() -> None:
    frame = grid().assign(run_id=[f"{SCRIPT}{place}" for place in range(25)], data=SCRIPT)
    table = llmscale.read_runs(frame.assign(status=["done"] * 24 + [SCRIPT]), status="done=done")
    fits = llmscale.fit(table, ["chinchilla", "power"], bootstrap=20)
    values: list[Any] = [
        table,
        fits,
        fits[0],
        replace(fits[0], notes=(llmscale.Note("floor-at-zero", SCRIPT),)),
        llmscale.predict(fits[0], flops=[1e20, 1e21]),
        llmscale.fit(frame.assign(data=["a", "b"] * 12 + ["a"]), "power", by="data", bootstrap=20),
    ]
    for value in values:
        shown = Checked(value._repr_html_())
        assert "table" in shown.tags
        assert "script" not in shown.tags
        assert len(repr(value).splitlines()) <= 30
    budget = values[4]
    for name, (low, high) in budget.optima[1].intervals.items():
        if name in ("params", "tokens"):
            said = f"[{format_count(low)}, {format_count(high)}]"
            assert said in str(budget)
            assert said in Checked(budget._repr_html_()).text
    ends = fits[0].intervals["alpha"]
    assert f"[{ends[0]:.4g}, {ends[1]:.4g}]" in Checked(fits[0]._repr_html_()).text

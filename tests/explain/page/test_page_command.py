"""`llmscale explore` as a command: the page that it writes or serves, and what it refuses."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pages import grid, run

import llmscale
from llmscale.explain.page.server import served
from llmscale.quantity import format_count


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit as a file."""
    path = tmp_path_factory.mktemp("kept") / "fit.json"
    llmscale.fit(grid(), "chinchilla", bootstrap=40, keep=path)
    return path


def test_what_is_said_of_one_budget_names_it_and_the_law_is_told_to_be_of_all(
    kept: Path,
) -> None:
    chosen = llmscale.explore(grid()[::2], bootstrap=20, diagnostics=False).html
    named = llmscale.explore(kept).html
    for html, name, runs in ((chosen, "law", grid()[::2]), (named, "N*", grid())):
        largest = 6 * (runs["params"] * runs["tokens"]).max()
        assert f"<b>{name} at {largest:.3g} FLOPs, those of the largest run:</b>" in html
    assert ("<b>other laws:</b>" in chosen, "<b>other laws:</b>" in named) == (True, False)


def test_the_command_writes_the_page_that_the_call_gives(kept: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "page.html"
    written = run(kept, "--price-per-hour", 2, "--out", out)
    assert written.exit_code == 0, written.output
    assert written.stdout.split() == [str(out)]
    made = llmscale.explore(kept, price_per_hour=2)
    assert out.read_text("utf-8") == made.html
    told = json.loads(run(kept, "--price-per-hour", 2, "--json").stdout)
    assert (told["path"], told["sentence"]) == (None, made.sentence)
    best = llmscale.predict(kept, flops=2e22)
    size = format_count(best.optima[0].params)
    assert made.sentence.startswith(f"With 2e+22 FLOPs: {size} parameters [")
    assert "srcdoc" in made._repr_html_()


def test_the_page_is_served_to_this_machine_until_ctrl_c(kept: Path) -> None:
    words = [sys.executable, "-m", "llmscale", "explore", str(kept), "--no-open"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    ) as process:
        assert process.stdout is not None
        place = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", place)
        with urllib.request.urlopen(place) as answer:
            assert b"what a budget buys" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    with served(llmscale.explore(kept)) as place:
        for path, host in (("other", "127.0.0.1"), ("", "stranger.example")):
            asked = urllib.request.Request(place + path, headers={"Host": f"{host}:80"})
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(asked)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--law", "power"), "power predicts from params, and a page shows a law in N and D"),
        (("--out", "page.txt"), "page.txt is no place for a page"),
        (("--gpu", "abacus"), "there is no GPU 'abacus'"),
        (("--price-per-hour", "-1"), "price_per_hour is -1"),
        (("--port", "70000", "--no-open"), "Invalid value for '--port'"),
        (("--port", "8000", "--out", "page.html"), "--port 8000 is of a page that is served"),
    ],
)
def test_wrong_input_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    table = tmp_path / "runs.csv"
    grid().to_csv(table, index=False)
    wrong = run(table, "--bootstrap", 40, *arguments)
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert sentence in wrong.stderr.replace("\n", " ")


def test_runs_that_tell_no_best_size_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    grid().assign(loss=lambda runs: 2 + 1e3 / runs["tokens"] ** 0.3).to_csv(table, index=False)
    wrong = run(table, "--law", "chinchilla", "--bootstrap", 40, "--out", tmp_path / "page.html")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "these runs tell no best size" in wrong.stderr.replace("\n", " ")
    assert not (tmp_path / "page.html").exists()
    grid()[["params", "loss"]].to_csv(table, index=False)
    wrong = run(table, "--out", tmp_path / "page.html")
    assert wrong.exit_code == 2
    assert "takes a law in N and D" in wrong.stderr.replace("\n", " ")

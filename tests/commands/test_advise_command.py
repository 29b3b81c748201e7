"""`llmscale advise`: what it prints, and how it refuses what it cannot answer."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import llmscale
from llmscale.commands import app, output
from llmscale.explain.fit.published import published_fit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "advising.md"
ASKED = ("--flops", "1e22")


def run(*words: Any, width: int = 80) -> Result:
    return CliRunner().invoke(app, ["advise", *map(str, words)], env={"COLUMNS": str(width)})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e7, 1e9, 5), [1e9, 1e10, 1e11]))
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(len(N)))
    loss = (1.8 + 420 / N**0.36 + 2100 / D**0.37) * noise
    pd.DataFrame({"params": N, "tokens": D, "loss": loss}).to_csv(path, index=False)
    return path


def test_the_page_shows_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(output, "results")  # made at its first use, as wide as it is then
    page = PAGE.read_text(encoding="utf-8")
    asked, shown = re.findall(
        r"```sh\nllmscale advise (--published [^\n]*)\n```\n\n```text\n(.*?)```", page, re.DOTALL
    )[0]
    printed = run(*shlex.split(asked)).stdout
    assert shown.split() == printed.split()
    rows = [line for line in printed.splitlines() if re.search(r"x\d+x.* GB ", line)]
    assert len(rows) > 5
    assert all(len(line) <= 80 for line in rows)
    # The documented rule gives the speed that is printed.
    read, weights, cache, bandwidth = re.findall(
        r"reads ([\d.]+) GB of weights at ([\d.]+) and the cache at ([\d.]+) of (\d+) GB/s",
        " ".join(printed.split()),
    )[0]
    kept, speed = (
        re.findall(pattern, printed)[0]
        for pattern in (r"cache ([\d.]+) GB", r"([\d.]+) tokens a second a stream, \d+ in all")
    )
    seconds = (float(read) / float(weights) + float(kept) / float(cache)) / float(bandwidth)
    assert 1 / seconds == pytest.approx(float(speed), rel=0.004)
    assert "coverage" not in printed


@pytest.mark.parametrize(
    ("limits", "shown", "left_out"),
    [
        ((), {"D", "interval", "advised"}, set()),
        (("--serve-memory", "9GB"), {"D", "advised", "memory"}, {"interval"}),
        (
            ("--serve-on", "l4", "--tokens-per-second", 20),
            {"advised", "memory", "tokens/s"},
            {"interval"},
        ),
    ],
)
def test_what_was_asked_for_is_shown_in_80_columns(
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[Any, ...],
    shown: set[str],
    left_out: set[str],
) -> None:
    monkeypatch.delattr(output, "results")  # made at its first use, as wide as it is then
    printed = run(table, *ASKED, *limits, "--law", "chinchilla", "--bootstrap", 50).stdout
    heading = next(line for line in printed.splitlines() if line.startswith("model "))
    assert {"shape", "N", "loss", *shown} <= set(heading.split())
    assert not left_out & set(heading.split())
    assert len(heading) <= 80
    for name in left_out:
        assert re.search(rf"no room for: .*{name}", printed)


def test_json_is_what_the_library_returns() -> None:
    limits: dict[str, Any] = {"serve_on": "l4", "streams": 4, "tokens_per_second": 30.0}
    words = ("--serve-on", "l4", "--streams", 4, "--tokens-per-second", 30, "--json")
    result = run("--published", *ASKED, *words)
    advice = llmscale.advise(published_fit(), flops=1e22, **limits)
    payload = json.loads(result.stdout)
    assert payload["advised"]["shape"] == advice.advised.model.shape.name
    assert payload["advised"]["loss"] == advice.advised.choice.loss.value
    assert payload["advised"]["interval"] is None
    assert payload["advised"]["served"]["tokens_per_second"] >= 30
    assert [one["name"] for one in payload["limits"] if one["binds"]] == ["compute", "speed"]
    assert "published-law" in result.stderr
    assert str(advice).startswith(advice.verdict)
    assert advice.advised.model.shape.name in advice._repr_html_()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no budget is given"),
        ((*ASKED, "--gpu-hours", 10, "--gpu", "h100"), "which are 2 budgets"),
        (("--gpu-hours", 10), "the kind of GPU is not known"),
        (("--flops", -1), "not above zero"),
        ((*ASKED, "--task", "mmlu"), "has no column 'mmlu'"),
        ((*ASKED, "--task-law", "task-error"), "no task is named"),
        ((*ASKED, "--serve-memory", "1MB"), "no model fits: the smallest, 2x16x1"),
        ((*ASKED, "--serve-memory", "24Gb"), "'24Gb' is no number of bytes"),
        ((*ASKED, "--serve-memory", "24B"), "24 bytes, less than any machine has"),
        ((*ASKED, "--serve-bandwidth", "300B/s"), "300 bytes a second, less than any machine"),
        ((*ASKED, "--serve-on", "l4", "--bytes-per-weight", 8), "out of range"),
        (("--money", "5k", "--gpu", "h100"), "nobody said what one costs"),
        ((*ASKED, "--serve-memory", "-1GB"), "'-1GB' is no number of bytes"),
        ((*ASKED, "--serve-on", "l4", "--tokens-per-second", 1e8), "no model is fast enough"),
        ((*ASKED, "--serve-on", "l5"), "there is no GPU 'l5'"),
        ((*ASKED, "--serve-gpus", 2), "--serve-gpus are of no kind"),
        ((*ASKED, "--serve-on", "l4", "--serve-memory", "9GB"), "--serve-memory is given as well"),
        ((*ASKED, "--streams", 2), "nothing is said of what the model is served on"),
        ((*ASKED, "--serve-memory", "1GB", "--tokens-per-second", 9), "follows from the bandwidth"),
        ((*ASKED, "--serve-on", "l4", "--bytes-per-weight", 0), "out of range"),
        ((*ASKED, "--unique-tokens", "none"), "is not a number"),
        ((*ASKED, "--published"), "--published asks for a law that others published"),
        ((*ASKED, "--unique-tokens", 5), "give them in tokens, as in --unique-tokens 5B"),
        (("--flops", 5), "5 FLOPs train nothing"),
        (("--flops", "1e33"), "no built-in shape is near the best size"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(
    table: Path, words: tuple[Any, ...], said: str
) -> None:
    result = run(table, *words, "--law", "chinchilla", "--bootstrap", 0)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_a_published_law_has_no_runs_to_judge_by() -> None:
    asked = {"task": ("--task", "mmlu"), "curve": ("--from-curve", "log.csv")}
    task = CliRunner().invoke(app, ["predict", "--published", "-C", "1e22", *asked["task"]])
    assert "<Besiroglu et al. 2024> holds no scores of runs" in task.stderr
    curve = CliRunner().invoke(app, ["predict", "--published", *asked["curve"]])
    assert "--from-curve is judged by finished runs" in curve.stderr
    assert {task.exit_code, curve.exit_code} == {2}

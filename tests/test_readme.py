"""README and docs: every command in them exists with the options shown, the quick ones and the
Python run, links lead somewhere, and numbers are those of the committed files.
"""

import ast
import functools
import inspect
import json
import math
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app
from llmscale.measure.sweep.isoflop_grid import isoflop_grid
from llmscale.measure.sweep.spec import parse_flops, read_spec
from llmscale.measure.trained.finetuning import spec as finetuning
from llmscale.quantity import format_count
from llmscale.runs.shape import USUAL_VOCABULARY

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
README = PAGES[0].read_text(encoding="utf-8")
MOST_BYTES = 11_000
"""Of the README: longer ones are not read."""
QUICK = ("shapes", "laws", "fit", "predict", "plan", "advise", "plot", "doctor", "explain")
ELSEWHERE = ("://", "--law all", "--law data-constrained", "experts.csv", "--from-curve")
"""In commands that are not run here: a bucket, a table or a log of one's own, and laws that take
long to fit and are fitted in tests of `fit` and of laws."""
LONG = (
    *("sweep", "tune", "finetune"),
    *("open_model", "models", "generate", "evaluate", "quantize", "inspect", "export"),
    *("import_model", "chat"),
)
"""Calls of the library that train, or use a trained model: their arguments are checked, and they
are not made."""
SIZES_AND_TOKENS = [(N, D) for N in (1e6, 3e6, 1e7, 3e7, 1e8) for D in (1e8, 1e9, 1e10)]


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.text.splitlines()[0][:60]}"


def _blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for language, code in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found.append(Block(page, language, code))
    return [block for block in found if block.language in languages]


def _lines(program: str) -> Iterator[list[str]]:
    """The arguments of every line of a shell block that calls `program`."""
    for block in _blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == program:
                yield words[1:]


def _inline() -> Iterator[list[str]]:
    """The arguments of every call of llmscale in a sentence."""
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for call in re.findall(r"`llmscale ([^`]+)`", prose):
            yield shlex.split(call)


COMMANDS = {shlex.join(words): words for words in _lines("llmscale")}
EVERY = COMMANDS | {shlex.join(words): words for words in _inline()}
PYTHON = {f"{place} {block}": block.text for place, block in enumerate(_blocks("python"))}


@pytest.mark.parametrize("arguments", EVERY.values(), ids=EVERY)
def test_every_command_parses(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    while hasattr(command, "get_command") and arguments:
        found = command.get_command(None, arguments[0])
        if found is None:
            break
        command, arguments = found, arguments[1:]
    flags = {
        flag
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    used = {word.partition("=")[0] for word in arguments if word.startswith("-") and word != "-"}
    assert used <= flags
    if not used & {"--version", "--help", "--install-completion", "--show-completion"}:
        context = command.make_context("llmscale", list(arguments))
        assert context.args == []


def test_the_isoflop_grid_has_its_sizes() -> None:
    (words,) = (words for words in COMMANDS.values() if "--flops" in words and words[0] == "sweep")
    given = dict(zip(words[1::2], words[2::2], strict=True))
    flops, number = parse_flops(given["--flops"]), int(given["--per-budget"])
    settings = {"vocab_size": USUAL_VOCABULARY, "context": int(given["--context"])}
    assert len(isoflop_grid(flops, number, 20, 4, **settings, arch="llama")) == number * len(flops)


@pytest.mark.parametrize("target", sorted({words[0] for words in _lines("make")}))
def test_every_make_target_exists(target: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*## ", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize("block", _blocks("toml"), ids=str)
def test_every_sweep_in_a_file_is_read(block: Block, tmp_path: Path) -> None:
    text = block.text
    if "runs" in tomllib.loads(text) and "sizes" not in tomllib.loads(text):
        (tmp_path / "finetuning.toml").write_text(text, encoding="utf-8")
        assert finetuning.read_spec(tmp_path / "finetuning.toml").runs
        return
    if not {"sizes", "flops"} & set(tomllib.loads(text)):
        text = 'sizes = ["10k"]\n' + text  # a part of a file
    for own in (REPOSITORY / "experiments" / "own").glob("*.py"):  # members of one's own
        shutil.copy(own, tmp_path)
    (tmp_path / "sweep.toml").write_text(text, encoding="utf-8")
    assert read_spec(tmp_path / "sweep.toml").data.source


def test_the_quick_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    for line, arguments in COMMANDS.items():
        if arguments[0] in QUICK and not any(word in line for word in ELSEWHERE):
            has_law = (
                arguments[0] in ("fit", "plot", "plan", "advise", "predict")
                and "curves" not in arguments
            )
            # Intervals of the table and the law that are fitted fastest.
            number = "20" if "runs.csv --law chinchilla" in line else "0"
            fewer = ["--bootstrap", number] if has_law else []
            result = CliRunner().invoke(app, [*arguments, *fewer])
            assert result.exit_code == 0, f"llmscale {line}\n{result.output}"


@pytest.mark.parametrize("code", PYTHON.values(), ids=PYTHON)
def test_the_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    called = [node for node in calls if ast.unparse(node.func).startswith("llmscale.")]
    for node in called:
        function = getattr(llmscale, ast.unparse(node.func).removeprefix("llmscale."))
        named = [keyword.arg for keyword in node.keywords if keyword.arg]
        inspect.signature(function).bind(*node.args, **dict.fromkeys(named))
    if not any(ast.unparse(node.func).endswith(LONG) for node in called):
        _lay_out(tmp_path)
        monkeypatch.chdir(tmp_path)
        fewer = functools.partial(llmscale.fit, bootstrap=20)  # refits, unless the page says more
        monkeypatch.setattr(llmscale, "fit", fewer)
        exec(compile(code, "a page", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_to_a_heading(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), path
        headings = (
            re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE) if heading else []
        )
        anchors = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}
        assert not heading or heading in anchors, f"{path}#{heading}"


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= MOST_BYTES


def test_sizes_and_n_are_those_of_the_readme() -> None:
    plan = CliRunner().invoke(app, ["shapes", "10k", "--vocab-size", "1024", "--json"]).stdout
    (shape,) = json.loads(plan)["shapes"]
    assert f"the size `10k` has an N of {format_count(shape['params'])}" in _flowing(README)
    assert f"times a width of {shape['d_model']})" in _flowing(README)
    sweeping = _flowing((REPOSITORY / "docs" / "sweeping.md").read_text(encoding="utf-8"))
    inside = shape["params_non_embedding"]
    assert f"has {inside:,} weights in its blocks and {shape['params'] - inside:,} in" in sweeping
    assert f"so N is {shape['params']:,}" in sweeping


def test_errors_and_shares_of_forecasts_are_those_of_the_league() -> None:
    league = json.loads((REPOSITORY / "results" / "league" / "league.json").read_text())
    rows = [row for row in league["distances"] if row["runs"] == "near-optimal"]
    at = {(row["kind"], row["distance"], row["law"]): row for row in rows}

    def error(kind: str, law: str) -> str:
        return f"{at[kind, '7 to 15x', law]['error']:.2g}%"

    fitting = _flowing((REPOSITORY / "docs" / "fitting.md").read_text(encoding="utf-8"))
    clean = [error("clean", law) for law in ("auto", "chinchilla", "curve_fit")]
    broken = [error("broken recipes", law) for law in ("auto", "chinchilla", "curve_fit")]
    for phrase in (
        f"within {clean[0]} on clean tables (Chinchilla's law {clean[1]}, "
        f"`scipy.optimize.curve_fit` {clean[2]})",
        f"and {broken[0]} on tables of recipes that were found wanting ({broken[1]} and "
        f"{broken[2]})",
    ):
        assert phrase in fitting
    held = [at["all", distance, "auto"]["held"] for distance in ("1 to 3x", "3 to 10x")]
    assert f"held {held[0]:.0%} of them up to 3x beyond and {held[1]:.0%}" in _flowing(README)
    assert f"within {clean[0]}" in _flowing(README)


def _flowing(text: str) -> str:
    """The text without its line ends."""
    return " ".join(text.split())


def _lay_out(folder: Path) -> None:
    """The files that the commands read: committed results, and tables of one's own."""
    for runs in (REPOSITORY / "results").glob("*/runs.parquet"):
        shutil.copytree(runs.parent, folder / "results" / runs.parent.name)
    shutil.copytree(REPOSITORY / "results" / "trunks", folder / "results" / "first")
    rows = []
    for data, factor in (("web", 1.0), ("code", 0.98)):
        for run, (N, D) in enumerate(SIZES_AND_TOKENS):
            loss = factor * (1.8 + 420 / N**0.36 + 2100 / D**0.31) * (1 + 0.002 * math.sin(5 * run))
            score = 0.25 + 0.6 / (1 + (1e9 / N) ** 0.5)
            rows.append(f"{N},{D},{loss},{N},{D},{loss},{data},{score}")
    (folder / "runs.csv").write_text(
        "\n".join(["N,D,loss,model_size,train_tokens,final_loss,data,mmlu", *rows]) + "\n"
    )
    (law,) = (code for code in PYTHON.values() if "class MyLaw" in code)
    (folder / "mine.py").write_text(law, encoding="utf-8")


def test_what_is_said_of_the_flagship_is_what_its_fit_says(repository: Path) -> None:
    folder = repository / "results" / "flagship"
    error = {}
    for law in ("kaplan", "chinchilla"):
        fit = llmscale.fit(folder, law=law, bootstrap=0)
        assert fit.holdout is not None
        assert len(fit.table.frame) == 35
        error[law] = f"{100 * fit.holdout.mean_abs_rel_error:.1f}%"
    text = (repository / "README.md").read_text(encoding="utf-8")
    assert f"a mean error of {error['kaplan']}" in text
    assert f"misses the same runs by {error['chinchilla']}" in text
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| Kaplan | 4 | {error['kaplan']} |" in page
    assert f"| Chinchilla | 5 | {error['chinchilla']} |" in page

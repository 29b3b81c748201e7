"""The README: every command in it exists with the options shown, and the quick ones run."""

import math
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.measure.sweep.isoflop_grid import isoflop_grid
from llmscale.measure.sweep.spec import parse_flops
from llmscale.runs.shape import USUAL_VOCABULARY

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
QUICK = ("shapes", "laws", "fit", "predict", "plot", "doctor")
SIZES_AND_TOKENS = [(N, D) for N in (1e6, 3e6, 1e7, 3e7, 1e8) for D in (1e8, 1e9, 1e10)]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _lines(program: str) -> Iterator[list[str]]:
    """The arguments of every line of the README's shell blocks that calls `program`."""
    for block in _blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == program:
                yield words[1:]


def _inline() -> Iterator[list[str]]:
    """The arguments of every call of llmscale in a sentence."""
    for call in re.findall(
        r"`llmscale ([^`]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    ):
        yield shlex.split(call)


COMMANDS = list(_lines("llmscale"))
EVERY = {shlex.join(words): words for words in (*COMMANDS, *_inline())}


@pytest.mark.parametrize("arguments", EVERY.values(), ids=EVERY)
def test_every_command_in_the_readme_parses(arguments: list[str]) -> None:
    command, context = typer.main.get_command(app), None
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
        command, *arguments = command.commands[arguments[0]], *arguments[1:]
    flags = {
        flag
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    used = {word.partition("=")[0] for word in arguments if word.startswith("-")}
    assert used <= flags
    if not used & {"--version", "--help", "--install-completion", "--show-completion"}:
        context = command.make_context("llmscale", list(arguments))
        assert context.args == []


def test_the_isoflop_grid_of_the_readme_has_its_sizes() -> None:
    (words,) = (words for words in EVERY.values() if "--flops" in words and words[0] == "sweep")
    given = dict(zip(words[1::2], words[2::2], strict=True))
    flops, number = parse_flops(given["--flops"]), int(given["--per-budget"])
    settings = {"vocab_size": USUAL_VOCABULARY, "context": int(given["--context"])}
    assert len(isoflop_grid(flops, number, 20, 4, **settings, arch="llama")) == number * len(flops)


@pytest.mark.parametrize("target", [words[0] for words in _lines("make")])
def test_every_make_target_in_the_readme_exists(target: str) -> None:
    assert re.search(
        rf"^{target}:.*## ",
        (REPOSITORY / "Makefile").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )


def test_the_quick_commands_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments in COMMANDS:
        if arguments[0] in QUICK and "://" not in " ".join(arguments):  # a bucket of one's own
            fewer = ["--bootstrap", "20"] if arguments[0] in ("fit", "plot", "predict") else []
            result = CliRunner().invoke(app, [*arguments, *fewer])
            assert result.exit_code == 0, f"llmscale {shlex.join(arguments)}\n{result.output}"


@pytest.mark.parametrize("code", _blocks("python"))
def test_the_python_of_the_readme_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("path", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_every_file_that_the_readme_links_to_exists(path: str) -> None:
    assert (REPOSITORY / path).is_file()


def _lay_out(folder: Path) -> None:
    """The files that the README's commands read: committed results under both names, and a table of
    one's own.
    """
    for name in ("cpu", "first"):
        shutil.copytree(REPOSITORY / "results" / "cpu", folder / "results" / name)
    rows = []
    for data, factor in (("web", 1.0), ("code", 0.98)):
        for run, (N, D) in enumerate(SIZES_AND_TOKENS):
            loss = factor * (1.8 + 420 / N**0.36 + 2100 / D**0.31) * (1 + 0.002 * math.sin(5 * run))
            rows.append(f"{N},{D},{loss},{N},{D},{loss},{data}")
    (folder / "runs.csv").write_text(
        "\n".join(["N,D,loss,model_size,train_tokens,final_loss,data", *rows]) + "\n"
    )
    (law,) = (block for block in _blocks("python") if "class MyLaw" in block)
    (folder / "mine.py").write_text(law, encoding="utf-8")

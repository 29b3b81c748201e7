"""The program as a whole: help, completion, exit codes, and which stream speaks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hostile import hostile_modules
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app, output
from llmscale.errors import InputError, WorkError

run = CliRunner().invoke


def _leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words that call each command, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(_leaves(typer.main.get_command(app)))


def test_help_lists_every_command() -> None:
    listed = run(app, ["--help"]).stdout
    for command in COMMANDS:
        assert f"\n  {command[0]} " in listed
    told = listed.partition("Commands:")[2].partition("Start with")[0].strip().splitlines()
    assert len(told) == len({command[0] for command in COMMANDS})
    assert all(line.endswith(".") and "..." not in line and len(line) < 79 for line in told)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example_in_its_help(command: tuple[str, ...]) -> None:
    result = run(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"llmscale {' '.join(command)}" in result.stdout.partition("Example: ")[2]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_offers_json(command: tuple[str, ...]) -> None:
    if command == ("schema",):  # which prints JSON only
        assert json.loads(run(app, [*command]).stdout)["$schema"].startswith(
            "http://json-schema.org/"
        )
        return
    assert "\n  --json " in run(app, [*command, "--help"]).stdout


def test_version_is_the_packages_own() -> None:
    assert run(app, ["--version"]).stdout == f"llmscale {llmscale.__version__}\n"


def test_no_arguments_show_help() -> None:
    assert "Usage: " in run(app, []).output


@pytest.mark.parametrize(
    "arguments", [["fitt"], ["fit", "--levell", "0.9"], ["fit", "--level", "high"]]
)
def test_a_mistyped_command_line_exits_2_and_leaves_standard_output_empty(
    arguments: list[str],
) -> None:
    result = run(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize(
    ("raised", "exit_code", "said"),
    [
        (
            InputError("there is no size 10Q", "use 10M"),
            2,
            "error: there is no size 10Q\n  fix: use 10M\n",
        ),
        (WorkError("the disk is full"), 1, "error: the disk is full\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_become_exit_codes(raised: BaseException, exit_code: int, said: str) -> None:
    probe = typer.Typer(cls=output.Commands)

    @probe.callback()
    def main() -> None: ...

    @probe.command()
    def fail() -> None:
        raise raised

    result = run(probe, ["fail"])
    assert result.exit_code == exit_code
    assert said in result.stderr
    assert result.stdout == ""


def test_python_m_llmscale_is_the_program_in_any_folder(repository: Path, tmp_path: Path) -> None:
    ran = hostile_modules(
        tmp_path, but=("llmscale",)
    )  # that name is what `python -m` itself looks for there
    environment = os.environ | {"PYTHONPATH": str(repository)}
    command = [sys.executable, "-m", "llmscale"]
    for words, begins in ((["--help"], "Usage: llmscale "), (["shapes", "1M"], "")):
        done = subprocess.run(
            [*command, *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=True,
        )
        assert done.stdout.startswith(begins)
    assert not ran.exists(), "a module of the current folder"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_shows_a_script_for_every_shell(repository: Path, shell: str) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(repository),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    command = [sys.executable, "-m", "llmscale", "--show-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "_LLMSCALE_COMPLETE" in done.stdout


def test_completion_completes_commands_and_options(repository: Path) -> None:
    assert "doctor" in _complete(repository, "llmscale do")
    assert "--level" in _complete(repository, "llmscale fit --le")


def test_completion_installs_into_the_home_folder(repository: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(repository),
        "HOME": str(tmp_path),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    command = [sys.executable, "-m", "llmscale", "--install-completion", "bash"]
    subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert any(
        "_LLMSCALE_COMPLETE" in path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("predict k.json -N 1B --params 2B -D 1B", "--params"),
        ("fit k.csv --by x --by y", "--by"),
        ("plot k.csv --title a --title b", "--title"),
        ("tune --refine --no-refine", "--refine"),
        ("data inspect x --samples 2 --samples 3", "--samples"),
    ],
)
def test_an_option_of_one_value_is_not_taken_from_its_last_place(line: str, name: str) -> None:
    refused = run(app, line.split())
    assert refused.exit_code == 2
    assert f"error: {name} is given 2 times, and takes one value" in refused.stderr


def test_an_option_of_several_values_and_a_switch_may_be_repeated(tmp_path: Path) -> None:
    twice = run(app, ["fit", str(tmp_path / "no.csv"), *2 * ["--where", "N > 1", "--json"]])
    assert "there is no file" in twice.stderr


@pytest.mark.parametrize(
    ("line", "said", "fix"),
    [
        ("generate ladder Once upon a", "the PROMPT is 3 words", "generate ladder 'Once upon a'"),
        ("inspect ladder The cat", "the TEXT is 2 words", "inspect ladder 'The cat'"),
        ("eval ladder/runs/a ladder/runs/b", "2 files and folders", "llmscale eval ladder"),
        ("chat ladder/runs ladder/runs.parquet", "a * without quotes", "llmscale chat ladder"),
        ("generate ladder/runs/a ladder/runs/b", "is the folder of a run", "in quotes"),
        ("data report ladder/runs/a ladder/runs/b", "2 files", "put the pattern in quotes"),
        ("models ladder more", "takes FOLDER, and was given more besides", "models ladder"),
    ],
)
def test_words_that_no_argument_takes_are_explained(
    line: str, said: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (tmp_path / "ladder" / "runs" / name).mkdir(parents=True)
        (tmp_path / "ladder" / "runs" / name / "spec.json").touch()
    (tmp_path / "ladder" / "runs.parquet").touch()
    monkeypatch.chdir(tmp_path)
    refused = run(app, line.split())
    assert refused.exit_code == 2
    problem, solution = refused.stderr.splitlines()
    assert said in problem
    assert fix in solution


def _complete(repository: Path, line: str) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(repository),
        "_LLMSCALE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    command = [sys.executable, "-m", "llmscale"]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    ).stdout

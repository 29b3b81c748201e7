"""No command writes over what it reads."""

import shutil
from pathlib import Path

import pytest
from pages import grid
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app
from llmscale.errors import InputError

_CPU = Path(__file__).parents[3] / "results" / "cpu"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("runs.html", "explore {} --out {}"),
        ("runs.png", "plan {} --flops 1e21 --out {}"),
        ("runs.svg", "compare a={} b={} --out {}"),
        ("runs.png", "plot {} --out {}"),
        ("runs.json", "fit {} --out {}"),
        ("runs.png", "next {} --budget 1e19 --target 1e22 --figure {}"),
    ],
)
def test_no_command_writes_over_its_table(tmp_path: Path, name: str, command: str) -> None:
    table = tmp_path / name
    grid().to_csv(table, index=False)
    held = table.read_bytes()
    link = tmp_path / f"link{table.suffix}"
    link.symlink_to(table)
    words = [word.replace("{}", str(table)) for word in command.split()]
    for out in (table, link):
        wrong = CliRunner().invoke(app, [*words[:-1], str(out)])
        assert (wrong.exit_code, wrong.stdout) == (2, ""), wrong.output
        said = f"{out} is read, and would be written over"
        assert said in wrong.stderr.replace("\n", " ")
    assert table.read_bytes() == held
    assert sorted(tmp_path.iterdir()) == sorted([table, link])


def test_no_call_writes_over_the_table_of_a_fit_or_a_file_of_a_folder(tmp_path: Path) -> None:
    table = tmp_path / "runs.html"
    grid().to_csv(table, index=False)
    held = table.read_bytes()
    kept = tmp_path / "fit.json"
    fit = llmscale.fit(table, "chinchilla", bootstrap=0, diagnostics=False, keep=kept)
    for source in (fit, kept, fit.runs, [fit]):
        with pytest.raises(InputError, match="is read, and would be written over"):
            llmscale.explore(source, output=table)
    assert table.read_bytes() == held
    folder = shutil.copytree(_CPU, tmp_path / "results")
    with pytest.raises(InputError, match=r"sweep\.json is read"):
        llmscale.fit(folder, "power", bootstrap=0, keep=folder / "sweep.json")
    assert (folder / "sweep.json").read_bytes() == (_CPU / "sweep.json").read_bytes()

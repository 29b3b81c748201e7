"""An option that another command has is said to be one of that."""

import pytest
from typer.testing import CliRunner

from llmscale.commands import app


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "--params", "1B"), "--params; it is an option of llmscale predict and next"),
        (("advise", "--loss", "2"), "--loss; it is an option of llmscale plan"),
        (("plan", "--serve-on", "l4"), "--serve-on; it is an option of llmscale advise"),
        (("plan", "--floops", "3"), "--floops (Possible options: --flops"),
    ],
)
def test_an_option_of_another_command_names_it(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert f"No such option: {said}" in result.stderr

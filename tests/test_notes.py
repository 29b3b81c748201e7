"""The catalogue of notes: every note is made from it, and its page and command say what it says."""

import ast
import json
import re
from pathlib import Path

from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.notes import CATALOGUE, as_markdown, by_topic

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for path in (ROOT / "llmscale").rglob("*.py")
    if "notes" not in path.relative_to(ROOT).parts
]
ENTRIES = {kind.code.upper().replace("-", "_"): kind for kind in CATALOGUE.values()}


def test_an_entry_is_called_by_its_code_and_stands_once() -> None:
    kinds = [kind for several in by_topic().values() for kind in several]
    assert len({kind.code for kind in kinds}) == len(kinds)
    for file in ("fitting", "predicting", "reading", "measuring"):
        module = __import__(f"llmscale.notes.{file}", fromlist=[file])
        for name, value in vars(module).items():
            if getattr(value, "code", None):
                assert ENTRIES[name] is value


def test_every_entry_is_used_and_codes_stand_nowhere_else() -> None:
    used = set()
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                used.add(node.id)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Note":
                assert not isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Constant) and id(node) not in docs:
                free = node.value in CATALOGUE and "-" in str(node.value)
                assert not free, f"{path.name}:{node.lineno}: {node.value!r}"
    assert set(ENTRIES) <= used, set(ENTRIES) - used


def test_the_page_of_warnings_is_what_the_catalogue_says() -> None:
    page = (ROOT / "docs" / "warnings.md").read_text(encoding="utf-8")
    assert page == as_markdown(), "llmscale explain --markdown > docs/warnings.md"


def test_explain_prints_an_entry_with_its_limit() -> None:
    shown = CliRunner().invoke(app, ["explain", "few-steps"]).stdout
    assert "fewer than 300 optimiser steps" in shown
    assert CATALOGUE["few-steps"].remedy in shown
    (entry,) = json.loads(CliRunner().invoke(app, ["explain", "few-steps", "--json"]).stdout)[
        "notes"
    ]
    assert (entry["code"], entry["limit"]) == ("few-steps", 300)


def test_explain_lists_all_and_names_the_nearest_of_an_unknown_code() -> None:
    listed = CliRunner().invoke(app, ["explain"]).stdout
    assert all(code in listed for code in CATALOGUE)
    wrong = CliRunner().invoke(app, ["explain", "few_stepps"])
    assert wrong.exit_code == 2
    assert "llmscale explain few-steps" in wrong.stderr


def test_an_entry_says_when_what_and_what_to_do() -> None:
    for kind in CATALOGUE.values():
        when = kind.raised_when()
        assert not re.search(r"\bnan\b|[{}]", when), when
        assert not when.endswith(".")
        for sentence in (kind.means, kind.remedy):
            assert re.search(r"[.?]$|[a-z]=[A-Z.]+$", sentence), sentence
            assert "{" not in sentence

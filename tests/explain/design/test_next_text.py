"""What the next runs say of a text that is too short for them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import llmscale
from llmscale import NextRuns

FINGERPRINT = "8fc4cd5ceba48db3828294944be175fc"
"""That of the text of results/flagship, whose runs have read up to 11M tokens of it once."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def prepared(cache: Path, tokens: int, *, complete: bool) -> None:
    """The text as `data prepare` leaves it, as far as it is told how long it is."""
    folder = cache / "tokens" / FINGERPRINT
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"complete": complete, "train": {"tokens": tokens}}
    (folder / "meta.json").write_text(json.dumps(meta))


def proposed(folder: Path, **asked: Any) -> NextRuns:
    asked = {"budget": 3e15, "target": 1e17, "law": "anchored", "bootstrap": 100, **asked}
    return llmscale.next_runs(folder, **asked)


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    place = tmp_path / "flagship"
    shutil.copytree(repository / "results" / "flagship", place)
    return place


def test_runs_and_a_target_past_the_end_of_the_text_are_said_with_their_epochs(
    folder: Path, cache: Path
) -> None:
    prepared(cache, 11_400_000, complete=True)
    found = proposed(folder)
    text = found.to_json()["text"]
    epochs = max(run.tokens for run in found.runs) / 11.4e6
    assert epochs > 4
    assert max(text["epochs"]) == pytest.approx(epochs)
    assert text["target_epochs"] == pytest.approx(found.forecast.tokens / 11.4e6)
    assert "11.4M training tokens; run 1 (" in dict(found.said())["text"]
    (note,) = (note for note in found.notes if note.code == "text-repeated")
    assert f"go over it up to {epochs:.3g} times" in note.message


def test_only_what_is_known_of_the_text_is_said(folder: Path, cache: Path) -> None:
    found = proposed(folder)  # how much text there is only its runs tell
    assert "have read 11M training tokens of it at the most" in dict(found.said())["text"]
    assert "text-repeated" not in {note.code for note in found.notes}
    prepared(cache, 20_000_000, complete=False)  # more is read as it is needed
    assert proposed(folder).text is None
    prepared(cache, 20_000_000_000, complete=True)
    found = proposed(folder)
    assert "text" not in dict(found.said())
    assert found.to_json()["text"]["target_epochs"] < 1

"""`llmscale data` prepares and inspects text, and refuses what it cannot use without writing
anything.
"""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from typer.testing import CliRunner, Result

from llmscale.commands import app

TEXTS = [f"Document {number} says that the loss falls as the size grows.\n" for number in range(60)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    rows = [*TEXTS, TEXTS[0], ""]
    path.write_text("".join(json.dumps({"content": text}) + "\n" for text in rows))
    return path


def llmscale(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_prepare_prints_the_whole_record_of_the_store(corpus: Path, cache: Path) -> None:
    done = llmscale(
        "prepare", corpus, "--text-column", "content", "--tokenizer", "bpe:270", "--json"
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert Path(record["path"]) == cache / "tokens" / record["fingerprint"]
    assert json.loads((Path(record["path"]) / "meta.json").read_text(encoding="utf-8")) == {
        key: value for key, value in record.items() if key != "path"
    }
    assert record["train"]["documents"] + record["validation"]["documents"] == len(TEXTS)
    assert record["dropped"]["duplicates"] == record["dropped"]["too_short"] == 1
    assert record["tokenizer"]["vocab_size"] == 270
    assert "tokenizing" in done.stderr


def test_prepare_says_where_the_tokens_are_and_how_many(corpus: Path, cache: Path) -> None:
    done = llmscale(
        "prepare",
        corpus,
        "--text-column",
        "content",
        "--tokens",
        "1k",
        "--validation-tokens",
        "100",
    )
    assert done.exit_code == 0, done.output
    assert str(cache) in done.stdout.replace("\n", "")
    assert "dropped 1 document as too short and 1 as exact duplicates" in done.stdout


@pytest.mark.usefixtures("cache")
def test_what_was_taken_for_what_is_said_by_every_command_that_reads_text(
    corpus: Path, tmp_path: Path
) -> None:
    prepared = llmscale("prepare", corpus, "--json")
    again = llmscale("prepare", corpus, "--text-column", "content", "--json")
    assert json.loads(prepared.stdout)["fingerprint"] == json.loads(again.stdout)["fingerprint"]
    dry = ("sweep", "--sizes", "1x16x1", "--tokens", "1k", "--data", str(corpus), "--dry-run")
    tune = ("tune", "--sizes", "1x16x1", "--tokens", "1k", "--data", str(corpus), "--dry-run")
    others = [
        CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
        for command in (dry, tune)
    ]
    for done in (prepared, llmscale("inspect", corpus), *others):
        assert done.exit_code == 0, done.output
        assert "note: the text is column 'content' of 1 file: there is no 'text'" in done.stderr
    assert "note:" not in again.stderr


@pytest.mark.usefixtures("cache")
def test_an_unusual_end_of_text_is_named_on_the_command_line_or_in_the_file(
    corpus: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(special_tokens=["<x>", "<fin>"], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    path = tmp_path / "mine.json"
    tokenizer.save(str(path))
    asked = ("prepare", corpus, "--tokenizer", path, "--validation-tokens", 100, "--json")
    missing = llmscale(*asked)
    assert missing.exit_code == 2
    assert "its special tokens are <x>, <fin>" in missing.stderr.replace("\n", " ")
    assert "--end-of-text TOKEN" in missing.stderr
    done = llmscale(*asked, "--end-of-text", "<fin>")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tokenizer"]["end_of_text"] == 1
    assert "note: documents end with '<fin>' (number 1)" in done.stderr
    other = llmscale(*asked, "--end-of-text", "<x>")
    assert json.loads(other.stdout)["fingerprint"] != json.loads(done.stdout)["fingerprint"]
    file = tmp_path / "s.toml"
    data = f'source = "{corpus}"\ntokenizer = "{path}"\nvalidation_tokens = 100\n'
    file.write_text(
        f'sizes = ["1x16x1"]\ntokens = ["1k"]\n[data]\n{data}end_of_text = "<fin>"\n',
        encoding="utf-8",
    )
    swept = CliRunner().invoke(
        app, ["sweep", str(file), "--dry-run", "--json", "--out", str(tmp_path / "out")]
    )
    assert swept.exit_code == 0, swept.output
    assert json.loads(swept.stdout)["data"]["fingerprint"] == json.loads(done.stdout)["fingerprint"]


def test_inspect_looks_at_text_before_it_is_prepared_and_writes_nothing(
    corpus: Path, cache: Path
) -> None:
    done = llmscale("inspect", corpus, "--text-column", "content", "--json", "--samples", 2)
    assert done.exit_code == 0, done.output
    seen = json.loads(done.stdout)
    assert seen["documents"] == len(TEXTS)
    assert seen["duplicate_share"] == seen["too_short_share"] == 1 / (len(TEXTS) + 2)
    assert seen["shortest"] == min(map(len, TEXTS))
    assert seen["longest"] == max(map(len, TEXTS))
    assert seen["bytes_per_token"] is None
    assert len(seen["samples"]) == 2
    assert set(seen["samples"]) <= set(TEXTS)
    assert not cache.exists()


@pytest.mark.usefixtures("cache")
def test_inspect_shows_the_tokens_of_a_prepared_text_by_its_name_or_its_folder(
    corpus: Path,
) -> None:
    prepared = json.loads(llmscale("prepare", corpus, "--text-column", "content", "--json").stdout)
    by_name = llmscale("inspect", corpus, "--text-column", "content", "--json")
    by_folder = llmscale("inspect", prepared["path"], "--json")
    assert by_name.stdout == by_folder.stdout
    seen = json.loads(by_folder.stdout)
    assert seen["fingerprint"] == prepared["fingerprint"]
    assert seen["bytes_per_token"] == prepared["bytes_per_token"]
    assert seen["train_tokens"] == prepared["train"]["tokens"]
    assert set(seen["samples"]) <= set(TEXTS)
    shown = llmscale("inspect", prepared["path"])
    assert seen["samples"][0].strip() in shown.stdout
    assert f"{prepared['bytes_per_token']:.2f} bytes per token" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (
            ["{corpus}", "--text-column", "text.body"],
            "no column 'text.body'; its columns are content",
        ),
        (
            ["{corpus}", "--end-of-text", "</s>"],
            "a tokenizer that is trained on the text has <|endoftext|>",
        ),
        (
            ["{corpus}", "--text-column", "content", "--tokenizer", "bpe:3"],
            "cannot have 3 tokens",
        ),
        (
            ["{corpus}", "--text-column", "content", "--tokens", "10Q"],
            "token count '10Q' is not a number",
        ),
        (["{corpus}", "--text-column", "content", "--validation-tokens", "0"], "not above zero"),
        (
            ["{corpus}", "--text-column", "content", "--config", "en"],
            "--config names a part of a dataset",
        ),
        (["owner/dataset"], "no hub answered"),
    ],
)
def test_wrong_input_is_one_clear_sentence_and_leaves_nothing(
    arguments: list[str], message: str, corpus: Path, cache: Path
) -> None:
    done = llmscale(
        "prepare", *(argument.replace("{corpus}", str(corpus)) for argument in arguments)
    )
    assert done.exit_code == 2
    assert message in done.stderr.replace("\n", " ")
    assert done.stderr.count("error:") == 1
    assert done.stdout == ""
    assert not cache.exists()

"""Every source keeps the contract; every fault in a file is named with its place."""

import csv
import gzip
import json
import lzma
import sys
import sysconfig
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscale.errors import InputError
from llmscale.formats import PIECE_CHARACTERS, read_documents
from llmscale.sources import Source, members, open_source
from llmscale.sources.stdlib import StandardLibrary

TEXTS = [f"Document {number}, with a comma,\nan umlaut ü and a second line.\n" for number in range(40)]


def write_example(member: str, folder: Path) -> None:
    """The text of a small source of each kind."""
    for number in range(4):
        part = TEXTS[10 * number : 10 * number + 10]
        if member == "stdlib":
            for index, text in enumerate(part):
                (folder / f"module_{number}{index}.py").write_text(text, encoding="utf-8")
        else:
            write_rows(folder / f"train-{number}{'.parquet' if member == 'hub' else '.jsonl'}", part)


def open_example(member: str, folder: Path) -> Source:
    """That source; a new member of the menu needs a line here."""
    if member == "stdlib":
        return StandardLibrary(folder)
    return open_source(f"{member}:{folder}")


def write_rows(path: Path, texts: list[str], column: str = "text") -> Path:
    """Write `texts` as rows in the format that the suffix of `path` names."""
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps({"id": 1, column: text}) + "\n" for text in texts), encoding="utf-8")
        case ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([["id", column], *([1, text] for text in texts)])
        case ".parquet":
            pq.write_table(pa.table({"id": [1] * len(texts), column: texts}), path)
    return path


def compress(path: Path, suffix: str) -> Path:
    raw, compressed = path.read_bytes(), path.with_name(path.name + suffix)
    if suffix == ".gz":
        compressed.write_bytes(gzip.compress(raw))
    elif suffix == ".xz":
        compressed.write_bytes(lzma.compress(raw))
    else:
        with pa.output_stream(str(compressed), compression="zstd") as stream:
            stream.write(raw)
    return compressed


def all_documents(source: Source) -> list[str]:
    return [document for shard in range(len(source.shards)) for document in source.documents(shard)]


@pytest.mark.parametrize("member", members())
def test_every_source_keeps_the_contract(member: str, tmp_path: Path) -> None:
    write_example(member, tmp_path)
    source = open_example(member, tmp_path)
    assert sorted(all_documents(source)) == sorted(TEXTS)
    assert all_documents(source) == all_documents(source), "shards can be read again"
    assert len(set(source.shards)) == len(source.shards) > 1
    for shard in range(len(source.shards)):
        documents = list(source.documents(shard))
        assert list(source.documents(shard, 1)) == documents[1:]
        assert list(source.documents(shard, len(documents))) == []
    assert source.describe()["source"] == member
    assert json.loads(json.dumps(source.describe())) == source.describe()
    size = sum(len(text.encode()) for text in TEXTS)
    estimate = source.estimated_bytes()
    assert estimate is None or size / 2 < estimate < 2 * size
    again = open_example(member, tmp_path)
    assert again.fingerprint() == source.fingerprint()
    assert len(source.fingerprint()) == 32
    assert all_documents(again) == all_documents(source)


@pytest.mark.parametrize("member", members())
def test_every_fingerprint_follows_the_text(member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_example(member, tmp_path)
    before = open_example(member, tmp_path).fingerprint()
    monkeypatch.setitem(globals(), "TEXTS", [*TEXTS[:-1], TEXTS[-1].replace("Document", "document")])
    write_example(member, tmp_path)
    assert open_example(member, tmp_path).fingerprint() != before


def test_the_standard_library_is_the_default_text_without_what_was_installed() -> None:
    source = open_source("stdlib")
    folder = Path(sysconfig.get_path("stdlib"))
    assert "argparse.py" in source.shards
    assert not any("-packages" in shard or "_sysconfigdata" in shard for shard in source.shards)
    assert source.describe()["python"] == ".".join(map(str, sys.version_info[:3]))
    (argparse,) = source.documents(source.shards.index("argparse.py"))
    assert argparse == (folder / "argparse.py").read_bytes().decode()


def test_files_of_the_standard_library_in_other_encodings_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\n# é\n".encode("latin-1"))
    source = StandardLibrary(tmp_path)
    assert source.shards == ("good.py",)
    assert source.describe()["undecodable"] == ["latin.py"]


@pytest.mark.parametrize("compression", ["", ".gz", ".xz", ".zst"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_documents(suffix: str, compression: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / f"data{suffix}", TEXTS)
    if compression:
        plain, path = path, compress(path, compression)
        plain.unlink()
    source = open_source(str(path))
    assert all_documents(source) == TEXTS
    size = sum(len(text.encode()) for text in TEXTS)
    assert size / 3 < (source.estimated_bytes() or 0) < 3 * size


@pytest.mark.parametrize("suffix", [".txt", ".md", ".rst", ".py", ".txt.gz", ".md.xz", ".txt.zst"])
def test_a_short_plain_file_is_one_document(suffix: str, tmp_path: Path) -> None:
    plain = tmp_path / f"a.{suffix.split('.')[1]}"
    plain.write_text("\ufeff" + TEXTS[0], encoding="utf-8")
    path = compress(plain, f".{suffix.split('.')[2]}") if suffix.count(".") == 2 else plain
    assert all_documents(open_source(str(path))) == [TEXTS[0]]


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["word ", "ü", "\n", "\n\n", "x" * 5000, "line\n" * 900]), max_size=40))
def test_a_long_plain_file_is_cut_without_losing_a_character(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.txt"
        path.write_text("".join(parts), encoding="utf-8", newline="")
        pieces = list(read_documents(path, "text"))
    assert "".join(pieces) == "".join(parts)
    assert all(0 < len(piece) <= PIECE_CHARACTERS for piece in pieces)
    assert all(len(piece) > PIECE_CHARACTERS / 2 for piece in pieces[:-1])


def test_several_names_a_folder_and_a_repeated_file_are_read_once_each(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("a.txt", "b.md", "inner/c.txt", ".hidden.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "picture.png").write_bytes(b"\0")
    both = open_source(f"{tmp_path}/a.txt,{tmp_path}/*.md, {tmp_path}/a.txt")
    assert sorted(all_documents(both)) == ["a.txt", "b.md"]
    assert sorted(all_documents(open_source(str(tmp_path)))) == ["a.txt", "b.md", "inner/c.txt"]
    assert sorted(all_documents(open_source(f"{tmp_path}/**/*.txt"))) == ["a.txt", "inner/c.txt"]


def test_a_corpus_that_has_moved_keeps_its_fingerprint(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        for number, text in enumerate(TEXTS):
            (tmp_path / folder / f"{number}.txt").write_text(text, encoding="utf-8")
    here, there = (open_source(str(tmp_path / folder)) for folder in ("here", "there"))
    assert here.fingerprint() == there.fingerprint()
    assert all_documents(here) == all_documents(there)


BAD_FILES = {
    "empty.txt": (b"", "is empty"),
    "binary.txt": (b"text\0more", "byte 4 is zero"),
    "latin.txt": ("line\nna\u00efve\n".encode("latin-1"), "not UTF-8 at byte 7 (line 2)"),
    "cut.txt": ("good ü".encode()[:-1], "not UTF-8 at byte 5 (line 1)"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "\xe9"}\n', "not UTF-8 at byte 24 (line 2)"),
    "broken.jsonl": (b'{"text": "a"}\n\n{"text": \n', "broken.jsonl:3 is not JSON"),
    "list.jsonl": (b'["a"]\n', "list.jsonl:1 is not a JSON object but list"),
    "number.jsonl": (b'{"text": 3}\n', "holds int, not text"),
    "other.jsonl": (b'{"body": "a", "id": 1}\n', "no column 'text'; its columns are body, id"),
    "other.csv": (b"body,id\na,1\n", "no column 'text'; its columns are body, id"),
    "ragged.csv": (b"text,id\na,1\nb\n", "ragged.csv:3 has 1 fields, but the header has 2"),
    "not.parquet": (b"PAR1 but not really PAR1", "not a parquet file"),
    "cut.txt.xz": (lzma.compress(b"text" * 1000)[:-20], "not a whole .xz file"),
    "cut.txt.gz": (gzip.compress(b"text" * 1000)[:-20], "not a whole .gz file"),
    "plain.txt.zst": (b"this is not compressed at all", "not a whole .zst file"),
    "paper.pdf": (b"%PDF", "a suffix that is not supported"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_the_place_of_the_fault(name: str, tmp_path: Path) -> None:
    content, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        all_documents(open_source(str(path)))
    assert message in raised.value.problem
    assert name.partition(".")[0] in raised.value.problem
    assert raised.value.fix


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("nowhere.txt", "nowhere.txt does not exist"),
        ("nowhere/*.txt", "no file matches"),
        ("./nowhere", "does not exist"),
        ("two words", "neither a file nor the name of a dataset"),
        ("stdlib:3.12", "takes no name"),
        ("owner/dataset", "no hub answered for the dataset owner/dataset"),
    ],
)
def test_a_name_that_means_nothing_is_one_clear_error(name: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        open_source(name)
    assert message in raised.value.problem


def test_only_datasets_have_configurations_and_splits(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", TEXTS)
    for name in ("stdlib", str(path)):
        with pytest.raises(InputError, match="--config"):
            open_source(name, config="en")
        with pytest.raises(InputError, match="--split"):
            open_source(name, split="test")


def test_a_dataset_without_the_asked_part_says_what_there_is(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", TEXTS, column="content")
    name = f"hub:{tmp_path}"
    assert sorted(all_documents(open_source(name, text_column="content"))) == sorted(TEXTS)
    with pytest.raises(InputError, match="no column 'text'; its columns are id, content") as raised:
        open_source(name)
    assert raised.value.fix is not None
    assert raised.value.fix.endswith("--text-column content")
    with pytest.raises(InputError, match=r"no split 'test'.*train"):
        open_source(name, split="test", text_column="content")
    with pytest.raises(InputError, match="'fr' not found"):
        open_source(name, config="fr", text_column="content")


def test_without_the_datasets_package_only_datasets_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    write_rows(tmp_path / "a.jsonl", TEXTS)
    assert all_documents(open_source(str(tmp_path / "a.jsonl"))) == TEXTS
    with pytest.raises(InputError, match="not installed"):
        open_source("owner/dataset")

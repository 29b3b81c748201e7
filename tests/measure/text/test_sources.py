"""Every source keeps the contract; every fault in a file is named with its place."""

import bz2
import csv
import gzip
import json
import lzma
import os
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
from llmscale.measure.text import file_formats as formats
from llmscale.measure.text.file_formats import PIECE_CHARACTERS, read_documents
from llmscale.measure.text.sources import SOURCES, Source, open_source
from llmscale.measure.text.sources.stdlib import StandardLibrary

TEXTS = [
    f"Document {number}, with a comma,\nan umlaut ü and a second line.\n" for number in range(40)
]


READS = sorted({*SOURCES.names} - {"synthetic"})
"""The members that read text; test_synthetic.py is about the one that makes it."""


def write_example(member: str, folder: Path) -> None:
    """The text of a small source of each kind."""
    for number in range(4):
        part = TEXTS[10 * number : 10 * number + 10]
        if member == "stdlib":
            for index, text in enumerate(part):
                (folder / f"module_{number}{index}.py").write_text(text, encoding="utf-8")
        else:
            write_rows(
                folder / f"train-{number}{'.parquet' if member == 'hub' else '.jsonl'}", part
            )


def open_example(member: str, folder: Path) -> Source:
    """That source; a new member of the menu needs a line here."""
    if member == "stdlib":
        return StandardLibrary(folder)
    return open_source(f"{member}:{folder}")


def write_rows(path: Path, texts: list[str], column: str = "text") -> Path:
    """Write `texts` as rows in the format that the suffix of `path` names."""
    match path.suffix:
        case ".jsonl":
            path.write_text(
                "".join(json.dumps({"id": 1, column: text}) + "\n" for text in texts),
                encoding="utf-8",
            )
        case ".json":
            path.write_text(
                json.dumps([{"id": 1, column: text} for text in texts], indent=1), encoding="utf-8"
            )
        case ".csv" | ".tsv":
            with path.open("w", encoding="utf-8", newline="") as file:
                rows = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
                rows.writerows([["id", column], *([1, text] for text in texts)])
        case ".parquet":
            pq.write_table(pa.table({"id": [1] * len(texts), column: texts}), path)
    return path


def compress(path: Path, suffix: str) -> Path:
    raw, compressed = path.read_bytes(), path.with_name(path.name + suffix)
    if suffix == ".gz":
        compressed.write_bytes(gzip.compress(raw))
    elif suffix == ".xz":
        compressed.write_bytes(lzma.compress(raw))
    elif suffix == ".bz2":
        compressed.write_bytes(bz2.compress(raw))
    else:
        with pa.output_stream(str(compressed), compression="zstd") as stream:
            stream.write(raw)
    return compressed


def all_documents(source: Source) -> list[str]:
    return [document for shard in range(len(source.shards)) for document in source.documents(shard)]


@pytest.mark.parametrize("member", READS)
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


@pytest.mark.parametrize("member", READS)
def test_every_fingerprint_follows_the_text(
    member: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_example(member, tmp_path)
    before = open_example(member, tmp_path).fingerprint()
    monkeypatch.setitem(
        globals(), "TEXTS", [*TEXTS[:-1], TEXTS[-1].replace("Document", "document")]
    )
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


def test_files_of_the_standard_library_in_other_encodings_are_left_out_and_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\n# é\n".encode("latin-1"))
    source = StandardLibrary(tmp_path)
    assert source.shards == ("good.py",)
    assert source.describe()["undecodable"] == ["latin.py"]


@pytest.mark.parametrize("compression", ["", ".gz", ".xz", ".zst", ".bz2"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_documents(
    suffix: str, compression: str, tmp_path: Path
) -> None:
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
@given(
    st.lists(st.sampled_from(["word ", "ü", "\n", "\n\n", "x" * 5000, "line\n" * 900]), max_size=40)
)
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
    "other.jsonl": (b'{"prompt": "a", "id": 1}\n', "no column 'text'; its columns are prompt, id"),
    "other.csv": (b"prompt,id\na,1\n", "no column 'text'; its columns are prompt, id"),
    "nested.jsonl": (b'{"data": {"text": "a"}}\n', "no column 'text'; its columns are data.text"),
    "two.jsonl": (
        b'{"body": "a", "content": "a"}\n',
        "'body' and 'content' could both be the text",
    ),
    "rows.json": (b'{"rows": [{"text": "a"}]}', "'rows' holds a list of rows"),
    "cut.json": (b'[{"text": "a"}, {"te', "object 2 is not JSON"),
    "more.json": (b'[{"text": "a"}] [{"text": "b"}]', "goes on after its array"),
    "unclosed.csv": (
        b'text,id\na,1\n"b,2\nc,3\n',
        "unclosed.csv:3 is not CSV: unexpected end of data",
    ),
    "swallowed.csv": (b'text,id\n"a,1\n"b",2\n', "swallowed.csv:2 is not CSV"),
    "lfs.parquet": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a Git LFS pointer",
    ),
    "page.jsonl": (
        b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        "page.jsonl is a web page",
    ),
    "answer.txt": (
        b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>',
        "is a web page",
    ),
    "zipped.jsonl": (b"PK\x03\x04\x14\x00", "a zip archive"),
    "text.parquet": (b"only words", "is not a parquet file"),
    "untold": (b"plain text", "a suffix that is not supported"),
    "ragged.csv": (b"text,id\na,1\nb\n", "ragged.csv:3 has 1 fields, but the header has 2"),
    "not.parquet": (b"PAR1 but not really PAR1", "not a parquet file"),
    "cut.txt.xz": (lzma.compress(b"text" * 1000)[:-20], "not a whole .xz file"),
    "cut.txt.gz": (gzip.compress(b"text" * 1000)[:-20], "not a whole .gz file"),
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
        ("x" * 300 + ".txt", "File name too long"),
        ("x" * 300, "longer than the name of any file"),
        ("ftp://host/a.txt", "is an address"),
        ("zip://a.zip", "is an address"),
        ("/", "the whole of this machine's files"),
        ("a\0b.txt", "null byte"),
        (f"{__file__}/a.txt", "Not a directory"),
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
        with pytest.raises(InputError, match="config="):
            open_source(name, config="en")
        with pytest.raises(InputError, match="split="):
            open_source(name, split="test")


def test_a_dataset_without_the_asked_part_says_what_there_is(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", TEXTS, column="content")
    name = f"hub:{tmp_path}"
    for column in ("content", "text"):
        assert sorted(all_documents(open_source(name, text_column=column))) == sorted(TEXTS)
    with pytest.raises(
        InputError, match="no column 'story'; its columns are id, content"
    ) as raised:
        open_source(name, text_column="story")
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


@pytest.mark.parametrize(
    ("name", "remark"),
    [
        ("plain.jsonl.gz", "is not compressed, whatever its name"),
        ("packed.jsonl", "is compressed as .gz, whatever its name"),
        ("other.jsonl.zst", "is compressed as .xz, whatever its name"),
        ("shard", "holds JSON lines"),
        ("lines.csv", "holds JSON lines"),
        ("wide.jsonl", "is UTF-16"),
        ("unmarked.jsonl", "is UTF-16"),
        ("marked.jsonl", None),
        ("c4.json.gz", None),
        ("spread.json", None),
        ("array.jsonl", None),
    ],
)
def test_what_a_file_holds_is_told_by_its_content_and_said(
    name: str, remark: str | None, tmp_path: Path
) -> None:
    rows = [{"id": 1, "text": text} for text in TEXTS]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    contents = {
        "packed.jsonl": gzip.compress(lines.encode()),
        "other.jsonl.zst": lzma.compress(lines.encode()),
        "wide.jsonl": lines.encode("utf-16"),
        "unmarked.jsonl": lines.encode("utf-16-be"),
        "marked.jsonl": b"\xef\xbb\xbf" + lines.encode(),
        "c4.json.gz": gzip.compress(lines.encode()),
        "spread.json": "\n".join(json.dumps(row, indent=2) for row in rows).encode(),
        "array.jsonl": json.dumps(rows).encode(),
    }
    (tmp_path / name).write_bytes(contents.get(name, lines.encode()))
    source = open_source(f"files:{tmp_path / name}")
    assert all_documents(source) == TEXTS
    assert len(source.remarks()) == (remark is not None)
    assert (remark or "") in "".join(source.remarks())


def test_json_over_several_lines_is_read_as_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "_CHUNK_BYTES", 37)
    rows = [{"id": [1, {"x": "]"}], "text": text} for text in TEXTS]
    array, spread = tmp_path / "array.json", tmp_path / "spread.json"
    for indent in (None, 2):
        array.write_text(f" {json.dumps(rows, indent=indent)} \n", encoding="utf-8")
        spread.write_text(
            "\n".join(json.dumps(row, indent=indent) for row in rows), encoding="utf-8"
        )
        for path in (array, spread):
            assert all_documents(open_source(str(path))) == TEXTS


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_dotted_name_reaches_nested_text_and_an_empty_one_is_an_empty_document(
    suffix: str, tmp_path: Path
) -> None:
    rows = [{"data": {"body": {"text": text}, "n": 1}} for text in TEXTS]
    path = tmp_path / f"a{suffix}"
    if suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(row) + "\n" for row in [*rows, {"data": None}]), encoding="utf-8"
        )
    else:
        pq.write_table(pa.Table.from_pylist([*rows, {"data": None}]), path)
    source = open_source(str(path), text_column="data.body.text")
    assert all_documents(source) == [*TEXTS, ""]
    assert source.remarks() == ()
    hub = open_source(f"hub:{tmp_path}", text_column="data.body.text")
    assert all_documents(hub) == [*TEXTS, ""]


@pytest.mark.parametrize("column", ["content", "raw_content", "document", "body", "Text"])
def test_a_column_of_another_usual_name_is_taken_said_and_equal_to_naming_it(
    column: str, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "a.jsonl", TEXTS, column=column)
    found, named = open_source(str(path)), open_source(str(path), text_column=column)
    assert all_documents(found) == all_documents(named) == TEXTS
    assert found.fingerprint() == named.fingerprint()
    assert f"column {column!r} of 1 file" in found.remarks()[0]
    assert named.remarks() == ()


def test_bytes_of_parquet_are_text_if_they_are_utf_8_else_the_row_is_named(tmp_path: Path) -> None:
    cells = pa.array([text.encode() for text in TEXTS] + [b"\xff"], pa.binary())
    wrong = pa.Array.from_buffers(pa.string(), len(cells), cells.buffers())
    pq.write_table(pa.table({"text": cells[:-1]}), tmp_path / "bytes.parquet")
    assert all_documents(open_source(str(tmp_path / "bytes.parquet"))) == TEXTS
    for number, column in enumerate((cells, wrong, wrong.dictionary_encode())):
        pq.write_table(pa.table({"text": column}), tmp_path / f"{number}.parquet")
        with pytest.raises(InputError, match=r"row 40 is not UTF-8"):
            all_documents(open_source(str(tmp_path / f"{number}.parquet")))


def test_a_folder_of_several_formats_is_read_together_and_what_is_left_out_is_said(
    tmp_path: Path,
) -> None:
    write_rows(tmp_path / "a.jsonl", TEXTS[:20])
    write_rows(tmp_path / "b.csv", TEXTS[20:30], column="content")
    write_rows(tmp_path / "c.json", TEXTS[30:])
    (tmp_path / "d.jsonl").write_bytes(b"")
    (tmp_path / "dataset_info.json").write_text('{"name": "mine"}')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    source = open_source(str(tmp_path))
    assert sorted(all_documents(source)) == sorted(TEXTS)
    said = "\n".join(source.remarks())
    for what in (
        "'content' of 1 file",
        "1 .csv, 1 .json, 2 .jsonl",
        "d.jsonl",
        "dataset_info.json",
        ".png",
    ):
        assert what in said


def test_a_folder_that_cannot_be_read_or_a_link_that_leads_nowhere_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("a.txt", "inner/b.txt"):
        (tmp_path / name).write_text(name)
    scandir = os.scandir

    def refusing(path: "str | os.PathLike[str]") -> object:
        if str(path).rstrip("/").endswith("inner"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr("os.scandir", refusing)
        for name in (str(tmp_path), f"{tmp_path}/**/*.txt"):
            with pytest.raises(InputError, match="inner: Permission denied"):
                open_source(name)
    os.symlink("loop.txt", tmp_path / "loop.txt")
    for looping in (tmp_path, tmp_path / "loop.txt"):
        with pytest.raises(
            InputError, match=r"(loop\.txt|characters\)): Too many levels of symbolic links"
        ):
            open_source(str(looping))
    (tmp_path / "loop.txt").unlink()
    os.symlink("nothing.txt", tmp_path / "gone.txt")
    for broken in (tmp_path, tmp_path / "gone.txt"):
        with pytest.raises(InputError, match=r"gone\.txt is a link to nothing\.txt"):
            open_source(str(broken))


def test_names_that_are_no_utf_8_are_read(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / os.fsdecode(b"\xfe.txt")).write_text("words", encoding="utf-8")
    source = open_source(str(folder))
    assert all_documents(source) == ["words"]
    assert len(source.fingerprint()) == 32


def test_a_line_without_an_end_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "LONGEST_LINE", 1 << 21)
    for name, start in (
        ("a.jsonl.gz", b'{"text": "'),
        ("a.csv.gz", b'text\n"'),
        ("a.json.gz", b'[{"text":\n"'),
    ):
        with gzip.open(tmp_path / name, "wb") as file:
            file.write(start + b"a" * (5 << 20))
        with pytest.raises(
            InputError, match=r"goes on for more than 2 MiB|goes on for more than 2\.\d+ M"
        ):
            all_documents(open_source(str(tmp_path / name)))

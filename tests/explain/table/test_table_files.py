"""How a file becomes rows: dialects of CSV, numbers of other countries, what is no table, and kinds
of columns.
"""

import bz2
import contextlib
import csv
import datetime
import decimal
import gzip
import io
import lzma
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.table import RunTable, groups, parse_columns, parse_units, read_table
from llmscale.notes import Weight, weight_of
from llmscale.settings.tables import read_toml

HEAD = "params,tokens,loss\n"
ROWS = "20000000,100000000,5.67\n20000000,400000000,4.69\n50000000,250000000,4.61\n"
VALUES = [[2e7, 1e8, 5.67], [2e7, 4e8, 4.69], [5e7, 2.5e8, 4.61]]


def write(folder: Path, content: str | bytes, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(table: RunTable) -> list[list[float]]:
    return table.frame[["params", "tokens", "loss"]].to_numpy().tolist()


def codes(table: RunTable) -> set[str]:
    """The codes of notes on how the file was read."""
    known = {
        "blanks-separate",
        "comment-lines",
        "decimal-comma",
        "drawn-table",
        "encoding",
        "heading-rows",
        "headings-again",
        "kind-by-content",
        "same-column",
        "thousands",
        "title-lines",
        "totals",
    }
    return {note.code for note in table.notes} & known


# Rows


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            HEAD + "1,2,3,4\n5,6,7,8\n",
            r"line 2 of .* has 4 fields under 3 headings \(2 lines like this\)",
        ),
        (HEAD + ROWS + "1,2,3,4\n" + ROWS, "line 5 of .* has 4 fields under 3 headings"),
        (HEAD + ROWS + "\n\n1,2\n", "line 7 of .* has 2 fields under 3 headings"),
        (HEAD + ROWS + "5000", "line 5 of .* has 1 field under 3 headings"),
        ("# a sweep\n\n" + HEAD + "1,2,3,4\n", "line 4 of .* has 4 fields"),
        (HEAD + ROWS + '30,40,"5.1\n' + ROWS, "a quote in line 5 of .* does not close"),
        (
            HEAD + ROWS + '30,40,"5.1\n' + ROWS + '7,8,2.1"\n',
            "opens in line 5 of .* closes only in line 9, and rows",
        ),
        (HEAD + "1,2,3\n4,\0,6\n", "line 3 of .* holds a NUL byte"),
        ("tokens,loss,lr\n1,2,3,4\n", "line 2 of .* has 4 fields under 3 headings"),
        ("params  loss\n1000 3.2 x\n2000 3.1\n", "line 2 of .* has 3 fields under 2 headings"),
        (ROWS, "has no line of headings: line 1 holds only numbers"),
        (
            HEAD + ROWS + "tokens,params,loss\n" + ROWS,
            "line 5 of .* has headings again, in another order",
        ),
        (
            "name,a,b,c\nparams,1,2,3\ntokens,4,5,6\nloss,3,2,1\n",
            "lies on its side: loss, params, tokens are names of",
        ),
        (
            "params,1e9,2B,4000000000\n1e6,3,2.9,2.8\n1e7,2.8,2.7,2.6\n",
            "is a wide grid, with losses below each of 1e9, 2B, 4000000000",
        ),
        ("tokens,10M,30M\n1e9,3,2.9\n2e9,2.8,2.7\n", "is a wide grid"),
        (
            "params,loss,loss\n1,2,2\n1,2,3\n",
            "more than one column named 'loss', and they differ: '2' and '3' in line 3",
        ),
    ],
)
def test_rows_that_do_not_fit_their_headings_are_refused_by_line(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        read_table(write(tmp_path, text))
    assert error.value.fix


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        (HEAD.replace("\n", ",\n") + ROWS.replace("\n", ",\n"), set()),
        (HEAD + ROWS.replace("\n", ",,\n"), set()),
        ("," + HEAD + "".join(f"{row},{line}\n" for row, line in enumerate(ROWS.splitlines())),
        set()),
        ("\n\n" + HEAD + "\n" + ROWS.replace("\n", "\n,,\n"), set()),
        ((HEAD + ROWS).replace("\n", "\r\n"), set()),
        ((HEAD + ROWS).replace("\n", "\r"), set()),
        ("# January\n# C = 6ND\n" + HEAD + ROWS, {"comment-lines"}),
        (HEAD + ROWS + "# the end, soon\n#1,2,3\n", {"comment-lines"}),
        ("# params tokens loss\n" + ROWS.replace(",", " "), {"blanks-separate"}),
        ((HEAD + ROWS).replace(",", "   "), {"blanks-separate"}),
        ("  " + (HEAD + ROWS).replace(",", "  "), {"blanks-separate"}),
        ((HEAD + ROWS).replace(",", "|"), set()),
        ("sep=;\n" + (HEAD + ROWS).replace(",", ";"), set()),
        ("My sweep\n\n" + HEAD + ROWS, {"title-lines"}),
        ("My sweep,,\n,,\n" + HEAD + ROWS, {"title-lines"}),
        (HEAD + ROWS + "Total,750000000,\n", {"totals"}),
        (HEAD + ROWS + "mean,1,2\nstd,1,2\n", {"totals"}),
        (HEAD + ROWS + "Total: 3 runs\n", {"totals"}),
        (HEAD + ROWS[:24] + "\ufeff" + HEAD + ROWS[24:], {"headings-again"}),
        ("params,tokens,loss,loss\n,,mean,std\n" + ROWS.replace("\n", ",0.1\n"), {"heading-rows"}),
        (",,loss,loss\n,,mean,std\nparams,tokens,,\n" + ROWS.replace("\n", ",0.1\n"),
        {"heading-rows"}),
        ("params,tokens,loss,loss\n" + ROWS.replace("5.67", "5.67,5.67").replace("4.69",
        "4.69,4.69").replace(
            "4.61", "4.61,4.61"), {"same-column"}),
        ('"""params""",\'tokens\',"“loss”"\n' + ROWS, set()),
        ("".join(f'"{line}"\n' for line in (HEAD + ROWS).splitlines()), set()),
        (HEAD.replace(",", "|") + "--|:-:|--\n" + ROWS.replace(",", " | "), {"drawn-table"}),
        ("| params | tokens | **loss** |\n|---|---|---|\n" + "".join(
            f"| {row.replace(',', ' | ')} |\n" for row in ROWS.splitlines()), {"drawn-table"}),
        ("┃ params ┃ tokens ┃ loss ┃\n┡━━━╇━━━╇━━━┩\n" + ROWS.replace(",", " │ "), {"drawn-table"}),
    ],
)  # fmt: skip
def test_dialects_that_can_be_told_give_the_same_rows(
    tmp_path: Path, text: str, noted: set[str]
) -> None:
    table = read_table(write(tmp_path, text))
    assert (values(table), codes(table)) == (VALUES, noted)


def test_a_row_of_units_becomes_part_of_the_headings_and_a_run_that_diverged_does_not(
    tmp_path: Path,
) -> None:
    units = write(tmp_path, "size,tokens,loss\nM,B,[nats]\n20,0.1,5.6\n30,0.4,4.7\n")
    mapping = {"params": "size (M)", "tokens": "tokens (B)", "loss": "loss (nats)"}
    table = read_table(units, columns=mapping, units="params=M,tokens=B")
    assert values(table) == [[2e7, 1e8, 5.6], [3e7, 4e8, 4.7]]
    text = "run_id,status,tokens,loss\na,diverged,n/a,diverged\nb,done,5,3.2\n"
    assert [run.run_id for run in read_table(write(tmp_path, text)).excluded] == ["a"]


DIALECTS = st.fixed_dictionaries(
    {
        "sep": st.sampled_from([",", ";", "\t", "|"]),
        "decimal": st.sampled_from([".", ","]),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"]),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
        "index": st.booleans(),
    }
)
TEXTS = st.sampled_from(
    ["small", "a,b", "a;b", 'say "so"', "one\ntwo", "Größe", "#1", "NA", "x|y", "it's"]
)
ROW = st.tuples(st.integers(10**3, 10**10), st.floats(1e-3, 10.0), st.integers(0, 6), TEXTS)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dialect=DIALECTS, rows=st.lists(ROW, min_size=1, max_size=5), places=st.integers(0, 6))
def test_what_pandas_writes_in_any_dialect_is_read_back_equal_or_refused(
    tmp_path: Path, dialect: dict[str, Any], rows: list[tuple[int, float, int, str]], places: int
) -> None:
    frame = pd.DataFrame(
        {
            "params": [row[0] for row in rows],
            "loss": [round(row[1], places) + 1 for row in rows],
            "seed": [row[2] for row in rows],
            "note": [row[3] for row in rows],
        }
    )
    path = tmp_path / "runs.csv"
    frame.to_csv(path, **dialect)
    if dialect["decimal"] == "," or dialect["sep"] == ";":
        with contextlib.suppress(InputError):
            assert_equal(read_table(path, units="params=1,loss=nats").frame, frame)
    else:
        assert_equal(read_table(path, units="params=1,loss=nats").frame, frame)


def assert_equal(read: pd.DataFrame, frame: pd.DataFrame) -> None:
    for name in ("params", "loss", "seed"):
        assert read[name].tolist() == frame[name].tolist()
    assert read["note"].astype(object).fillna("NA").tolist() == frame["note"].tolist()


# Numbers of other countries


@pytest.mark.parametrize(
    ("text", "params", "losses", "noted"),
    [
        ("params;loss\n20000000;5,679\n30000000;4,700\n", [2e7, 3e7], [5.679, 4.7],
        {"decimal-comma"}),
        ("params;loss\n0,020;5,6792\n1,500;4,7\n", [0.02, 1.5], [5.6792, 4.7], {"decimal-comma"}),
        ("params;loss\n20.000.000;5,67\n600.000;4,7\n", [2e7, 6e5], [5.67, 4.7], {"decimal-comma",
        "thousands"}),
        ("params;loss\n100.000;5,67\n200.000;4,7\n", [1e5, 2e5], [5.67, 4.7], {"decimal-comma",
        "thousands"}),
        ("params\tloss\n20000000\t5,6792\n", [2e7], [5.6792], {"decimal-comma"}),
        ("params;loss\n1 234 567;5,6\n", [1234567], [5.6], {"decimal-comma", "thousands"}),
        ("params;loss\n1\u00a0234\u00a0567;5,6\n1\u202f000;4,5\n", [1234567, 1000], [5.6, 4.5],
         {"decimal-comma", "thousands"}),
        ("params,loss\n1'234'567,5.6\n2’000,5\n", [1234567, 2000], [5.6, 5], {"thousands"}),
        ('params,loss\n"1,234,567",5.6\n', [1234567], [5.6], set()),
        ('params,loss\n"124,000",5.6\n', [124000], [5.6], {"thousands"}),
        ("params;loss\n1,5B;3,2\n0,5B;3,5\n", [1.5e9, 5e8], [3.2, 3.5], {"decimal-comma"}),
        ("params;loss\n1,5E+06;3,2\n", [1.5e6], [3.2], {"decimal-comma"}),
        ("params;lr;loss\n1000;0.001;3,25\n", [1000], [3.25], {"decimal-comma"}),
        ("params,loss\n1000,3.512\n2000,3.498\n", [1000, 2000], [3.512, 3.498], set()),
        ("params;loss\n1000;3.512\n2000;3.498\n", [1000, 2000], [3.512, 3.498], set()),
        ("params,loss,share,cost\n1000,3.5,12%,$4.20\n", [1000], [3.5], set()),
    ],
)  # fmt: skip
def test_numbers_are_read_as_the_file_shows_they_are_meant(
    tmp_path: Path, text: str, params: list[float], losses: list[float], noted: set[str]
) -> None:
    table = read_table(write(tmp_path, text))
    assert (table.frame["params"].tolist(), table.frame["loss"].tolist(), codes(table)) == (
        params,
        losses,
        noted,
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "params;loss\n100.000;5\n200.000;6\n",
            "'params' .* two ways: '100.000' in line 2 is 100.000 or 100000",
        ),
        (
            "params;loss\n1000;5,67\n2000;5.61\n",
            "decimal points and decimal commas: '5.61' in line 3, '5,67' in line 2",
        ),
        ("params;lr;loss\n900;0.001;5,679\n", "'5,679' in line 2 is 5.679 or 5679"),
        ('params,loss\n900,"5,679"\n', "'5,679' in line 2 is 5.679 or 5679"),
        ("params;loss\n20.000.000;5,679\n1,500;4\n", "decimal points and decimal commas|two ways"),
    ],
)
def test_numbers_that_may_be_read_in_two_ways_are_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        read_table(write(tmp_path, text))


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "utf-8-sig", "cp1252"]
)
def test_every_encoding_gives_the_same_rows(tmp_path: Path, encoding: str) -> None:
    content = (HEAD.replace("loss", "loss,Größe") + ROWS.replace("\n", ",groß\n")).encode(encoding)
    table = read_table(write(tmp_path, content))
    assert (values(table), table.frame["Größe"].tolist()) == (VALUES, ["groß"] * 3)
    assert codes(table) == (
        {"encoding"} if encoding in ("utf-16-le", "utf-16-be", "utf-32-be", "cp1252") else set()
    )


# What is no table


def workbook(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence", "fix"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132735\n",
            "pointer of Git LFS",
            "lfs pull",
        ),
        (
            b"<!DOCTYPE html>\n<html><head><title>runs.csv</title></head></html>",
            r"web page \('runs.csv'\)",
            "Raw",
        ),
        (b"<html><head><title>Sign in</title></head></html>", "asks to log in", "log in"),
        (b"404: Not Found", "holds one line: '404: Not Found'", "address may be wrong"),
        (
            b'{"message": "Not Found", "documentation_url": "https://x"}',
            "answer of a web server.*: Not Found",
            "address",
        ),
        (
            b'{"error": {"code": 404, "message": "no such run"}}',
            "answer of a web server.*: no such run",
            "address",
        ),
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
            "web server: AccessDenied",
            "address",
        ),
        (workbook("xl/workbook.xml"), "is an Excel workbook", "save the sheet as CSV"),
        (workbook("content.xml"), "is an OpenDocument spreadsheet", "save the sheet as CSV"),
        (workbook("runs.csv"), r"is a zip archive \(of runs.csv\)", "unzip"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old",
            "is an old Excel workbook",
            "save the sheet as CSV",
        ),
        (b"SQLite format 3\0" + bytes(100), "is an SQLite database", "CSV or parquet"),
        (b"\x28\xb5\x2f\xfd packed", "is packed by zstd", "zstd -d"),
        (bytes(range(1, 256)) * 20, "is not text: byte 127 belongs to no letter", "UTF-8"),
        (
            b"step 0: loss 10.9\nstep 1: loss 9.8\n",
            "is the printed log of one run",
            "one row a run",
        ),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes, sentence: str, fix: str) -> None:
    for name in ("runs.csv", "runs.json"):
        with pytest.raises(InputError, match=sentence) as error:
            read_table(write(tmp_path, content, name))
        assert fix in str(error.value.fix)
        assert "\n" not in error.value.problem


def test_a_file_is_what_its_content_says_whatever_its_name(tmp_path: Path) -> None:
    text = HEAD + ROWS
    frame = pd.read_csv(io.StringIO(text))
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    for content, name, noted in (
        (text.encode(), "runs.txt", {"kind-by-content"}),
        (text.encode(), "runs", {"kind-by-content"}),
        (text.encode(), "runs.json", {"kind-by-content"}),
        (text.encode(), "runs.csv.gz", set()),
        (gzip.compress(text.encode()), "runs.csv", set()),
        (bz2.compress(text.encode()), "runs.csv", set()),
        (lzma.compress(text.encode()), "runs.csv", set()),
        (buffer.getvalue(), "runs.csv", {"kind-by-content"}),
        (frame.to_json(orient="records").encode(), "runs.csv", {"kind-by-content"}),
    ):
        table = read_table(write(tmp_path, content, name))
        assert (values(table), codes(table)) == (VALUES, noted), name


def test_an_object_that_gives_one_key_two_values_is_refused(tmp_path: Path) -> None:
    text = '{"params": 1, "loss": 2}\n{"params": 1, "loss": 2, "loss": 3}\n'
    with pytest.raises(InputError, match=r"line 2 of .* gives 'loss' twice: 2 and 3"):
        read_table(write(tmp_path, text, "runs.jsonl"))
    assert len(read_table(write(tmp_path, text.replace("3}", "2}"), "runs.jsonl")).frame) == 2


def test_names_that_are_no_files_get_a_sentence_and_exit_code_2(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "circle.csv").symlink_to(tmp_path / "circle.csv")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nothing.csv")
    for name, sentence in (
        ("pipe.csv", "is a pipe or a device, not a file"),
        ("folder.csv", "is a folder without runs.parquet"),
        ("circle.csv", "symbolic links"),
        ("gone.csv", "is a link to"),
        ("x" * 300 + ".csv", "File name too long"),
        ("no-*.csv", "there is no file"),
        ("/dev/zero", "is a pipe or a device, not a file"),
    ):
        done = CliRunner().invoke(app, ["fit", str(tmp_path / name)])
        assert (done.exit_code, type(done.exception)) == (2, SystemExit)
        assert sentence in " ".join(done.output.split())


def test_a_table_that_memory_cannot_hold_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscale.explain.table.files.bounds.memory_at_hand", lambda: 1 << 20)
    packed = gzip.compress((HEAD + "1,1,1\n" * 10_000_000).encode(), compresslevel=1)
    with pytest.raises(
        InputError, match=r"holds more than .* rows, and 512 KiB of memory may be used"
    ):
        read_table(write(tmp_path, packed, "runs.csv.gz"))
    long = pa.table({name: np.ones(1_000_000) for name in ("params", "tokens", "loss")})
    pq.write_table(long, tmp_path / "runs.parquet")
    with pytest.raises(
        InputError, match=r"has 1,000,000 rows of 3 columns, which need about 68\.7 MiB of memory"
    ):
        read_table(tmp_path / "runs.parquet")


def test_a_toml_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert read_toml(write(tmp_path, b"\xef\xbb\xbfseed = 3\n", "sweep.toml")) == {"seed": 3}


# Kinds of columns


KINDS: dict[str, Any] = {
    "lists": pa.array([[1, 2]] * 4),
    "maps": pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
    "structs in lists": pa.array([[{"x": 1}]] * 4),
    "bytes": pa.array([b"\xff\x00"] * 4),
    "decimals": pa.array([decimal.Decimal("1.50")] * 4),
    "times": pa.array([datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)] * 4),
    "categories": pa.array(["a", "b"] * 2).dictionary_encode(),
    "nothing": pa.nulls(4),
    "truths": pa.array([True, None] * 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_any_kind_is_carried_along_and_tells_groups_apart(
    tmp_path: Path, kind: str
) -> None:
    runs = pa.table({"params": [1e6, 1e7, 1e8, 1e9], "loss": [4.5, 3.9, 3.4, 3.0]})
    pq.write_table(runs.append_column("extra", KINDS[kind]), tmp_path / "runs.parquet")
    table = read_table(tmp_path / "runs.parquet")
    assert sum(len(part.frame) for part in groups(table, "extra").values()) == 4
    if kind != "decimals":
        with pytest.raises(InputError, match="must be positive numbers, and is not in row 1"):
            read_table(tmp_path / "runs.parquet", columns={"loss": "extra"})


def test_frames_of_any_kind_of_column_and_index_are_read() -> None:
    frame = pd.DataFrame(
        {"params": [1, 1, 2, 2], "tokens": [5, 5, 6, 6], "loss": [3.0, 3.5, 2.0, 2.5]}
    )
    odd = frame.assign(
        x1=pd.array([1, None, 3, 4], dtype="Int64"), x2=pd.Categorical([1, 2, 1, 2]), x3=[1j] * 4,
        x4=[{"x": 1}, [1], "t", 2.5], x5=pd.array([1, None, 3, 4], dtype="int64[pyarrow]"),
        x6=pd.arrays.SparseArray([0.0, 1, 0, 1]), x7=[object()] * 4,
    )  # fmt: skip
    table = read_table(odd)
    assert table.frame["x4"].tolist() == ['{"x": 1}', "[1]", "t", 2.5]
    assert [list(groups(table, name))[:2] for name in ("x1", "x2")] == [["1", "(none)"], ["1", "2"]]
    grouped = frame.groupby(["params", "tokens"]).agg({"loss": ["mean", "std"]})
    assert values(read_table(grouped)) == [[1, 5, 3.25], [2, 6, 2.25]]
    assert "loss_std" in read_table(grouped).frame


# Names with commas on the command line


def test_names_with_commas_are_quoted_in_columns_and_units(tmp_path: Path) -> None:
    path = write(tmp_path, 'size,"acc,none","Loss (val, nats)"\n1,0.5,3.5\n2,0.6,3.25\n3,0.7,3\n')
    columns = """params=size, loss="Loss (val, nats)" ,'x'='acc,none'"""
    assert parse_columns(columns) == {"params": "size", "loss": "Loss (val, nats)", "x": "acc,none"}
    assert parse_units('params=M,"loss"=nats') == {"params": "M", "loss": "nats"}
    done = CliRunner().invoke(
        app, ["fit", str(path), "--columns", columns, "--units", "params=M", "--bootstrap", "0"]
    )
    assert (done.exit_code, "3 runs from" in done.output) == (0, True)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("loss=acc,none", "not a list of quantity=column: 'none' cannot be read"),
        ("loss='acc,none", "not a list of quantity=column"),
        ("loss=a=b", "a blank or = in quotes"),
        ("loss=a,loss=b", "gives loss twice: 'a' and 'b'"),
        ("loss=a,L=b", r"gives L \(which is loss\) twice: 'a' and 'b'"),
        ("params=x,loss=x", "takes the column 'x' for params and for loss"),
        ("params=loss", "takes the column 'loss' for params and for loss"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(columns: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_table(
            pd.DataFrame({"size": [1, 2], "loss": [3.0, 2.9]}), columns=parse_columns(columns)
        )


def test_a_folder_that_is_half_there_says_what_is_missing(tmp_path: Path, repository: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(repository / "results/known-floor/seed-0", whole)
    assert not {note.code for note in read_table(whole).notes} & {"runs-lacking", "sweep-unknown"}
    rows = pd.read_parquet(whole / "runs.parquet")
    rows.head(20).to_parquet(whole / "runs.parquet")
    (note,) = read_table(whole).notes
    assert note.code == "runs-lacking"
    assert "28 runs were asked for, and 20 are here" in note.message
    assert "lacks 1x48x3 at 600k tokens, seed 0" in note.message
    sweep = (whole / "sweep.json").read_text()
    (whole / "sweep.json").write_text(sweep[:400])
    (note,) = read_table(whole).notes
    assert (note.code, weight_of(note)) == ("sweep-unknown", Weight.DOUBT)
    assert "sweep.json is damaged: it breaks off in line 26" in note.message
    (whole / "sweep.json").unlink()
    (note,) = read_table(whole).notes
    assert (note.code, weight_of(note)) == ("sweep-unknown", Weight.NEWS)
    (whole / "sweep.json").write_text(sweep)
    table = whole / "runs.parquet"
    content = table.read_bytes()
    for cut, reason in ((content[:1000], "its end is missing"), (b"", "it is empty")):
        table.write_bytes(cut)
        for source in (whole, table):
            with pytest.raises(InputError, match=f"is damaged: {reason}") as error:
                read_table(source)
            assert "the sweep's own command makes it anew" in str(error.value.fix)
    lone = tmp_path / "lone.parquet"
    lone.write_bytes(content[:1000])
    with pytest.raises(InputError, match="its end is missing") as error:
        read_table(lone)
    assert "copy it again" in str(error.value.fix)

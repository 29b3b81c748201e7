"""Sources of runs other than a plain file: streams, JSON, exports of Weights & Biases, units,
filters and groups.
"""

import gzip
import io
import json
import math
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmscale.errors import InputError
from llmscale.errors.command_lines import where_option
from llmscale.errors.printable import clean
from llmscale.explain.fit import fit_law
from llmscale.explain.table import RunTable, groups, parse_units, read_table
from llmscale.explain.table.rows.where import parse_where

RUNS = pd.DataFrame(
    {
        "run_id": ["a", "b", "c", "d"],
        "params": [1e6, 1e7, 1e8, 1e9],
        "tokens": [2e7, 2e8, 2e9, 2e10],
        "loss": [4.5, 3.9, 3.4, 3.0],
        "data": ["c4", "pile", None, "c4"],
        "seed": [0, 1, 2, 0],
        "outlier": [False, True, False, False],
        "old loss": [4.6, 4.0, 3.5, 3.1],
    }
)
WANDB_RUNS: list[dict[str, Any]] = [
    {
        "name": "small",
        "state": "finished",
        "config": {"n_params": 1e6, "data": "c4", "optim": {"lr": 1e-3}, "sizes": [1, 2]},
        "summary": {
            "tokens": 2e7,
            "val": {"loss": 4.1},
            "train/loss": 4.0,
            "_wandb": {"runtime": 60},
        },
    },
    {
        "name": "large",
        "state": "crashed",
        "config": {"n_params": 1e9, "data": "pile"},
        "summary": {},
    },
    {
        "name": "medium",
        "state": "finished",
        "config": {"n_params": 1e7, "data": "c4", "optim": {"lr": 5e-4}},
        "summary": {"tokens": 2e8, "val": {"loss": 3.5}, "train/loss": 3.4},
    },
]
WANDB_CSV = """"Name","State","Created","n_params","tokens","data","loss","val/loss"
"small","finished","2026-01-01","125M","2.5B","c4","3.4","3.5"
"large","crashed","2026-01-02","1.3B","26B","c4","",""
"medium","running","2026-01-03","350M","7B","pile","3.1","3.2"
"""


def codes(table: RunTable) -> list[str]:
    return [note.code for note in table.notes]


def read_or_refuse(source: Any, **options: Any) -> RunTable | InputError:
    """The table, or the sentence that refuses it; any other exception fails the test."""
    try:
        return read_table(source, **options)
    except InputError as error:
        return error


def as_bytes(kind: str) -> bytes:
    if kind == "parquet":
        buffer = io.BytesIO()
        RUNS.to_parquet(buffer)
        return buffer.getvalue()
    if kind in ("jsonl", "json"):
        return RUNS.to_json(orient="records", lines=kind == "jsonl").encode()
    if kind == "columns.json":
        return RUNS.to_json().encode()
    text = RUNS.to_csv(index=False, sep={"csv": ",", "tsv": "\t", "semicolon": ";"}[kind])
    return text.encode()


KINDS = ("csv", "tsv", "semicolon", "jsonl", "json", "columns.json", "parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_says_by_its_first_bytes_what_it_is(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(as_bytes(kind))))
    table = read_table("-")
    assert table.frame["run_id"].tolist() == ["a", "b", "c", "d"]
    assert table.frame["params"].tolist() == RUNS["params"].tolist()
    assert str(table) == "4 runs from <stdin>"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("runs.csv", "csv"), ("runs.csv", "semicolon"), ("runs.v2.tsv", "tsv"),
        ("runs.jsonl", "jsonl"),
        ("runs.ndjson", "jsonl"), ("runs.json", "json"), ("runs.json", "columns.json"),
        ("RUNS.PARQUET", "parquet"),
        ("runs.csv.gz", "csv"), ("runs.jsonl.gz", "jsonl"),
    ],
)  # fmt: skip
def test_every_kind_of_file_gives_the_same_runs_as_a_frame(
    tmp_path: Path, name: str, kind: str
) -> None:
    content = as_bytes(kind)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    columns = ["run_id", "params", "tokens", "flops", "loss"]
    expected = read_table(RUNS)
    assert read_table(tmp_path / name).frame[columns].equals(expected.frame[columns])
    assert str(expected) == "4 runs from <table>"


def test_the_fit_command_reads_a_table_from_a_pipe(repository: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(repository)}
    command = [
        sys.executable,
        "-m",
        "llmscale",
        "fit",
        "-",
        "--law",
        "power",
        "--bootstrap",
        "0",
        "--json",
    ]
    done = subprocess.run(
        command, input=as_bytes("csv"), capture_output=True, env=environment, check=True
    )
    printed = json.loads(done.stdout)
    assert (printed["law"], printed["n_runs"], printed["table"]) == ("power", 4, "<stdin>")


def test_an_empty_stream_a_broken_line_and_a_spreadsheet_get_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    with pytest.raises(InputError, match="<stdin> is empty"):
        read_table("-")
    (tmp_path / "runs.jsonl").write_text('{"params": 1}\n{"params": \n')
    with pytest.raises(InputError, match=r"line 2 of .*runs\.jsonl is not JSON"):
        read_table(tmp_path / "runs.jsonl")
    (tmp_path / "runs.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="not one object a run"):
        read_table(tmp_path / "runs.json")
    with zipfile.ZipFile(tmp_path / "runs.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(InputError, match="is an Excel workbook") as error:
        read_table(tmp_path / "runs.xlsx")
    assert error.value.fix == "save the sheet as CSV"
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(as_bytes("csv"))[:40])
    with pytest.raises(InputError, match="cannot be unpacked"):
        read_table(tmp_path / "cut.csv.gz")


def test_decimal_commas_are_read_where_semicolons_separate(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("N;D;loss\n1000;20000;3,5\n2000;20000;3,25\n")
    table = read_table(tmp_path / "runs.csv")
    assert (table.frame["loss"].tolist(), codes(table)) == ([3.5, 3.25], ["decimal-comma"])
    (tmp_path / "runs.csv").write_text("N;loss\n124,000;3\n")  # thousands are as likely as decimals
    with pytest.raises(InputError, match=r"'124,000' in line 2 is 124.000 or 124000"):
        read_table(tmp_path / "runs.csv")


# Weights & Biases


def test_the_runs_table_of_wandb_leaves_out_unfinished_runs(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export.csv"
    path.write_text(WANDB_CSV)
    table = read_table(path)
    assert (table.columns["loss"], codes(table)) == ("val/loss", ["validation-loss"])
    assert table.frame[["run_id", "params", "tokens", "loss"]].to_numpy().tolist() == [
        ["small", 125e6, 2.5e9, 3.5]
    ]
    assert [(run.run_id, run.reason) for run in table.excluded] == [
        ("large", "crashed"),
        ("medium", "running"),
    ]


@pytest.mark.parametrize("form", ["lines", "array", "frame", "printed"])
def test_nested_runs_of_wandb_are_found_by_the_last_part_of_a_name(
    tmp_path: Path, form: str
) -> None:
    frame = pd.DataFrame(WANDB_RUNS)
    path = tmp_path / ("runs.csv" if form == "printed" else "runs.json")
    if (
        form == "printed"
    ):  # the columns of Python dictionaries that the documented export script writes
        frame.to_csv(path)
    elif form != "frame":
        path.write_text(
            "\n".join(map(json.dumps, WANDB_RUNS)) if form == "lines" else json.dumps(WANDB_RUNS)
        )
    table = read_table(frame if form == "frame" else path)
    columns = ["run_id", "params", "tokens", "loss", "lr", "data"]
    assert table.frame[columns].to_numpy().tolist() == [
        ["small", 1e6, 2e7, 4.1, 1e-3, "c4"],
        ["medium", 1e7, 2e8, 3.5, 5e-4, "c4"],
    ]
    assert [run.run_id for run in table.excluded] == ["large"]
    assert read_table(frame, where="config.data == c4 and optim.lr < 1").excluded == ()


def test_a_chart_of_wandb_is_no_table_of_runs(tmp_path: Path) -> None:
    (tmp_path / "chart.csv").write_text(
        '"Step","a - loss","a - loss__MIN","a - loss__MAX"\n1,2.5,2.5,2.5\n'
    )
    with pytest.raises(InputError, match="chart exported from Weights & Biases") as error:
        read_table(tmp_path / "chart.csv")
    assert "export the table of runs" in str(error.value.fix)


# Quantities and units


def test_one_of_params_tokens_or_flops_is_enough() -> None:
    only = read_table(pd.DataFrame({"D": [1e9, 2e9], "loss": [3.0, 2.9]}))
    assert only.frame["params"].isna().all()
    assert codes(only) == ["params-unknown"]
    computed = read_table(pd.DataFrame({"C": [6e19], "D": [1e10], "loss": [3.0]}))
    assert (computed.frame["params"].tolist(), codes(computed)) == ([1e9], ["params-from-flops"])
    with pytest.raises(InputError, match="no column for params"):
        read_table(pd.DataFrame({"loss": [3.0]}))


def test_any_column_can_be_mapped_for_a_law_of_ones_own() -> None:
    frame = pd.DataFrame(
        {"U": ["4B", None], "x": [0.0, -1.0], "loss": [3.0, 2.9], "pretrained": [True, False]}
    )
    table = read_table(frame, columns={"unique_tokens": "U", "heat": "x"})
    assert table.frame["unique_tokens"].tolist()[0] == 4e9
    assert math.isnan(table.frame["unique_tokens"][1])
    assert table.frame["heat"].tolist() == [0.0, -1.0]
    assert table.frame["pretrained"].tolist() == [1.0, 0.0]


def test_a_run_id_in_two_rows_is_noted() -> None:
    table = read_table(
        pd.DataFrame({"run_id": ["a", "b", "a"], "N": [1, 2, 3], "loss": [3.0, 2.9, 2.8]})
    )
    assert [str(note)[:32] for note in table.notes if note.code == "run-id-repeated"] == [
        "a stands in more than one row: e"
    ]


@pytest.mark.parametrize(
    ("quantity", "unit", "factor"),
    [
        ("params", "M", 1e6), ("tokens", "b", 1e9), ("tokens", "G", 1e9), ("tokens", "T", 1e12),
        ("params", "1e5", 1e5),
        ("flops", "PF", 1e15), ("flops", "EF", 1e18), ("flops", "ZFLOPs", 1e21),
        ("flops", "PFdays", 8.64e19),
        ("loss", "nats", 1.0), ("loss", "bits", math.log(2)),
    ],
)  # fmt: skip
@settings(max_examples=20)
@given(values=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5))
def test_units_scale_a_column(quantity: str, unit: str, factor: float, values: list[float]) -> None:
    frame = pd.DataFrame(
        {"params": 1e6, "tokens": 1e9, "flops": 6e15, "loss": 3.0}, index=range(len(values))
    )
    table = read_table(frame.assign(**{quantity: values}), units=f"{quantity}={unit}")
    assert table.frame[quantity].to_numpy() == pytest.approx(np.array(values) * factor, rel=1e-12)


def test_perplexity_becomes_nats_and_bits_per_byte_are_refused() -> None:
    frame = pd.DataFrame({"N": [1e6, 1e7], "ppl": [np.e**3, np.e]})
    with pytest.raises(InputError, match="no column for loss") as error:
        read_table(frame)
    assert "--columns loss=ppl --units loss=perplexity" in str(error.value.fix)
    table = read_table(frame, columns={"loss": "ppl"}, units={"loss": "perplexity"})
    assert table.frame["loss"].tolist() == pytest.approx([3.0, 1.0])
    with pytest.raises(InputError, match=r"numbers above 1, and is not in row 2 \(0.5\)"):
        read_table(
            frame.assign(ppl=[2.0, 0.5]), columns={"loss": "ppl"}, units={"loss": "perplexity"}
        )
    with pytest.raises(InputError, match="bits per byte"):
        parse_units("loss=bits_per_byte")


@pytest.mark.parametrize(
    ("units", "sentence"),
    [
        ("params=Q", "no unit 'Q' for params"),
        ("loss=bit5", "no unit 'bit5' for loss"),
        ("params", "not a list of quantity=unit"),
        ("params=M,N=K", "gives N twice"),
        ("flops=PF", "no column for flops"),
        ("params=M", "suffix of their own"),
        ("data=M", "not all numbers"),
    ],
)
def test_units_that_cannot_be_applied_get_a_sentence(units: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_table(
            pd.DataFrame({"params": ["125M"], "tokens": [1e9], "loss": [3.0], "data": ["c4"]}),
            units=units,
        )


# Filters


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("params >= 10M", "bcd"), ("N<1e8", "ab"), ("flops < 2e16 and loss < 4", "b"),
        ("data == c4", "ad"),
        ("data = 'c4'", "ad"), ("data != c4", "bc"), ("data in c4, pile AND seed == 0", "ad"),
        ("seed in 0,1", "abd"),
        ("seed not in (0, 1)", "c"), ("outlier == false", "acd"), ('"old loss" > 3.5', "ab"),
        ("`old loss` < 3.3", "d"),
        ("run_id in [a,c]", "ac"), ("LOSS > 3.4", "ab"), ('loss < "old loss" and N > 10M', "cd"),
    ],
)  # fmt: skip
def test_filters_keep_the_runs_they_name(where: str, left: str) -> None:
    table = read_table(RUNS, where=where)
    assert "".join(table.frame["run_id"]) == left
    assert table.notes[-1].code == "filtered"
    assert str(table.notes[-1]).startswith(f"{len(left)} of 4 runs remain")
    assert table.excluded == ()


COMPARISONS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.just(math.nan))


@settings(max_examples=40)
@given(
    data=st.data(),
    x=st.lists(NUMBERS, min_size=1, max_size=6),
    first=st.tuples(COMPARISONS, st.integers(-3, 3)),
    second=st.tuples(
        st.sampled_from(["==", "!="]), st.sampled_from(["u", "v w", "and", "in, not"])
    ),
)
def test_filters_agree_with_pandas(
    data: st.DataObject, x: list[float], first: tuple[str, int], second: tuple[str, str]
) -> None:
    words = data.draw(
        st.lists(st.sampled_from(["u", "v w", "and", "in, not"]), min_size=len(x), max_size=len(x))
    )
    frame = pd.DataFrame({"params": 1.0, "loss": 1.0, "x": x, "word": words})
    (sign, number), (same, word) = first, second
    expected = frame.query(f"x {sign} {number} and word {same} {word!r}").index.tolist()
    filters = [f"x{sign}{number} and word {same} '{word}'"]
    table = read_or_refuse(frame.assign(run_id=frame.index), where=filters)
    if isinstance(table, InputError):
        assert "no run meets" in table.problem
        left = []
    else:
        left = [int(run_id) for run_id in table.frame["run_id"]]
    assert left == expected


@settings(max_examples=60)
@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(
            st.sampled_from(
                [
                    "loss",
                    "data",
                    "<",
                    "==",
                    "in",
                    "not",
                    "and",
                    ",",
                    "(",
                    ")",
                    "3",
                    "1M",
                    "c4",
                    "'",
                    '"',
                    " ",
                ]
            ),
            max_size=8,
        ).map(" ".join),
    )
)
def test_no_filter_fails_with_anything_but_a_sentence(where: str) -> None:
    table = read_or_refuse(RUNS, where=where)
    assert table.fix if isinstance(table, InputError) else 0 < len(table.frame) <= 4


SHOWN = st.characters(exclude_categories=("C", "Z"), include_characters=" '\"`,()=!").filter(
    lambda one: clean(one) == one
)
PRINTED = st.text(SHOWN, max_size=8)
"""What a terminal may be shown. The rest is printed as only a real shell reads it: $'\\x1b'."""


@settings(max_examples=100, deadline=None)
@given(PRINTED, PRINTED)
@example("data", "it's")
@example("run_id", "row 1")
@example("and", "\"'`")
def test_a_printed_filter_is_read_back_by_the_shell_and_the_parser(column: str, value: str) -> None:
    option, text = shlex.split(where_option(column, "in", value, "x"))
    assert option == "--where"
    (condition,) = parse_where(text)
    assert (condition.column, condition.sign, condition.values) == (column, "in", (value, "x"))


@pytest.mark.parametrize("orient", ["index", "split", "columns", "table", "records"])
def test_json_in_every_form_of_pandas_is_read_as_the_same_runs(tmp_path: Path, orient: Any) -> None:
    file = tmp_path / "runs.json"
    RUNS.to_json(file, orient=orient)
    assert list(read_table(file).frame["run_id"]) == list("abcd")


def test_the_keys_of_an_object_of_runs_name_them(tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    runs = RUNS.drop(columns="run_id").set_index(pd.Index(["r1", "r2", "r3", "r4"]))
    nested = {
        key: {
            "config": {"params": row["params"], "tokens": row["tokens"]},
            "summary": {"val_loss": row["loss"]},
        }
        for key, row in json.loads(runs.to_json(orient="index")).items()
    }
    file.write_text(json.dumps(nested))
    table = read_table(file)
    assert list(table.frame["run_id"]) == ["r1", "r2", "r3", "r4"]
    assert list(table.frame["loss"]) == list(RUNS["loss"])
    assert "runs-by-key" in [note.code for note in table.notes]


@pytest.mark.parametrize(
    ("column", "text", "fix"),
    [
        ("tokens", "1.0B tokens", "'1.0B tokens' in a is no number: write 1.0B"),
        ("tokens", "1,000 Mrd", "write 1.000B or 1000B"),
        ("tokens", "~1 234,5 Mio.", "write 1234.5M"),
        ("tokens", "1 Mia.", "write 1B"),
        ("tokens", "1 mil millones", "fix these rows, or leave them out"),
        ("loss", "4.227 ± 0.010", "write 4.227;"),
        ("loss", "42.27%", "--units loss=accuracy if"),
        ("loss", "3.1 bits", "write 3.1, and --units loss=bits"),
    ],
)
def test_a_text_around_a_number_is_told_as_the_number_to_write(
    column: str, text: str, fix: str
) -> None:
    with pytest.raises(InputError) as error:
        read_table(RUNS.assign(**{column: [text, *map(str, RUNS[column][1:])]}))
    assert fix in str(error.value.fix)


def test_a_copy_of_a_row_of_a_results_folder_is_no_second_run(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    runs = RUNS.assign(run_id=list("abcd"), status="done")
    pd.concat([runs, runs[:2]]).to_parquet(tmp_path / "runs.parquet")
    table = read_table(tmp_path)
    assert list(table.frame["run_id"]) == list("abcd")
    assert [run.reason for run in table.excluded] == ["a copy of another row of the run"] * 2
    assert "left out: 2 a copy of another row" in table.reading
    fit = fit_law(table, "power", bootstrap=0)
    assert "unfinished-runs" not in {note.code for note in fit.notes}
    pd.concat([runs, runs[:1].assign(loss=4)]).to_parquet(tmp_path / "runs.parquet")
    again = read_table(tmp_path)
    assert (len(again.frame), [note.code for note in again.notes]) == (5, ["run-id-repeated"])


def test_the_loss_of_a_results_folder_is_its_loss_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    runs = RUNS.assign(
        status="done", train_loss=RUNS["loss"] - 0.1, loss=[4.5, np.nan, np.inf, 1e308]
    )
    runs.to_parquet(tmp_path / "runs.parquet")
    table = read_table(tmp_path)
    assert list(table.frame["run_id"]) == ["a"]
    assert [run.reason for run in table.excluded] == ["no positive finite loss"] * 3
    for damaged in (runs.assign(loss=np.nan), runs.drop(columns="loss")):
        damaged.to_parquet(tmp_path / "runs.parquet")
        with pytest.raises(InputError, match="loss"):
            read_table(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"columns": {"params": 0}}, {"columns": ["params"]}, {"where": 3}, {"count": None},
     {"status": 3},
     {"units": {"params": None}}, {"units": "params=1e308"}],
)  # fmt: skip
def test_an_argument_of_a_wrong_kind_is_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as error:
        read_table(RUNS, **wrong)
    assert error.value.fix


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("flosp < 1e20", "no column 'flosp'"),
        ("flops < 1", r"no run meets 'flops < 1': flops goes from 1.2e\+14 to 1.2e\+20 there"),
        ("data == wiki", "no run meets 'data == wiki': data is c4, pile there"),
        ("loss < 4 or loss > 5", "'or' does not belong after 'loss < 4'"),
        ("old loss < 3", "a comparison should stand after 'old', not 'loss'"),
        ("3 < loss", "has a number before <"),
        ("loss < low", "column 'loss' holds numbers, and 'low' is none"),
        ("data < 3", "column 'data' holds text"),
        ("outlier == maybe", "holds True and False"),
        ("__import__('os')", "cannot be read"),
    ],
)
def test_a_filter_that_cannot_be_right_gets_a_sentence(where: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as error:
        read_table(RUNS, where=["loss > 0", where])
    assert error.value.fix


def test_a_filter_may_leave_out_rows_that_could_not_be_read() -> None:
    broken = RUNS.assign(loss=[4.5, None, 3.4, -1.0])
    with pytest.raises(InputError, match=r"b \(empty\), d \(-1.0\)") as error:
        read_table(broken)
    assert "--where 'loss > 0'" in str(error.value.fix)
    assert read_table(broken, where="loss > 0").frame["run_id"].tolist() == ["a", "c"]


# Groups


def test_groups_come_in_order_of_appearance_with_the_runs_left_out_of_each() -> None:
    table = read_table(
        RUNS.assign(status=["done", "diverged", "done", "done"], extra=[4.5, 1, None, 4.5])
    )
    parts = groups(table, "data")
    assert {name: part.frame["run_id"].tolist() for name, part in parts.items()} == {
        "c4": ["a", "d"],
        "(none)": ["c"],
    }
    assert [run.run_id for run in table.excluded] == ["b"]
    assert all(part.excluded == () for part in parts.values())
    by_seed = groups(read_table(RUNS.assign(status=["done", "done", "done", "failed"])), "seed")
    assert {name: [run.run_id for run in part.excluded] for name, part in by_seed.items()} == {
        "0": ["d"], "1": [], "2": []
    }  # fmt: skip
    with pytest.raises(InputError, match="no column 'dta'") as error:
        groups(table, "dta")
    assert "did you mean data?" in str(error.value.fix)


def test_a_table_gives_the_runs_of_a_mask() -> None:
    table = read_table(RUNS)
    assert table.select(table.frame["loss"] < 4).frame["run_id"].tolist() == ["b", "c", "d"]


# Anything at all


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.integers()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["params", "loss", "tokens", "config", "summary", "state", "x"]), inner
        ),
    ),
    max_leaves=12,
)


@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(JSON, max_size=3))
@example([{"params": {"params": "\n"}, "loss": None}])
def test_no_json_fails_with_anything_but_a_sentence(tmp_path: Path, rows: list[Any]) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    table = read_or_refuse(path)
    assert (
        "\n" not in table.problem
        if isinstance(table, InputError)
        else np.isfinite(table.frame["loss"]).all()
    )


@pytest.mark.parametrize(
    "name", ["chinchilla_epoch", "data_constrained", "moe", "llama3_isoflop", "step_law"]
)
def test_published_tables_are_read(shared: Path, name: str) -> None:
    table = read_table(shared / "published" / f"{name}.csv")
    assert len(table.frame) == len(pd.read_csv(shared / "published" / f"{name}.csv"))


def test_a_column_empty_in_most_rows_is_said_to_leave_few() -> None:
    frame = pd.DataFrame({"params": [1e6, None, None, None], "loss": [4.0, 3.5, 3.0, 2.9]})
    with pytest.raises(InputError, match="is not in 3 of 4 rows: ") as caught:
        read_table(frame)
    assert str(caught.value.fix).endswith("which leaves only 1 row")

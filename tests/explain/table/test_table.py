"""The table of runs: found columns, derived tokens, what is left out, and wrong input in one
sentence.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmscale.errors import InputError
from llmscale.explain.table import read_table

GOOD = "params,tokens,loss\n1000,20000,4.0\n2000,20000,3.5\n"


def write(folder: Path, text: str | bytes, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "header", ["params,tokens,loss", "N,D,L", "n_params,N_TOKENS,Val_Loss", " n , d , l "]
)
def test_columns_are_found_by_any_of_their_names(tmp_path: Path, header: str) -> None:
    table = read_table(write(tmp_path, f"{header}\n1000,20000,4.0\n2000,20000,3.5\n"))
    assert table.frame[["params", "tokens", "loss"]].to_numpy().tolist() == [
        [1000, 20000, 4.0],
        [2000, 20000, 3.5],
    ]
    assert table.frame["run_id"].tolist() == ["row 1", "row 2"]
    assert (table.frame[["params", "tokens", "flops", "loss"]].dtypes == "float64").all()


def test_a_column_is_mapped_by_hand_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "X,tokens,loss\n1000,20000,4.0\n")
    assert read_table(path, columns={"params": "X"}).frame["params"].tolist() == [1000]
    with pytest.raises(InputError, match="no column for params"):
        read_table(write(tmp_path, "X,loss\n1000,4.0\n", "sizes.csv"))
    with pytest.raises(InputError, match="no column 'Y' for params"):
        read_table(path, columns={"params": "Y"})
    with pytest.raises(InputError, match="no quantity 'parms'") as error:
        read_table(path, columns={"parms": "X"})
    assert "did you mean params?" in str(error.value.fix)


def test_two_columns_that_may_be_the_same_quantity_are_not_guessed_between(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="any may be params"):
        read_table(write(tmp_path, "Params,PARAMS,tokens,loss\n1,2,3,4\n"))


def test_missing_tokens_are_computed_from_flops_with_a_note(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "N,C,loss\n1000000000,6e19,3.0\n"))
    assert table.frame["tokens"].tolist() == [1e10]
    assert [note.code for note in table.notes] == ["tokens-from-flops"]


def test_flops_of_large_integers_do_not_overflow(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "N,D,loss\n1000000000000,20000000000000,1.9\n"))
    assert table.frame["flops"].tolist() == [1.2e26]


def test_another_count_of_parameters_is_taken_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "params,params_total,tokens,loss\n1000,1500,20000,4.0\n")
    table = read_table(path, count="params_total")
    assert (table.count, table.frame["params"].tolist()) == ("params_total", [1500])
    with pytest.raises(InputError, match="no column 'params_non_embedding'") as error:
        read_table(path, count="params_non_embedding")
    assert "params, params_total" in str(error.value.fix)
    with pytest.raises(InputError, match="no count 'total'"):
        read_table(path, count="total")


def test_unfinished_runs_are_left_out_by_name_even_with_broken_values(tmp_path: Path) -> None:
    text = (
        "run_id,status,params,tokens,loss\na,done,1000,20000,4.0\n"
        "b,diverged,2000,20000,nan\nc,failed,3000,20000,\n"
    )
    table = read_table(write(tmp_path, text))
    assert table.frame["run_id"].tolist() == ["a"]
    assert [(run.run_id, run.reason) for run in table.excluded] == [
        ("b", "diverged"),
        ("c", "failed"),
    ]
    with pytest.raises(InputError, match="no finished runs among its 1 rows"):
        read_table(write(tmp_path, "status,params,tokens,loss\nfailed,1,1,1\n"))


@pytest.mark.parametrize("value", ["nan", "", "0", "-2", "inf", "abc", "True"])
@pytest.mark.parametrize("column", ["params", "tokens", "loss"])
def test_values_that_are_not_positive_numbers_are_named_by_column_and_row(
    tmp_path: Path, column: str, value: str
) -> None:
    cells = {"params": "1000", "tokens": "20000", "loss": "4.0"} | {column: value}
    with pytest.raises(InputError, match=rf"column '{column}'.*row 3") as error:
        read_table(write(tmp_path, GOOD + ",".join(cells.values()) + "\n"))
    assert error.value.exit_code == 2


def test_at_most_five_bad_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"row 7 \(-1.0\) and 3 more"):
        read_table(write(tmp_path, GOOD + "1,1,-1\n" * 8))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.csv", None, "there is no file"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"params,tokens,loss\n", "no rows"),
        ("blank.csv", b"\n\n", "is empty"),
        ("binary.csv", bytes(range(256)) * 20, "line 1 of .* holds a NUL byte"),
        ("binary.parquet", bytes(range(256)) * 20, "cannot be read as a parquet file"),
        (
            "prose.csv",
            b"It was a dark\nand, stormy night\n",
            "line 2 of .* has 2 fields under 1 heading",
        ),
        ("runs.txt", b"It was a dark\nand, stormy night\n", "does not end in"),
        (
            "twice.csv",
            b"N,L,tokens,loss\n1,2,3\n4,5,6,7,8\n",
            "line 2 of .* has 3 fields under 4 headings",
        ),
    ],
)
def test_what_is_not_a_table_of_runs_gets_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    path = tmp_path / name if content is None else write(tmp_path, content, name)
    with pytest.raises(InputError, match=sentence) as error:
        read_table(path)
    assert "\n" not in error.value.problem
    assert error.value.fix


def test_a_results_folder_is_read_and_another_folder_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"without runs\.parquet"):
        read_table(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no sweep under results"):
        read_table()
    folder = tmp_path / "results" / "first"
    folder.mkdir(parents=True)
    pd.DataFrame({"run_id": ["x"], "params": [10], "tokens": [200], "loss": [3.0]}).to_parquet(
        folder / "runs.parquet"
    )
    assert read_table(folder).frame["run_id"].tolist() == ["x"]
    with pytest.raises(InputError, match="no sweep under results"):
        read_table()  # a table that no sweep wrote is not the newest sweep
    (folder / "sweep.json").write_text("{}")
    assert read_table().frame["run_id"].tolist() == ["x"]
    assert read_table(folder / "runs.parquet").frame["flops"].tolist() == [12000.0]


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)),
    st.sampled_from([b"", GOOD.encode()]),
)
def test_no_csv_makes_the_reader_fail_with_anything_but_a_sentence(
    tmp_path: Path, junk: bytes, start: bytes
) -> None:
    path = write(tmp_path, start + junk)
    try:
        table = read_table(path)
    except InputError:
        return
    else:
        values = table.frame[["params", "loss"]].to_numpy()
        assert (np.isfinite(values) & (values > 0)).all()

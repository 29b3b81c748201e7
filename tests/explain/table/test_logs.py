"""Logs of one run: known and named, never fitted as runs; several of them make a table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.table import read_table


def loss(params: float, tokens: float) -> float:
    return 1.7 + 400 / params**0.34 + 400 / tokens**0.28


def trainer_state(
    folder: Path, params: float, tokens: float, *, until: int = 20, counted: bool = True
) -> Path:
    """The state of Hugging Face's Trainer after `until` of 20 logged steps, every fifth of which
    was evaluated.
    """
    history: list[dict[str, Any]] = []
    for number in range(1, until + 1):
        seen = tokens * number / 20
        step = {"epoch": number / 20, "step": 50 * number} | (
            {"num_input_tokens_seen": seen} if counted else {}
        )
        history.append(
            step | {"loss": loss(params, seen) - 0.1, "learning_rate": 1e-3, "grad_norm": 1.0}
        )
        if number % 5 == 0:
            history.append(step | {"eval_loss": loss(params, seen), "eval_runtime": 3.0})
    state = {
        "log_history": history,
        "global_step": 50 * until,
        "max_steps": 1000,
        "trial_params": None,
    }
    counts = {
        "total_flos": 6 * params * tokens * until / 20,
        "num_input_tokens_seen": tokens * until / 20,
    }
    folder.mkdir(parents=True)
    path = folder / "trainer_state.json"
    path.write_text(json.dumps(state | (counts if counted else {"total_flos": 0})))
    return path


STEPS = range(0, 100, 10)
LOGS = {
    "history.csv": "_step,tokens,train/loss,val/loss\n"
    + "".join(f"{i},{i * 100},{5 - i / 100},\n" for i in STEPS),
    "history.jsonl": "".join(
        json.dumps({"_step": i, "_runtime": 2.0 * i, "_timestamp": 1e9 + i, "loss": 5 - i / 100})
        + "\n"
        for i in STEPS
    ),
    "olmo.csv": "_step,name,throughput/total_tokens,train/CrossEntropyLoss\n"
    + "".join(f"{i},olmo-190M,{i * 100},{5 - i / 100}\n" for i in STEPS),
    "metrics.csv": "epoch,step,train_loss,val_loss\n"
    + "".join(f"0,{i},{5 - i / 100},\n0,{i},,{5.1 - i / 100}\n" for i in STEPS),
    "keras.csv": "epoch,loss,val_loss\n"
    + "".join(f"{i},{5 - i / 10},{5.1 - i / 10}\n" for i in range(10)),
    "nano.csv": "iter,N,loss,lr\n" + "".join(f"{i},124000000,{5 - i / 100},0.001\n" for i in STEPS),
    "board.csv": "Wall time,Step,Value\n"
    + "".join(f"{1e9 + i},{i},{5 - i / 100}\n" for i in STEPS),
    "board_frame.csv": "step,value,wall_time\n"
    + "".join(f"{i},{5 - i / 100},{1e9 + i}\n" for i in STEPS),
    "board_short.csv": "step,value\n" + "".join(f"{i},{5 - i / 100}\n" for i in STEPS),
    "board_tag.csv": "run,tag,step,value\n"
    + "".join(f"a,loss/val,{i},{5 - i / 100}\n" for i in STEPS),
    "board.json": json.dumps([[1e9 + i, i, 5 - i / 100] for i in STEPS]),
}


@pytest.mark.parametrize("name", LOGS)
def test_the_log_of_one_run_is_no_table_of_runs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LOGS[name])
    done = CliRunner().invoke(app, ["fit", str(tmp_path / name), "--columns", "params=loss"])
    said = " ".join(done.output.split())
    assert done.exit_code == 2
    what = (
        "one curve of one run, as TensorBoard saves it" if "board" in name else "the log of one run"
    )
    assert f"is {what} (" in said
    assert (
        "and a law needs a row a run fix: write a table with one row a run: "
        "run_id,params,tokens,loss" in said
    )


def test_curves_of_tensorboard_one_under_another_are_no_table_of_runs() -> None:
    rows = [(run, "loss", i, 5 - i / 100) for run in "ab" for i in STEPS]
    frame = pd.DataFrame(rows, columns=["run", "tag", "step", "value"])
    for one in (frame, frame.drop(columns="tag"), frame.assign(wall_time=1e9)):
        with pytest.raises(InputError, match="holds 2 curves as TensorBoard saves them") as error:
            read_table(one)
        assert f"ends at {frame['value'].iloc[-1]:.5g}" in str(error.value.fix)


@pytest.mark.parametrize(
    ("first", "names"), [("step", "abcd"), ("tokens", ["125M", "350M", "1.3B"])]
)
def test_a_wide_table_of_curves_is_no_table_of_runs(
    tmp_path: Path, first: str, names: list[str]
) -> None:
    frame = pd.DataFrame(
        {name: 4 - 0.1 * place - np.arange(5) / 10 for place, name in enumerate(names)}
    )
    frame.insert(0, first, 1000 * np.arange(1, 6))
    frame.to_csv(tmp_path / "curves.csv", index=False)
    with pytest.raises(
        InputError, match=rf"a row a step and a column a run \({names[0]}, {names[1]}"
    ) as error:
        read_table(tmp_path / "curves.csv")
    assert f"{names[0]} ends at 3.6" in str(error.value.fix)


@pytest.mark.parametrize(
    "columns",
    [
        {"steps": [1000, 2000, 4000], "tokens": [1e8, 2e8, 4e8], "loss": [4.5, 4.2, 3.9]},
        {
            "run": ["a", "b", "c"],
            "step": [100, 200, 300],
            "tokens": [1e8, 2e8, 4e8],
            "loss": [4.5, 4.2, 3.9],
        },
        {"params": [1e6, 1e7, 1e8], "step": [100, 200, 300], "loss": [4.5, 4.2, 3.9]},
        {"seed": [0, 1, 2], "tokens": [1e8, 2e8, 4e8], "step": [1, 2, 3], "loss": [4.5, 4.2, 3.9]},
        {"tokens": [1e8, 2e8, 4e8], "loss": [4.5, 4.2, 3.9], "val_loss_stderr": [0.3, 0.2, 0.1]},
    ],
)
def test_a_table_of_runs_is_not_taken_for_a_log(columns: dict[str, list[Any]]) -> None:
    assert len(read_table(pd.DataFrame(columns)).frame) == 3


def test_logs_named_by_a_pattern_become_a_table_of_runs(tmp_path: Path) -> None:
    for number, (params, tokens) in enumerate(
        [(1e7, 1e9), (3e7, 1e9), (1e7, 3e9), (3e7, 3e9), (1e8, 1e10)]
    ):
        trainer_state(tmp_path / "logs" / f"r{number}", params, tokens)
    trainer_state(tmp_path / "logs" / "stopped", 1e8, 3e9, until=10)
    earlier = trainer_state(tmp_path / "logs" / "r4-checkpoint", 1e8, 1e10, until=15)
    one = tmp_path / "logs" / "r0" / "trainer_state.json"
    pattern = str(tmp_path / "logs" / "*" / "trainer_state.json")
    with pytest.raises(
        InputError, match=r"is the log of one run \(24 logged steps, step 50 to 1000\)"
    ) as error:
        read_table(one)
    assert f"llmscale fit {pattern!r}" in str(error.value.fix)
    with pytest.raises(InputError, match=r"without runs\.parquet") as error:
        read_table(tmp_path / "logs")
    assert str(error.value.fix) == f"llmscale fit {pattern!r}"

    table = read_table(pattern)
    assert table.frame["run_id"].tolist() == ["r0", "r1", "r2", "r3", "r4"]
    assert table.frame["params"].to_numpy() == pytest.approx([1e7, 3e7, 1e7, 3e7, 1e8])
    assert table.frame["tokens"].tolist() == [1e9, 1e9, 3e9, 3e9, 1e10]
    assert table.frame["loss"].to_numpy() == pytest.approx(
        loss(table.frame["params"], table.frame["tokens"])
    )
    assert [(run.run_id, run.reason) for run in table.excluded] == [
        ("stopped", "stopped at step 500 of 1000")
    ]
    said = {note.code: str(note) for note in table.notes}
    assert str(earlier) in said["earlier-states"]
    assert "total_flos/(6 tokens)" in said["params-from-flops"]
    assert "loss is the last eval_loss" in said["table-of-logs"]


def test_logs_that_do_not_say_a_size_are_refused_with_what_they_end_with(tmp_path: Path) -> None:
    for number in range(2):
        trainer_state(tmp_path / f"r{number}", 10.0 ** (7 + number), 1e9, counted=False)
    with pytest.raises(
        InputError, match=r"the 2 logs of .* do not all say their params and tokens"
    ) as error:
        read_table(str(tmp_path / "*" / "trainer_state.json"))
    assert f"r0: loss {loss(1e7, 1e9):.6g}; r1: loss {loss(1e8, 1e9):.6g}" in str(error.value.fix)
    (tmp_path / "runs.csv").write_text("params,tokens,loss\n1,2,3\n2,3,4\n")
    (tmp_path / "more.csv").write_text("params,tokens,loss\n1,2,3\n2,3,4\n")
    with pytest.raises(InputError, match="is not the log of one run"):
        read_table(str(tmp_path / "*.csv"))
    assert len(read_table(str(tmp_path / "r*.csv")).frame) == 2


def test_of_steps_that_a_resumed_run_logged_twice_the_later_count(tmp_path: Path) -> None:
    for name, params in (("a", 1e6), ("b", 1e7)):
        rows = [
            *((step, 5.0) for step in range(1, 8)),
            *((step, 4.0 - params / 1e8) for step in range(5, 9)),
        ]
        lines = [f"{step},{params},{1000 * step},{value}" for step, value in rows]
        (tmp_path / f"{name}.csv").write_text("\n".join(["step,params,tokens,val_loss", *lines]))
    with pytest.raises(
        InputError, match=r"8 logged steps, 3 of them twice, as after it was resumed"
    ):
        read_table(tmp_path / "a.csv")
    table = read_table(str(tmp_path / "*.csv"))
    assert table.frame[["tokens", "loss"]].to_numpy().tolist() == [[8000, 3.99], [8000, 3.9]]
    assert "the later values were taken" in " ".join(
        str(note) for note in table.notes if note.code == "resumed"
    )

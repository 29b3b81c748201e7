"""Which column becomes what: names and units in names, losses, statuses, weights, and the line that
says so.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sweeps import changed
from typer.testing import CliRunner

import llmscale
from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.table import RunTable, read_table

PARAMS = np.repeat([2e7, 5e7, 1.2e8, 3e8], 3)
TOKENS = PARAMS * np.tile([5.0, 20.0, 80.0], 4)
LOSS = 1.8 + 420 / PARAMS**0.34 + 1800 / TOKENS**0.36
RUNS = pd.DataFrame({"params": PARAMS, "tokens": TOKENS, "loss": LOSS})


def codes(table: RunTable) -> list[str]:
    return [note.code for note in table.notes]


def invoke(folder: Path, frame: pd.DataFrame, *options: str) -> Any:
    path = folder / "runs.csv"
    frame.to_csv(path, index=False)
    usual = ["fit", str(path), "--bootstrap", "0", "--holdout", "none"]
    return CliRunner().invoke(app, changed(usual, list(options)))


# Names


@pytest.mark.parametrize(
    ("quantity", "name"),
    [
        ("params", "num_params"), ("params", "parameters"), ("params", "model_size"),
        ("params", "Param Count"), ("params", "Parameter"), ("tokens", "Token"),
        ("params", "config/n_params"), ("params", "nParams"), ("params", "non_embedding_params"),
        ("params", "N_no_emb"),
        ("tokens", "train_tokens"), ("tokens", "num_tokens"), ("tokens", "tokens_seen"),
        ("tokens", "training_tokens"),
        ("tokens", "throughput/total_tokens"), ("tokens", "Tokens Seen"),
        ("loss", "final_loss"), ("loss", "ce_loss"), ("loss", "CrossEntropy"), ("loss", "lm_loss"),
        ("loss", "val/loss"),
        ("loss", "eval/paloma/macro_loss"), ("loss", "Validation Loss"), ("loss", "held_out_loss"),
    ],
)  # fmt: skip
def test_a_quantity_is_found_under_the_names_that_people_use(quantity: str, name: str) -> None:
    table = read_table(RUNS.rename(columns={quantity: name}))
    assert table.frame[quantity].tolist() == RUNS[quantity].tolist()
    assert (table.columns[quantity], codes(table)) == (name, [])


@pytest.mark.parametrize("name", ["compute", "train_flops", "total_flops", "Training FLOPs", "C"])
def test_flops_are_found_under_the_names_that_people_use(name: str) -> None:
    table = read_table(RUNS.assign(**{name: 7 * PARAMS * TOKENS}))
    assert table.frame["flops"].tolist() == (7 * PARAMS * TOKENS).tolist()


def test_a_speed_is_no_budget() -> None:
    table = read_table(RUNS.assign(tflops=150.0, flops_per_second=1e14))
    assert table.frame["flops"].tolist() == pytest.approx(6 * PARAMS * TOKENS)


@pytest.mark.parametrize(
    ("quantity", "name", "factor"),
    [
        ("params", "params_M", 1e6), ("params", "Params (M)", 1e6), ("params", "N [millions]", 1e6),
        ("params", "model_size_B", 1e9), ("params", "million_params", 1e6),
        ("params", "params [10^6]", 1e6),
        ("tokens", "tokens (B)", 1e9), ("tokens", "tokens_billions", 1e9), ("tokens", "Tokens (B, "
                                                                                      "unique)",
                                                                                      1e9),
        ("tokens", "Tokens (Mrd)", 1e9), ("tokens", "tokens_Mrd.", 1e9),
        ("params", "Params [Mio.]", 1e6), ("tokens", "tokens (milliards)", 1e9),
        ("tokens", "train_tokens_1e9", 1e9), ("flops", "flops_1e18", 1e18),
        ("flops", "total_gflops", 1e9),
        ("flops", "train_exaflops", 1e18), ("flops", "compute (PF-days)", 8.64e19),
    ],
)  # fmt: skip
def test_a_name_that_carries_a_unit_is_read_in_it(quantity: str, name: str, factor: float) -> None:
    full = RUNS.assign(flops=6 * PARAMS * TOKENS)
    table = read_table(full.assign(**{name: full[quantity] / factor}).drop(columns=quantity))
    assert table.frame[quantity].to_numpy() == pytest.approx(full[quantity].to_numpy(), rel=1e-12)
    assert f"= {name} (in " in table.reading
    assert codes(table) == []


def test_logarithms_and_bits_by_name_are_undone() -> None:
    logs = pd.DataFrame(
        {"log10_params": np.log10(PARAMS), "ln_D": np.log(TOKENS), "loss_bits": LOSS / np.log(2)}
    )
    table = read_table(logs)
    assert table.frame[["params", "tokens", "loss"]].to_numpy() == pytest.approx(
        RUNS.to_numpy(), rel=1e-9
    )


def test_values_with_a_suffix_need_no_unit_from_the_name() -> None:
    table = read_table(
        RUNS.assign(params_M=[f"{n / 1e6:g}M" for n in PARAMS]).drop(columns="params")
    )
    assert table.frame["params"].tolist() == PARAMS.tolist()


def test_spellings_of_one_name_that_differ_are_not_guessed_between() -> None:
    with pytest.raises(InputError, match="columns loss, Loss, and any may be loss"):
        read_table(RUNS.assign(Loss=LOSS + 0.1))
    with pytest.raises(InputError, match="any may be tokens"):
        read_table(RUNS.assign(train_tokens=TOKENS, tokens_seen=TOKENS / 2).drop(columns="tokens"))


def test_of_two_counts_of_parameters_one_is_asked_for() -> None:
    counts = RUNS.rename(columns={"params": "params_total"}).assign(params_active=PARAMS / 4)
    with pytest.raises(
        InputError, match="params_total, params_active, and any may be params"
    ) as error:
        read_table(counts)
    assert "--columns params=params_active (C = 6ND follows the active parameters" in str(
        error.value.fix
    )
    assert read_table(RUNS.rename(columns={"params": "N_no_emb"})).count == "params_non_embedding"


def test_a_table_without_parameters_says_which_numbers_are_not_used() -> None:
    (note,) = read_table(RUNS.rename(columns={"params": "Gewichte"}).assign(host="a")).notes
    assert note.code == "params-unknown"
    assert "not used: Gewichte; if one counts them: --columns params=Gewichte)" in note.message


# Losses


@pytest.mark.parametrize(
    "name",
    ["val_loss", "eval_loss", "valid/loss", "test_loss", "eval/loss", "val", "Eval", "valid",
     "Validation (nats)", "dev", "summary.val"],
)  # fmt: skip
def test_validation_goes_before_training_and_the_choice_is_said(name: str) -> None:
    for training in ("loss", "train_loss", "train/loss"):
        table = read_table(RUNS.rename(columns={"loss": training}).assign(**{name: LOSS + 0.1}))
        assert table.frame["loss"].tolist() == (LOSS + 0.1).tolist()
        assert f"loss = {name}" in table.reading
        (note,) = table.notes
        assert note.code == "validation-loss"
        assert f"--columns loss={training}" in note.message


@pytest.mark.parametrize(
    "values", [0.1, LOSS / 10, 6 - LOSS, ["c4", "pile"] * 6, [True, False] * 6, np.exp(LOSS) * 5]
)
def test_a_column_val_that_cannot_be_a_loss_is_left_where_it_is(values: object) -> None:
    table = read_table(RUNS.assign(val=values))
    assert (table.columns["loss"], codes(table)) == ("loss", [])


@pytest.mark.parametrize("name", ["eval_ppl", "val_perplexity", "val/ppl", "Test Perplexity"])
@pytest.mark.parametrize("other", ["loss", "train_loss"])
def test_validation_in_perplexity_goes_before_a_loss_that_differs(name: str, other: str) -> None:
    runs = RUNS.rename(columns={"loss": other})
    table = read_table(runs.assign(**{name: np.exp(LOSS + 0.1)}))
    assert table.frame["loss"].to_numpy() == pytest.approx(LOSS + 0.1)
    assert f"loss = {name} (in perplexity, converted to nats)" in table.reading
    assert codes(table) == ["validation-loss"]
    same = read_table(RUNS.round(3).assign(**{name: np.exp(LOSS).round(2)}))
    assert (same.columns["loss"], codes(same)) == ("loss", [])
    told = read_table(runs.assign(**{name: np.exp(LOSS + 0.1)}), units={"loss": "nats"})
    assert told.columns["loss"] == other


def test_validation_in_bits_per_byte_is_asked_about_next_to_a_loss_that_differs() -> None:
    with pytest.raises(InputError, match="loss, val_bpb, and any may be loss") as error:
        read_table(RUNS.assign(val_bpb=(LOSS + np.linspace(0, 1, len(LOSS))) / 3))
    assert "--columns loss=val_bpb" in str(error.value.fix)
    assert read_table(RUNS.assign(val_bpb=LOSS / 3)).columns["loss"] == "loss"
    one_text = read_table(RUNS.assign(eval_wikitext_ppl=np.exp(LOSS + 1)))
    assert "; eval_wikitext_ppl (of validation by its name: not used)" in one_text.reading


def test_two_validation_losses_that_differ_are_asked_between() -> None:
    both = RUNS.assign(val_loss=LOSS + 0.1, test_loss=LOSS + 0.2)
    with pytest.raises(InputError, match="test_loss, val_loss, and any may be loss"):
        read_table(both)
    assert (
        read_table(both, columns={"loss": "val_loss"}).frame["loss"].tolist()
        == (LOSS + 0.1).tolist()
    )
    assert read_table(both.assign(loss=both["val_loss"])).columns["loss"] == "loss"


def test_a_training_loss_is_taken_with_a_word() -> None:
    assert codes(read_table(RUNS.rename(columns={"loss": "train/loss"}))) == ["training-loss"]
    told = read_table(RUNS.assign(train_loss=LOSS - 0.1), columns={"loss": "train_loss"})
    assert codes(told) == ["training-loss"]


# Statuses


@pytest.mark.parametrize(
    ("column", "done", "other"),
    [
        ("State", "COMPLETED", "TIMEOUT"), ("State", "COMPLETED", "CANCELLED by 1000"),
        ("State", "COMPLETED", "OUT_OF_ME+"),
        ("state", "CD", "TO"), ("ST", "CD", "F"), ("result", "CD", "PR"), ("State", "CD", "CA"),
        ("done", "T", "F"),
        ("JobState", "COMPLETED", "NODE_FAIL"), ("status", "TERMINATED", "PAUSED"),
        ("status", "TERMINATED", "ERROR"),
        ("state", "COMPLETE", "PRUNED"), ("state", "TrialState.COMPLETE", "TrialState.FAIL"),
        ("State", "finished", "crashed"), ("status", "FINISHED", "KILLED"),
        ("status", "FINISHED", "SCHEDULED"),
        ("status", "success", "failed"), ("trial_status", "ok", "early stopped"),
        ("done", True, False),
        ("pruned", False, True), ("exit_code", "0:0", "1:0"), ("ExitCode", 0, 137),
        ("run_status", "Succeeded", "queued"), ("outcome", "ok", "failed"),
        ("result", "pass", "OOM"),
        ("crashed", None, "x"), ("nan_loss", False, True), ("completion", 100, 40),
        ("% done", "100%", "40%"),
        ("progress", 1.0, 0.5), ("status", "done", "failed\x1b[2J"),
    ],
)  # fmt: skip
def test_the_words_of_trackers_and_schedulers_are_known(
    column: str, done: object, other: object
) -> None:
    words = pd.Series([done, other] * 6, dtype=object)
    table = read_table(RUNS.assign(**{column: words}))
    assert table.frame["params"].tolist() == PARAMS[::2].tolist()
    assert [run.run_id for run in table.excluded] == [f"row {number}" for number in range(2, 13, 2)]
    assert str(other) in table.excluded[0].reason
    assert f"status = {column}" in table.reading
    assert "left out: 6 " in table.reading


def test_a_trial_is_done_if_every_column_says_so() -> None:
    table = read_table(RUNS.assign(status="TERMINATED", done=[True, True, False] * 4))
    assert (len(table.frame), table.columns["status"]) == (8, "status, done")


def test_words_of_no_known_kind_are_left_out_and_listed_with_the_option() -> None:
    table = read_table(RUNS.assign(status=["done", "fine"] * 6))
    (note,) = table.notes
    assert (note.code, len(table.frame)) == ("status-unknown", 6)
    assert note.message.endswith("--status done=fine")
    for column in ("status", "State", "ST", "final_state"):
        with pytest.raises(InputError, match="its words are fine, good") as error:
            read_table(RUNS.assign(**{column: ["fine", "good"] * 6}))
        assert "--status done=fine" in str(error.value.fix)
    assert read_table(RUNS.assign(state=["CA", "NY"] * 6)).excluded == ()


@pytest.mark.parametrize(
    "word", ["Completed \u2713", "OK (resumed)", "x; touch pwned", "a, b", 'say "hi"', "it's"]
)
def test_the_option_that_is_printed_for_a_word_reads_it(word: str) -> None:
    frame = RUNS.assign(status=word)
    with pytest.raises(InputError) as error:
        read_table(frame)
    option, value = shlex.split(str(error.value.fix).split("count as done: ")[1])
    assert (option, len(read_table(frame, status=value).frame)) == ("--status", 12)


def test_what_may_say_that_runs_differ_is_noted_and_what_says_nothing_is_not() -> None:
    place = ["California", "Texas"] * 6
    for silent in (
        {"state": place},
        {"state": place, "status": "done"},
        {"state": "home"},
        {"result": ["a", "b"] * 6},
    ):
        assert codes(read_table(RUNS.assign(**silent))) == []
    for code, columns in (
        ("status-unknown", {"terminated": [True, False] * 6}),
        ("status-unknown", {"outcome": ["ok", "mu"] * 6}),
        ("status-unknown", {"result": ["fertig", "abgebrochen"] * 6}),
        ("runs-cut-short", {"target_tokens": TOKENS * np.tile([1, 3], 6)}),
        ("passes-over-data", {"epochs": 4}),
        ("mixed-splits", {"split": ["train", "val"] * 6}),
    ):  # fmt: skip
        assert codes(read_table(RUNS.assign(**columns))) == [code]
    assert (
        codes(read_table(RUNS.assign(split=["train", "test"] * 6, target_tokens=TOKENS, epochs=1)))
        == []
    )


def test_status_says_which_words_count_as_done(tmp_path: Path) -> None:
    frame = RUNS.assign(State=["finished", "crashed", "killed"] * 4)
    assert len(read_table(frame, status="done=finished,crashed").frame) == 8
    assert len(read_table(frame, status=["Killed"]).frame) == 4
    result = invoke(
        tmp_path, frame, "--status", "done=finished,crashed", "--law", "power", "--json"
    )
    assert (result.exit_code, json.loads(result.stdout)["n_runs"]) == (0, 8)
    words = "its words are 'finished', 'crashed', 'killed'; written like --status done=finished,"
    for status, sentence in (
        ("done=fine", "has the word 'fine'"),
        ("done=FINE, x", words),
        ("done=", "names no word"),
        ("left=fine", "which words count as done"),
    ):
        result = invoke(tmp_path, frame, "--status", status)
        assert result.exit_code == 2
        assert sentence in " ".join(result.stderr.split())
    with pytest.raises(InputError, match="no column of statuses"):
        read_table(RUNS, status="done=finished")


@pytest.mark.parametrize("column", ["state", "status", "trial_state"])
def test_statuses_that_are_numbers_are_asked_about(column: str) -> None:
    frame = RUNS.assign(**{column: [1, 1, 2] * 4})
    (note,) = read_table(frame).notes
    assert note.code == "status-unknown"
    option, value = shlex.split(note.message.split("as Optuna's does, ")[1])
    table = read_table(frame, status=value)
    assert (option, len(table.frame), codes(table)) == ("--status", 8, [])
    assert table.reading.endswith(f"status = {column}; C = 6ND computed; left out: 4 {column} is 2")
    with pytest.raises(InputError, match="has the word '3'"):
        read_table(frame, status="done=3")
    assert codes(read_table(frame.assign(**{column: 1}))) == []


@pytest.mark.parametrize("column", ["status", "state", "done", "failed", "exit_code"])
def test_numbers_say_of_a_run_what_their_texts_say(column: str) -> None:
    numbers = np.arange(12) % 4 // 3
    read = [read_table(RUNS.assign(**{column: one})) for one in (numbers, numbers.astype(str))]
    assert read[0].frame["run_id"].tolist() == read[1].frame["run_id"].tolist()
    assert read[0].notes == read[1].notes
    assert codes(read[0]) == (["status-unknown"] if column.startswith("sta") else [])


def test_a_column_that_is_not_there_is_refused_with_those_of_the_file(tmp_path: Path) -> None:
    names = {"params": "model_size", "loss": "val_loss"}
    frame = RUNS.rename(columns=names)[["model_size", "tokens", "val_loss"]]
    for options in (["--by", "x"], ["--where", "x > 3"], ["--best-of", "x"]):
        result = invoke(tmp_path, frame, *options)
        assert result.exit_code == 2
        assert "its columns are model_size, tokens, val_loss" in " ".join(result.stderr.split())
    with pytest.raises(InputError, match=r"its columns are model_size, tokens, val_loss$"):
        llmscale.predict(frame, task="mmlu", flops=1e22)


def test_pruned_trials_of_optuna_are_left_out_by_name() -> None:
    trials = pd.DataFrame({
        "number": range(12), "value": LOSS, "params_lr": 1e-3, "user_attrs_params": PARAMS,
        "user_attrs_tokens": TOKENS, "state": ["COMPLETE", "COMPLETE", "PRUNED"] * 4,
    })  # fmt: skip
    table = read_table(trials)
    assert table.frame[["params", "tokens", "loss"]].equals(
        RUNS[np.arange(12) % 3 < 2].reset_index(drop=True)
    )
    assert {run.reason for run in table.excluded} == {"PRUNED"}


# Weights, and the line


def test_a_weight_weighs_the_runs_only_if_it_is_asked_for(tmp_path: Path) -> None:
    frame = RUNS.assign(
        loss=LOSS * np.tile([1.01, 0.99, 1.0, 1.02], 3), weight=np.tile([0.01, 1.0, 0.3], 4)
    )
    plain = json.loads(
        invoke(tmp_path, frame.drop(columns="weight"), "--law", "power", "--json").stdout
    )
    shares = json.loads(invoke(tmp_path, frame, "--law", "power", "--json").stdout)
    asked = json.loads(
        invoke(tmp_path, frame, "--law", "power", "--json", "--columns", "weight=weight").stdout
    )
    assert shares["coefficients"] == plain["coefficients"] != asked["coefficients"]
    assert ("weight" in shares["columns"], asked["columns"]["weight"]) == (False, "weight")
    assert (
        "weight (not used: --columns weight=weight"
        in invoke(tmp_path, frame, "--law", "power").stdout
    )
    assert (
        ", weight = weight"
        in invoke(tmp_path, frame, "--law", "power", "--columns", "weight=weight").stdout
    )


def test_a_run_of_weight_zero_is_left_out(tmp_path: Path) -> None:
    asked = (
        "--law",
        "power",
        "--bootstrap",
        "0",
        "--holdout",
        "none",
        "--columns",
        "weight=weight",
    )
    frame = RUNS.assign(weight=np.tile([0.0, 1.0, 0.3, 1e-300, 1.0, 0.3], 2))
    some = invoke(tmp_path, frame, *asked, "--json")
    rest = invoke(tmp_path, frame[frame["weight"] > 1e-9], *asked, "--json")
    found, same = json.loads(some.stdout), json.loads(rest.stdout)
    assert found["n_runs"] == same["n_runs"] == 8
    assert {run["reason"] for run in found["excluded"]} == {"weight 0"}
    assert found["coefficients"] == same["coefficients"]
    none = invoke(tmp_path, frame.assign(weight=0), *asked)
    assert none.exit_code == 2
    assert "above zero" in none.stderr
    word = invoke(tmp_path, frame.assign(weight=["x", *[1] * 11]), *asked)
    assert word.exit_code == 2
    assert "must hold numbers" in word.stderr


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_only_the_ratios_of_weights_matter(scale: float) -> None:
    weight = np.tile([0.1, 1.0, 0.3], 4)
    mapped = {"weight": "weight"}
    found = read_table(RUNS.assign(weight=weight * scale), columns=mapped)
    assert found.frame["weight"].to_numpy() == pytest.approx(weight)


def test_a_line_says_which_column_became_what(tmp_path: Path) -> None:
    frame = RUNS.rename(columns={"params": "n_params", "loss": "val_loss"}).assign(
        Name=[f"run {n}" for n in range(12)], State=["finished"] * 11 + ["crashed"]
    )
    said = (
        "read: N = n_params, D = tokens, loss = val_loss, run = Name, status = State; C = 6ND "
        "computed; left out: 1"
    )
    for options in (["--law", "power"], ["--by", "State", "--law", "power"]):
        assert said in " ".join(invoke(tmp_path, frame, *options).stdout.split())
    payload = json.loads(invoke(tmp_path, frame, "--law", "power", "--json").stdout)
    assert payload["columns"] == {
        "params": "n_params",
        "tokens": "tokens",
        "loss": "val_loss",
        "run_id": "Name",
        "status": "State",
    }
    path = str(tmp_path / "runs.csv")
    predicted = CliRunner().invoke(
        app, ["predict", path, "-N", "1B", "--law", "power", "--bootstrap", "0"]
    )
    assert said in " ".join(predicted.stdout.split())


def test_a_law_over_columns_of_its_own_needs_no_size(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n\nfrom llmscale.explain.laws import "
        "Law\n\n\n@dataclass(frozen=True)\nclass Deep(Law):\n    E: float\n    A: float\n    "
        "alpha: float\n    inputs = ('depth',)\n\n    def loss(self, depth):\n        return "
        "self.E + self.A / depth**self.alpha\n"
    )  # fmt: skip
    depth = np.arange(2.0, 14.0)
    frame = pd.DataFrame({"depth": depth, "loss": 2 + 3 / depth**0.5})
    result = invoke(tmp_path, frame, "--law", f"{tmp_path / 'mine.py'}:Deep", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["coefficients"]["alpha"] == pytest.approx(0.5, rel=1e-3)
    result = invoke(tmp_path, frame, "--law", "power")
    assert (result.exit_code, "no column for params" in result.stderr) == (2, True)


def test_a_column_of_runs_has_one_size_a_run() -> None:
    frame = RUNS.assign(which=["a", "b"] * 6)
    with pytest.raises(
        InputError, match="'which' is not of runs: a run has one size, and 'a' has 4"
    ):
        read_table(frame, columns={"run_id": "which"})


@pytest.mark.parametrize("name", ["columns", "units", "holdout"])
def test_an_empty_option_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    result = invoke(tmp_path, RUNS, f"--{name}", "", "--law", "power")
    assert result.exit_code == 2
    assert f"--{name} is empty" in result.stderr


def test_another_column_that_claims_a_quantity_with_other_numbers_is_named() -> None:
    table = pd.DataFrame({"params": [1e7, 3e7, 1e8], "tokens": 1e9, "loss": [4.0, 3.5, 3.0]})
    reading = read_table(table.assign(n_params=2 * table["params"])).reading
    assert "n_params (other numbers, not used: --columns params=n_params takes it)" in reading
    assert "n_params" not in read_table(table.assign(n_params=table["params"])).reading


def test_an_infinite_loss_is_left_out_by_the_fix_that_is_given() -> None:
    table = pd.DataFrame({"params": [1e7, 3e7, 1e8], "tokens": 1e9, "loss": [np.inf, 3.5, 3.0]})
    with pytest.raises(InputError) as refused:
        read_table(table)
    assert "--where 'loss < inf'" in str(refused.value.fix)
    assert len(read_table(table, where="loss < inf").frame) == 2


def test_a_date_as_a_loss_is_not_read_as_its_year() -> None:
    table = pd.DataFrame({"params": [1e7, 3e7], "tokens": 1e9, "loss": ["1970-01-02", "3.0"]})
    with pytest.raises(InputError) as refused:
        read_table(table)
    assert "write 1970" not in str(refused.value.fix)

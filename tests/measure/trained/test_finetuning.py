"""Fine-tuning by the command: from kept weights to a table of runs with their parents."""

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from sweeps import assert_same_results, llmscale, options, wait_for, worker_pids
from torch.nn.functional import cross_entropy
from trained import untrained_run

from llmscale.commands import app
from llmscale.measure.sweep.records import recorded_runs
from llmscale.measure.text.store import TokenStore
from llmscale.measure.text.tasks.spec import TaskSpec
from llmscale.measure.text.tasks.store import prepare_task
from llmscale.measure.train.kept_weights import read_tensors
from llmscale.measure.trained.exchange.card import model_card
from llmscale.measure.trained.finetuning.api import finetune
from llmscale.measure.trained.finetuning.jobs import finetuning_jobs
from llmscale.measure.trained.finetuning.parents import find_parents
from llmscale.measure.trained.finetuning.spec import FinetuneSpec
from llmscale.measure.trained.generation.chat import begin_chat
from llmscale.measure.trained.listing import models
from llmscale.measure.trained.model import open_model
from llmscale.measure.trained.places import find_run
from llmscale.runs.results_folder import ResultsFolder

WORDS = ["one", "two", "three", "four", "five", "six"]


@pytest.fixture(scope="module")
def parents(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sizes that kept their weights in float32."""
    out = tmp_path_factory.mktemp("parents") / "base"
    found = llmscale(*options(text, out, "1x16x1,2x16x1", "10k"), "--keep-dtype", "float32")
    assert found.exit_code == 0, found.output
    return out


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"prompt": f"{WORDS[n % 6]} {n}", "target": f" {WORDS[n % 6]}"} for n in range(100)]
    path = tmp_path_factory.mktemp("task") / "echo.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(parents: Path, task: Path, out: Path, *more: str) -> list[str]:
    given = ["finetune", str(parents), "--data", str(task), "--out", str(out), "--workers", "1"]
    return [*given, "--device", "cpu", "--dtype", "float32", *more]


SWEEP = [
    "--examples",
    "20,40",
    "--epochs",
    "1",
    "--method",
    "full,lora",
    "--rank",
    "2",
    "--from-scratch",
]


@pytest.fixture(scope="module")
def tuned(parents: Path, task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parents x two amounts x full, LoRA and from new weights."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    found = llmscale(*command(parents, task, out, *SWEEP))
    assert found.exit_code == 0, found.output
    return out


def test_the_table_says_what_each_run_began_with(parents: Path, tuned: Path) -> None:
    runs = pd.read_parquet(tuned / "runs.parquet")
    assert len(runs) == 12
    assert set(runs["status"]) == {"done"}
    base = pd.read_parquet(parents / "runs.parquet").set_index("run_id")
    for _, run in runs.iterrows():
        assert run["pretrained"] == int(run["recipe"] != "scratch")
        if run["pretrained"]:
            parent = base.loc[run["parent"]]
            assert parent["params"] == run["params"]
            assert run["pretrain_tokens"] == parent["tokens"]
        else:
            assert pd.isna(run["parent"])
            assert run["pretrain_tokens"] == 0
        assert run["trained_params"] <= run["params_total"]
        assert (run["trained_params"] < run["params_total"]) == (run["recipe"] == "lora")
    amounts = runs.groupby("examples")["task_tokens"].unique()
    assert list(amounts.index) == [20, 40]
    assert amounts[20][0] < amounts[40][0]
    status = llmscale("status", str(tuned), "--json")
    assert json.loads(status.stdout)["finished"]
    listed = json.loads(llmscale("models", str(tuned), "--json").stdout)
    assert {one["kept"] for one in listed["models"]} == {"weights"}


def test_the_model_that_is_suggested_is_the_one_that_a_folder_stands_for(
    parents: Path, task: Path, tuned: Path, tmp_path: Path
) -> None:
    for place in (parents, tuned):
        suggested = models(place).suggested
        assert suggested is not None
        assert suggested.run_id == find_run(place).folder.run_id
    said = models(tuned).next_use() or ""
    verb, path, prompt = shlex.split(said)[1:]
    assert (verb, path) == ("generate", str(find_run(tuned).folder.path))
    assert prompt in {json.loads(line)["prompt"] for line in task.read_text().splitlines()}
    gone = tmp_path / "gone"
    shutil.copytree(tuned, gone)
    sweep = json.loads((gone / "sweep.json").read_text())
    sweep["data"]["meta"]["spec"]["source"] = "nowhere.jsonl"
    (gone / "sweep.json").write_text(json.dumps(sweep))
    assert models(gone).next_use() == f"llmscale eval {find_run(gone).folder.path}"


def test_the_card_says_what_was_fine_tuned_from_what(tuned: Path, task: Path) -> None:
    for row in recorded_runs(ResultsFolder(tuned)):
        card = model_card(open_model(tuned / row.run_id), "mine")
        amount = f"the task {task} ({row.examples} examples, {row.task_tokens:,} tokens)"
        how = {"full": "full: all weights", "lora": "LoRA: adapters of rank 2, merged"}
        parent = f"run {row.parent}, itself trained on {row.pretrain_tokens:,} tokens,"
        said = f"trained from its first weights on {amount}"
        if row.pretrained:
            said = f"fine-tuned ({how[str(row.recipe)]}) from {parent} on {amount}"
        assert said in card
        assert ("first weights" in card) == (not row.pretrained)


def test_only_what_is_new_or_lost_is_trained_and_comes_back_the_same(
    parents: Path, task: Path, tuned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(tuned, out)
    before = pd.read_parquet(out / "runs.parquet").set_index("run_id")
    lost = before.index[before["recipe"] == "lora"][0]
    shutil.rmtree(out / "runs" / lost)
    (out / "runs.parquet").unlink()
    written = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/run.json")}
    more = [word.replace("20,40", "10,20,40") for word in SWEEP]
    found = llmscale(*command(parents, task, out, *more))
    assert found.exit_code == 0, found.output
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    after = pd.read_parquet(out / "runs.parquet").set_index("run_id")
    assert after.loc[lost, "loss"] == before.loc[lost, "loss"]
    assert len(after) == len(before) + 6


def test_without_a_step_worth_its_name_it_has_its_parent_s_loss(
    parents: Path, task: Path, tmp_path: Path
) -> None:
    settings = {"epochs": 1.0, "lr": 1e-12, "keep_dtype": "float32", "executor": "local"}
    result = finetune(
        parents,
        data=str(task),
        out=tmp_path / "out",
        progress=False,
        device="cpu",
        dtype="float32",
        workers=1,
        method="full,lora",
        rank=2,
        **settings,  # type: ignore[arg-type]
    )
    for run in result.runs:
        trained = open_model(tmp_path / "out" / "runs" / run.run_id)
        parent = open_model(parents / "runs" / str(run.parent))
        signed = torch.from_numpy(TokenStore.open(trained.spec.store).validation().astype(int))
        tokens = torch.where(signed < 0, ~signed, signed)
        logits = parent.model(tokens[:, :-1])
        targets = torch.where(signed < 0, -100, signed)[:, 1:]
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        assert run.loss == pytest.approx(float(loss), abs=1e-5)


def test_ids_change_with_the_weights_of_the_parent(
    parents: Path, task: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    changed = tmp_path / "base"
    shutil.copytree(parents, changed)
    for path in changed.glob("runs/*/weights.safetensors"):
        weights, noted = read_tensors(path)
        weights["head.weight"] = weights["head.weight"] + 0.5
        del noted["sha256"]
        save_file(weights, path, noted)

    def ids(base: Path) -> list[str]:
        spec = FinetuneSpec(runs=(str(base),), data=TaskSpec(source=str(task)))
        found = find_parents(spec.runs)
        store = prepare_task(spec.data, found.tokenizer, found.end_of_text, found.context)
        return [job.run_id for job in finetuning_jobs(spec, found.models, store, "float32")]

    assert ids(parents) == ids(parents)
    assert not set(ids(parents)) & set(ids(changed))


def test_a_model_that_learns_conversations_is_talked_with_in_a_terminal(
    text: Path,
    tuned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each number is answered by the next one, however long it goes on."""
    words = [*WORDS, "seven", "eight", "nine", "zero"]
    follows = dict(zip(words, [*words[1:], words[0]], strict=True))
    rows = []
    for asked in itertools.product(words, repeat=2):
        turns = [
            ({"role": "user", "content": one}, {"role": "assistant", "content": follows[one]})
            for one in asked
        ]
        rows.append({"messages": [*turns[0], *turns[1]]})
    chats = tmp_path / "chat.jsonl"
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = untrained_run(text, tmp_path / "base", context=64)
    more = ["--epochs", "20", "--lr", "0.01", "--batch-examples", "8"]
    found = llmscale(*command(base, chats, tmp_path / "out", *more))
    assert found.exit_code == 0, found.output

    suggested = models(tmp_path / "out").next_use()
    assert suggested == f"llmscale chat {find_run(tmp_path / 'out').folder.path}"
    typed: Iterator[str | BaseException] = iter(
        [words[0], " ", KeyboardInterrupt(), *words[1:], EOFError()]
    )

    def answer_of(prompt: str) -> str:
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", answer_of)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    app(["chat", str(tmp_path / "out"), "--temperature", "0"], standalone_mode=False)
    shown = capsys.readouterr()
    answers = [line.split()[-1] for line in shown.out.splitlines() if "assistant: " in line]
    assert answers == [follows[word] for word in words]
    assert shown.err.count("has outgrown the model's context of 64 tokens") == 1
    assert "not fine-tuned on conversations" not in shown.err
    for other in (base, tuned):
        assert "not fine-tuned on conversations" in begin_chat(other).remarks[-1]


OWN_TASK = """
from llmscale.measure.text.tasks.generators import Generator
class Echo(Generator):
    def draw(self, random):
        number = int(random.integers(1000))
        return {"prompt": f"{number} =", "target": f" {number}"}
    def solve(self, given):
        return given["prompt"].split()[0]
"""


def test_a_file_describes_it_and_a_task_of_one_s_own(parents: Path, tmp_path: Path) -> None:
    file = tmp_path / "echo.toml"
    file.write_text(
        f'runs = ["{parents}"]\nexamples = [20]\nmethod = ["lora"]\n'
        '[data]\nsource = "mine.py:Echo,examples=40"\n'
        '[recipe]\nrank = 2\n[hardware]\ndevice = "cpu"\n'
    )
    (tmp_path / "mine.py").write_text(OWN_TASK)
    found = llmscale("finetune", str(file), "--dry-run", "--out", str(tmp_path / "out"))
    assert "Plan: 2 runs into" in found.output
    assert "What LoRA trains" in found.output
    assert "attention.qkv" in found.output


BAD: dict[str, list[str]] = {
    "no task was named": ["--data", ""],
    "there is no file": ["--data", "./nothing.py:Mine"],
    "asks for 5,000": ["--examples", "5000"],
    "--rank is 64": ["--method", "lora", "--rank", "64"],
    "there is no matrix 'mlpp'": ["--method", "lora", "--matrices", "mlpp"],
    "there is no method": ["--method", "half"],
    "has no column 'answer'": ["--target-column", "answer"],
    "are longer than": ["--data", "long"],
}


@pytest.mark.parametrize("problem", BAD)
def test_wrong_input_is_one_sentence_and_writes_nothing(
    problem: str, parents: Path, task: Path, tmp_path: Path
) -> None:
    more = list(BAD[problem])
    if more[1] == "long":
        rows = [{"prompt": "one " * 100 + str(n), "target": "two"} for n in range(20)]
        path = tmp_path / "long.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        more[1] = str(path)
    given = command(parents, task, tmp_path / "out", *more)
    if more[0] == "--data":
        place = given.index("--data")
        del given[place : place + 2]
    found = llmscale(*given)
    assert found.exit_code == 2, found.output
    assert problem in found.output
    assert "Traceback" not in found.output
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(parents: Path, task: Path) -> None:
    before = sorted(parents.rglob("*"))
    found = llmscale(*command(parents, task, parents))
    assert found.exit_code == 2
    assert "holds a sweep" in found.output
    assert sorted(parents.rglob("*")) == before


def test_models_that_read_text_differently_are_refused(
    parents: Path, task: Path, text: Path, tmp_path: Path
) -> None:
    other: Any = [*options(text, tmp_path / "other", "1x16x1", "10k"), "--seeds", "1"]
    other[other.index("--tokenizer") + 1] = "bpe:280"
    assert llmscale(*other).exit_code == 0
    given = command(parents, task, tmp_path / "out")
    found = llmscale(given[0], str(tmp_path / "other"), *given[1:])
    assert found.exit_code == 2
    assert "have different tokenizers" in found.output


@pytest.mark.slow
def test_killed_with_its_workers_it_goes_on_from_its_checkpoints(
    parents: Path, task: Path, tmp_path: Path
) -> None:
    long = ["--examples", "80", "--epochs", "200", "--checkpoint-seconds", "0.2"]
    both = [*long, "--method", "full,lora", "--rank", "2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert llmscale(*command(parents, task, whole, *both)).exit_code == 0
    words = [sys.executable, "-m", "llmscale", *command(parents, task, killed, *both)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: list(killed.glob("runs/*/checkpoint.pt")), 120)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for pid in worker_pids(killed):
        os.kill(pid, signal.SIGKILL)
    assert len(list(killed.glob("runs/*/run.json"))) < 4
    found = llmscale(*command(parents, task, killed, *both))
    assert found.exit_code == 0, found.output
    assert_same_results(whole, killed)

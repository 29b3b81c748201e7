"""Examples of a task: made ones, those of files, what of them counts, and how they are split."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from llmscale.errors import InputError
from llmscale.measure.text.inspection import inspect_text
from llmscale.measure.text.spec import TextSpec
from llmscale.measure.text.store import TokenStore
from llmscale.measure.text.tasks.generators import GENERATORS, given_of, made, target_of
from llmscale.measure.text.tasks.rows import open_task
from llmscale.measure.text.tasks.spec import TaskSpec
from llmscale.measure.text.tasks.store import prepare_task
from llmscale.measure.text.tokenizer import end_of_text, train_bpe

WORDS = ["red", "green", "blue", "old", "new", "tall"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe([" ".join(WORDS) + " user: assistant:"] * 20, 300)


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{number} ?", "target": f" {WORDS[number % 6]}"} for number in range(count)]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prepared(source: str, tokenizer: Tokenizer, context: int = 64, **settings: Any) -> TokenStore:
    end = end_of_text(tokenizer, "test")[1]
    return prepare_task(TaskSpec(source=source, **settings), tokenizer, end, context)


def shown(tokenizer: Tokenizer, row: np.ndarray) -> str:
    """A row as text, what counts in brackets, without its padding."""
    last = len(row) - int(np.argmax(row[::-1] >= 0))
    said, is_in = "", False
    for number in row[:last]:
        if (number >= 0) != is_in:
            said += "[" if number >= 0 else "]"
            is_in = not is_in
        token = int(number if number >= 0 else ~number)
        text = tokenizer.decode([token], skip_special_tokens=False)
        said += text.replace("<|endoftext|>", "$")
    return said + "]" * is_in


@pytest.mark.parametrize("name", [*GENERATORS])
def test_made_tasks_are_solved_by_their_solution_and_are_split_for_good(name: str) -> None:
    task = made(f"task:{name},examples=300,seed=1")
    rows = [row for _, row in task.rows()]
    assert [row for _, row in task.rows()] == rows
    assert [row for _, row in made(f"task:{name},examples=300,seed=2").rows()] != rows
    solved = [task.generator.solve(given_of(row)) for row in rows]
    assert solved == [target_of(row).strip() for row in rows]
    known = {json.dumps(given_of(row)) for row in rows}
    assert len(known) == len(rows)
    for seed in (1, 2):
        tests = made(f"task:{name},examples=100,seed={seed},split=test").rows()
        assert not known & {json.dumps(given_of(row)) for _, row in tests}


@pytest.mark.parametrize(
    "source", ["task:nothing", "task:dialogue,examples=0", "task:dialogue,split=dev", "task:"]
)
def test_a_made_task_that_is_not_there_is_one_sentence(source: str) -> None:
    with pytest.raises(InputError) as error:
        list(open_task(TaskSpec(source=source)).examples())
    assert "\n" not in error.value.problem


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "json"])
def test_of_a_pair_the_target_and_its_end_count(
    suffix: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    store = prepared(write(tmp_path / f"t.{suffix}", pairs(40)), tokenizer)
    rows = store.train()
    assert rows.shape == (36, store.length + 1)  # type: ignore[operator]
    found = {shown(tokenizer, row) for row in [*rows, *store.validation()]}
    assert found == {f"{number} ?[ {WORDS[number % 6]}$]" for number in range(40)}
    assert store.learnt == sum((row[1:] >= 0).sum() for row in store.validation())
    with pytest.raises(InputError, match="the examples of a task"):
        inspect_text(TextSpec(source=str(store.path)))


def test_of_a_chat_the_assistant_s_turns_count(tokenizer: Tokenizer, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": "new"},
        {"from": "human", "value": "red"},
        {"from": "gpt", "value": "blue"},
    ]
    rows = [{"messages": [{"role": "system", "content": str(n)}, *turns]} for n in range(12)]
    store = prepared(write(tmp_path / "t.jsonl", rows), tokenizer)
    said = "user: old\nassistant:[ new$]user: red\nassistant:[ blue$]"
    assert shown(tokenizer, store.train()[0]).partition("\n")[2] == said


def test_of_a_text_all_counts_and_a_long_one_goes_on(tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = [" ".join(WORDS[(place * number) % 6] for place in range(30)) for number in range(1, 7)]
    texts = [f"{number}: {text}" for number, text in enumerate(texts * 2)]
    path = write(tmp_path / "t.jsonl", [{"text": text} for text in texts])
    store = prepared(path, tokenizer, context=8)
    rows = [*store.train(), *store.validation()]
    tokens = sum(len(tokenizer.encode(text).ids) + 1 for text in texts)
    assert sum((row >= 0).sum() for row in rows) == tokens
    assert "go on in the next sequence" in " ".join(store.remarks)


@pytest.mark.parametrize(("too_long", "left"), [("leave-out", 20), ("cut", 30)])
def test_what_is_longer_than_the_context_is_counted_and_said(
    too_long: str, left: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    rows = pairs(20)
    rows += [{"prompt": f"{n} " + "red " * 60, "target": " tall"} for n in range(10)]
    store = prepared(write(tmp_path / "t.jsonl", rows), tokenizer, 16, too_long=too_long)
    assert len(store.train()) + len(store.validation()) == left
    (said,) = store.remarks
    assert said.startswith("10 of 30 examples are longer than the 16 tokens")
    every = [shown(tokenizer, row) for row in [*store.train(), *store.validation()]]
    assert sum(one.endswith("[ tall$]") for one in every) == left - 20 + 3


def test_equal_prompts_are_on_one_side_and_repeats_are_left_out(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    rows = [{"prompt": f"{n % 20} ?", "target": f" {WORDS[n // 20]}"} for n in range(60)]
    store = prepared(write(tmp_path / "t.jsonl", [*rows, *rows[:5]]), tokenizer)
    sides = [
        {shown(tokenizer, row).partition("?")[0] for row in part}
        for part in (store.train(), store.validation())
    ]
    assert len(sides[0] | sides[1]) == 20
    assert not sides[0] & sides[1]
    assert store.remarks == ("5 of 65 examples are the same as another, and left out",)


def test_columns_with_other_names_are_taken_and_said(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"question": f"{n}", "answer": {"text": WORDS[n % 6]}} for n in range(12)]
    path = write(tmp_path / "t.jsonl", rows)
    store = prepared(path, tokenizer, target_column="answer.text")
    assert "prompt is 'question', target is 'answer.text'" in store.remarks[0]


BAD: dict[str, list[dict[str, Any]]] = {
    "has prompts and no targets": [{"prompt": "a"}] * 20,
    "has an empty 'target'": [*pairs(12), {"prompt": "a", "target": " "}],
    "has no column 'messages'": [{"x": 1}] * 20,
    "too few": pairs(5),
    "holds int": [{"prompt": "a", "target": 3}] * 20,
    "no turn of the assistant": [{"messages": [{"role": "user", "content": "a"}]}] * 20,
    "a turn in 'messages'": [{"messages": [{"role": "x", "content": "a"}]}] * 20,
    "is no list of turns": [{"messages": 3}] * 20,
    "are longer than": [{"prompt": "red " * 90 + str(n), "target": "a"} for n in range(20)],
}


@pytest.mark.parametrize("problem", BAD)
def test_what_is_no_task_is_one_sentence(
    problem: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.jsonl", BAD[problem])
    with pytest.raises(InputError) as error:
        prepared(path, tokenizer)
    assert problem in error.value.problem
    assert "\n" not in error.value.problem


@pytest.mark.parametrize("made_or_file", ["made", "file"])
def test_what_decides_the_rows_is_in_the_fingerprint(
    made_or_file: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    source = "task:translation,examples=40"
    if made_or_file == "file":
        source = write(tmp_path / "t.jsonl", pairs(40))
    changed: list[dict[str, Any]] = [{}, {"validation_examples": 9}, {"too_long": "cut"}]
    stores = [prepared(source, tokenizer, 200, **settings) for settings in changed]
    assert [len(store.validation()) for store in stores] == [4, 9, 4]
    assert len({store.fingerprint for store in stores}) == 3


def test_fewer_held_out_than_asked_for_is_said(tokenizer: Tokenizer) -> None:
    store = prepared("task:translation,examples=40", tokenizer, 200, validation_examples=40)
    assert len(store.validation()) == 20
    assert "of 40 examples 20 are held out, not 40: at most half of them" in store.remarks


def test_a_task_of_one_s_own(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from llmscale.measure.text.tasks.generators import Generator\n"
        "class Sum(Generator):\n"
        "    def draw(self, random):\n"
        "        a = int(random.integers(1000))\n"
        "        return {'prompt': f'{a} + 1 =', 'target': f' {a + 1}'}\n"
        "    def solve(self, given):\n"
        "        return str(int(given['prompt'].split()[0]) + 1)\n"
    )
    store = prepared(f"{file}:Sum,examples=100", tokenizer)
    assert len(store.train()) == 90
    with pytest.raises(InputError, match="has only about"):
        prepared(f"{file}:Sum,examples=2000", tokenizer)

"""Text of a model: the same as without a cache, drawn as the model says, shown as it comes."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sweeps import llmscale
from torch import Tensor
from trained import untrained_run

from llmscale import generate, open_model
from llmscale.errors import InputError
from llmscale.errors.printable import clean
from llmscale.measure.text.tasks.chat_template import (
    ASSISTANT,
    SYSTEM,
    USER,
    Turn,
    encode_question,
    encode_turns,
)
from llmscale.measure.trained.generation.chat import begin_chat
from llmscale.measure.trained.generation.decoding import complete, window_start
from llmscale.measure.trained.generation.reading import CachedReader, why_not_cached
from llmscale.measure.trained.generation.sampling import choose, next_probabilities
from llmscale.measure.trained.generation.spec import Sampling
from llmscale.measure.trained.generation.text_stream import TextStream, continuation
from llmscale.measure.trained.model import TrainedModel
from llmscale.measure.transformer import LanguageModel, build_model
from llmscale.runs.shape import ARCHITECTURES, shape_for

CONTEXT = 32
EDGES = [(1, 1, 1), (5, 1, 7), (20, 12), (32,)]


@pytest.fixture(scope="module")
def run(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_run(text, tmp_path_factory.mktemp("kept") / "ladder", context=CONTEXT)


@pytest.fixture(scope="module")
def trained(run: Path) -> TrainedModel:
    return open_model(run)


def assert_reads_alike(model: LanguageModel, context: int) -> None:
    """Logits of a text that is read in parts are those of the whole text."""
    tokens_BT = torch.randint(
        model.shape.vocab_size, (3, context), generator=torch.Generator().manual_seed(1)
    )
    with torch.inference_mode():
        whole_BTV = model(tokens_BT)
        for parts in EDGES:
            reader, end = CachedReader(model, context), 0
            for count in parts:
                end += count
                found_BV = reader.read(tokens_BT[:, end - count : end])
                assert torch.allclose(found_BV, whole_BTV[:, end - 1], atol=1e-5)


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
@pytest.mark.parametrize("parametrization", ["standard", "mup"])
def test_cached_logits_are_those_of_the_whole_text(arch: str, parametrization: str) -> None:
    shape = shape_for("2x32x2", vocab_size=50, context=CONTEXT, arch=arch)
    assert_reads_alike(build_model(shape, 1, parametrization).requires_grad_(False), CONTEXT)


def test_an_own_architecture_is_read_with_a_cache_if_that_gives_its_logits(
    repository: Path, tmp_path: Path
) -> None:
    window = f"{repository}/experiments/own/window.py:GatedWindow"
    own = tmp_path / "own.py"
    own.write_text(
        "from llmscale.measure.models.llama import Llama\n"
        "class Shifted(Llama):\n"
        '    """Adds the position before."""\n'
        "    def attention(self, block, n_BTC, *shared):\n"
        "        before_BTC = n_BTC.roll(1, 1); before_BTC[:, 0] = 0\n"
        "        return super().attention(block, n_BTC + before_BTC, *shared)\n"
    )
    found = {}
    for name in (window, f"{own}:Shifted"):
        shape = shape_for("2x32x2", vocab_size=50, context=100, arch=ARCHITECTURES.pin(name))
        found[name] = why_not_cached(build_model(shape, 1).requires_grad_(False))
    assert found[window] is None
    assert "Shifted" in (found[f"{own}:Shifted"] or "")


@torch.inference_mode()
def by_hand(trained: TrainedModel, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens by whole forward passes over what the window shows."""
    tokens = list(prompt)
    for _ in range(count):
        seen = tokens[window_start(len(tokens), trained.context) :]
        assert len(seen) <= trained.context
        tokens.append(int(trained.model(torch.tensor([seen]))[0, -1].argmax()))
    return tokens[len(prompt) :]


def test_greedy_takes_the_likeliest_of_the_whole_text(trained: TrainedModel) -> None:
    prompts = [[5], [7, 8, 9], list(range(10, 30)), list(range(100, 190))]
    sampling = Sampling(tokens=50, temperature=0, stop=False)
    found = complete(trained, prompts, sampling)
    for prompt, text in zip(prompts, found.texts, strict=True):
        assert list(text.tokens) == by_hand(trained, prompt, 50)
    assert "context" in found.remarks[0]


def test_the_log_probability_is_the_models_own(trained: TrainedModel) -> None:
    (text,) = complete(trained, [[5, 6]], Sampling(tokens=20, top_k=3, stop=False)).texts
    tokens = torch.tensor([[5, 6, *text.tokens]])
    logs = trained.model(tokens[:, :-1]).log_softmax(-1).gather(2, tokens[:, 1:, None])
    assert text.log_probability == pytest.approx(float(logs[0, 1:].sum()), abs=1e-4)


def test_a_text_is_the_same_whatever_else_is_written(trained: TrainedModel) -> None:
    prompts = [[5], [7, 8, 9, 4], list(range(10, 40)), [3] * 18, [7, 8, 9, 3]]
    sampling = Sampling(tokens=30, seed=3, samples=2)
    together = complete(trained, prompts, sampling).texts
    by_themselves = [complete(trained, [prompt], sampling).texts for prompt in prompts]
    expected = [text.tokens for texts in by_themselves for text in texts]
    assert [text.tokens for text in together] == expected
    assert together[0].tokens != together[1].tokens
    others = complete(trained, prompts, Sampling(tokens=30, seed=4, samples=2)).texts
    assert [one.tokens for one in others] != [one.tokens for one in together]


def test_the_end_of_text_ends_a_text(trained: TrainedModel) -> None:
    found = complete(trained, [[5]], Sampling(tokens=150, temperature=3, samples=8)).texts
    ended = [text for text in found if text.ended]
    assert ended
    assert all(trained.end_of_text not in text.tokens for text in found)
    on = complete(trained, [[5]], Sampling(tokens=150, temperature=3, samples=8, stop=False)).texts
    assert any(trained.end_of_text in text.tokens for text in on)
    assert all(len(text.tokens) == 150 for text in on)


LOGITS = torch.tensor([[0.4, 0.3, 0.2, 0.07, 0.03]]).log()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.07, 0.03]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0, 0]),
        ({"top_k": 9}, [0.4, 0.3, 0.2, 0.07, 0.03]),
        ({"top_p": 0.65}, [4 / 7, 3 / 7, 0, 0, 0]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0, 0]),
        ({"top_p": 1.0}, [0.4, 0.3, 0.2, 0.07, 0.03]),
        ({"top_k": 3, "top_p": 0.7}, [4 / 7, 3 / 7, 0, 0, 0]),
        ({"temperature": 0.5}, [x * x / 0.2958 for x in (0.4, 0.3, 0.2, 0.07, 0.03)]),
        ({"temperature": 0.0}, [1, 0, 0, 0, 0]),
        ({"temperature": 1e-300}, [1, 0, 0, 0, 0]),
    ],
)
def test_what_is_drawn_among(asked: dict[str, Any], expected: list[float]) -> None:
    found = next_probabilities(LOGITS, Sampling(**{"temperature": 1.0, **asked}))
    assert torch.allclose(found, torch.tensor([expected], dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("asked", [{}, {"top_k": 3}, {"top_p": 0.95}])
def test_tokens_are_drawn_as_often_as_the_model_says(asked: dict[str, Any]) -> None:
    draws = 20_000
    sampling = Sampling(**{"temperature": 1.3, **asked})
    uniform_B = torch.rand(draws, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    chosen = choose(LOGITS.expand(draws, -1), sampling, uniform_B)
    counts = torch.bincount(chosen, minlength=5).double()
    expected = next_probabilities(LOGITS, sampling)[0] * draws
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_squared = ((counts - expected) ** 2 / expected)[possible].sum()
    assert chi_squared < 18.5  # 99.9% with 4 degrees of freedom


def test_text_as_it_comes_is_that_of_all_tokens(trained: TrainedModel) -> None:
    tokenizer = trained.tokenizer
    generator = torch.Generator().manual_seed(2)
    whole = tokenizer.encode("日本語 äöü € zero, \x1b[31m one").ids
    drawn = torch.randint(1, trained.shape.vocab_size, (20, 40), generator=generator).tolist()
    for tokens in (whole, *drawn):
        stream = TextStream(tokenizer, [5])
        pieces = [stream.push(token) for token in tokens]
        assert all(not piece.endswith("\ufffd") for piece in pieces)
        assert "".join([*pieces, stream.end()]) == continuation(tokenizer, [5], tokens)
    stream = TextStream(tokenizer, [])
    for token in whole[:2]:
        assert "\ufffd" not in stream.push(token)
    heard: list[str] = []
    found = generate(trained, "zero", tokens=60, hears=lambda _, piece: heard.append(piece))
    assert "".join(heard) == found.texts[0].text
    assert len(heard) > 5


def test_the_command_shows_text_or_json(run: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "one two"}\n{"prompt": ""}\n')
    asked = ["--tokens", "5", "--seed", "3"]
    found = llmscale("generate", str(run.parent.parent / run.name[:6]), "one two", *asked)
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("one two")
    assert "tokens/s" in found.stderr
    both = llmscale("generate", str(run), "--prompts", str(prompts), *asked, "--json")
    told = json.loads(both.stdout)
    assert [text["prompt"] for text in told["texts"]] == ["one two", ""]
    assert told["texts"][0]["text"] in found.stdout
    assert told["asked"]["seed"] == 3
    assert told["tokens_per_second"] > 0
    assert any("empty prompt" in remark for remark in told["remarks"])
    assert told["texts"][0]["log_probability"] < 0
    several = llmscale("generate", str(run), "--prompts", str(prompts), *asked)
    assert "[2/2]" in several.stdout


BAD_FILES = {
    "latin.txt": b"one\ncaf\xe9\n",
    "broken.jsonl": b'{"prompt": "one"}\n{"prompt": \n',
    "no-prompt.jsonl": b'{"text": "one"}\n',
    "number.jsonl": b'{"prompt": 3}\n',
    "empty.txt": b"\n \n",
}


@pytest.mark.parametrize("name", [*BAD_FILES, "missing.txt"])
def test_a_bad_file_of_prompts_is_one_sentence(name: str, run: Path, tmp_path: Path) -> None:
    if name in BAD_FILES:
        (tmp_path / name).write_bytes(BAD_FILES[name])
    found = llmscale("generate", str(run), "--prompts", str(tmp_path / name))
    assert found.exit_code == 2
    assert name in found.stderr


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.1},
        {"tokens": 0},
        {"samples": 0},
        {"seed": -1},
        {"prompt": None},
        {"prompt": []},
        {"prompt": "a\udcff"},
        {"prompts": "there.txt"},
        {"temprature": 1},
    ],
)
def test_bad_input_is_refused(asked: dict[str, Any], trained: TrainedModel) -> None:
    with pytest.raises(InputError) as error:
        generate(trained, **{"prompt": "one", **asked})
    assert "\n" not in error.value.problem
    assert error.value.fix


def test_tokens_of_another_vocabulary_are_refused(trained: TrainedModel) -> None:
    for prompt in ([], [trained.shape.vocab_size], [-1]):
        with pytest.raises(InputError):
            complete(trained, [prompt], Sampling())


TURNS = [Turn(SYSTEM, "count"), Turn(USER, " one?\n"), Turn(ASSISTANT, "two"), Turn(USER, "three?")]


def test_conversations_are_written_by_the_template(trained: TrainedModel) -> None:
    tokens, learned = encode_turns(TURNS, trained.tokenizer, trained.end_of_text)
    shown = trained.tokenizer.decode(tokens, skip_special_tokens=False)
    assert shown == "system: count\nuser: one?\nassistant: two<|endoftext|>user: three?\n"
    answer = [token for token, learns in zip(tokens, learned, strict=True) if learns]
    assert trained.tokenizer.decode(answer, skip_special_tokens=False) == " two<|endoftext|>"
    asked = encode_question(TURNS, trained.tokenizer, trained.end_of_text)
    assert asked[: len(tokens)] == tokens
    assert trained.tokenizer.decode(asked[len(tokens) :]) == "assistant:"


def saying(trained: TrainedModel, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the model say `text` whatever it reads, then end, by logits for one token after the
    other."""
    tokens = iter([*trained.tokenizer.encode(text).ids, *[trained.end_of_text] * 50])

    def read(self: CachedReader, tokens_BT: Tensor) -> Tensor:
        logits_BV = torch.zeros(len(tokens_BT), trained.shape.vocab_size)
        logits_BV[:, next(tokens)] = 50.0
        return logits_BV

    monkeypatch.setattr(CachedReader, "read", read)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (" two\nthree", "two\nthree"),
        (" two\nuser: four\nassistant: five", "two"),
        (" two\nuse", "two\nuse"),
        ("  two \n", "two"),
    ],
)
def test_an_answer_ends_before_the_next_turn(
    said: str, answer: str, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(trained, said, monkeypatch)
    heard: list[str] = []
    talk = begin_chat(trained, system="count", temperature=0)
    found = talk.ask("one?", heard.append)
    assert found.text == answer == "".join(heard).strip()
    assert found.ended
    assert [turn.role for turn in talk.turns] == [SYSTEM, USER, ASSISTANT]


def test_chat_answers_each_line_of_a_pipe(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from llmscale.commands import app

    asked = ["chat", str(run), "--tokens", "40", "--seed", "1"]
    shown = CliRunner().invoke(app, asked, input="one\n\ntwo\n")
    assert shown.exit_code == 0, shown.output
    assert "context" in shown.stderr
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"], input="one\n\ntwo\n").stdout)
    assert [turn["role"] for turn in told["turns"]] == [USER, ASSISTANT] * 2
    answers = [turn["text"] for turn in told["turns"] if turn["role"] == ASSISTANT]
    assert all(clean(answer) in shown.stdout for answer in answers)
    wrong = CliRunner().invoke(app, asked, input=b"caf\xe9\n")
    assert wrong.exit_code == 2
    assert "line 1 of standard input is not UTF-8" in wrong.stderr

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmscale.measure.trained.generation.chat.complete", interrupted)
    assert begin_chat(run).ask("one").interrupted
    assert CliRunner().invoke(app, asked, input="one\n\ntwo\n").exit_code == 130

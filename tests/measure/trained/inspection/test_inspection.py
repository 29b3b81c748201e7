"""Inside a model: attention is the model's own, losses are exact, and scores are what they say."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from sweeps import llmscale
from trained import untrained_run

from llmscale import inspect, inspect_ladder, open_model, plot_inspection
from llmscale.errors import InputError
from llmscale.measure.ops.plain import Plain
from llmscale.measure.sweep.records import write_tables
from llmscale.measure.trained.inspection.attention import _Watching, read_with_attention
from llmscale.measure.trained.inspection.ladder import (
    _gain,
    _prefix_matching,
    attention_distance,
    repeated_tokens,
)
from llmscale.measure.transformer import build_model
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.shape import ARCHITECTURES, shape_for

SENTENCE = "three; <b>four</b> </script> & five"


@pytest.fixture(scope="module")
def results(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder of two sizes with first weights."""
    out = tmp_path_factory.mktemp("inside") / "ladder"
    for size in ("1x16x1", "2x32x2"):
        untrained_run(text, out, size=size)
    write_tables(ResultsFolder(out), final=True)
    return out


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_the_attention_is_what_the_model_computes(arch: str) -> None:
    shape = shape_for("2x32x2", vocab_size=50, context=24, arch=arch)
    model = build_model(shape, seed=1).requires_grad_(False)
    tokens_BT = torch.randint(50, (3, 24), generator=torch.Generator().manual_seed(0))
    logits_BTV, weights = read_with_attention(model, tokens_BT)
    assert torch.allclose(logits_BTV, model(tokens_BT), atol=1e-5)
    assert [one.shape for one in weights] == [(3, 2, 24, 24)] * 2
    assert torch.allclose(torch.stack(weights).sum(dim=-1), torch.ones(2, 3, 2, 24))
    assert all(one.triu(1).abs().max() == 0 for one in weights)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("window", [None, 3])
def test_weights_times_values_are_the_blocks_own_attention(
    turned: bool, window: int | None
) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 7, 3 * 4 * 6)
    rotary = (torch.randn(7, 6), torch.randn(7, 6)) if turned else None
    seen = None if window is None else torch.ones(7, 7, dtype=torch.bool).tril().triu(1 - window)
    watching = _Watching(Plain("float32"))
    given = (qkv, 4, rotary, 0.3, seen)
    own_BTC = Plain("float32").attention(*given)
    assert torch.allclose(watching.attention(*given), own_BTC, atol=1e-5)
    v_BHTD = qkv.view(2, 7, 3, 4, 6)[:, :, 2].transpose(1, 2)
    summed_BHTD = watching.weights[0] @ v_BHTD
    assert torch.allclose(summed_BHTD.transpose(1, 2).flatten(2), own_BTC, atol=1e-5)


def test_losses_and_alternatives_are_those_of_the_logits(results: Path) -> None:
    trained = open_model(results)
    found = inspect(trained, SENTENCE, alternatives=3)
    numbers = torch.tensor([[token.number for token in found.tokens]])
    logits_TV = trained.model(numbers)[0]
    losses = torch.nn.functional.cross_entropy(logits_TV[:-1], numbers[0, 1:], reduction="none")
    assert found.tokens[0].loss is None
    assert [token.loss for token in found.tokens[1:]] == pytest.approx(losses.tolist(), abs=1e-5)
    assert found.loss == pytest.approx(float(losses.mean()), abs=1e-5)
    chances_TV = logits_TV.softmax(-1)
    for place, token in enumerate(found.tokens):
        said = [one.probability for one in token.next]
        assert said == pytest.approx(chances_TV[place].topk(3).values.tolist(), abs=1e-5)
    ranks = [token.rank for token in found.tokens[1:]]
    order = logits_TV.argsort(dim=-1, descending=True)
    assert ranks == [
        1 + order[place].tolist().index(number) for place, number in enumerate(numbers[0, 1:])
    ]
    assert "".join(token.text for token in found.tokens) == SENTENCE
    names = [replace(found, text=text).file_name for text in ("a b", "a b!", "\u732b", "a b")]
    assert names[0] == names[3]
    assert len({*names}) == 3
    assert names[0].startswith(f"attention-{found.run_id}-a-b-")


def test_an_induction_head_scores_one_and_even_attention_its_share() -> None:
    n = 5
    induction_TT = torch.zeros(2 * n, 2 * n)
    again_T = torch.arange(n, 2 * n)
    induction_TT[again_T, again_T - n + 1] = 1
    even_TT = torch.ones(2 * n, 2 * n).tril() / torch.arange(1, 2 * n + 1)[:, None]
    weights_BHTT = torch.stack((induction_TT, even_TT)).expand(3, -1, -1, -1)
    scores = _prefix_matching(weights_BHTT, n)
    assert scores[:, 0].tolist() == [1.0] * 3
    assert scores[0, 1] == pytest.approx(np.mean([1 / (t + 1) for t in range(n, 2 * n)]))


def test_the_distance_is_the_mean_way_back() -> None:
    before_TT = torch.diag(torch.ones(3), -1)
    before_TT[0, 0] = 1
    even_TT = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    assert attention_distance(before_TT.view(1, 1, 4, 4)).tolist() == [0.75]
    assert attention_distance(even_TT.view(1, 1, 4, 4)).item() == pytest.approx(0.75)
    assert attention_distance(torch.eye(4).view(1, 1, 4, 4)).tolist() == [0.0]


def test_the_gain_is_the_fall_of_the_loss_when_tokens_come_again() -> None:
    tokens_BT = repeated_tokens(torch.arange(4, 20), 6)
    assert torch.equal(tokens_BT[:, :6], tokens_BT[:, 6:])
    assert all(len(row[:6].unique()) == 6 for row in tokens_BT)
    # It guesses while tokens are new, and knows each that comes again.
    logits_BTV = torch.zeros(len(tokens_BT), 12, 20)
    logits_BTV[:, 6:11] = 100 * torch.nn.functional.one_hot(tokens_BT[:, 7:], 20)
    gains = _gain(logits_BTV, tokens_BT, 6)
    assert gains.tolist() == pytest.approx([np.log(20)] * len(tokens_BT))


def test_the_command_shows_the_text_and_writes_figure_and_page(
    results: Path, tmp_path: Path
) -> None:
    found = llmscale("inspect", str(results), SENTENCE)
    assert found.exit_code == 0, found.output
    losses = re.findall(r"\[(\d+\.\d+)\]", found.stdout)
    assert len(losses) >= 8
    run_id = open_model(results).run_id
    pages = list((results / "figures").glob(f"attention-{run_id}-three-b-four-*.html"))
    (page_path,) = (page for page in pages if page.with_suffix(".png").exists())
    assert str(page_path) in found.stdout.splitlines()
    page = page_path.read_text()
    assert page.count("</script>") == 2
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "")
    (data,) = re.findall(r'id="data">(.*?)</script>', page)
    told = json.loads(data)
    asked = ("inspect", str(results), SENTENCE, "--json", "-o", str(tmp_path / "a.svg"))
    spoken = json.loads(llmscale(*asked).stdout)
    assert spoken["files"] == [str(tmp_path / "a.svg")]
    weights = np.array(spoken["attention"])
    assert len(told["tokens"]) == len(spoken["tokens"]) == weights.shape[-1]
    row = told["attention"][1][0][5]
    assert np.allclose(np.array(row) / 1000, weights[1, 0, 5, :6], atol=6e-4)
    assert [f"{token['loss']:.2f}" for token in spoken["tokens"][1:]] == losses


def test_losses_are_colours_in_a_terminal(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmscale.commands import inspect as command
    from llmscale.commands import output

    shown = Console(force_terminal=True, color_system="truecolor", width=80, no_color=False)
    monkeypatch.setattr(output, "results", shown, raising=False)
    with shown.capture() as captured:
        command._print_losses(inspect(results, "one two"))
    text = captured.get()
    assert "\x1b[30;48;2;" in text
    assert not re.search(r"\[\d\.\d\d\]", text)


def test_a_ladder_gets_columns_and_a_figure(results: Path) -> None:
    found = llmscale("inspect", str(results), "--ladder", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert (results / "figures" / "inside-ladder.png").exists()
    assert told["repeated"] == 16
    assert [run["size"] for run in told["runs"]] == ["1x16x1", "2x32x2"]
    assert [len(run["induction_scores"]) for run in told["runs"]] == [1, 2]
    # First weights know nothing of induction.
    evenly = np.mean([1 / (t + 1) for t in range(16, 32)])
    for run in told["runs"]:
        assert run["induction_score"] == pytest.approx(evenly, abs=0.02)
        assert abs(run["induction_gain"]) < 0.05
        assert run["attention_distance"] is None
    assert "no text to measure" in told["remarks"][0]
    table = pd.read_parquet(results / "runs.parquet").set_index("run_id")
    for run in told["runs"]:
        assert table.loc[run["run_id"], "induction_score"] == pytest.approx(run["induction_score"])
    assert plot_inspection(inspect_ladder(results)).n_runs == 2


BAD: dict[str, list[Any]] = {
    "no text": [],
    "an empty text": [""],
    "a text with --ladder": ["one", "--ladder"],
    "longer than the context": ["one two " * 40],
    "no place": ["one", "-o", "a.docx"],
    "a folder": ["one", "-o", "tests.html/.."],
    "no alternatives": ["one", "--alternatives", "0"],
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused(what: str, results: Path) -> None:
    found = llmscale("inspect", str(results), *BAD[what])
    assert found.exit_code == 2
    assert found.stderr.startswith("error:")


def test_a_place_without_models_is_one_sentence(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        for more in (["one"], ["--ladder"]):
            assert llmscale("inspect", str(place), *more).exit_code == 2
    with pytest.raises(InputError):
        inspect_ladder(tmp_path)


@pytest.mark.slow
def test_a_model_that_learns_to_say_tokens_again_scores_and_gains() -> None:
    n, vocabulary, batch = 12, 24, 32
    model = build_model(shape_for("2x32x2", vocab_size=vocabulary, context=2 * n), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(1)
    weights_B = torch.full((batch,), 1 / batch)
    for _step in range(250):
        once_BT = torch.rand(batch, vocabulary, generator=generator).argsort(dim=1)[:, :n]
        tokens_BT = torch.cat((once_BT, once_BT), dim=1)
        loss, _ = model.losses(tokens_BT[:, :-1], tokens_BT[:, 1:], weights_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens_BT = repeated_tokens(torch.arange(vocabulary), n)
    logits_BTV, weights = read_with_attention(model, tokens_BT)
    first, second = (float(_prefix_matching(one, n).mean(dim=0).max()) for one in weights)
    # It takes two layers: the first lets each token know the one before (Olsson et al. 2022).
    assert first < 0.2 < 0.5 < second
    assert 2.5 < float(_gain(logits_BTV, tokens_BT, n).mean()) < np.log(vocabulary)

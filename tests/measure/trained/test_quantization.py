"""Weights of few bits: rounded by their groups, packed, and measured as runs of their own."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sweeps import llmscale

from llmscale import InputError, open_model, quantize, read_runs
from llmscale.explain.api.next_step import can_fit
from llmscale.measure.sweep.records import recorded_runs
from llmscale.measure.train.kept_weights import read_tensors, write_weights
from llmscale.measure.train.packed_weights import BITS, Rounded, unpacked
from llmscale.measure.trained.evaluation.scores import Metric
from llmscale.measure.trained.exchange.card import model_card
from llmscale.measure.trained.listing import models
from llmscale.measure.trained.quantization.api import Quantized, _row
from llmscale.measure.trained.quantization.rounding import round_matrix
from llmscale.runs.results_folder import ResultsFolder


@pytest.fixture(scope="module")
def rounded(kept_ladder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rounded") / "out"
    found = llmscale("quantize", str(kept_ladder), "--bits", "8,2", "--out", str(out), "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert (len(said["models"]), said["known"]) == (12, 0)
    return out


@pytest.mark.parametrize("bits", range(2, 9))
def test_numbers_of_few_bits_are_packed_and_found_again(bits: int) -> None:
    half = 1 << bits - 1
    generator = torch.Generator().manual_seed(bits)
    numbers = torch.randint(-half, half, (6, 15), generator=generator).to(torch.int8)
    scales = torch.rand(6, 3, generator=generator).half()
    stored = Rounded(numbers, scales, bits).stored("w")
    assert stored["w:packed"].nbytes == -(-6 * 15 * bits // 8)
    found = unpacked(stored, {BITS: str(bits)}, {"w": numbers.shape})["w"]
    wanted = numbers.float().view(6, 3, 5) * scales.float()[..., None]
    assert torch.equal(found, wanted.view(6, 15))


@pytest.mark.parametrize(("bits", "group"), [(8, 32), (4, 32), (4, 8), (3, 48)])
def test_weights_are_rounded_to_the_nearest_step_of_their_group(bits: int, group: int) -> None:
    weight = torch.randn(10, 48, generator=torch.Generator().manual_seed(0))
    found = round_matrix(weight, bits, group)
    width = {32: 16}.get(group, group)  # the largest that divides a row and 32
    parts = weight.view(10, -1, width)
    # Symmetric: the largest weight of a group is half of the range of 2^bits - 1 steps.
    steps = parts.abs().amax(-1, keepdim=True) / ((2**bits - 1) / 2)
    assert found.scales.float() == pytest.approx(steps[..., 0], rel=1e-3)
    back = found.numbers.view(parts.shape) * found.scales.float()[..., None]
    assert ((back - parts).abs() <= 0.5 * steps + 1e-3 * parts.abs()).all()  # scales are float16


def test_each_model_is_a_run_with_its_bits_as_a_column(kept_ladder: Path, rounded: Path) -> None:
    table = pd.read_parquet(rounded / "runs.parquet")
    assert sorted(set(table["bits"])) == [2, 8, 32]
    whole = pd.read_parquet(kept_ladder / "runs.parquet").set_index("run_id")
    losses = table.pivot_table(index="parent", columns="bits", values="loss")
    assert losses[32].to_dict() == pytest.approx(whole["loss"].to_dict(), abs=1e-5)
    assert (losses[8] - losses[32]).abs().max() < 0.02
    assert (losses[2] - losses[32]).min() > 0.05
    assert not set(table["run_id"]) & set(whole.index)
    for run in table.itertuples():
        stored = read_tensors(rounded / "runs" / run.run_id / "weights.safetensors")[0]
        size = sum(weight.nbytes for weight in stored.values())
        assert run.weight_bytes == size
        assert run.bits_per_weight == pytest.approx(8 * size / run.params_total)
        assert run.bits <= run.bits_per_weight < run.bits + 1.3
    # Two sizes and two budgets are too few for the law.
    assert not can_fit(rounded, law="precision")
    assert {one.bits for one in models(rounded).models} == {2, 8, 32}
    runs = read_runs(rounded)
    assert runs.columns["bits"] == "bits"
    assert runs.columns["loss"] == "loss"


def test_a_rounded_model_is_used_like_any_other(rounded: Path) -> None:
    table = pd.read_parquet(rounded / "runs.parquet").set_index("run_id")
    run_id = table.index[table["bits"] == 2][0]
    found = llmscale("eval", str(rounded / run_id), "--json")
    (score,) = json.loads(found.stdout)["runs"][0]["scores"]
    assert score["metrics"][0]["value"] == table.loc[run_id, "loss"]
    card = model_card(open_model(rounded / run_id), "mine")
    of_parent = f"those of run {table.loc[run_id, 'parent']}"
    assert f"{of_parent}, rounded to 2 bits in groups of 32. That run was trained from" in card
    whole = table.index[(table["bits"] == 32) & (table["parent"] == table.loc[run_id, "parent"])]
    assert f"{of_parent}, as they are kept" in model_card(open_model(rounded / whole[0]), "mine")
    model = open_model(rounded / run_id).model
    for weight in model.parameters():
        if weight.dim() == 2:
            assert max(len(row.unique()) for row in weight.view(-1, 8)) <= 4


def test_what_is_there_is_not_made_again(kept_ladder: Path, rounded: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in rounded.glob("runs/*/weights.safetensors")}
    found = quantize(kept_ladder, bits="2,5", out=rounded)
    assert (len(found.models), found.known) == (12, 8)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert len(pd.read_parquet(rounded / "runs.parquet")) == 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bits", "9"], "'9' cannot be the bits of a weight"),
        (["--bits", "4.5"], "cannot be the bits"),
        (["--bits", "4,4"], "names 4 twice"),
        (["--group", "1"], "at least 2"),
        (["--group", "7"], "no factor in common"),
        (["--out", "LADDER"], "holds other results"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    arguments: list[str], said: str, kept_ladder: Path, tmp_path: Path
) -> None:
    given = [word.replace("LADDER", str(kept_ladder)) for word in arguments]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    found = llmscale("quantize", str(kept_ladder), *given)
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("packed", "scales"),
    [
        (torch.zeros(8, dtype=torch.uint8), torch.tensor(1.0).half()),
        (torch.zeros(8, dtype=torch.uint8), torch.ones(2, 0).half()),
        (torch.zeros(8, dtype=torch.uint8), torch.full((2, 1), torch.nan).half()),
        (torch.zeros(8, dtype=torch.uint8), torch.ones(2, 1, dtype=torch.int16)),
        (torch.zeros(8), torch.ones(2, 1).half()),
        (torch.zeros(8, dtype=torch.bool), torch.ones(2, 1).half()),
        (torch.zeros(7, dtype=torch.uint8), torch.ones(2, 1).half()),
    ],
)
def test_packed_weights_of_a_wrong_kind_are_refused(
    packed: torch.Tensor, scales: torch.Tensor
) -> None:
    stored = {"w:packed": packed, "w:scale": scales}
    with pytest.raises(ValueError, match=r"its packed weights|it has scales"):
        unpacked(stored, {BITS: "8"}, {"w": torch.Size((2, 4))})


def changed_weights(path: Path, factor: float) -> None:
    weights = {name: one * factor for name, one in read_tensors(path)[0].items()}
    write_weights(path, weights, open_model(path.parent).spec.job)


def test_what_is_there_is_of_these_weights_and_whole(kept_ladder: Path, tmp_path: Path) -> None:
    run_id = next(iter(recorded_runs(ResultsFolder(kept_ladder)))).run_id
    parent = tmp_path / "models" / "runs" / run_id
    shutil.copytree(kept_ladder / "runs" / run_id, parent)
    out = tmp_path / "out"

    def run() -> Quantized:
        return quantize(tmp_path / "models", bits="4", out=out)

    (parent / "tokenizer.json").unlink()  # the token store has it, too
    first = run()
    assert first.known == 0
    made = out / "runs" / first.models[-1].run_id / "weights.safetensors"
    whole = made.read_bytes()
    made.write_bytes(whole[:-8])
    assert run().known == 1
    assert len(made.read_bytes()) == len(whole)
    open_model(made.parent)
    changed_weights(parent / "weights.safetensors", 2.0)
    with pytest.raises(InputError, match="of other weights"):
        run()
    out = tmp_path / "anew"
    anew = run()
    assert anew.known == 0
    assert not {one.run_id for one in anew.models} & {one.run_id for one in first.models}
    changed_weights(parent / "weights.safetensors", 1e7)
    out = tmp_path / "large"
    with pytest.raises(InputError, match="too large for a scale"):
        run()
    assert not out.exists()


def test_a_loss_without_an_exponential_has_a_row(kept_ladder: Path) -> None:
    row = next(iter(recorded_runs(ResultsFolder(kept_ladder))))
    loss = Metric("loss", 1e4)
    assert _row(row, "a", loss, loss).perplexity == math.exp(700)


@pytest.mark.parametrize("how", ["bits", "scales", "short"])
def test_packed_weights_that_do_not_fit_are_refused(how: str, rounded: Path) -> None:
    table = pd.read_parquet(rounded / "runs.parquet").set_index("run_id")
    folder = rounded / "runs" / table.index[table["bits"] == 8][0]
    path = folder / "weights.safetensors"
    whole = path.read_bytes()
    stored, notes = read_tensors(path)
    changed: dict[str, Any] = dict(stored)
    name = next(name for name in stored if name.endswith(":packed"))
    if how == "scales":
        del changed[name.replace(":packed", ":scale")]
    elif how == "short":
        changed[name] = changed[name][:-8]
    more = {BITS: "77" if how == "bits" else notes[BITS]}
    try:
        write_weights(path, changed, open_model(folder).spec.job, more)
        with pytest.raises(InputError, match="cannot be used"):
            open_model(folder)
    finally:
        path.write_bytes(whole)

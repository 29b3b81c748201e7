"""Weights of finished runs: which are kept, whole when read, and refused when they are damaged."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sweeps import llmscale, options
from trained import untrained_run

from llmscale.errors import InputError
from llmscale.measure.sweep.keeping import Kept
from llmscale.measure.sweep.records import write_tables
from llmscale.measure.train.kept_weights import read_tensors, write_weights
from llmscale.measure.trained.listing import models
from llmscale.measure.trained.model import TrainedModel, open_model
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.scores import write_scores


@pytest.fixture
def ladder(kept_ladder: Path) -> Path:
    return kept_ladder


def run_of(ladder: Path, size: str = "2x16x1") -> Path:
    return Path(next(one.path for one in models(ladder).models if one.size == size))


def validation_loss(trained: TrainedModel) -> float:
    """The mean cross-entropy in nats over the run's own validation text, in plain torch."""
    from llmscale.measure.text.prepare import TokenStore

    tokens = TokenStore.open(Path(trained.spec.store)).validation()
    context = trained.context
    count = (len(tokens) - 1) // context
    inputs = torch.tensor(tokens[: count * context].astype(int)).view(count, context)
    targets = torch.tensor(tokens[1 : count * context + 1].astype(int)).view(count, context)
    logits = trained.model(inputs)
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))


def test_kept_weights_have_the_loss_of_their_row(ladder: Path) -> None:
    listed = models(ladder)
    assert [one.kept for one in listed.models] == ["weights"] * 4
    for one in listed.models:
        trained = open_model(one.path)
        assert trained.row is not None
        assert validation_loss(trained) == pytest.approx(trained.row.loss, abs=1e-5)
    assert listed.bytes == sum(
        path.stat().st_size for path in ladder.glob("runs/*/weights.safetensors")
    )


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("all", 4),
        ("none", 0),
        ("largest", 1),
        ("1x16x1", 2),
        ("default", 4),
    ],
)
def test_the_plan_says_what_is_kept(keep: str, kept: int, text: Path, tmp_path: Path) -> None:
    command = options(text, tmp_path / "out", "1x16x1,2x16x1", "10k,20k")
    found = llmscale(*command, "--keep", keep, "--dry-run", "--json")
    said = json.loads(found.stdout)["kept"]
    assert said["runs"] == kept
    assert (said["bytes"] > 0) == (kept > 0)
    assert not (tmp_path / "out").exists()


def test_what_is_beyond_the_budget_is_said(text: Path, tmp_path: Path) -> None:
    command = options(text, tmp_path / "out", "1x16x1,2x16x1", "10k")
    found = llmscale(*command, "--keep-gb", "0.00003", "--dry-run", "--json")
    plan = json.loads(found.stdout)
    assert plan["kept"]["runs"] == 1
    (said,) = (one for one in plan["warnings"] if one["code"] == "weights-not-kept")
    assert "room for the weights of 1 of 2 runs" in said["message"]
    assert "those of 1 run (2x16x1) are not kept. All would take" in said["message"]
    assert str(Kept("bfloat16", {"a": 1024}, 2)).startswith("weights: kept for 1 of 2 runs, 1")


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (["--keep", "all"], "4 runs ended without keeping weights, which cannot come back"),
        (["--keep", "none"], "weights that were kept stay, those of 4 runs too"),
        ([], None),
    ],
)
def test_keep_changes_nothing_of_runs_that_ended_and_says_so(
    keep: list[str], said: str | None, text: Path, ladder: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(ladder, tmp_path / "out"))
    if "all" in keep:
        for weights in out.glob("runs/*/weights.safetensors"):
            weights.unlink()
    command = options(text, out, "1x16x1,2x16x1", "10k,20k", batch_tokens="128")
    found = llmscale(*command, "--keep-dtype", "float32", *keep, "--dry-run")
    assert found.exit_code == 0, found.output
    words = " ".join(found.stderr.split())
    assert words.count(said) == 1 if said else "cannot come back" not in words


@pytest.mark.parametrize("keep", ["3M", "all,none", "", "largest,1x16x1"])
def test_what_cannot_be_kept_is_refused(keep: str, text: Path, tmp_path: Path) -> None:
    command = options(text, tmp_path / "out", "1x16x1", "10k")
    found = llmscale(*command, f"--keep={keep}")
    assert found.exit_code == 2
    assert "keep" in found.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["folder", "results", "id", "beginning"])
def test_a_run_is_found_by_its_names(place: str, ladder: Path) -> None:
    path = run_of(ladder)
    name = {
        "folder": path,
        "results": ladder,
        "id": ladder / path.name,
        "beginning": ladder / path.name[:6],
    }[place]
    trained = open_model(name)
    assert trained.shape.n_layer == 2
    assert bool(trained.remarks) == (place in ("results", "beginning"))


@pytest.mark.parametrize("name", ["", "nothing-here", "results/none/runs/abc", "RESULTS/zzzz"])
def test_a_run_that_is_not_there_is_one_sentence(name: str, ladder: Path) -> None:
    with pytest.raises(InputError):
        open_model(name.replace("RESULTS", str(ladder)))


def damaged(path: Path, how: str) -> None:
    weights = path / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    if how == "cut":
        weights.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "a bit":
        content[-10] ^= 1
        weights.write_bytes(content)
    elif how == "pickle":
        torch.save({"head.weight": torch.zeros(2)}, weights)
    elif how == "shape":
        spec = json.loads((path / "spec.json").read_text())
        spec["job"]["shape"]["d_ff"] += 8
        (path / "spec.json").write_text(json.dumps(spec))
    elif how == "tokenizer":
        file = json.loads((path / "tokenizer.json").read_text())
        file["added_tokens"].append({**file["added_tokens"][0], "id": 4000, "content": "<x>"})
        (path / "tokenizer.json").write_text(json.dumps(file))


@pytest.mark.parametrize("how", ["cut", "empty", "a bit", "pickle", "shape", "tokenizer"])
def test_damaged_weights_are_refused_in_one_sentence(
    how: str, ladder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "runs" / run_of(ladder).name
    shutil.copytree(run_of(ladder), copy)
    damaged(copy, how)
    with pytest.raises(InputError) as error:
        _ = open_model(copy).tokenizer
    assert "\n" not in error.value.problem
    assert error.value.fix


@pytest.mark.parametrize("how", ["nan", "inf", "int8", "complex64", "float64"])
def test_weights_that_are_no_finite_floats_are_refused(
    how: str, text: Path, tmp_path: Path
) -> None:
    path = untrained_run(text, tmp_path) / "weights.safetensors"
    weights, job = read_tensors(path)[0], open_model(path.parent).spec.job
    name = next(iter(weights))
    if how in ("nan", "inf"):
        weights[name].view(-1)[3] = float(how)
    else:
        weights[name] = weights[name].to(getattr(torch, how))
    write_weights(path, weights, job)
    with pytest.raises(InputError, match=f"{name} (is of type {how}|has weights that are no)"):
        open_model(path.parent)


@pytest.mark.parametrize("how", ["cut", "empty", "pickle", "longer", "spec", "header"])
def test_damaged_models_are_not_usable(how: str, text: Path, tmp_path: Path) -> None:
    run = untrained_run(text, tmp_path)
    weights = run / "weights.safetensors"
    write_tables(ResultsFolder(tmp_path), final=True)
    assert models(tmp_path).usable
    if how == "spec":
        (run / "spec.json").write_text("{")
    elif how == "longer":
        weights.write_bytes(weights.read_bytes() + b"0")
    elif how == "header":
        weights.write_bytes((2).to_bytes(8, "little") + b"[]")
    else:
        damaged(run, how)
    found = models(tmp_path)
    assert [one.kept for one in found.models] == ["damaged"]
    assert not found.usable


def test_scores_are_columns_and_survive_their_folder(ladder: Path, tmp_path: Path) -> None:
    copy = ResultsFolder(tmp_path / "ladder")
    shutil.copytree(ladder, copy.path)
    run = copy.run_folder(run_of(copy.path).name)
    write_scores(run, {"loss_books": 3.5})
    write_scores(run, {"bleu_task": 20.0})
    write_tables(copy, final=True)

    def scores() -> dict[str, Any]:
        runs = pd.read_parquet(copy.runs_path).set_index("run_id")
        assert list(runs.columns[-2:]) == ["bleu_task", "loss_books"]
        assert runs["loss_books"].isna().sum() == 3
        found: dict[str, Any] = runs.loc[run.run_id, ["loss_books", "bleu_task"]].to_dict()
        return found

    assert scores() == {"loss_books": 3.5, "bleu_task": 20.0}
    shutil.rmtree(run.path)
    write_tables(copy, final=True)
    assert scores() == {"loss_books": 3.5, "bleu_task": 20.0}
    for name in ("loss", "a,b", ""):
        with pytest.raises(InputError):
            write_scores(run, {name: 1.0})


def test_a_run_under_way_is_used_from_its_checkpoint(ladder: Path, tmp_path: Path) -> None:
    from trained import CPU, TRAIN, VALIDATION, job, train_one

    from llmscale.measure.train.loop import TrainingInterrupted
    from llmscale.measure.train.run_spec import RunSpec
    from llmscale.runs.run_folder import RunFolder

    asked = job()
    folder = RunFolder(tmp_path / "runs" / asked.run_id)
    folder.path.mkdir(parents=True)
    RunSpec(asked, CPU).write(folder)
    with pytest.raises(TrainingInterrupted):
        train_one(asked, CPU, TRAIN, VALIDATION, folder.path, stop=lambda: True)
    trained = open_model(folder.path)
    assert trained.step == 1
    assert "under way" in trained.remarks[0]
    assert all(weight.dtype == torch.float32 for weight in trained.model.parameters())


def test_the_file_notes_its_run(ladder: Path) -> None:
    _, noted = read_tensors(run_of(ladder) / "weights.safetensors")
    assert noted["run_id"] == run_of(ladder).name


def test_models_at_a_url_are_listed_and_used(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "there"
    small, large = (untrained_run(text, out, size=size) for size in ("1x16x1", "2x32x2"))
    write_tables(ResultsFolder(out), final=True)
    url = out.as_uri()
    assert [one.run_id for one in models(url).models] == [small.name, large.name]
    for place, run in ((url, large), (f"{url}/runs/{small.name}", small)):
        trained = open_model(place)
        assert trained.run_id == run.name
        assert trained.tokenizer.get_vocab_size() > 256
    assert not [path for path in tmp_path.iterdir() if path != out]
    with pytest.raises(InputError):
        open_model(f"{url}/runs/nothing")

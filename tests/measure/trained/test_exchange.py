"""Export and import: what transformers computes is what was trained, and the way back is exact."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sweeps import llmscale
from trained import untrained_run

from llmscale import evaluate
from llmscale.errors import InputError
from llmscale.measure.sweep.records import write_tables
from llmscale.measure.trained.exchange.card import model_card
from llmscale.measure.trained.exchange.export import export
from llmscale.measure.trained.exchange.importing import import_model
from llmscale.measure.trained.listing import models
from llmscale.measure.trained.model import open_model
from llmscale.runs.results_folder import ResultsFolder

transformers = pytest.importorskip("transformers", reason="needs transformers, of extra [models]")
# What it says of its own loading is no matter of these tests.
transformers.logging.disable_progress_bar()
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"arch": "gpt2"},
    "llama-mup": {"parametrization": "mup"},
    "gpt2-mup": {"arch": "gpt2", "parametrization": "mup"},
}


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A results folder with one run of each kind."""
    out = tmp_path_factory.mktemp("exchange")
    for kind, recipe in KINDS.items():
        untrained_run(text, out / kind, **recipe)
    return {kind: out / kind for kind in KINDS}


def logits_of(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    """Those of the model as transformers loads it."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits: torch.Tensor = model(tokens).logits
    return logits


@pytest.mark.parametrize("kind", list(KINDS))
def test_transformers_gives_equal_logits_and_the_way_back_is_exact(
    kind: str, trained: dict[str, Path], tmp_path: Path
) -> None:
    ours = open_model(trained[kind])
    folder = tmp_path / "model"
    found = llmscale("export", str(trained[kind]), str(folder), "--dtype", "float32", "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["run_id"] == ours.run_id
    tokens = torch.randint(ours.shape.vocab_size, (3, ours.context))
    wanted = ours.model(tokens)
    assert (logits_of(folder, tokens) - wanted).abs().max() < 1e-4

    kind_of_model = "GPT2LMHeadModel" if kind.startswith("gpt2") else "LlamaForCausalLM"
    assert json.loads((folder / "config.json").read_text())["architectures"] == [kind_of_model]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = "three; four five"
    assert tokenizer(words)["input_ids"] == ours.tokenizer.encode(words).ids
    assert tokenizer.eos_token_id == ours.end_of_text

    back = llmscale("import", str(folder), "--out", str(tmp_path / "back"), "--tokens", "10k")
    assert back.exit_code == 0, back.output
    again = open_model(tmp_path / "back")
    assert (again.model(tokens) - wanted).abs().max() < 1e-4
    assert again.row is not None
    assert (again.row.status, again.row.loss) == ("done", None)


def saved_by_transformers(folder: Path, **changes: Any) -> tuple[Path, Any]:
    """A small Llama with settings unlike ours: two heads of keys for four, tied embeddings."""
    config = transformers.LlamaConfig(
        **{
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 320,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5,
            "rope_theta": 50_000.0,
            "tie_word_embeddings": True,
            **changes,
        }
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    return folder, model


def with_tokenizer(folder: Path, trained: dict[str, Path]) -> Path:
    shutil.copy(open_model(trained["llama"]).tokenizer_file, folder / "tokenizer.json")
    return folder


def test_a_llama_of_other_settings_is_imported_with_its_logits(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    folder, model = saved_by_transformers(tmp_path / "theirs")
    found = import_model(with_tokenizer(folder, trained), tmp_path / "runs-of-others")
    said = " ".join(found.remarks)
    assert "heads of keys" in said
    assert "output projection" in said
    assert found.row.status == "stopped"  # no law takes a run of unknown tokens
    tokens = torch.randint(320, (2, 64))
    ours = open_model(found.folder.path)
    with torch.no_grad():
        assert (ours.model(tokens) - model(tokens).logits).abs().max() < 1e-4
    export(found.folder.path, tmp_path / "again", dtype="float32")
    with torch.no_grad():
        wanted = model(tokens).logits
    assert (logits_of(tmp_path / "again", tokens) - wanted).abs().max() < 1e-4


def test_a_gpt2_without_prefix_and_with_masks_is_imported(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    config = transformers.GPT2Config(
        n_embd=32, n_layer=1, n_head=2, n_positions=16, vocab_size=320, n_inner=None
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    folder = tmp_path / "theirs"
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    save_file({**bare, "h.0.attn.bias": torch.ones(1, 1, 16, 16)}, folder / "model.safetensors")
    found = import_model(with_tokenizer(folder, trained), tmp_path / "runs-of-others")
    tokens = torch.randint(320, (2, 16))
    with torch.no_grad():
        wanted = model(tokens).logits
    assert (open_model(found.folder.path).model(tokens) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("no config", "config.json"),
        ("another type", "mamba"),
        ("biases", "attention_bias"),
        ("scaled positions", "rope_type"),
        ("no weights", "model.safetensors"),
        ("pickles", "pickles"),
        ("cut weights", "safetensors"),
        ("wrong shape", "weight of"),
        ("a weight is missing", "no weight"),
        ("no tokenizer", "tokenizer.json"),
        ("a larger tokenizer", "tokens"),
        ("fewer layers", "says nothing of"),
        ("an older word for scaled positions", "type"),
        ("quantized", "quantization_config"),
        ("whole numbers", "int8"),
        ("another projection", "ties"),
        ("no number", "rms_norm_eps"),
        ("odd heads", "num_key_value_heads"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(
    how: str, word: str, trained: dict[str, Path], tmp_path: Path
) -> None:
    changes = {"biases": {"attention_bias": True}}.get(how, {})
    folder = with_tokenizer(saved_by_transformers(tmp_path / "theirs", **changes)[0], trained)
    config = json.loads((folder / "config.json").read_text())
    weights = folder / "model.safetensors"
    match how:
        case "no config":
            (folder / "config.json").unlink()
        case "another type":
            config["model_type"] = "mamba"
        case "scaled positions":
            config["rope_parameters"]["rope_type"] = "llama3"
        case "no weights":
            weights.unlink()
        case "pickles":
            weights.rename(folder / "pytorch_model.bin")
        case "cut weights":
            os.truncate(weights, 2000)
        case "wrong shape":
            config["intermediate_size"] = 64
        case "a weight is missing":
            config["num_hidden_layers"] = 3
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "a larger tokenizer":
            config["vocab_size"] = 100
        case "fewer layers":
            config["num_hidden_layers"] = 1
        case "an older word for scaled positions":
            config["rope_parameters"] = {"type": "yarn", "factor": 4}
        case "quantized":
            config["quantization_config"] = {"bits": 4}
        case "whole numbers" | "another projection":
            tensors = load_file(weights)
            head = torch.ones(320, 32, dtype=torch.int8)
            if how == "another projection":
                head = head.float()
            save_file({**tensors, "lm_head.weight": head}, weights)
        case "no number":
            config["rms_norm_eps"] = "x"
        case "odd heads":
            config["num_key_value_heads"] = 3
    if how != "no config":
        (folder / "config.json").write_text(json.dumps(config))
    found = llmscale("import", str(folder), "--out", str(tmp_path / "out"))
    assert found.exit_code == 2, found.output
    assert word in found.output
    assert "rm -r" not in found.output  # the folder is somebody's
    assert not (tmp_path / "out").exists()


def test_an_export_is_whole_or_not_there(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    place = tmp_path / "model"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        found = llmscale("export", str(trained["llama"]), str(place))
    assert found.exit_code == 1
    assert "cannot write" in found.output
    assert list(tmp_path.iterdir()) == []
    export(trained["llama"], place)
    with pytest.raises(InputError, match="not empty"):
        export(trained["llama"], place)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--to", "card"], "Formats are hf"),
        (["--dtype", "int3"], "int3"),
        (["--push", "no owner"], "OWNER/NAME"),
        (["--push", "nobody"], "OWNER/NAME"),
    ],
)
def test_a_wrong_export_is_refused(
    more: list[str], word: str, trained: dict[str, Path], tmp_path: Path
) -> None:
    found = llmscale("export", str(trained["llama"]), str(tmp_path / "model"), *more)
    assert found.exit_code == 2
    assert word in found.output
    assert not (tmp_path / "model").exists()


def test_the_card_says_what_the_model_is_and_where_it_lies_on_the_law(
    text: Path, tmp_path: Path
) -> None:
    out = ResultsFolder(tmp_path / "ladder")
    for size, loss in {"1x8x1": 4.2, "1x16x1": 3.9, "2x16x1": 3.8, "2x32x2": 3.5}.items():
        run = untrained_run(text, out.path, size=size, loss=loss)
    write_tables(out, final=True)
    assert llmscale("fit", str(out.path), "--law", "power", "--bootstrap", "100").exit_code == 0
    assert llmscale("export", str(out.path), str(tmp_path / "model")).exit_code == 0
    card = (tmp_path / "model" / "README.md").read_text()
    for said in (run.name, "3.5000", "`power`, L = A/N^alpha", "4 runs", text.name):
        assert said in card


def test_an_imported_model_of_unknown_tokens_is_listed_and_used_as_that(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    export(trained["llama"], tmp_path / "model")
    import_model(tmp_path / "model", tmp_path / "back")
    card = model_card(open_model(tmp_path / "back"), "mine")
    assert "imported from" in card
    assert "did not train it: on how many tokens it was trained is not known" in card
    assert "peak lr" not in card
    (listed,) = models(tmp_path / "back").models
    assert (listed.tokens, listed.loss, listed.kept) == (None, None, "weights")
    (said,) = open_model(tmp_path / "back").remarks
    assert "the largest" in said
    with pytest.raises(InputError, match="was imported, so there is no text of its own"):
        evaluate(tmp_path / "back")
    assert " stopped" not in llmscale("models", str(tmp_path / "back")).stdout


def test_a_folder_without_weights_is_said_to_be_that(tmp_path: Path) -> None:
    committed = Path(__file__).parents[3] / "results" / "cpu"
    shutil.copy(committed / "runs.parquet", tmp_path)
    with pytest.raises(InputError, match="has kept its weights"):
        open_model(tmp_path)
    assert "trained anew" in llmscale("models", str(tmp_path)).stdout

"""Hugging Face's folder: config.json, model.safetensors, tokenizer.json, as `transformers` loads it
(`AutoModelForCausalLM.from_pretrained`)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmscale.errors import InputError, listed
from llmscale.measure.text.tokenizer import load_tokenizer, vocab_size
from llmscale.measure.train.kept_weights import read_tensors
from llmscale.measure.trained.exchange.formats import Imported, _gpt2, _llama
from llmscale.measure.trained.exchange.formats._settings import Wanted, refuse
from llmscale.measure.trained.model import TrainedModel
from llmscale.runs.checked import DamagedFile, read_object

_KINDS: Mapping[str, Any] = {"llama": _llama, "gpt2": _gpt2}
"""How each architecture's weights and settings are written there; the names are ours and theirs."""
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_CONFIG, _INDEX, _WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
_WHOLE = "name the folder of a whole model"


def files(trained: TrainedModel, dtype: str) -> dict[str, bytes]:
    """The files of the model with weights in `dtype`: what multiplies logits, scores and residuals
    under `mup` goes into the weights. Raises InputError for an architecture not known there."""
    from safetensors.torch import save

    kind = _kind_of(trained)
    weights = {name: weight.detach().cpu() for name, weight in trained.model.state_dict().items()}
    renamed = kind.to_hf(weights, trained.shape, trained.model.parametrization)
    narrow = {name: weight.to(getattr(torch, dtype)) for name, weight in renamed.items()}
    end = trained.end_of_text
    config = {
        **kind.config(trained.shape),
        "vocab_size": trained.shape.vocab_size,
        "tie_word_embeddings": False,
        "bos_token_id": end,
        "eos_token_id": end,
        "torch_dtype": dtype,
    }
    token = str(trained.tokenizer.id_to_token(end))
    return {
        _CONFIG: _json(config),
        _WEIGHTS: save({name: one.contiguous() for name, one in narrow.items()}, {"format": "pt"}),
        "generation_config.json": _json({"bos_token_id": end, "eos_token_id": end}),
        "tokenizer.json": trained.tokenizer_file.read_bytes(),
        "tokenizer_config.json": _json(_tokenizer_config(token, trained.context)),
        "special_tokens_map.json": _json({"bos_token": token, "eos_token": token}),
    }


def read(folder: Path) -> Imported:
    """The Llama or GPT-2 in a folder. Raises InputError for what is missing, and for a model that
    computes anything that ours does not."""
    config = _object(folder / _CONFIG)
    kind = _KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise InputError(
            f"{folder} holds a model of type {config.get('model_type')!r}",
            f"name one of type {' or '.join(_KINDS)}",
        )
    refuse(config, [Wanted("quantization_config", None)], folder / _CONFIG)
    shape, remarks = kind.shape_of(config, folder / _CONFIG)
    tokenizer = folder / "tokenizer.json"
    known = vocab_size(load_tokenizer(tokenizer))
    if known > shape.vocab_size:
        raise InputError(
            f"{tokenizer} has {known:,} tokens, and the model's vocabulary {shape.vocab_size:,}",
            "put the model's own tokenizer.json there",
        )
    found = _with_prefix(_all_weights(folder), kind.EMBEDDING)
    if "lm_head.weight" not in found and config.get("tie_word_embeddings", kind.TIED):
        embedding = found.get(kind.EMBEDDING)
        if embedding is not None:
            found["lm_head.weight"] = embedding.clone()
            remarks = (*remarks, "its output projection is the embedding: here they are two")
    elif config.get("tie_word_embeddings", kind.TIED):
        _check_tied(folder, found, kind.EMBEDDING)
    named = _Named(folder, found)
    weights = kind.from_hf(named, shape, config)
    if unused := sorted(found.keys() - named.used - set(map(str, kind.unused(shape)))):
        raise InputError(
            f"{folder} has weights that its config.json says nothing of: {listed(unused, 3)}",
            "name a model whose config.json is its own",
        )
    return Imported(shape, weights, tokenizer, folder.resolve().name, remarks)


class _Named(dict[str, Tensor]):
    """Weights by name, of which those that were asked for are known; one that is missing is a
    mistake in the folder."""

    def __init__(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        super().__init__(weights)
        self._folder = folder
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.used.add(name)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Tensor:
        raise InputError(f"{self._folder} has no weight {name}", _WHOLE)


def _with_prefix(weights: dict[str, Tensor], embedding: str) -> dict[str, Tensor]:
    """Weights of a model that was saved without its output, as the first GPT-2s are: there names
    lack what comes before the embedding's."""
    prefix, _, rest = embedding.partition(".")
    if embedding in weights or rest not in weights:
        return weights
    return {
        name if name.startswith("lm_head.") else f"{prefix}.{name}": weight
        for name, weight in weights.items()
    }


def _check_tied(folder: Path, weights: Mapping[str, Tensor], embedding: str) -> None:
    """Raise InputError if the output projection, which the config says is the embedding, is not."""
    one, other = weights["lm_head.weight"], weights.get(embedding)
    if other is None or not torch.equal(one, other):
        raise InputError(
            f"{folder} ties its output projection to the embedding, and has another one",
            "set tie_word_embeddings to false in its config.json, or leave lm_head.weight out",
        )


def _kind_of(trained: TrainedModel) -> Any:
    arch = trained.shape.arch.partition(":")[0]
    if arch not in _KINDS:
        raise InputError(
            f"a model of architecture {arch} has no equal in transformers",
            f"export one of {' or '.join(_KINDS)}",
        )
    return _KINDS[arch]


def _tokenizer_config(token: str, context: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token,
        "eos_token": token,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }


def _all_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of one file, or of several that an index names."""
    index = folder / _INDEX
    names = [_WEIGHTS]
    if index.exists():
        places = _object(index).get("weight_map")
        if not isinstance(places, dict):
            raise InputError(f"{index} names no files", _WHOLE)
        names = sorted({Path(str(name)).name for name in places.values()})
    found: dict[str, Tensor] = {}
    for name in names:
        try:
            found |= read_tensors(folder / name)[0]
        except FileNotFoundError:
            there = listed(sorted(path.name for path in folder.glob("*.bin")))
            other = f"; {there} are pickles, which are not read" if there else ""
            raise InputError(
                f"{folder} has no {name}{other}", "save the model as safetensors"
            ) from None
        except InputError as error:
            raise InputError(error.problem, _WHOLE) from error
    for name, weight in found.items():
        if weight.dtype not in _FLOATS:
            raise InputError(
                f"{name} in {folder} is of type {str(weight.dtype).removeprefix('torch.')}",
                "name a model whose weights are float32, bfloat16 or float16",
            )
    return {name: weight.float() for name, weight in found.items()}


def _object(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except FileNotFoundError:
        raise InputError(f"there is no {path}", _WHOLE) from None
    except DamagedFile as error:
        raise InputError(error.problem, _WHOLE) from error


def _json(payload: Mapping[str, Any]) -> bytes:
    return (json.dumps(payload, indent=2) + "\n").encode()

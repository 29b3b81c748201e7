"""How the runs of a fit were trained, as the checklist asks it."""

import numpy as np
import pandas as pd

from llmscale.explain.diagnostics._checklist_sheet import Items, Sheet, text_of
from llmscale.explain.diagnostics.evidence import counted, known
from llmscale.explain.estimation.levels import count_levels, words
from llmscale.quantity import format_count


def training_setup(sheet: Sheet) -> Items:
    frame = sheet.frame
    shape = [
        f"{name} = {sheet.values(name)}"
        for name in ("n_layer", "d_model", "n_head", "d_ff")
        if name in frame
    ]
    precision = filter(None, (sheet.values("dtype"), sheet.values("device")))
    return [
        ("Number of models", _models(sheet)),
        ("Sizes", _levels(frame, "params")),
        ("Tokens for each", _levels(frame, "tokens")),
        (
            "Data",
            sheet.values("data", "dataset", "corpus") or text_of(sheet.setting("data", "source")),
        ),
        ("Repeated data", _repeated(frame)),
        ("How N is counted", _count(sheet)),
        ("How compute is counted", _compute(frame)),
        ("Tokenizer", _tokenizer(sheet)),
        ("Architecture", sheet.values("arch", "architecture")),
        ("Depth and width, and how they grow", "; ".join(shape) or None),
        ("Context", sheet.values("context", "context_length", "seq_len")),
        ("Optimizer", _optimizer(sheet)),
        ("Learning rate", sheet.values("lr")),
        ("Learning-rate schedule", sheet.values("schedule")),
        ("Batch", sheet.values("batch_tokens", "batch_size", "batch_sequences")),
        ("Hyperparameters that change with size", _changing(frame)),
        ("Search behind the hyperparameters", _search(frame)),
        ("Precision and hardware", ", ".join(precision) or None),
        ("Training code", _code(sheet)),
    ]


def _models(sheet: Sheet) -> str:
    text = str(sheet.frame["run_id"].nunique())
    if "seed" in sheet.frame and (seeds := sheet.frame["seed"].nunique()) > 1:
        text += f", with {seeds} different seeds"
    return text


def _levels(frame: pd.DataFrame, name: str) -> str | None:
    if not known(frame, name):
        return None
    values = frame[name].to_numpy(dtype=float)
    number = count_levels(values)
    text = f"{number} {words(name, number)}"
    if number == 1:
        text += f", {format_count(values[0])}"
    else:
        text += f" from {format_count(values.min())} to {format_count(values.max())}"
    if name == "tokens" and known(frame, "params"):
        ratio = values / frame["params"].to_numpy(dtype=float)
        text += f", {ratio.min():.3g} to {ratio.max():.3g} tokens a parameter"
    return text


def _repeated(frame: pd.DataFrame) -> str | None:
    if known(frame, "unique_tokens") and known(frame, "tokens"):
        epochs = (frame["tokens"] / frame["unique_tokens"]).to_numpy(dtype=float)
    elif known(frame, "epochs"):
        epochs = frame["epochs"].to_numpy(dtype=float)
    else:
        return None
    repeated = int((epochs > 1).sum())
    if not repeated:
        return "none"
    return f"in {repeated} of {counted(len(frame), 'run')}, up to {epochs.max():.3g} epochs"


def _count(sheet: Sheet) -> str | None:
    meaning = {
        "params": "blocks and output layer, without input embeddings",
        "params_non_embedding": "blocks, without embeddings and output layer",
        "params_total": "every stored weight",
    }
    count = sheet.fit.table.count
    # A foreign table's `params` may count anything; our own sweeps say what it is by the counts
    # beside it.
    ours = known(sheet.frame, "params_non_embedding") and known(sheet.frame, "params_total")
    if count == "params" and not ours:
        return None
    return f"{count}: {meaning[count]}"


def _compute(frame: pd.DataFrame) -> str | None:
    if not all(known(frame, name) for name in ("params", "tokens", "flops")):
        return None
    ratio = (frame["flops"] / (6.0 * frame["params"] * frame["tokens"])).to_numpy(dtype=float)
    if np.abs(ratio - 1).max() < 1e-3:
        return "C = 6ND"
    return f"the table's own FLOPs, {ratio.min():.3g} to {ratio.max():.3g} times 6ND"


def _tokenizer(sheet: Sheet) -> str | None:
    """The one that was used: of a table, or of a sweep, which chooses one by the text if none was
    asked for."""
    used = sheet.setting("data", "meta", "tokenizer", "name") or sheet.setting(
        "spec", "data", "tokenizer"
    )
    return sheet.values("tokenizer") or text_of(used)


def _optimizer(sheet: Sheet) -> str | None:
    optimizer = sheet.values("optimizer")
    if not optimizer:
        return None
    stated = sheet.values("wd", "weight_decay")
    decay = stated or text_of(sheet.setting("spec", "recipe", "weight_decay"))
    if not decay:
        return optimizer
    return f"{optimizer}, weight decay {decay}"


def _changing(frame: pd.DataFrame) -> str | None:
    """Which settings differ between sizes."""
    names = (
        "lr",
        "batch_tokens",
        "batch_size",
        "batch_sequences",
        "wd",
        "weight_decay",
        "warmup",
        "schedule",
    )
    there = [name for name in names if name in frame and frame[name].notna().any()]
    if not there or not known(frame, "params"):
        return None
    changing = [name for name in there if frame.groupby("params")[name].first().nunique() > 1]
    same = [name for name in there if name not in changing]
    text = "none"
    if changing:
        text = f"{', '.join(changing)} change"
    if same:
        text += f"; {', '.join(same)} the same"
    return text


def _search(frame: pd.DataFrame) -> str | None:
    """How many learning rates a size saw."""
    if not (known(frame, "lr") and known(frame, "params")):
        return None
    tried = frame.groupby("params")["lr"].nunique()
    if tried.max() == 1:
        return None
    return f"{tried.min()} to {tried.max()} learning rates a size"


def _code(sheet: Sheet) -> str | None:
    version = sheet.setting("versions", "llmscale")
    if not version:
        return None
    return f"llmscale {version}: {sheet.setting('command') or 'llmscale sweep'}"

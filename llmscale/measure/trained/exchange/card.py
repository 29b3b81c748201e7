"""The model card of an export: what the model is, what it was trained on, and how well it does."""

from collections.abc import Iterable
from typing import Any

from llmscale.errors.printable import one_line
from llmscale.measure.trained.model import TrainedModel
from llmscale.quantity import format_count
from llmscale.runs.scores import known_scores


def model_card(trained: TrainedModel, name: str, law: str | None = None) -> str:
    """README.md of an export in Markdown, with the header that hubs read. `law` says where the run
    lies on a scaling law, in words."""
    parts = [
        _HEADER,
        f"# {one_line(name)}",
        _introduction(trained),
        _section("The run", _table(_facts(trained))),
    ]
    scores = known_scores(trained.folder)
    if scores:
        measured = _table((column, f"{value:.6g}") for column, value in sorted(scores.items()))
        parts.append(_section("Measured later", measured))
    if law:
        parts.append(_section("On the scaling law", law))
    if trained.shape.arch.startswith(("llama", "gpt2")):
        parts.append(_section("Use", _USE.replace("PATH", one_line(name))))
    return "\n\n".join(parts) + "\n"


_HEADER = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- scaling-laws
- llmscale
---"""
_USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModelForCausalLM.from_pretrained("PATH")
```

It is a research model of a scaling-law experiment: small, trained on little text, not safe to show
to people without a look at what it says."""


def _introduction(trained: TrainedModel) -> str:
    shape, arch = trained.shape, one_line(trained.shape.arch)
    return (
        f"A decoder-only Transformer ({arch}, {shape.name}: layers x width x heads) with "
        f"{shape.params_total:,} weights, trained from its first weights with "
        "[llmscale](https://pypi.org/project/llmscale) for a scaling-law experiment."
    )


def _facts(trained: TrainedModel) -> list[tuple[str, str]]:
    shape, job, row = trained.shape, trained.spec.job, trained.row
    facts = [
        ("run", trained.run_id),
        ("size", job.size),
        ("N (non-embedding weights and output projection)", f"{shape.params:,}"),
        ("non-embedding weights", f"{shape.params_non_embedding:,}"),
        ("vocabulary", f"{shape.vocab_size:,}"),
        ("context", f"{shape.context:,} tokens"),
    ]
    if row is None or row.status != "stopped":
        facts += [
            ("training tokens D", f"{job.tokens:,} ({job.epochs:.2f} epochs)"),
            ("training compute C", f"{job.flops:.3e} FLOPs"),
            ("optimizer, schedule", f"{job.optimizer}, {job.schedule}, peak lr {job.lr:.3g}"),
            ("batch", f"{format_count(job.batch_tokens)} tokens"),
        ]
    facts += [("text", job.data), ("digest of its tokens", job.data_fingerprint)]
    if trained.step is not None:
        facts.append(("weights", f"of the checkpoint after step {trained.step:,} of {job.steps:,}"))
    if row is not None and row.loss is not None:
        facts += _measured(row)
    return facts


def _measured(row: Any) -> list[tuple[str, str]]:
    error = f" ± {row.loss_stderr:.4f}" if row.loss_stderr is not None else ""
    measured = [("validation loss", f"{row.loss:.4f}{error} nats per token")]
    if row.bits_per_byte is not None:
        measured.append(("bits per byte", f"{row.bits_per_byte:.4f}"))
    return measured


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _cell(text: str) -> str:
    return one_line(text).replace("|", "\\|")

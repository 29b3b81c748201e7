"""The model card of an export: what the model is, what it was trained on, and how well it does."""

import re
from collections.abc import Iterable
from typing import Any

from llmscale.errors import counted
from llmscale.errors.printable import one_line
from llmscale.measure.train.finetuning import FineTuning
from llmscale.measure.train.job import AS_KEPT, Job
from llmscale.measure.trained.exchange.formats import IMPORTED
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
_PROGRAM = "[llmscale](https://pypi.org/project/llmscale)"
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
        f"{shape.params_total:,} weights, {_origin(trained)}."
    )


def _origin(trained: TrainedModel) -> str:
    """What the model comes from."""
    job, row = trained.spec.job, trained.row
    trained_as = _training(job, is_known=row is None or row.status != "stopped")
    if job.rounded is None:
        return trained_as
    how = "rounded"
    if bits := re.match(r"int(\d+)-group(\d+)", job.rounded):
        how = f"rounded to {bits[1]} bits in groups of {bits[2]}"
    elif job.rounded.startswith(AS_KEPT):
        how = "as they are kept, next to runs of fewer bits"
    parent = f"run {row.parent}" if row is not None and row.parent else "a run"
    return f"which are those of {one_line(parent)}, {how}. That run was {trained_as}"


def _training(job: Job, is_known: bool) -> str:
    """What was trained, and how; `is_known` is whether a model that was imported says so."""
    if job.finetuning is not None:
        return _finetuned(job, job.finetuning)
    if job.data.startswith(IMPORTED):
        known = f"said to have been trained on {job.tokens:,} tokens"
        if not is_known:
            known = "on how many tokens it was trained is not known"
        source = one_line(job.data.removeprefix(IMPORTED))
        return f"imported from {source} into {_PROGRAM}, which did not train it: {known}"
    taught = ""
    if job.distillation is not None:
        taught = f"taught by run {one_line(job.distillation.teacher)} (distillation), "
    return f"{taught}trained from its first weights with {_PROGRAM} for a scaling-law experiment"


def _finetuned(job: Job, part: FineTuning) -> str:
    amount = f"{counted(part.examples, 'example')}, {part.task_tokens:,} tokens"
    task = f"the task {one_line(job.data)} ({amount}) with {_PROGRAM}"
    if not part.pretrained:
        return f"trained from its first weights on {task}: the control of a fine-tuning"
    how = "full: all weights"
    if part.low_rank is not None:
        how = f"LoRA: adapters of rank {part.low_rank.rank}, merged"
    tokens = "tokens whose number is not known"
    if part.pretrain_tokens > job.shape.context:  # one sequence stands for what nobody said
        tokens = f"{part.pretrain_tokens:,} tokens"
    parent = f"run {one_line(part.parent or 'unknown')}, itself trained on {tokens},"
    return f"fine-tuned ({how}) from {parent} on {task}"


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
    is_imported = job.data.startswith(IMPORTED) and job.finetuning is None
    if is_imported and row is not None and row.status == "done":
        facts.append(("training tokens D", f"{job.tokens:,}"))
    if not is_imported and (row is None or row.status != "stopped"):
        facts += [
            ("training tokens D", f"{job.tokens:,} ({job.epochs:.2f} epochs)"),
            ("training compute C", f"{job.flops:.3e} FLOPs"),
            ("optimizer, schedule", f"{job.optimizer}, {job.schedule}, peak lr {job.lr:.3g}"),
            ("batch", f"{format_count(job.batch_tokens)} tokens"),
        ]
    text = "task" if job.finetuning else "text"
    facts += [(text, job.data), ("digest of its tokens", job.data_fingerprint)]
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

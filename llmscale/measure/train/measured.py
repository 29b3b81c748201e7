"""What training found out about a run, by column of the table of runs."""

import statistics
from typing import Any

from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.train.curves import Outcome
from llmscale.measure.train.evaluate import bits_per_byte
from llmscale.measure.train.job import Job
from llmscale.measure.train.spikes import largest_spike

LAST_SHARE = 0.05
"""`train_loss` is the mean over this share of the steps, the last ones: one batch is too noisy."""


def measured(
    job: Job, outcome: Outcome, store: TokenStore, peak_flops: float | None
) -> dict[str, Any]:
    """The columns of `job` that training fills; MFU only if the devices' `peak_flops` are known."""
    curve, ending = outcome.curve, (1 - LAST_SHARE) * job.steps
    last = [point.train_loss for point in curve if point.step > ending]
    columns: dict[str, Any] = {
        "train_loss": None,
        "seconds": outcome.seconds,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "error": outcome.error,
        **_speeds(job, outcome, peak_flops),
    }
    if outcome.parent is not None:
        columns["parent"] = outcome.parent
    if last:
        columns["train_loss"] = statistics.fmean(last)
    spike = largest_spike(curve)
    if spike is not None:
        columns |= {"spike_step": spike.step, "spike_height": spike.height}
    evaluation = outcome.evaluation
    if evaluation is not None:
        tokens, utf8_bytes = store.learnt, store.validation_bytes
        columns |= {
            "loss": evaluation.loss,
            "loss_stderr": evaluation.stderr,
            "perplexity": evaluation.perplexity,
            "bits_per_byte": bits_per_byte(evaluation.loss, tokens, utf8_bytes),
        }
    return columns


def measured_scores(job: Job, outcome: Outcome, store: TokenStore) -> dict[str, float]:
    """Of a run on a mixture, the columns of its sources: the share of each, and the loss on its
    part of the validation text with its standard error and bits per byte; of one with a teacher
    the FLOPs of that; and what its architecture measures. Else none."""
    columns = {f"share_{name}": share for name, share in store.shares.items()}
    if job.distillation is not None:
        columns["teacher_flops"] = job.teacher_flops
    columns |= outcome.scores
    parts = outcome.evaluation.parts if outcome.evaluation else {}
    for name, mean in parts.items():
        part = store.validation_parts[name]
        columns[f"loss_{name}"] = mean.loss
        columns[f"loss_stderr_{name}"] = mean.stderr
        columns[f"bits_per_byte_{name}"] = bits_per_byte(mean.loss, part.tokens, part.bytes)
    return columns


def _speeds(job: Job, outcome: Outcome, peak_flops: float | None) -> dict[str, float | None]:
    """Of the run's own steps: the median speed and its MFU, and `wall_mfu`, by all seconds."""
    own = [point for point in outcome.curve if point.step > outcome.parent_step]
    speeds = [point.tokens_per_second for point in own if point.tokens_per_second]
    found: dict[str, float | None] = {"tokens_per_second": None, "mfu": None, "wall_mfu": None}
    if speeds:
        found["tokens_per_second"] = statistics.median(speeds)
    if not peak_flops:
        return found
    flops_per_token = job.flops_per_token
    if speeds:
        found["mfu"] = statistics.median(speeds) * flops_per_token / peak_flops
    trained = 0
    if outcome.curve:
        trained = outcome.curve[-1].tokens - outcome.parent_step * job.batch_tokens
    found["wall_mfu"] = trained * flops_per_token / (outcome.seconds * peak_flops)
    return found

"""The process that trains one run: `python -m llmscale.train.worker results/NAME/runs/RUN_ID`.

It reads `spec.json`, writes `curve.parquet` and then `run.json` into the same folder, and reports each logged step
as one JSON line on standard output. SIGINT and SIGTERM save a checkpoint and end it with exit code 130; so does a
reader that has gone away.
"""

import json
import signal
import statistics
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from llmscale.errors import LlmscaleError
from llmscale.job import Job, run_row
from llmscale.machine import device_name
from llmscale.runs import CurvePoint, Run, rows_table, write_table, write_text
from llmscale.tokens import TokenStore
from llmscale.train.checkpoint import remove_checkpoint
from llmscale.train.evaluate import bits_per_byte
from llmscale.train.loop import Conditions, Outcome, TrainingInterrupted, train

EXIT_INTERRUPTED = 130


def main(folder: Path) -> int:
    """Train the run of `folder`; the exit code is 0 done or diverged, 1 failed, 130 interrupted."""
    spec = json.loads((folder / "spec.json").read_text())
    job, conditions = Job.from_json(spec["job"]), Conditions(**spec["conditions"])
    stopping = False

    def ask_to_stop(*_: Any) -> None:
        nonlocal stopping
        stopping = True

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, ask_to_stop)

    def report(point: CurvePoint) -> None:
        try:
            sys.stdout.write(json.dumps(asdict(point)) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            ask_to_stop()

    torch.set_num_threads(spec["threads"])
    torch.set_float32_matmul_precision("high")
    device = device_name(conditions.device)
    try:
        store = TokenStore.open(Path(spec["store"]))
        outcome = train(job, conditions, store.train(), store.validation(), folder, report, stop=lambda: stopping)
    except TrainingInterrupted:
        return EXIT_INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        message = error.problem if isinstance(error, LlmscaleError) else f"{type(error).__name__}: {error}"
        _write_run(folder, run_row(job, "failed", device, error=message))
        return 1
    write_table(folder / "curve.parquet", rows_table(CurvePoint, outcome.curve))
    _write_run(folder, run_row(job, outcome.status, device, **_measured(job, conditions, store, outcome)))
    remove_checkpoint(folder)
    return 0


def _measured(job: Job, conditions: Conditions, store: TokenStore, outcome: Outcome) -> dict[str, Any]:
    """What training found out, by column of the table of runs."""
    last = [point.train_loss for point in outcome.curve if point.step > 0.95 * job.steps]
    speeds = [point.tokens_per_second for point in outcome.curve if point.tokens_per_second]
    speed = statistics.median(speeds) if speeds else None
    measured = {
        "train_loss": statistics.fmean(last) if last else None,
        "seconds": outcome.seconds,
        "tokens_per_second": speed,
        "mfu": speed * job.shape.flops_per_token / conditions.peak_flops if speed and conditions.peak_flops else None,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "error": outcome.error,
    }
    evaluation = outcome.evaluation
    if evaluation is not None:
        measured["loss"], measured["loss_stderr"] = evaluation.loss, evaluation.stderr
        measured["perplexity"] = evaluation.perplexity
        measured["bits_per_byte"] = bits_per_byte(evaluation.loss, store.validation_tokens, store.validation_bytes)
    return measured


def _write_run(folder: Path, run: Run) -> None:
    write_text(folder / "run.json", json.dumps(asdict(run), indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

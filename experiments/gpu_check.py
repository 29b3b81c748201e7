"""Everything that needs a GPU, in one run: does it train right, how fast, and what law comes out.

    python3 experiments/gpu_check.py --data 'corpus/*.jsonl.xz' --out results/h200

1. Correctness: the same weights and batch on the CPU and on the device, in float32 and bfloat16, eager and compiled;
   a short run interrupted and resumed against one that was not.
2. Throughput: training tokens/s, MFU against the matmul peak measured here, and memory, by size; and of four seeds
   stacked, of the sizes that are small enough.
3. The sweep: sizes on one token budget, its fit with the largest size held out and predicted, and its figures.

Prints a table for each and writes check.json, the tables of runs and the figures into --out. `--device cpu` with small
sizes goes the same way without a GPU. Exit code 1 where a check fails.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from llmscale.job import Job, make_job
from llmscale.machine import available_memory, device_name, pick_device, pick_dtype
from llmscale.models import build_model
from llmscale.ops import build_operations
from llmscale.quantity import format_bytes, format_count
from llmscale.recipe import Recipe
from llmscale.runs import write_text
from llmscale.shape import shape_for
from llmscale.sweep.plan import STACKED_PARAMS, micro_batch
from llmscale.train.calibrate import measure_peak
from llmscale.train.loop import Conditions, TrainingInterrupted, train
from llmscale.train.passes import Passes
from llmscale.train.stacked import train_stack
from llmscale.train.throughput import measure_throughput, sample_tokens

STACKED_SEEDS = 4
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


@dataclass(frozen=True)
class Check:
    """One comparison: the largest difference found, and how much is rounding."""

    name: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.allowed


def main() -> int:
    options = parse()
    device = pick_device(options.device)
    report: dict[str, Any] = {
        "command": " ".join(["experiments/gpu_check.py", *sys.argv[1:]]),
        "device": device_name(device),
        "torch": torch.__version__,
        "peak_flops": {dtype: measure_peak(device, dtype) for dtype in ("float32", "bfloat16")},
    }
    console.print(f"{report['device']}, torch {torch.__version__}, matmul peak {report['peak_flops']} FLOP/s")
    checks = correctness(device)
    report["correctness"] = [asdict(check) | {"passed": check.passed} for check in checks]
    show("Correctness", ("check", "difference", "allowed", ""), [
        (check.name, f"{check.difference:.2e}", f"{check.allowed:.0e}", "ok" if check.passed else "FAILED")
        for check in checks
    ])  # fmt: skip
    report["throughput"] = throughput(device, options, report["peak_flops"])
    try:
        if not options.skip_sweep:
            sweep(device, options)
    finally:  # after the sweep, which wants a folder of its own
        options.out.mkdir(parents=True, exist_ok=True)
        write_text(options.out / "check.json", json.dumps(report, indent=2) + "\n")
    return 0 if all(check.passed for check in checks) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="stdlib", help="text for the sweep, as for llmscale sweep")
    parser.add_argument("--out", type=Path, required=True, help="results folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--sizes", default="1M,3M,10M,30M,100M")
    parser.add_argument("--tokens", default="50M")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--tokenizer", default="bpe:8192")
    parser.add_argument("--timed-sizes", default="1M,10M,100M,300M", help="sizes of the throughput table")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each row of the throughput table")
    parser.add_argument("--skip-sweep", action="store_true")
    return parser.parse_args()


def correctness(device: str) -> list[Check]:
    """The device against the CPU in float32, from the same weights and tokens."""
    shape = shape_for("2x64x4", vocab_size=512, context=64)
    tokens_BT = torch.randint(512, (8, 65), generator=torch.Generator().manual_seed(0))
    inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]

    def loss_and_gradient(place: str, dtype: str, compiled: bool) -> tuple[float, torch.Tensor]:
        model = build_model(shape, ops=build_operations("plain", dtype)).to(place)
        passes = Passes(model, len(inputs_BT), compile=compiled)
        loss = passes.gradient(inputs_BT.to(place), targets_BT.to(place))
        gradient = torch.cat([weight.grad.flatten().cpu() for weight in model.parameters() if weight.grad is not None])
        return loss.item(), gradient

    exact, exact_gradient = loss_and_gradient("cpu", "float32", False)
    checks = []
    for dtype, allowed in (("float32", 1e-4), ("bfloat16", 1e-2)):
        for compiled in (False, True):
            loss, gradient = loss_and_gradient(device, dtype, compiled)
            name = f"{dtype} {'compiled' if compiled else 'eager'}"
            apart = float((gradient - exact_gradient).norm() / exact_gradient.norm())
            checks.append(Check(f"loss, {name}", abs(loss / exact - 1), allowed))
            checks.append(Check(f"gradient, {name}", apart, 20 * allowed))
    return [
        *checks,
        Check("resumed run", resumed_difference(device), 1e-4),
        Check("stacked run", stacked_difference(device), 1e-3),
    ]


def job_for(size: str, tokens: int, context: int, vocab_size: int, dtype: str, text_tokens: int) -> Job:
    shape = shape_for(size, vocab_size=vocab_size, context=context)
    text: dict[str, Any] = {"data": "random", "data_fingerprint": "", "text_tokens": text_tokens}
    return make_job(size, shape, tokens, Recipe(context=context), seed=0, dtype=dtype, validation_tokens=10**9, **text)


def sums_of_steps() -> np.ndarray:
    """Tokens to train on for a moment: running sums of random steps, modulo 64."""
    steps = np.random.default_rng(0).integers(0, 64, 50_000, dtype=np.uint16)
    return steps.cumsum(dtype=np.uint16) % 64


def resumed_difference(device: str) -> float:
    """How far the final loss of an interrupted and resumed run is from an uninterrupted one's."""
    text = sums_of_steps()
    job = job_for("2x64x4", 40_000, 64, 64, "float32", len(text))
    conditions = Conditions(device, micro_batch=4)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        whole = train(job, conditions, text, text[:5_000], Path(first)).evaluation
        try:
            train(job, conditions, text, text[:5_000], Path(second), stop=lambda: True)
        except TrainingInterrupted:
            resumed = train(job, conditions, text, text[:5_000], Path(second)).evaluation
    assert whole is not None
    assert resumed is not None
    return abs(resumed.loss - whole.loss)


def stacked_difference(device: str) -> float:
    """The largest difference of the final losses of two seeds trained as a stack from those trained alone."""
    text = sums_of_steps()
    first = job_for("2x64x4", 40_000, 64, 64, "float32", len(text))
    jobs, conditions = [first, replace(first, seed=1)], Conditions(device, micro_batch=8, ops="plain")
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(job.seed) for job in jobs]
        for folder in folders:
            folder.mkdir()
        alone = [train(job, conditions, text, text[:5_000], Path(name)).evaluation for job in jobs]
        stacked = [outcome.evaluation for outcome in train_stack(jobs, conditions, text, text[:5_000], folders)]
    return max(abs(one.loss - other.loss) for one, other in zip(alone, stacked, strict=True) if one and other)


def throughput(device: str, options: argparse.Namespace, peaks: dict[str, float]) -> list[dict[str, Any]]:
    """Whole training steps for each size, eager, compiled and stacked, for about `--seconds` each."""
    dtype = pick_dtype("auto", device)
    text = sample_tokens(8192, 20_000_000)
    rows = []
    for size in options.timed_sizes.split(","):
        job = job_for(size, 10**9, options.context, 8192, dtype, len(text))
        small = job.shape.params_total <= STACKED_PARAMS
        for compiled, seeds in ((False, 1), (True, 1), *(((True, STACKED_SEEDS),) if small else ())):
            micro = micro_batch(job.shape, job.batch_sequences, device, available_memory(device))
            conditions = Conditions(device, micro, compiled, ops="plain")
            measured = measure_throughput(job, conditions, text, options.seconds, seeds=seeds)
            rows.append(
                {
                    "size": size, "shape": job.shape.name, "params": job.shape.params, "compiled": compiled,
                    "seeds": seeds,
                    "dtype": dtype, "batch_tokens": job.batch_tokens, "micro_batch": micro, **asdict(measured),
                    "mfu": measured.tokens_per_second * job.shape.flops_per_token / peaks[dtype],
                }
            )  # fmt: skip
    show(f"Throughput, context {options.context}, vocabulary 8192, {dtype}",
         ("size", "shape", "compiled", "seeds", "micro-batch", "tokens/s", "MFU", "memory"), [
        (row["size"], row["shape"], "yes" if row["compiled"] else "no", str(row["seeds"]), str(row["micro_batch"]),
         format_count(row["tokens_per_second"]), f"{row['mfu']:.1%}", format_bytes(row["peak_memory_bytes"]))
        for row in rows
    ])  # fmt: skip
    return rows


def sweep(device: str, options: argparse.Namespace) -> None:
    """The ladder through the command line, as a user would run it."""
    ladder = ["--sizes", options.sizes, "--tokens", options.tokens, "--data", options.data]
    ladder += ["--tokenizer", options.tokenizer, "--context", str(options.context), "--device", device]
    for arguments in (
        ["sweep", *ladder, "--out", str(options.out), "--yes"],
        ["fit", str(options.out)],
        ["plot", str(options.out)],
        ["plot", str(options.out), "--kind", "curves"],
    ):
        subprocess.run([sys.executable, "-m", "llmscale", *arguments], check=True)


def show(title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*headings, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())

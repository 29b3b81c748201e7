"""Training speed: our training loop and nanoGPT's own, on the same tokens, shapes, batch and
context.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/train.py --peer nanoGPT --out train.json
    python benchmarks/train.py --peer nanoGPT --ladder --sizes 300k,1M,3M --tokens 20M

Rounds of alternating timings, each in a process of its own: nanoGPT by its defaults for the device
(compiled; float32 on a CPU, bfloat16 on a GPU), nanoGPT with what may be faster, ours. On a CPU
that is fused AdamW, in float32 and, if the CPU multiplies bfloat16, under autocast, which its
train.py has no switch for (training/launch_nanogpt.py); on a GPU a batch four times as large. Its
best is the fastest of these. On a CPU each is timed both as one process on all cores and as several
that share them, since a ladder can be trained either way; tokens/s are those of all processes
together. Without --peer ours is timed alone.

nanoGPT's models have our depth, width and heads; its MLP of 4 d has about as many weights as our
SwiGLU of 8/3 d. Each MFU counts the model's own FLOPs, by the same formula, against large matrix
products of the faster dtype, the best of all rounds. --ladder times whole ladders by wall clock,
and evaluates both sides' final models on the same validation tokens."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training import ladder, nanogpt
from training.nanogpt import Trial
from training.tables import OURS, Measured, console, show_ladders, show_speeds

import llmscale
from llmscale.machine import available_cores, device_name, has_bfloat16, pick_device
from llmscale.measure.train.calibrate import measure_peak
from llmscale.measure.train.dtype import choose_dtype
from llmscale.measure.train.throughput import sample_tokens
from llmscale.quantity import format_seconds
from llmscale.runs.shape import Shape, shape_for

COMMIT = "3adf61e154c3fe3fca428ad6bc3818b27a3b8291"
"""nanoGPT's commit of the figures in README.md."""
DEFAULTS = {
    "cpu": {"sizes": "300k,1M,3M,10M", "context": 256, "vocab_size": 2048},
    "cuda": {"sizes": "1M,10M,100M,300M", "context": 1024, "vocab_size": 50304},
}
LARGER_BATCH = 4


@dataclass(frozen=True)
class Contender:
    """A way to train: whose loop, which dtype and batch, how many processes at a time."""

    name: str
    dtype: str
    batch: int
    at_a_time: int
    time: Callable[[Path], Trial]
    """One of the processes, given the folder of the tokens."""


def main() -> None:
    options = parse()
    device = pick_device(options.device)
    report: dict[str, Any] = {
        "command": " ".join(sys.argv),
        "hardware": {
            "device": device_name(device),
            "cores": available_cores(),
            "machine": platform.machine(),
        },
        "versions": versions(options),
    }
    console.print(f"{report['hardware']}; {report['versions']}")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = (
            cache  # every side compiles once, in the first round
        )
        for found in (time_ladders if options.ladder else time_loops)(device, options):
            report |= found
            if options.out:
                options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, help=f"a checkout of nanoGPT ({COMMIT[:7]})")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--sizes", help="depth, width and heads are taken of these; default by device"
    )
    parser.add_argument("--context", type=int)
    parser.add_argument("--vocab-size", type=int)
    parser.add_argument("--batch", type=int, default=16, help="sequences a step")
    parser.add_argument("--arch", default="llama", help="of ours: llama or gpt2")
    parser.add_argument("--dtypes", default="auto", help="of ours, as float32,bfloat16")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="of ours; default on a GPU alone"
    )
    parser.add_argument(
        "--at-a-time", help="numbers of processes that share the cores; default 1 and one a core"
    )
    parser.add_argument(
        "--rounds", type=int, help="default 3, or 1 without a peer or with --ladder"
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of each timing, after the first step"
    )
    parser.add_argument("--ladder", action="store_true", help="whole ladders in place of steps")
    parser.add_argument("--tokens", default="20M", help="of each run of a ladder")
    parser.add_argument("--data", default="stdlib", help="text of a ladder, as for llmscale sweep")
    parser.add_argument(
        "--peer-lr-scale",
        type=float,
        default=1.0,
        help="factor on nanoGPT's learning rate in a ladder",
    )
    parser.add_argument("--out", type=Path, help="write everything to this JSON file, too")
    options = parser.parse_args()
    for name, value in DEFAULTS[pick_device(options.device)].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.peer and not (options.peer / "train.py").exists():
        parser.error(
            f"{options.peer} holds no train.py: git clone https://github.com/karpathy/nanoGPT"
        )
    options.peer = options.peer and options.peer.resolve()
    options.rounds = options.rounds or (3 if options.peer and not options.ladder else 1)
    return options


def time_loops(device: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rounds over all contenders, size by size, and a table of each."""
    peaks = {"float32": 0.0}
    if has_bfloat16(device):
        peaks["bfloat16"] = 0.0
    measured: list[Measured] = []
    shapes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        tokens = sample_tokens(options.vocab_size)
        nanogpt.write_data(Path(folder), tokens, tokens[: 10 * options.context], options.vocab_size)
        for size in options.sizes.split(","):
            shape = plain_shape(size, options)
            contenders = list_contenders(shape, device, options)
            trials: list[list[list[Trial]]] = [[] for _ in contenders]
            for number in range(options.rounds):
                peaks = {
                    dtype: max(peak, measure_peak(device, dtype, available_cores()))
                    for dtype, peak in peaks.items()
                }
                for contender, rounds in zip(contenders, trials, strict=True):
                    note(f"{size}, round {number + 1} of {options.rounds}: {describe(contender)}")
                    with ThreadPoolExecutor(contender.at_a_time) as pool:
                        rounds.append(
                            list(pool.map(contender.time, [Path(folder)] * contender.at_a_time))
                        )
            rows = [summarise(size, shape, *each) for each in zip(contenders, trials, strict=True)]
            show_speeds(size, shape, rows, peaks)
            measured += rows
            shapes[size] = asdict(shape) | {
                "params": shape.params,
                "params_nanogpt": nanogpt.params(shape),
            }
            found = [asdict(row) | {"median": row.speed, "mfu": row.mfu(peaks)} for row in measured]
            yield {"peak_flops": peaks, "batch": options.batch, "shapes": shapes, "measured": found}


def plain_shape(size: str, options: argparse.Namespace) -> Shape:
    """Our shape of `size` with the usual d_ff for its width, which nanoGPT's 4 d weighs as much
    as.
    """
    sizes = {"vocab_size": options.vocab_size, "context": options.context, "arch": options.arch}
    return shape_for(shape_for(size, **sizes).name, **sizes)


def list_contenders(shape: Shape, device: str, options: argparse.Namespace) -> list[Contender]:
    """nanoGPT's settings and ours, each with every number of processes."""
    batches = [options.batch] if device == "cpu" else [options.batch, LARGER_BATCH * options.batch]
    if device == "cuda":
        peers = [("nanoGPT", "none", "bfloat16", batch) for batch in batches]
    else:
        peers = [(name, changes, dtype, options.batch) for name, changes, dtype in peer_settings()]
    found = []
    for at_a_time in processes(device, options):
        threads = max(1, available_cores() // at_a_time)
        for name, changes, dtype, batch in peers if options.peer else []:
            timing = partial(
                time_peer, options.peer, changes, shape, batch, device, threads, options.seconds
            )
            found.append(Contender(name, dtype, batch, at_a_time, timing))
        chosen = (
            choose_dtype(asked, device, [shape], "these products")
            for asked in options.dtypes.split(",")
        )
        for dtype in dict.fromkeys(choice.dtype for choice in chosen):
            for batch in batches:
                timing = partial(time_ours, shape, batch, dtype, device, threads, options)
                found.append(Contender(OURS, dtype, batch, at_a_time, timing))
    return found


def peer_settings() -> list[tuple[str, str, str]]:
    """nanoGPT on a CPU: name, changes to its train.py, and dtype, of which the fastest is its best
    there.
    """
    found = [("nanoGPT, defaults", "none", "float32"), ("nanoGPT, fused", "fused", "float32")]
    if has_bfloat16("cpu"):
        found.append(("nanoGPT, bfloat16, fused", "bfloat16,fused", "bfloat16"))
    return found


def processes(device: str, options: argparse.Namespace) -> list[int]:
    """How many processes to time at a time: one, and as many as a ladder of these sizes would
    run.
    """
    if options.at_a_time:
        return [int(number) for number in options.at_a_time.split(",")]
    most = 1 if device == "cuda" else min(available_cores(), len(options.sizes.split(",")))
    return [1] if most == 1 else [1, most]


def time_peer(
    checkout: Path,
    changes: str,
    shape: Shape,
    batch: int,
    device: str,
    threads: int,
    seconds: float,
    data: Path,
) -> Trial:
    return nanogpt.time_steps(checkout, changes, shape, batch, device, data, threads, seconds)


def time_ours(
    shape: Shape,
    batch: int,
    dtype: str,
    device: str,
    threads: int,
    options: argparse.Namespace,
    data: Path,
) -> Trial:
    """Our loop in a process of its own, from the start of which the first step is counted."""
    asked = {
        "shape": asdict(shape),
        "batch": batch,
        "dtype": dtype,
        "device": device,
        "threads": threads,
        "compile": device == "cuda" if options.compile is None else options.compile,
        "tokens": str(data / "train.bin"),
        "seconds": options.seconds,
    }
    script = Path(__file__).parent / "training" / "time_ours.py"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    started = time.time()
    command = [sys.executable, str(script), json.dumps(asked)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    to_first_step = found["began"] - started + found["first_step_seconds"]
    return Trial(found["tokens_per_second"], to_first_step, found["peak_memory_bytes"])


def summarise(
    size: str, shape: Shape, contender: Contender, rounds: Sequence[Sequence[Trial]]
) -> Measured:
    return Measured(
        size,
        contender.name,
        contender.dtype,
        contender.batch,
        contender.at_a_time,
        tuple(sum(trial.tokens_per_second for trial in trials) for trials in rounds),
        tuple(max(trial.first_step_seconds for trial in trials) for trials in rounds),
        max(sum(trial.peak_memory_bytes for trial in trials) for trials in rounds),
        shape.flops_per_token if contender.name == OURS else nanogpt.flops_per_token(shape),
    )


def time_ladders(device: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rounds of whole ladders; their times, final losses, and when ours reached nanoGPT's."""
    sizes = [plain_shape(size, options).name for size in options.sizes.split(",")]
    spec, store, jobs = ladder.plan(sizes, options, device)
    ways: list[Callable[[], ladder.Ladder]] = []
    settings = (
        [(name, changes) for name, changes, _ in peer_settings()]
        if device == "cpu"
        else [("nanoGPT", "none")]
    )
    theirs = [replace(job, lr=options.peer_lr_scale * job.lr) for job in jobs]
    for name, changes in settings if options.peer else []:
        for at_a_time in processes(device, options):
            arguments = (
                options.peer,
                changes,
                name,
                theirs,
                store,
                device,
                at_a_time,
                available_cores(),
            )
            ways.append(partial(ladder.time_nanogpt, *arguments))
    ways.append(partial(ladder.time_ours, spec))
    rounds: list[list[ladder.Ladder]] = [[] for _ in ways]
    for number in range(options.rounds):
        for place, (time_one, passes) in enumerate(zip(ways, rounds, strict=True)):
            note(f"ladder, round {number + 1} of {options.rounds}, way {place + 1} of {len(ways)}")
            passes.append(time_one())
            note(
                f"{passes[-1].name}, {passes[-1].at_a_time} at a time: "
                f"{format_seconds(passes[-1].seconds)}"
            )
            yield {
                "jobs": [job.to_json() for job in jobs],
                "peer_lr_scale": options.peer_lr_scale,
                "ladders": [[asdict(one) for one in way] for way in rounds],
            }
    show_ladders(
        rounds, sizes, f"{options.tokens} tokens each of {options.data}, context {options.context}"
    )


def versions(options: argparse.Namespace) -> dict[str, str]:
    found = {
        "llmscale": llmscale.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    found["numpy"] = np.__version__
    if options.peer:
        asked = ["git", "-C", str(options.peer), "rev-parse", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        found["nanoGPT"] = commit or "not a git checkout"
    return found


def describe(contender: Contender) -> str:
    return (
        f"{contender.name}, {contender.dtype}, batch {contender.batch}, {contender.at_a_time} at "
        "a time"
    )


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

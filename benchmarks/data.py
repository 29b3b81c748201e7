"""What the way from text to a training step costs: reading batches, tokenizing against
datasets.map, and memory.

    python benchmarks/data.py [reads] [tokenizing] [memory] [--text FILE.jsonl] [--full]

Tokenizing and memory are measured in processes of their own, on one core and on all that this
process may use (see taskset). Files go to the folder for temporary files (TMPDIR), at most 6 GB at
once, or 14 GB with --full, and go again."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmscale.measure.text.prepare import TokenStore
from llmscale.measure.text.sources import open_source
from llmscale.measure.text.tokenizer import train_bpe
from llmscale.measure.train.batches import Batches
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.throughput import as_in_training, measure_throughput, throughput_job
from llmscale.runs.shape import shape_for

CONTEXT, SEQUENCES, SIZE, VOCABULARY = 256, 16, "1M", 4096
STORES = (10**8, 3 * 10**9)
"""Tokens, of two bytes each."""
COLD_READS, WARM_READS = 200, 5000
STEP_SECONDS = 5.0
ROUNDS = 5
CORPORA, LARGEST_CORPUS = (10**8, 10**9), 10**10
"""Bytes of text."""
MEASURED = """
import json, os, sys, time
from pathlib import Path
source, tokenizer, folder, cores = sys.argv[1:]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(cores):])
def result():
    cpu = os.times()
    with open("/proc/self/status", encoding="utf-8") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    seconds = time.perf_counter() - start
    print(json.dumps(dict(seconds=seconds, cpu=sum(cpu[:4]) - cpu_before, peak_mb=peak / 1024)))
def begin():
    global start, cpu_before
    start, cpu_before = time.perf_counter(), sum(os.times()[:4])
"""
OURS = (
    MEASURED
    + """
from llmscale.measure.text.prepare import TextSpec, prepare
begin()
prepare(TextSpec(source, tokenizer=tokenizer), cache=Path(folder))
result()
"""
)
THEIRS = (
    MEASURED
    + """
# map has processes of its own
os.environ["TOKENIZERS_PARALLELISM"] = "true" if cores == "1" else "false"
import datasets
from tokenizers import Tokenizer
datasets.disable_progress_bars()
tokenizer = Tokenizer.from_file(tokenizer)
def encode(rows):
    return {"ids": [encoding.ids for encoding in tokenizer.encode_batch_fast(rows["text"])]}
rows = datasets.load_dataset("json", data_files=source, split="train", cache_dir=folder)
begin()
processes = int(cores) if cores != "1" else None
rows.map(encode, batched=True, num_proc=processes, remove_columns=rows.column_names)
result()
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"reads": measure_reads, "tokenizing": compare_tokenizing, "memory": measure_memory}
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(parts)}; default: all")
    parser.add_argument(
        "--text", type=Path, help="JSON lines to tokenize; default: this Python's standard library"
    )
    parser.add_argument("--full", action="store_true", help="measure memory up to 10 GB of text")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(parts):
        parser.error(f"no part is named {', '.join(unknown)}; choose from {', '.join(parts)}")
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"{os.uname().machine}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.parts or parts:
            parts[name](Path(folder), asked)


def measure_reads(folder: Path, asked: argparse.Namespace) -> None:
    """Time of one batch, and its share of a training step on one core, for stores of growing
    size.
    """
    block = np.random.default_rng(0).integers(0, VOCABULARY, 50_000_000, dtype=np.uint16)
    job = throughput_job(
        shape_for(SIZE, vocab_size=VOCABULARY, context=CONTEXT), SEQUENCES, "float32"
    )
    with as_in_training(threads=1):
        speed = measure_throughput(
            job, Conditions("cpu", SEQUENCES), block, STEP_SECONDS
        ).tokens_per_second
        step = SEQUENCES * CONTEXT / speed
        print(
            f"a step of {SEQUENCES} x {CONTEXT} tokens at {SIZE} parameters on one core: "
            f"{step * 1e3:.1f} ms"
        )
        for tokens in STORES:
            path = folder / "train.bin"
            with path.open("wb") as file:
                for _ in range(tokens // len(block)):
                    file.write(block.tobytes())
                file.flush()
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            store = TokenStore(folder, {"dtype": "uint16", "train": {"tokens": tokens}})
            batches = Batches(store.train(), CONTEXT, seed=0)
            order = _timed(batches, range(1))[0]
            cold = _timed(batches, range(1, COLD_READS))
            warm = _timed(batches, [*range(COLD_READS)] * (WARM_READS // COLD_READS))
            parts = {"cold": statistics.mean(cold), "warm": statistics.median(warm)}
            shares = ", ".join(
                f"{name} {t * 1e6:.0f} us ({t / step:.3%} of a step)" for name, t in parts.items()
            )
            print(
                f"store of {tokens:.0e} tokens: {shares}; the first, with the order of the epoch, "
                f"{order * 1e3:.0f} ms"
            )
            path.unlink()


def _timed(batches: Batches, numbers: Any) -> list[float]:
    seconds = []
    for number in numbers:
        start = time.perf_counter()
        batches.read(number * SEQUENCES, SEQUENCES)
        seconds.append(time.perf_counter() - start)
    return seconds


def compare_tokenizing(folder: Path, asked: argparse.Namespace) -> None:
    """MB of text a second of llmscale.measure.text.prepare.prepare and datasets.map with one
    tokenizer, files written and all.
    """
    text = asked.text or folder / "stdlib.jsonl"
    if asked.text is None:
        _write_json_lines(text, _standard_library())
    megabytes = (
        sum(len(json.loads(line)["text"].encode()) for line in text.open(encoding="utf-8")) / 1e6
    )
    tokenizer = _tokenizer(folder)
    for cores in sorted({1, len(os.sched_getaffinity(0))}):
        runs: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}
        for _ in range(ROUNDS):
            for code, results in runs.items():
                results.append(_run(code, text, tokenizer, folder / "made", cores))
        for unit in ("seconds", "cpu"):
            ours, theirs = (
                statistics.median(result[unit] for result in results) for results in runs.values()
            )
            ratios = [b[unit] / a[unit] for a, b in zip(*runs.values(), strict=True)]
            per = {"seconds": "second", "cpu": "CPU second"}[unit]
            print(
                f"{megabytes:.0f} MB on {cores} core{'s' * (cores > 1)}, MB per {per}: prepare "
                f"{megabytes / ours:.2f}, datasets.map {megabytes / theirs:.2f}, ratio "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, "
                f"{ROUNDS} rounds)"
            )


def measure_memory(folder: Path, asked: argparse.Namespace) -> None:
    """The most memory that preparing takes, as the text grows."""
    tokenizer = _tokenizer(folder)
    for size in (*CORPORA, LARGEST_CORPUS) if asked.full else CORPORA:
        text = folder / "generated.jsonl"
        _write_json_lines(text, _generated(size))
        result = _run(OURS, text, tokenizer, folder / "made", cores=1)
        speed = size / 1e6 / result["cpu"]
        print(
            f"{size / 1e6:,.0f} MB of text: {result['peak_mb']:.0f} MB at most, {speed:.1f} MB "
            "per CPU second"
        )
        text.unlink()


def _run(code: str, text: Path, tokenizer: Path, made: Path, cores: int) -> dict[str, float]:
    command = [sys.executable, "-c", code, str(text), str(tokenizer), str(made), str(cores)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(made)
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def _tokenizer(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if not path.exists():
        train_bpe(islice(_standard_library(), 500), VOCABULARY).save(str(path))
    return path


def _standard_library() -> Iterator[str]:
    source = open_source("stdlib")
    for shard in range(len(source.shards)):
        yield from source.documents(shard)


def _generated(size: int) -> Iterator[str]:
    """Documents of about 2 kB, none equal, of 200,000 words as frequent as words are (Zipf
    1949).
    """
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, word)) for word in rng.integers(97, 123, (200_000, 6)).tolist()]
    chosen = np.minimum(rng.zipf(1.2, 2_000_000), len(words)) - 1
    text = " ".join(map(words.__getitem__, chosen.tolist()))
    written = number = 0
    while written < size:
        start = int(rng.integers(len(text) - 2000))
        document = f"{number} {text[start : start + 2000]}"
        yield document
        written += len(document)
        number += 1


def _write_json_lines(path: Path, documents: Iterator[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": document}) + "\n" for document in documents)


if __name__ == "__main__":
    main()

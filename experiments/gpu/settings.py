"""What experiments/gpu_check.py is asked to do: options, with defaults that suit a GPU, or a CPU
for trying it out.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULTS: dict[str, dict[str, Any]] = {
    "cuda": {
        "sizes": "1M,3M,10M,30M,100M",
        "tokens": "20M",
        "context": 512,
        "tokenizer": "bpe:8192",
        "data": "stdlib",
        "timed_sizes": "100M,10M,300M,1M",
        "timed_context": 1024,
        "timed_vocab_size": 50304,
        "batches": "16,64",
        "long": "100M:50M",
        "seeds": 4,
        "seconds": 4.0,
        "compile": True,
    },
    "cpu": {
        "sizes": "1x16x1,2x16x1,2x24x1,2x32x2",
        "tokens": "12k",
        "context": 32,
        "tokenizer": "bpe:300",
        "data": "counting",
        "timed_sizes": "2x32x2",
        "timed_context": 64,
        "timed_vocab_size": 512,
        "batches": "4",
        "long": "2x32x2:200k",
        "seeds": 2,
        "seconds": 0.3,
        "compile": False,
    },
}


@dataclass(frozen=True)
class Settings:
    """All that the list of steps follows from."""

    device: str
    dtype: str
    out: Path
    peer: Path | None
    """A checkout of nanoGPT."""
    data: str
    """Text of the sweep, as for llmscale sweep; `counting` is a small one that is made here."""
    sizes: str
    tokens: str
    context: int
    tokenizer: str
    long: tuple[str, str]
    """Size and tokens of one longer run."""
    timed_sizes: tuple[str, ...]
    timed_context: int
    timed_vocab_size: int
    batches: tuple[int, ...]
    """Sequences a step of the timed rows, the most important first."""
    seeds: int
    """Of the stack that is timed."""
    seconds: float
    """Of each timed row, after its first step."""
    compile: bool

    @property
    def work(self) -> Path:
        """Where logs, caches and the sweep under way lie; nobody needs them afterwards."""
        return self.out / "work"

    @property
    def sweep(self) -> Path:
        """The results folder of the sweep, which wants one of its own until its tables are
        copied.
        """
        return self.work / "sweep"

    @property
    def vocab_size(self) -> int:
        """Entries that the sweep's tokenizer is asked to have."""
        return int(self.tokenizer.partition(":")[2])


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that have defaults by device."""
    parser.add_argument(
        "--data", help="text of the sweep, as for llmscale sweep; on a CPU `counting`, made here"
    )
    parser.add_argument("--sizes", help="of the sweep")
    parser.add_argument("--tokens", help="of each run of the sweep")
    parser.add_argument("--context", type=int, help="of the sweep")
    parser.add_argument("--tokenizer", help="of the sweep, as bpe:8192")
    parser.add_argument(
        "--long", metavar="SIZE:TOKENS", help="one longer run, if there is time for it"
    )
    parser.add_argument("--timed-sizes", help="of the table of speeds, the most important first")
    parser.add_argument("--timed-context", type=int)
    parser.add_argument("--timed-vocab-size", type=int)
    parser.add_argument("--batches", help="sequences a step of the table of speeds, as 16,64")
    parser.add_argument("--seeds", type=int, help="of the stack that is timed")
    parser.add_argument("--seconds", type=float, help="of each timed row, after its first step")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="default on a GPU only"
    )


def settings_for(device: str, dtype: str, options: argparse.Namespace) -> Settings:
    """`options`, with what was left out by `device`. Raises ValueError."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    chosen = {**DEFAULTS[device], **given}
    size, _, tokens = chosen["long"].partition(":")
    if not chosen["tokenizer"].startswith("bpe:"):
        raise ValueError(
            f"--tokenizer is {chosen['tokenizer']!r}: name one by its size, as bpe:8192"
        )
    return Settings(
        device=device,
        dtype=dtype,
        out=chosen["out"].resolve(),
        peer=chosen["peer"].resolve() if "peer" in chosen else None,
        data=chosen["data"],
        sizes=chosen["sizes"],
        tokens=chosen["tokens"],
        context=chosen["context"],
        tokenizer=chosen["tokenizer"],
        long=(size, tokens),
        timed_sizes=tuple(chosen["timed_sizes"].split(",")),
        timed_context=chosen["timed_context"],
        timed_vocab_size=chosen["timed_vocab_size"],
        batches=tuple(int(batch) for batch in chosen["batches"].split(",")),
        seeds=chosen["seeds"],
        seconds=chosen["seconds"],
        compile=chosen["compile"],
    )

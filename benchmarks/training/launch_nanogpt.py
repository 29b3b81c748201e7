"""Runs nanoGPT's own train.py: python launch_nanogpt.py CHECKOUT CHANGES --device=cpu ...

CHANGES is `none`, which executes train.py as it stands, or a list of what train.py has no switch
for on a CPU:
- `bfloat16`: the null context that it enters on a CPU is exchanged for bfloat16 autocast, in one
  place of its source;
- `fused`: torch.optim.AdamW, which it makes without options on a CPU, is one with fused=True.

SIGTERM ends it. The last line of its output is a JSON object with the most memory that it held, in
bytes."""

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch

CONTEXT, AUTOCAST = (
    "ctx = nullcontext() if device_type == 'cpu'",
    "ctx = torch.autocast('cpu') if device_type == 'cpu'",
)


class FusedAdamW(torch.optim.AdamW):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options, fused=True)


def main(checkout: Path, changes: list[str], arguments: list[str]) -> None:
    signal.signal(signal.SIGTERM, end)
    source = (checkout / "train.py").read_text(encoding="utf-8")
    if "bfloat16" in changes:
        if source.count(CONTEXT) != 1:
            sys.exit(
                f"{checkout}/train.py is not the expected one: it does not hold {CONTEXT!r} once"
            )
        source = source.replace(CONTEXT, AUTOCAST)  # autocast on a CPU is bfloat16
    if "fused" in changes:
        torch.optim.AdamW = FusedAdamW  # type: ignore[misc]
    os.chdir(checkout)  # it reads configurator.py from there
    sys.path.insert(0, str(checkout))
    sys.argv = ["train.py", *arguments]
    exec(compile(source, "train.py", "exec"), {"__name__": "__main__"})
    end()


def end(*_: Any) -> None:
    """Say how much memory was held, and end at once: an exception out of a signal is lost inside
    torch at times.
    """
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    memory = on_gpu or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("\n" + json.dumps({"peak_memory_bytes": memory}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2].split(","), sys.argv[3:])

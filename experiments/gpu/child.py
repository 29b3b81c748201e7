"""What happens in the process of a step.

It is forked from one that has loaded torch, and not yet touched a GPU.
"""

import gc
import importlib
import json
import os
from pathlib import Path
from typing import Any

from llmscale.runs.json_values import plain

LOADED_BEFORE = [
    "torch",
    "torch._dynamo",
    "llmscale.measure.train.throughput",
    "llmscale.measure.sweep.plan",
]
"""What the process that is forked has imported, which takes some seconds.

Optimisers import torch._dynamo.
"""


def run_step(
    function: str,
    arguments: dict[str, Any],
    environment: dict[str, str],
    rows_path: Path,
    log_path: Path,
) -> None:
    """Append each row of `module:function` of this package to `rows_path`; all that it prints goes
    to `log_path`.
    """
    os.setsid()  # so that all it starts can be stopped together, and Ctrl-C reaches the leader only
    with log_path.open("ab") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    os.environ.update(environment)
    gc.freeze()  # what was loaded before is never collected
    if arguments["device"] == "cpu":
        import torch

        torch.set_num_threads(
            1
        )  # threads that wait for each other busily stand still on cores that others use
    module, _, name = function.partition(":")
    rows = getattr(importlib.import_module(f"gpu.{module}"), name)(**arguments)
    with rows_path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(plain(row)) + "\n")
            file.flush()

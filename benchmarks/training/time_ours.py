"""Times our training loop in a process of its own: python time_ours.py JSON; prints one JSON
object.
"""

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from llmscale.machine import available_memory
from llmscale.measure.sweep.batches import micro_batch
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.throughput import measure_throughput, throughput_job
from llmscale.runs.shape import Shape


def main(asked: dict[str, Any]) -> None:
    shape, batch, device = Shape(**asked["shape"]), asked["batch"], asked["device"]
    passes = micro_batch(shape, batch, device, available_memory(device))
    conditions = Conditions(
        device, passes, asked["compile"], threads=asked["threads"] if device == "cpu" else 1
    )
    tokens = np.memmap(asked["tokens"], dtype=np.uint16, mode="r")
    began = time.time()
    measured = measure_throughput(
        throughput_job(shape, batch, asked["dtype"]), conditions, tokens, asked["seconds"]
    )
    print(json.dumps({"began": began, **asdict(measured)}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""The process that has the library preloaded: requests by name as JSON in, a line [name, report]
for each out.
"""

import json
import sys
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fake_cuda.library import READY


def main() -> None:
    torch.set_num_threads(1)
    _try_out()
    _say(READY)
    for name, request in json.load(sys.stdin).items():
        _say(json.dumps([name, _report(request)]))


def _report(request: dict[str, Any]) -> dict[str, Any]:
    """Of a program by name, or of a Case by its fields."""
    # Not before READY: a fault of llmscale's must fail the tests, and not pass for a torch that
    # does not fit.
    from fake_cuda.programs import PROGRAMS
    from fake_cuda.steps import Case, measure, trace

    if "program" in request:
        return measure(PROGRAMS[request["program"]])
    return trace(Case(**request))


def _try_out() -> None:
    """What every trace needs: a backward pass, which autograd runs on the device's own thread."""
    with FakeTensorMode():
        weight = torch.nn.Parameter(torch.empty(2, 2, device="cuda"))
        (weight @ weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.device == torch.device("cuda", 0)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

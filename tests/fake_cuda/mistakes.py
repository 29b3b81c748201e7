"""Mistakes that a step on a GPU must not contain, planted to see that they are found; and what only
looks like one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _leave_a_buffer(training: Any) -> None:
    training.model.cos_TD = torch.zeros(training.model.cos_TD.shape)


def _leave_the_batch(training: Any) -> None:
    training.inputs = torch.zeros(training.inputs.shape, dtype=torch.int64)


def _leave_the_optimizers_steps(training: Any) -> None:
    for state in training.optimizer.state.values():
        state["step"] = torch.ones(())


def _ask_for_truth(training: Any) -> None:
    if training.loss:
        training.loss_sum.zero_()


def _read_in_the_backward_pass(training: Any) -> None:
    """On autograd's own thread for the device."""

    def read(gradient: Tensor) -> None:
        gradient.cpu()

    training.model.norm.weight.register_hook(read)


def _innocent(training: Any) -> None:
    """Nothing of this waits, or reads a tensor of the host as it runs."""
    loss = training.loss * 2.0 + 1
    loss.fill_(0.5)
    weight = next(training.model.parameters()).detach()
    weight[:1] = 0.0
    weight.masked_fill(weight > 0, 1.0)
    weight[torch.zeros(1, dtype=torch.int64, device="cuda")]
    loss.to("cpu", non_blocking=True)
    torch.zeros(3).to("cuda", non_blocking=True).copy_(torch.ones(3), non_blocking=True)
    torch.full((2,), 0.5, device="cuda") + torch.arange(2, device="cuda")
    torch.zeros(3) + torch.ones(())


MISTAKES: dict[str, Callable[[Any], object]] = {
    "a buffer left on the host": _leave_a_buffer,
    "a batch left on the host": _leave_the_batch,
    "the optimiser's count of steps on the host": _leave_the_optimizers_steps,
    "an index on the host": lambda training: training.inputs[torch.zeros(1, dtype=torch.int64)],
    "a number in a tensor of the host": lambda training: training.loss * torch.ones(()),
    "float(loss)": lambda training: float(training.loss),
    "loss.item()": lambda training: training.loss.item(),
    "losses.tolist()": lambda training: training.loss.view(1).tolist(),
    "if loss": _ask_for_truth,
    "nonzero": lambda training: training.inputs.nonzero(),
    "an index of booleans": lambda training: training.inputs[training.inputs > 0],
    "loss.cpu()": lambda training: training.loss.cpu(),
    "loss.to('cpu')": lambda training: training.loss.to("cpu"),
    "a copy into a tensor of the host": lambda training: torch.zeros(()).copy_(training.loss),
    "a blocking copy to the device": lambda training: torch.zeros(3).to("cuda"),
    "a number made into a tensor of the device": lambda training: torch.tensor(1.0, device="cuda"),
    "a read in the backward pass": _read_in_the_backward_pass,
    "nothing wrong": _innocent,
}
"""What is done to a Training in each of its steps, between the backward pass and the clipping: what
it plants there may be found in the next step."""

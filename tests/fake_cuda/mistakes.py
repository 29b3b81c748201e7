"""Mistakes that a step on a GPU must not contain, planted to see that they are found; and what only looks like one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mistake:
    """Something done to a Training between its backward pass and its clipping."""

    make: Callable[[Any], object]
    found_as: str | None
    """The class of error that it must raise, in this step or the next one; None for what is allowed."""


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

    training.model.head.weight.register_hook(read)


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


MISTAKES = {
    "a buffer left on the host": Mistake(_leave_a_buffer, "OffDeviceError"),
    "a batch left on the host": Mistake(_leave_the_batch, "OffDeviceError"),
    "the optimiser's count of steps on the host": Mistake(_leave_the_optimizers_steps, "OffDeviceError"),
    "an index on the host": Mistake(
        lambda training: training.loss_sum.view(1)[torch.zeros(1, dtype=torch.int64)], "OffDeviceError"
    ),
    "a number in a tensor of the host": Mistake(lambda training: training.loss * torch.ones(()), "OffDeviceError"),
    "float(loss)": Mistake(lambda training: float(training.loss), "HostWaitsError"),
    "loss.item()": Mistake(lambda training: training.loss.item(), "HostWaitsError"),
    "losses.tolist()": Mistake(lambda training: training.loss.view(1).tolist(), "HostWaitsError"),
    "if loss": Mistake(_ask_for_truth, "HostWaitsError"),
    "nonzero": Mistake(lambda training: training.inputs.nonzero(), "HostWaitsError"),
    "an index of booleans": Mistake(lambda training: training.inputs[training.inputs > 0], "HostWaitsError"),
    "loss.cpu()": Mistake(lambda training: training.loss.cpu(), "HostWaitsError"),
    "loss.to('cpu')": Mistake(lambda training: training.loss.to("cpu"), "HostWaitsError"),
    "a copy into a tensor of the host": Mistake(
        lambda training: torch.zeros(()).copy_(training.loss), "HostWaitsError"
    ),
    "a blocking copy to the device": Mistake(lambda training: torch.zeros(3).to("cuda"), "HostWaitsError"),
    "a number made into a tensor of the device": Mistake(
        lambda training: torch.tensor(1.0, device="cuda"), "HostWaitsError"
    ),
    "a read in the backward pass": Mistake(_read_in_the_backward_pass, "HostWaitsError"),
    "nothing wrong": Mistake(_innocent, None),
}

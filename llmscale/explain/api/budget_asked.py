"""What there is to train with, as it was asked for: one budget, and the hardware that it is of."""

from llmscale.errors import InputError, both
from llmscale.explain.api.plan_settings import BudgetSpec
from llmscale.explain.planning.budget import Budget
from llmscale.explain.planning.cost import Hardware
from llmscale.explain.planning.estimate import Estimate
from llmscale.machine.gpus import GPUS, gpu_named
from llmscale.quantity import MOST

_BUDGETS = ("flops", "gpu_hours", "hours", "money", "loss")
_LEAST_FLOPS = 1e9
"""Three thousand parameters on fifty thousand tokens: no language model is smaller."""
_LEAST_SERVED = 1e5
"""A short book: of fewer their B was forgotten."""
_OF_GPUS = ("gpu_hours", "hours", "money", "gpus", "mfu", "price_per_hour", "pue")
"""What says nothing without the kind of GPU."""


def hardware_asked(spec: BudgetSpec) -> Hardware | None:
    """What is trained on. Raises InputError for hours and prices of no kind of GPU."""
    if spec.gpu is None:
        named = [name for name in _OF_GPUS if getattr(spec, name) is not None]
        if named:
            flag = f"--{named[0].replace('_', '-')}"
            raise InputError(
                f"{flag} says nothing if the kind of GPU is not known",
                f"name one: --gpu h100; there are {GPUS.choices}",
            )
        return None
    gpu = gpu_named(spec.gpu)
    return Hardware(
        gpu=gpu,
        gpus=spec.gpus,
        mfu=gpu.mfu if spec.mfu is None else spec.mfu,
        mfu_source=gpu.mfu_source if spec.mfu is None else "as asked for",
        price_per_hour=spec.price_per_hour,
        pue=spec.pue or 1.0,
    )


def check_one_budget(spec: BudgetSpec) -> None:
    """Raise InputError unless exactly one budget is given, and all that it takes."""
    known = [name for name in _BUDGETS if hasattr(spec, name)]
    given = [f"--{name.replace('_', '-')}" for name in known if getattr(spec, name) is not None]
    if not given:
        examples = ["--flops 1e22", "--gpu-hours 1000 --gpu h100"]
        examples += ["--loss 2.5"] if "loss" in known else []
        raise InputError("no budget is given", f"give one of {both(examples)}")
    if len(given) > 1:
        raise InputError(f"{both(given)} are given, which are {len(given)} budgets", "give one")
    if spec.hours is not None and spec.gpus is None:
        raise InputError(
            "--hours are those of all GPUs, and nobody said how many",
            "add --gpus 8, or give --gpu-hours",
        )
    if spec.money is not None and spec.price_per_hour == 0:
        raise InputError(
            "at --price-per-hour 0 money buys hours without end",
            "say what an hour of one GPU costs: --price-per-hour 2",
        )
    if spec.money is not None and spec.price_per_hour is None:
        raise InputError(
            "--money buys hours of a GPU, and nobody said what one costs", "add --price-per-hour 2"
        )


def check_served(spec: BudgetSpec) -> None:
    """Raise InputError for fewer tokens to serve than any model serves in its life."""
    served = spec.inference_tokens
    if served is not None and served < _LEAST_SERVED:
        raise InputError(
            f"{served:,.6g} tokens are too few to serve in a model's life",
            f"give all of them, as in --inference-tokens {served:g}B",
        )


def check_worth_training(flops: float, fix: str = "") -> None:
    """Raise InputError for a budget that buys next to nothing."""
    if not flops >= _LEAST_FLOPS:
        raise InputError(
            f"{flops:.3g} FLOPs train nothing: the smallest language models take "
            f"{_LEAST_FLOPS:.0e}",
            fix or f"give a budget of {_LEAST_FLOPS:.0e} FLOPs at the least, like 1e21",
        )


def budget_asked(spec: BudgetSpec, hardware: Hardware | None) -> Budget | None:
    """The FLOPs that are given, or that GPU hours or money pay for; None if a loss is asked for."""
    if spec.flops is not None:
        check_worth_training(float(spec.flops))
        return Budget(Estimate(float(spec.flops)), f"{spec.flops:.3g} FLOPs")
    hours = spec.gpu_hours
    if spec.hours is not None:
        assert spec.gpus is not None
        hours = spec.gpus * spec.hours
    said = ""
    if spec.money is not None:
        assert spec.price_per_hour is not None
        hours = spec.money / spec.price_per_hour
        said = f"{spec.money:,.6g} at {spec.price_per_hour:g} a GPU hour, "
    if hours is None:
        return None
    assert hardware is not None
    flops = hours * hardware.flops_per_hour
    check_worth_training(flops)
    if flops > float(MOST):
        raise InputError(
            f"{hours:,.6g} GPU hours of {hardware.gpu.name} are {flops:.3g} FLOPs, more than "
            f"{float(MOST):.0e}",
            "give fewer, like --gpu-hours 1k",
        )
    return Budget(
        Estimate(flops), f"{said}{hours:,.6g} GPU hours of {hardware.gpu.name}, {flops:.3g} FLOPs"
    )

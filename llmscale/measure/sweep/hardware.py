"""Where to train: device, number type, how much at a time, and what starts the workers."""

from dataclasses import dataclass
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.settings import Range, check_settings, in_folder, setting

HARDWARE: Final = "Hardware"
"""The group of these settings."""
_WHEN = ("auto", "always", "never")


def _own_options(executor: str) -> type:
    """The settings that are an executor's own."""
    from llmscale.measure.executors import pick_executor

    options = pick_executor(executor).Options
    assert options is not None, f"executor {executor} has no options of its own"
    return options


def _machine(name: str) -> tuple[str, ...]:
    from llmscale import machine

    menu: tuple[str, ...] = getattr(machine, name)
    return menu


@dataclass(frozen=True)
class Hardware:
    """Where to train: `auto` takes the best that is here.

    Of all this only `dtype` changes a run's outcome.
    """

    device: str = setting(
        "auto",
        help="`cpu` or `cuda`; `auto` takes a GPU where there is one.",
        group=HARDWARE,
        choices=lambda: _machine("DEVICES"),
    )
    dtype: str = setting(
        "auto",
        help="The type of what is multiplied; `auto` takes bfloat16 if a GPU has it, and on a "
        "CPU the faster one, by measuring. On a GPU `float32` is not TF32.",
        group=HARDWARE,
        choices=lambda: _machine("DTYPES"),
    )
    workers: int | None = setting(
        None,
        help="Runs at a time.",
        usual="one a core on the CPU as memory allows, one a GPU, or up to four if they are small",
        group=HARDWARE,
        within=Range(1, 10_000),
    )
    compile: str = setting(
        "auto",
        help="Whether torch.compile is used: `auto` compiles what has no kernels of its own here "
        "and is long enough to repay it; `always`; `never`.",
        group=HARDWARE,
        choices=lambda: _WHEN,
    )
    stack: str = setting(
        "auto",
        help="Whether seeds of one size are trained as one batched model: `auto` does so with "
        "small models on a GPU; `always`; `never`.",
        group=HARDWARE,
        choices=lambda: _WHEN,
    )
    deterministic: bool = setting(
        False,
        help="On a GPU, only kernels that give the same bits every time. On the CPU all do.",
        group=HARDWARE,
    )
    checkpoint_seconds: float = setting(
        60.0,
        help="How often a run under way saves its state, for when its worker is lost.",
        group=HARDWARE,
        within=Range(0, 1e6, above=True),
    )
    gpus_per_run: int = setting(
        1,
        help="GPUs of this machine that train one run together; weights that are too large for "
        "one are shared out.",
        group=HARDWARE,
        within=Range(1, 1000),
    )
    executor: str = setting(
        "local",
        help="What starts the workers: this machine, or a cluster.",
        group=HARDWARE,
        choices=in_folder("llmscale.measure.executors"),
    )
    ray: Any = setting(
        factory=lambda: _own_options("ray")(),
        table=lambda: _own_options("ray"),
        help='For executor = "ray".',
    )
    slurm: Any = setting(
        factory=lambda: _own_options("slurm")(),
        table=lambda: _own_options("slurm"),
        help='For executor = "slurm".',
    )

    @property
    def picked_device(self) -> str:
        """`cpu` or `cuda`; what is asked for on a cluster need not be here. Raises InputError."""
        from llmscale.machine import pick_device

        return pick_device(self.device, elsewhere=self.executor != "local")

    @property
    def executor_options(self) -> tuple[Any, ...]:
        """The table of the executor's own options, if it has one."""
        return (getattr(self, self.executor),) if hasattr(self, self.executor) else ()

    def __post_init__(self) -> None:
        check_settings(self)
        if self.gpus_per_run > 1 and self.executor != "local":
            raise InputError(
                f"gpus_per_run is {self.gpus_per_run}, and executor {self.executor} gives a run "
                "one GPU",
                "take executor local, or start torchrun on a run's folder yourself",
            )

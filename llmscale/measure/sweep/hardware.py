"""Where to train: device, number type, how much at a time, and what starts the workers."""

from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.settings import Range, check_settings, setting

HARDWARE: Final = "Hardware"
"""The group of these settings."""
_WHEN = ("auto", "always", "never")


def _executors() -> ModuleType:
    from llmscale.measure import executors

    return executors


def _machine(name: str) -> tuple[str, ...]:
    from llmscale import machine

    menu: tuple[str, ...] = getattr(machine, name)
    return menu


@dataclass(frozen=True)
class Hardware:
    """Where to train: `auto` takes the best that is here. Of all this only `dtype` changes a run's
    outcome."""

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
        help="What starts the workers: this machine, a cluster, or one of your own, as "
        "`./mine.py:MyExecutor`.",
        group=HARDWARE,
        choices=lambda: _executors().EXECUTORS,
    )
    options_by_executor: dict[str, Any] = setting(
        factory=dict,
        tables=lambda: _executors().executor_tables(),
        help="What is an executor's own, if it is not the usual.",
    )

    @property
    def picked_device(self) -> str:
        """`cpu` or `cuda`; what is asked for on a cluster need not be here. Raises InputError."""
        from llmscale.machine import pick_device

        return pick_device(self.device, elsewhere=not self.trains_here)

    @property
    def trains_here(self) -> bool:
        """Whether the executor trains all runs on this machine."""
        is_here: bool = _executors().EXECUTORS.find(self.executor).IS_HERE
        return is_here

    @property
    def executor_options(self) -> Any:
        """The executor's own options; None if it has none."""
        return self._all_options().get(self.executor)

    def to_json(self) -> dict[str, Any]:
        """The settings as a file has them, with a table for each executor that has options."""
        plain = asdict(self)
        del plain["options_by_executor"]
        return plain | {name: asdict(options) for name, options in self._all_options().items()}

    def _all_options(self) -> dict[str, Any]:
        tables = _executors().executor_tables(self.executor)
        return {name: usual() for name, usual in tables.items()} | self.options_by_executor

    def __post_init__(self) -> None:
        check_settings(self)
        if self.gpus_per_run > 1 and not self.trains_here:
            raise InputError(
                f"gpus_per_run is {self.gpus_per_run}, and executor {self.executor} gives a run "
                "one GPU",
                "take executor local, or start torchrun on a run's folder yourself",
            )

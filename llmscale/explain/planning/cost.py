"""What training costs on a kind of GPU: GPU hours, wall time, money and energy."""

from dataclasses import dataclass
from typing import Any

from llmscale.machine.gpus import GPUModel

_SECONDS, _WATTS = 3600.0, 1000.0
"""Of an hour; of a kilowatt."""


@dataclass(frozen=True)
class Cost:
    """Of one run. `None` is what cannot be told of what was given."""

    gpu_hours: float
    wall_seconds: float | None
    money: float | None
    kwh: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "gpu_hours": self.gpu_hours,
            "wall_seconds": self.wall_seconds,
            "money": self.money,
            "kwh": self.kwh,
        }


@dataclass(frozen=True)
class Hardware:
    """What is trained on: `gpus` of a kind, None if nobody said how many, at a share `mfu` of
    their peak; `price_per_hour` of one GPU, and `pue`, the watts of the building for each of the
    boards."""

    gpu: GPUModel
    gpus: int | None
    mfu: float
    mfu_source: str
    price_per_hour: float | None = None
    pue: float = 1.0

    @property
    def flops_per_hour(self) -> float:
        """Of one GPU, those that train."""
        return _SECONDS * self.gpu.peak_flops * self.mfu

    @property
    def mfu_said(self) -> str:
        """The share of the peak, and the document that it stands in: what that says of it is in the
        menu, and in `--json`."""
        document, _, _ = self.mfu_source.partition(": ")
        return f"{self.mfu:.3g} of the peak, {document}"

    def cost(self, flops: float) -> Cost:
        """What so many FLOPs, of the model, cost."""
        hours = flops / self.flops_per_hour
        power, price = self.gpu.power_watts, self.price_per_hour
        return Cost(
            gpu_hours=hours,
            wall_seconds=None if self.gpus is None else _SECONDS * hours / self.gpus,
            money=None if price is None else price * hours,
            kwh=None if power is None else hours * self.pue * power / _WATTS,
        )

    def __str__(self) -> str:
        many = "" if self.gpus is None else f"{self.gpus:,} x "
        return f"{many}{self.gpu.name} at {self.mfu:.3g} of {self.gpu.peak_flops:.4g} FLOP/s"

    def to_json(self) -> dict[str, Any]:
        return {
            "gpu": self.gpu.to_json(),
            "gpus": self.gpus,
            "mfu": self.mfu,
            "mfu_source": self.mfu_source,
            "price_per_hour": self.price_per_hour,
            "pue": self.pue,
        }

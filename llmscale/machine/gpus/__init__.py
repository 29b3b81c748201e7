"""The menu of GPUs: `--gpu h200` is h200.py, and says what one of them can do.

A member is a class with these figures of one GPU, as its maker publishes them (no class to inherit,
nothing to import):

- `name`: what people call it, `H200 SXM`;
- `peak_flops`: FLOP/s of matrix products in bfloat16, dense. Data sheets print those with sparsity,
  which are twice as many and which no training reaches;
- `memory_bytes`: as it is sold, in units of 10^9;
- `memory_bytes_per_second`: bandwidth of that memory;
- `power_watts`: the most that the board draws; None if nobody published it;
- `source`: where these figures stand, the document and its year;
- `mfu` and `mfu_source`: the share of the peak that published training reached, with FLOPs of
  attention counted as ours, and where that stands. Left out, USUAL_MFU is assumed, which is said.

A GPU of one's own is such a class in a file anywhere: `--gpu ./mine.py:MyGPU`.

>>> gpu_named("H200").peak_flops
989400000000000.0
"""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from llmscale.errors import InputError
from llmscale.menu import Menu, is_own
from llmscale.settings import Range, check_settings, setting

USUAL_MFU = 0.35
"""Share of the FLOP/s of large products that training is expected to reach."""
_ASSUMED = "assumed, as nothing is published of this GPU that we know"
_SAID = ("name", "source", "mfu_source")
"""Of the figures those that are words."""


@dataclass(frozen=True)
class GPUModel:
    """What every GPU of a kind can do; the one in this machine is `llmscale.machine.GPU`."""

    name: str
    source: str
    peak_flops: float = setting(help="Dense bfloat16 FLOP/s.", within=Range(1e9, 1e18))
    memory_bytes: float = setting(help="Memory.", within=Range(1e6, 1e15))
    memory_bytes_per_second: float = setting(help="Bandwidth.", within=Range(1e6, 1e18))
    power_watts: float | None = setting(help="Of the board.", within=Range(0.1, 1e6))
    mfu: float = setting(USUAL_MFU, help="Share reached.", within=Range(0, 1, above=True))
    mfu_source: str = _ASSUMED

    def __post_init__(self) -> None:
        check_settings(self, f" of the GPU {self.name!r}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def gpu_named(name: str) -> GPUModel:
    """The GPU `name` of the menu, in any case, or of a file of one's own. Raises InputError."""
    return GPUS.find(name if is_own(name) else name.lower())


def _is_gpu(value: Any) -> bool:
    return isinstance(value, type) and hasattr(value, "peak_flops")


def _read(found: Any, title: str = "") -> GPUModel:
    """The figures of a member; `title` is what errors call one of the user's own."""
    given = {}
    for one in fields(GPUModel):
        if hasattr(found, one.name):
            given[one.name] = getattr(found, one.name)
        elif one.default is MISSING:
            raise InputError(f"{title} does not say its {one.name}", f"add {one.name} = ...")
    for name in _SAID:
        if not isinstance(given.get(name, ""), str):
            raise InputError(f"{title} has a {name} that is no text", f'write {name} = "..."')
    return GPUModel(**given)


GPUS: Menu[GPUModel] = Menu(
    __name__,
    "GPU",
    "--gpu",
    is_member=_is_gpu,
    ready=_read,
    tried=_read,
    own="MyGPU",
    marked_by="a class that says its peak_flops",
)

"""What `explore` can be told. Light: `--help` reads the declarations."""
from dataclasses import dataclass
from typing import Any
from llmscale.explain.api.settings import _OfRuns, _LAW, _REFIT
from llmscale.settings import setting
@dataclass(frozen=True)
class ExploreSpec(_OfRuns):
    law: str | type | None = setting(None, help="A law", **_LAW)
    refit: bool = setting(False, **_REFIT)
    gpu: str = setting("h100", help="GPU", group="x")
    price_per_hour: float = setting(2.0, help="GPU", group="x")

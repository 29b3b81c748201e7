"""How to search for the learning rate and the batch of each size. Light: `--help` reads the
declarations."""

from dataclasses import dataclass
from typing import Final

from llmscale.settings import Range, check_settings, setting

SEARCH: Final = "Search"
"""The group of these settings."""


@dataclass(frozen=True)
class SearchSpec:
    """How `llmscale tune` searches; not in TOML files."""

    batch: bool = setting(True, help="Whether to search the batch too.", group=SEARCH)
    refine: bool = setting(
        False, help="Whether to try √2 around the best of the factors of 2.", group=SEARCH
    )
    stop: bool = setting(True, help="Whether to stop hopeless trials early.", group=SEARCH)
    doublings: int = setting(
        5,
        help="How far to look each way, in factors of 2.",
        group=SEARCH,
        within=Range(1, 100),
    )

    def __post_init__(self) -> None:
        check_settings(self)

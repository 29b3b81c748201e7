"""What `llmscale generate` and `llmscale chat` can be told, as options and keywords. Light:
`--help` reads the declarations."""

from dataclasses import dataclass
from typing import Final

from llmscale.settings import Range, check_settings, setting

WRITE: Final = "What to write"
MOST_TOKENS: Final = 1_000_000


@dataclass(frozen=True)
class Sampling:
    """How much is written, and how each token is drawn."""

    tokens: int = setting(
        128,
        help="Tokens to write, at most.",
        group=WRITE,
        within=Range(1, MOST_TOKENS),
    )
    temperature: float = setting(
        0.8,
        help="1 draws as the model says, less keeps to likely tokens, 0 takes the likeliest.",
        group=WRITE,
        within=Range(0, 1000),
    )
    top_k: int | None = setting(
        None,
        help="Draw only among so many likeliest tokens (Fan et al. 2018).",
        usual="all",
        group=WRITE,
        within=Range(1, MOST_TOKENS),
    )
    top_p: float | None = setting(
        None,
        help="Draw only among the likeliest tokens that together have this probability (Holtzman "
        "et al. 2020).",
        usual="all",
        group=WRITE,
        within=Range(0, 1, above=True),
    )
    seed: int = setting(
        0,
        help="The same seed and prompt give the same text, whatever else is written.",
        group=WRITE,
        within=Range(0, 2**63 - 1),
    )
    samples: int = setting(
        1,
        help="Texts for each prompt.",
        group=WRITE,
        within=Range(1, 100_000),
    )
    stop: bool = setting(
        True,
        help="Whether a text ends with the model's end-of-text token.",
        group=WRITE,
    )

    at_a_time: int = setting(
        16,
        help="Texts that are written together.",
        group="Hardware",
        within=Range(1, 100_000),
    )

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

"""What `quantize` can be told. Light: `--help` reads the declarations."""

from dataclasses import dataclass
from typing import Final

from llmscale.errors import InputError
from llmscale.quantity import parse_list
from llmscale.settings import Range, check_settings, setting

SMALLEST, LARGEST = 2, 8
_ROUND: Final = "What to round to"


def _widths(text: str) -> tuple[int, ...]:
    return tuple(sorted(parse_list(text, _width, "bits"), reverse=True))


def _width(word: str) -> int:
    if word not in map(str, range(SMALLEST, LARGEST + 1)):
        raise InputError(
            f"--bits {word!r} cannot be the bits of a weight",
            f"give whole numbers from {SMALLEST} to {LARGEST}, as in --bits 8,4",
        )
    return int(word)


@dataclass(frozen=True)
class QuantizeSpec:
    """To what weights are rounded."""

    bits: tuple[int, ...] = setting(
        (8, 4),
        help="Bits of a weight, from 2 to 8, several with commas between.",
        usual="8,4",
        group=_ROUND,
        metavar="8,4",
        parse=_widths,
    )
    group: int = setting(
        32,
        help="Weights of a row that share a scale; fewer if a row is not a multiple of so many.",
        group=_ROUND,
        within=Range(2, 65536),
    )

    arch: str | None = setting(
        None,
        help="The file of the runs' architecture, if that is one of your own.",
        group="Hardware",
        metavar="./FILE.py:NAME",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        object.__setattr__(self, "bits", _widths(",".join(map(str, self.bits))))

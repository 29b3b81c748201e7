"""What a mixture of texts is asked to be: its sources, and in which shares they are drawn. Light:
`--help` reads the declarations."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmscale.errors import InputError
from llmscale.measure.text.augmentation import Augmentation
from llmscale.measure.text.text_column import DEFAULT as TEXT_COLUMN
from llmscale.settings import Range, check_settings, setting

DEFAULT: Final = "default"
"""The mixture of the weights that the sources themselves name."""
_SOURCE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_OTHER_COLUMNS: Final = frozenset(
    (
        *("stderr", "train", "training", "val", "valid", "validation", "eval", "evaluation"),
        *("test", "dev", "heldout", "holdout"),
    )
)
"""Words by which `loss_WORD` means something else: a standard error, or whose loss it is."""
_EXAMPLE: Final = 'write it like [data.mixture.code], source = "stdlib", weight = 2'


@dataclass(frozen=True)
class MixedSource:
    """A source of a mixture. TOML table `[data.mixture.NAME]`."""

    source: str = setting(help="The text, as `data.source` names it.")
    weight: float = setting(
        1.0,
        help="The share of its tokens in the mixture, as a part of the sum of all weights.",
        within=Range(0, 1e9),
    )
    config: str | None = setting(None, help="The configuration of a dataset.")
    split: str = setting("train", help="The split of a dataset.")
    text_column: str = setting(TEXT_COLUMN, help="The column that holds the text.")
    augment: Augmentation = setting(
        factory=Augmentation, help="Random changes to the training documents of this source."
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if ".py:" in self.source:
            from llmscale.measure.text.sources import pin_source

            object.__setattr__(self, "source", pin_source(self.source))


def read_sources(table: Any, where: str) -> dict[str, MixedSource]:
    """The sources of the tables [data.mixture.NAME], by name. Raises InputError."""
    from llmscale.settings.tables import from_table

    if not isinstance(table, dict):
        raise InputError(f"mixture in {where} is {table!r}", _EXAMPLE)
    if not table:
        raise InputError(f"mixture in {where} names no source", _EXAMPLE)
    found: dict[str, MixedSource] = {}
    for name, given in table.items():
        place = f"[data.mixture.{name}] of {where}"
        _check_name(name, found, place)
        if isinstance(given, MixedSource):
            found[name] = given
            continue
        if isinstance(given, dict) and "source" not in given:
            raise InputError(f"{place} names no source", _EXAMPLE)
        if isinstance(given, dict) and "weight" in given:
            _check_weight(given["weight"], f"weight in {place}")
        found[name] = from_table(MixedSource, given, place)
    return found


def read_weights(table: Any, where: str) -> dict[str, dict[str, float]]:
    """The weights of the tables [data.mixtures.NAME], by mixture and source. Raises InputError."""
    if not isinstance(table, dict):
        raise InputError(
            f"mixtures in {where} is {table!r}",
            "write a table of weights for each, such as [data.mixtures.even]",
        )
    for name, weights in table.items():
        place = f"[data.mixtures.{name}] of {where}"
        if name == DEFAULT:
            raise InputError(
                f"{place}: {name!r} is the mixture of the sources' own weights",
                "give it another name, or write these weights in [data.mixture.NAME]",
            )
        if not isinstance(weights, dict):
            raise InputError(f"{place} is {weights!r}", "write weights, such as code = 2")
        for source, weight in weights.items():
            _check_weight(weight, f"{source} in {place}")
    return table


def shares_of(
    sources: Mapping[str, MixedSource], mixtures: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """The share of every source in every mixture, those of each adding up to 1; `default` first.
    A source that a mixture does not name has none in it. Raises InputError."""
    asked = {DEFAULT: {name: one.weight for name, one in sources.items()}, **mixtures}
    found: dict[str, dict[str, float]] = {}
    for name, weights in asked.items():
        place = "[data.mixture]" if name == DEFAULT else f"[data.mixtures.{name}]"
        for source in weights:
            if source not in sources:
                raise InputError(
                    f"{place} weighs {source!r}, which is no source of [data.mixture]",
                    f"its sources are {', '.join(sources)}",
                )
        total = math.fsum(weights.values())
        if not total > 0:
            raise InputError(
                f"the weights of {place} add up to {total:g}", "give one of them above zero"
            )
        found[name] = {source: weights.get(source, 0.0) / total for source in sources}
        same = next((other for other in found if _alike(found[other], found[name])), name)
        if same != name:
            raise InputError(
                f"mixture {name!r} is the same as {same!r}", f"change a weight in {place}"
            )
    return found


def describe_shares(shares: Mapping[str, float]) -> str:
    """`0.7 code + 0.3 docs`: the sources that have a share."""
    return " + ".join(f"{share:.4g} {name}" for name, share in shares.items() if share)


def _alike(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(math.isclose(one[name], other[name], abs_tol=1e-12) for name in one)


def _check_name(name: str, others: Mapping[str, Any], place: str) -> None:
    """Raise InputError for a name that would be no column of its own: `loss_NAME`."""
    if not _SOURCE_NAME.fullmatch(name) or _OTHER_COLUMNS & set(name.lower().split("_")):
        raise InputError(
            f"{place}: {name!r} cannot be the name of a source: its loss becomes the column "
            f"loss_{name}",
            "begin with a letter and use letters, digits and _; no word of it may be one of "
            f"{', '.join(sorted(_OTHER_COLUMNS))}",
        )
    same = next((other for other in others if other.lower() == name.lower()), None)
    if same is not None:
        raise InputError(
            f"{place}: the sources {same!r} and {name!r} would have the same column name",
            "case does not tell columns apart: give one of them another name",
        )


def _check_weight(weight: Any, what: str) -> None:
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not 0 <= weight <= 1e9:
        raise InputError(f"{what} is {weight!r}", "a weight is a number from 0 to 1e9")
